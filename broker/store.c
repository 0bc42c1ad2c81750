#include "broker/store.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/check.h"
#include "proto/base/fs.h"
#include "proto/base/log.h"
#include "proto/base/xmalloc.h"

struct store {
    MDB_env *env;
    char *path;
    uint64_t map_bytes;
    unsigned ntables;
    MDB_dbi table[STORE_TABLES_MAX];
    bool is_sealed;
};

struct store_txn {
    MDB_txn *txn;
    struct store *st;
};

struct store_cursor {
    MDB_cursor *cursor;
};

/* Readers at a time in one environment: every HTTP reader renders on a pool thread, so few are
 * ever needed. */
enum { MAX_READERS = 126 };

static int
store_fail(const struct store *st, int rc, const char *what, struct err *e)
{
    switch (rc) {
    case MDB_NOTFOUND:
        return err_set(e, ERR_NOTFOUND, "%s: not found in %s", what, st->path);
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_BAD_TXN:
        return err_set(e, ERR_CORRUPT,
            "%s: %s in %s/data.mdb; restore this folder from a backup", what, mdb_strerror(rc),
            st->path);
    case MDB_KEYEXIST:
        return err_set(e, ERR_BUG, "%s: key out of order in %s", what, st->path);
    case MDB_MAP_FULL:
        return err_set(e, ERR_BUG, "%s: map of %s is full", what, st->path);
    case MDB_READERS_FULL:
        return err_set(e, ERR_BUSY, "%s: too many readers of %s", what, st->path);
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return err_set_sys(e, ERR_BUSY, rc, "%s: %s", what, st->path);
    case ENOENT:
        return err_set(e, ERR_CORRUPT, "%s: %s/data.mdb is missing; restore it from a backup",
            what, st->path);
    case ENOSPC:
    case EDQUOT:
        return err_set_sys(e, ERR_NOSPACE, rc, "%s: %s", what, st->path);
    default:
        return err_set(e, ERR_IO, "%s: %s: %s", what, st->path, mdb_strerror(rc));
    }
}

/* LMDB's own assertions mean a damaged file: say which and end; a restart verifies. */
static void
store_assert_failed(MDB_env *env, const char *msg)
{
    const char *path = "?";
    (void)mdb_env_get_path(env, &path);
    log_error("lmdb_assert", "path=%s msg=%s", log_quote(path), log_quote(msg));
}

static MDB_val
val_of(struct str s)
{
    /* LMDB takes keys and values to write as non-const pointers and does not change them. */
    return (MDB_val){.mv_size = s.n, .mv_data = (void *)(uintptr_t)s.p};
}

static struct str
str_of(MDB_val v)
{
    return (struct str){.p = v.mv_data, .n = v.mv_size};
}

static int
open_tables(struct store *st, const struct store_conf *c, struct err *e)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(st->env, NULL, c->is_sealed ? MDB_RDONLY : 0, &txn);
    if (rc != 0) {
        return store_fail(st, rc, "cannot begin", e);
    }
    for (; st->ntables < STORE_TABLES_MAX && c->tables[st->ntables] != NULL; st->ntables++) {
        rc = mdb_dbi_open(txn, c->tables[st->ntables], c->is_sealed ? 0 : MDB_CREATE,
            &st->table[st->ntables]);
        if (rc != 0) {
            mdb_txn_abort(txn);
            rc = rc == MDB_NOTFOUND ? MDB_INVALID : rc;
            return store_fail(st, rc, "cannot open a table", e);
        }
    }
    rc = mdb_txn_commit(txn);
    return rc == 0 ? 0 : store_fail(st, rc, "cannot create the tables", e);
}

static int
open_env(struct store *st, const struct store_conf *c, struct err *e)
{
    int rc = mdb_env_create(&st->env);
    if (rc != 0) {
        return store_fail(st, rc, "cannot create an environment", e);
    }
    (void)mdb_env_set_assert(st->env, store_assert_failed);
    rc = mdb_env_set_maxdbs(st->env, STORE_TABLES_MAX);
    if (rc == 0) {
        rc = mdb_env_set_maxreaders(st->env, MAX_READERS);
    }
    if (rc == 0 && !c->is_sealed) {
        rc = mdb_env_set_mapsize(st->env, c->map_bytes);
    }
    if (rc == 0) {
        unsigned flags = MDB_NOTLS | (c->is_sealed ? MDB_RDONLY | MDB_NOLOCK : 0u);
        rc = mdb_env_open(st->env, c->path, flags, 0600);
    }
    if (rc != 0) {
        return store_fail(st, rc, "cannot open", e);
    }
    MDB_envinfo info;
    (void)mdb_env_info(st->env, &info);
    st->map_bytes = info.me_mapsize;
    return open_tables(st, c, e);
}

int
store_open(const struct store_conf *c, struct store **ret, struct err *e)
{
    struct store *st = xcalloc(1, sizeof *st);
    st->path = xstrdup(c->path);
    st->is_sealed = c->is_sealed;
    int rc = open_env(st, c, e);
    if (rc != 0) {
        store_close(st);
        return rc;
    }
    *ret = st;
    return 0;
}

int
store_measure(const char *path, uint64_t *ret_bytes, uint64_t *ret_counted, struct err *e)
{
    struct store st = {.path = (char *)(uintptr_t)path};
    struct stat file;
    int fd = -1;
    int rc = mdb_env_create(&st.env);
    if (rc != 0) {
        return store_fail(&st, rc, "cannot create an environment", e);
    }
    rc = mdb_env_open(st.env, path, MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS, 0600);
    if (rc == 0 && (mdb_env_get_fd(st.env, &fd) != 0 || fstat(fd, &file) != 0)) {
        rc = errno;
    }
    if (rc == 0) {
        *ret_bytes = (uint64_t)file.st_size;
        *ret_counted = store_used_bytes(&st);
    }
    mdb_env_close(st.env);
    bool is_empty = rc == ENOENT || rc == EBADF; /* LMDB's words for a file without content */
    return rc == 0 ? 0 : store_fail(&st, is_empty ? MDB_INVALID : rc, "cannot open", e);
}

void
store_set_path(struct store *st, const char *path)
{
    free(st->path);
    st->path = xstrdup(path);
}

void
store_close(struct store *st)
{
    if (st == NULL) {
        return;
    }
    if (st->env != NULL) {
        mdb_env_close(st->env);
    }
    free(st->path);
    free(st);
}

int
store_grow(struct store *st, uint64_t map_bytes, struct err *e)
{
    int rc = mdb_env_set_mapsize(st->env, map_bytes);
    if (rc != 0) {
        return store_fail(st, rc, "cannot enlarge the map", e);
    }
    st->map_bytes = map_bytes;
    return 0;
}

uint64_t
store_map_bytes(const struct store *st)
{
    return st->map_bytes;
}

uint64_t
store_used_bytes(const struct store *st)
{
    MDB_envinfo info;
    (void)mdb_env_info(st->env, &info);
    return (uint64_t)(info.me_last_pgno + 1) * STORE_PAGE;
}

int
store_sync(struct store *st, struct err *e)
{
    int fd;
    (void)mdb_env_get_fd(st->env, &fd);
    return fs_sync_fd(fd, st->path, e);
}

int
store_reserve_disk(struct store *st, uint64_t bytes, struct err *e)
{
    int fd;
    (void)mdb_env_get_fd(st->env, &fd);
    int rc = posix_fallocate(fd, 0, (off_t)bytes);
    if (rc == 0 || rc == EOPNOTSUPP || rc == EINVAL) {
        return 0;
    }
    return err_set_sys(e, rc == ENOSPC || rc == EDQUOT ? ERR_NOSPACE : ERR_IO, rc,
        "cannot reserve %llu bytes of disk for %s/data.mdb", (unsigned long long)bytes,
        st->path);
}

int
store_begin(struct store *st, bool is_write, struct store_txn **ret, struct err *e)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(st->env, NULL, is_write ? 0 : MDB_RDONLY, &txn);
    if (rc != 0) {
        return store_fail(st, rc, "cannot begin", e);
    }
    struct store_txn *t = xmalloc(sizeof *t);
    *t = (struct store_txn){.txn = txn, .st = st};
    *ret = t;
    return 0;
}

int
store_commit(struct store_txn *t, struct err *e)
{
    struct store *st = t->st;
    int rc = mdb_txn_commit(t->txn);
    free(t);
    if (rc == 0) {
        return 0;
    }
    /* P9: whatever the cause, what is on disk now is unknown; only a restart may tell. */
    return err_set(e, ERR_IO, "cannot commit to %s: %s", st->path, mdb_strerror(rc));
}

void
store_abort(struct store_txn *t)
{
    if (t != NULL) {
        mdb_txn_abort(t->txn);
        free(t);
    }
}

int
store_get(struct store_txn *t, unsigned table, struct str key, struct str *ret, struct err *e)
{
    MDB_val k = val_of(key);
    MDB_val v;
    int rc = mdb_get(t->txn, t->st->table[table], &k, &v);
    if (rc != 0) {
        return store_fail(t->st, rc, "cannot read", e);
    }
    *ret = str_of(v);
    return 0;
}

static int
put_flags(struct store_txn *t, unsigned table, struct str key, MDB_val *v, unsigned flags,
    struct err *e)
{
    MDB_val k = val_of(key);
    int rc = mdb_put(t->txn, t->st->table[table], &k, v, flags);
    return rc == 0 ? 0 : store_fail(t->st, rc, "cannot write", e);
}

int
store_put(struct store_txn *t, unsigned table, struct str key, struct str value, struct err *e)
{
    MDB_val v = val_of(value);
    return put_flags(t, table, key, &v, 0, e);
}

int
store_append(
    struct store_txn *t, unsigned table, struct str key, struct str value, struct err *e)
{
    MDB_val v = val_of(value);
    return put_flags(t, table, key, &v, MDB_APPEND, e);
}

int
store_append_room(
    struct store_txn *t, unsigned table, struct str key, size_t n, char **ret, struct err *e)
{
    MDB_val v = {.mv_size = n, .mv_data = NULL};
    int rc = put_flags(t, table, key, &v, MDB_APPEND | MDB_RESERVE, e);
    if (rc == 0) {
        *ret = v.mv_data;
    }
    return rc;
}

int
store_del(struct store_txn *t, unsigned table, struct str key, struct err *e)
{
    MDB_val k = val_of(key);
    int rc = mdb_del(t->txn, t->st->table[table], &k, NULL);
    return rc == 0 || rc == MDB_NOTFOUND ? 0 : store_fail(t->st, rc, "cannot delete", e);
}

int
store_cursor_open(struct store_txn *t, unsigned table, struct store_cursor **ret, struct err *e)
{
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(t->txn, t->st->table[table], &cursor);
    if (rc != 0) {
        return store_fail(t->st, rc, "cannot read", e);
    }
    struct store_cursor *c = xmalloc(sizeof *c);
    c->cursor = cursor;
    *ret = c;
    return 0;
}

void
store_cursor_close(struct store_cursor *c)
{
    if (c != NULL) {
        mdb_cursor_close(c->cursor);
        free(c);
    }
}

static int
cursor_get(struct store_cursor *c, MDB_cursor_op op, struct str key, struct str *ret_key,
    struct str *ret_value, struct err *e)
{
    MDB_val k = val_of(key);
    MDB_val v;
    int rc = mdb_cursor_get(c->cursor, &k, &v, op);
    if (rc == MDB_NOTFOUND) {
        return 0;
    }
    if (rc != 0) {
        const char *path = "?";
        (void)mdb_env_get_path(mdb_txn_env(mdb_cursor_txn(c->cursor)), &path);
        return store_fail(
            &(struct store){.path = (char *)(uintptr_t)path}, rc, "cannot read", e);
    }
    *ret_key = str_of(k);
    *ret_value = str_of(v);
    return 1;
}

int
store_cursor_seek(struct store_cursor *c, enum store_seek how, struct str key,
    struct str *ret_key, struct str *ret_value, struct err *e)
{
    switch (how) {
    case STORE_FIRST:
        return cursor_get(c, MDB_FIRST, key, ret_key, ret_value, e);
    case STORE_LAST:
        return cursor_get(c, MDB_LAST, key, ret_key, ret_value, e);
    case STORE_AT_OR_AFTER:
        return cursor_get(c, MDB_SET_RANGE, key, ret_key, ret_value, e);
    case STORE_AT_OR_BEFORE: {
        struct str k;
        struct str v;
        int rc = cursor_get(c, MDB_SET_RANGE, key, &k, &v, e);
        if (rc < 0) {
            return rc;
        }
        if (rc == 1 && str_eq(k, key)) {
            *ret_key = k;
            *ret_value = v;
            return 1;
        }
        return cursor_get(c, rc == 1 ? MDB_PREV : MDB_LAST, key, ret_key, ret_value, e);
    }
    }
    CHECK(false);
    return 0;
}

int
store_cursor_next(
    struct store_cursor *c, struct str *ret_key, struct str *ret_value, struct err *e)
{
    return cursor_get(c, MDB_NEXT, (struct str){0}, ret_key, ret_value, e);
}
