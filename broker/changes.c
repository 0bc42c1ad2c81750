/* changes: see changes.h. One struct changes per answer, owned by its request; its fields are
 * touched by the request's pool thread only, and by that thread never between watch_add and its
 * next call. */
#include "broker/changes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/changes_query.h"
#include "broker/problem.h"
#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "proto/base/xmalloc.h"
#include "proto/record_json.h"

enum {
    CHANGES_MAGIC = 0x6f73c4a5,
    KEEP_ALIVE_MS =
        15 * 1000, /* after so much silence: a comment (SSE), and is it still there */
    /* Work of one call: a reader whose filter matches little must not keep a pool thread. */
    COST_MAX = 8 * 1024 * 1024,
    RECORD_COST = 64,
    /* Rendered at once, at most: larger pieces (measured with 256 KiB of buffer) leave the
     * cache before the kernel takes them and wait longer for the client, a fifth slower. */
    PIECE_BYTES = 128 * 1024
};
/* One record rendered, at worst: every byte escaped. */
#define OVERFLOW_MAX (6 * (size_t)FRAME_MAX_PAYLOAD + ((size_t)64 << 20))

struct changes {
    unsigned magic;
    struct broker *bk;
    struct httpd_req *rq;
    struct changes_query q;
    struct changes_bound bound;
    uint64_t next; /* the first offset not looked at */
    uint64_t end;  /* ends here; UINT64_MAX when following */
    uint64_t emitted;
    int64_t wait_until_ms; /* while nothing was emitted */
    int64_t keep_alive_ms; /* when to say that we live; 0: not silent */
    bool is_done;          /* limit or until is reached */
    bool has_failed;       /* to be broken off */
    bool has_txn;          /* txn: the last one looked at */
    struct record_txn txn; /* without its origin */
    struct record_decoder decoder;
    struct buf out;      /* over the connection's own memory, during a call */
    size_t cost;         /* of this call */
    struct buf overflow; /* a record larger than that memory, going out piecewise */
    size_t overflow_at;
    bool is_waiting;
    struct watcher watcher;
};

/* ---- rendering ---- */

static void
render(enum changes_format format, struct buf *b, const struct record *r)
{
    switch (format) {
    case CHANGES_SSE:
        buf_puts(b, "id: ");
        json_put_u64(b, r->offset);
        buf_puts(b, "\ndata: ");
        record_json_put(b, r);
        buf_puts(b, "\n\n");
        return;
    case CHANGES_MSGPACK:
        record_msgpack_put(b, r);
        return;
    case CHANGES_NDJSON:
    default:
        record_json_put(b, r);
        buf_putc(b, '\n');
        return;
    }
}

/* SEGMENT_STOP when the buffer is full: the record comes again in the next call. */
static int
emit(struct changes *c, const struct record *r, struct err *e)
{
    size_t before = c->out.n;
    render(c->q.format, &c->out, r);
    if (!buf_ok(&c->out)) {
        c->out.failed = false;
        c->out.n = before;
        if (before > 0) {
            return SEGMENT_STOP;
        }
        render(c->q.format, &c->overflow, r);
        if (!buf_ok(&c->overflow)) {
            return err_set(
                e, ERR_TOOBIG, "the record at offset %" PRIu64 " is too large", r->offset);
        }
    }
    c->emitted++;
    c->is_done = c->emitted == c->q.limit;
    return 0;
}

static int
decode_and_emit(struct changes *c, const struct record_txn *t, const struct schema *s,
    uint64_t offset, struct str whole, struct err *e)
{
    struct frame f;
    struct record r;
    size_t at = 0;
    int rc = frame_next(whole, &at, false, &f, e); /* the journal has verified it */
    if (rc == 0) {
        rc = record_decode(&c->decoder, &f, s, t, offset, &r, e);
    }
    return rc == 0 ? emit(c, &r, e) : rc;
}

/* The transaction changes: does it still belong to the answer? */
static bool
enter_txn(struct changes *c, const struct record_txn *t)
{
    if (changes_is_beyond(&c->bound, t)) {
        c->is_done = true;
        return false;
    }
    c->txn = *t;
    c->txn.origin = STR("");
    c->has_txn = true;
    return true;
}

static int
on_record(void *arg, const struct record_txn *t, const struct schema *s, uint64_t offset,
    struct str whole, struct err *e)
{
    struct changes *c = arg;
    if (c->is_done || c->overflow.n > 0 || c->cost >= COST_MAX) {
        return SEGMENT_STOP;
    }
    if ((!c->has_txn || t->first_offset != c->txn.first_offset) && !enter_txn(c, t)) {
        return SEGMENT_STOP;
    }
    c->cost += whole.n + RECORD_COST;
    if (!filter_wants(&c->q.filter, (uint8_t)whole.p[8], s)) {
        return 0;
    }
    return decode_and_emit(c, t, s, offset, whole, e);
}

/* ---- a piece ---- */

static void
fail(struct changes *c, const struct err *e)
{
    c->has_failed = true;
    atomic_fetch_add(&c->bk->readers.broken, 1);
    log_err(LOG_ERROR, "changes_broken_off", e, "the reader's answer was cut off");
}

/* Reads on while nothing was rendered and there is something to look at, within the bounds of
 * one call. */
static void
read_on(struct changes *c)
{
    struct err e;
    uint64_t before;
    c->cost = 0;
    do {
        before = c->next;
        if (journal_read(c->bk->journal, &c->next, c->end, on_record, c, &e) != 0) {
            fail(c, &e);
            return;
        }
    } while (c->next > before && c->next < c->end && c->out.n == 0 && c->overflow.n == 0 &&
             !c->is_done && c->cost < COST_MAX);
}

static ssize_t
take_overflow(struct changes *c, char *to, size_t max)
{
    size_t left = c->overflow.n - c->overflow_at;
    size_t n = left < max ? left : max;
    memcpy(to, c->overflow.p + c->overflow_at, n);
    c->overflow_at += n;
    if (c->overflow_at == c->overflow.n) {
        buf_reset(&c->overflow, 0);
        c->overflow_at = 0;
    }
    return (ssize_t)n;
}

static void
wake(struct watcher *me)
{
    struct changes *c =
        (struct changes *)(void *)((char *)me - offsetof(struct changes, watcher));
    httpd_resume(c->rq);
}

/* Suspends until the tail is above c->next (at once when it is), or until_ms. */
static ssize_t
wait_for_tail(struct changes *c, int64_t until_ms)
{
    c->is_waiting = true;
    c->watcher = (struct watcher){.wake = wake, .until_ms = until_ms};
    httpd_suspend(c->rq);
    watch_add(c->bk->watch, &c->watcher, c->next);
    return HTTPD_STREAM_WAIT;
}

/* At the end of what is there, and nothing was rendered: is that the end of the answer? A
 * waiting answer's end moves with the tail until there is something. */
static bool
is_over(struct changes *c, int64_t now_ms)
{
    const struct record_txn *t = c->has_txn ? &c->txn : NULL;
    if (c->next < (c->q.is_following ? journal_tail(c->bk->journal) : c->end)) {
        return false;
    }
    if (changes_is_passed(&c->bound, t, c->next)) {
        return true;
    }
    if (c->q.is_following) {
        return false;
    }
    c->end = journal_tail(c->bk->journal);
    return c->emitted > 0 || now_ms >= c->wait_until_ms;
}

/* Nothing was rendered: end, give a sign of life, or let others have the thread. */
static ssize_t
idle(struct changes *c, char *to, size_t max)
{
    static const char sign[] = ": keep-alive\n\n";
    int64_t now_ms = clock_mono_ms();
    if (c->is_done || is_over(c, now_ms)) {
        return HTTPD_STREAM_END;
    }
    if (httpd_is_gone(c->rq)) { /* its slot is wanted by others */
        return HTTPD_STREAM_BREAK;
    }
    if (c->keep_alive_ms == 0) {
        c->keep_alive_ms = now_ms + KEEP_ALIVE_MS;
    }
    if (now_ms >= c->keep_alive_ms) {
        if (c->q.format == CHANGES_SSE && max >= sizeof sign - 1) {
            memcpy(to, sign, sizeof sign - 1);
            return (ssize_t)sizeof sign - 1;
        }
        c->keep_alive_ms = now_ms + KEEP_ALIVE_MS;
    }
    bool ends_first = !c->q.is_following && c->wait_until_ms < c->keep_alive_ms;
    return wait_for_tail(c, ends_first ? c->wait_until_ms : c->keep_alive_ms);
}

static ssize_t
render_piece(struct changes *c, char *to, size_t max)
{
    uint64_t before = c->emitted;
    if (c->overflow.n > 0) {
        return take_overflow(c, to, max);
    }
    if (c->has_failed) {
        return HTTPD_STREAM_BREAK;
    }
    if (c->is_done) {
        return HTTPD_STREAM_END;
    }
    size_t room = max < PIECE_BYTES ? max : PIECE_BYTES;
    c->out = (struct buf){.p = to, .cap = room, .max = room - 1};
    read_on(c);
    atomic_fetch_add(&c->bk->readers.records, c->emitted - before);
    if (c->out.n > 0) {
        return (ssize_t)c->out.n;
    }
    if (c->overflow.n > 0) {
        return take_overflow(c, to, max);
    }
    return c->has_failed ? HTTPD_STREAM_BREAK : idle(c, to, max);
}

static ssize_t
changes_piece(void *state, char *to, size_t max)
{
    struct changes *c = state;
    CHECK_MAGIC(c, CHANGES_MAGIC);
    c->is_waiting = false;
    ssize_t n = render_piece(c, to, max);
    if (n > 0) {
        c->keep_alive_ms = 0;
        atomic_fetch_add(&c->bk->readers.bytes, (uint64_t)n);
    }
    return n;
}

/* ---- beginning and end ---- */

static void
changes_drop(void *state)
{
    struct changes *c = state;
    CHECK_MAGIC(c, CHANGES_MAGIC);
    if (c->is_waiting) {
        (void)watch_remove(c->bk->watch, &c->watcher);
    }
    atomic_fetch_sub(&c->bk->readers.open, 1);
    changes_query_fini(&c->q);
    record_decoder_fini(&c->decoder);
    buf_fini(&c->overflow);
    c->magic = 0;
    free(c);
}

static struct changes_args
get_args(const struct httpd_req *rq)
{
    static const char *const names[CHANGES_NARGS] = {"from", "until", "tables", "ops", "limit",
        "follow", "wait", "format", "Accept", "Last-Event-ID"};
    struct changes_args a = {0};
    for (int i = 0; i < CHANGES_NARGS; i++) {
        a.has[i] = i < CHANGES_ACCEPT ? httpd_query(rq, names[i], &a.v[i])
                                      : httpd_header(rq, names[i], &a.v[i]);
    }
    return a;
}

/* Finds where to begin and to end. The tail is asked last, so that it is not below the start.
 */
static int
resolve(struct changes *c, struct journal_info *ret_info, struct err *e)
{
    struct journal_place from;
    struct journal_place until;
    int rc = journal_find(c->bk->journal, &c->q.from, &from, e);
    if (rc == 0 && c->q.has_until) {
        rc = journal_find(c->bk->journal, &c->q.until, &until, e);
        rc = rc == ERR_BEYOND ? 0 : rc; /* it may come */
    }
    if (rc != 0) {
        return rc;
    }
    journal_info(c->bk->journal, ret_info);
    c->bound = changes_bound_of(&c->q, ret_info);
    c->next = from.offset;
    c->end = c->q.is_following ? UINT64_MAX : ret_info->next;
    c->wait_until_ms = clock_mono_ms() + c->q.wait_ms;
    return 0;
}

static void
add_number(struct httpd_req *rq, const char *name, uint64_t v)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRIu64, v);
    httpd_add_header(rq, name, text);
}

static void
begin(struct changes *c, const struct journal_info *info)
{
    static const char *const types[] = {[CHANGES_NDJSON] = API_NDJSON,
        [CHANGES_SSE] = API_SSE,
        [CHANGES_MSGPACK] = API_MSGPACK};
    add_number(c->rq, "Oneslot-Earliest", info->earliest.offset);
    add_number(c->rq, "Oneslot-Tail", info->next);
    add_number(c->rq, "Oneslot-Epoch", info->epoch);
    httpd_add_header(c->rq, "Cache-Control", "no-store");
    atomic_fetch_add(&c->bk->readers.served, 1);
    httpd_respond_stream(c->rq, 200, types[c->q.format], changes_piece);
}

static bool
take_slot(struct broker *bk, struct httpd_req *rq)
{
    if (atomic_fetch_add(&bk->readers.open, 1) < READERS_MAX) {
        return true;
    }
    atomic_fetch_sub(&bk->readers.open, 1);
    atomic_fetch_add(&bk->readers.refused, 1);
    problem_respond_text(rq, 429,
        "%d readers of /changes are served at a time; try again when one has ended",
        READERS_MAX);
    return false;
}

void
changes_get(struct broker *bk, struct httpd_req *rq, struct str name)
{
    struct changes_args args = get_args(rq);
    struct changes_query q;
    struct journal_info info;
    struct err e;
    (void)name;
    if (changes_query_parse(&args, &q, &e) != 0) {
        problem_respond(rq, &e);
        return;
    }
    if (!take_slot(bk, rq)) {
        changes_query_fini(&q);
        return;
    }
    struct changes *c = xcalloc(1, sizeof *c);
    *c = (struct changes){.magic = CHANGES_MAGIC, .bk = bk, .rq = rq, .q = q};
    buf_init(&c->overflow, OVERFLOW_MAX);
    httpd_set_state(rq, c, changes_drop);
    if (resolve(c, &info, &e) != 0) {
        problem_respond_log(rq, &e, bk->journal);
        return;
    }
    begin(c, &info);
}
