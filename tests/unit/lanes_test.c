/* lanes: the order of a key, barriers, what is sent again, letters that bar, against a kind of
 * the test's own. There is no broker: what needs one is in worker_test and in tests/e2e. */
#include "sinks/lanes.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>

#include "proto/record_key.h"
#include "sink_support.h"

/* ---- the log: rows {id, name, note} with the ids that the test says ---- */

enum { MAX = 4000, LANES = 4 };

struct row {
    int id, was; /* was: the former id of a key change, else 0 */
    uint8_t op;
    bool is_partial;
    uint32_t schema;
};

static void
put_row(struct batch_writer *w, struct schema *s, uint64_t offset, const struct row *row)
{
    char id[24], was[24];
    (void)snprintf(id, sizeof id, "%d", row->id);
    (void)snprintf(was, sizeof was, "%d", row->was);
    const char *cells[SUPPORT_NCOLS] = {id, row->is_partial ? support_unchanged : "n", NULL};
    const char *old[SUPPORT_NCOLS] = {row->was != 0 ? was : id, NULL, NULL};
    struct buf auto_buf frame;
    buf_init(&frame, SIZE_MAX);
    bool has_new = row->op != FRAME_DELETE && row->op != FRAME_TRUNCATE;
    bool has_old = row->op == FRAME_DELETE || row->was != 0;
    support_put_frame(&frame, row->op, has_old ? FRAME_OLD_KEY : 0, s->id,
        has_new ? cells : NULL, has_old ? old : NULL, SUPPORT_NCOLS);
    struct record_txn t = {.first_offset = offset, .count = 1, .epoch = 1, .lsn = offset};
    assert_true(batch_add(w, &t, s, offset, buf_str(&frame)));
}

static void
feed_as(struct lanes *ls, uint64_t first, const struct row *rows, size_t n, bool is_letter)
{
    struct schema *s[3] = {NULL, support_item(1), support_item(2)};
    struct buf auto_buf b;
    struct batch_writer w;
    struct err e;
    buf_init(&b, SIZE_MAX);
    batch_begin(&w, &b);
    for (size_t i = 0; i < n; i++) {
        put_row(&w, s[rows[i].schema == 0 ? 1 : rows[i].schema], first + i, &rows[i]);
    }
    batch_end(&w,
        &(struct batch_header){.next_offset = first + n, .tail_offset = first + n, .epoch = 1});
    assert_int_equal(
        is_letter ? lanes_feed_letter(ls, buf_str(&b), &e) : lanes_feed(ls, buf_str(&b), &e),
        0);
    schema_unref(s[1]);
    schema_unref(s[2]);
}

static void
feed(struct lanes *ls, uint64_t first, const struct row *rows, size_t n)
{
    feed_as(ls, first, rows, n, false);
}

/* ---- the kind ---- */

static struct {
    pthread_mutex_t lock;
    unsigned writing, most; /* at once */
    struct written {
        uint64_t offset;
        bool is_barred;
    } got[3 * MAX]; /* accepted, in the order of their writes */
    size_t ngot, writes;
    bool alone_broken; /* something was written beside a barrier */
    bool order_broken; /* a write's records were not in log order */
    unsigned barriers;
    uint64_t retry_of; /* this offset is RETRY, so many times */
    int retries;
    int busy; /* so many writes are pushed back */
    size_t largest;
} kind;

static bool
is_barrier(const struct record *r)
{
    return r->op == FRAME_TRUNCATE || (r->op == FRAME_UPDATE && r->old_row != NULL);
}

static int
kind_open(const struct sink_setup *setup, struct sink **ret, struct err *e)
{
    (void)e;
    struct sink *s = calloc(1, sizeof *s);
    assert_true(setup->lane < setup->lanes);
    *ret = s;
    return 0;
}

static void
kind_close(struct sink *s)
{
    free(s);
}

static int
judge(struct sink *s, const struct sink_batch *b, struct sink_verdict *v, struct err *e)
{
    if (kind.busy > 0) {
        kind.busy--;
        s->is_pushed_back = true;
        s->retry_after_ms = 0;
        return err_set(e, ERR_BUSY, "too much");
    }
    kind.largest = b->n > kind.largest ? b->n : kind.largest;
    for (size_t i = 0; i < b->n; i++) {
        uint64_t offset = b->records[i].offset;
        if (offset == kind.retry_of && kind.retries > 0) {
            kind.retries--;
            v[i].verdict = VERDICT_RETRY;
            continue;
        }
        v[i].verdict = b->barred[i] ? VERDICT_REREAD : VERDICT_DONE;
        kind.got[kind.ngot++] = (struct written){offset, b->barred[i]};
    }
    return 0;
}

static int
kind_write(struct sink *s, const struct sink_batch *b, struct sink_verdict *v, struct err *e)
{
    bool is_alone = is_barrier(&b->records[0]);
    (void)pthread_mutex_lock(&kind.lock);
    kind.writes++;
    kind.writing++;
    kind.most = kind.writing > kind.most ? kind.writing : kind.most;
    kind.barriers += is_alone;
    for (size_t i = 1; i < b->n; i++) {
        kind.order_broken |= b->records[i].offset <= b->records[i - 1].offset;
    }
    /* a TRUNCATE touches every lane; a key change may have others beside it */
    kind.alone_broken = kind.alone_broken || (is_alone && b->n != 1) ||
                        (b->records[0].op == FRAME_TRUNCATE && kind.writing != 1);
    (void)pthread_mutex_unlock(&kind.lock);
    (void)sched_yield(); /* a chance for others to be beside it */
    (void)pthread_mutex_lock(&kind.lock);
    int rc = judge(s, b, v, e);
    kind.writing--;
    (void)pthread_mutex_unlock(&kind.lock);
    return rc;
}

static const struct sink_ops kind_ops = {.name = "odd",
    .help = "a kind of the test's own",
    .flags = SINK_NEEDS_VALUES,
    .batch_bytes = 100000,
    .batch_records = 16,
    .open = kind_open,
    .write = kind_write,
    .close = kind_close};

static bool
never(void)
{
    return false;
}

static struct lanes *
start(void)
{
    struct lanes_conf c = {.name = "out",
        .ops = &kind_ops,
        .unix_path = "/nonexistent/socket",
        .lanes = LANES,
        .should_stop = never};
    memset(&kind, 0, sizeof kind);
    (void)pthread_mutex_init(&kind.lock, NULL);
    struct lanes *ls = lanes_open(&c);
    lanes_begin(ls, &(struct lanes_session){.generation = 1, .epoch = 1, .next = 1});
    return ls;
}

/* Waits until that offset is passed; a test that hangs is ended by ctest. */
static void
wait_passed(struct lanes *ls, uint64_t offset)
{
    struct lanes_view v;
    for (lanes_look(ls, &v); v.passed < offset; lanes_look(ls, &v)) {
        struct pollfd p = {.fd = lanes_fd(ls), .events = POLLIN};
        (void)poll(&p, 1, 10000);
    }
    assert_int_equal(v.passed, offset);
    assert_true(v.is_idle);
}

/* What the rows [0, n) are to the test: each offset was accepted once, and for each id in the
 * order of the log, a key change counting for both of its ids, a TRUNCATE for all. */
static void
assert_in_order(const struct row *rows, size_t n)
{
    assert_int_equal(kind.ngot, n);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = i + 1; k < n; k++) {
            uint64_t first = kind.got[i].offset, second = kind.got[k].offset;
            if (first < second) {
                continue;
            }
            assert_true(first != second);
            const struct row *a = &rows[first - 1], *b = &rows[second - 1];
            bool is_related = a->op == FRAME_TRUNCATE || b->op == FRAME_TRUNCATE ||
                              a->id == b->id || (a->was != 0 && a->was == b->id) ||
                              (b->was != 0 && b->was == a->id) ||
                              (a->was != 0 && a->was == b->was);
            assert_false(is_related);
        }
    }
}

/* ---- tests ---- */

static struct row rows[MAX];

static void
make_rows(size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1103515245u + 12345u;
        unsigned dice = seed >> 16 & 63;
        rows[i] = (struct row){.id = (int)(seed >> 8 & 15) + 1, .op = FRAME_UPDATE};
        if (dice == 0) {
            rows[i].op = FRAME_TRUNCATE;
        } else if (dice < 6) {
            rows[i].was = rows[i].id % 16 + 1;
        } else if (dice < 12) {
            rows[i].op = FRAME_DELETE;
        }
        rows[i].schema = i < n / 2 ? 1 : 2; /* and another shape from the middle on */
    }
}

static void
the_order_of_a_key_survives_lanes_barriers_and_retries(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 10; seed++) {
        struct lanes *ls = start();
        size_t n = 600;
        make_rows(n, seed);
        kind.retry_of = 1 + seed * 37 % n;
        kind.retries = 2;
        for (size_t at = 0; at < n; at += 60) {
            feed(ls, 1 + at, rows + at, 60);
        }
        lanes_run(ls);
        wait_passed(ls, 1 + n);
        /* what was accepted behind a RETRY of its key came a second time: the last one counts
         */
        size_t kept = 0;
        for (size_t i = 0; i < kind.ngot; i++) {
            bool comes_again = false;
            for (size_t k = i + 1; k < kind.ngot && !comes_again; k++) {
                comes_again = kind.got[k].offset == kind.got[i].offset;
            }
            if (!comes_again) {
                kind.got[kept++] = kind.got[i];
            }
        }
        kind.ngot = kept;
        assert_in_order(rows, n);
        assert_false(kind.alone_broken);
        assert_true(kind.barriers > 0);
        lanes_close(ls);
    }
}

static void
what_is_pushed_back_comes_in_smaller_writes(void **state)
{
    (void)state;
    struct lanes *ls = start();
    struct lanes_view v;
    make_rows(64, 3);
    for (size_t i = 0; i < 64; i++) {
        rows[i] = (struct row){.id = 1, .op = FRAME_UPDATE};
    }
    kind.busy = 1;
    feed(ls, 1, rows, 64);
    lanes_run(ls);
    wait_passed(ls, 65);
    lanes_look(ls, &v);
    assert_true(kind.largest < kind_ops.batch_records);
    assert_int_equal(v.lanes, LANES / 2);
    assert_int_equal(v.failures, 1);
    assert_int_equal(v.state, API_SINK_RUNNING);
    assert_in_order(rows, 64);
    lanes_close(ls);
}

static void
a_halt_waits_and_a_new_session_forgets_the_rest(void **state)
{
    (void)state;
    struct lanes *ls = start();
    make_rows(100, 5);
    feed(ls, 1, rows, 100);
    lanes_run(ls);
    lanes_halt(ls);
    struct lanes_view v;
    lanes_look(ls, &v);
    assert_int_equal(kind.writing, 0);
    assert_true(v.passed <= 101 && v.settled <= 100);
    lanes_begin(ls, &(struct lanes_session){.generation = 2, .epoch = 1, .next = 501});
    lanes_look(ls, &v);
    assert_true(v.is_idle);
    assert_int_equal(v.passed, 501);
    size_t before = kind.ngot;
    feed(ls, 501, rows, 100);
    lanes_run(ls);
    wait_passed(ls, 601);
    assert_int_equal(kind.ngot, before + 100);
    lanes_close(ls);
}

/* Its key has a letter: an update that leaves a column out may not take it from the target.
 * There is no broker to ask for the row, so it stays unsettled. */
static void
a_key_with_a_letter_bars_what_needs_its_value(void **state)
{
    (void)state;
    struct lanes *ls = start();
    struct row two[2] = {{.id = 7, .op = FRAME_UPDATE, .is_partial = true},
        {.id = 8, .op = FRAME_UPDATE, .is_partial = true}};
    struct buf auto_buf key;
    struct schema *s = support_item(1);
    struct record_value row[SUPPORT_NCOLS] = {{.kind = RECORD_TEXT, .text = S("7")}};
    buf_init(&key, 1000);
    record_key_put(&key, s, row);
    lanes_add_letter(ls, buf_str(&key), 1, API_LETTER_DISCARDED);
    lanes_begin(ls, &(struct lanes_session){.generation = 1, .epoch = 1, .next = 5});
    lanes_add_letter(ls, buf_str(&key), 1, API_LETTER_DISCARDED);
    feed(ls, 5, two, 2);
    lanes_run(ls);
    struct lanes_view v;
    for (lanes_look(ls, &v); v.failures == 0; lanes_look(ls, &v)) {
        struct pollfd p = {.fd = lanes_fd(ls), .events = POLLIN};
        (void)poll(&p, 1, 10000);
    }
    lanes_halt(ls);
    lanes_look(ls, &v);
    assert_int_equal(v.passed, 5);
    assert_true(v.is_fenced); /* nobody answers: the session is not good any more */
    for (size_t i = 0; i < kind.ngot; i++) {
        assert_int_equal(kind.got[i].is_barred, kind.got[i].offset == 5);
    }
    schema_unref(s);
    lanes_close(ls);
}

/* A later record of its key is in the queue before it: in one write with that the letter would
 * pass for the key's last state. */
static void
a_letter_is_written_alone(void **state)
{
    (void)state;
    struct lanes *ls = start();
    struct row live[2] = {{.id = 8, .op = FRAME_UPDATE}, {.id = 7, .op = FRAME_UPDATE}};
    struct schema *s = support_item(1);
    struct record_value row[SUPPORT_NCOLS] = {{.kind = RECORD_TEXT, .text = S("7")}};
    struct buf auto_buf key;
    buf_init(&key, 1000);
    record_key_put(&key, s, row);
    lanes_begin(ls, &(struct lanes_session){.generation = 1, .epoch = 1, .next = 5});
    lanes_add_letter(ls, buf_str(&key), 1, API_LETTER_RETRY);
    feed(ls, 5, live, 2);
    feed_as(ls, 1, &(struct row){.id = 7, .op = FRAME_UPDATE}, 1, true);
    kind.retry_of = 6;
    kind.retries = INT_MAX;
    lanes_run(ls);
    struct lanes_view v;
    for (lanes_look(ls, &v); v.failures == 0; lanes_look(ls, &v)) {
        struct pollfd p = {.fd = lanes_fd(ls), .events = POLLIN};
        (void)poll(&p, 1, 10000);
    }
    lanes_halt(ls);
    assert_false(kind.order_broken);
    for (size_t i = 0; i < kind.ngot; i++) {
        assert_int_not_equal(kind.got[i].offset, 1);
    }
    schema_unref(s);
    lanes_close(ls);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_of_a_key_survives_lanes_barriers_and_retries),
        cmocka_unit_test(what_is_pushed_back_comes_in_smaller_writes),
        cmocka_unit_test(a_halt_waits_and_a_new_session_forgets_the_rest),
        cmocka_unit_test(a_key_with_a_letter_bars_what_needs_its_value),
        cmocka_unit_test(a_letter_is_written_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
