/* cmd_line: see cmd_line.h. Views are spans of the line: a value with its quotes and escapes.
 */
#include "broker/cli/cmd_line.h"

#include <ctype.h>

#include "broker/cli/cmd_text.h"

struct scan {
    const char *p, *end;
    bool failed;
};

static char
peek(const struct scan *s)
{
    return !s->failed && s->p < s->end ? *s->p : '\0';
}

static bool
accept(struct scan *s, char c)
{
    if (peek(s) != c || c == '\0') {
        return false;
    }
    s->p++;
    return true;
}

static void
expect(struct scan *s, char c)
{
    if (!accept(s, c)) {
        s->failed = true;
    }
}

static void
skip_string(struct scan *s)
{
    expect(s, '"');
    while (!s->failed && !accept(s, '"')) {
        if (accept(s, '\\') && s->p < s->end) {
            s->p++;
        } else if (s->p == s->end) {
            s->failed = true;
        } else {
            s->p++;
        }
    }
}

/* An object or array: brackets are counted, whatever their kind; strings are passed over. */
static void
skip_nested(struct scan *s)
{
    size_t depth = 0;
    do {
        char c = peek(s);
        if (c == '"') {
            skip_string(s);
            continue;
        }
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
        if (c == '\0') {
            s->failed = true;
        } else {
            s->p++;
        }
    } while (depth > 0 && !s->failed);
}

/* The next value as it stands. */
static struct str
take_value(struct scan *s)
{
    const char *from = s->p;
    char c = peek(s);
    if (c == '"') {
        skip_string(s);
    } else if (c == '{' || c == '[') {
        skip_nested(s);
    } else {
        while (s->p < s->end && strchr(",}]", *s->p) == NULL) {
            s->p++;
        }
        s->failed = s->failed || s->p == from;
    }
    return (struct str){from, s->failed ? 0 : (size_t)(s->p - from)};
}

static struct scan
scan_of(struct str text)
{
    return (struct scan){.p = text.p, .end = text.p + text.n};
}

/* Walks an object: the next member, keys with their quotes. False at its end (or failed). */
static bool
next_member(struct scan *s, struct str *ret_key, struct str *ret_value)
{
    if (!accept(s, '{') && !accept(s, ',')) {
        return false;
    }
    if (peek(s) == '}') {
        return false;
    }
    *ret_key = take_value(s);
    expect(s, ':');
    *ret_value = take_value(s);
    return !s->failed;
}

static struct str
find_member(struct str object, struct str quoted_key)
{
    struct scan s = scan_of(object);
    struct str key;
    struct str value;
    while (object.n > 0 && next_member(&s, &key, &value)) {
        if (str_eq(key, quoted_key)) {
            return value;
        }
    }
    return (struct str){0};
}

/* ---- a change ---- */

struct change {
    struct str offset, ts, op, schema, table, key, new_row, old_row;
    struct str cascade, restart, prefix, content, transactional;
};

static bool
read_change(struct str line, struct change *ret)
{
    struct change c = {0};
    const struct {
        struct str name;
        struct str *to;
    } members[] = {{STR("\"offset\""), &c.offset}, {STR("\"ts\""), &c.ts},
        {STR("\"op\""), &c.op}, {STR("\"schema\""), &c.schema}, {STR("\"table\""), &c.table},
        {STR("\"key\""), &c.key}, {STR("\"new\""), &c.new_row}, {STR("\"old\""), &c.old_row},
        {STR("\"cascade\""), &c.cascade}, {STR("\"restart_identity\""), &c.restart},
        {STR("\"prefix\""), &c.prefix}, {STR("\"content\""), &c.content},
        {STR("\"transactional\""), &c.transactional}};
    struct scan s = scan_of(line);
    struct str key;
    struct str value;
    while (next_member(&s, &key, &value)) {
        for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
            if (str_eq(key, members[i].name)) {
                *members[i].to = value;
            }
        }
    }
    expect(&s, '}');
    if (s.failed || s.p != s.end || c.offset.n == 0 || c.op.n < 3) {
        return false;
    }
    *ret = c;
    return true;
}

bool
cmd_line_offset(struct str line, uint64_t *ret)
{
    struct change c;
    uint64_t n = 0;
    if (!read_change(line, &c) || c.offset.n > 19) {
        return false;
    }
    for (size_t i = 0; i < c.offset.n; i++) {
        if (!isdigit((unsigned char)c.offset.p[i])) {
            return false;
        }
        n = n * 10 + (uint64_t)(c.offset.p[i] - '0');
    }
    *ret = n;
    return true;
}

static struct str
unquoted(struct str s)
{
    return s.n >= 2 && s.p[0] == '"' ? (struct str){s.p + 1, s.n - 2} : s;
}

/* Text that cannot be taken for anything else needs no quotes. */
static bool
is_plain(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (!isalnum((unsigned char)s.p[i]) && strchr("_.:+-@/", s.p[i]) == NULL) {
            return false;
        }
    }
    return s.n > 0 && !str_is(s, "null") && !str_is(s, "true") && !str_is(s, "false");
}

static void
put_value(struct buf *b, struct str v)
{
    struct str inner = unquoted(v);
    cmd_text_put(b, is_plain(inner) ? inner : v);
}

/* " name=value" for each member; without those in `skip`, and those of the same value in
 * `same`. */
static void
put_members(struct buf *b, struct str object, struct str skip, struct str same)
{
    struct scan s = scan_of(object);
    struct str key;
    struct str value;
    while (object.n > 0 && next_member(&s, &key, &value)) {
        struct str before = find_member(same, key);
        if (find_member(skip, key).n > 0 || (before.n > 0 && str_eq(before, value))) {
            continue;
        }
        buf_putc(b, ' ');
        put_value(b, key);
        buf_putc(b, '=');
        put_value(b, value);
    }
}

static void
put_row(struct buf *b, const struct change *c)
{
    struct str none = {0};
    struct str op = unquoted(c->op);
    put_members(b, c->key, none, none);
    if (str_is(op, "delete")) {
        put_members(b, c->old_row, c->key, none);
        return;
    }
    put_members(b, c->new_row, c->key, str_is(op, "update") ? c->old_row : none);
}

static void
put_message(struct buf *b, const struct change *c)
{
    buf_putc(b, ' ');
    put_value(b, c->prefix);
    buf_puts(b,
        str_is(c->transactional, "true") ? " content=" : " (outside a transaction) content=");
    put_value(b, c->content);
}

bool
cmd_line_put(struct buf *b, struct str line, size_t width)
{
    struct change c;
    size_t at = b->n;
    if (!read_change(line, &c)) {
        return false;
    }
    struct str op = unquoted(c.op);
    cmd_text_put(b, unquoted(c.ts));
    buf_putc(b, ' ');
    cmd_text_put(b, op);
    if (str_is(op, "message")) {
        put_message(b, &c);
    } else {
        buf_putc(b, ' ');
        put_value(b, c.schema);
        buf_putc(b, '.');
        put_value(b, c.table);
        put_row(b, &c);
        buf_puts(b, str_is(c.cascade, "true") ? " cascade" : "");
        buf_puts(b, str_is(c.restart, "true") ? " restart_identity" : "");
    }
    if (width > 0) {
        cmd_text_cut(b, at, width);
    }
    return true;
}
