/* msgpack: round trips, the bytes of the specification, truncation at every length, hostile
 * counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base/mp.h"

/* The sanitizer sees any access beyond n. */
static char *
exact_copy(const char *from, size_t n)
{
    char *copy = malloc(n == 0 ? 1 : n);
    memcpy(copy, from, n);
    return copy;
}

static void
test_unsigned_at_every_width(void **state)
{
    (void)state;
    struct buf auto_buf b;
    buf_init(&b, 9);
    uint64_t v = 0;
    for (int bit = -1; bit < 64; bit++) {
        for (int64_t d = -1; d <= 1; d++) {
            v = (bit < 0 ? 0 : (uint64_t)1 << bit) + (uint64_t)d;
            size_t want = v < 0x80          ? 1
                          : v < 0x100       ? 2
                          : v < 0x10000     ? 3
                          : v <= UINT32_MAX ? 5
                                            : 9;
            struct mp m;
            buf_reset(&b, SIZE_MAX);
            mp_put_u64(&b, v);
            assert_int_equal(b.n, want);
            mp_init(&m, buf_str(&b));
            assert_int_equal(mp_peek(&m), MP_UINT);
            assert_true(mp_u64(&m) == v);
            assert_true(mp_done(&m));
            mp_init(&m, buf_str(&b));
            assert_true(mp_i64(&m) == (v > INT64_MAX ? 0 : (int64_t)v));
            assert_int_equal(m.failed, v > INT64_MAX);
            mp_init(&m, buf_str(&b));
            assert_true(mp_double(&m) == (double)v && mp_done(&m));
        }
    }
}

static void
test_signed_at_every_width(void **state)
{
    (void)state;
    struct buf auto_buf b;
    buf_init(&b, 9);
    for (int bit = 0; bit < 64; bit++) {
        for (int64_t d = -1; d <= 1; d++) {
            int64_t v = (int64_t)(-((uint64_t)1 << bit) + (uint64_t)d);
            struct mp m;
            buf_reset(&b, SIZE_MAX);
            mp_put_i64(&b, v);
            if (v < 0) {
                size_t want = v >= -32         ? 1
                              : v >= INT8_MIN  ? 2
                              : v >= INT16_MIN ? 3
                              : v >= INT32_MIN ? 5
                                               : 9;
                assert_int_equal(b.n, want);
            }
            mp_init(&m, buf_str(&b));
            assert_int_equal(mp_peek(&m), v < 0 ? MP_INT : MP_UINT);
            assert_true(mp_i64(&m) == v);
            assert_true(mp_done(&m));
            mp_init(&m, buf_str(&b));
            assert_true(mp_u64(&m) == (v < 0 ? 0 : (uint64_t)v));
            assert_int_equal(m.failed, v < 0);
            mp_init(&m, buf_str(&b));
            assert_true(mp_double(&m) == (double)v && mp_done(&m));
        }
    }
}

static void
test_texts_at_the_width_borders(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 31, 32, 255, 256, 65535, 65536, 100000};
    char *text = malloc(100000);
    for (size_t i = 0; i < 100000; i++) {
        text[i] = (char)(i * 7);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        struct str s = {.p = text, .n = n};
        const size_t heads[2] = {n < 32      ? 1
                                 : n < 256   ? 2
                                 : n < 65536 ? 3
                                             : 5,
            n < 256     ? 2
            : n < 65536 ? 3
                        : 5};
        for (int is_bin = 0; is_bin < 2; is_bin++) {
            struct buf auto_buf b, auto_buf small;
            void (*put)(struct buf *, struct str) = is_bin ? mp_put_bin : mp_put_str;
            struct mp m;
            buf_init(&b, n + heads[is_bin]); /* exactly enough */
            put(&b, s);
            assert_true(buf_ok(&b));
            assert_int_equal(b.n, n + heads[is_bin]);
            mp_init(&m, buf_str(&b));
            assert_int_equal(mp_peek(&m), is_bin ? MP_BIN : MP_STR);
            assert_true(str_eq(mp_str(&m), s));
            assert_true(mp_done(&m));
            buf_init(&small, n + heads[is_bin] - 1);
            put(&small, s);
            assert_false(buf_ok(&small));
            assert_int_equal(small.n, 0); /* no head without its body */
        }
    }
    free(text);
}

static void
test_bytes_of_the_specification(void **state)
{
    (void)state;
    struct buf auto_buf b;
    static const char want[] = "\x9c\xc0\xc2\xc3\x7f\xcc\x80\xe0\xd0\xdf\xcb\x3f\xf8\0\0\0\0\0"
                               "\0\xa1x\xc0\xc4\x01y\x81\xa0\x90";
    buf_init(&b, SIZE_MAX);
    mp_put_array(&b, 12);
    mp_put_nil(&b);
    mp_put_bool(&b, false);
    mp_put_bool(&b, true);
    mp_put_u64(&b, 127);
    mp_put_u64(&b, 128);
    mp_put_i64(&b, -32);
    mp_put_i64(&b, -33);
    mp_put_double(&b, 1.5);
    mp_put_cstr(&b, "x");
    mp_put_cstr(&b, NULL);
    mp_put_bin(&b, STR("y"));
    mp_put_map(&b, 1);
    mp_put_str(&b, STR(""));
    mp_put_array(&b, 0);
    assert_int_equal(b.n, sizeof want - 1);
    assert_memory_equal(b.p, want, b.n);
}

static void
test_counts_at_the_width_borders(void **state)
{
    (void)state;
    const uint32_t counts[] = {0, 1, 15, 16, 255, 65535, 65536, 70000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        uint32_t n = counts[i];
        struct buf auto_buf a, auto_buf map;
        struct mp m;
        buf_init(&a, SIZE_MAX);
        buf_init(&map, SIZE_MAX);
        mp_put_array(&a, n);
        mp_put_map(&map, n);
        for (uint32_t k = 0; k < n; k++) {
            mp_put_nil(&a);
            mp_put_nil(&map);
            mp_put_nil(&map);
        }
        mp_init(&m, buf_str(&a));
        assert_int_equal(mp_array(&m), n);
        mp_init(&m, buf_str(&a));
        mp_skip(&m);
        assert_true(mp_done(&m));
        mp_init(&m, buf_str(&map));
        assert_int_equal(mp_map(&m), n);
        mp_init(&m, buf_str(&map));
        mp_skip(&m);
        assert_true(mp_done(&m));
    }
}

/* One value of every kind and width. */
static void
put_everything(struct buf *b)
{
    static const char text[300];
    mp_put_map(b, 2);
    mp_put_cstr(b, "values");
    mp_put_array(b, 17);
    mp_put_nil(b);
    mp_put_bool(b, true);
    mp_put_u64(b, 1);
    mp_put_u64(b, 200);
    mp_put_u64(b, 60000);
    mp_put_u64(b, 1u << 31);
    mp_put_u64(b, UINT64_MAX);
    mp_put_i64(b, -1);
    mp_put_i64(b, -100);
    mp_put_i64(b, -1000);
    mp_put_i64(b, -100000);
    mp_put_i64(b, INT64_MIN);
    mp_put_double(b, -0.5);
    mp_put_str(b, (struct str){.p = text, .n = 40});
    mp_put_str(b, (struct str){.p = text, .n = 300});
    mp_put_bin(b, (struct str){.p = text, .n = 3});
    mp_put_bin(b, (struct str){.p = text, .n = 300});
    mp_put_cstr(b, "empty");
    mp_put_map(b, 0);
}

/* Reads it all; false as soon as anything fails. Checks each value that came. */
static bool
read_everything(struct mp *m)
{
    const uint64_t us[] = {1, 200, 60000, 1u << 31, UINT64_MAX};
    const int64_t is[] = {-1, -100, -1000, -100000, INT64_MIN};
    const size_t lens[] = {40, 300, 3, 300};
    if (mp_map(m) != 2 || !str_is(mp_str(m), "values") || mp_array(m) != 17 || !mp_nil(m) ||
        !mp_bool(m)) {
        return false;
    }
    for (size_t i = 0; i < 5; i++) {
        uint64_t v = mp_u64(m);
        assert_true(v == (m->failed ? 0 : us[i]));
    }
    for (size_t i = 0; i < 5; i++) {
        int64_t v = mp_i64(m);
        assert_true(v == (m->failed ? 0 : is[i]));
    }
    double d = mp_double(m);
    assert_true(d == (m->failed ? 0 : -0.5));
    for (size_t i = 0; i < 4; i++) {
        struct str s = mp_str(m);
        assert_int_equal(s.n, m->failed ? 0 : lens[i]);
        assert_non_null(s.p);
    }
    struct str s = mp_str(m);
    assert_true(str_is(s, m->failed ? "" : "empty"));
    return mp_map(m) == 0 && mp_done(m);
}

static void
test_truncation_at_every_length(void **state)
{
    (void)state;
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    put_everything(&b);
    for (size_t n = 0; n <= b.n; n++) {
        char *copy = exact_copy(b.p, n);
        struct str bytes = {.p = copy, .n = n};
        struct mp m;
        mp_init(&m, bytes);
        assert_int_equal(read_everything(&m), n == b.n);
        mp_init(&m, bytes);
        mp_skip(&m);
        assert_int_equal(mp_done(&m), n == b.n);
        assert_int_equal(m.failed, n != b.n);
        free(copy);
    }
}

static void
test_writing_with_every_limit(void **state)
{
    (void)state;
    struct buf auto_buf whole;
    buf_init(&whole, SIZE_MAX);
    put_everything(&whole);
    for (size_t max = 0; max <= whole.n; max++) {
        struct buf auto_buf b;
        buf_init(&b, max);
        put_everything(&b);
        assert_int_equal(buf_ok(&b), max == whole.n);
        assert_true(b.n <= max);
        assert_true(b.n == 0 || memcmp(b.p, whole.p, b.n) == 0);
    }
}

typedef void read_f(struct mp *m);
static void
read_array(struct mp *m)
{
    assert_int_equal(mp_array(m), 0);
}
static void
read_map(struct mp *m)
{
    assert_int_equal(mp_map(m), 0);
}
static void
read_u64(struct mp *m)
{
    assert_true(mp_u64(m) == 0);
}
static void
read_i64(struct mp *m)
{
    assert_true(mp_i64(m) == 0);
}
static void
read_double(struct mp *m)
{
    assert_true(mp_double(m) == 0);
}
static void
read_bool(struct mp *m)
{
    assert_false(mp_bool(m));
}
static void
read_str(struct mp *m)
{
    assert_int_equal(mp_str(m).n, 0);
}
static read_f *const readers[] = {
    read_array, read_map, read_u64, read_i64, read_double, read_bool, read_str, mp_skip};
enum { READERS = sizeof readers / sizeof *readers };

static void
assert_all_fail(struct str bytes, enum mp_type kind)
{
    for (int i = 0; i < READERS; i++) {
        struct mp m;
        char *copy = exact_copy(bytes.p, bytes.n);
        mp_init(&m, (struct str){.p = copy, .n = bytes.n});
        assert_int_equal(mp_peek(&m), kind);
        readers[i](&m);
        assert_true(m.failed);
        assert_false(mp_done(&m));
        assert_false(mp_nil(&m));
        assert_int_equal(mp_peek(&m), MP_BAD);
        for (int k = 0; k < READERS; k++) { /* nothing ever comes again */
            readers[k](&m);
            assert_true(m.failed);
        }
        free(copy);
    }
}

static void
test_hostile_counts_never_yield_values(void **state)
{
    (void)state;
    const struct {
        struct str bytes;
        enum mp_type kind;
    } cases[] = {
        {STR(""), MP_END},
        {STR("\x91"), MP_ARRAY},
        {STR("\x9f\xc0"), MP_ARRAY},
        {STR("\xdc"), MP_ARRAY},
        {STR("\xdc\x00"), MP_ARRAY},
        {STR("\xdc\xff\xff\xc0"), MP_ARRAY},
        {STR("\xdd\xff\xff\xff"), MP_ARRAY},
        {STR("\xdd\xff\xff\xff\xff\xc0\xc0"), MP_ARRAY},
        {STR("\xdd\x80\x00\x00\x00"), MP_ARRAY},
        {STR("\x81\xc0"), MP_MAP},
        {STR("\xde\x00\x02\xc0\xc0\xc0"), MP_MAP},
        {STR("\xdf\x80\x00\x00\x00\xc0\xc0"), MP_MAP},
        {STR("\xdf\xff\xff\xff\xff"), MP_MAP},
        {STR("\xa1"), MP_STR},
        {STR("\xbfshort"), MP_STR},
        {STR("\xd9"), MP_STR},
        {STR("\xd9\x02x"), MP_STR},
        {STR("\xda\xff\xffx"), MP_STR},
        {STR("\xdb\xff\xff\xff\xffx"), MP_STR},
        {STR("\xc4\x01"), MP_BIN},
        {STR("\xc5\x00\x02x"), MP_BIN},
        {STR("\xc6\xff\xff\xff\xffx"), MP_BIN},
        {STR("\xcc"), MP_UINT},
        {STR("\xcd\x01"), MP_UINT},
        {STR("\xce\x01\x01\x01"), MP_UINT},
        {STR("\xcf\x01\x01\x01\x01\x01\x01\x01"), MP_UINT},
        {STR("\xd0"), MP_INT},
        {STR("\xd1\xff"), MP_INT},
        {STR("\xd2\xff\x01\x01"), MP_INT},
        {STR("\xd3\xff\x01\x01\x01\x01\x01\x01"), MP_INT},
        {STR("\xca\x3f\x80\x00"), MP_DOUBLE},
        {STR("\xcb\x3f\xf0\0\0\0\0\0"), MP_DOUBLE},
        {STR("\xc1"), MP_BAD},
        {STR("\xd4\x01x"), MP_BAD}, /* extension types */
        {STR("\xd8\x01xxxxxxxxxxxxxxxx"), MP_BAD},
        {STR("\xc7\x01\x01x"), MP_BAD},
        {STR("\xc9\x00\x00\x00\x01\x01x"), MP_BAD},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_all_fail(cases[i].bytes, cases[i].kind);
    }
}

static void
test_wrong_type_fails_every_other_reader(void **state)
{
    (void)state;
    const struct {
        struct str bytes;
        unsigned readers; /* bits of those that may read it */
    } cases[] = {
        {STR("\x90"), 1u << 0 | 1u << 7},
        {STR("\x80"), 1u << 1 | 1u << 7},
        {STR("\x00"), 1u << 2 | 1u << 3 | 1u << 4 | 1u << 7},
        {STR("\xd0\x00"), 1u << 2 | 1u << 3 | 1u << 4 | 1u << 7},
        {STR("\xff"), 1u << 7}, /* -1: only skipped, the readers here want 0 */
        {STR("\xca\0\0\0\0"), 1u << 4 | 1u << 7},
        {STR("\xcb\0\0\0\0\0\0\0\0"), 1u << 4 | 1u << 7},
        {STR("\xc2"), 1u << 5 | 1u << 7},
        {STR("\xa0"), 1u << 6 | 1u << 7},
        {STR("\xc4\0"), 1u << 6 | 1u << 7},
        {STR("\xc0"), 1u << 7},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int k = 0; k < READERS; k++) {
            struct mp m;
            if ((uint8_t)cases[i].bytes.p[0] == 0xff && (k == 3 || k == 4)) {
                continue;
            }
            mp_init(&m, cases[i].bytes);
            readers[k](&m);
            assert_int_equal(mp_done(&m), (cases[i].readers >> k & 1) != 0);
            assert_int_equal(m.failed, (cases[i].readers >> k & 1) == 0);
        }
    }
}

static void
test_signed_forms_and_floats_of_other_packers(void **state)
{
    (void)state;
    struct mp m;
    mp_init(&m, STR("\xd0\x05\xd1\x01\x00\xd2\x00\x01\x00\x00\xd3\x00\x00\x00\x01\x00\x00\x00"
                    "\x00\xd1\xff\xfe\xca\x3f\x80\x00\x00"));
    assert_int_equal(mp_peek(&m), MP_UINT);
    assert_true(mp_u64(&m) == 5);
    assert_true(mp_i64(&m) == 256);
    assert_true(mp_u64(&m) == 65536);
    assert_int_equal(mp_peek(&m), MP_UINT);
    assert_true(mp_u64(&m) == UINT64_C(1) << 32);
    assert_int_equal(mp_peek(&m), MP_INT);
    assert_true(mp_i64(&m) == -2);
    assert_true(mp_double(&m) == 1.0);
    assert_true(mp_done(&m));
}

static void
test_nil_is_optional(void **state)
{
    (void)state;
    struct mp m;
    mp_init(&m, STR("\xc0\x01"));
    assert_true(mp_nil(&m));
    assert_false(mp_nil(&m));
    assert_true(mp_u64(&m) == 1);
    assert_false(mp_nil(&m));
    assert_true(mp_done(&m));
    assert_int_equal(mp_peek(&m), MP_END);
    mp_init(&m, (struct str){0});
    assert_true(mp_done(&m));
}

static void
test_nesting_is_bounded(void **state)
{
    (void)state;
    for (int depth = 1; depth < 40; depth++) {
        char text[64];
        struct mp m;
        memset(text, 0x91, sizeof text);
        text[depth - 1] = (char)0xc0; /* depth - 1 arrays around a nil */
        mp_init(&m, (struct str){.p = text, .n = (size_t)depth});
        mp_skip(&m);
        assert_int_equal(mp_done(&m), depth - 1 < 32);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unsigned_at_every_width),
        cmocka_unit_test(test_signed_at_every_width),
        cmocka_unit_test(test_texts_at_the_width_borders),
        cmocka_unit_test(test_bytes_of_the_specification),
        cmocka_unit_test(test_counts_at_the_width_borders),
        cmocka_unit_test(test_truncation_at_every_length),
        cmocka_unit_test(test_writing_with_every_limit),
        cmocka_unit_test(test_hostile_counts_never_yield_values),
        cmocka_unit_test(test_wrong_type_fails_every_other_reader),
        cmocka_unit_test(test_signed_forms_and_floats_of_other_packers),
        cmocka_unit_test(test_nil_is_optional),
        cmocka_unit_test(test_nesting_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
