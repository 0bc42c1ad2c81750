/* stream: the loop between PostgreSQL's socket and the broker: reads what has arrived, hands
 * batches to the sender, acknowledges what is durable. It never waits for the disk: while both
 * batches are full it stops reading and goes on sending status, and lets go of a server that
 * wants to stop. */
#ifndef ONESLOT_REPLICATOR_STREAM_H
#define ONESLOT_REPLICATOR_STREAM_H

#include "proto/api.h"
#include "proto/base/err.h"
#include "replicator/monitor.h"
#include "replicator/pgconn.h"

struct stream_conf {            /* borrowed for the call */
    struct pgconn *replication; /* pgconn_start was done, at session->proven_lsn */
    const struct pgconn_conf
        *plain; /* for a connection that asks for primary keys, when one is needed */
    const char *append_socket;
    const char *broker_socket; /* oneslot.sock: rows to be read again are asked there */
    const char *publication;
    const struct api_session *session;
    uint64_t xmax; /* catalog_xmax, since the session is open */
    struct monitor *monitor;
    int stop_fd;
};

/* Runs until the connection, the append session or the process ends, and returns why, never 0.
 * STOPPING: whole transactions that had arrived were made durable and acknowledged where that
 * was possible in time. *ret_renews: it ended only to give memory back; connect again at once.
 */
int stream_run(const struct stream_conf *c, bool *ret_renews, struct err *e) MUST_CHECK;

#endif
