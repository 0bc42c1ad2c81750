/* A server of bare sockets that answers as an Elasticsearch would whose documents do not
 * matter: version and mapping as they should be, `_bulk` as told. One connection at a time. */
#ifndef ONESLOT_TESTS_ES_PEER_H
#define ONESLOT_TESTS_ES_PEER_H

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "es_support.h"
#include "proto/base/buf.h"

/* The answer to one _bulk. All zero: everything is accepted. */
struct peer_step {
    unsigned status;
    const char *body;
    const char *header; /* a line with its CRLF */
    bool drops, stalls; /* takes the request and closes; or says nothing any more */
};

static struct {
    int listen_fd;
    char url[160];
    pthread_t thread;
    const struct peer_step *steps;
    size_t n_steps;
    size_t max_body;    /* 413 above it; 0: none */
    const char *poison; /* 400 for a body that holds it */
    _Atomic size_t n_bulks;
    _Atomic bool is_over;
    struct buf request, last; /* last: whole; read after the call that it belongs to */
    struct buf accepted;      /* bodies of the _bulks that were accepted */
    const char *mapping;      /* NULL: as the table has it */
    _Atomic bool is_gone;     /* no alias, until an index is made */
    _Atomic size_t n_made;
    size_t doc_bytes;                    /* of the note in each document of an _mget */
    _Atomic size_t n_gets, most_in_hand; /* _mgets; documents read since the last _bulk */
    size_t in_hand;
} peer;

static const char peer_mapping[] =
    "{\"shop.item-000001\":{\"mappings\":{\"dynamic\":\"false\",\"_meta\":{\"oneslot\":{"
    "\"version\":1,\"log\":\"00000000000000000000000000000000\",\"epoch\":1,\"generation\":1,"
    "\"schema\":\"shop\",\"table\":\"item\",\"key\":[\"id\"]}},\"properties\":{\"id\":{"
    "\"type\":"
    "\"integer\"},\"name\":{\"type\":\"text\"},\"note\":{\"type\":\"text\"}}}}}";

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
    buf_reset(&peer.last, SIZE_MAX);
    buf_put_str(&peer.last, buf_str(&peer.request));
    return peer.request.n >= want;
}

static inline struct str
peer_body(void)
{
    const char *text = buf_cstr(&peer.last);
    const char *body = strstr(text, "\r\n\r\n") + 4;
    return (struct str){.p = body, .n = peer.last.n - (size_t)(body - text)};
}

static inline void
peer_send(int fd, unsigned status, const char *header, const char *body)
{
    char *text = NULL;
    int n = asprintf(&text,
        "HTTP/1.1 %u X\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n%s",
        status, header == NULL ? "" : header, strlen(body), body);
    (void)!send(fd, text, (size_t)n, MSG_NOSIGNAL);
    free(text);
}

static inline bool
peer_begins(const char *what)
{
    return strncmp(buf_cstr(&peer.request), what, strlen(what)) == 0;
}

static inline void
peer_accept_all(int fd)
{
    struct buf auto_buf answer;
    struct str body = peer_body();
    buf_init(&answer, SIZE_MAX);
    buf_puts(&answer, "{\"errors\":false,\"items\":[");
    bool is_first = true;
    for (size_t i = 0; i < body.n; i++) {
        bool at_line = i == 0 || body.p[i - 1] == '\n';
        bool is_index = at_line && strncmp(body.p + i, "{\"index\":{\"_index\"", 18) == 0;
        bool is_delete = at_line && strncmp(body.p + i, "{\"delete\":{\"_index\"", 19) == 0;
        if (is_index || is_delete) {
            buf_printf(&answer, "%s{\"%s\":{\"status\":200}}", is_first ? "" : ",",
                is_index ? "index" : "delete");
            is_first = false;
        }
    }
    buf_puts(&answer, "]}");
    buf_put_str(&peer.accepted, body);
    peer_send(fd, 200, NULL, buf_cstr(&answer));
}

/* All are there, in version 1. */
static inline void
peer_answer_get(int fd)
{
    struct buf auto_buf answer;
    buf_init(&answer, SIZE_MAX);
    buf_puts(&answer, "{\"docs\":[");
    const char *from = strstr(buf_cstr(&peer.request), "{\"docs\":[");
    for (size_t i = 0; (from = strstr(from, "{\"_index\":")) != NULL; from++, i++) {
        buf_printf(&answer,
            "%s{\"_index\":\"shop.item-000001\",\"_id\":\"x\",\"_version\":1,\"found\":true,"
            "\"_source\":{\"id\":1,\"note\":\"%0*d\"}}",
            i == 0 ? "" : ",", (int)peer.doc_bytes, 7);
        peer.in_hand++;
    }
    buf_puts(&answer, "]}");
    peer.n_gets++;
    peer.most_in_hand = peer.in_hand > peer.most_in_hand ? peer.in_hand : peer.most_in_hand;
    peer_send(fd, 200, NULL, buf_cstr(&answer));
}

/* False: closes the connection. */
static inline bool
peer_answer_bulk(int fd)
{
    size_t i = peer.n_bulks++;
    peer.in_hand = 0;
    struct peer_step step = i < peer.n_steps ? peer.steps[i] : (struct peer_step){0};
    const char *text = buf_cstr(&peer.request);
    if (step.stalls) {
        (void)peer_waits(fd);
        return false;
    }
    if (step.drops) {
        return false;
    }
    if (step.status != 0) {
        peer_send(fd, step.status, step.header, step.body);
    } else if (peer.max_body > 0 && peer_body().n > peer.max_body) {
        peer_send(fd, 413, NULL, "");
    } else if (peer.poison != NULL && strstr(text, peer.poison) != NULL) {
        peer_send(fd, 400, NULL,
            "{\"error\":{\"type\":\"illegal_argument_exception\",\"reason\":\"r\"},\"status\":"
            "400}");
    } else {
        peer_accept_all(fd);
    }
    return true;
}

static inline bool
peer_answer(int fd)
{
    if (peer_begins("POST /_bulk")) {
        return peer_answer_bulk(fd);
    }
    if (peer_begins("POST /_mget")) {
        peer_answer_get(fd);
    } else if (peer_begins("GET / ")) {
        peer_send(fd, 200, NULL,
            "{\"version\":{\"number\":\"8.19.8\",\"build_flavor\":\"default\"},\"tagline\":"
            "\"You Know, for Search\"}");
    } else if (peer_begins("PUT /")) {
        peer.n_made++;
        peer.is_gone = false;
        peer_send(fd, 200, NULL, "{\"acknowledged\":true}");
    } else if (peer.is_gone) {
        peer_send(fd, 404, NULL,
            "{\"error\":{\"type\":\"index_not_found_exception\",\"reason\":\"r\"},\"status\":"
            "404}");
    } else if (peer_begins("GET /shop.item/_mapping")) {
        peer_send(fd, 200, NULL, peer.mapping == NULL ? peer_mapping : peer.mapping);
    } else {
        peer_send(fd, 500, NULL, "{}");
    }
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
    (void)snprintf(peer.url, sizeof peer.url, "http://127.0.0.1:%u", ntohs(sa.sin_port));
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
