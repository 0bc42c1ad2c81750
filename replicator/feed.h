/* feed: the messages of one replication connection, in order, to frames in the batch being
 * filled and to the acknowledgement rule. Owns what a connection has said so far (open
 * transaction, relations); knows neither sockets nor time. Protocol 1: a message of a stream
 * block or of two-phase commit is refused. */
#ifndef ONESLOT_REPLICATOR_FEED_H
#define ONESLOT_REPLICATOR_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "replicator/ack.h"
#include "replicator/pgoutput.h"
#include "replicator/relcache.h"
#include "replicator/xids.h"

/* Finds the primary key of a table under FULL and tells it to the relation (relcache_set_key).
 */
typedef int feed_key_f(void *arg, struct relation *rel, struct err *e);

struct feed {
    struct ack ack;
    struct pgoutput_decoder decoder;
    struct relcache relations;
    struct xids logged; /* transactions given to the log */
    uint64_t last_lsn;  /* end of the last one of them, at first proven_lsn */
    uint32_t next_schema;
    feed_key_f *find_key;
    void *arg;
    struct pgoutput_begin begin; /* of the open transaction */
    bool has_records;            /* its FRAME_BEGIN was written */
    struct buf origin;
};

struct feed_conf {
    uint64_t proven_lsn;  /* of the append session */
    uint32_t next_schema; /* of the append session */
    bool raw_text;
    uint64_t xmax; /* catalog_xmax, since the session is open (xids_init) */
    feed_key_f *find_key;
    void *arg;
};
void feed_init(struct feed *c, const struct feed_conf *conf);
void feed_fini(struct feed *c); /* accepts a zeroed one */

/* One XLogData. Appends whole frames to batch, or returns an error after which the connection
 * is to be given up. */
int feed_apply(
    struct feed *c, const struct pgoutput_copy *m, struct buf *batch, struct err *e) MUST_CHECK;

/* Rows of a table, read from it: a transaction of their own into batch, at last_lsn, while no
 * other is open. rel describes the table as it was read, and is not of this connection: it is
 * used, and gets a schema version, only where the connection has described another shape or
 * none. Nothing is in batch after an error. */
int feed_read(struct feed *c, struct relation *rel, const struct pgoutput_tuple *rows, size_t n,
    int64_t ts_us, struct buf *batch, struct err *e) MUST_CHECK;

static inline bool
feed_in_transaction(const struct feed *c)
{
    return c->ack.is_open;
}

#endif
