/* str: a view of bytes that somebody else owns; not NUL-terminated. */
#ifndef ONESLOT_BASE_STR_H
#define ONESLOT_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

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

#endif
