/* lag: what is computed from facts, without a broker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/lag.h"

/* Two segments of one epoch, a leap, an empty newest one. */
static const struct journal_segment segments[] = {{.base = 100, .next = 110},
    {.base = 110, .next = 115}, {.base = 1000, .next = 1003}, {.base = 1003, .next = 1003}};

static const struct {
    uint64_t next, records, first;
} behind[] = {
    {0, 18, 100}, /* retention has passed it */
    {100, 18, 100},
    {109, 9, 109},
    {110, 8, 110},
    {115, 3, 1000}, /* the leap holds nothing */
    {500, 3, 1000},
    {1002, 1, 1002},
    {1003, 0, 1003},
};

static void
test_records_behind(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof behind / sizeof behind[0]; i++) {
        uint64_t first;
        uint64_t n = lag_records_from(segments, 4, behind[i].next, &first);
        if (n != behind[i].records || first != behind[i].first) {
            fail_msg("next %llu: %llu records from %llu", (unsigned long long)behind[i].next,
                (unsigned long long)n, (unsigned long long)first);
        }
    }
}

static void
test_sink_state(void **state)
{
    (void)state;
    struct config_sink on = {.name = "s", .enabled = true};
    struct config_sink off = {.name = "s"};
    const struct {
        const struct config_sink *conf;
        bool is_registered, is_live;
        uint8_t reported;
        const char *want, *error;
    } cases[] = {
        {&on, false, false, API_SINK_RUNNING, "starting", ""},
        {&on, true, false, API_SINK_RUNNING, "starting", "its worker has not reported yet"},
        {&on, true, true, API_SINK_RUNNING, "running", "kept"},
        {&on, true, true, API_SINK_STOPPED, "stopped", "kept"},
        {&off, true, true, API_SINK_RUNNING, "paused", NULL},
        {NULL, true, true, API_SINK_RUNNING, "stopped", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct lag_sink s = {.conf = cases[i].conf,
            .is_registered = cases[i].is_registered,
            .last_error = "kept"};
        lag_judge_sink(&s, cases[i].is_live, cases[i].reported);
        assert_string_equal(s.state, cases[i].want);
        if (cases[i].error != NULL) {
            assert_string_equal(s.last_error, cases[i].error);
        } else {
            assert_string_not_equal(s.last_error, "kept");
        }
    }
}

static void
test_eta(void **state)
{
    (void)state;
    struct lag_sink s = {.records_behind = 1000, .records_per_second = 100};
    lag_judge_eta(&s);
    assert_true(s.has_eta && s.eta_seconds == 10);
    s.records_per_second = 100000;
    lag_judge_eta(&s);
    assert_true(s.has_eta && s.eta_seconds == 1); /* 0 would say that it is there */
    s.records_per_second = 0;
    lag_judge_eta(&s);
    assert_false(s.has_eta);
    s.records_behind = 0;
    lag_judge_eta(&s);
    assert_true(s.has_eta && s.eta_seconds == 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_behind),
        cmocka_unit_test(test_sink_state),
        cmocka_unit_test(test_eta),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
