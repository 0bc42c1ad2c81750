/* fetch: see fetch.h. One struct fetch per request, from its first call until the request ends;
 * the handler is called again after each wait. */
#include "broker/fetch.h"

#include <inttypes.h>
#include <stdlib.h>

#include "broker/filter.h"
#include "broker/problem.h"
#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "proto/base/xmalloc.h"
#include "proto/batch.h"

enum {
    FETCH_MAGIC = 0x41d0be57,
    COST_MAX = 16 * 1024 * 1024, /* looked at in one call, whatever the filter leaves of it */
    RECORD_COST = 64,
    /* What a record alone may need beside its frame: its schema, its transaction. */
    LONE_EXTRA = 32 * 1024 * 1024
};

struct fetch {
    unsigned magic;
    struct broker *bk;
    struct httpd_req *rq;
    struct filter filter;
    uint64_t from;
    size_t max;
    int64_t until_ms;
    bool is_waiting;
    struct watcher watcher;
};

/* A batch in the making. */
struct make {
    struct fetch *f;
    struct buf *b;
    struct batch_writer w;
    size_t records, cost;
    bool is_full;
};

/* The first record alone is larger than `max`: it goes alone. */
static bool
add_alone(struct make *m, const struct record_txn *t, const struct schema *s, uint64_t offset,
    struct str whole)
{
    m->b->max = whole.n + LONE_EXTRA;
    m->is_full = true;
    return batch_add(&m->w, t, s, offset, whole);
}

static int
on_record(void *arg, const struct record_txn *t, const struct schema *s, uint64_t offset,
    struct str whole, struct err *e)
{
    struct make *m = arg;
    if (m->is_full || m->cost >= COST_MAX) {
        return SEGMENT_STOP;
    }
    m->cost += whole.n + RECORD_COST;
    if (!filter_wants(&m->f->filter, (uint8_t)whole.p[8], s)) {
        return 0;
    }
    if (!batch_add(&m->w, t, s, offset, whole)) {
        if (m->records > 0) {
            m->is_full = true;
            return SEGMENT_STOP;
        }
        if (!add_alone(m, t, s, offset, whole)) {
            return err_set(
                e, ERR_TOOBIG, "the record at offset %" PRIu64 " fits no batch", offset);
        }
    }
    m->records++;
    return 0;
}

/* Fills b with what there is from f->from on; *ret_next is where the next fetch begins. */
static int
make_batch(
    struct fetch *f, struct buf *b, size_t *ret_records, uint64_t *ret_next, struct err *e)
{
    struct make m = {.f = f, .b = b};
    struct journal_info info;
    uint64_t next = f->from;
    uint64_t before;
    int rc;
    journal_info(f->bk->journal, &info);
    batch_begin(&m.w, b);
    do {
        before = next;
        rc = journal_read(f->bk->journal, &next, info.next, on_record, &m, e);
    } while (rc == 0 && next > before && next < info.next && !m.is_full && m.cost < COST_MAX);
    struct batch_header h = {
        .next_offset = next, .tail_offset = info.next, .epoch = info.epoch};
    batch_end(&m.w, &h);
    /* What lies before a damage is answered; the next fetch begins at it and tells. */
    rc = next > f->from ? 0 : rc;
    if (rc == 0) {
        *ret_records = m.records;
        *ret_next = next;
    }
    return rc;
}

static void
wake(struct watcher *me)
{
    struct fetch *f = (struct fetch *)(void *)((char *)me - offsetof(struct fetch, watcher));
    httpd_resume(f->rq);
}

/* Answers, or waits for the tail to move. */
static void
answer(struct fetch *f)
{
    struct buf auto_buf b;
    struct err e;
    size_t records;
    uint64_t next;
    buf_init(&b, f->max > BATCH_EMPTY ? f->max : BATCH_EMPTY);
    f->is_waiting = false;
    if (make_batch(f, &b, &records, &next, &e) != 0) {
        problem_respond_log(f->rq, &e, f->bk->journal);
        return;
    }
    /* What the filter left out is answered too: the worker's offset moves past it. */
    if (records > 0 || next > f->from || clock_mono_ms() >= f->until_ms) {
        httpd_respond(f->rq, 200, API_MSGPACK, &b);
        return;
    }
    f->is_waiting = true;
    f->watcher = (struct watcher){.wake = wake, .until_ms = f->until_ms};
    httpd_suspend(f->rq);
    watch_add(f->bk->watch, &f->watcher, f->from);
}

static void
fetch_drop(void *state)
{
    struct fetch *f = state;
    CHECK_MAGIC(f, FETCH_MAGIC);
    if (f->is_waiting) {
        (void)watch_remove(f->bk->watch, &f->watcher);
    }
    filter_fini(&f->filter);
    f->magic = 0;
    free(f);
}

static int
parse(struct fetch *f, struct err *e)
{
    struct str tables = STR("");
    uint64_t max = API_FETCH_BYTES;
    uint64_t wait_ms = 0;
    struct str from;
    if (!httpd_query(f->rq, "from", &from)) {
        return err_set(e, ERR_PARSE, "from: the offset to begin at is missing");
    }
    int rc = httpd_query_u64(f->rq, "from", 0, UINT64_MAX, &f->from, e);
    if (rc == 0) {
        rc = httpd_query_u64(f->rq, "max", 0, API_FETCH_MAX, &max, e);
    }
    if (rc == 0) {
        rc = httpd_query_u64(f->rq, "wait_ms", 0, API_WAIT_MAX_MS, &wait_ms, e);
    }
    if (rc == 0) {
        (void)httpd_query(f->rq, "tables", &tables);
        rc = filter_init(&f->filter, tables, STR(""), e);
    }
    f->max = (size_t)max;
    f->until_ms = clock_mono_ms() + (int64_t)wait_ms;
    return rc;
}

void
fetch_get(struct broker *bk, struct httpd_req *rq, struct str name)
{
    struct fetch *f = httpd_state(rq);
    struct err e;
    (void)name;
    if (f == NULL) {
        f = xcalloc(1, sizeof *f);
        f->magic = FETCH_MAGIC;
        f->bk = bk;
        f->rq = rq;
        httpd_set_state(rq, f, fetch_drop);
        if (parse(f, &e) != 0) {
            problem_respond(rq, &e);
            return;
        }
    }
    CHECK_MAGIC(f, FETCH_MAGIC);
    answer(f);
}
