/* preflight: the preflight of the source (`oneslot check`) and its removal (`oneslot
 * uninstall`), both without a broker. The preflight changes nothing; each line says ok, warn or
 * FAIL, and the SQL that mends it. */
#ifndef ONESLOT_REPLICATOR_PREFLIGHT_H
#define ONESLOT_REPLICATOR_PREFLIGHT_H

#include "proto/config.h"

/* Prints to stdout. *ret_failed: lines that say FAIL. Errors: STOPPING only. */
int preflight_run(const struct config_source *c, bool as_json, unsigned *ret_failed,
    struct err *e) MUST_CHECK;

/* Prints the tables that are published, or would be: a line {"schema":...,"table":...,
 * "key":BOOL} for each (sinks/README.md). key: its rows have one in the log. */
int preflight_tables(const struct config_source *c, struct err *e) MUST_CHECK;

/* Drops the configured slot and publication where they exist, and prints what it did. Refused
 * while the slot is read, or when it is not a pgoutput slot of this database. */
int preflight_drop(const struct config_source *c, bool as_json, struct err *e) MUST_CHECK;

#endif
