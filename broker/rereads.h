/* rereads: rows that sinks ask to be read from their table again, because a record lacks a
 * value that they cannot prove (proto/api.h). Durable until the replicator has answered; one
 * request per row, whoever asked. It stands in DATA_DIR/dead (broker/dead.h) and shares its
 * lock. Thread-safe. It knows neither sinks nor PostgreSQL. */
#ifndef ONESLOT_BROKER_REREADS_H
#define ONESLOT_BROKER_REREADS_H

#include "broker/beside.h"

enum { REREADS_MAX = 100000 }; /* waiting, of all sinks */
#define REREADS_BYTES_MAX (UINT64_C(64) * 1024 * 1024)

struct rereads;
/* Loads what there is. bs (dead_folder_open) is borrowed until rereads_close. */
int rereads_open(struct beside *bs, struct rereads **ret, struct err *e) MUST_CHECK;
void rereads_close(struct rereads *r); /* accepts NULL */

/* A row to be read again. One that waits already is raised to the higher offset and keeps its
 * id. doubt: of that sink, raised in the same commit; NULL: none. ERR_BUSY: too many wait;
 * nothing was done. */
int rereads_ask(struct rereads *r, const struct api_reread *q, const char *sink,
    const struct api_doubt *doubt, struct err *e) MUST_CHECK;
/* Appends the document of the oldest ones with an id above `after`, up to max
 * (api_put_rereads). */
int rereads_list(
    struct rereads *r, uint64_t after, size_t max, struct buf *to, struct err *e) MUST_CHECK;
/* Answered: each goes unless it was raised to read_at or beyond meanwhile. Unknown ids are
 * fine: an answer may come twice. */
int rereads_done(
    struct rereads *r, const struct api_reread_done *d, size_t n, struct err *e) MUST_CHECK;

struct rereads_stats {
    size_t waiting;
    uint64_t asked, answered, gone; /* since the start; gone: of the answered ones, rows that
                                       are no longer there */
};
void rereads_stats(struct rereads *r, struct rereads_stats *ret);

#endif
