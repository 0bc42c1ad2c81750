/* dead: see dead.h.
 *
 *   l  sink, 0, u64 be offset  ->  [version, state, attempts, first_us, last_us, record bytes,
 *                                   key, ns, table, op, reason, former]      (msgpack; version
 *                                   1: without the last one)
 *   b  the same key            ->  the record, a batch */
#include "broker/dead.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/base/cleanup.h"
#include "proto/base/xmalloc.h"

enum {
    LETTER_VERSION = 2,
    MAP_BYTES = 64 * 1024 * 1024,
    DISK_BYTES = 1024 * 1024,
    VALUE_MAX = 256 * 1024 /* of a letter without its record */
};
static const uint32_t letter_fields[LETTER_VERSION] = {11, 12};

struct letter {
    struct dead_letter v; /* views into `value`; first, so that a view leads to its letter */
    char *value;          /* as it is on disk; owned */
    size_t nvalue;
    bool is_gone; /* it is no longer on disk */
};

/* The letters of one sink, by offset. */
struct grave {
    char sink[DEAD_SINK_MAX];
    struct letter **letter;
    size_t n, cap;
    struct dead_counts counts; /* letters: n */
};

struct dead {
    struct beside *bs;
    struct grave **grave;
    size_t ngraves;
};

int
dead_folder_open(
    const char *data_dir, const uint8_t uuid[API_UUID], struct beside *ret, struct err *e)
{
    struct beside_conf c = {.data_dir = data_dir,
        .name = DEAD_FOLDER,
        .tables = {"m", "l", "b", "r", "d"},
        .map_bytes = MAP_BYTES,
        .disk_bytes = DISK_BYTES};
    return beside_open(&c, uuid, ret, e);
}

/* ---- a letter ---- */

static void
letter_free(struct letter *l)
{
    free(l->value);
    free(l);
}

static uint64_t
letter_bytes(const struct letter *l)
{
    return l->nvalue + l->v.record_bytes;
}

static void
put_value(struct buf *b, const struct dead_letter *v)
{
    mp_put_array(b, letter_fields[LETTER_VERSION - 1]);
    mp_put_u64(b, LETTER_VERSION);
    mp_put_u64(b, v->state);
    mp_put_u64(b, v->attempts);
    mp_put_i64(b, v->first_us);
    mp_put_i64(b, v->last_us);
    mp_put_u64(b, v->record_bytes);
    mp_put_bin(b, v->key);
    mp_put_bin(b, v->ns);
    mp_put_bin(b, v->table);
    mp_put_bin(b, v->op);
    mp_put_bin(b, v->reason);
    mp_put_bin(b, v->former);
}

/* Copies the value. */
static int
letter_new(const struct beside *bs, uint64_t offset, struct str value, struct letter **ret,
    struct err *e)
{
    struct mp m;
    uint64_t version;
    struct letter *l = xcalloc(1, sizeof *l);
    l->value = xmalloc(value.n + 1);
    memcpy(l->value, value.p, value.n);
    l->nvalue = value.n;
    struct str copy = {l->value, l->nvalue};
    int rc =
        beside_value(bs, &m, copy, letter_fields, LETTER_VERSION, &version, "a dead letter", e);
    if (rc == 0) {
        struct dead_letter *v = &l->v;
        v->offset = offset;
        v->state = (uint8_t)mp_u64(&m);
        v->attempts = (uint32_t)mp_u64(&m);
        v->first_us = mp_i64(&m);
        v->last_us = mp_i64(&m);
        v->record_bytes = mp_u64(&m);
        v->key = mp_str(&m);
        v->ns = mp_str(&m);
        v->table = mp_str(&m);
        v->op = mp_str(&m);
        v->reason = mp_str(&m);
        if (version > 1) {
            v->former = mp_str(&m);
        }
        rc = mp_done(&m) && v->state <= API_LETTER_REREAD
                 ? 0
                 : beside_damaged(bs, "a dead letter", e);
    }
    if (rc != 0) {
        letter_free(l);
        return rc;
    }
    *ret = l;
    return 0;
}

static int
letter_from(
    const struct beside *bs, const struct dead_letter *v, struct letter **ret, struct err *e)
{
    auto_buf struct buf b;
    buf_init(&b, VALUE_MAX);
    put_value(&b, v);
    return buf_ok(&b) ? letter_new(bs, v->offset, buf_str(&b), ret, e)
                      : err_set(e, ERR_TOOBIG, "a dead letter's key or texts are too long");
}

struct dead_key
dead_key_of(const char *sink, uint64_t number)
{
    struct dead_key k;
    size_t n = strlen(sink) + 1;
    CHECK(n <= DEAD_SINK_MAX);
    memcpy(k.p, sink, n);
    put_be64(k.p + n, number);
    k.n = n + 8;
    return k;
}

/* ---- in memory ---- */

static struct grave *
find_grave(const struct dead *d, const char *sink)
{
    for (size_t i = 0; i < d->ngraves; i++) {
        if (strcmp(d->grave[i]->sink, sink) == 0) {
            return d->grave[i];
        }
    }
    return NULL;
}

static struct grave *
need_grave(struct dead *d, const char *sink)
{
    struct grave *g = find_grave(d, sink);
    if (g == NULL) {
        g = xcalloc(1, sizeof *g);
        CHECK(strlen(sink) < sizeof g->sink);
        memcpy(g->sink, sink, strlen(sink) + 1);
        d->grave = xreallocarray(d->grave, d->ngraves + 1, sizeof(struct grave *));
        d->grave[d->ngraves++] = g;
    }
    return g;
}

/* Where the offset is, or belongs. */
static size_t
index_of(const struct grave *g, uint64_t offset)
{
    size_t low = 0;
    size_t high = g->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (g->letter[mid]->v.offset < offset) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static struct letter *
find_letter(const struct grave *g, uint64_t offset)
{
    size_t i = g == NULL ? 0 : index_of(g, offset);
    return g != NULL && i < g->n && g->letter[i]->v.offset == offset ? g->letter[i] : NULL;
}

static void
count_in(struct grave *g, const struct letter *l)
{
    g->counts.letters++;
    g->counts.by_state[l->v.state]++;
    g->counts.bytes += letter_bytes(l);
}

static void
count_out(struct grave *g, const struct letter *l)
{
    g->counts.letters--;
    g->counts.by_state[l->v.state]--;
    g->counts.bytes -= letter_bytes(l);
}

/* Takes l; one of the same offset goes. */
static void
keep(struct grave *g, struct letter *l)
{
    size_t i = index_of(g, l->v.offset);
    count_in(g, l);
    if (i < g->n && g->letter[i]->v.offset == l->v.offset) {
        count_out(g, g->letter[i]);
        letter_free(g->letter[i]);
        g->letter[i] = l;
        return;
    }
    if (g->n == g->cap) {
        g->cap = g->cap == 0 ? 16 : 2 * g->cap;
        g->letter = xreallocarray(g->letter, g->cap, sizeof(struct letter *));
    }
    memmove(g->letter + i + 1, g->letter + i, (g->n - i) * sizeof(struct letter *));
    g->letter[i] = l;
    g->n++;
}

typedef bool match_f(const void *arg, const struct dead_letter *v);

static size_t
count_matching(const struct grave *g, match_f *goes, const void *arg)
{
    size_t n = 0;
    for (size_t i = 0; g != NULL && i < g->n; i++) {
        n += goes(arg, &g->letter[i]->v);
    }
    return n;
}

/* Takes out whatever `goes` says of, in one pass. */
static size_t
drop_matching(struct grave *g, match_f *goes, const void *arg)
{
    size_t kept = 0;
    size_t n = g->n;
    for (size_t i = 0; i < n; i++) {
        struct letter *l = g->letter[i];
        if (goes(arg, &l->v)) {
            count_out(g, l);
            letter_free(l);
        } else {
            g->letter[kept++] = l;
        }
    }
    g->n = kept;
    return n - kept;
}

/* ---- opening ---- */

static int
load_one(struct dead *d, struct str k, struct str v, struct err *e)
{
    const char *end = memchr(k.p, '\0', k.n);
    size_t n = end == NULL ? 0 : (size_t)(end - k.p);
    if (n == 0 || n >= DEAD_SINK_MAX || k.n != n + 9) {
        return beside_damaged(d->bs, "the name of a dead letter", e);
    }
    struct letter *l;
    int rc = letter_new(d->bs, get_be64(k.p + n + 1), v, &l, e);
    if (rc == 0) {
        keep(need_grave(d, k.p), l);
    }
    return rc;
}

static int
load(struct dead *d, struct err *e)
{
    auto_store_txn struct store_txn *txn = NULL;
    int rc = store_begin(d->bs->store, false, &txn, e);
    if (rc != 0) {
        return rc;
    }
    auto_store_cursor struct store_cursor *c = NULL;
    struct str k;
    struct str v;
    rc = store_cursor_open(txn, DEAD_TABLE_LETTERS, &c, e);
    if (rc == 0) {
        rc = store_cursor_seek(c, STORE_FIRST, (struct str){0}, &k, &v, e);
    }
    while (rc == 1) {
        rc = load_one(d, k, v, e);
        rc = rc == 0 ? store_cursor_next(c, &k, &v, e) : rc;
    }
    return rc;
}

int
dead_open(struct beside *bs, struct dead **ret, struct err *e)
{
    struct dead *d = xcalloc(1, sizeof *d);
    d->bs = bs;
    int rc = load(d, e);
    if (rc != 0) {
        dead_close(d);
        return rc;
    }
    *ret = d;
    return 0;
}

static void
grave_free(struct grave *g)
{
    for (size_t i = 0; i < g->n; i++) {
        letter_free(g->letter[i]);
    }
    free(g->letter);
    free(g);
}

void
dead_close(struct dead *d)
{
    if (d == NULL) {
        return;
    }
    for (size_t i = 0; i < d->ngraves; i++) {
        grave_free(d->grave[i]);
    }
    free(d->grave);
    free(d);
}

/* ---- on disk ---- */

static int
del_letter(struct store_txn *t, const char *sink, uint64_t offset, struct err *e)
{
    struct dead_key k = dead_key_of(sink, offset);
    int rc = store_del(t, DEAD_TABLE_LETTERS, dead_key_str(&k), e);
    return rc == 0 ? store_del(t, DEAD_TABLE_RECORDS, dead_key_str(&k), e) : rc;
}

static int
del_matching(
    struct store_txn *t, const struct grave *g, match_f *goes, const void *arg, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; g != NULL && rc == 0 && i < g->n; i++) {
        if (goes(arg, &g->letter[i]->v)) {
            rc = del_letter(t, g->sink, g->letter[i]->v.offset, e);
        }
    }
    return rc;
}

/* The record only changes with `record`: p NULL leaves it, n 0 takes it away. */
static int
put_letter(struct store_txn *t, const char *sink, const struct letter *l, struct str record,
    struct err *e)
{
    struct dead_key k = dead_key_of(sink, l->v.offset);
    int rc = store_put(
        t, DEAD_TABLE_LETTERS, dead_key_str(&k), (struct str){l->value, l->nvalue}, e);
    if (rc != 0 || record.p == NULL) {
        return rc;
    }
    return record.n > 0 ? store_put(t, DEAD_TABLE_RECORDS, dead_key_str(&k), record, e)
                        : store_del(t, DEAD_TABLE_RECORDS, dead_key_str(&k), e);
}

/* ---- burying ---- */

/* Letters that a whole record of the same key makes useless. */
static bool
is_superseded(const void *arg, const struct dead_letter *v)
{
    const struct api_bury *b = arg;
    return b->is_whole && b->key.n > 0 && v->offset < b->offset && str_eq(v->key, b->key);
}

static bool
is_mark(const struct dead_letter *v)
{
    return v->record_bytes == 0;
}

static int
refuse_full(const char *sink, uint64_t offset, size_t n, uint64_t bytes, struct err *e)
{
    return err_set(e, ERR_REFUSED,
        "sink '%s': its dead letters are full: with the one at offset %" PRIu64
        " they would be %zu of at most %d, with %" PRIu64 " bytes of at most %" PRIu64
        "; it stands until some are retried or discarded: `oneslot dead-letters %s`",
        sink, offset, n, DEAD_LETTERS_MAX, bytes, DEAD_BYTES_MAX, sink);
}

/* Marks count by their bytes alone: or discarding would make no room. */
static int
check_room(const struct grave *g, const char *sink, const struct api_bury *b,
    const struct letter *l, struct err *e)
{
    size_t n = 1;
    uint64_t bytes = letter_bytes(l);
    bool is_roomy = g == NULL || (dead_counts_open(&g->counts) < DEAD_LETTERS_MAX &&
                                     g->counts.bytes + bytes <= DEAD_BYTES_MAX);
    for (size_t i = 0; !is_roomy && i < g->n; i++) {
        const struct letter *other = g->letter[i];
        if (other->v.offset != b->offset && !is_superseded(b, &other->v)) {
            n += !is_mark(&other->v);
            bytes += letter_bytes(other);
        }
    }
    return n <= DEAD_LETTERS_MAX && bytes <= DEAD_BYTES_MAX
               ? 0
               : refuse_full(sink, b->offset, n, bytes, e);
}

static struct dead_letter
view_of(const struct api_bury *b, const struct letter *former, int64_t now_us)
{
    return (struct dead_letter){.offset = b->offset,
        .state = b->state,
        .attempts = former == NULL ? 1 : former->v.attempts + 1,
        .first_us = former == NULL ? now_us : former->v.first_us,
        .last_us = now_us,
        .record_bytes = b->record.n,
        .key = b->key,
        .ns = b->ns,
        .table = b->table,
        .op = b->op,
        .reason = b->reason,
        .former = b->former};
}

static int
write_bury(struct dead *d, const struct grave *g, const char *sink, const struct api_bury *b,
    const struct letter *l, struct err *e)
{
    auto_store_txn struct store_txn *txn = NULL;
    struct str record = {b->record.n > 0 ? b->record.p : "", b->record.n};
    uint64_t touched = beside_touched(d->bs, count_matching(g, is_superseded, b));
    int rc = beside_begin(d->bs, touched + b->record.n + l->nvalue, &txn, e);
    if (rc == 0) {
        rc = del_matching(txn, g, is_superseded, b, e);
    }
    if (rc == 0) {
        rc = put_letter(txn, sink, l, record, e);
    }
    return rc == 0 ? store_commit(take_ptr(&txn), e) : rc;
}

static int
bury(struct dead *d, const char *sink, const struct api_bury *b, int64_t now_us, struct err *e)
{
    struct grave *g = find_grave(d, sink);
    struct dead_letter v = view_of(b, find_letter(g, b->offset), now_us);
    struct letter *l;
    int rc = letter_from(d->bs, &v, &l, e);
    if (rc != 0) {
        return rc;
    }
    rc = check_room(g, sink, b, l, e);
    if (rc == 0) {
        rc = write_bury(d, g, sink, b, l, e);
    }
    if (rc != 0) {
        letter_free(l);
        return rc;
    }
    g = need_grave(d, sink);
    (void)drop_matching(g, is_superseded, b);
    keep(g, l);
    return 0;
}

int
dead_bury(
    struct dead *d, const char *sink, const struct api_bury *b, int64_t now_us, struct err *e)
{
    bool is_mark = b->state == API_LETTER_REREAD;
    if (b->state != API_LETTER_DEAD && !is_mark) {
        return err_set(e, ERR_PARSE, "a letter is buried as dead or reread, not as %s",
            api_letter_state_name(b->state));
    }
    bool needs_key = is_mark || b->former.n > 0;
    if (is_mark != (b->record.n == 0) || b->key.n > API_KEY_MAX || b->former.n > API_KEY_MAX ||
        (needs_key && b->key.n == 0)) {
        return err_set(e, ERR_PARSE,
            "a dead letter has its record, a mark has none, but a key; a key change has both; "
            "keys have at most %d bytes",
            API_KEY_MAX);
    }
    (void)pthread_mutex_lock(&d->bs->lock);
    int rc = bury(d, sink, b, now_us, e);
    (void)pthread_mutex_unlock(&d->bs->lock);
    return rc;
}

/* ---- going ---- */

static bool
is_raised(const void *arg, const struct dead_letter *v)
{
    const struct api_raise *r = arg;
    if (r->key.n == 0) {
        return v->offset == r->offset;
    }
    bool is_its = r->is_prefix
                      ? v->key.n >= r->key.n && memcmp(v->key.p, r->key.p, r->key.n) == 0
                      : str_eq(v->key, r->key);
    return is_its && v->offset <= r->offset;
}

static bool
is_any(const void *arg, const struct dead_letter *v)
{
    (void)arg;
    (void)v;
    return true;
}

/* Under the lock. Nothing is written where nothing goes. */
static int
remove_matching(struct dead *d, const char *sink, match_f *goes, const void *arg, size_t *ret_n,
    struct err *e)
{
    struct grave *g = find_grave(d, sink);
    size_t n = count_matching(g, goes, arg);
    if (n == 0) {
        *ret_n = 0;
        return 0;
    }
    auto_store_txn struct store_txn *txn = NULL;
    int rc = beside_begin(d->bs, beside_touched(d->bs, n), &txn, e);
    if (rc == 0) {
        rc = del_matching(txn, g, goes, arg, e);
    }
    if (rc == 0) {
        rc = store_commit(take_ptr(&txn), e);
    }
    if (rc == 0) {
        *ret_n = drop_matching(g, goes, arg);
    }
    return rc;
}

int
dead_raise(
    struct dead *d, const char *sink, const struct api_raise *r, size_t *ret_n, struct err *e)
{
    if (r->is_prefix && r->key.n == 0) {
        return err_set(e, ERR_PARSE, "a prefix of keys is not empty");
    }
    (void)pthread_mutex_lock(&d->bs->lock);
    int rc = remove_matching(d, sink, is_raised, r, ret_n, e);
    (void)pthread_mutex_unlock(&d->bs->lock);
    return rc;
}

int
dead_forget(struct dead *d, const char *sink, struct err *e)
{
    size_t n;
    (void)pthread_mutex_lock(&d->bs->lock);
    int rc = remove_matching(d, sink, is_any, NULL, &n, e);
    (void)pthread_mutex_unlock(&d->bs->lock);
    return rc;
}

/* ---- a person's word ---- */

/* The letters that are meant, or why not; *ret is owned. */
static int
choose(const struct grave *g, const uint64_t *ids, size_t n, struct letter ***ret,
    size_t *ret_n, struct err *e)
{
    size_t all = g == NULL ? 0 : g->n;
    if (n > API_LETTERS_MAX) {
        return err_set(e, ERR_TOOBIG, "at most %d letters at a time", API_LETTERS_MAX);
    }
    struct letter **chosen = xcalloc((n == 0 ? all : n) + 1, sizeof(struct letter *));
    size_t k = 0;
    int rc = 0;
    for (size_t i = 0; n == 0 && i < all; i++) {
        if (!is_mark(&g->letter[i]->v)) {
            chosen[k++] = g->letter[i];
        }
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct letter *l = find_letter(g, ids[i]);
        if (l == NULL) {
            rc = err_set(e, ERR_NOTFOUND,
                "there is no dead letter %" PRIu64 "; nothing was done", ids[i]);
        } else if (is_mark(&l->v)) {
            rc = err_set(e, ERR_CONFLICT,
                "letter %" PRIu64 " is %s: only a mark is left of it; nothing was done", ids[i],
                api_letter_state_name(l->v.state));
        } else {
            chosen[k++] = l;
        }
    }
    if (rc != 0) {
        free(chosen);
        return rc;
    }
    *ret = chosen;
    *ret_n = k;
    return 0;
}

/* One letter into its new state: *ret_new, or NULL where it goes altogether. */
static int
change_one(struct dead *d, struct store_txn *t, const char *sink, const struct letter *l,
    uint8_t to, struct letter **ret_new, struct err *e)
{
    struct dead_letter v = l->v;
    bool is_given_up = to == API_LETTER_DISCARDED;
    *ret_new = NULL;
    if (is_given_up && v.key.n == 0) {
        return del_letter(t, sink, v.offset, e);
    }
    v.state = to;
    v.record_bytes = is_given_up ? 0 : v.record_bytes;
    int rc = letter_from(d->bs, &v, ret_new, e);
    return rc == 0 ? put_letter(t, sink, *ret_new, (struct str){is_given_up ? "" : NULL, 0}, e)
                   : rc;
}

static bool
is_gone(const void *arg, const struct dead_letter *v)
{
    (void)arg;
    return ((const struct letter *)(const void *)v)->is_gone;
}

/* fresh[i] stands for chosen[i]; NULL: it went. */
static void
adopt(struct grave *g, struct letter **chosen, struct letter **fresh, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (fresh[i] == NULL) {
            chosen[i]->is_gone = true;
        } else {
            keep(g, take_ptr(&fresh[i]));
        }
    }
    (void)drop_matching(g, is_gone, NULL);
}

/* Those that are in the state already are left out. */
static size_t
without_state(struct letter **chosen, size_t n, uint8_t state)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        bool is_twice = false;
        for (size_t k = 0; k < kept && n <= API_LETTERS_MAX; k++) {
            is_twice = is_twice || chosen[k] == chosen[i];
        }
        if (chosen[i]->v.state != state && !is_twice) {
            chosen[kept++] = chosen[i];
        }
    }
    return kept;
}

static int
change_all(struct dead *d, struct grave *g, struct letter **chosen, size_t n, uint8_t to,
    struct err *e)
{
    struct letter **fresh = xcalloc(n, sizeof(struct letter *));
    auto_store_txn struct store_txn *txn = NULL;
    int rc = beside_begin(d->bs, beside_touched(d->bs, n), &txn, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = change_one(d, txn, g->sink, chosen[i], to, &fresh[i], e);
    }
    if (rc == 0) {
        rc = store_commit(take_ptr(&txn), e);
    }
    if (rc == 0) {
        adopt(g, chosen, fresh, n);
    }
    for (size_t i = 0; i < n; i++) {
        if (fresh[i] != NULL) {
            letter_free(fresh[i]);
        }
    }
    free(fresh);
    return rc;
}

int
dead_check(struct dead *d, const char *sink, const uint64_t *ids, size_t n, struct err *e)
{
    struct letter **chosen = NULL;
    size_t k;
    (void)pthread_mutex_lock(&d->bs->lock);
    int rc = choose(find_grave(d, sink), ids, n, &chosen, &k, e);
    (void)pthread_mutex_unlock(&d->bs->lock);
    free(chosen);
    return rc;
}

static int
change(struct dead *d, const char *sink, const uint64_t *ids, size_t n, uint8_t to,
    size_t *ret_n, struct err *e)
{
    struct letter **chosen = NULL;
    size_t k = 0;
    (void)pthread_mutex_lock(&d->bs->lock);
    struct grave *g = find_grave(d, sink);
    int rc = choose(g, ids, n, &chosen, &k, e);
    if (rc == 0) {
        k = without_state(chosen, k, to);
        rc = k > 0 ? change_all(d, g, chosen, k, to, e) : 0;
    }
    (void)pthread_mutex_unlock(&d->bs->lock);
    free(chosen);
    if (rc == 0) {
        *ret_n = k;
    }
    return rc;
}

int
dead_retry(struct dead *d, const char *sink, const uint64_t *ids, size_t n, size_t *ret_n,
    struct err *e)
{
    return change(d, sink, ids, n, API_LETTER_RETRY, ret_n, e);
}

int
dead_discard(struct dead *d, const char *sink, const uint64_t *ids, size_t n, size_t *ret_n,
    struct err *e)
{
    return change(d, sink, ids, n, API_LETTER_DISCARDED, ret_n, e);
}

/* ---- looking ---- */

void
dead_counts(struct dead *d, const char *sink, struct dead_counts *ret)
{
    (void)pthread_mutex_lock(&d->bs->lock);
    const struct grave *g = find_grave(d, sink);
    *ret = g == NULL ? (struct dead_counts){0} : g->counts;
    (void)pthread_mutex_unlock(&d->bs->lock);
}

size_t
dead_counts_open(const struct dead_counts *c)
{
    return c->by_state[API_LETTER_DEAD] + c->by_state[API_LETTER_RETRY];
}

void
dead_walk(struct dead *d, const char *sink, uint64_t after, dead_letter_f *fn, void *arg)
{
    (void)pthread_mutex_lock(&d->bs->lock);
    const struct grave *g = find_grave(d, sink);
    size_t i = g == NULL || after == UINT64_MAX ? 0 : index_of(g, after + 1);
    bool more = g != NULL && after < UINT64_MAX;
    for (; more && i < g->n; i++) {
        more = fn(arg, &g->letter[i]->v);
    }
    (void)pthread_mutex_unlock(&d->bs->lock);
}

static int
read_record(struct dead *d, const char *sink, uint64_t offset, struct buf *to, struct err *e)
{
    auto_store_txn struct store_txn *txn = NULL;
    struct dead_key k = dead_key_of(sink, offset);
    struct str v;
    int rc = store_begin(d->bs->store, false, &txn, e);
    if (rc == 0) {
        rc = store_get(txn, DEAD_TABLE_RECORDS, dead_key_str(&k), &v, e);
    }
    if (rc == 0) {
        buf_put_str(to, v);
        rc = buf_ok(to) ? 0 : err_set(e, ERR_TOOBIG, "the record of a letter is too large");
    }
    return rc == ERR_NOTFOUND
               ? err_set(e, rc, "sink '%s' has no dead letter with a record at offset %" PRIu64,
                     sink, offset)
               : rc;
}

int
dead_record(struct dead *d, const char *sink, uint64_t offset, struct buf *to, struct err *e)
{
    (void)pthread_mutex_lock(&d->bs->lock);
    int rc = read_record(d, sink, offset, to, e);
    (void)pthread_mutex_unlock(&d->bs->lock);
    return rc;
}
