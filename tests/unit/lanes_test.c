/* lanes: the order of a key, barriers, what is sent again, letters that bar or hold, against a
 * kind of the test's own, and a broker that takes letters and remembers them. */
#include "sinks/lanes.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "proto/api.h"
#include "proto/base/clock.h"
#include "proto/base/httpd.h"
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
        uint64_t floor;
    } got[3 * MAX]; /* accepted, in the order of their writes */
    size_t ngot, writes;
    bool alone_broken; /* something was written beside a barrier */
    bool order_broken; /* a write's records were not in log order */
    unsigned barriers;
    uint64_t retry_of; /* this offset is RETRY, so many times */
    int retries;
    int busy; /* so many writes are pushed back */
    size_t largest;
    uint64_t asks;         /* this offset is REREAD */
    struct lanes *lapses;  /* its session is not confirmed any more from the first write on */
    enum verdict of_moves; /* of key changes; UNSET: as of others */
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
        if (kind.of_moves != VERDICT_UNSET && record_is_key_change(&b->records[i])) {
            v[i] = (struct sink_verdict){kind.of_moves, "no moves"};
            continue;
        }
        bool is_reread = b->barred[i] || offset == kind.asks;
        v[i].verdict = is_reread ? VERDICT_REREAD : VERDICT_DONE;
        kind.got[kind.ngot++] = (struct written){offset, b->barred[i], b->floors[i]};
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
    if (kind.lapses != NULL) {
        lanes_confirm(kind.lapses, clock_mono_ms());
        kind.lapses = NULL;
    }
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

/* Its target has no versions, and takes what leaves columns out as it is. */
static const struct sink_ops plain_ops = {.name = "plain",
    .help = "a kind of the test's own",
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
start_as(const struct sink_ops *ops, const char *broker)
{
    struct lanes_conf c = {
        .name = "out", .ops = ops, .unix_path = broker, .lanes = LANES, .should_stop = never};
    memset(&kind, 0, sizeof kind);
    (void)pthread_mutex_init(&kind.lock, NULL);
    struct lanes *ls = lanes_open(&c);
    lanes_begin(ls, &(struct lanes_session){
                        .generation = 1, .epoch = 1, .next = 1, .good_until_ms = INT64_MAX});
    return ls;
}

static struct lanes *
start(void)
{
    return start_as(&kind_ops, "/nonexistent/socket");
}

/* Waits until that offset is passed; a test that hangs is ended by ctest. */
static void
wait_passed(struct lanes *ls, uint64_t offset)
{
    struct lanes_view v;
    for (lanes_look(ls, &v); v.passed < offset; lanes_look(ls, &v)) {
        assert_false(v.is_fatal);
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
    lanes_begin(ls, &(struct lanes_session){
                        .generation = 2, .epoch = 1, .next = 501, .good_until_ms = INT64_MAX});
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

/* Not when it was queued, nor when it was fed, but when a write begins. */
static void
without_a_confirmed_session_nothing_is_written(void **state)
{
    (void)state;
    struct lanes *ls = start();
    struct lanes_view v;
    make_rows(100, 7);
    feed(ls, 1, rows, 50);
    lanes_confirm(ls, clock_mono_ms());
    lanes_run(ls);
    feed(ls, 51, rows + 50, 50);
    (void)poll(NULL, 0, 100); /* what a lane would need to take and write all of it */
    lanes_look(ls, &v);
    assert_int_equal(kind.writes, 0);
    assert_int_equal(v.passed, 1);
    assert_false(v.is_over);
    assert_int_equal(v.failures, 0);
    lanes_confirm(ls, INT64_MAX); /* which wakes them: otherwise they look after a minute */
    int64_t confirmed_ms = clock_mono_ms();
    wait_passed(ls, 101);
    assert_true(clock_mono_ms() - confirmed_ms < 30000);
    assert_in_order(rows, 100);
    lanes_close(ls);
}

/* The session lapses while a lane writes: that write ends and is settled, and it is the last.
 */
static void
a_write_under_way_is_the_last_of_a_session_that_lapsed(void **state)
{
    (void)state;
    struct lanes *ls = start();
    struct lanes_view v;
    for (size_t i = 0; i < 64; i++) {
        rows[i] = (struct row){.id = 1, .op = FRAME_UPDATE};
    }
    kind.lapses = ls;
    feed(ls, 1, rows, 64);
    lanes_run(ls);
    for (lanes_look(ls, &v); v.passed == 1; lanes_look(ls, &v)) {
        struct pollfd p = {.fd = lanes_fd(ls), .events = POLLIN};
        (void)poll(&p, 1, 10000);
    }
    (void)poll(NULL, 0, 100);
    lanes_look(ls, &v);
    assert_int_equal(kind.writes, 1);
    assert_int_equal(v.passed, 2); /* the first record of a table comes alone */
    lanes_confirm(ls, INT64_MAX);
    wait_passed(ls, 65);
    assert_in_order(rows, 64);
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
    struct api_letter letter = {
        .offset = 1, .state = API_LETTER_DISCARDED, .key = buf_str(&key)};
    lanes_add_letter(ls, &letter);
    lanes_begin(ls, &(struct lanes_session){
                        .generation = 1, .epoch = 1, .next = 5, .good_until_ms = INT64_MAX});
    lanes_add_letter(ls, &letter);
    feed(ls, 5, two, 2);
    lanes_run(ls);
    struct lanes_view v;
    for (lanes_look(ls, &v); v.failures == 0; lanes_look(ls, &v)) {
        struct pollfd p = {.fd = lanes_fd(ls), .events = POLLIN};
        (void)poll(&p, 1, 10000);
    }
    assert_true(v.is_over); /* nobody answers: the session is not good any more, */
    struct row later[8];
    for (size_t i = 0; i < 8; i++) {
        later[i] = (struct row){.id = 20 + (int)i, .op = FRAME_INSERT};
    }
    feed(ls, 7, later, 8);
    (void)poll(NULL, 0, 300); /* several times what the failed lane waits */
    lanes_halt(ls);
    lanes_look(ls, &v);
    assert_int_equal(v.passed, 5);
    assert_int_equal(v.failures, 1); /* so nothing is tried again, */
    for (size_t i = 0; i < kind.ngot; i++) {
        assert_true(kind.got[i].offset < 7); /* and no lane writes anything more */
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
    lanes_begin(ls, &(struct lanes_session){
                        .generation = 1, .epoch = 1, .next = 5, .good_until_ms = INT64_MAX});
    lanes_add_letter(
        ls, &(struct api_letter){.offset = 1, .state = API_LETTER_RETRY, .key = buf_str(&key)});
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

/* ---- letters: ids and offsets have one digit ---- */

enum { OFFSETS = 10 };

static struct {
    pthread_mutex_t lock;
    struct httpd *httpd;
    char folder[64], path[96];
    struct buried {
        unsigned times;
        bool is_whole;
        int id, was; /* of its keys; was 0: no key change */
        char reason[120];
    } buried[OFFSETS];
    uint64_t raised[OFFSETS]; /* of an id: up to here; 0: of the whole table */
    unsigned raises;
    bool takes_rereads;     /* else they are too large */
    struct api_doubt doubt; /* the last one */
    bool is_wrong;          /* something came that is not understood */
} broker;

static int
id_of(struct str key)
{
    return key.n == 0 ? 0 : key.p[key.n - 1] - '0';
}

static void
take_letter(struct httpd_req *rq)
{
    struct api_bury b;
    struct err e;
    if (api_get_bury(httpd_body(rq), &b, &e) != 0 || b.offset >= OFFSETS) {
        broker.is_wrong = true;
        return;
    }
    struct buried *to = &broker.buried[b.offset];
    to->times++;
    to->is_whole = b.is_whole;
    to->id = id_of(b.key);
    to->was = id_of(b.former);
    (void)snprintf(to->reason, sizeof to->reason, "%.*s", (int)b.reason.n, b.reason.p);
}

static void
raise_letters(struct httpd_req *rq)
{
    struct api_raise r;
    struct err e;
    if (api_get_raise(httpd_body(rq), &r, &e) != 0) {
        broker.is_wrong = true;
        return;
    }
    broker.raises++;
    broker.raised[r.is_prefix ? 0 : id_of(r.key)] = r.offset;
}

static unsigned
take_reread(struct httpd_req *rq)
{
    struct api_reread q = {0};
    struct err e;
    struct str text;
    uint64_t table = 0;
    if (!broker.takes_rereads) {
        return 413;
    }
    broker.is_wrong = broker.is_wrong || api_get_rereads(httpd_body(rq), &q, 1, &e) != 1 ||
                      !httpd_query(rq, "doubt", &text);
    broker.doubt = (struct api_doubt){.offset = q.offset};
    broker.is_wrong = broker.is_wrong ||
                      httpd_query_u64(rq, "doubt", 1, UINT64_MAX, &broker.doubt.key, &e) != 0 ||
                      httpd_query_u64(rq, "table", 0, UINT32_MAX, &table, &e) != 0;
    broker.doubt.table = (uint32_t)table;
    return 204;
}

static void
handle(struct httpd_req *rq, void *arg)
{
    struct buf none = {0};
    unsigned status = 204;
    (void)arg;
    (void)pthread_mutex_lock(&broker.lock);
    if (str_is(httpd_path(rq), "/internal/sinks/out/bury")) {
        take_letter(rq);
    } else if (str_is(httpd_path(rq), "/internal/sinks/out/raise")) {
        raise_letters(rq);
    } else if (str_is(httpd_path(rq), "/internal/sinks/out/reread")) {
        status = take_reread(rq);
    } else {
        broker.is_wrong = true;
    }
    (void)pthread_mutex_unlock(&broker.lock);
    httpd_respond(rq, status, NULL, &none);
}

static size_t
body_limit(struct httpd_req *rq, void *arg)
{
    (void)rq;
    (void)arg;
    return API_CONTROL_BODY;
}

static int
open_broker(void **state)
{
    struct err e;
    (void)state;
    memset(&broker, 0, sizeof broker);
    (void)pthread_mutex_init(&broker.lock, NULL);
    (void)snprintf(broker.folder, sizeof broker.folder, "/tmp/lanes_XXXXXX");
    assert_non_null(mkdtemp(broker.folder));
    (void)snprintf(broker.path, sizeof broker.path, "%s/s", broker.folder);
    struct httpd_conf c = {.unix_path = broker.path,
        .max_connections = LANES + 1,
        .threads = 1,
        .idle_timeout_s = 30,
        .buffer_bytes = 64 * 1024,
        .handler = handle,
        .body_limit = body_limit};
    return httpd_open(&c, &broker.httpd, &e);
}

static int
close_broker(void **state)
{
    (void)state;
    httpd_close(broker.httpd);
    assert_false(broker.is_wrong);
    (void)unlink(broker.path);
    return rmdir(broker.folder);
}

static void
put_key(struct buf *to, int id)
{
    struct schema *s = support_item(1);
    char text[2] = {(char)('0' + id), '\0'};
    struct record_value row[SUPPORT_NCOLS] = {{.kind = RECORD_TEXT, .text = str_from(text)}};
    buf_init(to, 1000);
    record_key_put(to, s, row);
    schema_unref(s);
}

static void
add_letter(struct lanes *ls, uint64_t offset, int id, int was, uint8_t state)
{
    struct buf auto_buf key, former;
    put_key(&key, id);
    put_key(&former, was);
    lanes_add_letter(ls, &(struct api_letter){.offset = offset,
                             .state = state,
                             .key = buf_str(&key),
                             .former = was == 0 ? (struct str){0} : buf_str(&former)});
}

/* A session that knows only the letters that the test adds next. */
static void
begin_again(struct lanes *ls, uint64_t next)
{
    lanes_halt(ls);
    lanes_begin(ls, &(struct lanes_session){
                        .generation = 2, .epoch = 1, .next = next, .good_until_ms = INT64_MAX});
}

static void
redrive(struct lanes *ls, uint64_t offset, const struct row *row)
{
    struct lanes_view v;
    feed_as(ls, offset, row, 1, true);
    for (lanes_look(ls, &v); v.has_letter; lanes_look(ls, &v)) {
        struct pollfd p = {.fd = lanes_fd(ls), .events = POLLIN};
        (void)poll(&p, 1, 10000);
    }
}

static void
assert_follows(uint64_t offset, uint64_t first)
{
    char want[120];
    (void)snprintf(want, sizeof want,
        "it follows the key change in the dead letter at offset %d", (int)first);
    assert_string_equal(broker.buried[offset].reason, want);
    assert_false(broker.buried[offset].is_whole);
}

static bool
has_got(uint64_t offset)
{
    for (size_t i = 0; i < kind.ngot; i++) {
        if (kind.got[i].offset == offset) {
            return true;
        }
    }
    return false;
}

static const struct row move = {.id = 2, .was = 1, .op = FRAME_UPDATE};

static void
what_follows_a_rejected_key_change_joins_it(void **state)
{
    (void)state;
    struct lanes *ls = start_as(&plain_ops, broker.path);
    const struct row log[9] = {
        {.id = 1, .op = FRAME_INSERT},                     /* 1 */
        move,                                              /* 2 */
        {.id = 2, .op = FRAME_UPDATE},                     /* 3 */
        {.id = 1, .op = FRAME_INSERT},                     /* 4 */
        {.id = 1, .op = FRAME_UPDATE, .is_partial = true}, /* 5 */
        {.id = 3, .was = 2, .op = FRAME_UPDATE},           /* 6 */
        {.id = 3, .op = FRAME_DELETE},                     /* 7 */
        {.id = 4, .was = 1, .op = FRAME_UPDATE},           /* 8 */
        {.id = 5, .op = FRAME_UPDATE},                     /* 9 */
    };
    kind.of_moves = VERDICT_REJECT;
    feed(ls, 1, log, 9);
    lanes_run(ls);
    wait_passed(ls, 10);
    assert_int_equal(kind.ngot, 2);
    assert_true(has_got(1) && has_got(9));
    assert_string_equal(broker.buried[2].reason, "no moves");
    assert_true(broker.buried[2].is_whole);
    assert_int_equal(broker.buried[2].id, 2);
    assert_int_equal(broker.buried[2].was, 1);
    for (uint64_t offset = 3; offset <= 8; offset++) {
        assert_int_equal(broker.buried[offset].times, 1);
        assert_follows(offset, offset == 7 ? 6 : 2);
    }
    assert_int_equal(broker.buried[6].was, 2);
    assert_int_equal(broker.buried[4].was, 0);
    assert_int_equal(broker.raises, 0);
    lanes_close(ls);
}

/* What a session loads holds as what it saw itself; and the letters arrive in order only. */
static void
a_letter_is_not_sent_before_the_key_change_it_follows(void **state)
{
    (void)state;
    struct lanes *ls = start_as(&plain_ops, broker.path);
    const struct row again = {.id = 1, .op = FRAME_INSERT};
    begin_again(ls, 9);
    add_letter(ls, 2, 2, 1, API_LETTER_DEAD);
    add_letter(ls, 4, 1, 0, API_LETTER_RETRY);
    lanes_run(ls);
    redrive(ls, 4, &again);
    assert_int_equal(kind.ngot, 0);
    assert_int_equal(broker.buried[4].times, 1);
    assert_follows(4, 2);
    assert_int_equal(broker.raises, 0);

    begin_again(ls, 9);
    add_letter(ls, 2, 2, 1, API_LETTER_RETRY);
    add_letter(ls, 4, 1, 0, API_LETTER_RETRY);
    lanes_run(ls);
    redrive(ls, 2, &move);
    redrive(ls, 4, &again);
    assert_int_equal(kind.ngot, 2);
    assert_int_equal(kind.got[0].offset, 2);
    assert_int_equal(kind.got[1].offset, 4);
    assert_int_equal(broker.raised[2], 2);
    assert_int_equal(broker.raised[1], 4);
    feed(ls, 9, &again, 1); /* nothing is held any more */
    wait_passed(ls, 10);
    assert_true(has_got(9));
    lanes_close(ls);
}

static void
a_key_change_that_was_given_up_holds_nothing(void **state)
{
    (void)state;
    struct lanes *ls = start_as(&plain_ops, broker.path);
    const struct row two[2] = {{.id = 2, .op = FRAME_UPDATE}, {.id = 1, .op = FRAME_INSERT}};
    begin_again(ls, 5);
    add_letter(ls, 2, 2, 1, API_LETTER_DISCARDED);
    feed(ls, 5, two, 2);
    lanes_run(ls);
    wait_passed(ls, 7);
    assert_int_equal(kind.ngot, 2);
    assert_int_equal(broker.raises, 1); /* the mark */
    assert_int_equal(broker.raised[2], 5);
    lanes_close(ls);
}

static void
a_truncate_raises_key_changes_too(void **state)
{
    (void)state;
    struct lanes *ls = start_as(&plain_ops, broker.path);
    const struct row two[2] = {{.op = FRAME_TRUNCATE}, {.id = 1, .op = FRAME_INSERT}};
    begin_again(ls, 5);
    add_letter(ls, 2, 2, 1, API_LETTER_DEAD);
    feed(ls, 5, two, 2);
    lanes_run(ls);
    wait_passed(ls, 7);
    assert_int_equal(kind.ngot, 2);
    assert_int_equal(broker.raised[0], 5);
    lanes_close(ls);
}

/* A replay from before it: the key change comes once more, and what is older is not held. */
static void
what_is_older_than_a_key_change_is_not_held(void **state)
{
    (void)state;
    struct lanes *ls = start_as(&plain_ops, broker.path);
    const struct row two[2] = {{.id = 1, .op = FRAME_INSERT}, move};
    begin_again(ls, 1);
    add_letter(ls, 2, 2, 1, API_LETTER_DEAD);
    feed(ls, 1, two, 2);
    lanes_run(ls);
    wait_passed(ls, 3);
    assert_int_equal(kind.ngot, 2);
    assert_int_equal(broker.raised[2], 2);
    lanes_close(ls);
}

/* Such a target has deleted the former row: what is older of it would bring it back. And it has
 * versions, so nothing is held. */
static void
where_values_are_needed_a_rejected_key_change_raises_its_former_key(void **state)
{
    (void)state;
    struct lanes *ls = start_as(&kind_ops, broker.path);
    const struct row three[3] = {
        move, {.id = 2, .op = FRAME_UPDATE}, {.id = 1, .op = FRAME_INSERT}};
    begin_again(ls, 5);
    add_letter(ls, 3, 1, 0, API_LETTER_DEAD);
    kind.of_moves = VERDICT_REJECT;
    feed(ls, 5, three, 1);
    lanes_run(ls);
    wait_passed(ls, 6);
    assert_string_equal(broker.buried[5].reason, "no moves");
    assert_int_equal(broker.raises, 1);
    assert_int_equal(broker.raised[1], 5);
    feed(ls, 6, three + 1, 2);
    wait_passed(ls, 8);
    assert_int_equal(kind.ngot, 2);
    assert_int_equal(broker.raises, 2);
    assert_int_equal(broker.raised[2], 6);
    lanes_close(ls);
}

/* It became a letter, and the row of the former key is gone all the same. */
static void
a_key_change_that_cannot_be_asked_for_raises_its_former_key(void **state)
{
    (void)state;
    struct lanes *ls = start_as(&kind_ops, broker.path);
    begin_again(ls, 5);
    add_letter(ls, 3, 1, 0, API_LETTER_DEAD);
    kind.of_moves = VERDICT_REREAD;
    feed(ls, 5, &(struct row){.id = 2, .was = 1, .op = FRAME_UPDATE, .is_partial = true}, 1);
    lanes_run(ls);
    wait_passed(ls, 6);
    assert_non_null(strstr(broker.buried[5].reason, "its key is longer"));
    assert_int_equal(broker.raises, 1);
    assert_int_equal(broker.raised[1], 5);
    lanes_close(ls);
}

/* The row of 5 is asked for: until it has come, what the target holds of its key is no proof,
 * over a new session too, and neither is it for the key that its row moves to. */
static void
what_waits_to_be_read_again_is_doubted(void **state)
{
    (void)state;
    struct lanes *ls = start_as(&kind_ops, broker.path);
    const struct row log[5] = {{.id = 1, .op = FRAME_UPDATE, .is_partial = true},
        {.id = 1, .op = FRAME_UPDATE, .is_partial = true},
        {.id = 2, .op = FRAME_UPDATE, .is_partial = true},
        {.id = 3, .was = 1, .op = FRAME_UPDATE}, {.id = 1, .op = FRAME_UPDATE}};
    broker.takes_rereads = true;
    begin_again(ls, 5);
    kind.asks = 5;
    feed(ls, 5, log, 1);
    lanes_run(ls);
    wait_passed(ls, 6);
    feed(ls, 6, log + 1, 1);
    wait_passed(ls, 7);
    assert_int_equal(kind.got[0].floor, 0);
    assert_int_equal(kind.got[1].floor, 6);
    assert_int_equal(broker.doubt.offset, 5);
    struct api_doubt kept = broker.doubt;
    lanes_halt(ls);
    lanes_begin(ls,
        &(struct lanes_session){
            .generation = 3, .epoch = 1, .next = 7, .floor = 2, .good_until_ms = INT64_MAX});
    lanes_add_doubt(ls, &kept);
    for (size_t i = 0; i < 3; i++) {
        feed(ls, 7 + i, log + 2 + i, 1);
        lanes_run(ls);
        wait_passed(ls, 8 + i);
    }
    assert_int_equal(kind.got[2].floor, 2);
    assert_int_equal(kind.got[3].floor, 6);
    assert_int_equal(kind.got[4].floor, 2); /* the key change has moved the row away */
    struct api_doubt over[API_PROVEN_MAX];
    assert_int_equal(lanes_proven(ls, over), 2);
    assert_true(over[0].key == kept.key && over[1].key == kept.key);
    lanes_told(ls, 1);
    assert_int_equal(lanes_proven(ls, over), 1);
    lanes_halt(ls);
    lanes_begin(ls, &(struct lanes_session){.generation = 4, .epoch = 2, .next = 10});
    assert_int_equal(lanes_proven(ls, over), 0); /* of another history */
    lanes_close(ls);
}

#define WITH_BROKER(test) cmocka_unit_test_setup_teardown(test, open_broker, close_broker)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_of_a_key_survives_lanes_barriers_and_retries),
        cmocka_unit_test(what_is_pushed_back_comes_in_smaller_writes),
        cmocka_unit_test(a_halt_waits_and_a_new_session_forgets_the_rest),
        cmocka_unit_test(without_a_confirmed_session_nothing_is_written),
        cmocka_unit_test(a_write_under_way_is_the_last_of_a_session_that_lapsed),
        cmocka_unit_test(a_key_with_a_letter_bars_what_needs_its_value),
        cmocka_unit_test(a_letter_is_written_alone),
        WITH_BROKER(what_follows_a_rejected_key_change_joins_it),
        WITH_BROKER(a_letter_is_not_sent_before_the_key_change_it_follows),
        WITH_BROKER(a_key_change_that_was_given_up_holds_nothing),
        WITH_BROKER(a_truncate_raises_key_changes_too),
        WITH_BROKER(what_is_older_than_a_key_change_is_not_held),
        WITH_BROKER(where_values_are_needed_a_rejected_key_change_raises_its_former_key),
        WITH_BROKER(a_key_change_that_cannot_be_asked_for_raises_its_former_key),
        WITH_BROKER(what_waits_to_be_read_again_is_doubted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
