/* Limits, growth, stickiness of buf. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base/buf.h"

static void
test_limit_is_exact(void **state)
{
    (void)state;
    for (size_t max = 0; max <= 300; max++) {
        struct buf auto_buf b;
        buf_init(&b, max);
        for (size_t i = 0; i < max; i++) {
            buf_putc(&b, (char)i);
        }
        assert_true(buf_ok(&b));
        assert_int_equal(b.n, max);
        assert_true(b.cap <= max + 1);
        assert_int_equal(buf_cstr(&b)[max], 0);
        buf_put(&b, "", 0);
        assert_true(buf_ok(&b));
        buf_putc(&b, 'x');
        assert_false(buf_ok(&b));
        assert_int_equal(b.n, max);
        for (size_t i = 0; i < max; i++) {
            assert_int_equal(b.p[i], (char)i);
        }
    }
}

static void
test_failure_is_sticky_until_reset(void **state)
{
    (void)state;
    struct buf auto_buf b;
    buf_init(&b, 4);
    buf_puts(&b, "ab");
    buf_puts(&b, "cde");
    buf_puts(&b, "f"); /* would fit */
    assert_false(buf_ok(&b));
    assert_int_equal(b.n, 2);
    assert_null(buf_room(&b, 0));
    assert_string_equal(buf_cstr(&b), "");
    buf_reset(&b, 100);
    buf_puts(&b, "cde");
    assert_true(buf_ok(&b));
    assert_string_equal(buf_cstr(&b), "cde");
}

static void
test_reset_keeps_small_memory_only(void **state)
{
    (void)state;
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    assert_non_null(buf_room(&b, 1000));
    size_t cap = b.cap;
    buf_reset(&b, cap);
    assert_int_equal(b.cap, cap);
    buf_reset(&b, cap - 1);
    assert_int_equal(b.cap, 0);
    assert_null(b.p);
}

static void
test_huge_request_fails_without_overflow(void **state)
{
    (void)state;
    struct buf auto_buf b, auto_buf unlimited;
    buf_init(&b, 1000);
    buf_init(&unlimited, SIZE_MAX);
    buf_putc(&b, 'x');
    assert_null(buf_room(&b, SIZE_MAX));
    assert_null(buf_room(&unlimited, SIZE_MAX));
    assert_false(buf_ok(&unlimited));
}

static void
test_printf_at_every_length(void **state)
{
    (void)state;
    for (int n = 0; n <= 200; n++) {
        struct buf auto_buf b, auto_buf tight;
        buf_init(&b, SIZE_MAX);
        buf_printf(&b, "%0*d", n + 1, 7);
        assert_int_equal(b.n, n + 1);
        assert_int_equal(b.p[n], '7');
        buf_init(&tight, (size_t)n);
        buf_printf(&tight, "%0*d", n + 1, 7);
        assert_false(buf_ok(&tight));
        assert_int_equal(tight.n, 0);
    }
}

static void
test_fini_accepts_zeroed_and_twice(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_fini(&b);
    buf_init(&b, 10);
    buf_putc(&b, 'x');
    buf_fini(&b);
    buf_fini(&b);
    assert_null(b.p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit_is_exact),
        cmocka_unit_test(test_failure_is_sticky_until_reset),
        cmocka_unit_test(test_reset_keeps_small_memory_only),
        cmocka_unit_test(test_huge_request_fails_without_overflow),
        cmocka_unit_test(test_printf_at_every_length),
        cmocka_unit_test(test_fini_accepts_zeroed_and_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
