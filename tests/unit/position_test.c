/* position: the grammar of interface.md, both ways. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/position.h"

static const struct {
    const char *text;
    struct position p;
    const char *back; /* NULL: the same */
} good[] = {
    {"earliest", {.kind = POSITION_EARLIEST}, NULL},
    {"latest", {.kind = POSITION_LATEST}, NULL},
    {"0", {.kind = POSITION_OFFSET}, NULL},
    {"007", {.kind = POSITION_OFFSET, .offset = 7}, "7"},
    {"1882345678901234", {.kind = POSITION_OFFSET, .offset = 1882345678901234}, NULL},
    {"18446744073709551615", {.kind = POSITION_OFFSET, .offset = UINT64_MAX}, NULL},
    {"0/16B3748", {.kind = POSITION_LSN, .lsn = 0x16B3748}, NULL},
    {"a/b", {.kind = POSITION_LSN, .lsn = UINT64_C(0xA0000000B)}, "A/B"},
    {"2:0/16B3748", {.kind = POSITION_LSN, .lsn = 0x16B3748, .has_epoch = true, .epoch = 2},
        NULL},
    {"1970-01-01T00:00:00Z", {.kind = POSITION_TIME}, "1970-01-01T00:00:00.000000Z"},
    {"2026-11-22T10:00:00.5Z", {.kind = POSITION_TIME, .time_us = 1795341600500000},
        "2026-11-22T10:00:00.500000Z"},
    {"2026-11-22T12:00:00+02:00", {.kind = POSITION_TIME, .time_us = 1795341600000000},
        "2026-11-22T10:00:00.000000Z"},
    {"9999-12-31T23:59:59.999999Z",
        {.kind = POSITION_TIME, .time_us = INT64_C(253402300799999999)}, NULL},
};

static void
parses_and_formats(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct position p;
        struct err e;
        auto_buf struct buf b;
        buf_init(&b, 100);
        assert_int_equal(position_parse(str_from(good[i].text), &p, &e), 0);
        assert_int_equal(p.kind, good[i].p.kind);
        assert_true(p.offset == good[i].p.offset);
        assert_true(p.lsn == good[i].p.lsn);
        assert_int_equal(p.has_epoch, good[i].p.has_epoch);
        assert_true(p.epoch == good[i].p.epoch);
        assert_true(p.time_us == good[i].p.time_us);
        position_format(&b, &p);
        assert_string_equal(buf_cstr(&b), good[i].back == NULL ? good[i].text : good[i].back);
    }
}

static void
refuses_with_the_grammar(void **state)
{
    static const char *const rows[] = {"", " ", "Earliest", "earlies", "latest ", "-1", "+1",
        "1.5", "18446744073709551616", "99999999999999999999999", "0/", "/0", "0/123456789",
        ":0/0", "x:0/0", "1:", "1:2:0/0", "-1:0/0", "2026-11-22", "2026-11-22T10:00:00",
        "2026-13-22T10:00:00Z", "9999-12-31T23:59:59-14:00", "10000-01-01T00:00:00Z", "now"};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct position p = {.offset = 77};
        struct err e;
        if (position_parse(str_from(rows[i]), &p, &e) != ERR_PARSE) {
            fail_msg("`%s` was taken", rows[i]);
        }
        assert_true(p.offset == 77);
        assert_non_null(strstr(e.msg, "a position is `earliest`, `latest`, an offset"));
    }
    assert_int_equal(position_parse((struct str){0}, &(struct position){0}, NULL), ERR_PARSE);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_and_formats),
        cmocka_unit_test(refuses_with_the_grammar),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
