/* sender: against a server in this process that answers what the test says, in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/httpd.h"
#include "replicator/sender.h"

enum { CALLS = 8, WAIT_MS = 20000 };

/* What is answered, and what was asked. The handler waits while `holds`. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool holds;
    unsigned statuses[CALLS];
    const char *retry_after;
    unsigned ncalls;
    struct api_append heads[CALLS];
    char bodies[CALLS][16];
} srv = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static char folder[64], socket_path[96];
static struct httpd *httpd;
static struct sender *sender;

static void
note(struct str body, unsigned i)
{
    struct err e;
    assert_true(i < CALLS);
    assert_int_equal(api_get_append(body, &srv.heads[i], &e), 0);
    (void)snprintf(srv.bodies[i], sizeof srv.bodies[i], "%.*s", (int)(body.n - API_APPEND_HEAD),
        body.p + API_APPEND_HEAD);
}

static void
handle(struct httpd_req *rq, void *arg)
{
    (void)arg;
    struct buf b;
    buf_init(&b, 4096);
    (void)pthread_mutex_lock(&srv.lock);
    unsigned i = srv.ncalls++;
    note(httpd_body(rq), i);
    (void)pthread_cond_broadcast(&srv.changed);
    while (srv.holds) {
        (void)pthread_cond_wait(&srv.changed, &srv.lock);
    }
    unsigned status = srv.statuses[i];
    if (status == 200) {
        struct api_appended a = {.sequence = srv.heads[i].sequence, .proven_lsn = 1000 + i};
        api_put_appended(&b, &a);
    } else {
        buf_puts(
            &b, "{\"title\":\"no\",\"status\":1,\"detail\":\"not now\",\"code\":\"NOSPACE\"}");
        httpd_add_header(rq, "Retry-After", srv.retry_after);
    }
    (void)pthread_mutex_unlock(&srv.lock);
    httpd_respond(rq, status, status == 200 ? API_MSGPACK : API_PROBLEM, &b);
    buf_fini(&b);
}

static size_t
body_limit(struct httpd_req *rq, void *arg)
{
    (void)rq;
    (void)arg;
    return 1024 * 1024;
}

static int
setup(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/sender_XXXXXX");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(socket_path, sizeof socket_path, "%s/s", folder);
    struct httpd_conf c = {.unix_path = socket_path,
        .max_connections = 4,
        .threads = 1,
        .idle_timeout_s = 30,
        .buffer_bytes = 64 * 1024,
        .handler = handle,
        .body_limit = body_limit};
    struct err e;
    struct api_session session = {.uuid = "0123456789abcde", .generation = 7};
    srv.holds = false;
    srv.ncalls = 0;
    srv.retry_after = "0";
    assert_int_equal(httpd_open(&c, &httpd, &e), 0);
    assert_int_equal(sender_open(socket_path, &session, &sender, &e), 0);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    sender_close(sender);
    httpd_close(httpd);
    (void)unlink(socket_path);
    return rmdir(folder);
}

static void
answers(unsigned first, unsigned second)
{
    srv.statuses[0] = first;
    srv.statuses[1] = second;
    srv.statuses[2] = 200;
}

static void
hold(bool holds)
{
    (void)pthread_mutex_lock(&srv.lock);
    srv.holds = holds;
    (void)pthread_cond_broadcast(&srv.changed);
    (void)pthread_mutex_unlock(&srv.lock);
}

static void
wait_for_call(unsigned n)
{
    (void)pthread_mutex_lock(&srv.lock);
    while (srv.ncalls < n) {
        (void)pthread_cond_wait(&srv.changed, &srv.lock);
    }
    (void)pthread_mutex_unlock(&srv.lock);
}

static void
submit(const char *text)
{
    buf_puts(sender_batch(sender), text);
    assert_int_equal(sender_batch_bytes(sender), strlen(text));
    sender_submit(sender);
}

/* Until there is a result. */
static int
take(struct api_appended *ret, struct err *e)
{
    int64_t deadline_ms = clock_mono_ms() + WAIT_MS;
    int rc;
    while ((rc = sender_take(sender, ret, e)) == 0) {
        struct pollfd fd = {.fd = sender_fd(sender), .events = POLLIN};
        uint64_t count;
        assert_true(clock_mono_ms() < deadline_ms);
        assert_true(poll(&fd, 1, WAIT_MS) > 0);
        assert_int_equal(read(fd.fd, &count, sizeof count), sizeof count);
    }
    return rc;
}

static void
batches_in_turn(void **state)
{
    (void)state;
    struct api_appended a;
    struct err e;
    answers(200, 200);
    hold(true);
    struct buf *first = sender_batch(sender);
    submit("one");
    wait_for_call(1);
    assert_false(sender_is_idle(sender));
    assert_int_equal(sender_take(sender, &a, &e), 0);
    /* the other one is filled meanwhile */
    assert_ptr_not_equal(sender_batch(sender), first);
    buf_puts(sender_batch(sender), "tw");
    hold(false);
    assert_int_equal(take(&a, &e), 1);
    assert_int_equal(a.proven_lsn, 1000);
    assert_true(sender_is_idle(sender));
    buf_puts(sender_batch(sender), "o");
    sender_submit(sender);
    assert_int_equal(take(&a, &e), 1);
    assert_int_equal(a.proven_lsn, 1001);
    assert_string_equal(srv.bodies[0], "one");
    assert_string_equal(srv.bodies[1], "two");
    assert_int_equal(srv.heads[0].sequence, 1);
    assert_int_equal(srv.heads[1].sequence, 2);
    assert_int_equal(srv.heads[1].generation, 7);
    assert_memory_equal(srv.heads[1].uuid, "0123456789abcde", API_UUID);
    assert_int_equal(sender_batch_bytes(sender), 0);
}

/* A definite "nothing was done": the same append, with the same sequence. */
static void
full_disk_is_tried_again(void **state)
{
    (void)state;
    struct api_appended a;
    struct err e;
    answers(503, 200);
    submit("one");
    assert_int_equal(take(&a, &e), 1);
    assert_int_equal(srv.ncalls, 2);
    assert_string_equal(srv.bodies[1], "one");
    assert_int_equal(srv.heads[0].sequence, 1);
    assert_int_equal(srv.heads[1].sequence, 1);
    assert_false(sender_is_waiting(sender, &e));
}

static void
full_disk_is_reported(void **state)
{
    (void)state;
    struct api_appended a;
    struct err e = {0};
    answers(503, 200);
    srv.retry_after = "3600";
    submit("one");
    struct pollfd fd = {.fd = sender_fd(sender), .events = POLLIN};
    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    assert_true(sender_is_waiting(sender, &e));
    assert_int_equal(e.code, ERR_NOSPACE);
    assert_string_equal(e.msg, "not now");
    assert_int_equal(sender_take(sender, &a, &e), 0);
    /* and closing does not wait an hour: teardown */
}

/* Anything else may have been done or not: never again in this session. */
static void
other_failures_end_the_session(void **state)
{
    (void)state;
    struct api_appended a;
    struct err e;
    answers(409, 200);
    submit("one");
    assert_int_equal(take(&a, &e), ERR_FENCED);
    assert_int_equal(sender_take(sender, &a, &e), ERR_FENCED);
    assert_false(sender_is_idle(sender));
    assert_int_equal(srv.ncalls, 1);
}

static void
server_errors_end_the_session(void **state)
{
    (void)state;
    struct api_appended a;
    struct err e;
    answers(500, 200);
    submit("one");
    assert_true(take(&a, &e) < 0);
    assert_int_equal(srv.ncalls, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(batches_in_turn),
        TEST(full_disk_is_tried_again),
        TEST(full_disk_is_reported),
        TEST(other_failures_end_the_session),
        TEST(server_errors_end_the_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
