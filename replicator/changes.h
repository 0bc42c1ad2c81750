/* changes: the messages of one replication connection, in order, to frames in the batch being
 * filled and to the acknowledgement rule. Owns what a connection has said so far (open
 * transaction, relations); knows neither sockets nor time. Protocol 1: a message of a stream
 * block or of two-phase commit is refused. */
#ifndef ONESLOT_REPLICATOR_CHANGES_H
#define ONESLOT_REPLICATOR_CHANGES_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "replicator/ack.h"
#include "replicator/pgoutput.h"
#include "replicator/relcache.h"

/* Finds the primary key of a table under FULL and tells it to the relation (relcache_set_key).
 */
typedef int changes_key_f(void *arg, struct relation *rel, struct err *e);

struct changes {
    struct ack ack;
    struct pgoutput_decoder decoder;
    struct relcache relations;
    uint32_t next_schema;
    changes_key_f *find_key;
    void *arg;
    struct pgoutput_begin begin; /* of the open transaction */
    bool has_records;            /* its FRAME_BEGIN was written */
    struct buf origin;
};

struct changes_conf {
    uint64_t proven_lsn;  /* of the append session */
    uint32_t next_schema; /* of the append session */
    bool raw_text;
    changes_key_f *find_key;
    void *arg;
};
void changes_init(struct changes *c, const struct changes_conf *conf);
void changes_fini(struct changes *c); /* accepts a zeroed one */

/* One XLogData. Appends whole frames to batch, or returns an error after which the connection
 * is to be given up. */
int changes_apply(struct changes *c, const struct pgoutput_copy *m, struct buf *batch,
    struct err *e) MUST_CHECK;

static inline bool
changes_in_transaction(const struct changes *c)
{
    return c->ack.is_open;
}

#endif
