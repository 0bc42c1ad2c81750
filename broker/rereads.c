/* rereads: see rereads.h.
 *
 *   r  u64 be id   ->  [version, offset, the row: api_put_rereads with id and offset 0]
 *   m  "reread"    ->  u64 be: the last id that was given; none is used twice */
#include "broker/rereads.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "broker/dead.h"
#include "broker/doubts.h"
#include "proto/base/bytes.h"
#include "proto/base/cleanup.h"
#include "proto/base/xmalloc.h"
#include "proto/frame.h"

enum { REQUEST_VERSION = 1, VALUE_MAX = API_REREAD_MAX + 64, REQUEST_BYTES = 64 };
static const uint32_t request_fields[REQUEST_VERSION] = {3};
#define KEY_LAST STR("reread")

struct request {
    uint64_t id, offset;
    uint32_t hash; /* of row */
    char *row;     /* owned */
    size_t nrow;
};

struct rereads {
    struct beside *bs;
    struct request *request; /* by id */
    size_t n, cap;
    uint64_t bytes, last_id;
    struct rereads_stats stats; /* without `waiting` */
};

static struct str
row_of(const struct request *q)
{
    return (struct str){q->row, q->nrow};
}

static void
put_value(struct buf *b, uint64_t offset, struct str row)
{
    mp_put_array(b, request_fields[REQUEST_VERSION - 1]);
    mp_put_u64(b, REQUEST_VERSION);
    mp_put_u64(b, offset);
    mp_put_bin(b, row);
}

/* ---- in memory ---- */

/* Copies the row. Ids come in order. */
static void
keep(struct rereads *r, uint64_t id, uint64_t offset, struct str row)
{
    if (r->n == r->cap) {
        r->cap = r->cap == 0 ? 16 : 2 * r->cap;
        r->request = xreallocarray(r->request, r->cap, sizeof *r->request);
    }
    struct request *q = &r->request[r->n++];
    *q = (struct request){.id = id, .offset = offset, .hash = frame_sum(0, row), .nrow = row.n};
    q->row = xmalloc(row.n + 1);
    memcpy(q->row, row.p, row.n);
    r->bytes += row.n + REQUEST_BYTES;
}

static struct request *
find_row(struct rereads *r, struct str row)
{
    uint32_t hash = frame_sum(0, row);
    for (size_t i = 0; i < r->n; i++) {
        if (r->request[i].hash == hash && str_eq(row_of(&r->request[i]), row)) {
            return &r->request[i];
        }
    }
    return NULL;
}

static int
compare_id(const void *key, const void *element)
{
    uint64_t a = *(const uint64_t *)key;
    uint64_t b = ((const struct request *)element)->id;
    return a < b ? -1 : a > b;
}

static struct request *
find_id(struct rereads *r, uint64_t id)
{
    return r->n == 0 ? NULL : bsearch(&id, r->request, r->n, sizeof *r->request, compare_id);
}

/* Takes out those whose row was given away (NULL). */
static void
sweep(struct rereads *r)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (r->request[i].row != NULL) {
            r->request[kept++] = r->request[i];
        }
    }
    r->n = kept;
}

/* ---- opening ---- */

static int
load_one(struct rereads *r, struct str k, struct str v, struct err *e)
{
    struct mp m;
    uint64_t version;
    int rc = beside_value(
        r->bs, &m, v, request_fields, REQUEST_VERSION, &version, "a request to read a row", e);
    if (rc != 0) {
        return rc;
    }
    uint64_t offset = mp_u64(&m);
    struct str row = mp_str(&m);
    if (k.n != 8 || !mp_done(&m)) {
        return beside_damaged(r->bs, "a request to read a row", e);
    }
    keep(r, get_be64(k.p), offset, row);
    return 0;
}

static int
load_last_id(struct rereads *r, struct store_txn *t, struct err *e)
{
    struct str v;
    int rc = store_get(t, DEAD_TABLE_META, KEY_LAST, &v, e);
    if (rc == ERR_NOTFOUND) {
        return 0; /* none was ever given */
    }
    if (rc == 0 && v.n != 8) {
        return beside_damaged(r->bs, "the last id of a row to be read", e);
    }
    if (rc == 0) {
        r->last_id = get_be64(v.p);
    }
    return rc;
}

static int
load(struct rereads *r, struct err *e)
{
    auto_store_txn struct store_txn *txn = NULL;
    int rc = store_begin(r->bs->store, false, &txn, e);
    if (rc != 0) {
        return rc;
    }
    auto_store_cursor struct store_cursor *c = NULL;
    struct str k;
    struct str v;
    rc = load_last_id(r, txn, e);
    if (rc == 0) {
        rc = store_cursor_open(txn, DEAD_TABLE_REREADS, &c, e);
    }
    if (rc == 0) {
        rc = store_cursor_seek(c, STORE_FIRST, (struct str){0}, &k, &v, e);
    }
    while (rc == 1) {
        rc = load_one(r, k, v, e);
        rc = rc == 0 ? store_cursor_next(c, &k, &v, e) : rc;
    }
    return rc;
}

int
rereads_open(struct beside *bs, struct rereads **ret, struct err *e)
{
    struct rereads *r = xcalloc(1, sizeof *r);
    r->bs = bs;
    int rc = load(r, e);
    if (rc != 0) {
        rereads_close(r);
        return rc;
    }
    *ret = r;
    return 0;
}

void
rereads_close(struct rereads *r)
{
    if (r == NULL) {
        return;
    }
    for (size_t i = 0; i < r->n; i++) {
        free(r->request[i].row);
    }
    free(r->request);
    free(r);
}

/* ---- asking ---- */

static int
put_request(struct store_txn *t, uint64_t id, uint64_t offset, struct str row, struct err *e)
{
    auto_buf struct buf b;
    char key[8];
    buf_init(&b, VALUE_MAX);
    put_be64(key, id);
    put_value(&b, offset, row);
    return buf_ok(&b) ? store_put(t, DEAD_TABLE_REREADS, (struct str){key, 8}, buf_str(&b), e)
                      : err_set(e, ERR_TOOBIG, "the key of a row to be read again is too long");
}

/* What one call of a worker makes durable: a request, a doubt, or both. */
struct asked {
    uint64_t id, offset;
    struct str row; /* n 0: a request that stands already */
    const char *sink;
    const struct api_doubt *doubt;
};

static int
put_asked(struct rereads *r, struct store_txn *t, const struct asked *a, struct err *e)
{
    char last[8];
    int rc = 0;
    put_be64(last, a->id > r->last_id ? a->id : r->last_id);
    if (a->row.n > 0) {
        rc = put_request(t, a->id, a->offset, a->row, e);
        rc = rc == 0 ? store_put(t, DEAD_TABLE_META, KEY_LAST, (struct str){last, 8}, e) : rc;
    }
    return rc == 0 && a->doubt != NULL ? doubts_raise(r->bs, t, a->sink, a->doubt, e) : rc;
}

static int
write_asked(struct rereads *r, const struct asked *a, struct err *e)
{
    auto_store_txn struct store_txn *txn = NULL;
    if (a->row.n == 0 && a->doubt == NULL) {
        return 0;
    }
    int rc = beside_begin(r->bs, a->row.n + STORE_PAGE, &txn, e);
    if (rc == 0) {
        rc = put_asked(r, txn, a, e);
    }
    return rc == 0 ? store_commit(take_ptr(&txn), e) : rc;
}

/* Under the lock. */
static int
ask(struct rereads *r, struct asked *a, struct err *e)
{
    struct request *q = find_row(r, a->row);
    if (q != NULL) {
        bool is_raised = a->offset > q->offset;
        a->id = q->id;
        a->row.n = is_raised ? a->row.n : 0;
        int rc = write_asked(r, a, e);
        q->offset = rc == 0 && is_raised ? a->offset : q->offset;
        return rc;
    }
    if (r->n >= REREADS_MAX || r->bytes + a->row.n + REQUEST_BYTES > REREADS_BYTES_MAX) {
        return err_set(e, ERR_BUSY,
            "%zu rows wait to be read again; more are taken when the replicator has read some",
            r->n);
    }
    a->id = r->last_id + 1;
    int rc = write_asked(r, a, e);
    if (rc == 0) {
        r->last_id = a->id;
        keep(r, a->id, a->offset, a->row);
    }
    return rc;
}

int
rereads_ask(struct rereads *r, const struct api_reread *q, const char *sink,
    const struct api_doubt *doubt, struct err *e)
{
    struct api_reread row = *q;
    auto_buf struct buf b;
    buf_init(&b, API_REREAD_MAX);
    if (q->nkeys == 0 || q->table.n == 0) {
        return err_set(e, ERR_PARSE, "a row to be read again has a table and a key");
    }
    row.id = 0;
    row.offset = 0;
    api_put_rereads(&b, &row, 1);
    if (!buf_ok(&b)) {
        return err_set(e, ERR_TOOBIG, "the key of a row to be read again is too long");
    }
    struct asked a = {.offset = q->offset, .row = buf_str(&b), .sink = sink, .doubt = doubt};
    (void)pthread_mutex_lock(&r->bs->lock);
    int rc = ask(r, &a, e);
    r->stats.asked += rc == 0;
    (void)pthread_mutex_unlock(&r->bs->lock);
    return rc;
}

/* ---- answering ---- */

int
rereads_list(struct rereads *r, uint64_t after, size_t max, struct buf *to, struct err *e)
{
    size_t n = 0;
    int rc = 0;
    (void)pthread_mutex_lock(&r->bs->lock);
    max = max < API_LETTERS_MAX ? max : API_LETTERS_MAX;
    max = max < r->n ? max : r->n;
    struct api_reread *list = xcalloc(max, sizeof *list);
    for (size_t i = 0; rc == 0 && i < r->n && n < max; i++) {
        const struct request *q = &r->request[i];
        if (q->id <= after) {
            continue;
        }
        rc = api_get_rereads(row_of(q), &list[n], 1, e) == 1
                 ? 0
                 : beside_damaged(r->bs, "a request to read a row", e);
        list[n].id = q->id;
        list[n++].offset = q->offset;
    }
    if (rc == 0) {
        api_put_rereads(to, list, n);
    }
    (void)pthread_mutex_unlock(&r->bs->lock);
    free(list);
    return rc;
}

static bool
is_answered(const struct request *q, const struct api_reread_done *d)
{
    return q != NULL && q->row != NULL && q->offset < d->read_at;
}

static int
del_answered(struct rereads *r, const struct api_reread_done *d, size_t n, struct err *e)
{
    auto_store_txn struct store_txn *txn = NULL;
    int rc = beside_begin(r->bs, beside_touched(r->bs, n), &txn, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        char key[8];
        put_be64(key, d[i].id);
        if (is_answered(find_id(r, d[i].id), &d[i])) {
            rc = store_del(txn, DEAD_TABLE_REREADS, (struct str){key, 8}, e);
        }
    }
    return rc == 0 ? store_commit(take_ptr(&txn), e) : rc;
}

static void
forget_answered(struct rereads *r, const struct api_reread_done *d, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct request *q = find_id(r, d[i].id);
        if (is_answered(q, &d[i])) {
            r->bytes -= q->nrow + REQUEST_BYTES;
            free(q->row);
            q->row = NULL;
            r->stats.answered++;
            r->stats.gone += d[i].is_gone;
        }
    }
    sweep(r);
}

int
rereads_done(struct rereads *r, const struct api_reread_done *d, size_t n, struct err *e)
{
    bool is_any = false;
    int rc = 0;
    (void)pthread_mutex_lock(&r->bs->lock);
    for (size_t i = 0; i < n; i++) {
        is_any = is_any || is_answered(find_id(r, d[i].id), &d[i]);
    }
    if (is_any) {
        rc = del_answered(r, d, n, e);
    }
    if (is_any && rc == 0) {
        forget_answered(r, d, n);
    }
    (void)pthread_mutex_unlock(&r->bs->lock);
    return rc;
}

void
rereads_stats(struct rereads *r, struct rereads_stats *ret)
{
    (void)pthread_mutex_lock(&r->bs->lock);
    *ret = r->stats;
    ret->waiting = r->n;
    (void)pthread_mutex_unlock(&r->bs->lock);
}
