/* Filling, prefixing and classing of errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "proto/base/err.h"

static void
test_set_fills_everything(void **state)
{
    (void)state;
    struct err e;
    assert_int_equal(err_set_sys(&e, ERR_NOSPACE, ENOSPC, "cannot write %s", "x"), ERR_NOSPACE);
    int line = __LINE__ - 1;
    assert_int_equal(e.code, ERR_NOSPACE);
    assert_int_equal(e.sys, ENOSPC);
    assert_string_equal(e.msg, "cannot write x: No space left on device");
    assert_string_equal(e.file, __FILE__);
    assert_int_equal(e.line, line);
    assert_int_equal(err_set(NULL, ERR_BUSY, "nobody reads this"), ERR_BUSY);
}

static void
test_message_may_quote_itself(void **state)
{
    (void)state;
    struct err e;
    (void)err_set(&e, ERR_IO, "inner");
    (void)err_set(&e, ERR_CLOSED, "outer (%s)", e.msg);
    assert_string_equal(e.msg, "outer (inner)");
    assert_int_equal(err_prefix(&e, "file %d of %s", 7, e.msg), ERR_CLOSED);
    assert_string_equal(e.msg, "file 7 of outer (inner): outer (inner)");
}

static void
test_long_messages_are_cut_and_terminated(void **state)
{
    (void)state;
    struct err e;
    char text[2000];
    memset(text, 'a', sizeof text);
    for (size_t n = sizeof e.msg - 10; n < sizeof e.msg + 10; n++) {
        (void)err_set_sys(&e, ERR_IO, EIO, "%.*s", (int)n, text);
        assert_true(strlen(e.msg) < sizeof e.msg);
        (void)err_set(&e, ERR_IO, "tail");
        (void)err_prefix(&e, "%.*s", (int)n, text);
        size_t whole = n + strlen(": tail"), len = strlen(e.msg);
        assert_true(len == whole || (len >= sizeof e.msg - 3 && len < sizeof e.msg));
        (void)err_set(&e, ERR_IO, "%.*s", (int)n, text);
        (void)err_prefix(&e, "head");
        assert_memory_equal(e.msg, "head: aaa", 9);
        assert_int_equal(strlen(e.msg), n + 6 < sizeof e.msg ? n + 6 : sizeof e.msg - 1);
    }
}

static void
test_codes_have_class_name_and_text(void **state)
{
    (void)state;
    const struct {
        int code;
        enum err_class class;
        const char *name;
    } cases[] = {
        {0, ERR_CLASS_NONE, "OK"},
        {ERR_IO, ERR_CLASS_FATAL, "IO"},
        {ERR_NOSPACE, ERR_CLASS_RETRY, "NOSPACE"},
        {ERR_CORRUPT, ERR_CLASS_STOP, "CORRUPT"},
        {ERR_GONE, ERR_CLASS_REJECT, "GONE"},
        {ERR_BUG, ERR_CLASS_BUG, "BUG"},
        {1, ERR_CLASS_BUG, "BUG"},
        {-ERR_INDEX_END, ERR_CLASS_BUG, "BUG"},
        {INT32_MIN, ERR_CLASS_BUG, "BUG"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(err_class(cases[i].code), cases[i].class);
        assert_string_equal(err_name(cases[i].code), cases[i].name);
    }
    for (int i = 1; i < ERR_INDEX_END; i++) {
        assert_true(strlen(err_text(-i)) > 0);
        assert_int_not_equal(err_class(-i), ERR_CLASS_NONE);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_fills_everything),
        cmocka_unit_test(test_message_may_quote_itself),
        cmocka_unit_test(test_long_messages_are_cut_and_terminated),
        cmocka_unit_test(test_codes_have_class_name_and_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
