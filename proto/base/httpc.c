/* httpc: see httpc.h. Owns the curl handles and the connection they keep. Promises to tell
 * apart what was certainly not sent (ERR_CONNECT) from what may have been carried out. Knows
 * nothing of what is said.
 *
 * libcurl quietly sends a request again, even a POST, when a kept-alive connection turns out to
 * be dead: prereq(), called before each sending, allows that only to requests that change
 * nothing. */
#include "proto/base/httpc.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <curl/curl.h>

#include "proto/base/check.h"
#include "proto/base/xmalloc.h"

enum {
    HTTPC_MAGIC = 0x71e5bb02,
    POLL_MS = 200,
    CONNECT_TIMEOUT_MS = 10000, /* where the configuration names none */
    SMALL_BUFFER_BYTES = 64 * 1024,
    LARGE_BUFFER_BYTES = 512 * 1024,
    LARGE_BODY_BYTES = 256 * 1024,
    SENT_NEVER = 0
};

struct httpc {
    unsigned magic;
    CURL *easy;
    CURLM *multi;
    char *unix_path, *base_url, *authorization, *ca_file;
    int64_t connect_timeout_ms;
    bool (*should_stop)(void);
    struct buf url;
    bool has_large_upload, has_large_receive;
    char text[CURL_ERROR_SIZE];
};

/* One call. */
struct xfer {
    struct httpc *c;
    const struct httpc_req *rq;
    struct httpc_resp *rs;
    httpc_data_f *fn; /* NULL: collect */
    void *arg;
    struct err *e;
    int rc;            /* what a callback of ours ended it with */
    unsigned n_sent;   /* how often the request was (about to be) sent */
    bool is_forbidden; /* a second sending was refused */
};

static void
global_init(void)
{
    CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    (void)signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
}

#define SET(c, option, value) CHECK(curl_easy_setopt((c)->easy, (option), (value)) == CURLE_OK)

/* --- callbacks --- */

static bool
changes_nothing(const char *method)
{
    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

static int
prereq(void *arg, char *primary_ip, char *local_ip, int primary_port, int local_port)
{
    struct xfer *x = arg;

    (void)primary_ip;
    (void)local_ip;
    (void)primary_port;
    (void)local_port;
    if (x->n_sent > SENT_NEVER && !changes_nothing(x->rq->method)) {
        x->is_forbidden = true;
        return CURL_PREREQFUNC_ABORT;
    }
    x->n_sent++;
    return CURL_PREREQFUNC_OK;
}

static long
status_of(const struct httpc *c)
{
    long status = 0;

    (void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static size_t
on_data(char *p, size_t size, size_t count, void *arg)
{
    struct xfer *x = arg;
    size_t n = size * count;

    if (x->fn != NULL && status_of(x->c) / 100 == 2) {
        x->rc = x->fn(x->arg, (struct str){.p = p, .n = n}, x->e);
    } else {
        /* Kept memory may be larger than this call's limit. */
        if (n <= x->rq->max_body - x->rs->body.n) {
            buf_put(&x->rs->body, p, n);
        } else {
            x->rc = err_set(x->e, ERR_TOOBIG, "the answer to %s %s is larger than %zu bytes",
                x->rq->method, x->rq->path, x->rq->max_body);
        }
    }
    return x->rc == 0 ? n : 0;
}

/* --- life --- */

static char *
copy(const char *s)
{
    return s == NULL ? NULL : xstrdup(s);
}

static void
set_fixed_options(struct httpc *c)
{
    int64_t connect_ms = c->connect_timeout_ms > 0 ? c->connect_timeout_ms : CONNECT_TIMEOUT_MS;

    SET(c, CURLOPT_NOSIGNAL, 1L);
    SET(c, CURLOPT_NOPROGRESS, 1L);
    SET(c, CURLOPT_PROTOCOLS_STR, "http,https");
    SET(c, CURLOPT_PROXY, ""); /* whatever the environment says */
    SET(c, CURLOPT_FOLLOWLOCATION, 0L);
    SET(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(c, CURLOPT_TCP_NODELAY, 1L);
    SET(c, CURLOPT_TCP_KEEPALIVE, 1L);
    SET(c, CURLOPT_PATH_AS_IS, 1L);
    SET(c, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
    SET(c, CURLOPT_MAXCONNECTS, 1L);
    SET(c, CURLOPT_BUFFERSIZE, (long)SMALL_BUFFER_BYTES);
    SET(c, CURLOPT_ERRORBUFFER, c->text);
    SET(c, CURLOPT_WRITEFUNCTION, on_data);
    SET(c, CURLOPT_PREREQFUNCTION, prereq);
    if (c->unix_path != NULL) {
        SET(c, CURLOPT_UNIX_SOCKET_PATH, c->unix_path);
    }
    if (c->ca_file != NULL) {
        SET(c, CURLOPT_CAINFO, c->ca_file);
    }
}

struct httpc *
httpc_new(const struct httpc_conf *conf)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct httpc *c = xcalloc(1, sizeof *c);

    CHECK(pthread_once(&once, global_init) == 0);
    c->magic = HTTPC_MAGIC;
    c->unix_path = copy(conf->unix_path);
    c->base_url = copy(conf->base_url);
    c->ca_file = copy(conf->ca_file);
    c->authorization =
        conf->bearer == NULL ? NULL : xasprintf("Authorization: Bearer %s", conf->bearer);
    c->connect_timeout_ms = conf->connect_timeout_ms;
    c->should_stop = conf->should_stop;
    buf_init(&c->url, 64 * 1024);
    c->easy = curl_easy_init();
    c->multi = curl_multi_init();
    CHECK(c->base_url != NULL && c->easy != NULL && c->multi != NULL);
    set_fixed_options(c);
    return c;
}

void
httpc_free(struct httpc *c)
{
    if (c == NULL) {
        return;
    }
    CHECK_MAGIC(c, HTTPC_MAGIC);
    c->magic = 0;
    (void)curl_multi_cleanup(c->multi);
    curl_easy_cleanup(c->easy);
    buf_fini(&c->url);
    free(c->unix_path);
    free(c->base_url);
    free(c->authorization);
    free(c->ca_file);
    free(c);
}

void
httpc_resp_fini(struct httpc_resp *rs)
{
    buf_fini(&rs->body);
    *rs = (struct httpc_resp){0};
}

/* --- one call --- */

static void
add_line(struct curl_slist **lines, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*lines, line);

    CHECK(longer != NULL); /* a short string: like xmalloc */
    *lines = longer;
}

static void
add_header(struct curl_slist **lines, const char *name, const char *value)
{
    char *line;

    if (value != NULL) {
        line = xasprintf("%s: %s", name, value);
        add_line(lines, line);
        free(line);
    }
}

static struct curl_slist *
header_lines(const struct httpc *c, const struct httpc_req *rq)
{
    struct curl_slist *lines = NULL;

    add_line(&lines, "Expect:");
    if (rq->content_type == NULL) {
        add_line(&lines, "Content-Type:"); /* else libcurl says it is a form */
    }
    add_header(&lines, "Content-Type", rq->content_type);
    add_header(&lines, "Accept", rq->accept);
    if (c->authorization != NULL) {
        add_line(&lines, c->authorization);
    }
    for (const char *const *h = rq->headers; h != NULL && *h != NULL; h++) {
        add_line(&lines, *h);
    }
    return lines;
}

static void
set_method(struct httpc *c, const struct httpc_req *rq)
{
    bool is_head = strcmp(rq->method, "HEAD") == 0;
    bool sends_body = rq->body.n > 0 || strcmp(rq->method, "POST") == 0;

    SET(c, CURLOPT_NOBODY, is_head ? 1L : 0L);
    if (!is_head) {
        SET(c, CURLOPT_HTTPGET, 1L);
    }
    if (sends_body) {
        SET(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)rq->body.n);
        SET(c, CURLOPT_POSTFIELDS, rq->body.n == 0 ? "" : rq->body.p);
        SET(c, CURLOPT_POST, 1L);
    }
    SET(c, CURLOPT_CUSTOMREQUEST, is_head ? NULL : rq->method);
}

/* Large buffers are allocated by libcurl for every call: only for a connection that needs them.
 */
static void
set_buffers(struct httpc *c, const struct xfer *x)
{
    if (!c->has_large_upload && x->rq->body.n >= LARGE_BODY_BYTES) {
        c->has_large_upload = true;
        SET(c, CURLOPT_UPLOAD_BUFFERSIZE, (long)LARGE_BUFFER_BYTES);
    }
    if (!c->has_large_receive && (x->fn != NULL || x->rq->max_body >= LARGE_BODY_BYTES)) {
        c->has_large_receive = true;
        SET(c, CURLOPT_BUFFERSIZE, (long)LARGE_BUFFER_BYTES);
    }
}

static int
set_url(struct httpc *c, const struct httpc_req *rq, struct err *e)
{
    buf_reset(&c->url, SIZE_MAX);
    buf_puts(&c->url, c->base_url);
    buf_puts(&c->url, rq->path);
    (void)buf_cstr(&c->url);
    if (!buf_ok(&c->url) || curl_easy_setopt(c->easy, CURLOPT_URL, c->url.p) != CURLE_OK) {
        return err_set(e, ERR_TOOBIG, "the URL of %s is too long (%zu bytes)", rq->method,
            strlen(rq->path));
    }
    return 0;
}

static bool
is_stopping(const struct httpc *c)
{
    return c->should_stop != NULL && c->should_stop();
}

/* Drives the transfer to its end or until should_stop; the result is libcurl's. */
static CURLcode
drive(struct xfer *x)
{
    CURLM *multi = x->c->multi;
    CURLMsg *msg;
    int n_running = 1, n_left = 0;

    for (;;) {
        if (curl_multi_perform(multi, &n_running) != CURLM_OK) {
            return CURLE_FAILED_INIT;
        }
        if (n_running == 0) {
            break;
        }
        if (is_stopping(x->c)) {
            x->rc =
                err_set(x->e, ERR_STOPPING, "%s was given up: shutting down", x->rq->method);
            return CURLE_ABORTED_BY_CALLBACK;
        }
        if (curl_multi_poll(multi, NULL, 0, POLL_MS, NULL) != CURLM_OK) {
            return CURLE_FAILED_INIT;
        }
    }
    msg = curl_multi_info_read(multi, &n_left);
    return msg != NULL && msg->msg == CURLMSG_DONE ? msg->data.result : CURLE_FAILED_INIT;
}

static int
code_of(const struct xfer *x, CURLcode result)
{
    if (x->n_sent > SENT_NEVER) {
        return result == CURLE_OPERATION_TIMEDOUT ? ERR_TIMEOUT : ERR_CLOSED;
    }
    switch (result) {
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_SSL_CACERT_BADFILE:
        return ERR_CONFIG;
    default:
        return ERR_CONNECT;
    }
}

static int
fail(const struct xfer *x, CURLcode result)
{
    const struct httpc *c = x->c;
    int code = code_of(x, result);
    const char *text = c->text[0] != '\0' ? c->text : curl_easy_strerror(result);
    const char *what = code == ERR_CONNECT   ? "cannot reach"
                       : code == ERR_TIMEOUT ? "no complete answer in time from"
                                             : "no complete answer from";

    if (x->is_forbidden) {
        text = "the kept-alive connection broke while the request was sent";
    }
    return err_set(x->e, code, "%s %s (%s %.*s): %s", what,
        c->unix_path != NULL ? c->unix_path : c->base_url, x->rq->method,
        (int)strcspn(x->rq->path, "?"), x->rq->path, text);
}

static bool
has_header(const struct httpc *c, const char *name)
{
    struct curl_header *found = NULL;

    return curl_easy_header(c->easy, name, 0, CURLH_HEADER, -1, &found) == CURLHE_OK;
}

/* Without a length or chunks libcurl takes a lost connection, even within the header, for the
 * end. */
static bool
is_end_certain(const struct xfer *x)
{
    long status = status_of(x->c);

    return status == 204 || status == 304 || strcmp(x->rq->method, "HEAD") == 0 ||
           has_header(x->c, "Content-Length") || has_header(x->c, "Transfer-Encoding");
}

static void
take_headers(const struct httpc *c, struct httpc_resp *rs)
{
    const char *type = NULL;
    curl_off_t seconds = 0;

    rs->status = status_of(c);
    (void)curl_easy_getinfo(c->easy, CURLINFO_CONTENT_TYPE, &type);
    (void)snprintf(rs->content_type, sizeof rs->content_type, "%s", type == NULL ? "" : type);
    rs->retry_after_ms = -1;
    if (has_header(c, "Retry-After") &&
        curl_easy_getinfo(c->easy, CURLINFO_RETRY_AFTER, &seconds) == CURLE_OK) {
        rs->retry_after_ms = seconds < INT64_MAX / 1000 ? (int64_t)seconds * 1000 : INT64_MAX;
    }
}

static int
perform(struct xfer *x)
{
    struct httpc *c = x->c;
    struct curl_slist *lines;
    CURLcode result;
    int rc = set_url(c, x->rq, x->e);

    if (rc != 0) {
        return rc;
    }
    lines = header_lines(c, x->rq);
    SET(c, CURLOPT_HTTPHEADER, lines);
    set_method(c, x->rq);
    set_buffers(c, x);
    SET(c, CURLOPT_TIMEOUT_MS, (long)x->rq->timeout_ms);
    SET(c, CURLOPT_WRITEDATA, x);
    SET(c, CURLOPT_PREREQDATA, x);
    c->text[0] = '\0';
    CHECK(curl_multi_add_handle(c->multi, c->easy) == CURLM_OK);
    result = drive(x);
    if (result == CURLE_OK && !is_end_certain(x)) {
        result = CURLE_PARTIAL_FILE;
    }
    if (result == CURLE_OK) {
        take_headers(c, x->rs);
    }
    CHECK(curl_multi_remove_handle(c->multi, c->easy) == CURLM_OK);
    SET(c, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(lines);
    if (x->rc != 0) {
        return x->rc;
    }
    return result == CURLE_OK ? 0 : fail(x, result);
}

static int
start(struct xfer *x)
{
    CHECK_MAGIC(x->c, HTTPC_MAGIC);
    if (is_stopping(x->c)) {
        return err_set(x->e, ERR_STOPPING, "%s was not sent: shutting down", x->rq->method);
    }
    x->rs->status = 0;
    x->rs->content_type[0] = '\0';
    x->rs->retry_after_ms = -1;
    buf_reset(&x->rs->body, SIZE_MAX);
    x->rs->body.max = x->rq->max_body;
    return perform(x);
}

int
httpc_call(struct httpc *c, const struct httpc_req *rq, struct httpc_resp *rs, struct err *e)
{
    struct xfer x = {.c = c, .rq = rq, .rs = rs, .e = e};

    return start(&x);
}

int
httpc_stream(struct httpc *c, const struct httpc_req *rq, httpc_data_f *fn, void *arg,
    struct httpc_resp *rs, struct err *e)
{
    struct xfer x = {.c = c, .rq = rq, .rs = rs, .fn = fn, .arg = arg, .e = e};

    return start(&x);
}

void
httpc_put_escaped(struct buf *b, struct str s)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '\0' && strchr(plain, s.p[i]) != NULL) {
            buf_putc(b, s.p[i]);
        } else {
            buf_printf(b, "%%%02X", (unsigned)(unsigned char)s.p[i]);
        }
    }
}
