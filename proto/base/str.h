/* str: a view of bytes that somebody else owns; not NUL-terminated. */
#ifndef ONESLOT_BASE_STR_H
#define ONESLOT_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

struct str {
    const char *p;
    size_t n;
};

#define STR(literal) ((struct str){.p = (literal), .n = sizeof(literal) - 1})

static inline struct str
str_from(const char *cstr)
{
    return (struct str){.p = cstr, .n = cstr == NULL ? 0 : strlen(cstr)};
}

static inline bool
str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool
str_is(struct str a, const char *cstr)
{
    return str_eq(a, str_from(cstr));
}

/* ASCII letters of either case are the same. */
static inline bool
str_is_caseless(struct str s, const char *cstr)
{
    return s.n == strlen(cstr) && strncasecmp(s.p, cstr, s.n) == 0;
}

/* Without the blanks and tabs around it. */
static inline struct str
str_trim(struct str s)
{
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
        s.p++;
        s.n--;
    }
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) {
        s.n--;
    }
    return s;
}

/* The value of a hex digit of either case, or -1. */
static inline int
str_hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Decimal digits and nothing else, up to max. */
static inline bool
str_u64(struct str s, uint64_t max, uint64_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        uint64_t digit = (uint64_t)(s.p[i] - '0');
        if (s.p[i] < '0' || s.p[i] > '9' || digit > max || v > (max - digit) / 10) {
            return false;
        }
        v = v * 10 + digit;
    }
    if (s.n > 0) {
        *ret = v;
    }
    return s.n > 0;
}

#endif
