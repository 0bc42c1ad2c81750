#include "sinks/elasticsearch/es_conn.h"

#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/cleanup.h"
#include "proto/base/fs.h"
#include "proto/base/gzip.h"
#include "proto/base/httpc.h"
#include "proto/base/json.h"
#include "proto/base/xmalloc.h"

enum {
    CONNECT_TIMEOUT_MS = 5000,
    GZIP_WORTH_BYTES = 1024, /* less is sent as it is */
    KEEP_BYTES = 4 * 1024 * 1024
};

struct es_node {
    char *url;
    struct httpc *http;
    bool is_gzipped;
};

struct es_conn {
    struct es_node *nodes;
    size_t n, at;        /* at: to be asked next */
    size_t used;         /* was asked last */
    char *authorization; /* a header line, or NULL */
    int64_t timeout_ms;
    struct sink *sink;
    struct httpc_resp answer;
    struct buf packed;
};

/* ---- URLs ---- */

static const char *
host_of(const char *url)
{
    const char *colon = strstr(url, "://");
    return colon == NULL ? NULL : colon + 3;
}

bool
es_conn_is_local(const char *url)
{
    const char *host = host_of(url);
    if (host == NULL) {
        return false;
    }
    size_t n = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/");
    struct str name = {.p = host, .n = n};
    return str_is_caseless(name, "localhost") || str_is(name, "[::1]") ||
           (n > 4 && strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == n);
}

int
es_conn_check_url(const char *url, struct err *e)
{
    bool is_http = strncasecmp(url, "http://", 7) == 0 || strncasecmp(url, "https://", 8) == 0;
    const char *host = is_http ? host_of(url) : NULL;
    size_t n = host == NULL ? 0 : strcspn(host, "/?#");
    if (n == 0) {
        return err_set(e, ERR_CONFIG,
            "`url` of an elasticsearch sink begins with http:// or https:// and a host");
    }
    if (memchr(host, '@', n) != NULL) { /* not shown: it may hold a password */
        return err_set(e, ERR_CONFIG,
            "`url` of an elasticsearch sink holds a user name or password: they belong into "
            "`username` and `password_file`");
    }
    if (strpbrk(host, "?#") != NULL) {
        return err_set(e, ERR_CONFIG,
            "`url` of an elasticsearch sink holds a query or a fragment: only scheme, host, "
            "port and path are used");
    }
    return 0;
}

/* ---- credentials ---- */

static char *
header_of(const char *scheme, const struct buf *plain, bool is_encoded)
{
    struct buf auto_buf line;
    buf_init(&line, SIZE_MAX);
    buf_printf(&line, "Authorization: %s ", scheme);
    if (is_encoded) {
        buf_put_str(&line, buf_str(plain));
    } else {
        struct buf auto_buf quoted;
        buf_init(&quoted, SIZE_MAX);
        json_put_base64(&quoted, buf_str(plain));
        CHECK(quoted.n >= 2);
        buf_put(&line, quoted.p + 1, quoted.n - 2);
    }
    return xstrdup(buf_cstr(&line));
}

/* "ID:KEY", or what Elasticsearch calls `encoded`. */
static int
take_api_key(struct es_conn *c, const char *path, struct err *e)
{
    struct buf auto_buf key;
    buf_init(&key, FS_SECRET_MAX);
    int rc = fs_read_secret(path, &key, e);
    if (rc == 0) {
        c->authorization = header_of("ApiKey", &key, memchr(key.p, ':', key.n) == NULL);
    }
    return rc;
}

static int
take_login(struct es_conn *c, const char *username, const char *path, struct err *e)
{
    struct buf auto_buf password, login;
    buf_init(&password, FS_SECRET_MAX);
    buf_init(&login, SIZE_MAX);
    int rc = fs_read_secret(path, &password, e);
    if (rc == 0) {
        buf_printf(&login, "%s:", username);
        buf_put_str(&login, buf_str(&password));
        c->authorization = header_of("Basic", &login, false);
    }
    return rc;
}

static int
take_credentials(struct es_conn *c, const struct es_conn_conf *conf, struct err *e)
{
    bool has_login = conf->username != NULL || conf->password_file != NULL;
    if (conf->api_key_file != NULL && has_login) {
        return err_set(e, ERR_CONFIG,
            "an elasticsearch sink has `api_key_file` and a user: it takes one of the two");
    }
    if (has_login && (conf->username == NULL || conf->password_file == NULL)) {
        return err_set(e, ERR_CONFIG,
            "an elasticsearch sink needs both of `username` and `password_file`");
    }
    if (has_login) {
        return take_login(c, conf->username, conf->password_file, e);
    }
    return conf->api_key_file == NULL ? 0 : take_api_key(c, conf->api_key_file, e);
}

/* ---- life ---- */

static void
open_node(struct es_node *node, const struct es_conn_conf *conf, const char *url)
{
    size_t n = strlen(url);
    while (n > 0 && url[n - 1] == '/') {
        n--;
    }
    node->url = xstrndup(url, n);
    node->is_gzipped =
        conf->compression == ES_COMPRESSION_GZIP ||
        (conf->compression == ES_COMPRESSION_AUTO && !es_conn_is_local(node->url));
    node->http = httpc_new(&(struct httpc_conf){.base_url = node->url,
        .ca_file = conf->ca_file,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .should_stop = conf->should_stop});
}

int
es_conn_open(
    const struct es_conn_conf *conf, struct sink *sink, struct es_conn **ret, struct err *e)
{
    struct es_conn *c = xcalloc(1, sizeof *c);
    c->sink = sink;
    c->timeout_ms = conf->timeout_ms;
    buf_init(&c->packed, SIZE_MAX);
    c->nodes = xcalloc(conf->urls->n == 0 ? 1 : conf->urls->n, sizeof *c->nodes);
    int rc = take_credentials(c, conf, e);
    for (size_t i = 0; rc == 0 && i < conf->urls->n; i++) {
        rc = es_conn_check_url(conf->urls->v[i], e);
        if (rc == 0) {
            open_node(&c->nodes[c->n++], conf, conf->urls->v[i]);
        }
    }
    if (rc == 0 && c->n == 0) {
        rc = err_set(e, ERR_CONFIG, "an elasticsearch sink needs a `url`");
    }
    if (rc != 0) {
        es_conn_close(c);
        return rc;
    }
    *ret = c;
    return 0;
}

void
es_conn_close(struct es_conn *c)
{
    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < c->n; i++) {
        httpc_free(c->nodes[i].http);
        free(c->nodes[i].url);
    }
    free(c->nodes);
    free(c->authorization);
    httpc_resp_fini(&c->answer);
    buf_fini(&c->packed);
    free(c);
}

const char *
es_conn_url(const struct es_conn *c)
{
    return c->nodes[c->used].url;
}

/* ---- requests ---- */

static void
next_node(struct es_conn *c)
{
    c->at = (c->at + 1) % c->n;
}

static int
call_node(struct es_conn *c, const struct es_request *rq, struct err *e)
{
    const struct es_node *node = &c->nodes[c->at];
    const char *headers[3] = {0};
    size_t n = 0;
    struct str body = rq->body;
    c->used = c->at;
    if (c->authorization != NULL) {
        headers[n++] = c->authorization;
    }
    if (node->is_gzipped && body.n >= GZIP_WORTH_BYTES) {
        buf_reset(&c->packed, KEEP_BYTES);
        gzip_put(&c->packed, body, GZIP_FASTEST);
        body = buf_str(&c->packed);
        headers[n++] = "Content-Encoding: gzip";
    }
    if (c->answer.body.cap > KEEP_BYTES) {
        httpc_resp_fini(&c->answer);
    }
    c->sink->counts.requests++;
    c->sink->counts.bytes += body.n;
    return httpc_call(node->http,
        &(struct httpc_req){.method = rq->method,
            .path = rq->path,
            .content_type = body.n == 0     ? NULL
                            : rq->is_ndjson ? "application/x-ndjson"
                                            : "application/json",
            .accept = "application/json",
            .headers = headers,
            .body = body,
            .timeout_ms = c->timeout_ms,
            .max_body = rq->max_answer == 0 ? ES_CONN_ANSWER_MAX : rq->max_answer},
        &c->answer, e);
}

/* What the answer says of the node and its load. */
static void
heed_answer(struct es_conn *c, const struct es_answer *a)
{
    enum es_whole whole = es_reply_whole(a->status, a->body);
    if (whole == ES_WHOLE_PUSHED) {
        c->sink->is_pushed_back = true;
    }
    if (c->answer.retry_after_ms > c->sink->retry_after_ms) {
        c->sink->retry_after_ms = c->answer.retry_after_ms;
    }
    if (a->status >= 500) {
        next_node(c);
    }
}

int
es_conn_call(
    struct es_conn *c, const struct es_request *rq, struct es_answer *ret, struct err *e)
{
    int rc = ERR_CONNECT;
    for (size_t i = 0; rc == ERR_CONNECT && i < c->n; i++) {
        rc = call_node(c, rq, e);
        if (rc == ERR_CONNECT || rc == ERR_TIMEOUT || rc == ERR_CLOSED) {
            next_node(c);
        }
    }
    if (rc == ERR_TIMEOUT) {
        c->sink->is_pushed_back = true;
    }
    if (rc != 0) {
        return rc;
    }
    struct es_answer a = {
        .status = (unsigned)c->answer.status, .body = buf_str(&c->answer.body)};
    heed_answer(c, &a);
    *ret = a;
    return 0;
}

static int
code_of(enum es_whole whole, unsigned status)
{
    switch (whole) {
    case ES_WHOLE_RETRY:
    case ES_WHOLE_PUSHED:
        return ERR_BUSY;
    case ES_WHOLE_BLOCKED:
        return ERR_NOSPACE;
    case ES_WHOLE_STOP:
    case ES_WHOLE_HALVE:
    case ES_WHOLE_OK:
        break;
    }
    return status == 401 || status == 403 ? ERR_AUTH : ERR_REFUSED;
}

int
es_conn_refused(
    const struct es_conn *c, const struct es_answer *a, const char *what, struct err *e)
{
    struct buf auto_buf text;
    buf_init(&text, 1024);
    es_reply_put_error(&text, a->status, a->body, true);
    int code = code_of(es_reply_whole(a->status, a->body), a->status);
    const char *advice = "";
    if (code == ERR_AUTH) {
        advice =
            c->authorization == NULL
                ? ". Give the sink an `api_key_file`, or `username` and `password_file`"
                : ". Give the sink's account the rights that sinks/elasticsearch/README.md "
                  "names";
    } else if (code == ERR_NOSPACE) {
        advice = ". Free disk space, or take the block away";
    }
    return err_set(e, code, "%s: %s %.250s%s", what, es_conn_url(c), buf_cstr(&text), advice);
}
