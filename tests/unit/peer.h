/* The HTTP server of bare sockets behind es_peer.h and http_peer.h: one connection at a time,
 * in a thread, on a port of its own. Whoever includes this says in peer_answer what becomes of
 * a request; one with records is judged by peer_judge: as the next step says, and without one
 * refused above max_body (413) or with the poison in it (400). */
#ifndef ONESLOT_TESTS_PEER_H
#define ONESLOT_TESTS_PEER_H

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/buf.h"

/* The answer to one request with records. All zero: as without a step. */
struct peer_step {
    unsigned status;
    const char *body;   /* NULL: none */
    const char *header; /* a line with its CRLF */
    bool drops, stalls; /* takes the request and closes; or says nothing any more */
};

static struct {
    int listen_fd;
    char url[160];
    pthread_t thread;
    const struct peer_step *steps;
    size_t n_steps, max_body;
    const char *poison;
    _Atomic size_t n_writes; /* requests with records */
    _Atomic bool is_over;
    struct buf last;     /* request, whole; read after the call that it belongs to */
    struct buf accepted; /* bodies with records */
} peer;

/* False: the connection is to be closed. */
static inline bool peer_answer(int fd);

static inline bool
peer_waits(int fd)
{
    while (!peer.is_over) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 20) == 1) {
            return true;
        }
    }
    return false;
}

/* A whole request, into last; false: the connection is over. */
static inline bool
peer_read(int fd)
{
    char piece[65536];
    size_t want = SIZE_MAX;
    struct buf auto_buf request;
    buf_init(&request, SIZE_MAX);
    while (request.n < want && peer_waits(fd)) {
        ssize_t n = read(fd, piece, sizeof piece);
        if (n <= 0) {
            return false;
        }
        buf_put(&request, piece, (size_t)n);
        const char *text = buf_cstr(&request);
        const char *end = strstr(text, "\r\n\r\n");
        if (end != NULL && want == SIZE_MAX) {
            const char *length = strcasestr(text, "\r\nContent-Length:");
            want = (size_t)(end - text) + 4;
            want += length == NULL || length > end ? 0 : strtoul(length + 17, NULL, 10);
        }
    }
    buf_reset(&peer.last, SIZE_MAX);
    buf_put_str(&peer.last, buf_str(&request));
    return request.n >= want;
}

static inline bool
peer_begins(const char *what)
{
    return strncmp(buf_cstr(&peer.last), what, strlen(what)) == 0;
}

static inline struct str
peer_body(void)
{
    const char *text = buf_cstr(&peer.last);
    const char *body = strstr(text, "\r\n\r\n") + 4;
    return (struct str){.p = body, .n = peer.last.n - (size_t)(body - text)};
}

/* body: JSON, or NULL. */
static inline void
peer_send(int fd, unsigned status, const char *header, const char *body)
{
    struct buf auto_buf text;
    buf_init(&text, SIZE_MAX);
    buf_printf(&text,
        "HTTP/1.1 %u X\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n%s",
        status, header == NULL ? "" : header, body == NULL ? 0 : strlen(body),
        body == NULL ? "" : body);
    (void)!send(fd, text.p, text.n, MSG_NOSIGNAL);
}

enum peer_judgement { PEER_ACCEPTS, PEER_ANSWERED, PEER_CLOSES };

/* The request in `last` has records. ACCEPTS: its body is in `accepted`, the answer is the
 * caller's. */
static inline enum peer_judgement
peer_judge(int fd)
{
    size_t i = peer.n_writes++;
    struct peer_step step = i < peer.n_steps ? peer.steps[i] : (struct peer_step){0};
    struct str body = peer_body();
    if (step.stalls) {
        (void)peer_waits(fd);
    }
    if (step.stalls || step.drops) {
        return PEER_CLOSES;
    }
    if (step.status != 0) {
        peer_send(fd, step.status, step.header, step.body);
    } else if (peer.max_body > 0 && body.n > peer.max_body) {
        peer_send(fd, 413, NULL, NULL);
    } else if (peer.poison != NULL && strstr(body.p, peer.poison) != NULL) {
        peer_send(fd, 400, NULL,
            "{\"error\":{\"type\":\"illegal_argument_exception\",\"reason\":\"r\"},\"status\":"
            "400}");
    } else {
        buf_put_str(&peer.accepted, body);
        return PEER_ACCEPTS;
    }
    return PEER_ANSWERED;
}

static inline void *
peer_run(void *arg)
{
    (void)arg;
    while (peer_waits(peer.listen_fd)) {
        int fd = accept(peer.listen_fd, NULL, NULL);
        while (fd >= 0 && peer_read(fd) && peer_answer(fd)) {}
        if (fd >= 0) {
            (void)close(fd);
        }
    }
    return NULL;
}

static inline void
peer_open(const struct peer_step *steps, size_t n)
{
    struct sockaddr_in sa = {
        .sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof sa;
    memset(&peer, 0, sizeof peer);
    peer.steps = steps;
    peer.n_steps = n;
    buf_init(&peer.last, SIZE_MAX);
    buf_init(&peer.accepted, SIZE_MAX);
    peer.listen_fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(peer.listen_fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(peer.listen_fd, 8), 0);
    assert_int_equal(getsockname(peer.listen_fd, (struct sockaddr *)&sa, &size), 0);
    (void)snprintf(peer.url, sizeof peer.url, "http://127.0.0.1:%u", ntohs(sa.sin_port));
    assert_int_equal(pthread_create(&peer.thread, NULL, peer_run, NULL), 0);
}

static inline void
peer_close(void)
{
    peer.is_over = true;
    assert_int_equal(pthread_join(peer.thread, NULL), 0);
    (void)close(peer.listen_fd);
    buf_fini(&peer.last);
    buf_fini(&peer.accepted);
}

#endif
