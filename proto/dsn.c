/* dsn: see dsn.h. Follows conninfo_parse and conninfo_uri_parse_options of libpq's
 * fe-connect.c. */
#include "proto/dsn.h"

#include <stdint.h>
#include <strings.h>

#define DSN_MASK "********"

static bool
is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool
is_secret(struct str key)
{
    static const char *const names[] = {"password", "sslpassword", "oauth_client_secret"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (key.n == strlen(names[i]) && strncasecmp(key.p, names[i], key.n) == 0) {
            return true;
        }
    }
    return key.n > 0 && memchr(key.p, '%', key.n) != NULL; /* of a URI: could be any of them */
}

/* libpq's own keys are such words; what is not may be a password that went astray. */
static bool
is_word(struct str key)
{
    for (size_t i = 0; i < key.n; i++) {
        char c = key.p[i];
        if (c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')) {
            return false;
        }
    }
    return key.n > 0;
}

static size_t
skip_space(struct str s, size_t i)
{
    while (i < s.n && is_space(s.p[i])) {
        i++;
    }
    return i;
}

/* Where the value that starts at i ends; SIZE_MAX when its quote is not closed. */
static size_t
end_of_value(struct str s, size_t i)
{
    bool is_quoted = i < s.n && s.p[i] == '\'';

    for (i += is_quoted ? 1 : 0; i < s.n; i++) {
        if (s.p[i] == '\\' && i + 1 < s.n) {
            i++;
        } else if (is_quoted && s.p[i] == '\'') {
            return i + 1;
        } else if (!is_quoted && is_space(s.p[i])) {
            return i;
        }
    }
    return is_quoted ? SIZE_MAX : i;
}

static bool
mask_conninfo(struct buf *b, struct str s)
{
    size_t i = skip_space(s, 0);

    while (i < s.n) {
        struct str key = {.p = s.p + i};
        size_t start, end;
        while (i < s.n && s.p[i] != '=' && !is_space(s.p[i])) {
            i++;
        }
        key.n = (size_t)(s.p + i - key.p);
        i = skip_space(s, i);
        if (!is_word(key) || i == s.n || s.p[i] != '=') {
            return false;
        }
        start = skip_space(s, i + 1);
        end = end_of_value(s, start);
        if (end == SIZE_MAX) {
            return false;
        }
        buf_put_str(b, key);
        buf_putc(b, '=');
        if (is_secret(key)) {
            buf_puts(b, DSN_MASK);
        } else {
            buf_put(b, s.p + start, end - start);
        }
        i = skip_space(s, end);
        buf_puts(b, i < s.n ? " " : "");
    }
    return true;
}

static void
mask_query(struct buf *b, struct str s)
{
    size_t i = 0;

    while (i < s.n) {
        struct str key = {.p = s.p + i};
        size_t start;
        while (i < s.n && s.p[i] != '=' && s.p[i] != '&') {
            i++;
        }
        key.n = (size_t)(s.p + i - key.p);
        start = i;
        while (i < s.n && s.p[i] != '&') {
            i++;
        }
        buf_put_str(b, key);
        if (is_secret(key)) {
            buf_puts(b, "=" DSN_MASK);
        } else {
            buf_put(b, s.p + start, i - start);
        }
        if (i < s.n) {
            buf_putc(b, s.p[i++]);
        }
    }
}

/* A password may hold @, / or ? where it was not escaped: everything up to the last @ is the
 * user's. */
static void
mask_uri(struct buf *b, struct str s, size_t scheme)
{
    const char *at = memrchr(s.p + scheme, '@', s.n - scheme);
    struct str rest = {.p = s.p + scheme, .n = s.n - scheme};
    const char *query;

    buf_put(b, s.p, scheme);
    if (at != NULL) {
        struct str user = {.p = rest.p, .n = (size_t)(at - rest.p)};
        const char *colon = user.n == 0 ? NULL : memchr(user.p, ':', user.n);
        buf_put(b, user.p, colon == NULL ? user.n : (size_t)(colon - user.p));
        buf_puts(b, colon == NULL ? "" : ":" DSN_MASK);
        rest = (struct str){.p = at, .n = (size_t)(s.p + s.n - at)};
    }
    query = rest.n == 0 ? NULL : memchr(rest.p, '?', rest.n);
    if (query == NULL) {
        buf_put_str(b, rest);
        return;
    }
    query++;
    buf_put(b, rest.p, (size_t)(query - rest.p));
    mask_query(b, (struct str){.p = query, .n = (size_t)(s.p + s.n - query)});
}

bool
dsn_mask(struct buf *b, struct str dsn)
{
    static const char *const schemes[] = {"postgresql://", "postgres://"};

    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        size_t n = strlen(schemes[i]);
        if (dsn.n >= n && memcmp(dsn.p, schemes[i], n) == 0) {
            mask_uri(b, dsn, n);
            return true;
        }
    }
    return skip_space(dsn, 0) < dsn.n && mask_conninfo(b, dsn);
}
