/* internal_append: the calls of append.sock. They run one after another on its only thread,
 * which is therefore the log's writer; knows statuses and messages, leaves what they mean to
 * writer. */
#include <stdio.h>

#include "broker/internal.h"
#include "broker/problem.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/xmalloc.h"

static void
respond_msgpack(struct httpd_req *rq, struct buf *b)
{
    httpd_respond(rq, 200, API_MSGPACK, b);
}

static void
get_source(struct broker *bk, struct httpd_req *rq)
{
    struct ledger ledger;
    struct api_source s;
    writer_source(bk->writer, &ledger, &s);
    auto_buf struct buf b;
    buf_init(&b, API_CONTROL_BODY);
    api_put_source(&b, &s);
    respond_msgpack(rq, &b);
}

static void
put_source(struct broker *bk, struct httpd_req *rq)
{
    struct api_source_update u;
    struct err e;
    int rc = api_get_source_update(httpd_body(rq), &u, &e);
    if (rc == 0) {
        rc = writer_set_source(bk->writer, &u, &e);
    }
    broker_end_on_fatal(rc, &e);
    if (rc != 0) {
        problem_respond(rq, &e);
        return;
    }
    get_source(bk, rq);
}

/* As much of it as fits. */
static void
keep_text(char *to, size_t size, struct str *s)
{
    (void)snprintf(to, size, "%.*s", (int)(s->n < size ? s->n : size), s->n == 0 ? "" : s->p);
    *s = (struct str){0};
}

static void
source_status(struct broker *bk, struct httpd_req *rq)
{
    struct api_source_status s;
    struct err e;
    if (api_get_source_status(httpd_body(rq), &s, &e) != 0) {
        problem_respond(rq, &e);
        return;
    }
    (void)pthread_mutex_lock(&bk->report_lock);
    struct source_report *r = &bk->source;
    r->status = s;
    keep_text(r->slot, sizeof r->slot, &r->status.slot);
    keep_text(r->wal_status, sizeof r->wal_status, &r->status.wal_status);
    keep_text(r->last_error, sizeof r->last_error, &r->status.last_error);
    r->at_ms = clock_mono_ms();
    (void)pthread_mutex_unlock(&bk->report_lock);
    struct buf empty;
    buf_init(&empty, 0);
    httpd_respond(rq, 204, NULL, &empty);
}

static int
check_tables(struct str body, struct err *e)
{
    size_t n = api_count_list(body, API_TABLES_MAX);
    auto_free struct api_table *t = xcalloc(n + 1, sizeof *t);
    int rc = api_get_tables(body, t, n, e);
    return rc < 0 ? rc : 0;
}

/* Not durable: after a restart of ours the replicator says them again within seconds. */
static void
source_tables(struct broker *bk, struct httpd_req *rq)
{
    struct str body = httpd_body(rq);
    struct err e;
    if (check_tables(body, &e) != 0) {
        problem_respond(rq, &e);
        return;
    }
    (void)pthread_mutex_lock(&bk->report_lock);
    buf_reset(&bk->tables.body, API_TABLES_BYTES);
    buf_put_str(&bk->tables.body, body);
    bk->tables.sum = api_tables_sum(body);
    (void)pthread_mutex_unlock(&bk->report_lock);
    struct buf empty;
    buf_init(&empty, 0);
    httpd_respond(rq, 204, NULL, &empty);
}

static void
open_session(struct broker *bk, struct httpd_req *rq)
{
    struct api_session s;
    struct err e;
    int rc = writer_open_session(bk->writer, &s, &e);
    broker_end_on_fatal(rc, &e);
    if (rc != 0) {
        problem_respond(rq, &e);
        return;
    }
    log_info("session_opened", "generation=%llu", (unsigned long long)s.generation);
    auto_buf struct buf b;
    buf_init(&b, API_CONTROL_BODY);
    api_put_session(&b, &s);
    respond_msgpack(rq, &b);
}

static void
append(struct broker *bk, struct httpd_req *rq)
{
    struct str body = httpd_body(rq);
    struct api_append head;
    struct api_appended done;
    struct err e;
    int rc = api_get_append(body, &head, &e);
    if (rc == 0) {
        struct str frames = {body.p + API_APPEND_HEAD, body.n - API_APPEND_HEAD};
        rc = writer_append(bk->writer, &head, frames, &done, &e);
    }
    broker_end_on_fatal(rc, &e);
    if (rc != 0) {
        problem_respond(rq, &e);
        return;
    }
    auto_buf struct buf b;
    buf_init(&b, API_CONTROL_BODY);
    api_put_appended(&b, &done);
    respond_msgpack(rq, &b);
}

static const struct {
    const char *method, *path;
    void (*handler)(struct broker *bk, struct httpd_req *rq);
    uint64_t body_max;
} calls[] = {
    {"POST", API_APPEND, append, API_APPEND_BODY_MAX},
    {"POST", API_SESSION, open_session, 0},
    {"GET", API_SOURCE, get_source, 0},
    {"POST", API_SOURCE, put_source, API_CONTROL_BODY},
    {"POST", API_SOURCE_STATUS, source_status, API_CONTROL_BODY},
    {"POST", API_SOURCE_TABLES, source_tables, API_TABLES_BYTES},
};
enum { NCALLS = sizeof calls / sizeof calls[0] };

static size_t
find_call(const struct httpd_req *rq)
{
    size_t i = 0;
    while (i < NCALLS && !(str_is(httpd_method(rq), calls[i].method) &&
                             str_is(httpd_path(rq), calls[i].path))) {
        i++;
    }
    return i;
}

size_t
internal_append_body_limit(struct httpd_req *rq, void *arg)
{
    (void)arg;
    size_t i = find_call(rq);
    return i < NCALLS ? (size_t)calls[i].body_max : 0;
}

void
internal_append_handle(struct httpd_req *rq, void *arg)
{
    size_t i = find_call(rq);
    if (i < NCALLS) {
        calls[i].handler(arg, rq);
        return;
    }
    struct err e;
    (void)err_set(&e, ERR_NOTFOUND,
        "append.sock is for the replicator; everything else is on %s", API_SOCKET);
    problem_respond(rq, &e);
}
