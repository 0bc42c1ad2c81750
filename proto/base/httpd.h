/* httpd: an HTTP/1.1 server over libmicrohttpd (which only httpd.c includes). Bounded in connections,
 * header bytes, body bytes and idle time. The handler is called on a pool thread once the whole request is
 * there; it answers at once, answers with a stream, or suspends and is called again after httpd_resume. */
#ifndef ONESLOT_BASE_HTTPD_H
#define ONESLOT_BASE_HTTPD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/str.h"

struct httpd;
struct httpd_req;

/* Called with the complete request, and once more after every httpd_resume of a suspended request. Must
 * respond or suspend before it returns. */
typedef void httpd_handler_f(struct httpd_req *rq, void *arg);
/* Called when the request's headers are in, before its body: returns the largest body accepted (0: none);
 * more is answered 413 and the connection closed. */
typedef size_t httpd_body_limit_f(struct httpd_req *rq, void *arg);

struct httpd_conf {
    const char *unix_path; /* either: a stale file is replaced, mode 0600 */
    const char *host;      /* or: numeric address ... */
    uint16_t port;         /* ... and port (0: any; see httpd_port) */
    const char *tls_cert_file, *tls_key_file; /* NULL: plain */
    unsigned max_connections, threads, idle_timeout_s;
    size_t buffer_bytes; /* per connection: largest piece a stream renders at once (1 MiB) */
    httpd_handler_f *handler;
    httpd_body_limit_f *body_limit;
    void *arg;
};

int httpd_open(const struct httpd_conf *c, struct httpd **ret, struct err *e) MUST_CHECK;
/* Stops accepting, resumes nothing: callers resume their suspended requests first. Waits for handlers. */
void httpd_close(struct httpd *d);
uint16_t httpd_port(const struct httpd *d);

/* All views are valid until the response is queued. */
struct str httpd_method(const struct httpd_req *rq);
struct str httpd_path(const struct httpd_req *rq);                       /* decoded, without the query */
bool httpd_query(const struct httpd_req *rq, const char *name, struct str *ret);
/* False as soon as some query argument is not in the NULL-terminated list; *ret_bad names it. */
bool httpd_query_known(const struct httpd_req *rq, const char *const *names, struct str *ret_bad);
bool httpd_header(const struct httpd_req *rq, const char *name, struct str *ret);
struct str httpd_body(const struct httpd_req *rq);
bool httpd_is_unix(const struct httpd_req *rq);
/* One pointer that the application keeps with the request; drop (may be NULL) is called at its very end,
 * whatever ended it, also when the client vanished while suspended. */
void httpd_set_state(struct httpd_req *rq, void *state, void (*drop)(void *state));
void *httpd_state(const struct httpd_req *rq);

void httpd_add_header(struct httpd_req *rq, const char *name, const char *value); /* before responding */
/* Queues the answer; takes body's memory (body is left empty). */
void httpd_respond(struct httpd_req *rq, unsigned status, const char *content_type, struct buf *body);

/* Suspends; from then on another thread may httpd_resume it, exactly once, even before the caller has
 * returned. Register the waiter after this call. */
void httpd_suspend(struct httpd_req *rq);
void httpd_resume(struct httpd_req *rq);

enum { HTTPD_STREAM_END = -1, HTTPD_STREAM_BREAK = -2 /* cut off, unterminated (P7) */,
    HTTPD_STREAM_WAIT = 0 /* httpd_suspend(rq) was called */ };
/* Writes 1..max bytes into to, or returns one of the above. Called on the pool thread. */
typedef ssize_t httpd_stream_f(void *state, char *to, size_t max);
/* Answers with a chunked body that httpd_state(rq) renders piece by piece. */
void httpd_respond_stream(struct httpd_req *rq, unsigned status, const char *content_type, httpd_stream_f *fn);

#endif
