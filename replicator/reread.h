/* reread: rows that sinks want to have read again (they cannot prove an unchanged TOASTed value
 * any more), a thread beside the stream. It asks the broker for requests, reads many rows of
 * one table at once (rowread), and hands them to the stream, which appends them as `read`
 * records. Owns the requests under way, their delays after failures, and the handover; never
 * ends the stream. Nothing is lost at any point: a request stays with the broker until its rows
 * are durable, so a row may be read twice.
 *
 *   IDLE -thread-> WANTED -stream, when quiet-> HELD -thread-> READ -stream-> APPENDED
 *                                                                  -durable-> DURABLE -> IDLE
 *
 * From HELD on nothing else may be appended until APPENDED: the snapshot is taken after HELD,
 * when all that was decoded is durable. HELD -> IDLE: the thread gives up, or the stream has
 * waited long enough; READ -> REFUSED -> IDLE: not visible. */
#ifndef ONESLOT_REPLICATOR_REREAD_H
#define ONESLOT_REPLICATOR_REREAD_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "replicator/monitor.h"
#include "replicator/pgconn.h"
#include "replicator/rowread.h"

enum reread_stage {
    REREAD_IDLE,
    REREAD_WANTED,
    REREAD_HELD,
    REREAD_READ,
    REREAD_APPENDED,
    REREAD_DURABLE,
    REREAD_REFUSED
};

struct reread_conf {    /* borrowed as long as it lives */
    const char *socket; /* the broker's oneslot.sock */
    const struct pgconn_conf *plain;
    const char *publication;
    struct monitor *monitor;
};

struct reread;
int reread_open(const struct reread_conf *c, struct reread **ret, struct err *e) MUST_CHECK;
/* Ends the thread; what is under way is asked for again. Accepts NULL. */
void reread_close(struct reread *r);

/* ---- for the stream's thread ---- */

/* Readable after the thread has changed the stage. */
int reread_fd(const struct reread *r);
enum reread_stage reread_stage(const struct reread *r);
/* WANTED -> HELD; tail: the log's, everything durable. False: not wanted any more. */
bool reread_hold(struct reread *r, uint64_t tail);
/* HELD -> IDLE. */
void reread_revoke(struct reread *r);
/* In READ: the rows; in use by nobody else until the answer. */
const struct rowread_chunk *reread_chunk(const struct reread *r);
/* READ -> APPENDED, DURABLE (there was nothing to append) or REFUSED (why: not VISIBLE);
 * APPENDED -> DURABLE. */
void reread_answer(struct reread *r, enum reread_stage to, enum xids_verdict why);

/* True while the stream must not apply messages, once no transaction is open. */
static inline bool
reread_pauses(enum reread_stage s)
{
    return s == REREAD_WANTED || s == REREAD_HELD || s == REREAD_READ;
}

#endif
