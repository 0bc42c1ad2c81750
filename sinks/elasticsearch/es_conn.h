/* es_conn: requests to one Elasticsearch or OpenSearch by any of its URLs. Owns the connections
 * (one kept alive per URL), the credentials, compression and the deadline of every request. A
 * node that cannot be reached is left for the next at once, one that answers badly for the next
 * request. Knows nothing of documents. One thread. */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_CONN_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/conf.h"
#include "proto/base/err.h"
#include "sinks/elasticsearch/es_reply.h"
#include "sinks/sink.h"

enum es_compression { ES_COMPRESSION_AUTO, ES_COMPRESSION_NONE, ES_COMPRESSION_GZIP };

struct es_conn_conf {
    const struct conf_list *urls;
    const char *api_key_file;             /* NULL: none */
    const char *username, *password_file; /* both or neither */
    const char *ca_file;
    enum es_compression compression; /* AUTO: unless the server is on this machine */
    int64_t timeout_ms;              /* of a request */
    bool (*should_stop)(void);
};

struct es_conn;

/* Reads the secrets' files. Sends nothing. ERR_CONFIG: a bad URL, half a login, a file that
 * holds no secret. *ret is owned. sink: where requests, bytes and push-back are counted;
 * borrowed until close. */
int es_conn_open(const struct es_conn_conf *conf, struct sink *sink, struct es_conn **ret,
    struct err *e) MUST_CHECK;
void es_conn_close(struct es_conn *c); /* accepts NULL */

struct es_answer {
    unsigned status;
    struct str body; /* until the next call */
};

/* One request. path: escaped. body: JSON, or NDJSON when is_ndjson. Any complete answer returns
 * 0. ERR_TOOBIG: the answer is larger than max_answer. ERR_CONNECT: no node can be reached;
 * ERR_TIMEOUT, ERR_CLOSED: the outcome is unknown. Sets is_pushed_back and retry_after_ms of
 * the sink for what asks for it. */
struct es_request {
    const char *method, *path;
    struct str body;
    bool is_ndjson;
    size_t max_answer; /* 0: ES_CONN_ANSWER_MAX */
};
enum { ES_CONN_ANSWER_MAX = 16 * 1024 * 1024 };
int es_conn_call(struct es_conn *c, const struct es_request *rq, struct es_answer *ret,
    struct err *e) MUST_CHECK;

/* The error of an answer that is no success to a request that carries no document. `what`: what
 * it was for, "cannot create the index x". 401, 403: ERR_AUTH; blocked: ERR_NOSPACE; not now:
 * ERR_BUSY; anything else: ERR_REFUSED. */
int es_conn_refused(
    const struct es_conn *c, const struct es_answer *a, const char *what, struct err *e);

/* The URL in use, for texts. */
const char *es_conn_url(const struct es_conn *c);

/* True when the URL's host is this machine. Pure. */
bool es_conn_is_local(const char *url);
/* ERR_CONFIG unless it is http://HOST... or https://HOST..., without a user, a query or a
 * fragment. Pure. */
int es_conn_check_url(const char *url, struct err *e) MUST_CHECK;

#endif
