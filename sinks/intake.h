/* intake: a fetched batch (proto/batch.h) as the array of records that a kind gets: decoded,
 * filtered by the sink's table patterns, all in memory that is reused from batch to batch.
 * Pure. */
#ifndef ONESLOT_SINKS_INTAKE_H
#define ONESLOT_SINKS_INTAKE_H

#include "proto/batch.h"

struct intake_chunk;

struct intake {
    const struct str *tables; /* patterns, borrowed; none: all tables */
    size_t ntables;
    struct record *records; /* n of them */
    struct str *frames;     /* the whole frame of each */
    size_t n, cap;
    struct batch_header header;
    struct batch_reader reader; /* owns the schemas */
    bool is_open;
    struct intake_chunk *chunks; /* transactions and values of the records */
    struct intake_chunk *chunk;  /* the one being filled */
    /* the pattern's answer for the last schema asked about */
    const struct schema *last_schema;
    bool last_selected;
};

void intake_init(struct intake *in, const struct str *tables, size_t ntables);
void intake_fini(struct intake *in);
/* Replaces what was there. bytes are borrowed until the next load, reset or fini. Messages
 * belong to no table: they pass only where there are no patterns. ERR_CORRUPT, ERR_NEWER; then
 * nothing is loaded. */
int intake_load(struct intake *in, struct str bytes, struct err *e) MUST_CHECK;
void intake_reset(struct intake *in);

#endif
