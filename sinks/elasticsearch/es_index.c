/* es_index: see es_index.h. */
#include "sinks/elasticsearch/es_index.h"

#include "proto/base/utf8.h"

enum { GENERATION_DIGITS = 6 };

/* ---- characters ---- */

static bool
is_refused(unsigned char c)
{
    return c <= 0x20 || c == 0x7f || strchr("\\/*?\"<>|,#:%{}", c) != NULL;
}

static bool
is_refused_first(char c)
{
    return c == '-' || c == '_' || c == '+' || c == '.';
}

/* The code point of a valid sequence of n > 1 bytes. */
static uint32_t
code_point(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    uint32_t c = p[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        c = c << 6 | (p[i] & 0x3fu);
    }
    return c;
}

/* The lower case of what has one, in alphabets where that is simple. */
static uint32_t
lower_of(uint32_t c)
{
    bool is_latin = c >= 0xc0 && c <= 0xde && c != 0xd7;
    bool is_greek = c >= 0x391 && c <= 0x3a9 && c != 0x3a2;
    bool is_cyrillic = c >= 0x410 && c <= 0x42f;
    if (is_latin || is_greek || is_cyrillic) {
        return c + 0x20;
    }
    return c >= 0x400 && c <= 0x40f ? c + 0x50 : c;
}

/* Known to be no upper case letter, in any version of Unicode: what Elasticsearch compares with
 * its own lower case. Others are encoded. */
static bool
is_no_upper_case(uint32_t c)
{
    return (c >= 0xdf && c <= 0xff) || (c >= 0x3b1 && c <= 0x3c9) ||
           (c >= 0x430 && c <= 0x45f) || (c >= 0x5d0 && c <= 0x109f) ||
           (c >= 0x3041 && c <= 0x9fff) || (c >= 0xac00 && c <= 0xd7a3);
}

static void
put_encoded(struct buf *b, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        buf_printf(b, "%%%02x", (unsigned)(unsigned char)p[i]);
    }
}

static void
put_wide(struct buf *b, const char *p, size_t n)
{
    uint32_t c = lower_of(code_point(p, n));
    if (!is_no_upper_case(c)) {
        put_encoded(b, p, n);
    } else if (n == 2) { /* lower_of stays within two bytes */
        char text[2] = {(char)(0xc0 | c >> 6), (char)(0x80 | (c & 0x3f))};
        buf_put(b, text, sizeof text);
    } else {
        buf_put(b, p, n);
    }
}

/* Appends text fit for the inside of a name. */
static void
put_text(struct buf *b, struct str text)
{
    for (size_t i = 0; i < text.n;) {
        size_t n = utf8_len(text.p + i, text.n - i);
        char c = text.p[i];
        if (n > 1) {
            put_wide(b, text.p + i, n);
        } else if (n == 0 || is_refused((unsigned char)c)) {
            put_encoded(b, &c, 1);
        } else {
            buf_putc(b, c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c);
        }
        i += n == 0 ? 1 : n;
    }
}

/* ---- templates ---- */

#define SCHEMA_HOLE "{schema}"
#define TABLE_HOLE  "{table}"

static bool
begins_with(struct str s, const char *prefix)
{
    return s.n >= strlen(prefix) && memcmp(s.p, prefix, strlen(prefix)) == 0;
}

static struct str
after(struct str s, size_t n)
{
    return (struct str){.p = s.p + n, .n = s.n - n};
}

static size_t
hole_size(struct str s)
{
    return begins_with(s, SCHEMA_HOLE)  ? sizeof SCHEMA_HOLE - 1
           : begins_with(s, TABLE_HOLE) ? sizeof TABLE_HOLE - 1
                                        : 0;
}

int
es_index_check_template(struct str tmpl, struct err *e)
{
    if (tmpl.n == 0 || tmpl.n > ES_INDEX_ALIAS_MAX) {
        return err_set(e, ERR_CONFIG,
            "index: a name of 1 to %d bytes, with {schema} and {table} where the table's are "
            "to "
            "stand",
            ES_INDEX_ALIAS_MAX);
    }
    if (is_refused_first(tmpl.p[0])) {
        return err_set(e, ERR_CONFIG, "index: a name may not begin with '%c'", tmpl.p[0]);
    }
    while (tmpl.n > 0) {
        size_t n = hole_size(tmpl);
        unsigned char c = (unsigned char)tmpl.p[0];
        if (n == 0 && (is_refused(c) || c >= 0x80)) {
            return err_set(e, ERR_CONFIG,
                "index: besides {schema} and {table} only letters, digits and - _ + . of ASCII "
                "are taken: Elasticsearch refuses others in a name");
        }
        tmpl = after(tmpl, n == 0 ? 1 : n);
    }
    return 0;
}

static void
fill(struct buf *b, struct str tmpl, struct str schema, struct str table)
{
    while (tmpl.n > 0) {
        size_t n = hole_size(tmpl);
        if (n > 0) {
            put_text(b, n == sizeof SCHEMA_HOLE - 1 ? schema : table);
        } else {
            put_text(b, (struct str){.p = tmpl.p, .n = 1});
        }
        tmpl = after(tmpl, n == 0 ? 1 : n);
    }
}

/* ---- generations ---- */

/* Where the dash of "...-NNNNNN" stands, if name ends so; else name.n. */
static size_t
generation_dash(struct str name)
{
    size_t at = name.n;
    while (at > 0 && name.p[at - 1] >= '0' && name.p[at - 1] <= '9') {
        at--;
    }
    bool is_one = name.n - at >= GENERATION_DIGITS && at > 0 && name.p[at - 1] == '-';
    return is_one ? at - 1 : name.n;
}

/* What is refused in one place only: at the front, and what another table's generation is
 * called. */
static void
put_finished(struct buf *b, struct str name)
{
    size_t dash = generation_dash(name);
    for (size_t i = 0; i < name.n; i++) {
        if ((i == 0 && is_refused_first(name.p[i])) || i == dash) {
            put_encoded(b, name.p + i, 1);
        } else {
            buf_putc(b, name.p[i]);
        }
    }
}

int
es_index_put_alias(
    struct buf *b, struct str tmpl, struct str schema, struct str table, struct err *e)
{
    struct buf auto_buf name, auto_buf finished;
    buf_init(&name, SIZE_MAX);
    buf_init(&finished, SIZE_MAX);
    fill(&name, tmpl, schema, table);
    put_finished(&finished, buf_str(&name));
    if (finished.n > ES_INDEX_ALIAS_MAX) {
        return err_set(e, ERR_CONFIG,
            "the index of table %.*s.%.*s would have a name of %zu bytes (at most %d): shorten "
            "the option index",
            (int)schema.n, schema.p, (int)table.n, table.p, finished.n, ES_INDEX_ALIAS_MAX);
    }
    buf_put_str(b, buf_str(&finished));
    return 0;
}

void
es_index_put_generation(struct buf *b, struct str alias, uint64_t generation)
{
    buf_put_str(b, alias);
    buf_printf(b, "-%0*llu", GENERATION_DIGITS, (unsigned long long)generation);
}

uint64_t
es_index_generation(struct str alias, struct str index)
{
    uint64_t generation = 0;
    if (index.n <= alias.n || memcmp(index.p, alias.p, alias.n) != 0 ||
        generation_dash(index) != alias.n) {
        return 0;
    }
    struct str digits = after(index, alias.n + 1);
    bool is_padded = digits.n > GENERATION_DIGITS && digits.p[0] == '0';
    return !is_padded && str_u64(digits, UINT64_MAX, &generation) ? generation : 0;
}
