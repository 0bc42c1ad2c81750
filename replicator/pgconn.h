/* pgconn: connections to PostgreSQL, the only file that includes libpq-fe.h. It pins the
 * settings that decide how values become text, tells errors apart by SQLSTATE, never waits
 * without an eye on the stop descriptor, and knows nothing of what is asked or streamed. A
 * connection is used by one thread at a time.
 *
 * Errors carry the server's primary message and hint and our advice (sql.h); codes are of
 * sql_state_find, or CONNECT (no server reached), CLOSED, TIMEOUT (the connection is then of no
 * more use), STOPPING. */
#ifndef ONESLOT_REPLICATOR_PGCONN_H
#define ONESLOT_REPLICATOR_PGCONN_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/str.h"
#include "replicator/pgrows.h"

enum { PGCONN_MIN_VERSION = 130000, PGCONN_MAX_VERSION = 189999 };

struct pgconn_conf {
    const char *dsn;            /* libpq conninfo or URI */
    const char *password_file;  /* read at every connect (it may rotate), or NULL */
    bool is_replication;        /* replication=database */
    int stop_fd;                /* readable: give up with ERR_STOPPING; -1: none */
    int64_t connect_timeout_ms; /* 0: of the dsn, or 10 s */
};

struct pgconn;
int pgconn_open(const struct pgconn_conf *c, struct pgconn **ret, struct err *e) MUST_CHECK;
void pgconn_close(struct pgconn *c);                     /* accepts NULL */
int pgconn_version(const struct pgconn *c);              /* 150020 */
const char *pgconn_version_text(const struct pgconn *c); /* "15.20"; valid while c is open */
bool pgconn_is_raw_text(
    const struct pgconn *c); /* a SQL_ASCII database: text may be any bytes */
const char *pgconn_sqlstate(
    const struct pgconn *c); /* of the last failure, "" when it had none */

/* One statement, or one replication command. timeout_ms 0: none. ret may be NULL where no rows
 * matter. */
int pgconn_query(struct pgconn *c, const char *sql, int64_t timeout_ms, struct pgrows **ret,
    struct err *e) MUST_CHECK;

/* Asks the server to give up the statement that runs; after a query that ended with STOPPING.
 * May wait for a connect. */
void pgconn_cancel(struct pgconn *c);

/* ---- streaming; after pgconn_start nothing but these ---- */

/* START_REPLICATION with pgoutput, protocol 1, logical messages where the server has them (14).
 */
int pgconn_start(struct pgconn *c, const char *slot, const char *publication, uint64_t lsn,
    struct err *e) MUST_CHECK;
/* The next message that has arrived: 1 and a view valid until the next call; 0 none now; < 0
 * the stream is over. A warning that pgoutput skips a publication (PostgreSQL 18) is such an
 * error: changes would be lost. */
int pgconn_receive(struct pgconn *c, struct str *ret, struct err *e) MUST_CHECK;
/* Bytes of the largest message yet: libpq keeps about as much memory until the connection ends.
 */
size_t pgconn_largest(const struct pgconn *c);
/* Reads what the socket holds, without waiting. A lost connection shows in pgconn_receive,
 * behind the messages that still came: call that until it returns 0 before polling again. */
void pgconn_consume(struct pgconn *c);
/* Whether a connection on which nothing is asked has ended; never waits. */
bool pgconn_is_lost(struct pgconn *c);
int pgconn_fd(const struct pgconn *c);
/* Sends one CopyData message (a standby status); never waits: 1 when something is still unsent,
 * else 0. What the socket did not take goes with the next call, or with pgconn_flush. */
int pgconn_send(struct pgconn *c, struct str message, struct err *e) MUST_CHECK;
/* 1: something is still unsent, poll for writing; 0: nothing. */
int pgconn_flush(struct pgconn *c, struct err *e) MUST_CHECK;

static inline void
cleanup_pgconn(struct pgconn **c)
{
    pgconn_close(*c);
}
#define auto_pgconn __attribute__((cleanup(cleanup_pgconn)))

#endif
