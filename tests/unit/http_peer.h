/* A receiver of webhooks in a thread: answers as its steps say, one per POST; without one it
 * refuses bodies above max_body (413) or with the poison in them (400), and accepts the rest.
 * Answers anything but a POST with 501. */
#ifndef ONESLOT_TESTS_HTTP_PEER_H
#define ONESLOT_TESTS_HTTP_PEER_H

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http_support.h"

struct peer_step {
    unsigned status;    /* 0: as without a step */
    const char *header; /* a line with its CRLF */
    const char *body;
    bool drops, stalls; /* takes the request and closes; or says nothing any more */
};

static struct {
    int listen_fd;
    unsigned port;
    pthread_t thread;
    const struct peer_step *steps;
    size_t n_steps, max_body;
    const char *poison;
    _Atomic size_t n_posts, n_others;
    _Atomic bool is_over;
    struct buf request, last, accepted; /* last: the last POST, whole; accepted: bodies */
} peer;

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

/* A whole request; false: the connection is over. */
static inline bool
peer_read(int fd)
{
    char piece[65536];
    size_t want = SIZE_MAX;
    buf_reset(&peer.request, SIZE_MAX);
    while (peer.request.n < want && peer_waits(fd)) {
        ssize_t n = read(fd, piece, sizeof piece);
        if (n <= 0) {
            return false;
        }
        buf_put(&peer.request, piece, (size_t)n);
        const char *text = buf_cstr(&peer.request);
        const char *end = strstr(text, "\r\n\r\n");
        if (end != NULL && want == SIZE_MAX) {
            const char *length = strcasestr(text, "\r\nContent-Length:");
            want = (size_t)(end - text) + 4;
            want += length == NULL || length > end ? 0 : strtoul(length + 17, NULL, 10);
        }
    }
    return peer.request.n >= want;
}

static inline struct str
peer_body(struct buf *request)
{
    const char *text = buf_cstr(request);
    const char *body = strstr(text, "\r\n\r\n") + 4;
    return (struct str){.p = body, .n = request->n - (size_t)(body - text)};
}

static inline void
peer_send(int fd, unsigned status, const char *header, const char *body)
{
    struct buf auto_buf text;
    buf_init(&text, SIZE_MAX);
    buf_printf(&text, "HTTP/1.1 %u X\r\n%sContent-Length: %zu\r\n\r\n%s", status,
        header == NULL ? "" : header, body == NULL ? 0 : strlen(body),
        body == NULL ? "" : body);
    (void)!send(fd, text.p, text.n, MSG_NOSIGNAL);
}

/* False: closes the connection. */
static inline bool
peer_answer(int fd)
{
    if (strncmp(buf_cstr(&peer.request), "POST ", 5) != 0) {
        peer.n_others++;
        peer_send(fd, 501, NULL, NULL);
        return true;
    }
    buf_reset(&peer.last, SIZE_MAX);
    buf_put_str(&peer.last, buf_str(&peer.request));
    size_t i = peer.n_posts++;
    struct peer_step step = i < peer.n_steps ? peer.steps[i] : (struct peer_step){0};
    struct str body = peer_body(&peer.last);
    if (step.stalls) {
        (void)peer_waits(fd);
    }
    if (step.stalls || step.drops) {
        return false;
    }
    if (step.status == 0 && peer.max_body > 0 && body.n > peer.max_body) {
        step.status = 413;
    } else if (step.status == 0 && peer.poison != NULL && strstr(body.p, peer.poison) != NULL) {
        step.status = 400;
    } else if (step.status == 0) {
        step.status = 204;
        buf_put_str(&peer.accepted, body);
    }
    peer_send(fd, step.status, step.header, step.body);
    return true;
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
    buf_init(&peer.request, SIZE_MAX);
    buf_init(&peer.last, SIZE_MAX);
    buf_init(&peer.accepted, SIZE_MAX);
    peer.listen_fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(peer.listen_fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(peer.listen_fd, 8), 0);
    assert_int_equal(getsockname(peer.listen_fd, (struct sockaddr *)&sa, &size), 0);
    peer.port = ntohs(sa.sin_port);
    assert_int_equal(pthread_create(&peer.thread, NULL, peer_run, NULL), 0);
}

static inline void
peer_close(void)
{
    peer.is_over = true;
    assert_int_equal(pthread_join(peer.thread, NULL), 0);
    (void)close(peer.listen_fd);
    buf_fini(&peer.request);
    buf_fini(&peer.last);
    buf_fini(&peer.accepted);
}

#endif
