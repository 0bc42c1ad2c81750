/* http_guard: see http_guard.h. No I/O, no allocation, knows no HTTP library. */
#include "proto/base/http_guard.h"

#include <strings.h>

#include "proto/base/listen.h"

/* Cuts ":PORT" off; false when what follows the colon is no port. */
static bool
cut_port(struct str *host)
{
    const char *from = host->p, *end = host->p + host->n, *colon;

    if (host->n > 0 && from[0] == '[') {
        from = memchr(from, ']', host->n);
        if (from == NULL) {
            return false;
        }
    }
    colon = memchr(from, ':', (size_t)(end - from));
    if (colon == NULL) {
        return true;
    }
    if (end - colon < 2 || end - colon > 6) {
        return false;
    }
    for (const char *p = colon + 1; p < end; p++) {
        if (*p < '0' || *p > '9') {
            return false;
        }
    }
    host->n = (size_t)(colon - host->p);
    return true;
}

bool
http_guard_host(struct str host, bool is_unix)
{
    host = str_trim(host);
    if (!cut_port(&host)) {
        return false;
    }
    if (is_unix && str_is_caseless(host, "oneslot")) {
        return true;
    }
    if (host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']') {
        host = (struct str){host.p + 1, host.n - 2};
    }
    return listen_is_loopback(host);
}

bool
http_guard_type(struct str type)
{
    const char *semicolon = type.n == 0 ? NULL : memchr(type.p, ';', type.n);

    if (semicolon != NULL) {
        type.n = (size_t)(semicolon - type.p);
    }
    type = str_trim(type);
    return str_is_caseless(type, "application/json") ||
           str_is_caseless(type, "application/msgpack");
}

bool
http_guard_is_forgeable(const struct http_guard *g, struct str method)
{
    bool is_read = str_is(method, "GET") || str_is(method, "HEAD") || str_is(method, "OPTIONS");

    if (is_read || (!http_guard_has_body(g) && !str_is(method, "POST"))) {
        return false;
    }
    return g->n_type != 1 || !http_guard_type(g->type);
}

void
http_guard_note(struct http_guard *g, struct str name, struct str value)
{
    struct {
        const char *name;
        struct str *value;
        unsigned *n;
    } wanted[] = {{"Host", &g->host, &g->n_host}, {"Content-Length", &g->length, &g->n_length},
        {"Transfer-Encoding", &g->encoding, &g->n_encoding},
        {"Content-Type", &g->type, &g->n_type}};

    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        if (str_is_caseless(name, wanted[i].name)) {
            *wanted[i].value = value;
            ++*wanted[i].n;
        }
    }
}

static bool
is_digits(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') {
            return false;
        }
    }
    return s.n > 0;
}

bool
http_guard_is_framed(const struct http_guard *g)
{
    if (g->n_length + g->n_encoding > 1) {
        return false;
    }
    return (g->n_length == 0 || is_digits(g->length)) &&
           (g->n_encoding == 0 || str_is_caseless(g->encoding, "chunked"));
}

bool
http_guard_has_body(const struct http_guard *g)
{
    return g->n_encoding > 0 || http_guard_body_bytes(g) > 0;
}

uint64_t
http_guard_body_bytes(const struct http_guard *g)
{
    uint64_t v = 0;

    if (g->length.n > 0 && !str_u64(g->length, UINT64_MAX, &v)) {
        return UINT64_MAX;
    }
    return v;
}

unsigned
http_guard_judge(
    const struct http_guard *g, const struct http_guard_about *about, const char **ret_why)
{
    struct {
        bool is_bad;
        unsigned status;
        const char *why;
    } rules[] = {
        {about->header_bytes > HTTP_GUARD_HEADER_BYTES_MAX, 431,
            "the request's header is larger than 32 KiB"},
        {!http_guard_is_framed(g), 400,
            "the length of the body is ambiguous: one Content-Length, or chunked"},
        {about->path.n == 0 || about->path.p[0] != '/', 400,
            "the request target must begin with a slash"},
        {g->n_host > 1 || (g->n_host == 0 && !about->is_http10), 400,
            "exactly one Host header is needed"},
        {about->loopback_hosts_only && g->n_host == 1 &&
                !http_guard_host(g->host, about->is_unix),
            403,
            "this Host is no name of the loopback interface: use localhost, 127.0.0.1 or "
            "[::1]"},
        {http_guard_is_forgeable(g, about->method), 415,
            "the Content-Type must be application/json or application/msgpack"},
    };

    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        if (rules[i].is_bad) {
            *ret_why = rules[i].why;
            return rules[i].status;
        }
    }
    return 0;
}

const char *
http_guard_title(unsigned status)
{
    static const struct {
        unsigned status;
        const char *title;
    } titles[] = {{400, "Bad Request"}, {403, "Forbidden"}, {413, "Content Too Large"},
        {415, "Unsupported Media Type"}, {431, "Request Header Fields Too Large"},
        {503, "Service Unavailable"}, {505, "HTTP Version Not Supported"}};

    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++) {
        if (titles[i].status == status) {
            return titles[i].title;
        }
    }
    return "Error";
}

size_t
http_guard_unescape(char *s)
{
    char *to = s;

    for (const char *p = s; *p != '\0';) {
        int high = *p == '%' ? str_hex_digit(p[1]) : -1;
        int low = high >= 0 ? str_hex_digit(p[2]) : -1;

        if (low >= 0 && high + low > 0) {
            *to++ = (char)(high * 16 + low);
            p += 3;
        } else {
            *to++ = *p++;
        }
    }
    *to = '\0';
    return (size_t)(to - s);
}
