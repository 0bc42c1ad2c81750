/* es_scan: see es_scan.h. */
#include "sinks/elasticsearch/es_scan.h"

bool
es_scan_fail(struct es_scan *sc)
{
    sc->failed = true;
    sc->p = sc->end;
    return false;
}

void
es_scan_blanks(struct es_scan *sc)
{
    while (sc->p < sc->end &&
           (*sc->p == ' ' || *sc->p == '\n' || *sc->p == '\r' || *sc->p == '\t')) {
        sc->p++;
    }
}

bool
es_scan_char(struct es_scan *sc, char c)
{
    es_scan_blanks(sc);
    if (sc->p < sc->end && *sc->p == c) {
        sc->p++;
        return true;
    }
    return false;
}

/* ---- scalars ---- */

/* Bytes of the escape at p; 0: none that JSON knows. */
static size_t
escape_size(const char *p, const char *end)
{
    if (end - p < 2) {
        return 0;
    }
    if (p[1] == 'u') {
        return es_scan_unit(p, (size_t)(end - p)) >= 0 ? 6 : 0;
    }
    return p[1] != '\0' && strchr("\"\\/bfnrt", p[1]) != NULL ? 2 : 0;
}

bool
es_scan_string_here(struct es_scan *sc, struct str *ret_raw)
{
    if (sc->p == sc->end || *sc->p != '"') {
        return es_scan_fail(sc);
    }
    const char *from = ++sc->p;
    while (sc->p < sc->end && *sc->p != '"') {
        size_t n = *sc->p == '\\' ? escape_size(sc->p, sc->end) : 1;
        if (n == 0 || (unsigned char)*sc->p < 0x20) {
            return es_scan_fail(sc);
        }
        sc->p += n;
    }
    if (sc->p == sc->end) {
        return es_scan_fail(sc);
    }
    *ret_raw = (struct str){.p = from, .n = (size_t)(sc->p++ - from)};
    return true;
}

static bool
is_here(struct es_scan *sc, struct str word)
{
    if ((size_t)(sc->end - sc->p) >= word.n && memcmp(sc->p, word.p, word.n) == 0) {
        sc->p += word.n;
        return true;
    }
    return false;
}

static bool
digits(struct es_scan *sc)
{
    const char *from = sc->p;
    while (sc->p < sc->end && *sc->p >= '0' && *sc->p <= '9') {
        sc->p++;
    }
    return sc->p > from;
}

static bool
is_one_of_here(struct es_scan *sc, char a, char b)
{
    if (sc->p < sc->end && (*sc->p == a || *sc->p == b)) {
        sc->p++;
        return true;
    }
    return false;
}

static bool
number(struct es_scan *sc)
{
    (void)is_one_of_here(sc, '-', '-');
    if (!is_one_of_here(sc, '0', '0') && !digits(sc)) {
        return es_scan_fail(sc);
    }
    if (is_one_of_here(sc, '.', '.') && !digits(sc)) {
        return es_scan_fail(sc);
    }
    if (is_one_of_here(sc, 'e', 'E')) {
        (void)is_one_of_here(sc, '+', '-');
        return digits(sc) || es_scan_fail(sc);
    }
    return true;
}

bool
es_scan_scalar_here(struct es_scan *sc)
{
    return is_here(sc, STR("true")) || is_here(sc, STR("false")) || is_here(sc, STR("null")) ||
           number(sc);
}

/* ---- values ---- */

/* Which brackets are open: a bit each, set for an object. */
struct nest {
    uint8_t bits[ES_SCAN_DEPTH_MAX / 8];
    size_t depth;
};

static bool
push(struct es_scan *sc, struct nest *nest, bool is_object)
{
    if (nest->depth == ES_SCAN_DEPTH_MAX) {
        return es_scan_fail(sc);
    }
    uint8_t bit = (uint8_t)(1u << (nest->depth & 7)), *byte = &nest->bits[nest->depth / 8];
    *byte = (uint8_t)(is_object ? *byte | bit : *byte & ~bit);
    nest->depth++;
    return true;
}

static bool
is_in_object(const struct nest *nest)
{
    return (nest->bits[(nest->depth - 1) / 8] >> ((nest->depth - 1) & 7) & 1) != 0;
}

static bool
key_here(struct es_scan *sc, struct str *ret_key)
{
    es_scan_blanks(sc);
    return es_scan_string_here(sc, ret_key) && (es_scan_char(sc, ':') || es_scan_fail(sc));
}

/* Passes what begins a value: all of a scalar, an empty pair of brackets, or an opening one and
 * the key behind it (*is_open). */
static bool
begin_value(struct es_scan *sc, struct nest *nest, bool *is_open)
{
    struct str ignored;
    *is_open = false;
    if (es_scan_char(sc, '{')) {
        if (es_scan_char(sc, '}')) {
            return true;
        }
        *is_open = true;
        return push(sc, nest, true) && key_here(sc, &ignored);
    }
    if (es_scan_char(sc, '[')) {
        if (es_scan_char(sc, ']')) {
            return true;
        }
        *is_open = true;
        return push(sc, nest, false);
    }
    return sc->p < sc->end && *sc->p == '"' ? es_scan_string_here(sc, &ignored)
                                            : es_scan_scalar_here(sc);
}

/* Passes closing brackets and a comma (and the key behind it) after a value, up to where the
 * next one begins or nothing is open any more. */
static bool
end_value(struct es_scan *sc, struct nest *nest)
{
    struct str ignored;
    while (nest->depth > 0) {
        bool is_object = is_in_object(nest);
        if (es_scan_char(sc, ',')) {
            return !is_object || key_here(sc, &ignored);
        }
        if (!es_scan_char(sc, is_object ? '}' : ']')) {
            return es_scan_fail(sc);
        }
        nest->depth--;
    }
    return true;
}

bool
es_scan_value(struct es_scan *sc, struct str *ret_raw)
{
    struct nest nest;
    nest.depth = 0;
    es_scan_blanks(sc);
    const char *from = sc->p;
    if (sc->failed || sc->p == sc->end) {
        return es_scan_fail(sc);
    }
    do {
        bool is_open;
        if (!begin_value(sc, &nest, &is_open) || (!is_open && !end_value(sc, &nest))) {
            return false;
        }
    } while (nest.depth > 0);
    *ret_raw = (struct str){.p = from, .n = (size_t)(sc->p - from)};
    return true;
}

void
es_scan_skip(struct es_scan *sc)
{
    struct str ignored;
    (void)es_scan_value(sc, &ignored);
}

static bool
enter(struct es_scan *sc, char bracket)
{
    if (!sc->failed && es_scan_char(sc, bracket)) {
        return true;
    }
    es_scan_skip(sc);
    return false;
}

bool
es_scan_object(struct es_scan *sc)
{
    return enter(sc, '{');
}

bool
es_scan_array(struct es_scan *sc)
{
    return enter(sc, '[');
}

/* Comes to the next one of a list, or passes its end. */
static bool
next(struct es_scan *sc, bool *is_first, char end)
{
    if (sc->failed || es_scan_char(sc, end)) {
        return false;
    }
    if (!*is_first && !es_scan_char(sc, ',')) {
        return es_scan_fail(sc);
    }
    *is_first = false;
    return true;
}

bool
es_scan_member(struct es_scan *sc, bool *is_first, struct str *ret_key)
{
    return next(sc, is_first, '}') && key_here(sc, ret_key);
}

bool
es_scan_element(struct es_scan *sc, bool *is_first)
{
    return next(sc, is_first, ']');
}

bool
es_scan_string(struct es_scan *sc, struct str *ret_raw)
{
    struct str raw;
    if (!es_scan_value(sc, &raw) || raw.p[0] != '"') {
        return false;
    }
    *ret_raw = (struct str){.p = raw.p + 1, .n = raw.n - 2};
    return true;
}

bool
es_scan_u64(struct es_scan *sc, uint64_t *ret)
{
    struct str raw;
    return es_scan_value(sc, &raw) && str_u64(raw, UINT64_MAX, ret);
}

bool
es_scan_bool(struct es_scan *sc, bool *ret)
{
    struct str raw;
    if (!es_scan_value(sc, &raw) || (raw.p[0] != 't' && raw.p[0] != 'f')) {
        return false;
    }
    *ret = raw.p[0] == 't';
    return true;
}

bool
es_scan_end(struct es_scan *sc)
{
    es_scan_blanks(sc);
    return !sc->failed && sc->p == sc->end;
}

/* ---- escapes ---- */

long
es_scan_unit(const char *p, size_t n)
{
    long unit = 0;
    if (n < 6 || p[0] != '\\' || p[1] != 'u') {
        return -1;
    }
    for (int i = 2; i < 6; i++) {
        int digit = str_hex_digit(p[i]);
        if (digit < 0) {
            return -1;
        }
        unit = unit << 4 | digit;
    }
    return unit;
}

static void
put_utf8(struct buf *b, unsigned long c)
{
    char text[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n - 1; i > 0; i--) {
        text[i] = (char)(0x80 | (c & 0x3f));
        c >>= 6;
    }
    text[0] = (char)(lead[n] | c);
    buf_put(b, text, n);
}

/* Appends the \uXXXX at p, with its other half; returns the bytes read. */
static size_t
put_unit(struct buf *b, const char *p, size_t n)
{
    long unit = es_scan_unit(p, n), low = n > 6 ? es_scan_unit(p + 6, n - 6) : -1;
    if (unit >= 0xd800 && unit <= 0xdbff && low >= 0xdc00 && low <= 0xdfff) {
        put_utf8(b,
            0x10000 + ((unsigned long)(unit - 0xd800) << 10) + (unsigned long)(low - 0xdc00));
        return 12;
    }
    put_utf8(b, unit >= 0xd800 && unit <= 0xdfff ? 0xfffd : (unsigned long)unit);
    return 6;
}

static char
simple_escape(char c)
{
    switch (c) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return c;
    }
}

void
es_scan_put_unescaped(struct buf *b, struct str raw)
{
    while (raw.n > 0) {
        const char *slash = memchr(raw.p, '\\', raw.n);
        size_t n = slash == NULL ? raw.n : (size_t)(slash - raw.p);
        buf_put(b, raw.p, n);
        raw.p += n;
        raw.n -= n;
        if (raw.n == 0) {
            return;
        }
        if (es_scan_unit(raw.p, raw.n) >= 0) {
            n = put_unit(b, raw.p, raw.n);
        } else {
            n = raw.n > 1 ? 2 : 1;
            buf_putc(b, simple_escape(raw.p[n - 1]));
        }
        raw.p += n;
        raw.n -= n;
    }
}
