/* doubts: see doubts.h.
 *
 *   d  sink, 0, u64 be key  ->  u64 be offset | u32 be table */
#include "broker/doubts.h"

#include <stdlib.h>
#include <string.h>

#include "broker/dead.h"
#include "proto/base/bytes.h"
#include "proto/base/cleanup.h"
#include "proto/base/xmalloc.h"

enum { HASH = 8, VALUE = 12 };

static int
damaged(const struct beside *bs, struct err *e)
{
    return beside_damaged(bs, "a doubt", e);
}

/* 1: the offset that stands, 0: none. */
static int
find(const struct beside *bs, struct store_txn *t, const struct dead_key *k, uint64_t *ret,
    struct err *e)
{
    struct str v;
    int rc = store_get(t, DEAD_TABLE_DOUBTS, dead_key_str(k), &v, e);
    if (rc != 0) {
        return rc == ERR_NOTFOUND ? 0 : rc;
    }
    if (v.n != VALUE) {
        return damaged(bs, e);
    }
    *ret = get_be64(v.p);
    return 1;
}

int
doubts_raise(const struct beside *bs, struct store_txn *t, const char *sink,
    const struct api_doubt *d, struct err *e)
{
    struct dead_key k = dead_key_of(sink, d->key);
    uint64_t offset = 0;
    char v[VALUE];
    int rc = find(bs, t, &k, &offset, e);
    if (rc < 0 || (rc == 1 && offset >= d->offset)) {
        return rc < 0 ? rc : 0;
    }
    put_be64(v, d->offset);
    put_be32(v + 8, d->table);
    return store_put(t, DEAD_TABLE_DOUBTS, dead_key_str(&k), (struct str){v, sizeof v}, e);
}

/* ---- all of a sink's ---- */

typedef int doubt_f(void *arg, const struct api_doubt *d, struct err *e);

static int
read_doubt(const struct beside *bs, const struct dead_key *first, struct str k, struct str v,
    struct api_doubt *ret, struct err *e)
{
    if (k.n != first->n || v.n != VALUE) {
        return damaged(bs, e);
    }
    *ret = (struct api_doubt){.key = get_be64(k.p + first->n - HASH),
        .table = get_be32(v.p + 8),
        .offset = get_be64(v.p)};
    return 0;
}

static int
walk(const struct beside *bs, struct store_txn *t, const char *sink, doubt_f *fn, void *arg,
    struct err *e)
{
    auto_store_cursor struct store_cursor *c = NULL;
    struct dead_key first = dead_key_of(sink, 0);
    struct str k;
    struct str v;
    int rc = store_cursor_open(t, DEAD_TABLE_DOUBTS, &c, e);
    if (rc == 0) {
        rc = store_cursor_seek(c, STORE_AT_OR_AFTER, dead_key_str(&first), &k, &v, e);
    }
    while (rc == 1 && k.n >= first.n - HASH && memcmp(k.p, first.p, first.n - HASH) == 0) {
        struct api_doubt d;
        rc = read_doubt(bs, &first, k, v, &d, e);
        rc = rc == 0 ? fn(arg, &d, e) : rc;
        rc = rc == 0 ? store_cursor_next(c, &k, &v, e) : rc;
    }
    return rc < 0 ? rc : 0;
}

struct list {
    struct api_doubt *d; /* owned */
    size_t n, cap;
};

static int
add(void *arg, const struct api_doubt *d, struct err *e)
{
    struct list *l = arg;
    (void)e;
    if (l->n < API_DOUBTS_MAX) {
        if (l->n == l->cap) {
            l->cap = l->cap == 0 ? 64 : 2 * l->cap;
            l->d = xreallocarray(l->d, l->cap, sizeof *l->d);
        }
        l->d[l->n++] = *d;
        return 0;
    }
    uint64_t offset = l->d[0].offset > d->offset ? l->d[0].offset : d->offset;
    if (l->d[0].key != 0) { /* it becomes one of those that the first one stands for */
        l->d[0] = (struct api_doubt){.key = 0, .offset = l->d[0].offset};
    }
    l->d[0].offset = offset;
    return 0;
}

static int
list(struct beside *bs, const char *sink, struct list *l, struct err *e)
{
    auto_store_txn struct store_txn *txn = NULL;
    int rc = store_begin(bs->store, false, &txn, e);
    return rc == 0 ? walk(bs, txn, sink, add, l, e) : rc;
}

int
doubts_list(struct beside *bs, const char *sink, struct api_doubt **ret, struct err *e)
{
    struct list l = {0};
    (void)pthread_mutex_lock(&bs->lock);
    int rc = list(bs, sink, &l, e);
    (void)pthread_mutex_unlock(&bs->lock);
    *ret = l.d;
    return rc == 0 ? (int)l.n : rc;
}

/* ---- ending ---- */

static int
del_proven(const struct beside *bs, struct store_txn *t, const char *sink,
    const struct api_doubt *d, size_t n, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct dead_key k = dead_key_of(sink, d[i].key);
        uint64_t offset = 0;
        rc = find(bs, t, &k, &offset, e);
        if (rc == 1) {
            rc = offset <= d[i].offset ? store_del(t, DEAD_TABLE_DOUBTS, dead_key_str(&k), e)
                                       : 0;
        }
    }
    return rc;
}

/* Under the lock. */
static int
end(struct beside *bs, const char *sink, const struct api_doubt *d, size_t n, struct err *e)
{
    auto_store_txn struct store_txn *txn = NULL;
    if (n == 0) {
        return 0;
    }
    int rc = beside_begin(bs, beside_touched(bs, n), &txn, e);
    if (rc == 0) {
        rc = del_proven(bs, txn, sink, d, n, e);
    }
    return rc == 0 ? store_commit(take_ptr(&txn), e) : rc;
}

int
doubts_end(
    struct beside *bs, const char *sink, const struct api_doubt *d, size_t n, struct err *e)
{
    (void)pthread_mutex_lock(&bs->lock);
    int rc = end(bs, sink, d, n, e);
    (void)pthread_mutex_unlock(&bs->lock);
    return rc;
}

/* By parts: more than one list holds may be there. The first of a longer one stands for the
 * rest, and is not of this disk. */
int
doubts_forget(struct beside *bs, const char *sink, struct err *e)
{
    int rc = 0;
    size_t n = 0;
    (void)pthread_mutex_lock(&bs->lock);
    do {
        struct list l = {0};
        rc = list(bs, sink, &l, e);
        n = l.n;
        for (size_t i = 0; i < n; i++) {
            l.d[i].offset = UINT64_MAX;
        }
        rc = rc == 0 ? end(bs, sink, l.d, n, e) : rc;
        free(l.d);
    } while (rc == 0 && n == API_DOUBTS_MAX);
    (void)pthread_mutex_unlock(&bs->lock);
    return rc;
}
