/* state: DATA_DIR/state, a small environment for what is not the log: the identity of the
 * source, the acknowledgement ledger, the sinks' offsets. Everything is kept in memory too and
 * written through: a call that returns 0 is on stable storage. Thread-safe. It knows neither
 * records nor HTTP.
 *
 * Order between the environments: the log's commit first, then this one's. */
#ifndef ONESLOT_BROKER_STATE_H
#define ONESLOT_BROKER_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/api.h"

enum { STATE_NAME_MAX = 64, STATE_TABLES_MAX = 4096, STATE_SINKS_MAX = 256 };

struct state;

/* Opens or creates it. It belongs to the log `uuid`: a state of another log is ERR_FOREIGN; a
 * log that has records and a state that is new is ERR_FOREIGN too, since sinks would start over
 * (log_is_empty tells). */
int state_open(const char *data_dir, const uint8_t uuid[API_UUID], bool log_is_empty,
    struct state **ret, struct err *e) MUST_CHECK;
void state_close(struct state *st); /* accepts NULL */
/* True when DATA_DIR/state names a log: its segments must then be there. */
int state_exists(const char *data_dir, bool *ret, struct err *e) MUST_CHECK;
/* A mark that DATA_DIR/dead was made: without it letters would be missing in silence (P8). */
int state_knows_dead(struct state *st, bool *ret, struct err *e) MUST_CHECK;
int state_set_knows_dead(struct state *st, struct err *e) MUST_CHECK;

/* ---- the source ---- */

struct ledger {
    uint64_t generation; /* of the newest append session */
    uint32_t next_schema;
    uint64_t idle_lsn; /* nothing is pending below it (P1): a keepalive's position */
    bool has_identity;
    uint64_t system_id;
    uint32_t timeline;
    char database[STATE_NAME_MAX];
    char slot[STATE_NAME_MAX];
    uint8_t slot_state; /* enum api_slot_state */
    uint64_t start_lsn;
};
void state_ledger(struct state *st, struct ledger *ret);
int state_set_ledger(struct state *st, const struct ledger *l, struct err *e) MUST_CHECK;

/* ---- sinks ---- */

struct sink_row {
    char name[STATE_NAME_MAX];
    char kind[STATE_NAME_MAX];
    uint64_t next;                 /* the first offset not yet settled */
    uint64_t generation;           /* of its newest worker */
    char tables[STATE_TABLES_MAX]; /* comma-separated patterns; empty: all */
    bool is_paused;
    bool is_steered; /* what ended its newest session was an order, not another worker; in
                        memory only: after a restart its worker waits as after a rival */
    uint64_t floor;  /* where its unbroken history begins (sinks/sink.h); never above `next`
                        unless it was moved back */
};
/* Of a sink that is seen for the first time, or again after it was forgotten: its generations
 * go on from the clock, so that no worker of a former life can be taken for the new one's. */
void state_first_row(struct sink_row *row, const char *name, uint64_t next);
/* ERR_NOTFOUND: not registered. */
int state_sink(
    struct state *st, const char *name, struct sink_row *ret, struct err *e) MUST_CHECK;
int state_set_sink(struct state *st, const struct sink_row *row, struct err *e) MUST_CHECK;
/* Ends the session of row's worker by a person's order, once row is set. */
void state_steer_sink(struct sink_row *row);
int state_forget_sink(struct state *st, const char *name, struct err *e) MUST_CHECK;
/* Copies up to max rows in the order of their names; returns how many there are. */
size_t state_sinks(struct state *st, struct sink_row *to, size_t max);
/* The lowest `next` of all sinks; UINT64_MAX where there is none. */
uint64_t state_needed_offset(struct state *st);

#endif
