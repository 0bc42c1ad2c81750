/* client: see client.h. Owns what a status means; knows neither what callers do with an answer
 * nor retries. */
#include "broker/client/client.h"

#include <inttypes.h>
#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/httpc.h"
#include "proto/base/xmalloc.h"

enum {
    CONNECT_MS = 5000,
    CONTROL_MS = 30000,      /* a small call; the broker answers it at once or after one sync */
    APPEND_MS = 300000,      /* waits for a commit of whatever size on whatever disk */
    FETCH_MARGIN_MS = 60000, /* beyond the time that the broker was asked to wait */
    JSON_MAX = 16 * 1024 * 1024,
    KEEP_BYTES = 32 * 1024 * 1024,
    RETRY_AFTER_MS = 1000
};
/* A fetched batch holds at least one record, whose frame an append may carry, and its schema.
 */
#define FETCH_BODY_MAX (API_APPEND_BODY_MAX + API_FETCH_MAX)

struct client {
    struct httpc *http;
    struct httpc_resp answer;
    struct buf path, body; /* of the request under way */
    int64_t retry_after_ms;
};

struct client *
client_new(const struct client_conf *c)
{
    struct httpc_conf hc = {.unix_path = c->unix_path,
        .base_url = c->unix_path != NULL ? "http://oneslot" : c->url,
        .connect_timeout_ms = CONNECT_MS,
        .should_stop = c->should_stop};
    struct client *cl = xcalloc(1, sizeof *cl);
    cl->http = httpc_new(&hc);
    cl->retry_after_ms = RETRY_AFTER_MS;
    buf_init(&cl->path, API_CONTROL_BODY);
    buf_init(&cl->body, API_CONTROL_BODY);
    return cl;
}

void
client_free(struct client *c)
{
    if (c == NULL) {
        return;
    }
    httpc_free(c->http);
    httpc_resp_fini(&c->answer);
    buf_fini(&c->path);
    buf_fini(&c->body);
    free(c);
}

int64_t
client_retry_after_ms(const struct client *c)
{
    return c->retry_after_ms;
}

/* ---- answers ---- */

static int
status_code(long status)
{
    switch (status) {
    case 400:
        return ERR_PARSE;
    case 401:
    case 403:
        return ERR_AUTH;
    case 404:
        return ERR_NOTFOUND;
    case 409:
        return ERR_FENCED;
    case 410:
        return ERR_GONE;
    case 413:
        return ERR_TOOBIG;
    case 416:
        return ERR_BEYOND;
    case 429:
    case 503:
        return ERR_BUSY;
    case 507:
        return ERR_NOSPACE;
    default:
        return ERR_PROTOCOL; /* 500 too: the broker found something that needs a person */
    }
}

/* Errors that share a status; a problem's `code` tells them apart. */
static int
named_code(long status, struct str name, int deflt)
{
    static const struct {
        long status;
        int code;
    } named[] = {{400, ERR_UNSUPPORTED}, {409, ERR_CONFLICT}, {409, ERR_FOREIGN},
        {409, ERR_STEERED}, {500, ERR_CORRUPT}, {507, ERR_REFUSED}, {503, ERR_NOSPACE},
        {503, ERR_STOPPING}};
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
        if (named[i].status == status && str_is(name, err_name(named[i].code))) {
            return named[i].code;
        }
    }
    return deflt;
}

static int
problem(const struct client *c, const char *path, struct err *e)
{
    long status = c->answer.status;
    struct str detail = {0}, name = {0};
    struct json *root = NULL;
    if (strncmp(c->answer.content_type, API_PROBLEM, strlen(API_PROBLEM)) == 0 &&
        json_parse(buf_str(&c->answer.body), &root, NULL) == 0) {
        (void)json_str(json_get(root, "detail"), &detail);
        (void)json_str(json_get(root, "code"), &name);
    }
    int code = named_code(status, name, status_code(status));
    if (detail.n > 0) {
        (void)err_set(e, code, "%.*s", (int)(detail.n < 400 ? detail.n : 400), detail.p);
    } else {
        (void)err_set(
            e, code, "the broker answered %.120s with status %ld and no reason", path, status);
    }
    json_free(root);
    return code;
}

static int
outcome(struct client *c, const char *path, struct err *e)
{
    c->retry_after_ms =
        c->answer.retry_after_ms >= 0 ? c->answer.retry_after_ms : RETRY_AFTER_MS;
    return c->answer.status >= 200 && c->answer.status <= 299 ? 0 : problem(c, path, e);
}

/* ---- requests ---- */

static int
call(struct client *c, struct httpc_req *rq, struct err *e)
{
    c->retry_after_ms = RETRY_AFTER_MS;
    buf_reset(&c->answer.body, KEEP_BYTES);
    int rc = httpc_call(c->http, rq, &c->answer, e);
    return rc != 0 ? rc : outcome(c, rq->path, e);
}

/* GET, or POST of what stands in c->body. */
static int
control(struct client *c, const char *method, const char *path, struct err *e)
{
    struct httpc_req rq = {.method = method,
        .path = path,
        .content_type = method[0] == 'P' ? API_MSGPACK : NULL,
        .accept = API_MSGPACK,
        .body = method[0] == 'P' ? buf_str(&c->body) : (struct str){0},
        .timeout_ms = CONTROL_MS,
        .max_body = API_CONTROL_BODY};
    if (!buf_ok(&c->body) || !buf_ok(&c->path)) {
        return err_set(e, ERR_TOOBIG, "a request to the broker (%.60s) is beyond %d bytes",
            path, API_CONTROL_BODY);
    }
    return call(c, &rq, e);
}

static struct buf *
new_body(struct client *c)
{
    buf_reset(&c->body, API_CONTROL_BODY);
    return &c->body;
}

/* "/internal/sinks/NAME/WHAT", in c->path. */
static const char *
sink_path(struct client *c, const char *name, const char *what)
{
    buf_reset(&c->path, API_CONTROL_BODY);
    buf_puts(&c->path, API_SINKS);
    httpc_put_escaped(&c->path, str_from(name));
    buf_puts(&c->path, what);
    return buf_cstr(&c->path);
}

int
client_source_get(struct client *c, struct api_source *ret, struct err *e)
{
    (void)new_body(c);
    int rc = control(c, "GET", API_SOURCE, e);
    return rc != 0 ? rc : api_get_source(buf_str(&c->answer.body), ret, e);
}

int
client_source_put(struct client *c, const struct api_source_update *u, struct err *e)
{
    api_put_source_update(new_body(c), u);
    return control(c, "POST", API_SOURCE, e);
}

int
client_source_status(struct client *c, const struct api_source_status *s, struct err *e)
{
    api_put_source_status(new_body(c), s);
    return control(c, "POST", API_SOURCE_STATUS, e);
}

int
client_session_open(struct client *c, struct api_session *ret, struct err *e)
{
    (void)new_body(c);
    int rc = control(c, "POST", API_SESSION, e);
    return rc != 0 ? rc : api_get_session(buf_str(&c->answer.body), ret, e);
}

int
client_append(struct client *c, const struct api_append *head, struct buf *body,
    struct api_appended *ret, struct err *e)
{
    CHECK(body->n >= API_APPEND_HEAD && buf_ok(body));
    api_put_append(body->p, head);
    struct httpc_req rq = {.method = "POST",
        .path = API_APPEND,
        .content_type = API_MSGPACK,
        .accept = API_MSGPACK,
        .body = buf_str(body),
        .timeout_ms = APPEND_MS,
        .max_body = API_CONTROL_BODY};
    int rc = call(c, &rq, e);
    return rc != 0 ? rc : api_get_appended(buf_str(&c->answer.body), ret, e);
}

int
client_sink_open(struct client *c, const char *name, const struct api_sink_open *o,
    struct api_sink_session *ret, struct err *e)
{
    api_put_sink_open(new_body(c), o);
    int rc = control(c, "POST", sink_path(c, name, "/session"), e);
    return rc != 0 ? rc : api_get_sink_session(buf_str(&c->answer.body), ret, e);
}

int
client_fetch(struct client *c, uint64_t from, size_t max_bytes, int64_t wait_ms,
    struct str tables, struct str *ret_batch, struct err *e)
{
    buf_reset(&c->path, API_CONTROL_BODY);
    buf_printf(&c->path, API_FETCH "?from=%" PRIu64 "&max=%zu&wait_ms=%" PRId64, from,
        max_bytes, wait_ms);
    if (tables.n > 0) {
        buf_puts(&c->path, "&tables=");
        httpc_put_escaped(&c->path, tables);
    }
    struct httpc_req rq = {.method = "GET",
        .path = buf_cstr(&c->path),
        .accept = API_MSGPACK,
        .timeout_ms = wait_ms + FETCH_MARGIN_MS,
        .max_body = FETCH_BODY_MAX};
    if (!buf_ok(&c->path)) {
        return err_set(e, ERR_TOOBIG,
            "the sink's `tables` take more than %d bytes: use patterns", API_CONTROL_BODY);
    }
    int rc = call(c, &rq, e);
    if (rc == 0) {
        *ret_batch = buf_str(&c->answer.body);
    }
    return rc;
}

int
client_sink_commit(struct client *c, const char *name, const struct api_sink_commit *o,
    struct api_sink_session *ret, struct err *e)
{
    api_put_sink_commit(new_body(c), o);
    int rc = control(c, "POST", sink_path(c, name, "/commit"), e);
    return rc != 0 ? rc : api_get_sink_session(buf_str(&c->answer.body), ret, e);
}

int
client_sink_status(struct client *c, const char *name, const struct api_sink_status *s,
    struct api_sink_session *ret, struct err *e)
{
    api_put_sink_status(new_body(c), s);
    int rc = control(c, "POST", sink_path(c, name, "/status"), e);
    return rc != 0 ? rc : api_get_sink_session(buf_str(&c->answer.body), ret, e);
}

/* ---- what is larger than a control call ---- */

/* A call whose request or answer may hold a whole record, or a long list. */
static int
large_call(struct client *c, const char *method, const char *path, const struct buf *body,
    struct err *e)
{
    if ((body != NULL && !buf_ok(body)) || !buf_ok(&c->path)) {
        return err_set(e, ERR_TOOBIG, "a request to the broker (%.60s) is too large", path);
    }
    struct httpc_req rq = {.method = method,
        .path = path,
        .content_type = body != NULL ? API_MSGPACK : NULL,
        .accept = API_MSGPACK,
        .body = body != NULL ? buf_str(body) : (struct str){0},
        .timeout_ms = APPEND_MS,
        .max_body = FETCH_BODY_MAX};
    return call(c, &rq, e);
}

int
client_source_tables(struct client *c, const struct api_table *t, size_t n, struct err *e)
{
    struct buf auto_buf b;
    buf_init(&b, API_TABLES_BYTES);
    buf_reset(&c->path, API_CONTROL_BODY);
    api_put_tables(&b, t, n);
    return large_call(c, "POST", API_SOURCE_TABLES, &b, e);
}

int
client_tables(struct client *c, struct api_table **ret, uint32_t *ret_sum, struct err *e)
{
    *ret = NULL;
    buf_reset(&c->path, API_CONTROL_BODY);
    int rc = large_call(c, "GET", API_TABLES, NULL, e);
    if (rc != 0) {
        return rc;
    }
    size_t n = api_count_list(buf_str(&c->answer.body), API_TABLES_MAX);
    *ret_sum = api_tables_sum(buf_str(&c->answer.body));
    *ret = xcalloc(n + 1, sizeof **ret);
    return api_get_tables(buf_str(&c->answer.body), *ret, n, e);
}

int
client_bury(struct client *c, const char *name, const struct api_bury *l, struct err *e)
{
    struct buf auto_buf b;
    buf_init(&b, API_APPEND_BODY_MAX);
    api_put_bury(&b, l);
    return large_call(c, "POST", sink_path(c, name, "/bury"), &b, e);
}

int
client_raise(struct client *c, const char *name, const struct api_raise *l, struct err *e)
{
    api_put_raise(new_body(c), l);
    return control(c, "POST", sink_path(c, name, "/raise"), e);
}

int
client_letters(struct client *c, const char *name, uint64_t after, struct api_letter *ret,
    size_t max, struct err *e)
{
    (void)sink_path(c, name, "/letters");
    buf_printf(&c->path, "?after=%" PRIu64 "&max=%zu", after, max);
    int rc = large_call(c, "GET", buf_cstr(&c->path), NULL, e);
    return rc != 0 ? rc : api_get_letters(buf_str(&c->answer.body), ret, max, e);
}

int
client_letter(
    struct client *c, const char *name, uint64_t offset, struct str *ret_batch, struct err *e)
{
    (void)sink_path(c, name, "/letters/");
    buf_printf(&c->path, "%" PRIu64, offset);
    int rc = large_call(c, "GET", buf_cstr(&c->path), NULL, e);
    if (rc == 0) {
        *ret_batch = buf_str(&c->answer.body);
    }
    return rc;
}

int
client_reread(struct client *c, const char *name, const struct api_reread *r,
    const struct api_doubt *doubt, struct err *e)
{
    struct buf auto_buf b;
    buf_init(&b, API_REREAD_MAX);
    api_put_rereads(&b, r, 1);
    (void)sink_path(c, name, "/reread");
    if (doubt != NULL) {
        buf_printf(&c->path, "?doubt=%" PRIu64 "&table=%" PRIu32, doubt->key, doubt->table);
    }
    return large_call(c, "POST", buf_cstr(&c->path), &b, e);
}

int
client_doubts(struct client *c, const char *name, struct api_doubt **ret, struct err *e)
{
    *ret = NULL;
    int rc = large_call(c, "GET", sink_path(c, name, "/doubts"), NULL, e);
    if (rc != 0) {
        return rc;
    }
    size_t n = api_count_list(buf_str(&c->answer.body), API_DOUBTS_MAX);
    *ret = xcalloc(n + 1, sizeof **ret);
    return api_get_doubts(buf_str(&c->answer.body), *ret, n, e);
}

int
client_proven(
    struct client *c, const char *name, const struct api_doubt *d, size_t n, struct err *e)
{
    api_put_doubts(new_body(c), d, n);
    return control(c, "POST", sink_path(c, name, "/proven"), e);
}

int
client_rereads(
    struct client *c, uint64_t after, struct api_reread *ret, size_t max, struct err *e)
{
    buf_reset(&c->path, API_CONTROL_BODY);
    buf_printf(&c->path, API_REREADS "?after=%" PRIu64 "&max=%zu", after, max);
    int rc = large_call(c, "GET", buf_cstr(&c->path), NULL, e);
    return rc != 0 ? rc : api_get_rereads(buf_str(&c->answer.body), ret, max, e);
}

int
client_rereads_done(struct client *c, const struct api_reread_done *r, size_t n, struct err *e)
{
    api_put_rereads_done(new_body(c), r, n);
    return control(c, "POST", API_REREADS_DONE, e);
}

/* ---- what people ask ---- */

int
client_post_json(
    struct client *c, const char *path, struct str body, struct json **ret_root, struct err *e)
{
    struct httpc_req rq = {.method = "POST",
        .path = path,
        .content_type = API_JSON,
        .accept = API_JSON,
        .body = body.n > 0 ? body : STR("{}"),
        .timeout_ms = CONTROL_MS,
        .max_body = JSON_MAX};
    int rc = call(c, &rq, e);
    if (rc != 0) {
        return rc;
    }
    if (c->answer.body.n == 0) {
        *ret_root = NULL;
        return 0;
    }
    return json_parse(buf_str(&c->answer.body), ret_root, e);
}

int
client_get_json(struct client *c, const char *path, struct json **ret_root, struct err *e)
{
    struct httpc_req rq = {.method = "GET",
        .path = path,
        .accept = API_JSON,
        .timeout_ms = CONTROL_MS,
        .max_body = JSON_MAX};
    int rc = call(c, &rq, e);
    return rc != 0 ? rc : json_parse(buf_str(&c->answer.body), ret_root, e);
}

int
client_stream(struct client *c, const char *path, const char *accept, client_data_f *fn,
    void *arg, struct err *e)
{
    struct httpc_req rq = {
        .method = "GET", .path = path, .accept = accept, .max_body = API_CONTROL_BODY};
    c->retry_after_ms = RETRY_AFTER_MS;
    buf_reset(&c->answer.body, KEEP_BYTES);
    int rc = httpc_stream(c->http, &rq, fn, arg, &c->answer, e);
    return rc != 0 ? rc : outcome(c, path, e);
}
