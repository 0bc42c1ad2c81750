/* http_render: see http_render.h. */
#include "sinks/http/http_render.h"

#include <inttypes.h>

#include "proto/base/check.h"
#include "proto/base/digest.h"
#include "proto/record_json.h"

enum { KEEP_BYTES = 4 * 1024 * 1024 };

void
http_request_init(struct http_request *rq)
{
    *rq = (struct http_request){0};
    buf_init(&rq->text, SIZE_MAX);
}

void
http_request_fini(struct http_request *rq)
{
    buf_fini(&rq->text);
}

struct str
http_request_body(const struct http_request *rq)
{
    return (struct str){.p = rq->text.p + rq->body_at, .n = rq->text.n - rq->body_at};
}

void
http_render_body(struct http_request *rq, enum http_format format, const struct record *records,
    size_t n, size_t max_bytes, int64_t unix_s)
{
    struct buf *b = &rq->text;
    bool is_array = format == HTTP_FORMAT_JSON;
    size_t took = 0;

    CHECK(n > 0);
    buf_reset(b, KEEP_BYTES);
    buf_printf(b, "%" PRId64 ".", unix_s);
    rq->body_at = b->n;
    for (size_t i = 0; i < n; i++, took++) {
        size_t before = b->n;
        if (is_array) {
            buf_putc(b, i == 0 ? '[' : ',');
        }
        record_json_put(b, &records[i]);
        if (!is_array) {
            buf_putc(b, '\n');
        }
        if (i > 0 && b->n - rq->body_at + (is_array ? 1 : 0) > max_bytes) {
            b->n = before;
            break;
        }
    }
    if (is_array) {
        buf_putc(b, ']');
    }
    rq->n = took;
    rq->first = records[0].offset;
    rq->last = records[took - 1].offset;
}

void
http_render_signature(struct buf *line, struct str secret, const struct http_request *rq)
{
    uint8_t mac[DIGEST_SHA256_SIZE];

    digest_hmac_sha256(secret, buf_str(&rq->text), mac);
    buf_puts(line, "Oneslot-Signature: t=");
    buf_put(line, rq->text.p, rq->body_at - 1); /* without the dot */
    buf_puts(line, ",v1=");
    digest_put_hex(line, mac, sizeof mac);
}

void
http_render_key(struct buf *line, const struct http_request *rq)
{
    buf_printf(line, "Idempotency-Key: %" PRIu64 "-%" PRIu64, rq->first, rq->last);
}

const char *
http_render_type(enum http_format format)
{
    return format == HTTP_FORMAT_JSON ? "application/json" : "application/x-ndjson";
}
