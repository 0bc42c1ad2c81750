/* httpd: an HTTP/1.1 server over libmicrohttpd (which only httpd.c includes). Bounded in
 * connections, header bytes, body bytes and idle time. The handler is called on a pool thread
 * once the whole request is there; it answers at once, answers with a stream, or suspends and
 * is called again after httpd_resume. */
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

/* Called with the complete request, and once more after every httpd_resume of a suspended
 * request. Must respond or suspend before it returns. */
typedef void httpd_handler_f(struct httpd_req *rq, void *arg);
/* Called when the headers of a request with a body are in: returns the largest body accepted
 * (0: none); more is answered 413 and the connection closed. */
typedef size_t httpd_body_limit_f(struct httpd_req *rq, void *arg);

struct httpd_conf {
    const char *unix_path;                    /* either: a stale file is replaced, mode 0600 */
    const char *host;                         /* or: numeric address ... */
    uint16_t port;                            /* ... and port (0: any; see httpd_port) */
    const char *tls_cert_file, *tls_key_file; /* NULL: plain */
    unsigned max_connections; /* further ones are answered 503, many more closed at once */
    unsigned threads;
    unsigned idle_timeout_s; /* silence; also for a whole header, and for a whole body */
    /* Per connection: the largest piece a stream renders at once. libmicrohttpd touches all of
     * it after every request, so it is what an idle kept-alive connection costs in memory;
     * streams are as fast with 128 KiB as with 1 MiB. At least 64 KiB. */
    size_t buffer_bytes;
    bool loopback_hosts_only; /* refuse (403) a Host that is no loopback name: DNS rebinding */
    httpd_handler_f *handler;
    httpd_body_limit_f *body_limit;
    void *arg;
};

/* Refused before the handler sees it, as application/problem+json: a Host that is missing or
 * (with loopback_hosts_only) no loopback name, a POST or a body that is neither JSON nor
 * msgpack (415), an ambiguous body length, a header above 32 KiB (431). Errors: CONFIG, LOCKED
 * (address in use). SIGPIPE is ignored from here on. */
int httpd_open(const struct httpd_conf *c, struct httpd **ret, struct err *e) MUST_CHECK;
/* The same in two steps: a client that comes between them is connected, and answered after the
 * second. For several servers of which none may answer before all can be reached. */
int httpd_listen(const struct httpd_conf *c, struct httpd **ret, struct err *e) MUST_CHECK;
/* Once for each server. Errors: IO, CONFIG (certificate and key are looked at here); then the
 * server is good for httpd_close only. */
int httpd_serve(struct httpd *d, struct err *e) MUST_CHECK;
/* Stops accepting and cuts off what is under way; waits for handlers. Callers resume their
 * suspended requests first; one forgotten is ended here, its state dropped, and must not be
 * resumed any more. */
void httpd_close(struct httpd *d);
uint16_t httpd_port(const struct httpd *d);

/* All views are valid until the response is queued. */
struct str httpd_method(const struct httpd_req *rq);
struct str httpd_path(const struct httpd_req *rq); /* decoded, without the query */
bool httpd_query(const struct httpd_req *rq, const char *name, struct str *ret);
/* A number from least to max; *ret stays as it is where the query does not name it. PARSE. */
int httpd_query_u64(const struct httpd_req *rq, const char *name, uint64_t least, uint64_t max,
    uint64_t *ret, struct err *e) MUST_CHECK;
/* False as soon as some query argument is not in the NULL-terminated list; *ret_bad names it.
 */
bool httpd_query_known(
    const struct httpd_req *rq, const char *const *names, struct str *ret_bad);
bool httpd_header(const struct httpd_req *rq, const char *name, struct str *ret);
struct str httpd_body(const struct httpd_req *rq);
bool httpd_is_unix(const struct httpd_req *rq);
/* Has the client closed its side? While a request is suspended nobody looks at its socket: who
 * waits without an end asks now and then. */
bool httpd_is_gone(const struct httpd_req *rq);
/* One pointer that the application keeps with the request; drop (may be NULL) is called at its
 * very end, whatever ended it. A client that vanishes while the request is suspended is noticed
 * after httpd_resume. */
void httpd_set_state(struct httpd_req *rq, void *state, void (*drop)(void *state));
void *httpd_state(const struct httpd_req *rq);

void httpd_add_header(
    struct httpd_req *rq, const char *name, const char *value); /* before responding */
/* Queues the answer; takes body's memory (body is left empty). A body that is `failed` becomes
 * a 500. */
void httpd_respond(
    struct httpd_req *rq, unsigned status, const char *content_type, struct buf *body);

/* Suspends; from then on another thread may httpd_resume it, exactly once, even before the
 * caller has returned. Register the waiter after this call. */
void httpd_suspend(struct httpd_req *rq);
void httpd_resume(struct httpd_req *rq);

enum {
    HTTPD_STREAM_END = -1,
    HTTPD_STREAM_BREAK = -2 /* cut off, unterminated (P7) */,
    HTTPD_STREAM_WAIT = 0 /* httpd_suspend(rq) was called */
};
/* Writes 1..max bytes into to, or returns one of the above. Called on the pool thread. */
typedef ssize_t httpd_stream_f(void *state, char *to, size_t max);
/* Answers with a chunked body that httpd_state(rq) renders piece by piece (HTTP/1.0 is answered
 * 505). A piece goes out at once, whatever its size. */
void httpd_respond_stream(
    struct httpd_req *rq, unsigned status, const char *content_type, httpd_stream_f *fn);

#endif
