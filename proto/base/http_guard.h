/* http_guard: judges the headers of a request before anything of it is used: where its body
 * ends, and whether it could come from a web page in the operator's browser. Pure. */
#ifndef ONESLOT_BASE_HTTP_GUARD_H
#define ONESLOT_BASE_HTTP_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/str.h"

/* The headers that matter, views into the request; counted, since a second one may contradict
 * the first. */
struct http_guard {
    struct str host, length, encoding, type;
    unsigned n_host, n_length, n_encoding, n_type;
};

/* Called for every header of the request. */
void http_guard_note(struct http_guard *g, struct str name, struct str value);

/* Is it beyond doubt where the body ends: one Content-Length of digits, or one
 * Transfer-Encoding: chunked, or neither? Everything below needs that. */
bool http_guard_is_framed(const struct http_guard *g);
bool http_guard_has_body(const struct http_guard *g);
/* What Content-Length says; UINT64_MAX also for more than fits; 0 when there is none. */
uint64_t http_guard_body_bytes(const struct http_guard *g);

/* Is this Host header a name of the loopback interface (localhost or a numeric address that
 * listen_is_loopback knows, with or without a port)? Any other name may be DNS rebinding; a
 * number cannot be bound to another address. On our Unix socket "oneslot" is a name of ours
 * too. */
bool http_guard_host(struct str host, bool is_unix);
/* Is this Content-Type one that a web page cannot send elsewhere without the server's consent
 * (application/json or application/msgpack, parameters ignored)? */
bool http_guard_type(struct str type);
/* May it change something at the wish of a web page: a body or a POST without such a
 * Content-Type? */
bool http_guard_is_forgeable(const struct http_guard *g, struct str method);

struct http_guard_about {
    struct str method, path;
    size_t header_bytes;
    bool is_http10, is_unix, loopback_hosts_only;
};
enum { HTTP_GUARD_HEADER_BYTES_MAX = 32 * 1024 };
/* 0, or the status (400, 403, 415, 431) to refuse it with; *ret_why is a static sentence. */
unsigned http_guard_judge(
    const struct http_guard *g, const struct http_guard_about *about, const char **ret_why);
/* "Forbidden" for 403, ... for the statuses an HTTP server answers by itself. */
const char *http_guard_title(unsigned status);

/* Decodes %XX in place and returns the length. %00 and what is no escape stay as they are, so
 * that a NUL never hides what follows it. */
size_t http_guard_unescape(char *s);

#endif
