/* rowread: rows of one published table as they are in one MVCC snapshot, with what decides
 * whether they may be appended to the log (architecture.md, Replicator): the snapshot itself,
 * and that all it shows is flushed. Owns a connection of its own, kept, and how the catalogue
 * describes the table: columns, generated columns and row filter as the publication sends them.
 * It knows neither the stream nor why rows are wanted. Used by one thread at a time. */
#ifndef ONESLOT_REPLICATOR_ROWREAD_H
#define ONESLOT_REPLICATOR_ROWREAD_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/str.h"
#include "replicator/pgconn.h"
#include "replicator/pgoutput.h"
#include "replicator/relcache.h"
#include "replicator/xids.h"

enum {
    ROWREAD_PARTS = 64,          /* fetches of a chunk */
    ROWREAD_STATEMENT_MS = 1000, /* of the server, for each statement */
    ROWREAD_BYTES = 1024 * 1024  /* a chunk ends with the part that reaches it */
};

struct rowread_conf { /* borrowed */
    const struct pgconn_conf *plain;
    const char *publication;
    int stop_fd; /* instead of the one in plain */
};

/* What one transaction has read. */
struct rowread_chunk {
    struct snapshot snapshot;
    bool is_gone;         /* the table is not published, or not there: no rows */
    bool is_whole;        /* no row is missing that the condition selects */
    struct relation *rel; /* of the rowread, until its next begin; NULL when is_gone */
    struct pgrows *part[ROWREAD_PARTS];
    unsigned nparts;
    size_t nrows, bytes;
};
void rowread_chunk_fini(struct rowread_chunk *c); /* accepts a zeroed one */
/* Tuples over the rows: *ret_rows (nrows of them) and the values behind them are one
 * allocation, freed by the caller with free(); valid as long as the chunk. */
struct pgoutput_tuple *rowread_tuples(const struct rowread_chunk *c);

struct rowread;
struct rowread *rowread_new(const struct rowread_conf *c);
void rowread_free(struct rowread *r); /* accepts NULL */

/* Connects, unless it is; begin needs it. */
int rowread_connect(struct rowread *r, struct err *e) MUST_CHECK;
/* Begins a transaction whose snapshot is taken after the table was locked against changes of
 * its shape (ACCESS SHARE, never waited for). Errors end it: BUSY a lock is not to be had; AUTH
 * no right to read the table (the sentence says what grants it); others as pgconn. */
int rowread_begin(struct rowread *r, struct str ns, struct str table, struct rowread_chunk *ret,
    struct err *e) MUST_CHECK;
/* Appends "column"=literal with the literal cast to the column's type. False: the table has no
 * such column. Between begin and end. */
bool rowread_put_equal(
    const struct rowread *r, struct buf *sql, struct str column, struct str text);
/* Reads rows that fulfil a condition (SQL), up to ROWREAD_BYTES. */
int rowread_rows(
    struct rowread *r, struct str condition, struct rowread_chunk *c, struct err *e) MUST_CHECK;
/* Waits until all that the snapshot shows is flushed (synchronous_commit = off): at most
 * wait_ms, then ERR_TIMEOUT. */
int rowread_wait_flushed(struct rowread *r, int64_t wait_ms, struct err *e) MUST_CHECK;
/* Ends the transaction; the chunk stays. */
void rowread_end(struct rowread *r);
/* SQLSTATE of the last failure since rowread_connect, "" when there was none. */
const char *rowread_sqlstate(const struct rowread *r);

#endif
