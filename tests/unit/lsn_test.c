/* lsn: text to number and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/lsn.h"

static void
parses_and_formats(void **state)
{
    static const struct {
        const char *text;
        uint64_t lsn;
        const char *back;
    } rows[] = {
        {"0/0", 0, "0/0"},
        {"0/16B3748", 0x16B3748, "0/16B3748"},
        {"16/b374d848", UINT64_C(0x16B374D848), "16/B374D848"},
        {"00000001/00000002", UINT64_C(0x100000002), "1/2"},
        {"FFFFFFFF/FFFFFFFF", UINT64_MAX, "FFFFFFFF/FFFFFFFF"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t lsn = 1;
        char text[LSN_TEXT_MAX];
        assert_true(lsn_parse(str_from(rows[i].text), &lsn));
        assert_true(lsn == rows[i].lsn);
        assert_int_equal(lsn_format(lsn, text), strlen(rows[i].back));
        assert_string_equal(text, rows[i].back);
    }
}

static void
refuses_what_is_not_one(void **state)
{
    static const char *const rows[] = {"", "/", "0/", "/0", "0", "0/0/0", "0x1/0",
        "0/123456789", "123456789/0", " 0/0", "0/0 ", "-1/0", "0/+1", "G/0", "0/g", "0//0"};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t lsn = 77;
        assert_false(lsn_parse(str_from(rows[i]), &lsn));
        assert_true(lsn == 77);
    }
    assert_false(lsn_parse((struct str){0}, &(uint64_t){0}));
    assert_false(lsn_parse((struct str){.p = "0/0\0", .n = 4}, &(uint64_t){0}));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_and_formats),
        cmocka_unit_test(refuses_what_is_not_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
