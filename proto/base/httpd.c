/* httpd: see httpd.h. Owns the daemon, its listening socket and one `struct conn` per
 * connection, which holds the one request that may be under way on it. Promises bounds on
 * everything a client sends. Knows nothing of what is served.
 *
 * A request's way through libmicrohttpd (0.9.75):
 *   on_request, first call     headers are in: judge them (an answer queued here would close
 * the connection) on_request, with data      the body, piece by piece on_request, without data
 * all is there: the handler; again after every resume stream_read                renders a
 * streamed answer; may suspend too on_completed               always, once: drop the
 * application's state Locks: d->lock may be held while libmicrohttpd takes its own, never the
 * other way round. */
#include "proto/base/httpd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "proto/base/fs.h"
#include "proto/base/http_guard.h"
#include "proto/base/listen.h"
#include "proto/base/reaper.h"
#include "proto/base/xmalloc.h"

enum {
    RQ_MAGIC = 0x71e5aa01,
    ANSWER_HEADER_BYTES_MAX = 16 * 1024,
    BODY_KEEP_BYTES = (1024 + 64) * 1024, /* kept for the connection's next request */
    BODY_STEP_BYTES = 1024 * 1024,
    DRAIN_BYTES_MAX = 16 * 1024 * 1024, /* of a refused body, so that the client reads why */
    SURPLUS_MAX = 32,                   /* connections beyond the limit that are told so */
    PEM_BYTES_MAX = 1024 * 1024,
    SILENCE_FACTOR =
        2 /* a kept-alive connection's next header: libmicrohttpd ends mere silence */
};

struct conn;

struct httpd_req {
    unsigned magic;
    struct conn *conn;
    struct MHD_Connection *mc;
    struct str method, path;
    bool is_http10;
    size_t body_limit;
    uint64_t declared_bytes, drained_bytes;
    struct buf body;
    struct buf headers;       /* of the answer: NAME NUL VALUE NUL ... */
    unsigned refused;         /* status instead of the handler, or 0 */
    const char *refused_text; /* static */
    bool is_ready, has_responded, has_suspended, is_broken;
    httpd_stream_f *stream;
    void *state;
    void (*drop)(void *);
};

struct conn {
    struct httpd *d;
    struct reaper_entry late; /* by when its header or body must be complete */
    bool is_surplus;
    bool is_suspended; /* under d->lock, as the list: of the suspended ones */
    struct conn *prev, *next;
    struct httpd_req rq;
};

struct httpd {
    struct httpd_conf c;
    char *unix_path;
    uint16_t port;
    int fd;                    /* listens; -1: not yet */
    struct MHD_Daemon *daemon; /* NULL: does not serve yet */
    struct buf cert, key;
    pthread_mutex_t lock;
    struct reaper *reaper;
    struct conn *suspended; /* under lock, as start_log */
    _Atomic unsigned n_conns;
    _Atomic bool is_closing;
    bool is_started, is_tls;
    char start_log[200];
};

/* --- the answer --- */

void
httpd_add_header(struct httpd_req *rq, const char *name, const char *value)
{
    CHECK_MAGIC(rq, RQ_MAGIC);
    CHECK(!rq->has_responded);
    buf_put(&rq->headers, name, strlen(name) + 1);
    buf_put(&rq->headers, value, strlen(value) + 1);
}

static bool
add_headers(struct httpd_req *rq, struct MHD_Response *rs, const char *content_type)
{
    const char *p = rq->headers.p, *end = p + rq->headers.n;
    bool ok = buf_ok(&rq->headers);

    if (content_type != NULL) {
        ok = ok && MHD_add_response_header(rs, "Content-Type", content_type) == MHD_YES;
    }
    while (ok && p < end) {
        const char *value = p + strlen(p) + 1;

        ok = MHD_add_response_header(rs, p, value) == MHD_YES;
        p = value + strlen(value) + 1;
    }
    return ok;
}

/* Queues rs and gives it up. What cannot be answered as meant ends with the connection. */
static void
respond_with(
    struct httpd_req *rq, unsigned status, const char *content_type, struct MHD_Response *rs)
{
    CHECK(!rq->has_responded);
    rq->has_responded = true;
    if (rs == NULL) {
        rq->is_broken = true;
        return;
    }
    if (!add_headers(rq, rs, content_type) ||
        MHD_queue_response(rq->mc, status, rs) != MHD_YES) {
        rq->is_broken = true;
    }
    MHD_destroy_response(rs);
}

static void respond_problem(struct httpd_req *rq, unsigned status, const char *detail);

void
httpd_respond(struct httpd_req *rq, unsigned status, const char *content_type, struct buf *body)
{
    struct MHD_Response *rs;

    CHECK_MAGIC(rq, RQ_MAGIC);
    if (body != NULL && !buf_ok(body)) {
        /* Cut short at its limit: half an answer must not pass for a whole one (P7). */
        buf_fini(body);
        respond_problem(rq, 500, "the answer is larger than its limit");
        return;
    }
    if (body == NULL || body->n == 0) {
        char empty[1] = "";

        rs = MHD_create_response_from_buffer(0, empty, MHD_RESPMEM_PERSISTENT);
    } else {
        rs = MHD_create_response_from_buffer(body->n, body->p, MHD_RESPMEM_MUST_FREE);
        if (rs != NULL) {
            body->p = NULL;
            body->n = body->cap = 0;
        }
    }
    if (body != NULL) {
        buf_fini(body);
    }
    respond_with(rq, status, content_type, rs);
}

/* detail: our own static text, so nothing in it needs escaping. */
static void
respond_problem(struct httpd_req *rq, unsigned status, const char *detail)
{
    struct buf b;

    buf_init(&b, 1024);
    buf_printf(&b,
        "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%u,\"detail\":\"%s\"}\n",
        http_guard_title(status), status, detail);
    if (status != 415) {
        httpd_add_header(rq, "Connection", "close");
    }
    httpd_respond(rq, status, "application/problem+json", &b);
}

/* --- suspending --- */

static void
lock(struct httpd *d)
{
    CHECK(pthread_mutex_lock(&d->lock) == 0);
}

static void
unlock(struct httpd *d)
{
    CHECK(pthread_mutex_unlock(&d->lock) == 0);
}

void
httpd_suspend(struct httpd_req *rq)
{
    struct conn *cn = rq->conn;
    struct httpd *d = cn->d;

    CHECK_MAGIC(rq, RQ_MAGIC);
    rq->has_suspended = true;
    lock(d);
    CHECK(!cn->is_suspended);
    MHD_suspend_connection(rq->mc);
    if (atomic_load(&d->is_closing)) {
        MHD_resume_connection(rq->mc);
    } else {
        cn->is_suspended = true;
        cn->prev = NULL;
        cn->next = d->suspended;
        if (cn->next != NULL) {
            cn->next->prev = cn;
        }
        d->suspended = cn;
    }
    unlock(d);
}

static void
resume_locked(struct httpd *d, struct conn *cn)
{
    cn->is_suspended = false;
    if (cn->prev != NULL) {
        cn->prev->next = cn->next;
    } else {
        d->suspended = cn->next;
    }
    if (cn->next != NULL) {
        cn->next->prev = cn->prev;
    }
    MHD_resume_connection(cn->rq.mc);
}

void
httpd_resume(struct httpd_req *rq)
{
    struct httpd *d = rq->conn->d;

    CHECK_MAGIC(rq, RQ_MAGIC);
    /* Once resumed, the request may end before MHD_resume_connection returns, but its memory
     * cannot go while we hold the lock (conn_closed takes it). */
    lock(d);
    CHECK(rq->conn->is_suspended || atomic_load(&d->is_closing));
    if (rq->conn->is_suspended) {
        resume_locked(d, rq->conn);
    }
    unlock(d);
}

/* --- streams --- */

static ssize_t
stream_read(void *cls, uint64_t pos, char *to, size_t max)
{
    struct httpd_req *rq = cls;
    ssize_t n;

    (void)pos;
    CHECK_MAGIC(rq, RQ_MAGIC);
    if (atomic_load(&rq->conn->d->is_closing)) {
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    rq->has_suspended = false;
    n = rq->stream(rq->state, to, max);
    if (n == HTTPD_STREAM_END) {
        return MHD_CONTENT_READER_END_OF_STREAM;
    }
    if (n == HTTPD_STREAM_BREAK) {
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    CHECK(n > 0 ? (size_t)n <= max : n == 0 && rq->has_suspended);
    return n;
}

void
httpd_respond_stream(
    struct httpd_req *rq, unsigned status, const char *content_type, httpd_stream_f *fn)
{
    CHECK_MAGIC(rq, RQ_MAGIC);
    if (rq->is_http10) {
        respond_problem(rq, 505,
            "this answer needs HTTP/1.1: without chunks its end could not be told from a lost "
            "connection");
        return;
    }
    rq->stream = fn;
    /* The block size is for unchunked answers only: chunks are rendered into the connection's
     * memory. */
    respond_with(rq, status, content_type,
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 1024, stream_read, rq, NULL));
}

/* --- what was asked --- */

struct str
httpd_method(const struct httpd_req *rq)
{
    return rq->method;
}

struct str
httpd_path(const struct httpd_req *rq)
{
    return rq->path;
}

struct str
httpd_body(const struct httpd_req *rq)
{
    return buf_str(&rq->body);
}

bool
httpd_is_unix(const struct httpd_req *rq)
{
    return rq->conn->d->unix_path != NULL;
}

bool
httpd_is_gone(const struct httpd_req *rq)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(rq->mc, MHD_CONNECTION_INFO_CONNECTION_FD);
    char c;

    CHECK(info != NULL);
    ssize_t n = recv(info->connect_fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

static bool
lookup(const struct httpd_req *rq, enum MHD_ValueKind kind, const char *name, struct str *ret)
{
    const char *value = NULL;
    size_t n = 0;

    if (MHD_lookup_connection_value_n(rq->mc, kind, name, strlen(name), &value, &n) !=
        MHD_YES) {
        return false;
    }
    *ret = value == NULL ? STR("") : (struct str){.p = value, .n = n};
    return true;
}

bool
httpd_query(const struct httpd_req *rq, const char *name, struct str *ret)
{
    return lookup(rq, MHD_GET_ARGUMENT_KIND, name, ret);
}

int
httpd_query_u64(const struct httpd_req *rq, const char *name, uint64_t least, uint64_t max,
    uint64_t *ret, struct err *e)
{
    struct str text;
    uint64_t value;

    if (!httpd_query(rq, name, &text)) {
        return 0;
    }
    if (!str_u64(text, max, &value) || value < least) {
        return err_set(
            e, ERR_PARSE, "%s: a number from %" PRIu64 " to %" PRIu64, name, least, max);
    }
    *ret = value;
    return 0;
}

bool
httpd_header(const struct httpd_req *rq, const char *name, struct str *ret)
{
    return lookup(rq, MHD_HEADER_KIND, name, ret);
}

struct known {
    const char *const *names;
    struct str bad;
    bool has_bad;
};

static enum MHD_Result
check_known(void *cls, enum MHD_ValueKind kind, const char *key, size_t key_n,
    const char *value, size_t value_n)
{
    struct known *k = cls;

    (void)kind;
    (void)value;
    (void)value_n;
    for (const char *const *name = k->names; *name != NULL; name++) {
        if (str_is((struct str){.p = key, .n = key_n}, *name)) {
            return MHD_YES;
        }
    }
    k->has_bad = true;
    k->bad = (struct str){.p = key, .n = key_n};
    return MHD_NO;
}

bool
httpd_query_known(const struct httpd_req *rq, const char *const *names, struct str *ret_bad)
{
    struct known k = {.names = names};

    (void)MHD_get_connection_values_n(rq->mc, MHD_GET_ARGUMENT_KIND, check_known, &k);
    if (k.has_bad) {
        *ret_bad = k.bad;
    }
    return !k.has_bad;
}

void
httpd_set_state(struct httpd_req *rq, void *state, void (*drop)(void *state))
{
    CHECK_MAGIC(rq, RQ_MAGIC);
    rq->state = state;
    rq->drop = drop;
}

void *
httpd_state(const struct httpd_req *rq)
{
    return rq->state;
}

/* --- judging the headers --- */

static enum MHD_Result
note_header(void *cls, enum MHD_ValueKind kind, const char *key, size_t key_n,
    const char *value, size_t value_n)
{
    (void)kind;
    http_guard_note(cls, (struct str){.p = key, .n = key_n},
        (struct str){.p = value, .n = value == NULL ? 0 : value_n});
    return MHD_YES;
}

static void
refuse(struct httpd_req *rq, unsigned status, const char *text)
{
    if (rq->refused == 0) {
        rq->refused = status;
        rq->refused_text = text;
    }
}

static void
judge_size(struct httpd_req *rq)
{
    const struct httpd_conf *c = &rq->conn->d->c;

    rq->body_limit = c->body_limit == NULL ? 0 : c->body_limit(rq, c->arg);
    rq->body.max = rq->body_limit;
    if (rq->declared_bytes > rq->body_limit) {
        refuse(rq, 413, "the body is larger than this resource accepts");
    }
}

/* Returns true when a refusal must not wait for the body: nobody knows, or wants to know, where
 * it ends. (libmicrohttpd would take the first of several lengths, and an unknown encoding as
 * "until the connection closes".) */
static bool
judge(struct httpd_req *rq)
{
    struct http_guard g = {0};
    const union MHD_ConnectionInfo *size =
        MHD_get_connection_info(rq->mc, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    struct http_guard_about about = {.method = rq->method,
        .path = rq->path,
        .header_bytes = size == NULL ? SIZE_MAX : size->header_size,
        .is_http10 = rq->is_http10,
        .is_unix = httpd_is_unix(rq),
        .loopback_hosts_only = rq->conn->d->c.loopback_hosts_only};
    const char *why = NULL;
    unsigned status;

    if (rq->conn->is_surplus) {
        refuse(rq, 503, "too many connections: try again later");
    }
    (void)MHD_get_connection_values_n(rq->mc, MHD_HEADER_KIND, note_header, &g);
    status = http_guard_judge(&g, &about, &why);
    if (status != 0) {
        refuse(rq, status, why);
    }
    if (!http_guard_is_framed(&g)) {
        return true;
    }
    rq->declared_bytes = http_guard_body_bytes(&g);
    if (rq->refused == 0 && http_guard_has_body(&g)) {
        judge_size(rq);
    }
    return rq->refused == 431 || (rq->refused != 0 && rq->declared_bytes > DRAIN_BYTES_MAX);
}

/* --- libmicrohttpd's calls --- */

static void
set_deadline(struct conn *cn, unsigned factor)
{
    reaper_set(&cn->late,
        factor == 0 ? 0 : clock_mono_ms() + (int64_t)factor * cn->d->c.idle_timeout_s * 1000);
}

static enum MHD_Result
request_begin(struct httpd_req *rq, const char *url, const char *method, const char *version)
{
    rq->method = str_from(method);
    rq->path = str_from(url);
    rq->is_http10 = strcmp(version, MHD_HTTP_VERSION_1_0) == 0;
    set_deadline(rq->conn, 1);
    if (judge(rq)) {
        respond_problem(rq, rq->refused, rq->refused_text);
    }
    return rq->is_broken ? MHD_NO : MHD_YES;
}

/* Copies the piece behind the others; the memory grows in steps towards the declared length, so
 * that a mere claim reserves little. */
static bool
body_put(struct httpd_req *rq, const char *data, size_t n)
{
    size_t room = n;

    if (rq->body.cap - rq->body.n < n) {
        uint64_t rest = rq->declared_bytes > rq->body.n ? rq->declared_bytes - rq->body.n : 0;

        room = rest < BODY_STEP_BYTES ? (size_t)rest : BODY_STEP_BYTES;
        room = room < n ? n : room;
    }
    (void)buf_room(&rq->body, room);
    buf_put(&rq->body, data, n);
    return buf_ok(&rq->body);
}

static enum MHD_Result
request_data(struct httpd_req *rq, const char *data, size_t *n)
{
    if (rq->refused == 0 && (*n > rq->body_limit - rq->body.n || !body_put(rq, data, *n))) {
        refuse(rq, 413, "the body is larger than this resource accepts");
        buf_reset(&rq->body, BODY_KEEP_BYTES);
    }
    if (rq->refused != 0) {
        rq->drained_bytes += *n;
        if (rq->drained_bytes > DRAIN_BYTES_MAX) {
            return MHD_NO;
        }
    }
    *n = 0;
    return MHD_YES;
}

static enum MHD_Result
request_ready(struct httpd_req *rq)
{
    struct httpd *d = rq->conn->d;

    if (!rq->is_ready) {
        rq->is_ready = true;
        set_deadline(rq->conn, 0);
    }
    if (atomic_load(&d->is_closing)) {
        return MHD_NO;
    }
    if (rq->refused != 0) {
        respond_problem(rq, rq->refused, rq->refused_text);
    } else {
        rq->has_suspended = false;
        d->c.handler(rq, d->c.arg);
        CHECK(rq->has_responded != rq->has_suspended);
    }
    return rq->is_broken ? MHD_NO : MHD_YES;
}

static enum MHD_Result
on_request(void *cls, struct MHD_Connection *mc, const char *url, const char *method,
    const char *version, const char *data, size_t *n, void **con_cls)
{
    struct httpd_req *rq = *con_cls;

    (void)cls;
    if (rq == NULL) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(mc, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

        CHECK(info != NULL && info->socket_context != NULL);
        rq = &((struct conn *)info->socket_context)->rq;
        CHECK_MAGIC(rq, RQ_MAGIC);
        *con_cls = rq;
        return request_begin(rq, url, method, version);
    }
    return *n > 0 ? request_data(rq, data, n) : request_ready(rq);
}

static void
rq_init(struct httpd_req *rq, struct conn *cn, struct MHD_Connection *mc)
{
    *rq = (struct httpd_req){.magic = RQ_MAGIC, .conn = cn, .mc = mc};
    buf_init(&rq->body, 0);
    buf_init(&rq->headers, ANSWER_HEADER_BYTES_MAX);
}

/* Ready for the connection's next request; keeps the memory of an ordinary body. */
static void
rq_reset(struct httpd_req *rq)
{
    struct buf body = rq->body, headers = rq->headers;

    if (rq->drop != NULL) {
        rq->drop(rq->state);
    }
    buf_reset(&body, BODY_KEEP_BYTES);
    buf_reset(&headers, 1024);
    *rq = (struct httpd_req){
        .magic = RQ_MAGIC, .conn = rq->conn, .mc = rq->mc, .body = body, .headers = headers};
}

static void
on_completed(
    void *cls, struct MHD_Connection *mc, void **con_cls, enum MHD_RequestTerminationCode why)
{
    struct httpd_req *rq = *con_cls;

    (void)cls;
    (void)mc;
    (void)why;
    if (rq != NULL) {
        *con_cls = NULL;
        rq_reset(rq);
        set_deadline(rq->conn, SILENCE_FACTOR);
    }
}

static enum MHD_Result
on_accept(void *cls, const struct sockaddr *addr, socklen_t n)
{
    struct httpd *d = cls;

    (void)addr;
    (void)n;
    return atomic_load(&d->n_conns) < d->c.max_connections + SURPLUS_MAX ? MHD_YES : MHD_NO;
}

static void
conn_started(struct httpd *d, struct MHD_Connection *mc, void **ret_cn)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct conn *cn = xcalloc(1, sizeof *cn);

    CHECK(info != NULL);
    cn->d = d;
    cn->is_surplus = atomic_fetch_add(&d->n_conns, 1) >= d->c.max_connections;
    rq_init(&cn->rq, cn, mc);
    reaper_add(d->reaper, &cn->late, info->connect_fd);
    set_deadline(cn, 1);
    *ret_cn = cn;
}

static void
conn_closed(struct httpd *d, struct conn *cn)
{
    reaper_remove(d->reaper, &cn->late);
    /* A thread that has just resumed it may still be inside httpd_resume. */
    lock(d);
    CHECK(!cn->is_suspended);
    unlock(d);
    (void)atomic_fetch_sub(&d->n_conns, 1);
    buf_fini(&cn->rq.body);
    buf_fini(&cn->rq.headers);
    cn->rq.magic = 0;
    free(cn);
}

/* The descriptor is open at both calls, so that the reaper never meets a closed one. */
static void
on_connection(
    void *cls, struct MHD_Connection *mc, void **cn, enum MHD_ConnectionNotificationCode what)
{
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        conn_started(cls, mc, cn);
    } else if (*cn != NULL) {
        conn_closed(cls, *cn);
        *cn = NULL;
    }
}

static size_t
unescape(void *cls, struct MHD_Connection *mc, char *s)
{
    (void)cls;
    (void)mc;
    return http_guard_unescape(s);
}

/* Keeps why a daemon would not start; later messages are about single clients. */
static void on_log(void *cls, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));

static void
on_log(void *cls, const char *fmt, va_list ap)
{
    struct httpd *d = cls;

    lock(d);
    if (!d->is_started) {
        (void)vsnprintf(d->start_log, sizeof d->start_log, fmt, ap);
        d->start_log[strcspn(d->start_log, "\n")] = '\0';
    }
    unlock(d);
}

/* --- opening and closing --- */

static int
read_pem(const char *path, struct buf *b, struct err *e)
{
    int rc = fs_read_file(path, b, PEM_BYTES_MAX, e);

    (void)buf_cstr(b);
    return rc;
}

static int
read_tls(struct httpd *d, struct err *e)
{
    int rc;

    if (!d->is_tls) {
        return 0;
    }
    if (MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES) {
        return err_set(e, ERR_CONFIG, "the installed libmicrohttpd cannot do TLS");
    }
    rc = read_pem(d->c.tls_cert_file, &d->cert, e);
    return rc != 0 ? rc : read_pem(d->c.tls_key_file, &d->key, e);
}

static int
listen_on(struct httpd *d, struct err *e)
{
    if (d->unix_path != NULL) {
        return listen_unix(d->unix_path, &d->fd, e);
    }
    return listen_tcp(d->c.host, d->c.port, &d->fd, &d->port, e);
}

/* libmicrohttpd divides its own limit among its threads and stops accepting at it, which would
 * leave clients waiting without an answer: ours (on_accept) is reached first, whichever threads
 * serve them. */
static intptr_t
daemon_limit(const struct httpd_conf *c)
{
    return (intptr_t)(c->max_connections + SURPLUS_MAX + c->threads) * (intptr_t)c->threads;
}

static struct httpd *
httpd_new(const struct httpd_conf *c)
{
    struct httpd *d = xcalloc(1, sizeof *d);

    CHECK((c->unix_path == NULL) != (c->host == NULL) && c->handler != NULL);
    CHECK((c->tls_cert_file == NULL) == (c->tls_key_file == NULL));
    CHECK(c->threads > 0 && c->max_connections > 0 && c->idle_timeout_s > 0);
    CHECK(c->buffer_bytes >= 2 * HTTP_GUARD_HEADER_BYTES_MAX);
    d->c = *c;
    d->unix_path = c->unix_path == NULL ? NULL : xstrdup(c->unix_path);
    d->fd = -1;
    d->is_tls = c->tls_cert_file != NULL;
    buf_init(&d->cert, PEM_BYTES_MAX + 1);
    buf_init(&d->key, PEM_BYTES_MAX + 1);
    CHECK(pthread_mutex_init(&d->lock, NULL) == 0);
    return d;
}

static int
httpd_prepare(struct httpd *d, struct err *e)
{
    int64_t tick_ms = (int64_t)d->c.idle_timeout_s * 1000 / 8;
    int rc = read_tls(d, e);

    if (rc == 0) {
        rc = reaper_new(tick_ms < 5000 ? tick_ms : 5000, &d->reaper, e);
    }
    return rc == 0 ? listen_on(d, e) : rc;
}

int
httpd_listen(const struct httpd_conf *c, struct httpd **ret, struct err *e)
{
    struct httpd *d = httpd_new(c);
    int rc;

    (void)signal(SIGPIPE, SIG_IGN);
    rc = httpd_prepare(d, e);
    /* The strings of the configuration were borrowed for this call. */
    d->c.unix_path = d->c.host = d->c.tls_cert_file = d->c.tls_key_file = NULL;
    if (rc != 0) {
        httpd_close(d);
        return rc;
    }
    *ret = d;
    return 0;
}

static void
start_daemon(struct httpd *d, int fd)
{
    const struct httpd_conf *c = &d->c;
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL | MHD_USE_ERROR_LOG |
                     (unsigned)MHD_ALLOW_SUSPEND_RESUME |
                     (d->is_tls ? (unsigned)MHD_USE_TLS : 0U);
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_KEY, 0, d->key.p},
        {MHD_OPTION_HTTPS_MEM_CERT, 0, d->cert.p}, {MHD_OPTION_END, 0, NULL}};
    struct MHD_OptionItem options[] = {
        {MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)on_log, d},
        {MHD_OPTION_LISTEN_SOCKET, fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, daemon_limit(c), NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, (intptr_t)c->buffer_bytes, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (intptr_t)(c->buffer_bytes / 4), NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, (intptr_t)c->idle_timeout_s, NULL},
        {MHD_OPTION_THREAD_POOL_SIZE, (intptr_t)c->threads, NULL},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, d},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, d},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)unescape, d},
        {d->is_tls ? MHD_OPTION_ARRAY : MHD_OPTION_END, 0, tls},
        {MHD_OPTION_END, 0, NULL},
    };

    d->daemon = MHD_start_daemon(
        flags, 0, on_accept, d, on_request, d, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
}

/* On some failures libmicrohttpd closes the listening socket that it was given and on others
 * not: it is given a copy, which hears nothing more when it is one that is left. */
int
httpd_serve(struct httpd *d, struct err *e)
{
    int fd = fcntl(d->fd, F_DUPFD_CLOEXEC, 0);

    if (fd < 0) {
        return err_set_sys(e, ERR_IO, errno, "cannot start the HTTP server");
    }
    start_daemon(d, fd);
    lock(d);
    d->is_started = true;
    unlock(d);
    if (d->daemon == NULL) {
        (void)shutdown(d->fd, SHUT_RDWR);
        return err_set(e, ERR_CONFIG, "cannot start the HTTP server%s%s%s",
            d->is_tls ? " with this certificate and key" : "",
            d->start_log[0] == '\0' ? "" : ": ", d->start_log);
    }
    return 0;
}

int
httpd_open(const struct httpd_conf *c, struct httpd **ret, struct err *e)
{
    struct httpd *d = NULL;
    int rc = httpd_listen(c, &d, e);

    if (rc == 0) {
        rc = httpd_serve(d, e);
    }
    if (rc != 0) {
        httpd_close(d);
        return rc;
    }
    *ret = d;
    return 0;
}

void
httpd_close(struct httpd *d)
{
    if (d == NULL) {
        return;
    }
    lock(d);
    atomic_store(&d->is_closing, true);
    while (d->suspended != NULL) {
        resume_locked(d, d->suspended);
    }
    unlock(d);
    if (d->unix_path != NULL && d->fd >= 0) {
        (void)unlink(d->unix_path);
    }
    if (d->daemon != NULL) {
        MHD_stop_daemon(d->daemon);
    }
    if (d->fd >= 0) {
        (void)close(d->fd);
    }
    reaper_free(d->reaper);
    CHECK(pthread_mutex_destroy(&d->lock) == 0);
    buf_fini(&d->cert);
    buf_fini(&d->key);
    free(d->unix_path);
    free(d);
}

uint16_t
httpd_port(const struct httpd *d)
{
    return d->port;
}
