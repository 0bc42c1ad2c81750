/* cmd_restart: delays grow to 10 s, begin again after a steady life, and a refusal waits 10 s.
 * cmd_verify_follows: gaps between segments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <string.h>

#include "broker/cli/cmd_restart.h"
#include "broker/cli/cmd_verify.h"

/* waitpid's encoding. */
#define EXITED(code) ((code) << 8)

static void
delays_grow_between_their_bounds(void **state)
{
    (void)state;
    struct backoff b;
    backoff_init(&b, CMD_RESTART_MIN_MS, CMD_RESTART_MAX_MS, 1);
    int64_t step = CMD_RESTART_MIN_MS;
    for (int i = 0; i < 20; i++) {
        int64_t delay = cmd_restart_delay_ms(&b, SIGKILL, 50);
        assert_in_range(delay, step / 2, step);
        step = step * 2 < CMD_RESTART_MAX_MS ? step * 2 : CMD_RESTART_MAX_MS;
    }
}

static void
a_steady_life_begins_anew(void **state)
{
    (void)state;
    struct backoff b;
    backoff_init(&b, CMD_RESTART_MIN_MS, CMD_RESTART_MAX_MS, 1);
    for (int i = 0; i < 10; i++) {
        (void)cmd_restart_delay_ms(&b, EXITED(1), CMD_RESTART_STEADY_MS - 1);
    }
    assert_true(cmd_restart_delay_ms(&b, EXITED(1), CMD_RESTART_STEADY_MS - 1) >=
                CMD_RESTART_MAX_MS / 2);
    assert_true(
        cmd_restart_delay_ms(&b, EXITED(1), CMD_RESTART_STEADY_MS) <= CMD_RESTART_MIN_MS);
}

static void
a_refusal_waits_long_at_once(void **state)
{
    (void)state;
    static const struct {
        int status;
        bool refusal;
    } cases[] = {{EXITED(78), true}, {EXITED(2), true}, {EXITED(0), false}, {EXITED(1), false},
        {EXITED(69), false}, {SIGKILL, false}, {2 /* SIGINT */, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct backoff b;
        backoff_init(&b, CMD_RESTART_MIN_MS, CMD_RESTART_MAX_MS, 1);
        assert_int_equal(cmd_restart_is_refusal(cases[i].status), cases[i].refusal);
        int64_t delay = cmd_restart_delay_ms(&b, cases[i].status, 10);
        assert_int_equal(delay == CMD_RESTART_MAX_MS, cases[i].refusal);
    }
}

static void
segments_follow_each_other(void **state)
{
    (void)state;
    const struct cmd_segcheck a = {.base = 10, .next = 20, .epoch = 1, .uuid = "same"};
    struct cmd_segcheck next = {.base = 20, .next = 30, .epoch = 1, .uuid = "same"};
    assert_true(cmd_verify_follows(&a, &next));
    assert_int_equal(next.result, CMD_SEGCHECK_OK);
    struct cmd_segcheck epoch = {.base = 25, .next = 30, .epoch = 2, .uuid = "same"};
    assert_true(cmd_verify_follows(&a, &epoch)); /* offsets may jump there */
    struct cmd_segcheck gap = {.base = 25, .next = 30, .epoch = 1, .uuid = "same"};
    assert_false(cmd_verify_follows(&a, &gap));
    assert_int_equal(gap.result, CMD_SEGCHECK_DAMAGED);
    assert_non_null(strstr(gap.msg, "from offset 20 to 24"));
    struct cmd_segcheck other = {.base = 20, .next = 30, .epoch = 1, .uuid = "other"};
    assert_false(cmd_verify_follows(&a, &other));
    assert_non_null(strstr(other.msg, "another log"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delays_grow_between_their_bounds),
        cmocka_unit_test(a_steady_life_begins_anew),
        cmocka_unit_test(a_refusal_waits_long_at_once),
        cmocka_unit_test(segments_follow_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
