/* mp: owns msgpack. Writing instantiates msgpack-c's packing templates over a cursor into
 * reserved room, so that a value costs one bounds check; reading is a cursor of our own.
 * Promises: no read ever looks outside its input, and after the first failure nothing but empty
 * values comes. Extension types and 0xc1 are refused: we write none. Must not know what the
 * values mean. */
#include "proto/base/mp.h"

#include <msgpack/pack_define.h>
#include <msgpack/timestamp.h>

#include "proto/base/bytes.h"

/* ---- writing ---- */

/* static inline void pack_str(char **to, size_t l), pack_uint64, pack_nil, ...: the template's
 * own names. */
#define msgpack_pack_inline_func(name)          static inline void pack##name
#define msgpack_pack_user                       char **
#define msgpack_pack_append_buffer(to, from, n) (memcpy(*(to), (from), (n)), *(to) += (n))
#include <msgpack/pack_template.h>

enum { MP_HEAD_MAX = 9 }; /* the longest head, or scalar */

/* Is there certainly room for any head and n bytes behind it? Then a value is packed in place;
 * else into a local head, put as a whole. */
static inline bool
is_roomy(const struct buf *b, size_t n)
{
    size_t spare = b->cap - b->n;
    return spare > MP_HEAD_MAX && n < spare - MP_HEAD_MAX && !b->failed;
}

#define PUT_HEAD(b, pack, ...)                                                                 \
    do {                                                                                       \
        if (is_roomy((b), 0)) {                                                                \
            char *to = (b)->p + (b)->n;                                                        \
            pack(__VA_ARGS__);                                                                 \
            (b)->n = (size_t)(to - (b)->p);                                                    \
        } else {                                                                               \
            char small[MP_HEAD_MAX], *to = small;                                              \
            pack(__VA_ARGS__);                                                                 \
            buf_put((b), small, (size_t)(to - small));                                         \
        }                                                                                      \
    } while (0)

void
mp_put_array(struct buf *b, uint32_t n)
{
    PUT_HEAD(b, pack_array, &to, n);
}

void
mp_put_map(struct buf *b, uint32_t n)
{
    PUT_HEAD(b, pack_map, &to, n);
}

void
mp_put_u64(struct buf *b, uint64_t v)
{
    PUT_HEAD(b, pack_uint64, &to, v);
}

void
mp_put_i64(struct buf *b, int64_t v)
{
    PUT_HEAD(b, pack_int64, &to, v);
}

void
mp_put_double(struct buf *b, double v)
{
    PUT_HEAD(b, pack_double, &to, v);
}

void
mp_put_bool(struct buf *b, bool v)
{
    if (v) {
        PUT_HEAD(b, pack_true, &to);
    } else {
        PUT_HEAD(b, pack_false, &to);
    }
}

void
mp_put_nil(struct buf *b)
{
    PUT_HEAD(b, pack_nil, &to);
}

/* Head and body, both or none. */
static __attribute__((noinline)) void
put_text_tight(struct buf *b, struct str s, bool is_bin)
{
    char small[MP_HEAD_MAX], *end = small;
    if (s.n > UINT32_MAX) { /* the format ends there */
        b->failed = true;
        return;
    }
    if (is_bin) {
        pack_bin(&end, s.n);
    } else {
        pack_str(&end, s.n);
    }
    size_t head = (size_t)(end - small);
    if (buf_room(b, head + s.n) != NULL) {
        buf_put(b, small, head);
        buf_put(b, s.p, s.n);
    }
}

static inline char *
copy_body(char *to, struct str s)
{
    if (s.n > 0) {
        memcpy(to, s.p, s.n);
    }
    return to + s.n;
}

void
mp_put_str(struct buf *b, struct str s)
{
    if (!is_roomy(b, s.n) || s.n > UINT32_MAX) {
        put_text_tight(b, s, false);
        return;
    }
    char *to = b->p + b->n;
    pack_str(&to, s.n);
    b->n = (size_t)(copy_body(to, s) - b->p);
}

void
mp_put_cstr(struct buf *b, const char *s)
{
    if (s == NULL) {
        mp_put_nil(b);
    } else {
        mp_put_str(b, str_from(s));
    }
}

void
mp_put_bin(struct buf *b, struct str s)
{
    if (!is_roomy(b, s.n) || s.n > UINT32_MAX) {
        put_text_tight(b, s, true);
        return;
    }
    char *to = b->p + b->n;
    pack_bin(&to, s.n);
    b->n = (size_t)(copy_body(to, s) - b->p);
}

/* ---- reading ---- */

/* First bytes. */
enum {
    NIL = 0xc0,
    FALSE = 0xc2,
    TRUE = 0xc3,
    BIN8 = 0xc4,
    BIN32 = 0xc6,
    FLOAT32 = 0xca,
    FLOAT64 = 0xcb,
    UINT8 = 0xcc,
    UINT64 = 0xcf,
    INT8 = 0xd0,
    INT64 = 0xd3,
    STR8 = 0xd9,
    STR32 = 0xdb,
    ARRAY16 = 0xdc,
    ARRAY32 = 0xdd,
    MAP16 = 0xde,
    MAP32 = 0xdf
};

enum { MP_NESTING_MAX = 32, NO_FIX = 0x100 };

void
mp_init(struct mp *m, struct str bytes)
{
    *m =
        (struct mp){.p = (const unsigned char *)bytes.p, .end = (const unsigned char *)bytes.p};
    if (bytes.n > 0) {
        m->end += bytes.n;
    }
}

static inline size_t
left(const struct mp *m)
{
    return (size_t)(m->end - m->p);
}

static enum mp_type
type_of_marked(const struct mp *m)
{
    unsigned c = m->p[0];
    if (c >= UINT8 && c <= UINT64) {
        return MP_UINT;
    }
    if (c >= INT8 && c <= INT64) { /* signed, but other packers write positive ones so too */
        return left(m) > 1 && m->p[1] < 0x80 ? MP_UINT : MP_INT;
    }
    if (c >= STR8 && c <= STR32) {
        return MP_STR;
    }
    if (c >= BIN8 && c <= BIN32) {
        return MP_BIN;
    }
    switch (c) {
    case NIL:
        return MP_NIL;
    case FALSE:
    case TRUE:
        return MP_BOOL;
    case FLOAT32:
    case FLOAT64:
        return MP_DOUBLE;
    case ARRAY16:
    case ARRAY32:
        return MP_ARRAY;
    case MAP16:
    case MAP32:
        return MP_MAP;
    default:
        return MP_BAD; /* 0xc1 and extensions */
    }
}

enum mp_type
mp_peek(const struct mp *m)
{
    if (m->failed) {
        return MP_BAD;
    }
    if (m->p == m->end) {
        return MP_END;
    }
    unsigned c = m->p[0];
    if (c < 0x80) {
        return MP_UINT;
    }
    if (c < 0x90) {
        return MP_MAP;
    }
    if (c < 0xa0) {
        return MP_ARRAY;
    }
    if (c < 0xc0) {
        return MP_STR;
    }
    return c >= 0xe0 ? MP_INT : type_of_marked(m);
}

/* Reads a big-endian number of width (1, 2, 4, 8) bytes behind the first byte and steps over
 * both. */
static bool
take_number(struct mp *m, size_t width, uint64_t *ret)
{
    if (width >= left(m)) {
        m->failed = true;
        return false;
    }
    const unsigned char *at = m->p + 1;
    m->p = at + width;
    *ret = width == 1   ? at[0]
           : width == 2 ? get_be16(at)
           : width == 4 ? get_be32(at)
                        : get_be64(at);
    return true;
}

/* The count or length of a value whose heads are `fix` (with its bits in fix_mask) or first,
 * first + 1, ... with widths from `width` on, doubling. False, nothing consumed, when the value
 * is another. */
static inline bool
take_count(
    struct mp *m, unsigned fix, unsigned fix_mask, unsigned first, size_t width, uint64_t *ret)
{
    unsigned c = m->p[0];
    if ((c & ~fix_mask) == fix) {
        m->p++;
        *ret = c & fix_mask;
        return true;
    }
    while (width <= 4) {
        if (c == first) {
            return take_number(m, width, ret);
        }
        first++;
        width *= 2;
    }
    return false;
}

static inline bool
has_more(struct mp *m)
{
    if (m->failed || m->p == m->end) {
        m->failed = true;
        return false;
    }
    return true;
}

uint32_t
mp_array(struct mp *m)
{
    uint64_t n;
    if (!has_more(m) || !take_count(m, 0x90, 0x0f, ARRAY16, 2, &n) || n > left(m)) {
        m->failed = true;
        return 0;
    }
    return (uint32_t)n;
}

uint32_t
mp_map(struct mp *m)
{
    uint64_t n;
    if (!has_more(m) || !take_count(m, 0x80, 0x0f, MAP16, 2, &n) || n > left(m) / 2) {
        m->failed = true;
        return 0;
    }
    return (uint32_t)n;
}

/* An integer: its 64 bits, and whether they are a negative number's. */
static bool
take_int(struct mp *m, uint64_t *ret_bits, bool *ret_is_negative)
{
    if (!has_more(m)) {
        return false;
    }
    unsigned c = m->p[0];
    if (c < 0x80 || c >= 0xe0) {
        m->p++;
        *ret_is_negative = c >= 0xe0;
        *ret_bits = (uint64_t)(int8_t)c;
        return true;
    }
    uint64_t v;
    if (c >= UINT8 && c <= UINT64) {
        *ret_is_negative = false;
        return take_number(m, (size_t)1 << (c - UINT8), ret_bits);
    }
    if (c < INT8 || c > INT64 || !take_number(m, (size_t)1 << (c - INT8), &v)) {
        m->failed = true;
        return false;
    }
    int64_t wide = c == INT8       ? (int8_t)v
                   : c == INT8 + 1 ? (int16_t)v
                   : c == INT8 + 2 ? (int32_t)v
                                   : (int64_t)v;
    *ret_is_negative = wide < 0;
    *ret_bits = (uint64_t)wide;
    return true;
}

uint64_t
mp_u64(struct mp *m)
{
    uint64_t bits;
    bool is_negative;
    if (!take_int(m, &bits, &is_negative) || is_negative) {
        m->failed = true;
        return 0;
    }
    return bits;
}

int64_t
mp_i64(struct mp *m)
{
    uint64_t bits;
    bool is_negative;
    if (!take_int(m, &bits, &is_negative) || (!is_negative && bits > INT64_MAX)) {
        m->failed = true;
        return 0;
    }
    return (int64_t)bits;
}

double
mp_double(struct mp *m)
{
    uint64_t bits;
    bool is_negative;
    if (has_more(m) && (m->p[0] == FLOAT32 || m->p[0] == FLOAT64)) {
        bool is_wide = m->p[0] == FLOAT64;
        if (!take_number(m, is_wide ? 8 : 4, &bits)) {
            return 0;
        }
        double v;
        float narrow;
        uint32_t narrow_bits = (uint32_t)bits;
        memcpy(&v, &bits, sizeof v);
        memcpy(&narrow, &narrow_bits, sizeof narrow);
        return is_wide ? v : (double)narrow;
    }
    if (!take_int(m, &bits, &is_negative)) {
        return 0;
    }
    return is_negative ? (double)(int64_t)bits : (double)bits;
}

bool
mp_bool(struct mp *m)
{
    if (!has_more(m) || (m->p[0] != TRUE && m->p[0] != FALSE)) {
        m->failed = true;
        return false;
    }
    return *m->p++ == TRUE;
}

bool
mp_nil(struct mp *m)
{
    if (m->failed || m->p == m->end || m->p[0] != NIL) {
        return false;
    }
    m->p++;
    return true;
}

struct str
mp_str(struct mp *m)
{
    uint64_t n;
    if (!has_more(m) || (!take_count(m, 0xa0, 0x1f, STR8, 1, &n) &&
                            (m->failed || !take_count(m, NO_FIX, 0, BIN8, 1, &n)))) {
        m->failed = true;
        return STR("");
    }
    if (n > left(m)) {
        m->failed = true;
        return STR("");
    }
    struct str s = {.p = (const char *)m->p, .n = (size_t)n};
    m->p += n;
    return s;
}

static void
skip_nested(struct mp *m, int depth)
{
    uint64_t members = 0;
    switch (mp_peek(m)) {
    case MP_NIL:
        (void)mp_nil(m);
        return;
    case MP_BOOL:
        (void)mp_bool(m);
        return;
    case MP_UINT:
    case MP_INT:
    case MP_DOUBLE:
        (void)mp_double(m);
        return;
    case MP_STR:
    case MP_BIN:
        (void)mp_str(m);
        return;
    case MP_ARRAY:
        members = mp_array(m);
        break;
    case MP_MAP:
        members = (uint64_t)mp_map(m) * 2;
        break;
    case MP_END:
    case MP_BAD:
        m->failed = true;
        return;
    }
    if (depth == MP_NESTING_MAX) {
        m->failed = true;
        return;
    }
    for (; members > 0 && !m->failed; members--) {
        skip_nested(m, depth + 1);
    }
}

void
mp_skip(struct mp *m)
{
    skip_nested(m, 1);
}

bool
mp_done(const struct mp *m)
{
    return !m->failed && m->p == m->end;
}
