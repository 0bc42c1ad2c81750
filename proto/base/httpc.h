/* httpc: an HTTP client over libcurl (which only httpc.c includes). One handle is one
 * kept-alive connection, used by one thread at a time. Bodies have a Content-Length; no Expect;
 * no redirects; no signals. */
#ifndef ONESLOT_BASE_HTTPC_H
#define ONESLOT_BASE_HTTPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/str.h"

struct httpc_conf {
    const char *unix_path; /* NULL: TCP */
    const char *base_url;  /* "http://127.0.0.1:7432"; with unix_path only its path part counts
                              ("http://oneslot") */
    const char *bearer;    /* token or NULL */
    const char *ca_file;   /* NULL: the system's */
    int64_t connect_timeout_ms;
    bool (*should_stop)(
        void); /* polled during calls (<= 200 ms); a true ends the call with ERR_STOPPING */
};

struct httpc;
struct httpc *httpc_new(const struct httpc_conf *c);
void httpc_free(struct httpc *c);

struct httpc_req {
    const char *method; /* "GET", "POST", ... */
    const char *path;   /* "/lag?..." (already escaped) */
    const char *content_type, *accept;
    const char *const *headers; /* "Name: value" lines, NULL-terminated, or NULL */
    struct str body;
    int64_t timeout_ms; /* whole call; 0: none (streams) */
    size_t max_body;    /* of the answer; more is ERR_TOOBIG */
};

struct httpc_resp {
    long status;
    struct buf body;
    char content_type[64];
    int64_t retry_after_ms; /* from Retry-After, -1 when absent */
};
void httpc_resp_fini(struct httpc_resp *rs);

/* A complete answer, whatever its status, returns 0. Errors: CONNECT (nothing was sent), CLOSED
 * (the outcome is unknown), TIMEOUT (unknown), STOPPING (unknown when it had begun), TOOBIG,
 * CONFIG (URL or ca_file). An answer with neither a length nor chunks is CLOSED: its end is not
 * certain. A request is sent once; only GET and HEAD are repeated when a kept-alive connection
 * proves dead. rs is reused: its memory is kept. */
int httpc_call(struct httpc *c, const struct httpc_req *rq, struct httpc_resp *rs,
    struct err *e) MUST_CHECK;
/* Hands the body of a 2xx answer piece by piece to fn (non-zero ends it with that error code);
 * any other status collects the body in rs. A body cut off before its end is ERR_CLOSED. */
typedef int httpc_data_f(void *arg, struct str piece, struct err *e);
int httpc_stream(struct httpc *c, const struct httpc_req *rq, httpc_data_f *fn, void *arg,
    struct httpc_resp *rs, struct err *e) MUST_CHECK;

/* Appends s percent-encoded for a path segment or query value: THE escaping function for URLs.
 */
void httpc_put_escaped(struct buf *b, struct str s);

#endif
