/* A server that answers as an Elasticsearch would whose documents do not matter: version and
 * mapping as they should be, `_bulk` as told (peer.h). */
#ifndef ONESLOT_TESTS_ES_PEER_H
#define ONESLOT_TESTS_ES_PEER_H

#include "es_support.h"
#include "peer.h"

static struct {
    const char *mapping;  /* NULL: as the table has it */
    _Atomic bool is_gone; /* no alias, until an index is made */
    _Atomic size_t n_made;
    size_t doc_bytes;                    /* of the note in each document of an _mget */
    _Atomic size_t n_gets, most_in_hand; /* _mgets; documents read since the last _bulk */
    size_t in_hand;
    size_t too_many_ops; /* a _bulk of so many is applied, and its answer is longer than anybody
                            reads; 0: none is */
    char mapping_put[2048]; /* the last request that changed a mapping, whole */
    size_t n_writes_before; /* that one */
    bool refuses_mapping;
} es_peer;

static const char peer_mapping[] =
    "{\"shop.item-000001\":{\"mappings\":{\"dynamic\":\"false\",\"_meta\":{\"oneslot\":{"
    "\"version\":1,\"log\":\"00000000000000000000000000000000\",\"epoch\":1,\"generation\":1,"
    "\"schema\":\"shop\",\"table\":\"item\",\"key\":[\"id\"]}},\"properties\":{\"id\":{"
    "\"type\":"
    "\"integer\"},\"name\":{\"type\":\"text\"},\"note\":{\"type\":\"text\"}}}}}";

static inline size_t
peer_count_ops(void)
{
    size_t n = 0;
    struct str body = peer_body();
    for (size_t i = 0; i < body.n; i++) {
        bool at_line = i == 0 || body.p[i - 1] == '\n';
        n += at_line && (strncmp(body.p + i, "{\"index\":{\"_index\"", 18) == 0 ||
                            strncmp(body.p + i, "{\"delete\":{\"_index\"", 19) == 0);
    }
    return n;
}

/* A success of 80 MiB, until the client has had enough. */
static inline void
peer_send_too_much(int fd)
{
    static const char head[] =
        "HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 83886080\r\n\r\n";
    static const char blanks[1024 * 1024] = {' '};
    bool is_read = send(fd, head, sizeof head - 1, MSG_NOSIGNAL) > 0;
    for (size_t i = 0; is_read && i < 80; i++) {
        is_read = send(fd, blanks, sizeof blanks, MSG_NOSIGNAL) > 0;
    }
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
    peer_send(fd, 200, NULL, buf_cstr(&answer));
}

/* All are there, in version 1. */
static inline void
peer_answer_get(int fd)
{
    struct buf auto_buf answer;
    buf_init(&answer, SIZE_MAX);
    buf_puts(&answer, "{\"docs\":[");
    const char *from = strstr(buf_cstr(&peer.last), "{\"docs\":[");
    for (size_t i = 0; (from = strstr(from, "{\"_index\":")) != NULL; from++, i++) {
        buf_printf(&answer,
            "%s{\"_index\":\"shop.item-000001\",\"_id\":\"x\",\"_version\":1,\"found\":true,"
            "\"_source\":{\"id\":1,\"note\":\"%0*d\"}}",
            i == 0 ? "" : ",", (int)es_peer.doc_bytes, 7);
        es_peer.in_hand++;
    }
    buf_puts(&answer, "]}");
    es_peer.n_gets++;
    es_peer.most_in_hand =
        es_peer.in_hand > es_peer.most_in_hand ? es_peer.in_hand : es_peer.most_in_hand;
    peer_send(fd, 200, NULL, buf_cstr(&answer));
}

static inline bool
peer_answer_bulk(int fd)
{
    es_peer.in_hand = 0;
    enum peer_judgement judgement = peer_judge(fd);
    if (judgement == PEER_ACCEPTS && es_peer.too_many_ops > 0 &&
        peer_count_ops() >= es_peer.too_many_ops) {
        peer_send_too_much(fd);
        return false;
    }
    if (judgement == PEER_ACCEPTS) {
        peer_accept_all(fd);
    }
    return judgement != PEER_CLOSES;
}

static inline void
peer_answer_mapping(int fd)
{
    (void)snprintf(es_peer.mapping_put, sizeof es_peer.mapping_put, "%s", buf_cstr(&peer.last));
    es_peer.n_writes_before = peer.n_writes;
    if (es_peer.refuses_mapping) {
        peer_send(fd, 403, NULL,
            "{\"error\":{\"type\":\"security_exception\",\"reason\":\"r\"},\"status\":403}");
    } else {
        peer_send(fd, 200, NULL, "{\"acknowledged\":true}");
    }
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
    } else if (peer_begins("PUT /shop.item-000001/_mapping ")) {
        peer_answer_mapping(fd);
    } else if (peer_begins("PUT /")) {
        es_peer.n_made++;
        es_peer.is_gone = false;
        peer_send(fd, 200, NULL, "{\"acknowledged\":true}");
    } else if (es_peer.is_gone) {
        peer_send(fd, 404, NULL,
            "{\"error\":{\"type\":\"index_not_found_exception\",\"reason\":\"r\"},\"status\":"
            "404}");
    } else if (peer_begins("GET /shop.item/_mapping")) {
        peer_send(fd, 200, NULL, es_peer.mapping == NULL ? peer_mapping : es_peer.mapping);
    } else {
        peer_send(fd, 500, NULL, "{}");
    }
    return true;
}

static inline void
es_peer_open(const struct peer_step *steps, size_t n)
{
    memset(&es_peer, 0, sizeof es_peer);
    peer_open(steps, n);
}

#endif
