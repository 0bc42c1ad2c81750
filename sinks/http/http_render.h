/* http_render: changes as the body of a request, and the header lines that go with it. Pure.
 * The body stands behind "UNIX." in the buffer, so that what is signed is one piece. */
#ifndef ONESLOT_SINKS_HTTP_HTTP_RENDER_H
#define ONESLOT_SINKS_HTTP_HTTP_RENDER_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/record.h"

enum http_format { HTTP_FORMAT_NDJSON, HTTP_FORMAT_JSON };

struct http_request {
    struct buf text; /* "UNIX." and the body */
    size_t body_at;
    size_t n; /* records in it */
    uint64_t first, last;
};
void http_request_init(struct http_request *rq);
void http_request_fini(struct http_request *rq);             /* accepts a zeroed one */
struct str http_request_body(const struct http_request *rq); /* until the next render */

/* As many of records[0..n), n > 0, as stay within max_bytes, and the first in any case. unix_s:
 * seconds since 1970, what the signature says. */
void http_render_body(struct http_request *rq, enum http_format format,
    const struct record *records, size_t n, size_t max_bytes, int64_t unix_s);
/* Appends "Oneslot-Signature: t=UNIX,v1=HEX": HMAC-SHA-256 of "UNIX." and the body. */
void http_render_signature(struct buf *line, struct str secret, const struct http_request *rq);
/* Appends "Idempotency-Key: FIRST-LAST", the offsets. */
void http_render_key(struct buf *line, const struct http_request *rq);
const char *http_render_type(enum http_format format); /* Content-Type; static */

#endif
