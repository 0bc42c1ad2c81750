/* xids: a snapshot's text, and whether all that is logged is visible in it: every state of a
 * few transactions, the window, and ids that wrap around. */
#include "replicator/xids.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- snapshots ---- */

static void
test_a_snapshot_is_read(void **state)
{
    (void)state;
    struct snapshot s;
    struct err e;
    assert_int_equal(snapshot_parse(STR("731:731:"), &s, &e), 0);
    assert_true(s.xmin == 731 && s.xmax == 731 && s.n == 0);
    snapshot_fini(&s);
    assert_int_equal(
        snapshot_parse(STR("4294967300:4294967310:4294967300,4294967309"), &s, &e), 0);
    assert_true(s.xmax == 4294967310 && s.n == 2 && s.xip[1] == 4294967309);
    snapshot_fini(&s);
}

static void
test_what_is_no_snapshot_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "1", "1:", "1:2",
        ":2:", "1::", "a:2:", "2:1:", "1:2:1,", "1:3:,1", "1:3:1 2", "1:3:3", "2:3:1",
        "1:3:1:", "-1:3:", "1:18446744073709551616:", "1:3:1,,2"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct snapshot s = {.xmax = 5};
        struct err e;
        assert_int_equal(snapshot_parse(str_from(bad[i]), &s, &e), ERR_PROTOCOL);
        assert_true(s.xmax == 5 && s.xip == NULL);
    }
}

/* ---- the decision ---- */

enum { IDS = 5, FIRST = 8, FROM = 10, STATES = 4 };
enum { LOGGED = 1, RUNNING = 2 };

/* By the rule itself: what is logged must be visible; what runs and is older than the session
 * may be logged. */
static enum xids_verdict
expected(const unsigned *state_of, unsigned xmax)
{
    enum xids_verdict verdict = XIDS_VISIBLE;
    for (unsigned i = 0; i < IDS; i++) {
        unsigned id = FIRST + i;
        bool is_hidden = id >= xmax || (state_of[i] & RUNNING) != 0;
        if (is_hidden && (state_of[i] & LOGGED) != 0) {
            return XIDS_HIDDEN;
        }
        if (is_hidden && id < xmax && id < FROM) {
            verdict = XIDS_UNKNOWN;
        }
    }
    return verdict;
}

static void
check_case(unsigned number, unsigned xmax, uint64_t base)
{
    unsigned state_of[IDS];
    uint64_t xip[IDS];
    struct snapshot s = {.xmin = base + FIRST, .xmax = base + xmax, .xip = xip};
    struct xids x;
    xids_init(&x, base + FROM);
    for (unsigned i = 0; i < IDS; i++) {
        state_of[i] = number % STATES;
        number /= STATES;
    }
    /* In the order of commits, which is not that of ids. */
    for (unsigned i = IDS; i-- > 0;) {
        if ((state_of[i] & LOGGED) != 0) {
            xids_add(&x, (uint32_t)(base + FIRST + i));
        }
        if ((state_of[i] & RUNNING) != 0 && FIRST + i < xmax) {
            xip[s.n++] = base + FIRST + i;
        }
    }
    assert_int_equal(xids_check(&x, &s), expected(state_of, xmax));
    xids_fini(&x);
}

static void
check_every_case(uint64_t base)
{
    unsigned cases = 1;
    for (unsigned i = 0; i < IDS; i++) {
        cases *= STATES;
    }
    for (unsigned number = 0; number < cases; number++) {
        for (unsigned xmax = FROM; xmax <= FIRST + IDS; xmax++) {
            check_case(number, xmax, base);
        }
    }
}

static void
test_every_state_of_a_few_transactions(void **state)
{
    (void)state;
    check_every_case(0);
}

static void
test_where_the_low_half_wraps_around(void **state)
{
    (void)state;
    check_every_case((UINT64_C(3) << 32) - FIRST - 2);
}

static enum xids_verdict
check_one(const struct xids *x, uint64_t running, uint64_t xmax)
{
    struct snapshot s = {.xmin = running, .xmax = xmax, .xip = &running, .n = 1};
    return xids_check(x, &s);
}

static void
test_what_has_left_the_window_is_unknown(void **state)
{
    (void)state;
    struct xids x;
    xids_init(&x, 100);
    xids_add(&x, 100);
    xids_add(&x, 200);
    assert_int_equal(check_one(&x, 100, 1000), XIDS_HIDDEN);
    assert_int_equal(check_one(&x, 150, 1000), XIDS_VISIBLE);
    uint64_t last = 100 + XIDS_WINDOW - 1; /* the window's last with 100 in it */
    xids_add(&x, (uint32_t)last);
    assert_int_equal(check_one(&x, 100, last + 1), XIDS_HIDDEN);
    assert_int_equal(check_one(&x, 150, last + 1), XIDS_VISIBLE);
    xids_add(&x, (uint32_t)last + 1);
    assert_int_equal(check_one(&x, 100, last + 2), XIDS_UNKNOWN);
    assert_int_equal(check_one(&x, 200, last + 2), XIDS_HIDDEN);
    assert_int_equal(check_one(&x, 150, last + 2), XIDS_VISIBLE);
    /* A long one commits at last: it gets no bit, and is unknown. */
    xids_add(&x, 99);
    assert_int_equal(check_one(&x, 99, last + 2), XIDS_UNKNOWN);
    /* A step beyond the whole window leaves no bit behind. */
    uint64_t far = last + 3 * (uint64_t)XIDS_WINDOW;
    xids_add(&x, (uint32_t)far);
    assert_int_equal(check_one(&x, far - XIDS_WINDOW + 1, far + 1), XIDS_VISIBLE);
    assert_int_equal(check_one(&x, far - XIDS_WINDOW, far + 1), XIDS_UNKNOWN);
    assert_int_equal(check_one(&x, far, far + 1), XIDS_HIDDEN);
    xids_fini(&x);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_snapshot_is_read),
        cmocka_unit_test(test_what_is_no_snapshot_is_refused),
        cmocka_unit_test(test_every_state_of_a_few_transactions),
        cmocka_unit_test(test_where_the_low_half_wraps_around),
        cmocka_unit_test(test_what_has_left_the_window_is_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
