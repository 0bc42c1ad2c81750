/* pace: what follows a failure, by where it happened and what class it has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/err.h"
#include "sinks/pace.h"

static void
each_failure_has_its_consequence(void **state)
{
    (void)state;
    static const struct {
        enum pace_from from;
        int rc;
        uint8_t state;
        bool drop_session, close_target, exit;
        int64_t at_least_ms, at_most_ms;
    } rows[] = {
        {PACE_BROKER, ERR_CONNECT, API_SINK_RETRYING, true, false, false, 50, 100},
        {PACE_BROKER, ERR_CLOSED, API_SINK_RETRYING, true, false, false, 50, 100},
        {PACE_BROKER, ERR_TIMEOUT, API_SINK_RETRYING, true, false, false, 50, 100},
        {PACE_BROKER, ERR_STOPPING, API_SINK_RETRYING, true, false, false, 50, 100},
        {PACE_BROKER, ERR_BUSY, API_SINK_RETRYING, false, false, false, 700,
            700}, /* as it asked */
        {PACE_BROKER, ERR_NOSPACE, API_SINK_RETRYING, false, false, false, 700, 700},
        {PACE_BROKER, ERR_FENCED, API_SINK_RETRYING, true, false, false, 500, 1000},
        {PACE_BROKER, ERR_STEERED, API_SINK_RETRYING, true, false, false, 0, 0},
        {PACE_BROKER, ERR_GONE, API_SINK_STOPPED, false, false, false, 60000, 60000},
        {PACE_BROKER, ERR_BEYOND, API_SINK_STOPPED, false, false, false, 60000, 60000},
        {PACE_BROKER, ERR_PARSE, API_SINK_STOPPED, false, false, false, 60000, 60000},
        {PACE_BROKER, ERR_CORRUPT, API_SINK_STOPPED, false, false, false, 60000, 60000},
        {PACE_BROKER, ERR_BUG, API_SINK_STOPPED, false, false, true, 0, 0},
        {PACE_TARGET, ERR_NOSPACE, API_SINK_RETRYING, false, false, false, 700, 700},
        {PACE_TARGET, ERR_TIMEOUT, API_SINK_RETRYING, false, false, false, 700, 700},
        {PACE_TARGET, ERR_FOREIGN, API_SINK_STOPPED, false, true, false, 60000, 60000},
        {PACE_TARGET, ERR_AUTH, API_SINK_STOPPED, false, true, false, 60000, 60000},
        {PACE_TARGET, ERR_REFUSED, API_SINK_STOPPED, false, true, false, 60000, 60000},
        {PACE_TARGET, ERR_IO, API_SINK_STOPPED, false, false, true, 0, 0}, /* P9 */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct pace p;
        pace_init(&p, 42 + i);
        struct pace_step s = pace_failed(&p, rows[i].from, rows[i].rc, 700, 1000);
        assert_int_equal(s.state, rows[i].state);
        assert_int_equal(s.drop_session, rows[i].drop_session);
        assert_int_equal(s.close_target, rows[i].close_target);
        assert_int_equal(s.exit, rows[i].exit);
        assert_in_range(s.delay_ms, rows[i].at_least_ms, rows[i].at_most_ms);
    }
    struct pace p;
    pace_init(&p, 41);
    assert_in_range(pace_failed(&p, PACE_TARGET, ERR_TIMEOUT, -1, 1000).delay_ms, 125, 250);
    assert_int_equal(
        pace_failed(&p, PACE_TARGET, ERR_BUSY, INT64_MAX, 1000).delay_ms, PACE_ASKED_MAX_MS);
}

static void
delays_grow_to_their_limit_and_start_again_after_success(void **state)
{
    (void)state;
    struct pace p;
    pace_init(&p, 7);
    int64_t last = 0;
    for (int i = 0; i < 20; i++) {
        last = pace_failed(&p, PACE_TARGET, ERR_CONNECT, 0, 0).delay_ms;
        assert_in_range(last, PACE_TARGET_MIN_MS / 2, PACE_TARGET_MAX_MS);
    }
    assert_in_range(last, PACE_TARGET_MAX_MS / 2, PACE_TARGET_MAX_MS);
    pace_ok(&p, PACE_BROKER); /* says nothing about the target */
    assert_in_range(pace_failed(&p, PACE_TARGET, ERR_CONNECT, 0, 0).delay_ms,
        PACE_TARGET_MAX_MS / 2, PACE_TARGET_MAX_MS);
    pace_ok(&p, PACE_TARGET);
    assert_in_range(
        pace_failed(&p, PACE_TARGET, ERR_CONNECT, 0, 0).delay_ms, 0, PACE_TARGET_MIN_MS);
}

static void
two_workers_of_one_name_slow_each_other_down(void **state)
{
    (void)state;
    struct pace p;
    pace_init(&p, 7);
    int64_t now = 0, delay = 0;
    for (int i = 0; i < 12; i++) { /* each session is fenced soon, though its calls went well */
        pace_session_opened(&p, now);
        pace_ok(&p, PACE_BROKER);
        delay = pace_failed(&p, PACE_BROKER, ERR_FENCED, 0, now + 500).delay_ms;
        now += 500 + delay;
    }
    assert_in_range(delay, PACE_FENCED_MAX_MS / 2, PACE_FENCED_MAX_MS);
    pace_session_opened(&p, now); /* this one lasts */
    delay = pace_failed(&p, PACE_BROKER, ERR_FENCED, 0, now + PACE_LASTED_MS).delay_ms;
    assert_int_equal(delay, 0);
    delay = pace_failed(&p, PACE_BROKER, ERR_FENCED, 0, now + 1).delay_ms;
    assert_in_range(delay, PACE_FENCED_MIN_MS / 2, PACE_FENCED_MIN_MS);
}

static void
orders_in_a_row_do_not_slow_the_worker_down(void **state)
{
    (void)state;
    struct pace p;
    pace_init(&p, 7);
    for (int i = 0; i < 12; i++) {
        pace_session_opened(&p, i);
        assert_int_equal(pace_failed(&p, PACE_BROKER, ERR_STEERED, 0, i + 1).delay_ms, 0);
    }
    assert_in_range(pace_failed(&p, PACE_BROKER, ERR_FENCED, 0, 13).delay_ms, /* a first one */
        PACE_FENCED_MIN_MS / 2, PACE_FENCED_MIN_MS);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_failure_has_its_consequence),
        cmocka_unit_test(delays_grow_to_their_limit_and_start_again_after_success),
        cmocka_unit_test(two_workers_of_one_name_slow_each_other_down),
        cmocka_unit_test(orders_in_a_row_do_not_slow_the_worker_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
