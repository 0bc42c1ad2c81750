/* httpc: against a server of bare sockets that answers, breaks and stalls as told, and once
 * through TLS against our own. What matters most: which errors prove that nothing was sent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "proto/base/httpc.h"
#include "proto/base/httpd.h"
#include "proto/base/listen.h"

#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
#define OK      OK_HEAD "Content-Length: 2\r\n\r\nok"

/* --- the peer: one step per request, in order --- */

struct step {
    const char *answer; /* NULL: none */
    bool closes, stalls;
};

static struct {
    int listen_fd;
    uint16_t port;
    pthread_t thread;
    const struct step *steps;
    int n_steps;
    _Atomic int n_requests;
    _Atomic bool is_over;
    struct buf last; /* the last request; read after the call it belongs to */
} peer;

static char unix_path[64];

static bool
wait_readable(int fd)
{
    while (!peer.is_over) {
        struct pollfd p = {.fd = fd, .events = POLLIN};

        if (poll(&p, 1, 50) == 1) {
            return true;
        }
    }
    return false;
}

static size_t
body_length(const char *head)
{
    const char *at = strcasestr(head, "\r\nContent-Length:");

    return at == NULL ? 0 : strtoul(at + strlen("\r\nContent-Length:"), NULL, 10);
}

static bool
read_request(int fd)
{
    static char piece[65536];
    bool is_first = true;
    const char *end;

    while (wait_readable(fd)) {
        ssize_t n = recv(fd, piece, sizeof piece, 0);

        if (n <= 0) {
            return false;
        }
        if (is_first) { /* until then the test may look at the request before */
            buf_reset(&peer.last, SIZE_MAX);
            is_first = false;
        }
        buf_put(&peer.last, piece, (size_t)n);
        end = strstr(buf_cstr(&peer.last), "\r\n\r\n");
        if (end != NULL &&
            peer.last.n - (size_t)(end + 4 - peer.last.p) >= body_length(peer.last.p)) {
            return true;
        }
    }
    return false;
}

static void
serve(int fd)
{
    while (peer.n_requests < peer.n_steps && read_request(fd)) {
        const struct step *s = &peer.steps[peer.n_requests++];

        if (s->answer != NULL) {
            CHECK(send(fd, s->answer, strlen(s->answer), MSG_NOSIGNAL) > 0);
        }
        while (s->stalls && !peer.is_over) {
            clock_sleep_ms(10);
        }
        if (s->closes) {
            return;
        }
    }
    while (peer.n_requests == peer.n_steps && !peer.is_over) { /* kept until the test is over */
        clock_sleep_ms(10);
    }
}

static void *
run_peer(void *arg)
{
    (void)arg;
    while (peer.n_requests < peer.n_steps && wait_readable(peer.listen_fd)) {
        int fd = accept(peer.listen_fd, NULL, NULL);

        if (fd >= 0) {
            serve(fd);
            (void)close(fd);
        }
    }
    return NULL;
}

static void
peer_start(const struct step *steps, int n, bool on_unix)
{
    peer.steps = steps;
    peer.n_steps = n;
    peer.n_requests = 0;
    peer.is_over = false;
    buf_init(&peer.last, 16 * 1024 * 1024);
    (void)snprintf(unix_path, sizeof unix_path, "/tmp/httpc_test.%d.sock", (int)getpid());
    assert_int_equal(on_unix ? listen_unix(unix_path, &peer.listen_fd, NULL)
                             : listen_tcp("127.0.0.1", 0, &peer.listen_fd, &peer.port, NULL),
        0);
    assert_int_equal(pthread_create(&peer.thread, NULL, run_peer, NULL), 0);
}

static void
peer_stop(void)
{
    peer.is_over = true;
    assert_int_equal(pthread_join(peer.thread, NULL), 0);
    (void)close(peer.listen_fd);
    (void)unlink(unix_path);
    buf_fini(&peer.last);
}

static struct httpc *
client_new(bool on_unix, bool (*should_stop)(void))
{
    char url[64] = "http://oneslot";
    struct httpc_conf c = {.base_url = url,
        .unix_path = on_unix ? unix_path : NULL,
        .bearer = "secret",
        .should_stop = should_stop};

    if (!on_unix) {
        (void)snprintf(url, sizeof url, "http://127.0.0.1:%u", (unsigned)peer.port);
    }
    return httpc_new(&c);
}

static const struct httpc_req get = {.method = "GET", .path = "/lag?x=1", .max_body = 100};
static const struct httpc_req post = {.method = "POST",
    .path = "/append",
    .content_type = "application/msgpack",
    .body = {"abc", 3},
    .max_body = 100};

/* --- tests --- */

static void
requests_are_written_as_meant(void **state)
{
    static const struct step steps[] = {
        {.answer = OK}, {.answer = OK}, {.answer = OK}, {.answer = OK}, {.answer = OK}};
    static const char *const headers[] = {"Oneslot-Session: 7", "X: y", NULL};
    static const struct {
        const char *method, *first_line;
        bool has_type;
        struct str body;
        const char *length;
    } cases[] = {
        {"GET", "GET /p?q=%20 HTTP/1.1\r\n", false, {NULL, 0}, NULL},
        {"POST", "POST /p?q=%20 HTTP/1.1\r\n", true, {"hello", 5}, "Content-Length: 5\r\n"},
        {"POST", "POST /p?q=%20 HTTP/1.1\r\n", true, {NULL, 0}, "Content-Length: 0\r\n"},
        {"DELETE", "DELETE /p?q=%20 HTTP/1.1\r\n", false, {NULL, 0}, NULL},
        {"PUT", "PUT /p?q=%20 HTTP/1.1\r\n", true, {"hello", 5}, "Content-Length: 5\r\n"},
    };
    struct httpc_resp rs = {0};
    struct httpc *c;

    peer_start(steps, 5, *state != NULL);
    c = client_new(*state != NULL, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct httpc_req rq = {.method = cases[i].method,
            .path = "/p?q=%20",
            .content_type = cases[i].has_type ? "application/json" : NULL,
            .accept = "application/msgpack",
            .headers = headers,
            .body = cases[i].body,
            .max_body = 2};
        const char *sent;

        print_message("%s\n", cases[i].method);
        assert_int_equal(httpc_call(c, &rq, &rs, NULL), 0);
        assert_int_equal(rs.status, 200);
        assert_true(str_eq(buf_str(&rs.body), STR("ok")));
        assert_string_equal(rs.content_type, "application/json");
        assert_int_equal(rs.retry_after_ms, -1);
        sent = buf_cstr(&peer.last);
        assert_ptr_equal(strstr(sent, cases[i].first_line), sent);
        assert_non_null(strstr(sent, "\r\nOneslot-Session: 7\r\nX: y\r\n"));
        assert_non_null(strstr(sent, "\r\nAccept: application/msgpack\r\n"));
        assert_non_null(strstr(sent, "\r\nAuthorization: Bearer secret\r\n"));
        assert_null(strcasestr(sent, "expect"));
        assert_int_equal(
            strstr(sent, "\r\nContent-Type: application/json\r\n") != NULL, cases[i].has_type);
        assert_int_equal(strcasestr(sent, "content-type") != NULL, cases[i].has_type);
        assert_int_equal(strcasestr(sent, "content-length") != NULL, cases[i].length != NULL);
        if (cases[i].length != NULL) {
            assert_non_null(strstr(sent, cases[i].length));
        }
    }
    httpc_resp_fini(&rs);
    httpc_free(c);
    peer_stop();
}

static void
large_bodies_arrive_whole(void **state)
{
    static const struct step steps[] = {{.answer = OK}, {.answer = OK}, {.answer = OK}};
    static const size_t sizes[] = {100 * 1000, 3 * 1024 * 1024 + 7, 70 * 1024};
    static char body[3 * 1024 * 1024 + 7];
    struct httpc_resp rs = {0};
    struct httpc *c;

    for (size_t i = 0; i < sizeof body; i++) {
        body[i] = (char)(1 + i % 250); /* no NUL: the peer reads text */
    }
    peer_start(steps, 3, *state != NULL);
    c = client_new(*state != NULL, NULL);
    for (size_t i = 0; i < 3; i++) {
        struct httpc_req rq = post;

        rq.body = (struct str){.p = body, .n = sizes[i]};
        assert_int_equal(httpc_call(c, &rq, &rs, NULL), 0);
        assert_true(peer.last.n > sizes[i]);
        assert_memory_equal(peer.last.p + peer.last.n - sizes[i], body, sizes[i]);
    }
    httpc_resp_fini(&rs);
    httpc_free(c);
    peer_stop();
}

static void
any_complete_answer_is_one(void **state)
{
    static const struct step steps[] = {
        {.answer = "HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy"},
        {.answer = "HTTP/1.1 301 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: "
                   "0\r\n\r\n"},
        {.answer = "HTTP/1.1 204 Done\r\n\r\n"},
        {.answer = OK_HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
        {.answer =
                OK_HEAD "Retry-After: 0\r\nContent-Length: 100\r\n\r\n"
                        "0123456789012345678901234567890123456789012345678901234567890123456789"
                        "012345678901234567890123456789"},
    };
    static const struct {
        long status;
        size_t n;
        int64_t retry_after_ms;
    } want[] = {{503, 4, 7000}, {301, 0, -1}, {204, 0, -1}, {200, 3, -1}, {200, 100, 0}};
    struct httpc_resp rs = {0};
    struct httpc *c;

    (void)state;
    peer_start(steps, 5, false);
    c = client_new(false, NULL);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(httpc_call(c, &get, &rs, NULL), 0);
        assert_int_equal(rs.status, want[i].status);
        assert_int_equal(rs.body.n, want[i].n);
        assert_int_equal(rs.retry_after_ms, want[i].retry_after_ms);
    }
    httpc_resp_fini(&rs);
    httpc_free(c);
    peer_stop();
}

static void
nothing_sent_is_told_apart(void **state)
{
    static const struct step silent[] = {{.closes = true}};
    struct httpc_resp rs = {0};
    struct err e = {0};
    struct httpc *c;

    /* Nobody listens. */
    peer_start(silent, 0, *state != NULL);
    c = client_new(*state != NULL, NULL);
    peer_stop();
    assert_int_equal(httpc_call(c, &post, &rs, &e), ERR_CONNECT);
    print_message("%s\n", e.msg);
    httpc_free(c);
    /* Somebody takes the request and says nothing. */
    peer_start(silent, 1, *state != NULL);
    c = client_new(*state != NULL, NULL);
    assert_int_equal(httpc_call(c, &post, &rs, &e), ERR_CLOSED);
    print_message("%s\n", e.msg);
    assert_null(strstr(e.msg, "abc"));
    assert_int_equal(peer.n_requests, 1);
    httpc_free(c);
    peer_stop();
    httpc_resp_fini(&rs);
}

static void
broken_answers_are_closed(void **state)
{
    static const char *const answers[] = {OK_HEAD "Content-Length: 5\r\n\r\nok",
        OK_HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        OK_HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\nab",
        OK_HEAD "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 20", "nonsense\r\n\r\n",
        OK_HEAD, OK_HEAD "\r\nwithout a length", "HTTP/1.0 200 OK\r\n\r\nwithout a length"};

    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        struct step steps[] = {{.answer = answers[i], .closes = true}};
        struct httpc_resp rs = {0};
        struct httpc *c;

        print_message("answer %zu\n", i);
        peer_start(steps, 1, false);
        c = client_new(false, NULL);
        assert_int_equal(httpc_call(c, &post, &rs, NULL), ERR_CLOSED);
        httpc_free(c);
        peer_stop();
        httpc_resp_fini(&rs);
    }
}

/* libcurl would send the request again by itself on a fresh connection. */
static void
a_dying_kept_connection_sends_a_post_once(void **state)
{
    static const struct step steps[] = {
        {.answer = OK}, {.closes = true}, {.answer = OK}, {.answer = OK}};
    static char body[200 * 1024];
    struct httpc_req bodies[] = {post, post, post};

    (void)state;
    memset(body, 'x', sizeof body);
    bodies[1].body = (struct str){.p = body, .n = sizeof body};
    bodies[2].body = (struct str){0};
    for (size_t i = 0; i < 3; i++) {
        struct httpc_resp rs = {0};
        struct err e = {0};
        struct httpc *c;

        peer_start(steps, 4, false);
        c = client_new(false, NULL);
        assert_int_equal(httpc_call(c, &bodies[i], &rs, NULL), 0);
        assert_int_equal(httpc_call(c, &bodies[i], &rs, &e), ERR_CLOSED);
        print_message("%s\n", e.msg);
        assert_int_equal(peer.n_requests, 2);
        assert_int_equal(httpc_call(c, &bodies[i], &rs, NULL), 0); /* works again */
        assert_int_equal(peer.n_requests, 3);
        httpc_free(c);
        peer_stop();
        httpc_resp_fini(&rs);
    }
}

static void
a_dying_kept_connection_may_repeat_a_get(void **state)
{
    static const struct step steps[] = {{.answer = OK}, {.closes = true}, {.answer = OK}};
    struct httpc_resp rs = {0};
    struct httpc *c;

    (void)state;
    peer_start(steps, 3, false);
    c = client_new(false, NULL);
    assert_int_equal(httpc_call(c, &get, &rs, NULL), 0);
    assert_int_equal(httpc_call(c, &get, &rs, NULL), 0);
    assert_int_equal(peer.n_requests, 3);
    httpc_free(c);
    peer_stop();
    httpc_resp_fini(&rs);
}

static _Atomic bool stop_now;

static bool
should_stop(void)
{
    return stop_now;
}

static void *
stop_when_asked(void *arg)
{
    (void)arg;
    while (peer.n_requests == 0) {
        clock_sleep_ms(5);
    }
    stop_now = true;
    return NULL;
}

static void
a_stalled_call_ends_in_time_or_on_stop(void **state)
{
    static const struct step steps[] = {{.answer = OK_HEAD, .stalls = true}};
    struct httpc_req rq = post;
    struct httpc_resp rs = {0};
    struct httpc *c;
    pthread_t th;
    int64_t from;

    (void)state;
    peer_start(steps, 1, false);
    c = client_new(false, NULL);
    rq.timeout_ms = 200;
    assert_int_equal(httpc_call(c, &rq, &rs, NULL), ERR_TIMEOUT);
    httpc_free(c);
    peer_stop();

    stop_now = false;
    peer_start(steps, 1, false);
    c = client_new(false, should_stop);
    assert_int_equal(pthread_create(&th, NULL, stop_when_asked, NULL), 0);
    rq.timeout_ms = 0;
    from = clock_mono_ms();
    assert_int_equal(httpc_call(c, &rq, &rs, NULL), ERR_STOPPING);
    assert_true(clock_mono_ms() - from < 2000);
    assert_int_equal(pthread_join(th, NULL), 0);
    assert_int_equal(httpc_call(c, &rq, &rs, NULL), ERR_STOPPING);
    assert_int_equal(peer.n_requests, 1);
    httpc_free(c);
    peer_stop();
    httpc_resp_fini(&rs);
}

static void
an_answer_has_a_limit(void **state)
{
    static const struct step steps[] = {{.answer = OK, .closes = true}, {.answer = OK}};
    struct httpc_req rq = get;
    struct httpc_resp rs = {0};
    struct httpc *c;

    (void)state;
    peer_start(steps, 2, false);
    c = client_new(false, NULL);
    rq.max_body = 1;
    assert_int_equal(httpc_call(c, &rq, &rs, NULL), ERR_TOOBIG);
    rq.max_body = 2;
    assert_int_equal(httpc_call(c, &rq, &rs, NULL), 0);
    httpc_free(c);
    peer_stop();
    httpc_resp_fini(&rs);
}

struct sink {
    char text[64];
    int rc;
};

static int
take_piece(void *arg, struct str piece, struct err *e)
{
    struct sink *s = arg;

    (void)strncat(s->text, piece.p, piece.n);
    return s->rc == 0 ? 0 : err_set(e, s->rc, "told to");
}

static void
streams_hand_over_pieces(void **state)
{
    static const struct {
        const char *answer;
        int told, rc;
        long status;
        const char *text, *body;
    } cases[] = {
        {OK_HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 0, 0,
            200, "abcde", ""},
        {OK_HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n", 0, ERR_CLOSED, 0,
            "abcde", ""},
        {OK_HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", ERR_CONFLICT, ERR_CONFLICT,
            0, "abc", ""},
        {"HTTP/1.1 410 Gone\r\nContent-Length: 5\r\n\r\nsorry", 0, 0, 410, "", "sorry"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct step steps[] = {{.answer = cases[i].answer, .closes = true}};
        struct sink sink = {.rc = cases[i].told};
        struct httpc_resp rs = {0};
        struct httpc *c;

        print_message("case %zu\n", i);
        peer_start(steps, 1, false);
        c = client_new(false, NULL);
        assert_int_equal(httpc_stream(c, &get, take_piece, &sink, &rs, NULL), cases[i].rc);
        assert_int_equal(rs.status, cases[i].status);
        assert_string_equal(sink.text, cases[i].text);
        assert_true(str_is(buf_str(&rs.body), cases[i].body));
        httpc_free(c);
        peer_stop();
        httpc_resp_fini(&rs);
    }
}

static void
everything_but_unreserved_is_escaped(void **state)
{
    char all[256];
    auto_buf struct buf b;

    (void)state;
    buf_init(&b, 1024);
    httpc_put_escaped(&b, STR("azAZ09-._~"));
    httpc_put_escaped(&b, STR(" /%?&=+#\"\n\xc3\xa4"));
    httpc_put_escaped(&b, (struct str){.p = "\0", .n = 1});
    assert_string_equal(buf_cstr(&b), "azAZ09-._~%20%2F%25%3F%26%3D%2B%23%22%0A%C3%A4%00");
    for (size_t i = 0; i < sizeof all; i++) {
        all[i] = (char)i;
    }
    buf_reset(&b, SIZE_MAX);
    httpc_put_escaped(&b, (struct str){.p = all, .n = sizeof all});
    assert_int_equal(b.n, 66 + 190 * 3);
}

/* A key and its certificate for 127.0.0.1, made for this test, valid until 2120. */
static const char test_key[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgDwZ2xxiPQa0GigFg\n"
    "raTN96EO3C/fkAGCXwd4Smpt6tehRANCAASb2Q19qV8bUQ3H6kM2w42U9zQ+xHCu\n"
    "xdjsXRwQoYfPYKoOX4Qazz3o8WC7AVrLwRfJ6cUz3q1QcYpwhU7nOv1c\n"
    "-----END PRIVATE KEY-----\n";
static const char test_cert[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBYzCCAQigAwIBAgIBATAKBggqhkjOPQQDAjAXMRUwEwYDVQQDDAxvbmVzbG90\n"
    "LXRlc3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBcxFTATBgNV\n"
    "BAMMDG9uZXNsb3QtdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJvZDX2p\n"
    "XxtRDcfqQzbDjZT3ND7EcK7F2OxdHBChh89gqg5fhBrPPejxYLsBWsvBF8npxTPe\n"
    "rVBxinCFTuc6/VyjQzBBMA8GA1UdEQQIMAaHBH8AAAEwDwYDVR0TAQH/BAUwAwEB\n"
    "/zAdBgNVHQ4EFgQUWkFpAcHV6KfDcLY3GCFbZ9NMFbkwCgYIKoZIzj0EAwIDSQAw\n"
    "RgIhAPhJxXMcqfcnscq3ALv9eyQQBzPmdsEHAYFe6OsIAgtgAiEA786wFdO+fNue\n"
    "FmUWfwtBeDKCxl5ui+ODZdqrfK5gesk=\n"
    "-----END CERTIFICATE-----\n";

static void
say_hello(struct httpd_req *rq, void *arg)
{
    struct buf b;

    (void)arg;
    buf_init(&b, 100);
    buf_puts(&b, "hello");
    httpd_respond(rq, 200, "text/plain", &b);
}

static void
write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void
tls_is_spoken_and_verified(void **state)
{
    char dir[] = "/tmp/httpc_test.XXXXXX", cert[64], key[64], url[64];
    struct httpd_conf dc = {.host = "127.0.0.1",
        .tls_cert_file = cert,
        .tls_key_file = key,
        .max_connections = 8,
        .threads = 1,
        .idle_timeout_s = 30,
        .buffer_bytes = 64 * 1024,
        .loopback_hosts_only = true,
        .handler = say_hello};
    struct httpc_conf cc = {.base_url = url, .ca_file = cert};
    struct httpc_resp rs = {0};
    struct httpd *d = NULL;
    struct err e = {0};
    struct httpc *c;

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(cert, sizeof cert, "%s/cert.pem", dir);
    (void)snprintf(key, sizeof key, "%s/key.pem", dir);
    write_file(cert, test_cert);
    write_file(key, test_key);
    assert_int_equal(httpd_open(&dc, &d, &e), 0);
    (void)snprintf(url, sizeof url, "https://127.0.0.1:%u", (unsigned)httpd_port(d));
    c = httpc_new(&cc);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(httpc_call(c, &get, &rs, &e), 0);
        assert_true(str_is(buf_str(&rs.body), "hello"));
    }
    httpc_free(c);
    cc.ca_file = NULL; /* the system's authorities do not know it */
    c = httpc_new(&cc);
    assert_int_equal(httpc_call(c, &post, &rs, &e), ERR_CONNECT);
    print_message("%s\n", e.msg);
    httpc_free(c);
    cc.ca_file = "/nonexistent.pem";
    c = httpc_new(&cc);
    assert_int_equal(httpc_call(c, &post, &rs, &e), ERR_CONFIG);
    httpc_free(c);
    httpd_close(d);
    httpc_resp_fini(&rs);
    (void)unlink(cert);
    (void)unlink(key);
    (void)rmdir(dir);
}

int
main(void)
{
    static char on_unix[] = "unix";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_written_as_meant),
        cmocka_unit_test_prestate(requests_are_written_as_meant, on_unix),
        cmocka_unit_test(large_bodies_arrive_whole),
        cmocka_unit_test_prestate(large_bodies_arrive_whole, on_unix),
        cmocka_unit_test(any_complete_answer_is_one),
        cmocka_unit_test(nothing_sent_is_told_apart),
        cmocka_unit_test_prestate(nothing_sent_is_told_apart, on_unix),
        cmocka_unit_test(broken_answers_are_closed),
        cmocka_unit_test(a_dying_kept_connection_sends_a_post_once),
        cmocka_unit_test(a_dying_kept_connection_may_repeat_a_get),
        cmocka_unit_test(a_stalled_call_ends_in_time_or_on_stop),
        cmocka_unit_test(an_answer_has_a_limit),
        cmocka_unit_test(streams_hand_over_pieces),
        cmocka_unit_test(everything_but_unreserved_is_escaped),
        cmocka_unit_test(tls_is_spoken_and_verified),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
