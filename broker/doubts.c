/* doubts: see doubts.h.
 *
 *   d  sink, 0, u32 be slot  ->  u64 be offset */
#include "broker/doubts.h"

#include <string.h>

#include "broker/dead.h"
#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/base/cleanup.h"
#include "proto/base/xmalloc.h"

enum { SINK_TEXT_MAX = 64, KEY_MAX = SINK_TEXT_MAX + 4 };

struct key {
    char p[KEY_MAX];
    size_t n;
};

static struct key
key_of(const char *sink, uint32_t slot)
{
    struct key k;
    size_t n = strlen(sink) + 1;
    CHECK(n <= SINK_TEXT_MAX && slot < API_DOUBTS_MAX);
    memcpy(k.p, sink, n);
    put_be32(k.p + n, slot);
    k.n = n + 4;
    return k;
}

static struct str
key_str(const struct key *k)
{
    return (struct str){k->p, k->n};
}

int
doubts_raise(struct store_txn *t, const char *sink, const struct api_doubt *d, struct err *e)
{
    struct key k = key_of(sink, d->slot);
    struct str v;
    char offset[8];
    int rc = store_get(t, DEAD_TABLE_DOUBTS, key_str(&k), &v, e);
    if (rc == 0 && v.n == sizeof offset && get_be64(v.p) >= d->offset) {
        return 0;
    }
    if (rc != 0 && rc != ERR_NOTFOUND) {
        return rc;
    }
    put_be64(offset, d->offset);
    return store_put(t, DEAD_TABLE_DOUBTS, key_str(&k), (struct str){offset, sizeof offset}, e);
}

/* 1: one of that sink, in *ret. 0: of another one. */
static int
get_doubt(const struct beside *bs, const struct key *first, struct str k, struct str v,
    struct api_doubt *ret, struct err *e)
{
    if (k.n != first->n || memcmp(k.p, first->p, first->n - 4) != 0) {
        return 0;
    }
    ret->slot = get_be32(k.p + first->n - 4);
    if (v.n != 8 || ret->slot >= API_DOUBTS_MAX) {
        return beside_damaged(bs, "a doubt", e);
    }
    ret->offset = get_be64(v.p);
    return 1;
}

static int
walk(const struct beside *bs, struct store_txn *t, const char *sink, struct api_doubt *ret,
    struct err *e)
{
    auto_store_cursor struct store_cursor *c = NULL;
    struct key first = key_of(sink, 0);
    struct str k;
    struct str v;
    int n = 0;
    int rc = store_cursor_open(t, DEAD_TABLE_DOUBTS, &c, e);
    if (rc == 0) {
        rc = store_cursor_seek(c, STORE_AT_OR_AFTER, key_str(&first), &k, &v, e);
    }
    while (rc == 1) {
        rc = get_doubt(bs, &first, k, v, &ret[n], e);
        if (rc == 1) {
            n++;
            rc = store_cursor_next(c, &k, &v, e);
        }
    }
    return rc == 0 ? n : rc;
}

int
doubts_list(struct beside *bs, const char *sink, struct api_doubt *ret, struct err *e)
{
    auto_store_txn struct store_txn *txn = NULL;
    (void)pthread_mutex_lock(&bs->lock);
    int rc = store_begin(bs->store, false, &txn, e);
    if (rc == 0) {
        rc = walk(bs, txn, sink, ret, e);
    }
    store_abort(take_ptr(&txn));
    (void)pthread_mutex_unlock(&bs->lock);
    return rc;
}

static int
del_all(struct beside *bs, struct store_txn *t, const char *sink, struct err *e)
{
    auto_free struct api_doubt *d = xcalloc(API_DOUBTS_MAX, sizeof *d);
    int n = walk(bs, t, sink, d, e);
    int rc = n < 0 ? n : 0;
    for (int i = 0; rc == 0 && i < n; i++) {
        struct key k = key_of(sink, d[i].slot);
        rc = store_del(t, DEAD_TABLE_DOUBTS, key_str(&k), e);
    }
    return rc;
}

int
doubts_forget(struct beside *bs, const char *sink, struct err *e)
{
    auto_store_txn struct store_txn *txn = NULL;
    (void)pthread_mutex_lock(&bs->lock);
    int rc = beside_begin(bs, beside_touched(bs, API_DOUBTS_MAX), &txn, e);
    if (rc == 0) {
        rc = del_all(bs, txn, sink, e);
    }
    if (rc == 0) {
        rc = store_commit(take_ptr(&txn), e);
    }
    store_abort(take_ptr(&txn));
    (void)pthread_mutex_unlock(&bs->lock);
    return rc;
}
