/* http: the kind for webhooks: changes POSTed to a URL, signed. Owns the connection, the
 * secrets and how a batch is cut into requests. Must not know: offsets of the broker, retries,
 * dead letters.
 *
 * A write sends its records in order, request after request. What is not accepted now ends it:
 * nothing behind it is sent, so the order of a key holds at the receiver too. */
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/fs.h"
#include "proto/base/httpc.h"
#include "proto/base/xmalloc.h"
#include "sinks/http/http_render.h"
#include "sinks/http/http_reply.h"
#include "sinks/sink.h"

enum {
    HTTP_MAGIC = 0x48545450,
    BATCH_RECORDS_MAX = 1000,
    BATCH_BYTES_MAX = 16 * 1024 * 1024,
    WRITE_BYTES = 2 * 1024 * 1024, /* of records in the log's form */
    ANSWER_MAX = 1024 * 1024,
    CONNECT_TIMEOUT_MS = 5000,
    TIMEOUT_MIN_MS = 100,
    TIMEOUT_MAX_MS = 10 * 60 * 1000,
    GROW_SHIFT = 6 /* after a 413: a 64th more per accepted request */
};

/* ---- options ---- */

struct http_options {
    char *url, *secret_file, *token_file, *ca_file;
    int format; /* enum http_format */
    int64_t timeout_ms, batch_records;
    uint64_t batch_bytes;
};

static const char *const format_names[] = {"ndjson", "json", NULL};

#define FIELD(option, kind, member)                                                            \
    .name = option, .type = kind, .offset = offsetof(struct http_options, member)

static const struct conf_field http_fields[] = {
    {FIELD("url", CONF_STRING, url), .flags = CONF_REQUIRED,
        .help = "where changes are POSTed to; http:// or https://"},
    {FIELD("format", CONF_ENUM, format), .deflt = "ndjson", .names = format_names,
        .help = "of a body: ndjson, a change per line, or json, an array of changes"},
    {FIELD("secret_file", CONF_PATH, secret_file),
        .help = "file with the secret that signs each request (Oneslot-Signature)"},
    {FIELD("token_file", CONF_PATH, token_file),
        .help = "file with a token, sent as Authorization: Bearer"},
    {FIELD("ca_file", CONF_PATH, ca_file),
        .help = "certificates (PEM) that sign the receiver's; default: the system's"},
    {FIELD("timeout", CONF_DURATION, timeout_ms), .deflt = "30s", .min = TIMEOUT_MIN_MS,
        .max = TIMEOUT_MAX_MS, .help = "of one request"},
    {FIELD("batch_records", CONF_INT, batch_records), .deflt = "500", .min = 1,
        .max = BATCH_RECORDS_MAX, .help = "changes in a request, at most"},
    {FIELD("batch_bytes", CONF_SIZE, batch_bytes), .deflt = "512KiB", .min = 1024,
        .max = BATCH_BYTES_MAX,
        .help = "of a request's body, at most; a change that is larger goes alone"},
    {0},
};

struct http {
    struct sink sink;
    unsigned magic;
    const struct http_options *o;
    char *origin; /* scheme, host, port: what texts may show */
    const char *path;
    char *name_line;
    struct buf secret;
    bool is_signed;
    struct httpc *client;
    struct httpc_resp answer;
    struct http_request request;
    struct buf key_line, signature_line, reasons;
    char error[sizeof((struct err *)0)->msg]; /* a reason of the last write */
    uint64_t max_bytes;                       /* batch_bytes, or what a 413 left of it */
};

extern const struct sink_ops sink_http_ops;

static struct http *
http_of(struct sink *s)
{
    struct http *h = (struct http *)(void *)s;
    CHECK_MAGIC(h, HTTP_MAGIC);
    return h;
}

/* ---- life ---- */

/* Splits it. No message repeats it: there may be a secret in it. */
static int
take_url(struct http *h, const char *url, struct err *e)
{
    bool is_http = strncasecmp(url, "http://", 7) == 0 || strncasecmp(url, "https://", 8) == 0;
    const char *host = is_http ? strstr(url, "://") + 3 : NULL;
    size_t n = host == NULL ? 0 : strcspn(host, "/?#");
    if (n == 0) {
        return err_set(
            e, ERR_CONFIG, "`url` of an http sink begins with http:// or https:// and a host");
    }
    if (memchr(host, '@', n) != NULL) {
        return err_set(e, ERR_CONFIG,
            "`url` of an http sink holds a user name or password: use `token_file` or "
            "`secret_file`");
    }
    for (const char *p = url; *p != '\0'; p++) {
        if (*p <= ' ' || *p >= 0x7f || *p == '#') {
            return err_set(e, ERR_CONFIG,
                "`url` of an http sink holds a fragment (#), or a character that has to be "
                "percent-encoded");
        }
    }
    h->origin = xstrndup(url, (size_t)(host - url) + n);
    h->path = host[n] == '/' ? host + n : NULL;
    if (h->path == NULL && host[n] != '\0') {
        return err_set(
            e, ERR_CONFIG, "`url` of an http sink has a query without a path: HOST/?...");
    }
    h->path = h->path == NULL ? "/" : h->path;
    return 0;
}

static int
take_client(struct http *h, const struct sink_setup *setup, struct err *e)
{
    struct buf auto_buf token;
    buf_init(&token, FS_SECRET_MAX);
    int rc = h->o->token_file == NULL ? 0 : fs_read_secret(h->o->token_file, &token, e);
    if (rc == 0) {
        h->client = httpc_new(&(struct httpc_conf){.base_url = h->origin,
            .bearer = h->o->token_file == NULL ? NULL : buf_cstr(&token),
            .ca_file = h->o->ca_file,
            .connect_timeout_ms = CONNECT_TIMEOUT_MS,
            .should_stop = setup->should_stop});
    }
    return rc;
}

/* Any answer will do, and none: what matters is that somebody takes the connection (and has a
 * certificate). Nothing but a POST can be tried otherwise, and that would be a change. */
static int
probe(struct http *h, struct err *e)
{
    int rc = httpc_call(h->client,
        &(struct httpc_req){.method = "OPTIONS",
            .path = h->path,
            .timeout_ms = CONNECT_TIMEOUT_MS,
            .max_body = ANSWER_MAX},
        &h->answer, e);
    return rc == ERR_CLOSED || rc == ERR_TIMEOUT || rc == ERR_TOOBIG ? 0 : rc;
}

static void
http_close(struct sink *s)
{
    if (s == NULL) {
        return;
    }
    struct http *h = http_of(s);
    h->magic = 0;
    httpc_free(h->client);
    httpc_resp_fini(&h->answer);
    http_request_fini(&h->request);
    buf_fini(&h->secret);
    buf_fini(&h->key_line);
    buf_fini(&h->signature_line);
    buf_fini(&h->reasons);
    free(h->origin);
    free(h->name_line);
    free(h);
}

static struct http *
http_new(const struct sink_setup *setup)
{
    struct http *h = xcalloc(1, sizeof *h);
    h->sink.ops = &sink_http_ops;
    h->sink.retry_after_ms = -1;
    h->magic = HTTP_MAGIC;
    h->o = setup->options;
    h->max_bytes = h->o->batch_bytes;
    h->name_line = xasprintf("Oneslot-Sink: %s", setup->name);
    h->is_signed = h->o->secret_file != NULL;
    http_request_init(&h->request);
    buf_init(&h->secret, FS_SECRET_MAX);
    buf_init(&h->key_line, SIZE_MAX);
    buf_init(&h->signature_line, SIZE_MAX);
    buf_init(&h->reasons, SIZE_MAX);
    return h;
}

static int
http_open(const struct sink_setup *setup, struct sink **ret, struct err *e)
{
    struct http *h = http_new(setup);
    int rc = take_url(h, h->o->url, e);
    if (rc == 0 && h->is_signed) {
        rc = fs_read_secret(h->o->secret_file, &h->secret, e);
    }
    if (rc == 0) {
        rc = take_client(h, setup, e);
    }
    if (rc == 0 && setup->lane == 0) {
        rc = probe(h, e);
    }
    if (rc != 0) {
        http_close(&h->sink);
        return rc;
    }
    *ret = &h->sink;
    return 0;
}

/* ---- one request ---- */

/* What could not be done, said so that a person sees what to do. */
static int
call_failed(struct http *h, int rc, struct err *e)
{
    char why[200];
    if (rc == ERR_TIMEOUT) {
        h->sink.is_pushed_back = true;
    }
    if (rc == ERR_TOOBIG) {
        return err_set(e, ERR_PROTOCOL,
            "%.200s answers with more than %d bytes: let it say only what became of the "
            "records",
            h->origin, (int)ANSWER_MAX);
    }
    if (rc == ERR_CLOSED) {
        (void)snprintf(why, sizeof why, "%.199s", e->msg);
        return err_set(e, rc, "%s (an answer needs a Content-Length, or chunks)", why);
    }
    return rc;
}

static int
post(struct http *h, struct err *e)
{
    const char *headers[4] = {h->name_line};
    size_t n = 1;
    buf_reset(&h->key_line, SIZE_MAX);
    http_render_key(&h->key_line, &h->request);
    headers[n++] = buf_cstr(&h->key_line);
    if (h->is_signed) {
        buf_reset(&h->signature_line, SIZE_MAX);
        http_render_signature(&h->signature_line, buf_str(&h->secret), &h->request);
        headers[n++] = buf_cstr(&h->signature_line);
    }
    struct str body = http_request_body(&h->request);
    h->sink.counts.requests++;
    h->sink.counts.bytes += body.n;
    int rc = httpc_call(h->client,
        &(struct httpc_req){.method = "POST",
            .path = h->path,
            .content_type = http_render_type((enum http_format)h->o->format),
            .accept = "application/json",
            .headers = headers,
            .body = body,
            .timeout_ms = h->o->timeout_ms,
            .max_body = ANSWER_MAX},
        &h->answer, e);
    return rc == 0 ? 0 : call_failed(h, rc, e);
}

/* ---- a batch ---- */

/* Where a write stands. */
struct course {
    const struct sink_batch *b;
    struct sink_verdict *verdicts;
    size_t at;      /* the first record that has no verdict */
    size_t bad_end; /* one of the records at..bad_end is refused; 0: no request was */
};

/* How many to try: all, or half of those among which one was refused. */
static size_t
want_of(const struct http *h, const struct course *c)
{
    size_t left = c->b->n - c->at, most = (size_t)h->o->batch_records;
    if (c->bad_end > c->at) {
        left = (c->bad_end - c->at + 1) / 2;
    }
    return left < most ? left : most;
}

static void
reject(struct http *h, struct course *c, const char *why)
{
    char *to = buf_room(&h->reasons, HTTP_REPLY_REASON_MAX);
    CHECK(to != NULL);
    buf_printf(&h->reasons, "the receiver answers %ld to this record alone: %s",
        h->answer.status, why);
    buf_putc(&h->reasons, '\0');
    c->verdicts[c->at++] = (struct sink_verdict){.verdict = VERDICT_REJECT, .reason = to};
}

static void
halve(struct http *h, struct course *c, enum http_whole whole)
{
    size_t n = h->request.n;
    bool is_size = whole == HTTP_WHOLE_TOOBIG;
    if (n == 1) {
        reject(h, c, is_size ? "it is too large" : "it is refused");
        c->bad_end = 0;
    } else if (is_size) {
        h->max_bytes = http_request_body(&h->request).n / 2;
    } else {
        c->bad_end = c->at + n;
    }
}

static int
accepted(struct http *h, struct course *c, struct err *e)
{
    size_t n = h->request.n;
    int rc = http_reply_read(buf_str(&h->answer.body), c->b->records + c->at, n,
        c->verdicts + c->at, &h->reasons, e);
    if (rc != 0) {
        return rc;
    }
    if (h->max_bytes < h->o->batch_bytes) {
        uint64_t more = h->max_bytes + (h->max_bytes >> GROW_SHIFT) + 1;
        h->max_bytes = more < h->o->batch_bytes ? more : h->o->batch_bytes;
    }
    c->at += n;
    return 0;
}

/* Sends the next request and moves on, or leaves *c as it is to be tried with fewer. */
static int
send_next(struct http *h, struct course *c, struct err *e)
{
    http_render_body(&h->request, (enum http_format)h->o->format, c->b->records + c->at,
        want_of(h, c), h->max_bytes, clock_wall_us() / 1000000);
    int rc = post(h, e);
    if (rc != 0) {
        return rc;
    }
    enum http_whole whole = http_reply_whole(h->answer.status);
    if (h->answer.retry_after_ms > h->sink.retry_after_ms) {
        h->sink.retry_after_ms = h->answer.retry_after_ms;
    }
    switch (whole) {
    case HTTP_WHOLE_OK:
        return accepted(h, c, e);
    case HTTP_WHOLE_TOOBIG:
    case HTTP_WHOLE_REFUSED:
        halve(h, c, whole);
        return 0;
    case HTTP_WHOLE_PUSHED:
        h->sink.is_pushed_back = true;
        break;
    case HTTP_WHOLE_RETRY:
    case HTTP_WHOLE_STOP:
        break;
    }
    return http_reply_error(h->answer.status, h->origin, e);
}

static bool
has_retry(const struct course *c, size_t from)
{
    for (size_t i = from; i < c->at; i++) {
        if (c->verdicts[i].verdict == VERDICT_RETRY) {
            return true;
        }
    }
    return false;
}

/* What is known of the records before counts; the rest comes again, and then the error is told
 * as such. */
static int
give_up(struct http *h, struct course *c, int rc, const struct err *e)
{
    if (c->at == 0 || err_class(rc) == ERR_CLASS_FATAL) {
        return rc;
    }
    memcpy(h->error, e->msg, sizeof h->error);
    for (size_t i = c->at; i < c->b->n; i++) {
        c->verdicts[i] = (struct sink_verdict){.verdict = VERDICT_RETRY, .reason = h->error};
    }
    return 0;
}

static int
http_write(
    struct sink *s, const struct sink_batch *b, struct sink_verdict *verdicts, struct err *e)
{
    struct http *h = http_of(s);
    struct course c = {.b = b, .verdicts = verdicts};
    buf_reset(&h->reasons, (size_t)BATCH_RECORDS_MAX * HTTP_REPLY_REASON_MAX);
    CHECK(buf_room(&h->reasons, b->n * HTTP_REPLY_REASON_MAX) != NULL);
    while (c.at < b->n) {
        size_t from = c.at;
        int rc = send_next(h, &c, e);
        if (rc != 0) {
            return give_up(h, &c, rc, e);
        }
        if (has_retry(&c, from)) {
            break; /* what was not sent is UNSET: sent again */
        }
    }
    return 0;
}

/* ---- check ---- */

static int
http_check(
    struct sink *s, const struct sink_table *tables, size_t n, struct buf *lines, struct err *e)
{
    const struct http *h = http_of(s);
    (void)tables;
    (void)n;
    (void)e;
    if (!h->is_signed && h->o->token_file == NULL) {
        buf_puts(lines, "warning: neither `secret_file` nor `token_file` is set: the receiver "
                        "cannot tell who sends\n");
    }
    return 0;
}

const struct sink_ops sink_http_ops = {
    .name = "http",
    .help = "changes POSTed to a URL, signed (webhook)",
    .options = http_fields,
    .options_size = sizeof(struct http_options),
    .batch_bytes = WRITE_BYTES,
    .batch_records = BATCH_RECORDS_MAX,
    .open = http_open,
    .write = http_write,
    .close = http_close,
    .check = http_check,
};
