/* The text form of times, against known pairs and against itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base/clock.h"

static const struct {
    int64_t us;
    const char *text;
} pairs[] = {
    {0, "1970-01-01T00:00:00.000000Z"},
    {-1, "1969-12-31T23:59:59.999999Z"},
    {INT64_C(1795341600123456), "2026-11-22T10:00:00.123456Z"},
    {INT64_C(951782400000000), "2000-02-29T00:00:00.000000Z"},
    {INT64_C(-62135596800000000), "0001-01-01T00:00:00.000000Z"},
    {INT64_C(-62167219200000000), "0000-01-01T00:00:00.000000Z"},
    {INT64_C(-62167219200000001), "-0001-12-31T23:59:59.999999Z"},
    {INT64_C(253402300799999999), "9999-12-31T23:59:59.999999Z"},
    {INT64_C(253402300800000000), "+10000-01-01T00:00:00.000000Z"},
    {INT64_MAX, "+294247-01-10T04:00:54.775807Z"},
    {INT64_MIN, "-290308-12-21T19:59:05.224192Z"},
};

static void
test_known_pairs_both_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char text[CLOCK_TEXT_MAX];
        int64_t us = 42;
        assert_int_equal(clock_format_us(pairs[i].us, text), strlen(pairs[i].text));
        assert_string_equal(text, pairs[i].text);
        assert_true(clock_parse_us(str_from(text), &us));
        assert_true(us == pairs[i].us);
    }
}

static void
test_every_day_of_800_years_round_trips_in_order(void **state)
{
    (void)state;
    char before[CLOCK_TEXT_MAX] = "";
    for (int64_t day = -146097; day < 146097; day++) {
        int64_t us = day * 86400000000 + 12345678901, back;
        char text[CLOCK_TEXT_MAX];
        size_t n = clock_format_us(us, text);
        assert_true(clock_parse_us((struct str){.p = text, .n = n}, &back));
        assert_true(back == us);
        assert_true(strcmp(before, text) < 0);
        memcpy(before, text, sizeof text);
    }
}

static void
test_accepted_spellings(void **state)
{
    (void)state;
    const struct {
        const char *text;
        int64_t us;
    } cases[] = {
        {"1970-01-01T00:00:01Z", 1000000},
        {"1970-01-01t00:00:01z", 1000000},
        {"1970-01-01 00:00:01Z", 1000000},
        {"1970-01-01T00:00:00.5Z", 500000},
        {"1970-01-01T00:00:00.1234567899Z", 123456},
        {"1970-01-01T02:00:00+02:00", 0},
        {"1969-12-31T18:30:00-05:30", 0},
        {"1970-01-01T00:00:00-00:00", 0},
        {"1969-12-31T23:59:60Z", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t us = 42;
        assert_true(clock_parse_us(str_from(cases[i].text), &us));
        assert_true(us == cases[i].us);
    }
}

static void
test_refused_texts(void **state)
{
    (void)state;
    const char *const cases[] = {"", "1970", "1970-01-01", "1970-01-01T00:00:00",
        "1970-01-01T00:00Z", "1970-1-01T00:00:00Z", "1970-00-01T00:00:00Z",
        "1970-13-01T00:00:00Z", "1970-01-00T00:00:00Z", "1970-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z", "1970-04-31T00:00:00Z", "1970-01-01T24:00:00Z",
        "1970-01-01T00:60:00Z", "1970-01-01T00:00:61Z", "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00:00Zx", " 1970-01-01T00:00:00Z", "1970-01-01T00:00:00+24:00",
        "1970-01-01T00:00:00+0100", "1970-01-01T00:00:00+01", "10000-01-01T00:00:00Z",
        "+294247-01-10T04:00:54.775808Z", "-290308-12-21T19:59:05.224191Z",
        "+999999-01-01T00:00:00Z", "0/16B3748", "+-001-01-01T00:00:00Z"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t us = 42;
        if (clock_parse_us(str_from(cases[i]), &us) || us != 42) {
            fail_msg("accepted: %s", cases[i]);
        }
    }
}

static void
test_every_truncation_is_refused(void **state)
{
    (void)state;
    static const char whole[] = "2026-11-22T10:00:00.123456+02:00";
    for (size_t n = 0; n < sizeof whole - 1; n++) {
        int64_t us;
        char *copy = malloc(n == 0 ? 1 : n); /* so that the sanitizer sees a read beyond it */
        memcpy(copy, whole, n);
        assert_false(clock_parse_us((struct str){.p = copy, .n = n}, &us));
        free(copy);
    }
}

static void
test_clocks_run(void **state)
{
    (void)state;
    int64_t before = clock_mono_us(), wall = clock_wall_us();
    clock_sleep_ms(5);
    clock_sleep_ms(-1);
    assert_true(clock_mono_us() - before >= 5000);
    assert_true(clock_mono_ms() >= before / 1000);
    assert_true(wall > INT64_C(1700000000000000));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_pairs_both_ways),
        cmocka_unit_test(test_every_day_of_800_years_round_trips_in_order),
        cmocka_unit_test(test_accepted_spellings),
        cmocka_unit_test(test_refused_texts),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_clocks_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
