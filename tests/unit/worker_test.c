/* worker: the loop against a broker and a kind of the test's own. The broker keeps a log of
 * rows at offsets 100 to 100 + nrecords and one sink's offset; both can be told to misbehave.
 * The stop signal is this file's, so that each test can ask for one of its own (sig.h is
 * defined here instead of linked). */
#include "sink_support.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/api.h"
#include "proto/base/clock.h"
#include "proto/base/httpd.h"
#include "proto/base/log.h"
#include "proto/base/sig.h"
#include "proto/base/xmalloc.h"
#include "sinks/pace.h"
#include "sinks/worker.h"

/* ---- the stop ---- */

static int stop_fd = -1;
static atomic_bool stop_asked;

void
sig_init(void)
{
}

bool
sig_stop_requested(void)
{
    return atomic_load(&stop_asked);
}

int
sig_stop_fd(void)
{
    return stop_fd;
}

void
sig_stop(void)
{
    uint64_t one = 1;
    atomic_store(&stop_asked, true);
    (void)!write(stop_fd, &one, sizeof one);
}

void
sig_reset_for_exec(void)
{
}

/* ---- the broker ---- */

enum { FIRST = 100, PER_BATCH = 4 };

static struct {
    pthread_mutex_t lock;
    uint64_t nrecords, next, generation;
    /* what goes wrong, so many times */
    int busy_fetches, fenced_commits, lost_commits, cut_fetches, gone_fetches;
    unsigned min_sessions;
    bool stop_at_end; /* ask for the stop when everything is committed */
    uint8_t stop_at_state;
    bool stops_at_state;
    bool steer_when_stopped; /* a person orders something once it stands */
    const char *published;   /* one table of the schema shop; NULL: not said yet */
    const char *then;        /* once the worker stands because of it */
    /* what came */
    unsigned sessions, commits, commits_after_stop;
    uint8_t last_state;
    char last_error[600], tables[100], start[100];
    uint64_t last_records;
} br;

static void
respond_problem_code(
    struct httpd_req *rq, unsigned status, const char *detail, const char *code)
{
    struct buf b;
    buf_init(&b, 1000);
    buf_printf(&b, "{\"detail\":\"%s\",\"code\":\"%s\"}", detail, code);
    httpd_add_header(rq, "Retry-After", "0");
    httpd_respond(rq, status, API_PROBLEM, &b);
    buf_fini(&b);
}

static void
respond_problem(struct httpd_req *rq, unsigned status, const char *detail)
{
    respond_problem_code(rq, status, detail, "");
}

static void
put_published(struct buf *b)
{
    struct api_table t = {.ns = STR("shop"), .name = str_from(br.published)};
    api_put_tables(b, &t, 1);
}

static void
respond_session(struct httpd_req *rq)
{
    struct api_sink_session s = {.generation = br.generation, .epoch = 1, .next = br.next};
    struct buf b;
    buf_init(&b, 1000);
    if (br.published != NULL) {
        put_published(&b);
        s.tables = api_tables_sum(buf_str(&b));
        buf_reset(&b, 1000);
    }
    api_put_sink_session(&b, &s);
    httpd_respond(rq, 200, API_MSGPACK, &b);
    buf_fini(&b);
}

static ssize_t
cut_off(void *state, char *to, size_t max)
{
    (void)max;
    bool *begun = state;
    *to = 'x';
    ssize_t n = *begun ? HTTPD_STREAM_BREAK : 1;
    *begun = true;
    return n;
}

/* Begins an answer and breaks it off: the caller cannot know what happened. */
static void
respond_cut(struct httpd_req *rq)
{
    httpd_set_state(rq, xcalloc(1, sizeof(bool)), free);
    httpd_respond_stream(rq, 200, API_MSGPACK, cut_off);
}

static bool
use_up(int *n)
{
    return *n > 0 && (*n)-- > 0;
}

static void
stop_if_done(void)
{
    if (br.stop_at_end && br.sessions >= br.min_sessions && br.next == FIRST + br.nrecords) {
        sig_stop();
    }
}

static void
handle_session(struct httpd_req *rq)
{
    struct api_sink_open o;
    if (api_get_sink_open(httpd_body(rq), &o, NULL) != 0) {
        respond_problem(rq, 400, "no such position");
        return;
    }
    (void)snprintf(br.tables, sizeof br.tables, "%.*s", (int)o.tables.n, o.tables.p);
    (void)snprintf(br.start, sizeof br.start, "%.*s", (int)o.start.n, o.start.p);
    br.sessions++;
    br.generation++;
    stop_if_done();
    respond_session(rq);
}

static void
handle_fetch(struct httpd_req *rq)
{
    struct str text;
    uint64_t from = 0, end = FIRST + br.nrecords;
    if (httpd_query(rq, "from", &text)) {
        from = strtoull(text.p, NULL, 10);
    }
    if (use_up(&br.busy_fetches)) {
        respond_problem(rq, 503, "not now");
    } else if (use_up(&br.gone_fetches)) {
        respond_problem(rq, 410, "before earliest");
    } else if (use_up(&br.cut_fetches)) {
        respond_cut(rq);
    } else {
        struct buf b;
        struct batch_writer w;
        struct schema *s = support_item(1);
        buf_init(&b, SIZE_MAX);
        batch_begin(&w, &b);
        uint64_t at = from;
        for (; at < end && at < from + PER_BATCH; at++) {
            support_batch_add(&w, s, at, NULL);
        }
        batch_end(
            &w, &(struct batch_header){.next_offset = at, .tail_offset = end, .epoch = 1});
        schema_unref(s);
        httpd_respond(rq, 200, API_MSGPACK, &b);
        buf_fini(&b);
    }
}

static void
handle_commit(struct httpd_req *rq)
{
    struct api_sink_commit c;
    br.commits++;
    br.commits_after_stop += sig_stop_requested();
    if (api_get_sink_commit(httpd_body(rq), &c, NULL) != 0 || c.next > FIRST + br.nrecords) {
        respond_problem(rq, 416, "beyond the tail");
    } else if (use_up(&br.fenced_commits) || c.generation != br.generation ||
               c.expect != br.next) {
        respond_problem(rq, 409, "fenced");
    } else {
        br.next = c.next;
        stop_if_done();
        if (use_up(&br.lost_commits)) {
            respond_cut(rq);
        } else {
            respond_session(rq);
        }
    }
}

static void
handle_status(struct httpd_req *rq)
{
    struct api_sink_status s;
    if (api_get_sink_status(httpd_body(rq), &s, NULL) != 0 || s.generation != br.generation) {
        respond_problem(rq, 409, "fenced");
        return;
    }
    br.last_state = s.state;
    br.last_records = s.records;
    (void)snprintf(br.last_error, sizeof br.last_error, "%.*s", (int)s.last_error.n,
        s.last_error.n == 0 ? "" : s.last_error.p);
    if (br.stops_at_state && s.state == br.stop_at_state) {
        sig_stop();
    }
    if (br.steer_when_stopped && s.state == API_SINK_STOPPED) {
        br.steer_when_stopped = false;
        br.generation++;
        respond_problem_code(rq, 409, "moved", "STEERED");
        return;
    }
    if (br.then != NULL && s.state == API_SINK_STOPPED) {
        br.published = br.then;
        br.then = NULL;
    }
    respond_session(rq);
}

static void
handle_tables(struct httpd_req *rq)
{
    struct buf b;
    buf_init(&b, 1000);
    put_published(&b);
    httpd_respond(rq, 200, API_MSGPACK, &b);
    buf_fini(&b);
}

static void
handle(struct httpd_req *rq, void *arg)
{
    (void)arg;
    struct str path = httpd_path(rq);
    (void)pthread_mutex_lock(&br.lock);
    if (str_is(path, "/internal/sinks/out/session")) {
        handle_session(rq);
    } else if (str_is(path, "/internal/sinks/out/commit")) {
        handle_commit(rq);
    } else if (str_is(path, "/internal/sinks/out/status")) {
        handle_status(rq);
    } else if (str_is(path, API_TABLES)) {
        handle_tables(rq);
    } else if (str_is(path, API_FETCH)) {
        handle_fetch(rq);
    } else {
        respond_problem(rq, 404, "what?");
    }
    (void)pthread_mutex_unlock(&br.lock);
}

static size_t
body_limit(struct httpd_req *rq, void *arg)
{
    (void)rq;
    (void)arg;
    return API_CONTROL_BODY;
}

/* ---- the kind ---- */

static struct {
    unsigned opens, closes, writes, asked;
    uint64_t got[200]; /* offsets that were DONE, in order */
    size_t ngot;
    int open_rc[4], write_rc[8]; /* for the first calls; 0: fine */
    uint64_t odd_offset;         /* this record is given odd_verdict, odd_times */
    enum verdict odd_verdict;
    int odd_times;
    bool is_silent;            /* fails without saying why */
    uint64_t stop_in_write_of; /* asks for the stop while this record is written */
} kind;

static int
kind_open(const struct sink_setup *setup, struct sink **ret, struct err *e)
{
    static struct sink s;
    extern const struct sink_ops kind_ops;
    unsigned i = kind.opens++;
    if (i < 4 && kind.open_rc[i] != 0) {
        return err_set(e, kind.open_rc[i], "cannot open %s", setup->name);
    }
    s.ops = &kind_ops;
    *ret = &s;
    return 0;
}

static int
kind_write(struct sink *s, const struct sink_batch *b, struct sink_verdict *v, struct err *e)
{
    unsigned call = kind.writes++;
    (void)s;
    if (kind.is_silent) {
        return ERR_BUSY;
    }
    if (call < 8 && kind.write_rc[call] != 0) {
        return err_set(e, kind.write_rc[call], "cannot write");
    }
    for (size_t i = 0; i < b->n; i++) {
        uint64_t offset = b->records[i].offset;
        if (offset == kind.stop_in_write_of) {
            sig_stop();
        }
        if (offset == kind.odd_offset && kind.odd_times-- > 0) {
            v[i] = (struct sink_verdict){kind.odd_verdict, "it is odd"};
            return 0;
        }
        v[i].verdict = VERDICT_DONE;
        kind.got[kind.ngot++] = offset;
    }
    return 0;
}

static void
kind_close(struct sink *s)
{
    kind.closes += s != NULL;
}

/* Anything but a table whose name is `odd`. */
static int
kind_accepts(const void *options, const struct sink_table *tables, size_t n, struct err *e)
{
    (void)options;
    kind.asked++;
    for (size_t i = 0; i < n; i++) {
        if (str_is(tables[i].name, "odd")) {
            return err_set(e, ERR_CONFIG, "the table %.*s.odd is odd", (int)tables[i].ns.n,
                tables[i].ns.p);
        }
    }
    return 0;
}

const struct sink_ops kind_ops = {.name = "odd",
    .help = "a kind of the test's own",
    .flags = SINK_ONE_LANE,
    .batch_bytes = 1000000,
    .batch_records = PER_BATCH,
    .open = kind_open,
    .write = kind_write,
    .close = kind_close,
    .accepts = kind_accepts};

/* ---- running it ---- */

static char folder[64], socket_path[96];
static struct httpd *httpd;

static int
setup(void **state)
{
    (void)state;
    memset(&br, 0, sizeof br);
    memset(&kind, 0, sizeof kind);
    (void)pthread_mutex_init(&br.lock, NULL);
    br.nrecords = 10;
    br.next = FIRST;
    br.stop_at_end = true;
    atomic_store(&stop_asked, false);
    stop_fd = eventfd(0, EFD_CLOEXEC);
    (void)snprintf(folder, sizeof folder, "/tmp/worker_XXXXXX");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(socket_path, sizeof socket_path, "%s/s", folder);
    struct httpd_conf c = {.unix_path = socket_path,
        .max_connections = 8,
        .threads = 1,
        .idle_timeout_s = 30,
        .buffer_bytes = 64 * 1024,
        .handler = handle,
        .body_limit = body_limit};
    struct err e;
    return httpd_open(&c, &httpd, &e);
}

static int
teardown(void **state)
{
    (void)state;
    httpd_close(httpd);
    (void)unlink(socket_path);
    (void)close(stop_fd);
    return rmdir(folder);
}

static int
run_with(const struct str *tables, size_t ntables, struct err *e)
{
    struct worker_conf c = {.name = "out",
        .ops = &kind_ops,
        .lanes = 1,
        .reject_limit = 1,
        .start = "earliest",
        .tables = tables,
        .ntables = ntables,
        .unix_path = socket_path};
    return worker_run(&c, e);
}

static int
run(struct err *e)
{
    return run_with(NULL, 0, e);
}

/* The target has every record, in order; `twice` of them a second time. */
static void
assert_all_got(size_t twice)
{
    uint64_t expect = FIRST;
    size_t repeats = 0;
    for (size_t i = 0; i < kind.ngot; i++) {
        if (kind.got[i] == expect) {
            expect++;
        } else {
            assert_true(kind.got[i] < expect); /* never ahead: nothing was skipped */
            repeats++;
        }
    }
    assert_int_equal(expect, FIRST + br.nrecords);
    assert_int_equal(repeats, twice);
    assert_int_equal(br.next, FIRST + br.nrecords);
}

/* ---- tests ---- */

static void
everything_arrives_and_is_committed(void **state)
{
    (void)state;
    struct err e;
    assert_int_equal(run(&e), 0);
    assert_all_got(0);
    assert_int_equal(br.sessions, 1);
    assert_in_range(br.commits, 1, 3);
    assert_string_equal(br.start, "earliest");
    assert_int_equal(kind.opens, 1);
    assert_int_equal(kind.closes, 1);
}

static void
what_tables_leave_out_is_passed_without_a_write(void **state)
{
    (void)state;
    struct err e;
    struct str tables[] = {STR("fabric.*"), STR("public.x")};
    assert_int_equal(run_with(tables, 2, &e), 0);
    assert_int_equal(kind.writes, 0);
    assert_int_equal(br.next, FIRST + br.nrecords);
    assert_string_equal(br.tables, "fabric.*,public.x");
}

static void
what_the_kind_cannot_take_is_refused_before_any_record(void **state)
{
    (void)state;
    struct err e;
    br.published = "odd";
    br.stops_at_state = true;
    br.stop_at_state = API_SINK_STOPPED;
    assert_int_equal(run(&e), 0);
    assert_string_equal(br.last_error, "the table shop.odd is odd");
    assert_int_equal(kind.writes, 0);
    assert_int_equal(br.next, FIRST);
}

static void
once_nothing_is_in_its_way_it_goes_on(void **state)
{
    (void)state;
    struct err e;
    br.published = "odd";
    br.then = "item";
    assert_int_equal(run(&e), 0);
    assert_int_equal(kind.asked, 2);
    assert_int_equal(br.sessions, 1);
    assert_all_got(0);
}

static void
what_tables_leave_out_is_not_asked_about(void **state)
{
    (void)state;
    struct err e;
    struct str tables[] = {STR("shop.i*")};
    br.published = "odd";
    assert_int_equal(run_with(tables, 1, &e), 0);
    assert_int_equal(kind.asked, 1);
    assert_all_got(0);
}

static void
P4_a_partial_success_commits_the_prefix_and_retries_the_rest(void **state)
{
    (void)state;
    struct err e;
    kind.odd_offset = FIRST + 2;
    kind.odd_verdict = VERDICT_RETRY;
    kind.odd_times = 2;
    assert_int_equal(run(&e), 0);
    assert_all_got(0);
    assert_int_equal(br.sessions, 1);
    assert_int_equal(kind.writes, 5);
}

static void
P8_a_rejected_record_stops_the_sink_and_is_not_skipped(void **state)
{
    (void)state;
    struct err e;
    kind.odd_offset = FIRST + 5;
    kind.odd_verdict = VERDICT_REJECT;
    kind.odd_times = 1000;
    br.stop_at_state = API_SINK_STOPPED;
    br.stops_at_state = true;
    assert_int_equal(run(&e), 0);
    assert_int_equal(br.next, FIRST + 5);
    assert_int_equal(kind.ngot, 5);
    assert_int_equal(br.last_state, API_SINK_STOPPED);
    assert_non_null(strstr(br.last_error, "it is odd"));
    assert_non_null(strstr(br.last_error, "offset 105"));
    assert_int_equal(br.last_records, 5);
}

static void
P9_a_fatal_error_ends_it_without_a_commit(void **state)
{
    (void)state;
    struct err e;
    kind.write_rc[1] = ERR_IO;
    assert_int_equal(run(&e), ERR_IO);
    assert_string_equal(e.msg, "cannot write");
    assert_true(br.next <= FIRST + PER_BATCH); /* at most the first batch's */
    assert_int_equal(kind.closes, 1);
}

static void
a_kind_that_does_not_say_why_it_failed_is_a_bug(void **state)
{
    (void)state;
    struct err e;
    kind.is_silent = true;
    assert_int_equal(run(&e), ERR_BUG);
    assert_non_null(strstr(e.msg, "odd"));
    assert_non_null(strstr(e.msg, "BUSY"));
    assert_int_equal(br.next, FIRST);
}

static void
a_target_that_is_not_there_is_tried_again(void **state)
{
    (void)state;
    struct err e;
    kind.open_rc[0] = ERR_CONNECT;
    kind.write_rc[0] = kind.write_rc[1] = ERR_NOSPACE;
    assert_int_equal(run(&e), 0);
    assert_all_got(0);
    assert_int_equal(kind.opens, 2);
}

static void
a_broker_that_is_busy_is_asked_again_in_the_same_session(void **state)
{
    (void)state;
    struct err e;
    br.busy_fetches = 2;
    assert_int_equal(run(&e), 0);
    assert_all_got(0);
    assert_int_equal(br.sessions, 1);
}

static void
a_fetch_cut_off_is_not_taken_for_an_end(void **state)
{
    (void)state;
    struct err e;
    br.cut_fetches = 1;
    assert_int_equal(run(&e), 0);
    assert_all_got(0);
    assert_int_equal(br.sessions, 2);
}

static void
a_fenced_worker_opens_a_new_session_from_where_the_offset_stands(void **state)
{
    (void)state;
    struct err e;
    br.fenced_commits = 1;
    assert_int_equal(run(&e), 0);
    assert_true(kind.ngot > br.nrecords);
    assert_all_got(kind.ngot - br.nrecords); /* written, not committed, sent again */
    assert_int_equal(br.sessions, 2);
}

static void
a_commit_whose_answer_got_lost_is_not_repeated_blindly(void **state)
{
    (void)state;
    struct err e;
    br.lost_commits = 1;
    br.min_sessions = 2;
    assert_int_equal(run(&e), 0);
    assert_all_got(0);
    assert_int_equal(br.sessions, 2);
}

static void
a_gap_stops_the_sink_and_says_so(void **state)
{
    (void)state;
    struct err e;
    br.gone_fetches = 1000;
    br.stop_at_state = API_SINK_STOPPED;
    br.stops_at_state = true;
    assert_int_equal(run(&e), 0);
    assert_string_equal(br.last_error,
        "the log does not have what follows this sink's offset: before earliest");
    assert_int_equal(br.next, FIRST);
    assert_int_equal(kind.ngot, 0);
}

static void
an_order_ends_the_wait_of_a_sink_that_stands(void **state)
{
    (void)state;
    struct err e;
    br.gone_fetches = 1;
    br.steer_when_stopped = true;
    int64_t began_ms = clock_mono_ms();
    assert_int_equal(run(&e), 0);
    assert_all_got(0);
    assert_int_equal(br.sessions, 2);
    assert_true(clock_mono_ms() - began_ms < PACE_STOPPED_MS);
}

static void
a_stop_waits_for_the_write_under_way_and_its_commit(void **state)
{
    (void)state;
    struct err e;
    kind.stop_in_write_of = FIRST + 5;
    br.stop_at_end = false;
    assert_int_equal(run(&e), 0);
    assert_int_equal(kind.ngot, 8);
    assert_int_equal(br.next, FIRST + 8);
    assert_int_equal(br.commits_after_stop, 1);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(everything_arrives_and_is_committed),
        TEST(what_tables_leave_out_is_passed_without_a_write),
        TEST(what_the_kind_cannot_take_is_refused_before_any_record),
        TEST(once_nothing_is_in_its_way_it_goes_on),
        TEST(what_tables_leave_out_is_not_asked_about),
        TEST(P4_a_partial_success_commits_the_prefix_and_retries_the_rest),
        TEST(P8_a_rejected_record_stops_the_sink_and_is_not_skipped),
        TEST(P9_a_fatal_error_ends_it_without_a_commit),
        TEST(a_kind_that_does_not_say_why_it_failed_is_a_bug),
        TEST(a_target_that_is_not_there_is_tried_again),
        TEST(a_broker_that_is_busy_is_asked_again_in_the_same_session),
        TEST(a_fetch_cut_off_is_not_taken_for_an_end),
        TEST(a_fenced_worker_opens_a_new_session_from_where_the_offset_stands),
        TEST(a_commit_whose_answer_got_lost_is_not_repeated_blindly),
        TEST(a_gap_stops_the_sink_and_says_so),
        TEST(an_order_ends_the_wait_of_a_sink_that_stands),
        TEST(a_stop_waits_for_the_write_under_way_and_its_commit),
    };
    log_init("worker_test", LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
