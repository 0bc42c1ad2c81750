/* Steps, bounds and jitter of backoff. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base/backoff.h"

static void
test_doubles_within_bounds_and_resets(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct backoff b;
        backoff_init(&b, 100, 5000, seed);
        for (int round = 0; round < 2; round++) {
            int64_t step = 100;
            for (int i = 0; i < 12; i++) {
                int64_t ms = backoff_next_ms(&b);
                assert_in_range(ms, step / 2, step);
                step = step * 2 > 5000 ? 5000 : step * 2;
            }
            backoff_reset(&b);
        }
    }
}

static void
test_jitter_covers_the_half(void **state)
{
    (void)state;
    struct backoff b;
    int64_t low = INT64_MAX, high = 0;
    backoff_init(&b, 1000, 1000, 7);
    for (int i = 0; i < 2000; i++) {
        int64_t ms = backoff_next_ms(&b);
        low = ms < low ? ms : low;
        high = ms > high ? ms : high;
    }
    assert_in_range(low, 500, 510);
    assert_in_range(high, 990, 1000);
}

static void
test_extremes(void **state)
{
    (void)state;
    struct backoff b;
    backoff_init(&b, 1, INT64_MAX, 1);
    for (int i = 0; i < 200; i++) {
        assert_true(backoff_next_ms(&b) > 0);
    }
    assert_true(backoff_next_ms(&b) >= INT64_MAX / 2);
    backoff_init(&b, 1, 1, 1);
    assert_int_equal(backoff_next_ms(&b), 1);
}

static void
test_seeds_differ(void **state)
{
    (void)state;
    struct backoff a, b;
    backoff_init(&a, 1 << 20, 1 << 20, 1);
    backoff_init(&b, 1 << 20, 1 << 20, 2);
    assert_int_not_equal(backoff_next_ms(&a), backoff_next_ms(&b));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_doubles_within_bounds_and_resets),
        cmocka_unit_test(test_jitter_covers_the_half),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_seeds_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
