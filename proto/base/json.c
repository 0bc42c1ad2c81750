/* json: owns JSON text. Writing: one escaping function that reserves room once per string and
 * copies 16 bytes at a time, and a document writer over it. Reading: trees of jansson, for the
 * control plane. Promises that what it writes is valid JSON on one line whenever its input was
 * UTF-8. Must not know records. */
#include "proto/base/json.h"

#include <math.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <jansson.h>
/* Macros of jansson that are functions of ours. */
#undef json_is_null
#undef json_is_object
#undef json_is_array

#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/base/utf8.h"

/* ---- strings ---- */

/* 0: as it is; 'u': \u00XX; else the letter behind the backslash. */
static const char escapes[256] = {
    [0x00] = 'u',
    [0x01] = 'u',
    [0x02] = 'u',
    [0x03] = 'u',
    [0x04] = 'u',
    [0x05] = 'u',
    [0x06] = 'u',
    [0x07] = 'u',
    [0x08] = 'b',
    [0x09] = 't',
    [0x0a] = 'n',
    [0x0b] = 'u',
    [0x0c] = 'f',
    [0x0d] = 'r',
    [0x0e] = 'u',
    [0x0f] = 'u',
    [0x10] = 'u',
    [0x11] = 'u',
    [0x12] = 'u',
    [0x13] = 'u',
    [0x14] = 'u',
    [0x15] = 'u',
    [0x16] = 'u',
    [0x17] = 'u',
    [0x18] = 'u',
    [0x19] = 'u',
    [0x1a] = 'u',
    [0x1b] = 'u',
    [0x1c] = 'u',
    [0x1d] = 'u',
    [0x1e] = 'u',
    [0x1f] = 'u',
    ['"'] = '"',
    ['\\'] = '\\',
    [0x7f] = 'u',
};

enum { ESCAPED_MAX = 6 }; /* bytes of output per byte of input */

static inline char *
put_escaped(char *to, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    char how = escapes[c];
    if (how == 0) {
        *to++ = (char)c;
        return to;
    }
    *to++ = '\\';
    *to++ = how;
    if (how == 'u') {
        *to++ = '0';
        *to++ = '0';
        *to++ = hex[c >> 4];
        *to++ = hex[c & 15];
    }
    return to;
}

/* Not 0 when some byte of x is to be escaped (exact as a yes or no; which byte it is, it does
 * not say). */
static inline uint64_t
swar_special(uint64_t x)
{
    const uint64_t ones = 0x0101010101010101, tops = 0x8080808080808080;
    uint64_t quote = x ^ (ones * '"'), slash = x ^ (ones * '\\'), del = x ^ (ones * 0x7f);
    return (((x - ones * 0x20) & ~x) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash) |
               ((del - ones) & ~del)) &
           tops;
}

static inline char *
escape_bytes(char *to, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to = put_escaped(to, (unsigned char)p[i]);
    }
    return to;
}

/* The last n < 16 bytes: whole when clean, by two loads that may overlap, else byte by byte. */
static inline char *
escape_tail(char *to, const char *p, size_t n)
{
    if (n >= 8) {
        uint64_t head = get_le64(p), tail = get_le64(p + n - 8);
        if ((swar_special(head) | swar_special(tail)) == 0) {
            put_le64(to, head);
            put_le64(to + n - 8, tail);
            return to + n;
        }
    } else if (n >= 4) {
        uint32_t head = get_le32(p), tail = get_le32(p + n - 4);
        if (swar_special((uint64_t)head << 32 | tail) == 0) {
            put_le32(to, head);
            put_le32(to + n - 4, tail);
            return to + n;
        }
    }
    return escape_bytes(to, p, n);
}

#ifdef __SSE2__
/* One bit per byte that is to be escaped. */
static inline unsigned
special_mask(__m128i v)
{
    __m128i low = _mm_cmpeq_epi8(_mm_max_epu8(v, _mm_set1_epi8(0x1f)), _mm_set1_epi8(0x1f));
    __m128i quote = _mm_cmpeq_epi8(v, _mm_set1_epi8('"'));
    __m128i slash = _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'));
    __m128i del = _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f));
    return (unsigned)_mm_movemask_epi8(
        _mm_or_si128(_mm_or_si128(low, quote), _mm_or_si128(slash, del)));
}
#endif

/* Escapes s into to, which has room for the result. Each step stores as many bytes as it has
 * read, before it knows whether they count: never more than are still to come. */
static inline char *
escape(char *to, const char *p, size_t n)
{
#ifdef __SSE2__
    while (n >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        _mm_storeu_si128((__m128i *)(void *)to, v);
        unsigned mask = special_mask(v);
        size_t clean = mask == 0 ? 16 : (size_t)__builtin_ctz(mask);
        p += clean;
        to += clean;
        n -= clean;
        if (mask != 0) {
            to = put_escaped(to, (unsigned char)*p++);
            n--;
        }
    }
#else
    while (n >= 16) {
        to = escape_tail(to, p, 8);
        p += 8;
        n -= 8;
    }
#endif
    return escape_tail(to, p, n);
}

static size_t
escaped_size(struct str s)
{
    size_t n = s.n;
    for (size_t i = 0; i < s.n; i++) {
        char how = escapes[(unsigned char)s.p[i]];
        n += how == 0 ? 0 : how == 'u' ? ESCAPED_MAX - 1 : 1;
    }
    return n;
}

void
json_put_string(struct buf *b, struct str s)
{
    /* Where the worst case does not fit at once, the exact size is counted: the limit stays
     * exact, and a large value takes no six-fold memory. */
    size_t spare = b->cap - b->n;
    bool is_roomy = !b->failed && s.n < spare / ESCAPED_MAX && s.n * ESCAPED_MAX + 2 < spare;
    char *to = is_roomy ? b->p + b->n : buf_room(b, escaped_size(s) + 2);
    if (to == NULL) {
        return;
    }
    *to++ = '"';
    to = escape(to, s.p, s.n);
    *to++ = '"';
    b->n = (size_t)(to - b->p);
}

void
json_put_base64(struct buf *b, struct str bytes)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = (const unsigned char *)bytes.p;
    size_t n = bytes.n;
    char *to = n > SIZE_MAX / 2 ? NULL : buf_room(b, (n + 2) / 3 * 4 + 2);
    if (to == NULL) {
        b->failed = true;
        return;
    }
    *to++ = '"';
    for (; n >= 3; p += 3, n -= 3) {
        *to++ = digits[p[0] >> 2];
        *to++ = digits[(p[0] & 3) << 4 | p[1] >> 4];
        *to++ = digits[(p[1] & 15) << 2 | p[2] >> 6];
        *to++ = digits[p[2] & 63];
    }
    if (n > 0) {
        unsigned second = n == 2 ? p[1] : 0;
        *to++ = digits[p[0] >> 2];
        *to++ = digits[(p[0] & 3u) << 4 | second >> 4];
        *to++ = n == 2 ? digits[(second & 15) << 2] : '=';
        *to++ = '=';
    }
    *to++ = '"';
    b->n = (size_t)(to - b->p);
}

void
json_put_base64_object(struct buf *b, struct str bytes)
{
    buf_put_str(b, STR("{\"base64\":"));
    json_put_base64(b, bytes);
    buf_putc(b, '}');
}

bool
json_is_utf8(struct str s)
{
    size_t i = 0;
    while (i < s.n) {
        if (s.n - i >= 8 && (get_le64(s.p + i) & 0x8080808080808080) == 0) {
            i += 8;
            continue;
        }
        size_t len = utf8_len(s.p + i, s.n - i);
        if (len == 0) {
            return false;
        }
        i += len;
    }
    return true;
}

/* ---- numbers ---- */

static const char digit_pairs[201] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
    "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
    "8081828384858687888990919293949596979899";

enum { U64_DIGITS = 20 };

void
json_put_u64(struct buf *b, uint64_t v)
{
    char text[U64_DIGITS], *p = text + U64_DIGITS;
    while (v >= 100) {
        p -= 2;
        memcpy(p, digit_pairs + v % 100 * 2, 2);
        v /= 100;
    }
    if (v >= 10) {
        p -= 2;
        memcpy(p, digit_pairs + v * 2, 2);
    } else {
        *--p = (char)('0' + v);
    }
    buf_put(b, p, (size_t)(text + U64_DIGITS - p));
}

void
json_put_i64(struct buf *b, int64_t v)
{
    if (v < 0) {
        buf_putc(b, '-');
    }
    json_put_u64(b, v < 0 ? -(uint64_t)v : (uint64_t)v);
}

/* ---- minifying ---- */

/* Copies the inside of a string, its closing quote included; p is behind the opening one.
 * Stores as escape() does. */
static inline char *
copy_string(char *to, const char **pp, const char *end)
{
    const char *p = *pp;
#ifdef __SSE2__
    while (end - p >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        _mm_storeu_si128((__m128i *)(void *)to, v);
        unsigned mask = (unsigned)_mm_movemask_epi8(_mm_or_si128(
            _mm_cmpeq_epi8(v, _mm_set1_epi8('"')), _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'))));
        if (mask != 0) {
            p += __builtin_ctz(mask);
            to += __builtin_ctz(mask);
            break;
        }
        p += 16;
        to += 16;
    }
#endif
    while (p < end) {
        char c = *p++;
        *to++ = c;
        if (c == '"') {
            break;
        }
        if (c == '\\' && p < end) {
            *to++ = *p++;
        }
    }
    *pp = p;
    return to;
}

/* to has room for s.n bytes. */
static char *
minify(char *to, struct str s)
{
    const char *p = s.p, *end = s.n == 0 ? p : p + s.n;
    while (p < end) {
        char c = *p++;
        *to = c;
        to += !(c == ' ' || c == '\n' || c == '\r' || c == '\t');
        if (c == '"') {
            to = copy_string(to, &p, end);
        }
    }
    return to;
}

void
json_put_minified(struct buf *b, struct str json_text)
{
    if (json_text.n > b->max - b->n && !b->failed) { /* fits, perhaps, when minified */
        struct buf auto_buf scratch;
        buf_init(&scratch, SIZE_MAX);
        char *from = buf_room(&scratch, json_text.n);
        CHECK(from != NULL);
        buf_put(b, from, (size_t)(minify(from, json_text) - from));
        return;
    }
    char *to = buf_room(b, json_text.n);
    if (to != NULL) {
        b->n = (size_t)(minify(to, json_text) - b->p);
    }
}

/* ---- documents ---- */

void
jsonw_init(struct jsonw *w, struct buf *b)
{
    *w = (struct jsonw){.b = b};
}

/* The comma and the key in front of a value. */
static void
begin_value(struct jsonw *w, const char *key)
{
    if (w->need_comma) {
        buf_putc(w->b, ',');
    }
    w->need_comma = true;
    if (key != NULL) {
        json_put_string(w->b, str_from(key));
        buf_putc(w->b, ':');
    }
}

static void
begin_nested(struct jsonw *w, const char *key, char open)
{
    begin_value(w, key);
    buf_putc(w->b, open);
    w->need_comma = false;
}

static void
end_nested(struct jsonw *w, char close)
{
    buf_putc(w->b, close);
    w->need_comma = true;
}

void
jsonw_object(struct jsonw *w, const char *key)
{
    begin_nested(w, key, '{');
}

void
jsonw_end_object(struct jsonw *w)
{
    end_nested(w, '}');
}

void
jsonw_array(struct jsonw *w, const char *key)
{
    begin_nested(w, key, '[');
}

void
jsonw_end_array(struct jsonw *w)
{
    end_nested(w, ']');
}

/* Every byte that is no part of a valid sequence becomes U+FFFD. */
static void
put_repaired(struct buf *b, struct str s)
{
    struct buf auto_buf repaired;
    buf_init(&repaired, SIZE_MAX);
    for (size_t i = 0; i < s.n;) {
        size_t len = utf8_len(s.p + i, s.n - i);
        if (len == 0) {
            buf_put_str(&repaired, STR("\xef\xbf\xbd"));
            i++;
        } else {
            buf_put(&repaired, s.p + i, len);
            i += len;
        }
    }
    json_put_string(b, buf_str(&repaired));
}

void
jsonw_str(struct jsonw *w, const char *key, struct str v)
{
    begin_value(w, key);
    if (json_is_utf8(v)) {
        json_put_string(w->b, v);
    } else {
        put_repaired(w->b, v);
    }
}

void
jsonw_cstr(struct jsonw *w, const char *key, const char *v)
{
    if (v == NULL) {
        jsonw_null(w, key);
    } else {
        jsonw_str(w, key, str_from(v));
    }
}

void
jsonw_u64(struct jsonw *w, const char *key, uint64_t v)
{
    begin_value(w, key);
    json_put_u64(w->b, v);
}

void
jsonw_i64(struct jsonw *w, const char *key, int64_t v)
{
    begin_value(w, key);
    json_put_i64(w->b, v);
}

void
jsonw_double(struct jsonw *w, const char *key, double v, int decimals)
{
    if (!isfinite(v)) {
        jsonw_null(w, key);
        return;
    }
    begin_value(w, key);
    buf_printf(w->b, "%.*f", decimals, v);
}

void
jsonw_bool(struct jsonw *w, const char *key, bool v)
{
    begin_value(w, key);
    buf_puts(w->b, v ? "true" : "false");
}

void
jsonw_null(struct jsonw *w, const char *key)
{
    begin_value(w, key);
    buf_put_str(w->b, STR("null"));
}

void
jsonw_raw(struct jsonw *w, const char *key, struct str json)
{
    begin_value(w, key);
    buf_put_str(w->b, json);
}

/* ---- reading: a struct json is a json_t under another name ---- */

static const json_t *
node(const struct json *j)
{
    return (const json_t *)(const void *)j;
}

static const struct json *
wrapped(const json_t *t)
{
    return (const struct json *)(const void *)t;
}

int
json_parse(struct str text, struct json **ret_root, struct err *e)
{
    json_error_t why;
    if (text.n > JSON_TEXT_MAX) {
        return err_set(
            e, ERR_TOOBIG, "JSON of %zu bytes: at most %d are read", text.n, JSON_TEXT_MAX);
    }
    if (text.n > 0 &&
        memchr(text.p, 0, text.n) != NULL) { /* jansson 2.14 reads over it: [1<NUL>] passes */
        return err_set(e, ERR_PARSE, "not valid JSON: it holds a NUL byte");
    }
    json_t *root = json_loadb(
        text.n == 0 ? "" : text.p, text.n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (root == NULL) {
        /* why.text quotes the input near the error: the position is enough */
        return err_set(
            e, ERR_PARSE, "not valid JSON: line %d, column %d", why.line, why.column);
    }
    *ret_root = (struct json *)(void *)root;
    return 0;
}

void
json_free(struct json *root)
{
    json_decref((json_t *)(void *)root);
}

const struct json *
json_get(const struct json *j, const char *key)
{
    return wrapped(json_object_get(node(j), key));
}

const struct json *
json_at(const struct json *j, size_t i)
{
    return wrapped(json_array_get(node(j), i));
}

size_t
json_size(const struct json *j)
{
    return json_is_array(j) ? json_array_size(node(j)) : json_object_size(node(j));
}

const struct json *
json_member(const struct json *j, size_t i, const char **ret_key)
{
    json_t *object = (json_t *)(uintptr_t)node(j);
    void *at = json_object_iter(object);
    for (; at != NULL && i > 0; i--) {
        at = json_object_iter_next(object, at);
    }
    if (at == NULL) {
        return NULL;
    }
    *ret_key = json_object_iter_key(at);
    return wrapped(json_object_iter_value(at));
}

bool
json_is_null(const struct json *j)
{
    return j == NULL || json_typeof(node(j)) == JSON_NULL;
}

bool
json_is_object(const struct json *j)
{
    return j != NULL && json_typeof(node(j)) == JSON_OBJECT;
}

bool
json_is_array(const struct json *j)
{
    return j != NULL && json_typeof(node(j)) == JSON_ARRAY;
}

bool
json_str(const struct json *j, struct str *ret)
{
    if (j == NULL || !json_is_string(node(j))) {
        return false;
    }
    *ret = (struct str){.p = json_string_value(node(j)), .n = json_string_length(node(j))};
    return true;
}

bool
json_i64(const struct json *j, int64_t *ret)
{
    if (j == NULL || !json_is_integer(node(j))) {
        return false;
    }
    *ret = json_integer_value(node(j));
    return true;
}

bool
json_num(const struct json *j, double *ret)
{
    if (j == NULL || !json_is_number(node(j))) {
        return false;
    }
    *ret = json_number_value(node(j));
    return true;
}

bool
json_bool(const struct json *j, bool *ret)
{
    if (j == NULL || !json_is_boolean(node(j))) {
        return false;
    }
    *ret = json_is_true(node(j));
    return true;
}
