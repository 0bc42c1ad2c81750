/* store: LMDB environments as ordered tables of bytes. The only file that includes lmdb.h. It
 * promises what the log needs of LMDB and nothing else: default flags (both syncs of a commit
 * happen), one writer, readers that hold nothing across calls of other modules (P10 is the
 * caller's: end what you begin), a failed commit is ERR_IO, class FATAL (P9). It knows nothing
 * of records or of the folder's meaning.
 *
 * Facts about LMDB 0.9.24 relied on here: shared/facts/lmdb.md; http://www.lmdb.tech/doc/ */
#ifndef ONESLOT_BROKER_STORE_H
#define ONESLOT_BROKER_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/str.h"

enum { STORE_TABLES_MAX = 5, STORE_PAGE = 4096 };
/* A value of exactly this many bytes fills eight pages (16 bytes are LMDB's own header). */
enum { STORE_EIGHT_PAGES = 8 * STORE_PAGE - 16 };

struct store;
struct store_txn;

struct store_conf {
    const char *path;   /* an existing folder */
    uint64_t map_bytes; /* address space; the file may grow up to it. Ignored when sealed */
    bool is_sealed;     /* read-only, never written again by anyone: no lock file */
    const char *tables[STORE_TABLES_MAX +
                       1]; /* names, NULL-terminated; created when missing unless sealed */
};

/* ERR_CORRUPT for a file that is not LMDB's, ERR_IO otherwise. An environment must not be
 * opened twice in a process while it is open. */
int store_open(const struct store_conf *c, struct store **ret, struct err *e) MUST_CHECK;
/* Bytes of path/data.mdb, and those up to the last page that LMDB counts: looks at its meta
 * pages only, so that a file that was cut off can be told before a read of its map ends in a
 * signal. A file may end early without harm: a last page that was never used is never written.
 */
int store_measure(
    const char *path, uint64_t *ret_bytes, uint64_t *ret_counted, struct err *e) MUST_CHECK;
/* The folder was renamed: what messages say of it follows. */
void store_set_path(struct store *st, const char *path);
void store_close(struct store *st); /* no transaction may be open; accepts NULL */
/* Enlarges the map. No transaction may be open. */
int store_grow(struct store *st, uint64_t map_bytes, struct err *e) MUST_CHECK;
uint64_t store_map_bytes(const struct store *st);
/* Bytes of the file in use (its last page), as of the last commit. */
uint64_t store_used_bytes(const struct store *st);
/* fsync of the data file itself (after creation; commits sync on their own). */
int store_sync(struct store *st, struct err *e) MUST_CHECK;
/* Makes sure that the file owns this many bytes of disk, so that later commits cannot fail for
 * want of them. */
int store_reserve_disk(struct store *st, uint64_t bytes, struct err *e) MUST_CHECK;

/* A write transaction excludes other writers; a read transaction sees the last commit. */
int store_begin(
    struct store *st, bool is_write, struct store_txn **ret, struct err *e) MUST_CHECK;
int store_commit(
    struct store_txn *t, struct err *e) MUST_CHECK; /* ends t, whatever it returns */
void store_abort(struct store_txn *t);              /* accepts NULL */

/* table: index into conf.tables. Views are valid until the next write in t, or t's end. */
int store_get(struct store_txn *t, unsigned table, struct str key, struct str *ret,
    struct err *e) MUST_CHECK;
int store_put(struct store_txn *t, unsigned table, struct str key, struct str value,
    struct err *e) MUST_CHECK;
/* Keys must come in ascending order: ERR_BUG otherwise. */
int store_append(struct store_txn *t, unsigned table, struct str key, struct str value,
    struct err *e) MUST_CHECK;
/* As store_append; the caller fills the n bytes at *ret before its next call on t. */
int store_append_room(struct store_txn *t, unsigned table, struct str key, size_t n, char **ret,
    struct err *e) MUST_CHECK;
int store_del(struct store_txn *t, unsigned table, struct str key,
    struct err *e) MUST_CHECK; /* absent: fine */

/* Walking one table in key order. A cursor belongs to one transaction and ends before it. */
enum store_seek { STORE_FIRST, STORE_LAST, STORE_AT_OR_AFTER, STORE_AT_OR_BEFORE };
struct store_cursor;
int store_cursor_open(
    struct store_txn *t, unsigned table, struct store_cursor **ret, struct err *e) MUST_CHECK;
void store_cursor_close(struct store_cursor *c); /* accepts NULL */
/* 1 found, 0 nothing there, < 0 an error. */
int store_cursor_seek(struct store_cursor *c, enum store_seek how, struct str key,
    struct str *ret_key, struct str *ret_value, struct err *e) MUST_CHECK;
int store_cursor_next(struct store_cursor *c, struct str *ret_key, struct str *ret_value,
    struct err *e) MUST_CHECK;

static inline void
cleanup_store_txn(struct store_txn **t)
{
    store_abort(*t);
}
static inline void
cleanup_store_cursor(struct store_cursor **c)
{
    store_cursor_close(*c);
}
/* Aborted at the end of the scope unless committed (take_ptr it then). Cursors are declared
 * after their transaction, so that they end before it. */
#define auto_store_txn    __attribute__((cleanup(cleanup_store_txn)))
#define auto_store_cursor __attribute__((cleanup(cleanup_store_cursor)))

#endif
