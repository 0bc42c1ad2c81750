/* httpd: a real server in this process, on a Unix socket and on TCP, asked by our client where
 * the client behaves, and by bare sockets where it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/httpc.h"
#include "proto/base/httpd.h"
#include "proto/base/xmalloc.h"

enum { BIG_BYTES = 3 * 1024 * 1024 + 17, WAIT_MS = 10000, MAX_CONNECTIONS = 4 };

/* What the handlers tell the test, and one request parked for it. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct httpd_req *parked;
    int n_dropped;
    _Atomic int n_handled;
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static struct httpd *server;
static char socket_path[64];

/* --- the application --- */

struct answer {
    struct httpd_req *rq;
    int n_left; /* pieces */
    int final;  /* HTTPD_STREAM_END or BREAK */
    bool waits; /* suspend before each piece */
    bool is_waiting;
};

static void
drop(void *state)
{
    free(state);
    (void)pthread_mutex_lock(&shared.lock);
    shared.n_dropped++;
    (void)pthread_cond_broadcast(&shared.changed);
    (void)pthread_mutex_unlock(&shared.lock);
}

static void
park(struct httpd_req *rq)
{
    httpd_suspend(rq);
    (void)pthread_mutex_lock(&shared.lock);
    shared.parked = rq;
    (void)pthread_cond_broadcast(&shared.changed);
    (void)pthread_mutex_unlock(&shared.lock);
}

static struct httpd_req *
wait_parked(void)
{
    struct httpd_req *rq;

    (void)pthread_mutex_lock(&shared.lock);
    while (shared.parked == NULL) {
        (void)pthread_cond_wait(&shared.changed, &shared.lock);
    }
    rq = shared.parked;
    shared.parked = NULL;
    (void)pthread_mutex_unlock(&shared.lock);
    return rq;
}

static void
wait_dropped(int n)
{
    (void)pthread_mutex_lock(&shared.lock);
    while (shared.n_dropped < n) {
        (void)pthread_cond_wait(&shared.changed, &shared.lock);
    }
    assert_int_equal(shared.n_dropped, n);
    (void)pthread_mutex_unlock(&shared.lock);
}

static ssize_t
render(void *state, char *to, size_t max)
{
    struct answer *a = state;
    int n;

    if (a->n_left == 0) {
        return a->final;
    }
    if (a->waits && !a->is_waiting) {
        a->is_waiting = true;
        park(a->rq);
        return HTTPD_STREAM_WAIT;
    }
    a->is_waiting = false;
    n = snprintf(to, max, "piece %d\n", a->n_left--);
    return n;
}

static struct answer *
answer_new(struct httpd_req *rq)
{
    struct answer *a = xcalloc(1, sizeof *a);

    a->rq = rq;
    a->final = HTTPD_STREAM_END;
    httpd_set_state(rq, a, drop);
    return a;
}

static void
respond_text(struct httpd_req *rq, struct str text)
{
    struct buf b;

    buf_init(&b, 16 * 1024 * 1024);
    buf_put_str(&b, text);
    httpd_respond(rq, 200, "text/plain", &b);
}

static void
handle_wait(struct httpd_req *rq)
{
    if (httpd_state(rq) == NULL) {
        (void)answer_new(rq);
        park(rq);
    } else {
        respond_text(rq, STR("resumed"));
    }
}

static void
handle_stream(struct httpd_req *rq)
{
    struct answer *a = answer_new(rq);
    struct str v;

    a->n_left = 3;
    a->waits = httpd_query(rq, "wait", &v);
    a->final = httpd_query(rq, "break", &v) ? HTTPD_STREAM_BREAK : HTTPD_STREAM_END;
    httpd_respond_stream(rq, 200, "application/x-ndjson", render);
}

static void
handle_query(struct httpd_req *rq)
{
    static const char *const known[] = {"name", "flag", NULL};
    struct str bad = {0}, v = {0}, accept = STR("-");
    struct buf b;

    buf_init(&b, 1024);
    if (!httpd_query_known(rq, known, &bad)) {
        buf_puts(&b, "unknown ");
        buf_put_str(&b, bad);
    } else {
        buf_puts(&b, httpd_query(rq, "name", &v) ? "name=" : "no name");
        buf_put_str(&b, v);
        buf_puts(&b, httpd_query(rq, "flag", &v) ? " flag" : "");
    }
    (void)httpd_header(rq, "aCCept", &accept);
    buf_puts(&b, " accept=");
    buf_put_str(&b, accept);
    httpd_add_header(rq, "Oneslot-Tail", "7");
    httpd_respond(rq, 200, "text/plain", &b);
}

static void
handle(struct httpd_req *rq, void *arg)
{
    struct str path = httpd_path(rq);

    assert_ptr_equal(arg, &shared);
    shared.n_handled++;
    if (str_is(path, "/wait")) {
        handle_wait(rq);
    } else if (str_is(path, "/stream")) {
        handle_stream(rq);
    } else if (str_is(path, "/query")) {
        handle_query(rq);
    } else if (str_is(path, "/echo") || str_is(path, "/small")) {
        respond_text(rq, httpd_body(rq));
    } else if (str_is(path, "/empty")) {
        httpd_respond(rq, 204, NULL, NULL);
    } else {
        respond_text(rq, path);
    }
}

static size_t
body_limit(struct httpd_req *rq, void *arg)
{
    (void)arg;
    return str_is(httpd_path(rq), "/echo")    ? 4 * 1024 * 1024
           : str_is(httpd_path(rq), "/small") ? 10
                                              : 0;
}

/* --- the fixture --- */

static struct httpd_conf
conf_base(void)
{
    return (struct httpd_conf){.max_connections = MAX_CONNECTIONS,
        .threads = 2,
        .idle_timeout_s = 30,
        .buffer_bytes = 128 * 1024,
        .loopback_hosts_only = true,
        .handler = handle,
        .body_limit = body_limit,
        .arg = &shared};
}

static int
start(struct httpd_conf c)
{
    struct err e = {0};

    shared.n_dropped = 0;
    shared.n_handled = 0;
    shared.parked = NULL;
    if (httpd_open(&c, &server, &e) != 0) {
        print_error("%s\n", e.msg);
        return -1;
    }
    return 0;
}

static int
start_tcp(void **state)
{
    struct httpd_conf c = conf_base();

    (void)state;
    c.host = "127.0.0.1";
    return start(c);
}

static int
start_impatient(void **state)
{
    struct httpd_conf c = conf_base();

    (void)state;
    c.host = "127.0.0.1";
    c.idle_timeout_s = 1;
    return start(c);
}

static int
start_unix(void **state)
{
    struct httpd_conf c = conf_base();

    (void)state;
    (void)snprintf(socket_path, sizeof socket_path, "/tmp/httpd_test.%d.sock", (int)getpid());
    c.unix_path = socket_path;
    return start(c);
}

static int
stop(void **state)
{
    (void)state;
    httpd_close(server);
    server = NULL;
    return 0;
}

static struct httpc *
client_new(void)
{
    char url[64];
    struct httpc_conf c = {.base_url = url};

    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u", (unsigned)httpd_port(server));
    if (httpd_port(server) == 0) {
        c = (struct httpc_conf){.base_url = "http://oneslot", .unix_path = socket_path};
    }
    return httpc_new(&c);
}

static void
assert_answer(struct httpc *c, struct httpc_req rq, long status, struct str text)
{
    struct httpc_resp rs = {0};
    struct err e = {0};
    int rc;

    rq.max_body = rq.max_body == 0 ? 8 * 1024 * 1024 : rq.max_body;
    rc = httpc_call(c, &rq, &rs, &e);
    if (rc != 0) {
        print_error("%s\n", e.msg);
    }
    assert_int_equal(rc, 0);
    assert_int_equal(rs.status, status);
    assert_true(str_eq(buf_str(&rs.body), text));
    httpc_resp_fini(&rs);
}

/* --- bare sockets --- */

static int
dial(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
        .sin_port = htons(httpd_port(server)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

/* True when all of it went out; the server may have closed meanwhile. */
static bool
send_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);

        if (sent <= 0) {
            return false;
        }
        p += sent;
        n -= (size_t)sent;
    }
    return true;
}

static bool
send_text(int fd, const char *text)
{
    return send_all(fd, text, strlen(text));
}

/* Reads until the server closes; false when it does not within WAIT_MS. */
static bool
read_to_end(int fd, struct buf *b)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        char piece[4096];
        ssize_t n;

        if (poll(&p, 1, WAIT_MS) != 1) {
            return false;
        }
        n = recv(fd, piece, sizeof piece, 0);
        if (n <= 0) {
            return true;
        }
        buf_put(b, piece, (size_t)n);
    }
}

/* The status of the only answer on fd, 0 for none; -1 when the connection stays open. */
static int
last_status(int fd)
{
    auto_buf struct buf b;
    int status = 0;

    buf_init(&b, 4 * 1024 * 1024);
    if (!read_to_end(fd, &b)) {
        return -1;
    }
    (void)sscanf(buf_cstr(&b), "HTTP/1.1 %d", &status);
    return status;
}

/* --- tests --- */

static void
requests_share_a_connection(void **state)
{
    struct httpc *c = client_new();
    char *big = xmalloc(BIG_BYTES);

    (void)state;
    for (size_t i = 0; i < BIG_BYTES; i++) {
        big[i] = (char)(i * 7 + i / 251);
    }
    for (int round = 0; round < 3; round++) {
        assert_answer(
            c, (struct httpc_req){.method = "GET", .path = "/hello"}, 200, STR("/hello"));
        assert_answer(c,
            (struct httpc_req){.method = "POST",
                .path = "/echo",
                .content_type = "application/msgpack",
                .body = {big, BIG_BYTES}},
            200, (struct str){.p = big, .n = BIG_BYTES});
        assert_answer(c,
            (struct httpc_req){
                .method = "POST", .path = "/echo", .content_type = "application/json"},
            200, STR(""));
        assert_answer(c,
            (struct httpc_req){.method = "PUT",
                .path = "/small",
                .content_type = "application/json",
                .body = STR("0123456789")},
            200, STR("0123456789"));
        assert_answer(c, (struct httpc_req){.method = "DELETE", .path = "/x"}, 200, STR("/x"));
        assert_answer(c, (struct httpc_req){.method = "GET", .path = "/empty"}, 204, STR(""));
        assert_answer(c, (struct httpc_req){.method = "HEAD", .path = "/hello"}, 200, STR(""));
    }
    free(big);
    httpc_free(c);
}

static void
queries_and_headers_are_decoded(void **state)
{
    static const struct {
        const char *path, *text;
    } cases[] = {
        {"/query", "no name accept=*/*"},
        {"/query?name=", "name= accept=*/*"},
        {"/query?flag&name=a%20b%26c", "name=a b&c flag accept=*/*"},
        {"/query?name=a%00b", "name=a%00b accept=*/*"},
        {"/query?name=0%2F16B3748", "name=0/16B3748 accept=*/*"},
        {"/query?name=1&nam%65s=2", "unknown names accept=*/*"},
        {"/a%2Fb%20c", "/a/b c"},
        {"/a%00b", "/a%00b"},
    };
    struct httpc *c = client_new();

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        print_message("%s\n", cases[i].path);
        assert_answer(c, (struct httpc_req){.method = "GET", .path = cases[i].path}, 200,
            str_from(cases[i].text));
    }
    httpc_free(c);
}

static void
a_body_beyond_its_limit_is_413(void **state)
{
    static const struct {
        const char *path;
        size_t n;
        long status;
    } cases[] = {
        {"/small", 10, 200},
        {"/small", 11, 413},
        {"/none", 1, 413},
        {"/echo", 4 * 1024 * 1024, 200},
        {"/echo", 4 * 1024 * 1024 + 1, 413},
    };
    struct httpc *c = client_new();
    char *body = xcalloc(1, 4 * 1024 * 1024 + 1);

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct httpc_resp rs = {0};
        struct err e = {0};
        struct httpc_req rq = {.method = "POST",
            .path = cases[i].path,
            .content_type = "application/json",
            .body = {body, cases[i].n},
            .max_body = 8 * 1024 * 1024};

        print_message("%s %zu\n", cases[i].path, cases[i].n);
        assert_int_equal(httpc_call(c, &rq, &rs, &e), 0);
        assert_int_equal(rs.status, cases[i].status);
        if (rs.status == 413) {
            assert_string_equal(rs.content_type, "application/problem+json");
        }
        httpc_resp_fini(&rs);
    }
    free(body);
    httpc_free(c);
}

#define HOST  "Host: localhost\r\n"
#define JSON  "Content-Type: application/json\r\n"
#define CLOSE "Connection: close\r\n"

static const struct {
    const char *what, *bytes;
    int status;
    bool is_handled;
} raw_cases[] = {
    {"plain", "GET / HTTP/1.1\r\n" HOST CLOSE "\r\n", 200, true},
    {"HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", 200, true},
    {"HTTP/1.1 without Host", "GET / HTTP/1.1\r\n" CLOSE "\r\n", 400, false},
    {"two Hosts", "GET / HTTP/1.1\r\n" HOST "Host: evil.example\r\n" CLOSE "\r\n", 400, false},
    {"a foreign Host", "GET / HTTP/1.1\r\nHost: evil.example\r\n" CLOSE "\r\n", 403, false},
    {"our Unix name on TCP", "GET / HTTP/1.1\r\nHost: oneslot\r\n" CLOSE "\r\n", 403, false},
    {"absolute target", "GET http://evil.example/ HTTP/1.1\r\n" HOST CLOSE "\r\n", 400, false},
    {"bodyless form POST", "POST /x HTTP/1.1\r\n" HOST CLOSE "Content-Length: 0\r\n\r\n", 415,
        false},
    {"bodyless JSON POST", "POST /x HTTP/1.1\r\n" HOST JSON CLOSE "Content-Length: 0\r\n\r\n",
        200, true},
    {"form POST",
        "POST /small HTTP/1.1\r\n" HOST CLOSE
        "Content-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc",
        415, false},
    {"chunked",
        "POST /small HTTP/1.1\r\n" HOST JSON CLOSE
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        200, true},
    {"chunked, too long",
        "POST /small HTTP/1.1\r\n" HOST JSON CLOSE
        "Transfer-Encoding: chunked\r\n\r\n9\r\nabcdefghi\r\n2\r\nde\r\n0\r\n\r\n",
        413, false},
    {"bad chunk",
        "POST /small HTTP/1.1\r\n" HOST JSON "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        400, false},
    {"unknown encoding",
        "POST /small HTTP/1.1\r\n" HOST JSON "Transfer-Encoding: gzip\r\n\r\nabc", 400, false},
    {"length and encoding",
        "POST /small HTTP/1.1\r\n" HOST JSON
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400, false},
    {"two lengths",
        "POST /small HTTP/1.1\r\n" HOST JSON
        "Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
        400, false},
    {"two equal lengths",
        "POST /small HTTP/1.1\r\n" HOST JSON
        "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        400, false},
    {"negative length", "POST /small HTTP/1.1\r\n" HOST JSON "Content-Length: -1\r\n\r\n", 400,
        false},
    {"endless length",
        "POST /small HTTP/1.1\r\n" HOST JSON "Content-Length: 99999999999999999999999\r\n\r\n",
        413, false},
    {"claims a terabyte",
        "POST /echo HTTP/1.1\r\n" HOST JSON "Content-Length: 1099511627776\r\n\r\nabc", 413,
        false},
    {"body on GET", "GET /x HTTP/1.1\r\n" HOST JSON CLOSE "Content-Length: 3\r\n\r\nabc", 413,
        false},
    {"stream for HTTP/1.0", "GET /stream HTTP/1.0\r\n\r\n", 505, true},
    {"an error keeps nothing open", "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, false},
};

static void
hostile_requests_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof raw_cases / sizeof *raw_cases; i++) {
        int fd = dial();

        print_message("%s\n", raw_cases[i].what);
        shared.n_handled = 0;
        assert_true(send_text(fd, raw_cases[i].bytes));
        assert_int_equal(last_status(fd), raw_cases[i].status);
        assert_int_equal(shared.n_handled, raw_cases[i].is_handled);
        (void)close(fd);
    }
}

static void
garbage_ends_the_connection_and_nothing_else(void **state)
{
    static const char *const garbage[] = {"\r\n\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\xfc\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n", "GET / HTTP/1.1\r\n: empty name\r\n\r\n",
        " / HTTP/1.1\r\n\r\n"};
    struct httpc *c;

    (void)state;
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        int fd = dial(), status;

        (void)send_text(fd, garbage[i]);
        (void)shutdown(fd, SHUT_WR);
        status = last_status(fd);
        print_message("garbage %zu: %d\n", i, status);
        assert_true(status == 0 || (status >= 400 && status <= 505));
        (void)close(fd);
    }
    assert_int_equal(shared.n_handled, 0);
    c = client_new();
    assert_answer(c, (struct httpc_req){.method = "GET", .path = "/hello"}, 200, STR("/hello"));
    httpc_free(c);
}

/* A header that is complete but too large, and one that never ends. */
static void
headers_are_bounded(void **state)
{
    static const size_t sizes[] = {40 * 1024, 100 * 1024 * 1024};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char line[1024];
        int fd = dial(), status;
        size_t sent = 0;

        memset(line, 'x', sizeof line);
        memcpy(line, "X: ", 3);
        memcpy(line + sizeof line - 2, "\r\n", 2);
        (void)send_text(fd, "GET / HTTP/1.1\r\n" HOST);
        while (sent < sizes[i] && send_all(fd, line, sizeof line)) {
            sent += sizeof line;
        }
        assert_true(sent == sizes[0] || sent < 16 * 1024 * 1024);
        (void)send_text(fd, "\r\n");
        status = last_status(fd);
        assert_true(
            status == 431 || (i == 1 && status == 0)); /* a reset may swallow the answer */
        assert_int_equal(shared.n_handled, 0);
        (void)close(fd);
    }
}

static void
a_suspended_request_goes_on(void **state)
{
    int fd = dial();

    (void)state;
    for (int round = 1; round <= 3; round++) {
        assert_true(send_text(fd, round < 3 ? "GET /wait HTTP/1.1\r\n" HOST "\r\n"
                                            : "GET /wait HTTP/1.1\r\n" HOST CLOSE "\r\n"));
        httpd_resume(wait_parked());
        wait_dropped(round);
    }
    {
        auto_buf struct buf b;
        const char *at;
        int n = 0;

        buf_init(&b, 64 * 1024);
        assert_true(read_to_end(fd, &b));
        for (at = buf_cstr(&b); (at = strstr(at, "resumed")) != NULL; at++) {
            n++;
        }
        assert_int_equal(n, 3);
    }
    (void)close(fd);
}

static void
a_vanished_client_is_dropped(void **state)
{
    static const char *const requests[] = {
        "GET /wait HTTP/1.1\r\n" HOST "\r\n", "GET /stream?wait HTTP/1.1\r\n" HOST "\r\n"};

    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct linger hard = {.l_onoff = 1};
        struct httpd_req *rq;
        int fd = dial();

        assert_true(send_text(fd, requests[i]));
        rq = wait_parked();
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        (void)close(fd);
        httpd_resume(rq);
        wait_dropped((int)i + 1);
    }
}

static int
collect(void *arg, struct str piece, struct err *e)
{
    (void)e;
    buf_put_str(arg, piece);
    return 0;
}

static void *
resume_pieces(void *arg)
{
    for (int i = 0; i < *(int *)arg; i++) {
        httpd_resume(wait_parked());
    }
    return NULL;
}

static void
streams_end_or_break_as_meant(void **state)
{
    static const struct {
        const char *path;
        int n_resumes, rc;
    } cases[] = {
        {"/stream", 0, 0},
        {"/stream?wait", 3, 0},
        {"/stream?break", 0, ERR_CLOSED},
        {"/stream?break&wait", 3, ERR_CLOSED},
        {"/stream", 0, 0},
    };
    struct httpc *c = client_new();

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct httpc_req rq = {.method = "GET", .path = cases[i].path};
        struct httpc_resp rs = {0};
        auto_buf struct buf b;
        int n = cases[i].n_resumes;
        pthread_t th;

        print_message("%s\n", cases[i].path);
        buf_init(&b, 1024);
        assert_int_equal(pthread_create(&th, NULL, resume_pieces, &n), 0);
        assert_int_equal(httpc_stream(c, &rq, collect, &b, &rs, NULL), cases[i].rc);
        assert_int_equal(pthread_join(th, NULL), 0);
        assert_string_equal(buf_cstr(&b), "piece 3\npiece 2\npiece 1\n");
        wait_dropped((int)i + 1);
        httpc_resp_fini(&rs);
    }
    httpc_free(c);
}

static void
a_small_piece_is_not_held_back(void **state)
{
    int fd = dial();
    auto_buf struct buf b;

    (void)state;
    buf_init(&b, 64 * 1024);
    assert_true(send_text(fd, "GET /stream?wait HTTP/1.1\r\n" HOST "\r\n"));
    for (int piece = 3; piece > 0; piece--) {
        char text[32];

        httpd_resume(wait_parked());
        (void)snprintf(text, sizeof text, "piece %d", piece);
        while (
            strstr(buf_cstr(&b), text) == NULL) { /* arrives while the next one is withheld */
            struct pollfd p = {.fd = fd, .events = POLLIN};
            char more[512];
            ssize_t n;

            assert_int_equal(poll(&p, 1, WAIT_MS), 1);
            n = recv(fd, more, sizeof more, 0);
            assert_true(n > 0);
            buf_put(&b, more, (size_t)n);
        }
    }
    wait_dropped(1);
    (void)close(fd);
}

/* Sends `first`, then one byte after the other, until the server closes; returns the ms it
 * took. */
static int64_t
drip(const char *first)
{
    int fd = dial();
    int64_t from = clock_mono_ms();
    struct pollfd p = {.fd = fd, .events = POLLIN};

    assert_true(send_text(fd, first));
    while (poll(&p, 1, 50) == 0 && clock_mono_ms() - from < WAIT_MS) {
        (void)send_text(fd, "x");
    }
    assert_int_not_equal(last_status(fd), -1);
    (void)close(fd);
    return clock_mono_ms() - from;
}

static void
slow_senders_are_closed(void **state)
{
    static const char *const firsts[] = {"G", "GET / HTTP/1.1\r\nX: ",
        "POST /echo HTTP/1.1\r\n" HOST JSON "Content-Length: 100000\r\n\r\n",
        "POST /echo HTTP/1.1\r\n" HOST JSON "Transfer-Encoding: chunked\r\n\r\nfffff\r\n"};

    (void)state;
    for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++) {
        int64_t took_ms = drip(firsts[i]);

        print_message("%lld ms\n", (long long)took_ms);
        assert_true(took_ms >= 900 && took_ms < WAIT_MS / 2);
    }
    assert_int_equal(shared.n_handled, 0);
}

static void
silent_connections_are_closed_but_not_suspended_ones(void **state)
{
    int idle = dial(), waiting = dial();
    auto_buf struct buf b;

    (void)state;
    buf_init(&b, 64 * 1024);
    assert_true(send_text(waiting, "GET /wait HTTP/1.1\r\n" HOST CLOSE "\r\n"));
    assert_int_equal(last_status(idle), 0);
    (void)close(idle);
    idle = dial();
    assert_int_equal(last_status(idle), 0); /* twice the time limit has passed by now */
    httpd_resume(wait_parked());
    assert_int_equal(last_status(waiting), 200);
    (void)close(idle);
    (void)close(waiting);
}

static void
connections_are_counted(void **state)
{
    int fds[MAX_CONNECTIONS], surplus, fd;
    bool was_closed = false;
    int more[64];
    size_t n_more = 0;

    (void)state;
    for (size_t i = 0; i < MAX_CONNECTIONS; i++) {
        fds[i] = dial();
        assert_true(send_text(fds[i], "GET / HTTP/1.1\r\n" HOST "\r\n"));
        assert_int_equal(poll(&(struct pollfd){.fd = fds[i], .events = POLLIN}, 1, WAIT_MS), 1);
    }
    surplus = dial();
    assert_true(send_text(surplus, "GET / HTTP/1.1\r\n" HOST "\r\n"));
    assert_int_equal(last_status(surplus), 503);
    (void)close(surplus);
    while (!was_closed && n_more < 64) { /* far too many: not even told so */
        more[n_more] = dial();
        was_closed = poll(&(struct pollfd){.fd = more[n_more], .events = POLLIN}, 1, 20) == 1;
        n_more++;
    }
    assert_true(was_closed);
    for (size_t i = 0; i < n_more; i++) {
        (void)close(more[i]);
    }
    for (size_t i = 0; i < MAX_CONNECTIONS; i++) {
        assert_true(send_text(fds[i], "GET / HTTP/1.1\r\n" HOST CLOSE "\r\n"));
        assert_int_equal(last_status(fds[i]), 200);
        (void)close(fds[i]);
    }
    for (int status = 0; status != 200;) { /* their ends are noticed in a moment */
        fd = dial();
        (void)send_text(fd, "GET / HTTP/1.1\r\n" HOST CLOSE "\r\n");
        status = last_status(fd);
        (void)close(fd);
        assert_true(status == 200 || status == 503 || status == 0);
    }
}

static void
closing_with_a_forgotten_request_does_not_hang(void **state)
{
    int fd = dial(), other = dial();

    (void)state;
    assert_true(send_text(fd, "GET /wait HTTP/1.1\r\n" HOST "\r\n"));
    (void)wait_parked();
    assert_true(send_text(other, "GET /stream?wait HTTP/1.1\r\n" HOST "\r\n"));
    (void)wait_parked();
    httpd_close(server);
    server = NULL;
    wait_dropped(2);
    (void)close(fd);
    (void)close(other);
}

/* Every way a suspended request may meet the thread that resumes it: at once, and from many
 * threads. */
static void *
ask_many(void *arg)
{
    struct httpc *c = client_new();

    for (int i = 0; i < *(int *)arg; i++) {
        assert_answer(
            c, (struct httpc_req){.method = "GET", .path = "/wait"}, 200, STR("resumed"));
    }
    httpc_free(c);
    return NULL;
}

static void
suspending_and_resuming_race(void **state)
{
    pthread_t asker, resumer;
    int n = 500;

    (void)state;
    assert_int_equal(pthread_create(&asker, NULL, ask_many, &n), 0);
    assert_int_equal(pthread_create(&resumer, NULL, resume_pieces, &n), 0);
    assert_int_equal(pthread_join(asker, NULL), 0);
    assert_int_equal(pthread_join(resumer, NULL), 0);
    wait_dropped(n);
}

static void
the_unix_socket_is_gone_after_closing(void **state)
{
    assert_int_equal(access(socket_path, F_OK), 0);
    (void)stop(state);
    assert_int_equal(access(socket_path, F_OK), -1);
}

static void
bad_configurations_are_errors(void **state)
{
    struct httpd_conf c = conf_base();
    struct httpd *d = NULL;
    struct err e = {0};

    (void)state;
    c.host = "nowhere";
    assert_int_equal(httpd_open(&c, &d, &e), ERR_CONFIG);
    c.host = "127.0.0.1";
    c.port = httpd_port(server);
    assert_int_equal(httpd_open(&c, &d, &e), ERR_LOCKED);
    c.port = 0;
    c.tls_cert_file = c.tls_key_file = "/nonexistent.pem";
    assert_true(httpd_open(&c, &d, &e) < 0);
    c.tls_cert_file = c.tls_key_file = "/etc/passwd";
    assert_int_equal(httpd_open(&c, &d, &e), ERR_CONFIG);
    print_message("%s\n", e.msg);
    assert_null(d);
    httpd_close(NULL);
}

/* Between the two steps a client is connected and waits. */
static void
who_comes_before_it_serves_is_answered(void **state)
{
    struct httpd_conf c = conf_base();
    struct err e = {0};
    char byte;
    int fd;

    (void)state;
    c.host = "127.0.0.1";
    assert_int_equal(httpd_listen(&c, &server, &e), 0);
    fd = dial();
    assert_true(send_text(fd, "GET /hello HTTP/1.1\r\n" HOST CLOSE "\r\n"));
    assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(httpd_serve(server, &e), 0);
    assert_int_equal(last_status(fd), 200);
    (void)close(fd);
}

static void
what_never_served_leaves_nothing(void **state)
{
    struct httpd_conf c = conf_base();
    struct httpd *d = NULL;
    struct err e = {0};

    (void)state;
    (void)snprintf(socket_path, sizeof socket_path, "/tmp/httpd_test.%d.sock", (int)getpid());
    c.unix_path = socket_path;
    assert_int_equal(httpd_listen(&c, &d, &e), 0);
    assert_int_equal(access(socket_path, F_OK), 0);
    httpd_close(d);
    assert_int_equal(access(socket_path, F_OK), -1);
    c.tls_cert_file = c.tls_key_file = "/etc/passwd";
    assert_int_equal(httpd_open(&c, &d, &e), ERR_CONFIG);
    assert_int_equal(access(socket_path, F_OK), -1);
    c = conf_base();
    c.host = "127.0.0.1";
    assert_int_equal(httpd_listen(&c, &d, &e), 0);
    c.port = httpd_port(d);
    httpd_close(d);
    assert_int_equal(httpd_listen(&c, &d, &e), 0); /* else LOCKED */
    httpd_close(d);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(requests_share_a_connection, start_tcp, stop),
        cmocka_unit_test_setup_teardown(requests_share_a_connection, start_unix, stop),
        cmocka_unit_test_setup_teardown(queries_and_headers_are_decoded, start_tcp, stop),
        cmocka_unit_test_setup_teardown(a_body_beyond_its_limit_is_413, start_tcp, stop),
        cmocka_unit_test_setup_teardown(a_body_beyond_its_limit_is_413, start_unix, stop),
        cmocka_unit_test_setup_teardown(hostile_requests_are_refused, start_tcp, stop),
        cmocka_unit_test_setup_teardown(
            garbage_ends_the_connection_and_nothing_else, start_impatient, stop),
        cmocka_unit_test_setup_teardown(headers_are_bounded, start_tcp, stop),
        cmocka_unit_test_setup_teardown(a_suspended_request_goes_on, start_tcp, stop),
        cmocka_unit_test_setup_teardown(a_vanished_client_is_dropped, start_tcp, stop),
        cmocka_unit_test_setup_teardown(streams_end_or_break_as_meant, start_tcp, stop),
        cmocka_unit_test_setup_teardown(streams_end_or_break_as_meant, start_unix, stop),
        cmocka_unit_test_setup_teardown(a_small_piece_is_not_held_back, start_tcp, stop),
        cmocka_unit_test_setup_teardown(slow_senders_are_closed, start_impatient, stop),
        cmocka_unit_test_setup_teardown(
            silent_connections_are_closed_but_not_suspended_ones, start_impatient, stop),
        cmocka_unit_test_setup_teardown(connections_are_counted, start_tcp, stop),
        cmocka_unit_test_setup_teardown(
            closing_with_a_forgotten_request_does_not_hang, start_tcp, stop),
        cmocka_unit_test_setup_teardown(suspending_and_resuming_race, start_unix, stop),
        cmocka_unit_test_setup_teardown(
            the_unix_socket_is_gone_after_closing, start_unix, stop),
        cmocka_unit_test_setup_teardown(bad_configurations_are_errors, start_tcp, stop),
        cmocka_unit_test_teardown(who_comes_before_it_serves_is_answered, stop),
        cmocka_unit_test(what_never_served_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
