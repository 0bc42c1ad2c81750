/* glob: see glob.h. Matching is linear in space and at worst pattern times name in time; both
 * are short (GLOB_MAX, PostgreSQL's 63-byte names). */
#include "proto/glob.h"

#include <stdint.h>
#include <string.h>

enum { GLOB_MAX = 256 };

bool
glob_has_wildcard(struct str pattern)
{
    for (size_t i = 0; i < pattern.n; i++) {
        if (pattern.p[i] == '*' || pattern.p[i] == '?') {
            return true;
        }
    }
    return false;
}

/* Where the character that starts at s[at] ends: UTF-8 continuation bytes belong to it. */
static size_t
next_char(struct str s, size_t at)
{
    at++;
    while (at < s.n && ((unsigned char)s.p[at] & 0xc0) == 0x80) {
        at++;
    }
    return at;
}

/* On a mismatch the last star takes one character more; earlier ones never need to. */
bool
glob_match(struct str pattern, struct str name)
{
    size_t p = 0, n = 0, star = SIZE_MAX, retry = 0;

    while (n < name.n) {
        if (p < pattern.n && pattern.p[p] == '*') {
            star = ++p;
            retry = n;
        } else if (p < pattern.n && pattern.p[p] == '?') {
            p++;
            n = next_char(name, n);
        } else if (p < pattern.n && pattern.p[p] == name.p[n]) {
            p++;
            n++;
        } else if (star != SIZE_MAX) {
            p = star;
            n = retry = next_char(name, retry);
        } else {
            return false;
        }
    }
    while (p < pattern.n && pattern.p[p] == '*') {
        p++;
    }
    return p == pattern.n;
}

static void
split(struct str pattern, struct str *ret_schema, struct str *ret_table)
{
    const char *dot = pattern.n == 0 ? NULL : memchr(pattern.p, '.', pattern.n);

    if (dot == NULL) {
        *ret_schema = STR("public");
        *ret_table = pattern;
        return;
    }
    ret_schema->p = pattern.p;
    ret_schema->n = (size_t)(dot - pattern.p);
    ret_table->p = dot + 1;
    ret_table->n = pattern.n - ret_schema->n - 1;
}

bool
glob_match_table(struct str pattern, struct str schema, struct str table)
{
    struct str schema_part, table_part;

    split(pattern, &schema_part, &table_part);
    return glob_match(schema_part, schema) && glob_match(table_part, table);
}

bool
glob_match_any(const struct str *patterns, size_t n, struct str schema, struct str table)
{
    for (size_t i = 0; i < n; i++) {
        if (glob_match_table(patterns[i], schema, table)) {
            return true;
        }
    }
    return false;
}

int
glob_check(struct str pattern, struct err *e)
{
    struct str schema, table;

    if (pattern.n == 0) {
        return err_set(
            e, ERR_PARSE, "a table pattern is empty; write schema.table, or schema.*");
    }
    if (pattern.n > GLOB_MAX) {
        return err_set(e, ERR_PARSE, "a table pattern is longer than %d bytes", GLOB_MAX);
    }
    for (size_t i = 0; i < pattern.n; i++) {
        unsigned char c = (unsigned char)pattern.p[i];
        if (c < ' ' || c == 0x7f) {
            return err_set(e, ERR_PARSE, "a table pattern holds a control character");
        }
    }
    split(pattern, &schema, &table);
    if (schema.n == 0 || table.n == 0) {
        return err_set(e, ERR_PARSE,
            "the table pattern `%.*s` lacks a name beside its dot; write schema.table, or "
            "schema.*",
            (int)pattern.n, pattern.p);
    }
    if (memchr(table.p, '.', table.n) != NULL) {
        return err_set(e, ERR_PARSE,
            "the table pattern `%.*s` has more than one dot; write schema.table, with ? for a "
            "dot "
            "inside a name",
            (int)pattern.n, pattern.p);
    }
    return 0;
}
