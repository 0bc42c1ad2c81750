/* reread: see reread.h. One lock for the handover; `stage` is also read without it, by the
 * stream's loop. */
#include "replicator/reread.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "broker/client/client.h"
#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "proto/base/cond.h"
#include "proto/base/log.h"
#include "proto/base/sig.h"
#include "proto/base/xmalloc.h"

enum {
    POLL_MS = 500,
    BROKER_RETRY_MS = 2000,
    HOLD_WAIT_MS = 5000, /* for the stream to be quiet; then asked again later */
    FLUSH_MS = 1000,
    CHUNK_REQUESTS = 200,
    CHUNK_KEY_BYTES = 1024 * 1024,
    CHUNK_BYTES_MAX = 1024 * 1024 * 1024, /* more is read row by row */
    TABLES = 64,                          /* whose failures are remembered */
    DELAY_MIN_MS = 250,
    DELAY_MAX_MS = 5 * 1000,
    DELAY_AUTH_MS = 15 * 1000,
    SHOW_AFTER = 5, /* failures of a table in a row that only need time */
    REPEAT_LOG_MS = 60 * 1000
};

/* What happened to the requests of a table lately. */
struct table {
    struct str ns, name; /* owned copies; ns.p NULL: free */
    int64_t until_ms, delay_ms, logged_ms;
    unsigned failures;
    unsigned singly;          /* so many requests one at a time: one of several fails */
    char error[API_TEXT_MAX]; /* to be shown, or empty */
};

struct reread {
    struct reread_conf conf;
    struct client *client;
    struct rowread *rows;
    int quit_fd, event_fd;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    atomic_int stage;
    bool stops;            /* this and the next three under the lock */
    uint64_t tail;         /* at HELD */
    enum xids_verdict why; /* with REFUSED */
    struct rowread_chunk chunk;
    /* of the thread alone */
    struct api_reread *requests;
    int nrequests;
    struct table tables[TABLES];
};

/* Requests of one table with the same key columns: what is read at once. */
struct batch {
    const struct api_reread *r[CHUNK_REQUESTS];
    size_t n;
    struct table *table;
    uint64_t tail;
};

/* ---- the handover, thread's side ---- */

static void
wake_stream(const struct reread *r)
{
    uint64_t one = 1;
    (void)!write(r->event_fd, &one, sizeof one);
}

/* From one stage to another; false when it was not in that one. */
static bool
move(struct reread *r, enum reread_stage from, enum reread_stage to)
{
    (void)pthread_mutex_lock(&r->lock);
    bool is_moved = atomic_load(&r->stage) == (int)from;
    if (is_moved) {
        atomic_store(&r->stage, (int)to);
        (void)pthread_cond_broadcast(&r->changed);
    }
    (void)pthread_mutex_unlock(&r->lock);
    return is_moved;
}

/* Until the stage is another one, the thread is to end, or until_ms (0: no limit). */
static enum reread_stage
wait_while(struct reread *r, enum reread_stage stage, int64_t until_ms)
{
    (void)pthread_mutex_lock(&r->lock);
    while (atomic_load(&r->stage) == (int)stage && !r->stops) {
        if (until_ms == 0) {
            (void)pthread_cond_wait(&r->changed, &r->lock);
        } else if (!cond_wait_until(&r->changed, &r->lock, until_ms)) {
            break;
        }
    }
    enum reread_stage now = (enum reread_stage)atomic_load(&r->stage);
    (void)pthread_mutex_unlock(&r->lock);
    return now;
}

static int
want_hold(struct reread *r, uint64_t *ret_tail, struct err *e)
{
    CHECK(move(r, REREAD_IDLE, REREAD_WANTED));
    wake_stream(r);
    (void)wait_while(r, REREAD_WANTED, clock_mono_ms() + HOLD_WAIT_MS);
    if (move(r, REREAD_WANTED, REREAD_IDLE)) {
        wake_stream(r);
        return err_set(e, ERR_BUSY, "a large transaction is being read; tried again");
    }
    *ret_tail = r->tail;
    return 0;
}

static void
release(struct reread *r)
{
    (void)move(r, REREAD_HELD, REREAD_IDLE);
    wake_stream(r);
}

/* The stream takes the chunk; 0 once its rows are durable. */
static int
hand_over(struct reread *r, struct rowread_chunk *c, struct err *e)
{
    r->chunk = *c;
    if (!move(r, REREAD_HELD, REREAD_READ)) {
        return err_set(
            e, ERR_TIMEOUT, "reading rows took longer than the stream may wait; tried again");
    }
    wake_stream(r);
    enum reread_stage stage = wait_while(r, REREAD_READ, 0);
    if (stage == REREAD_APPENDED) {
        stage = wait_while(r, REREAD_APPENDED, 0);
    }
    if (stage == REREAD_REFUSED) {
        enum xids_verdict why = r->why;
        CHECK(move(r, REREAD_REFUSED, REREAD_IDLE));
        return err_set(e, ERR_BUSY, "%s; tried again",
            why == XIDS_HIDDEN
                ? "a transaction that is in the log is not visible to others yet (does it wait "
                  "for a synchronous standby?)"
                : "a transaction that is older than this connection is still open, and may be "
                  "in the log already");
    }
    if (stage != REREAD_DURABLE) {
        return err_set(e, ERR_STOPPING, "stopping");
    }
    CHECK(move(r, REREAD_DURABLE, REREAD_IDLE));
    return 0;
}

/* ---- tables that fail ---- */

static struct str
copy(struct str s)
{
    char *p = xcalloc(1, s.n + 1);
    if (s.n > 0) {
        memcpy(p, s.p, s.n);
    }
    return (struct str){p, s.n};
}

static void
table_fini(struct table *t)
{
    free((void *)(uintptr_t)t->ns.p);
    free((void *)(uintptr_t)t->name.p);
    *t = (struct table){0};
}

static struct table *
find_table(struct reread *r, const struct api_reread *q)
{
    for (size_t i = 0; i < TABLES; i++) {
        struct table *t = &r->tables[i];
        if (t->ns.p != NULL && str_eq(t->ns, q->ns) && str_eq(t->name, q->table)) {
            return t;
        }
    }
    return NULL;
}

/* In the place of the one that may be tried first: it has the least to be remembered for. */
static struct table *
add_table(struct reread *r, const struct api_reread *q)
{
    struct table *t = &r->tables[0];
    for (size_t i = 1; i < TABLES && t->ns.p != NULL; i++) {
        if (r->tables[i].ns.p == NULL || r->tables[i].until_ms < t->until_ms) {
            t = &r->tables[i];
        }
    }
    table_fini(t);
    t->ns = copy(q->ns);
    t->name = copy(q->table);
    return t;
}

static void
log_failure(struct table *t, const struct err *e)
{
    int64_t now_ms = clock_mono_ms();
    if (t->logged_ms != 0 && now_ms - t->logged_ms < REPEAT_LOG_MS) {
        return;
    }
    t->logged_ms = now_ms;
    log_warn("reread_failed", "schema=%s table=%s code=%s msg=%s retry_ms=%" PRId64,
        log_quote_str(t->ns), log_quote_str(t->name), err_name(e->code), log_quote(e->msg),
        t->delay_ms);
}

static bool
needs_person(int code)
{
    enum err_class class = err_class(code);
    return class == ERR_CLASS_STOP || class == ERR_CLASS_REJECT;
}

static void
note_failure(struct table *t, const struct err *e)
{
    int64_t next_ms = t->delay_ms == 0 ? DELAY_MIN_MS : 2 * t->delay_ms;
    t->delay_ms = next_ms > DELAY_MAX_MS ? DELAY_MAX_MS : next_ms;
    if (needs_person(e->code)) {
        t->delay_ms = DELAY_AUTH_MS;
    }
    t->until_ms = clock_mono_ms() + t->delay_ms;
    t->failures++;
    if (needs_person(e->code) || t->failures >= SHOW_AFTER) {
        (void)snprintf(t->error, sizeof t->error, "%.*s.%.*s: %s", (int)t->ns.n, t->ns.p,
            (int)t->name.n, t->name.p, e->msg);
        log_failure(t, e);
    } else {
        log_debug("reread_delayed", "msg=%s", log_quote(e->msg));
    }
}

static void
note_success(struct table *t)
{
    t->until_ms = t->delay_ms = t->logged_ms = 0;
    t->failures = 0;
    t->singly -= t->singly > 0;
    t->error[0] = '\0';
}

/* What /lag says: of the first request whose table cannot be read. */
static void
show_error(struct reread *r)
{
    for (int i = 0; i < r->nrequests; i++) {
        const struct table *t = find_table(r, &r->requests[i]);
        if (t != NULL && t->error[0] != '\0') {
            monitor_set_reread(r->conf.monitor, t->error);
            return;
        }
    }
    monitor_set_reread(r->conf.monitor, NULL);
}

/* ---- choosing ---- */

static bool
is_alike(const struct api_reread *a, const struct api_reread *b)
{
    if (!str_eq(a->ns, b->ns) || !str_eq(a->table, b->table) || a->nkeys != b->nkeys) {
        return false;
    }
    for (uint32_t i = 0; i < a->nkeys; i++) {
        if (!str_eq(a->key[i].name, b->key[i].name)) {
            return false;
        }
    }
    return true;
}

static size_t
key_bytes(const struct api_reread *q)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < q->nkeys; i++) {
        bytes += q->key[i].name.n + q->key[i].text.n + 256;
    }
    return bytes;
}

/* The oldest request whose table is not waiting, and others like it. False: none. */
static bool
choose(struct reread *r, struct batch *ret)
{
    int64_t now_ms = clock_mono_ms();
    size_t bytes = 0;
    *ret = (struct batch){0};
    for (int i = 0; i < r->nrequests && ret->n < CHUNK_REQUESTS && bytes < CHUNK_KEY_BYTES;
         i++) {
        const struct api_reread *q = &r->requests[i];
        if (ret->n > 0 && !is_alike(ret->r[0], q)) {
            continue;
        }
        if (ret->n == 0) {
            struct table *t = find_table(r, q);
            if (t != NULL && t->until_ms > now_ms) {
                continue;
            }
            ret->table = t;
        }
        ret->r[ret->n++] = q;
        bytes += key_bytes(q);
        if (ret->table != NULL && ret->table->singly > 0) {
            break;
        }
    }
    return ret->n > 0;
}

/* ---- reading ---- */

/* False: a column of the key is gone. */
static bool
put_condition(const struct reread *r, const struct batch *b, struct buf *sql)
{
    for (size_t i = 0; i < b->n; i++) {
        buf_puts(sql, i == 0 ? "(" : ") OR (");
        for (uint32_t j = 0; j < b->r[i]->nkeys; j++) {
            buf_puts(sql, j == 0 ? "" : " AND ");
            if (!rowread_put_equal(r->rows, sql, b->r[i]->key[j].name, b->r[i]->key[j].text)) {
                return false;
            }
        }
    }
    buf_puts(sql, ")");
    return b->r[0]->nkeys > 0;
}

static int
read_in_transaction(
    struct reread *r, const struct batch *b, struct rowread_chunk *c, struct err *e)
{
    auto_buf struct buf condition;
    buf_init(&condition, 8 * CHUNK_KEY_BYTES);
    int rc = 0;
    if (!c->is_gone && put_condition(r, b, &condition)) {
        if (!buf_ok(&condition)) { /* a NUL, which no PostgreSQL text has */
            rowread_end(r->rows);
            return err_set(e, ERR_PARSE, "a key that is no text of PostgreSQL");
        }
        rc = rowread_rows(r->rows, buf_str(&condition), c, e);
    } else {
        c->is_whole = true;
    }
    if (rc == 0) {
        rc = rowread_wait_flushed(r->rows, FLUSH_MS, e);
    }
    if (rc == 0) {
        rowread_end(r->rows);
        if (c->bytes > CHUNK_BYTES_MAX && b->n > 1) {
            rc = err_set(e, ERR_TOOBIG, "rows of more than 1 GiB at once");
        }
    }
    return rc;
}

static int
read_chunk(struct reread *r, const struct batch *b, struct rowread_chunk *ret, struct err *e)
{
    struct rowread_chunk c = {0};
    int rc = rowread_begin(r->rows, b->r[0]->ns, b->r[0]->table, &c, e);
    if (rc == 0) {
        rc = read_in_transaction(r, b, &c, e);
    }
    if (rc != 0) {
        rowread_chunk_fini(&c);
        return rc;
    }
    *ret = c;
    return 0;
}

/* ---- what came of it ---- */

static bool
is_row_of(const struct rowread_chunk *c, const struct pgrows *rows, size_t i,
    const struct api_reread *q)
{
    const struct schema *s = &c->rel->schema;
    for (uint32_t k = 0; k < q->nkeys; k++) {
        for (uint32_t j = 0; j < s->ncols; j++) {
            if (str_eq(s->cols[j].name, q->key[k].name) &&
                !str_eq(pgrows_str(rows, i, j), q->key[k].text)) {
                return false;
            }
        }
    }
    return true;
}

static bool
has_row(const struct rowread_chunk *c, const struct batch *b, const struct api_reread *q)
{
    if (b->n == 1) { /* whatever its text is: a collation may find "a" as "A" */
        return c->nrows > 0;
    }
    for (unsigned part = 0; part < c->nparts; part++) {
        for (size_t i = 0; i < pgrows_count(c->part[part]); i++) {
            if (is_row_of(c, c->part[part], i, q)) {
                return true;
            }
        }
    }
    return false;
}

/* Returns how many requests are answered. */
static size_t
answers(const struct rowread_chunk *c, const struct batch *b, struct api_reread_done *ret)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++) {
        bool is_there = has_row(c, b, b->r[i]);
        if (is_there || c->is_whole) {
            ret[n++] = (struct api_reread_done){
                .id = b->r[i]->id, .read_at = b->tail, .is_gone = !is_there};
        }
    }
    return n;
}

/* Reads, appends, answers. */
static int
serve(struct reread *r, struct batch *b, size_t *ret_answered, struct err *e)
{
    struct api_reread_done done[CHUNK_REQUESTS];
    int rc = rowread_connect(r->rows, e);
    if (rc == 0) {
        rc = want_hold(r, &b->tail, e);
    }
    if (rc != 0) {
        return rc;
    }
    struct rowread_chunk c;
    rc = read_chunk(r, b, &c, e);
    if (rc != 0) {
        release(r);
        return rc;
    }
    size_t n = answers(&c, b, done), nrows = c.nrows;
    rc = hand_over(r, &c, e);
    r->chunk = (struct rowread_chunk){0};
    rowread_chunk_fini(&c);
    if (rc == 0 && n > 0) {
        rc = client_rereads_done(r->client, done, n, e);
    }
    if (rc == 0) {
        log_info("rows_read_again", "schema=%s table=%s requests=%zu rows=%zu answered=%zu",
            log_quote_str(b->r[0]->ns), log_quote_str(b->r[0]->table), b->n, nrows, n);
        *ret_answered = n;
    }
    return rc;
}

/* A key that the column's type does not take cannot be in the table. */
static int
answer_impossible(struct reread *r, const struct batch *b, struct err *e)
{
    struct api_reread_done done = {.id = b->r[0]->id, .read_at = b->tail, .is_gone = true};
    log_warn("reread_impossible",
        "schema=%s table=%s sqlstate=%s msg=\"the table cannot hold a row of that key any "
        "more\"",
        log_quote_str(b->r[0]->ns), log_quote_str(b->r[0]->table), rowread_sqlstate(r->rows));
    return client_rereads_done(r->client, &done, 1, e);
}

static bool
is_data_error(const struct reread *r)
{
    return strncmp(rowread_sqlstate(r->rows), "22", 2) == 0;
}

static void
on_failure(struct reread *r, struct batch *b, int rc, struct err *e)
{
    if (rc == ERR_STOPPING) {
        return;
    }
    if (b->table == NULL) {
        b->table = add_table(r, b->r[0]);
    }
    bool is_of_one = is_data_error(r) || rc == ERR_TOOBIG || rc == ERR_PARSE ||
                     strcmp(rowread_sqlstate(r->rows), "57014") == 0;
    if (b->n > 1 && is_of_one) {
        b->table->singly = CHUNK_REQUESTS;
        log_debug("reread_singly", "msg=%s", log_quote(e->msg));
        return;
    }
    if (b->n == 1 && is_data_error(r) && answer_impossible(r, b, e) == 0) {
        return;
    }
    note_failure(b->table, e);
}

static bool
serve_and_note(struct reread *r, struct batch *b)
{
    struct err e = {0};
    size_t answered = 0;
    int rc = serve(r, b, &answered, &e);
    if (rc != 0) {
        on_failure(r, b, rc, &e);
    } else if (answered == 0) {
        if (b->table == NULL) {
            b->table = add_table(r, b->r[0]);
        }
        b->table->singly = CHUNK_REQUESTS;
    } else if (b->table != NULL) {
        note_success(b->table);
    }
    return rc == 0;
}

/* ---- the thread ---- */

/* False once it is to end. */
static bool
pause_for(struct reread *r, int64_t ms)
{
    int64_t until_ms = clock_mono_ms() + ms;
    (void)pthread_mutex_lock(&r->lock);
    while (!r->stops && cond_wait_until(&r->changed, &r->lock, until_ms)) {}
    bool goes_on = !r->stops;
    (void)pthread_mutex_unlock(&r->lock);
    return goes_on;
}

/* Past pages full of tables that wait. 1: *ret is to be served; 0: nothing. */
static int
find_batch(struct reread *r, struct batch *ret, struct err *e)
{
    uint64_t after = 0;
    do {
        int n = client_rereads(r->client, after, r->requests, API_LETTERS_MAX, e);
        r->nrequests = n < 0 ? 0 : n;
        if (n < 0) {
            return n;
        }
        if (after == 0) {
            show_error(r);
        }
        if (choose(r, ret)) {
            return 1;
        }
        after = n > 0 ? r->requests[n - 1].id : 0;
    } while (r->nrequests == API_LETTERS_MAX && pause_for(r, 0));
    return 0;
}

static void *
run(void *arg)
{
    struct reread *r = arg;
    int64_t wait_ms = 0;
    while (pause_for(r, wait_ms)) {
        struct batch b;
        struct err e = {0};
        int rc = find_batch(r, &b, &e);
        if (rc < 0) {
            log_debug("rereads_unknown", "msg=%s", log_quote(e.msg));
            wait_ms = BROKER_RETRY_MS;
        } else if (rc == 0) {
            wait_ms = POLL_MS;
        } else {
            /* The stream has as much time for itself as it was held up, at least, whatever came
             * of it. */
            int64_t began_ms = clock_mono_ms();
            bool is_served = serve_and_note(r, &b);
            wait_ms = clock_mono_ms() - began_ms;
            wait_ms = is_served || wait_ms > POLL_MS ? wait_ms : POLL_MS;
        }
    }
    return NULL;
}

/* ---- life ---- */

static void
free_reread(struct reread *r)
{
    for (size_t i = 0; i < TABLES; i++) {
        table_fini(&r->tables[i]);
    }
    rowread_free(r->rows);
    client_free(r->client);
    (void)pthread_mutex_destroy(&r->lock);
    (void)pthread_cond_destroy(&r->changed);
    if (r->quit_fd >= 0) {
        (void)close(r->quit_fd);
    }
    if (r->event_fd >= 0) {
        (void)close(r->event_fd);
    }
    free(r->requests);
    free(r);
}

static int
start(struct reread *r, struct err *e)
{
    r->quit_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    r->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (r->quit_fd < 0 || r->event_fd < 0) {
        return err_set_sys(e, ERR_IO, errno, "eventfd");
    }
    struct rowread_conf rc = {
        .plain = r->conf.plain, .publication = r->conf.publication, .stop_fd = r->quit_fd};
    struct client_conf cc = {.unix_path = r->conf.socket, .should_stop = sig_stop_requested};
    r->rows = rowread_new(&rc);
    r->client = client_new(&cc);
    int sys = pthread_create(&r->thread, NULL, run, r);
    return sys == 0 ? 0 : err_set_sys(e, ERR_IO, sys, "cannot start the reading thread");
}

int
reread_open(const struct reread_conf *c, struct reread **ret, struct err *e)
{
    struct reread *r = xcalloc(1, sizeof *r);
    r->conf = *c;
    r->quit_fd = r->event_fd = -1;
    r->requests = xcalloc(API_LETTERS_MAX, sizeof *r->requests);
    CHECK(pthread_mutex_init(&r->lock, NULL) == 0);
    cond_init(&r->changed);
    int rc = start(r, e);
    if (rc != 0) {
        free_reread(r);
        return rc;
    }
    *ret = r;
    return 0;
}

void
reread_close(struct reread *r)
{
    if (r == NULL) {
        return;
    }
    uint64_t one = 1;
    (void)!write(r->quit_fd, &one, sizeof one);
    (void)pthread_mutex_lock(&r->lock);
    r->stops = true;
    (void)pthread_cond_broadcast(&r->changed);
    (void)pthread_mutex_unlock(&r->lock);
    (void)pthread_join(r->thread, NULL);
    monitor_set_reread(r->conf.monitor, NULL);
    free_reread(r);
}

/* ---- the handover, stream's side ---- */

int
reread_fd(const struct reread *r)
{
    return r->event_fd;
}

enum reread_stage
reread_stage(const struct reread *r)
{
    return (enum reread_stage)atomic_load_explicit(&r->stage, memory_order_acquire);
}

bool
reread_hold(struct reread *r, uint64_t tail)
{
    r->tail = tail; /* read by the thread only after the move */
    return move(r, REREAD_WANTED, REREAD_HELD);
}

void
reread_revoke(struct reread *r)
{
    (void)move(r, REREAD_HELD, REREAD_IDLE);
}

const struct rowread_chunk *
reread_chunk(const struct reread *r)
{
    return &r->chunk;
}

void
reread_answer(struct reread *r, enum reread_stage to, enum xids_verdict why)
{
    enum reread_stage from = reread_stage(r);
    CHECK(from == REREAD_READ || (from == REREAD_APPENDED && to == REREAD_DURABLE));
    r->why = why; /* read by the thread only after the move */
    CHECK(move(r, from, to));
}
