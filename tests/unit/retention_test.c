/* retention: never what a sink needs (P6), unless evict was chosen; full only when a sink is
 * the reason (P5). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/retention.h"

enum { HOUR_MS = 3600 * 1000 };
static const int64_t now_us = INT64_C(1000) * HOUR_MS * 1000;

static struct retention_plan
decide(uint64_t retain_bytes, bool may_evict, uint64_t needed, int64_t oldest_age_ms,
    bool is_oldest_sealed)
{
    struct retention_conf c = {
        .retain_age_ms = HOUR_MS, .retain_bytes = retain_bytes, .may_evict = may_evict};
    struct retention_segment seg[4] = {
        {.next = 100,
            .bytes = 10,
            .sealed_us = is_oldest_sealed ? now_us - oldest_age_ms * 1000 : 0},
        {.next = 200, .bytes = 10, .sealed_us = now_us - 10},
        {.next = 300, .bytes = 10, .sealed_us = now_us - 5},
        {.next = 400, .bytes = 10, .sealed_us = 0},
    };
    return retention_decide(&c, seg, 4, needed, now_us);
}

static void
test_nothing_old_nothing_large(void **state)
{
    (void)state;
    struct retention_plan p = decide(1000, false, UINT64_MAX, 0, true);
    assert_int_equal(p.remove, 0);
    assert_false(p.is_full);
}

static void
test_age(void **state)
{
    (void)state;
    assert_int_equal(decide(1000, false, UINT64_MAX, 2 * HOUR_MS, true).remove, 1);
    assert_int_equal(decide(1000, false, 100, 2 * HOUR_MS, true).remove, 1);
    struct retention_plan needed = decide(1000, false, 99, 2 * HOUR_MS, true);
    assert_int_equal(needed.remove, 0);
    assert_false(needed.is_full);
    /* Age alone never evicts. */
    assert_int_equal(decide(1000, true, 99, 2 * HOUR_MS, true).remove, 0);
    /* A clock that went back makes nothing old. */
    assert_int_equal(decide(1000, false, UINT64_MAX, -2 * HOUR_MS, true).remove, 0);
}

static void
test_bytes(void **state)
{
    (void)state;
    assert_int_equal(decide(40, false, UINT64_MAX, 0, true).remove, 0);
    assert_int_equal(decide(39, false, UINT64_MAX, 0, true).remove, 1);
    assert_int_equal(decide(20, false, UINT64_MAX, 0, true).remove, 2);
    /* The one being written never goes. */
    assert_int_equal(decide(0, false, UINT64_MAX, 0, true).remove, 3);
    assert_false(decide(0, false, UINT64_MAX, 0, true).is_full);
}

static void
test_needed_blocks_or_is_evicted(void **state)
{
    (void)state;
    struct retention_plan p = decide(20, false, 50, 0, true);
    assert_int_equal(p.remove, 0);
    assert_true(p.is_full);
    p = decide(20, false, 150, 0, true);
    assert_int_equal(p.remove, 1);
    assert_true(p.is_full);
    p = decide(20, true, 50, 0, true);
    assert_int_equal(p.remove, 2);
    assert_int_equal(p.evicted, 2);
    assert_false(p.is_full);
    /* A sink that stands exactly behind a segment does not need it. */
    p = decide(30, false, 100, 0, true);
    assert_int_equal(p.remove, 1);
    assert_false(p.is_full);
}

static void
test_waits_for_sealing(void **state)
{
    (void)state;
    struct retention_plan p = decide(20, false, UINT64_MAX, 0, false);
    assert_int_equal(p.remove, 0);
    assert_false(p.is_full);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_old_nothing_large),
        cmocka_unit_test(test_age),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_needed_blocks_or_is_evicted),
        cmocka_unit_test(test_waits_for_sealing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
