/* es_json: see es_json.h. One pass that writes as it reads; an object that ends is compacted in
 * place when keys repeat, inner ones first. */
#include "sinks/elasticsearch/es_json.h"

#include <stdlib.h>

#include "proto/base/json.h"
#include "proto/base/xmalloc.h"
#include "sinks/elasticsearch/es_scan.h"

enum { FEW_MEMBERS = 16, INLINE_LEVELS = 32, INLINE_MEMBERS = 64 };

struct member { /* of an object that is open; places are counted from where the value begins */
    size_t at, end;
    size_t key_n; /* of the key in the output, with its quotes */
    size_t order;
    bool is_dropped;
};

struct level {
    bool is_object;
    size_t first; /* its first member in `members` */
};

struct walk {
    struct es_scan sc;
    struct buf *b;
    size_t from;
    struct level *levels, few_levels[INLINE_LEVELS];
    struct member *members, few_members[INLINE_MEMBERS];
    size_t nlevels, levels_cap, nmembers, members_cap;
};

/* Twice the room for an array that begins in storage of the walk. */
static void *
grown(void *old, const void *few, size_t *cap, size_t size)
{
    void *bigger = xmalloc(*cap * 2 * size);
    memcpy(bigger, old, *cap * size);
    if (old != few) {
        free(old);
    }
    *cap *= 2;
    return bigger;
}

static bool
open_level(struct walk *w, bool is_object)
{
    if (w->nlevels == ES_JSON_DEPTH_MAX) {
        return false;
    }
    if (w->nlevels == w->levels_cap) {
        w->levels = grown(w->levels, w->few_levels, &w->levels_cap, sizeof *w->levels);
    }
    w->levels[w->nlevels++] = (struct level){.is_object = is_object, .first = w->nmembers};
    buf_putc(w->b, is_object ? '{' : '[');
    return true;
}

/* ---- repeated keys ---- */

static struct str
key_of(const char *base, const struct member *m)
{
    return (struct str){.p = base + m->at, .n = m->key_n};
}

static int
compare_keys(const void *left, const void *right, void *base)
{
    const struct member *a = left, *b = right;
    if (a->key_n != b->key_n) {
        return a->key_n < b->key_n ? -1 : 1;
    }
    int order = memcmp((const char *)base + a->at, (const char *)base + b->at, a->key_n);
    return order != 0 ? order : a->order < b->order ? -1 : 1;
}

static bool
drop_of_few(const char *base, struct member *m, size_t n)
{
    bool has_dropped = false;
    for (size_t i = 0; i + 1 < n; i++) {
        for (size_t k = i + 1; k < n && !m[i].is_dropped; k++) {
            m[i].is_dropped = str_eq(key_of(base, &m[i]), key_of(base, &m[k]));
        }
        has_dropped |= m[i].is_dropped;
    }
    return has_dropped;
}

static bool
drop_of_many(char *base, struct member *m, size_t n)
{
    bool has_dropped = false;
    struct member *sorted = xmalloc(n * sizeof *sorted);
    memcpy(sorted, m, n * sizeof *sorted);
    qsort_r(sorted, n, sizeof *sorted, compare_keys, base);
    for (size_t i = 0; i + 1 < n; i++) {
        if (str_eq(key_of(base, &sorted[i]), key_of(base, &sorted[i + 1]))) {
            m[sorted[i].order].is_dropped = true;
            has_dropped = true;
        }
    }
    free(sorted);
    return has_dropped;
}

/* Moves what stays together. Returns its end. */
static size_t
compact(char *base, const struct member *m, size_t n)
{
    size_t to = m[0].at;
    for (size_t i = 0; i < n; i++) {
        if (m[i].is_dropped) {
            continue;
        }
        if (to > m[0].at) {
            base[to++] = ',';
        }
        memmove(base + to, base + m[i].at, m[i].end - m[i].at);
        to += m[i].end - m[i].at;
    }
    return to;
}

static void
drop_repeated(struct walk *w, size_t first)
{
    char *base = w->b->p + w->from;
    struct member *m = w->members + first;
    size_t n = w->nmembers - first;
    bool has_dropped = n <= FEW_MEMBERS ? drop_of_few(base, m, n) : drop_of_many(base, m, n);
    if (has_dropped) {
        w->b->n = w->from + compact(base, m, n);
    }
}

/* ---- values ---- */

/* Overwrites surrogates without their other half: the escape keeps its length. */
static void
mend_surrogates(char *p, size_t n)
{
    for (size_t i = 0; i + 1 < n;) {
        char *slash = memchr(p + i, '\\', n - i);
        if (slash == NULL) {
            return;
        }
        i = (size_t)(slash - p);
        long unit = es_scan_unit(slash, n - i);
        if (unit < 0xd800 || unit > 0xdfff) {
            i += unit < 0 ? 2 : 6;
            continue;
        }
        long low = unit <= 0xdbff && n - i > 6 ? es_scan_unit(slash + 6, n - i - 6) : -1;
        if (low >= 0xdc00 && low <= 0xdfff) {
            i += 12;
        } else {
            memcpy(slash + 2, "fffd", 4);
            i += 6;
        }
    }
}

static bool
put_text(struct walk *w)
{
    struct str raw;
    if (!es_scan_string_here(&w->sc, &raw)) {
        return false;
    }
    size_t at = w->b->n + 1;
    buf_putc(w->b, '"');
    buf_put_str(w->b, raw);
    buf_putc(w->b, '"');
    if (!w->b->failed) {
        mend_surrogates(w->b->p + at, raw.n);
    }
    return !w->b->failed;
}

static void
put_key(struct buf *b, struct str raw)
{
    if (raw.n == 0 || memchr(raw.p, '\\', raw.n) == NULL) {
        json_put_string(b, raw);
        return;
    }
    struct buf auto_buf plain;
    buf_init(&plain, SIZE_MAX);
    es_scan_put_unescaped(&plain, raw);
    json_put_string(b, buf_str(&plain));
}

static bool
put_member_key(struct walk *w)
{
    struct str raw;
    es_scan_blanks(&w->sc);
    if (!es_scan_string_here(&w->sc, &raw) || !es_scan_char(&w->sc, ':')) {
        return false;
    }
    if (w->nmembers == w->members_cap) {
        w->members = grown(w->members, w->few_members, &w->members_cap, sizeof *w->members);
    }
    size_t at = w->b->n;
    put_key(w->b, raw);
    w->members[w->nmembers] = (struct member){.at = at - w->from,
        .key_n = w->b->n - at,
        .order = w->nmembers - w->levels[w->nlevels - 1].first};
    w->nmembers++;
    buf_putc(w->b, ':');
    return !w->b->failed;
}

static void
close_level(struct walk *w)
{
    struct level *top = &w->levels[--w->nlevels];
    if (top->is_object && w->nmembers - top->first > 1) {
        drop_repeated(w, top->first);
    }
    w->nmembers = top->first;
    buf_putc(w->b, top->is_object ? '}' : ']');
}

/* Writes a scalar, an empty pair of brackets, or an opening one (*is_open) with the key behind
 * it. */
static bool
begin_value(struct walk *w, bool *is_open)
{
    bool is_object = es_scan_char(&w->sc, '{');
    *is_open = false;
    if (is_object || es_scan_char(&w->sc, '[')) {
        if (!open_level(w, is_object)) {
            return false;
        }
        if (es_scan_char(&w->sc, is_object ? '}' : ']')) {
            close_level(w);
            return true;
        }
        *is_open = true;
        return !is_object || put_member_key(w);
    }
    if (w->sc.p < w->sc.end && *w->sc.p == '"') {
        return put_text(w);
    }
    const char *from = w->sc.p;
    if (!es_scan_scalar_here(&w->sc)) {
        return false;
    }
    buf_put(w->b, from, (size_t)(w->sc.p - from));
    return true;
}

/* What follows a value: closing brackets, up to a comma (and the next key) or the end. */
static bool
end_value(struct walk *w)
{
    while (w->nlevels > 0) {
        bool is_object = w->levels[w->nlevels - 1].is_object;
        if (is_object) {
            w->members[w->nmembers - 1].end = w->b->n - w->from;
        }
        if (es_scan_char(&w->sc, ',')) {
            buf_putc(w->b, ',');
            return !is_object || put_member_key(w);
        }
        if (w->b->failed || !es_scan_char(&w->sc, is_object ? '}' : ']')) {
            return false;
        }
        close_level(w);
    }
    return true;
}

static bool
walk_value(struct walk *w)
{
    do {
        bool is_open;
        if (!begin_value(w, &is_open) || (!is_open && !end_value(w)) || w->b->failed) {
            return false;
        }
    } while (w->nlevels > 0);
    return es_scan_end(&w->sc);
}

bool
es_json_put(struct buf *b, struct str text)
{
    struct walk w;
    w.sc = es_scan_of(text);
    w.b = b;
    w.from = b->n;
    w.levels = w.few_levels;
    w.members = w.few_members;
    w.nlevels = w.nmembers = 0;
    w.levels_cap = INLINE_LEVELS;
    w.members_cap = INLINE_MEMBERS;
    bool is_ok = walk_value(&w);
    if (!is_ok && !b->failed) {
        b->n = w.from;
    }
    if (w.levels != w.few_levels) {
        free(w.levels);
    }
    if (w.members != w.few_members) {
        free(w.members);
    }
    return is_ok;
}

/* Where the string that begins at p[at] ends: behind its quote. */
static size_t
after_string(struct str text, size_t at)
{
    at++;
    while (at < text.n && text.p[at] != '"') {
        at += text.p[at] == '\\' ? 2 : 1;
    }
    return at + 1;
}

bool
es_json_is_too_deep(struct str text)
{
    size_t depth = 0;
    if (text.n <= 2 * ES_JSON_DEPTH_MAX) {
        return false; /* too short for so many pairs */
    }
    for (size_t i = 0; i < text.n;) {
        char c = text.p[i];
        if (c == '"') {
            i = after_string(text, i);
            continue;
        }
        if (c == '{' || c == '[') {
            depth++;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
        if (depth > ES_JSON_DEPTH_MAX) {
            return true;
        }
        i++;
    }
    return false;
}
