/* glob: which tables a pattern selects, and which patterns are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/glob.h"

static void
matches(void **state)
{
    static const struct {
        const char *pattern, *schema, *table;
        bool is_match;
    } rows[] = {
        {"fabric.user_data", "fabric", "user_data", true},
        {"fabric.user_data", "fabric", "user_dat", false},
        {"fabric.user_data", "fabric", "user_data2", false},
        {"fabric.user_data", "Fabric", "user_data", false},
        {"user_data", "public", "user_data", true},
        {"user_data", "fabric", "user_data", false},
        {"*", "public", "anything", true},
        {"*", "fabric", "anything", false},
        {"*.*", "fabric", "anything", true},
        {"fabric.*", "fabric", "", true},
        {"fabric.user_*", "fabric", "user_", true},
        {"fabric.*_data", "fabric", "user_data", true},
        {"fabric.*_data", "fabric", "user_data_old", false},
        {"fabric.*a*b*c", "fabric", "xaxxbxxabc", true},
        {"fabric.*a*b*c", "fabric", "xaxxcxx", false},
        {"fabric.**x**", "fabric", "x", true},
        {"fab?ic.t?", "fabric", "t1", true},
        {"fab?ic.t?", "fabric", "t", false},
        {"fabric.t?", "fabric", "t12", false},
        {"*.t", "a.b", "t", true},
        {"a?b.t", "a.b", "t", true},
        /* one character, however many bytes */
        {"s.?", "s", "\xc3\xa4", true},
        {"s.??", "s", "\xc3\xa4", false},
        {"s.?", "s", "\xe2\x82\xac", true},
        {"s.*?", "s", "\xe2\x82\xac", true},
        {"s.*??", "s", "\xe2\x82\xac", false},
        {"s.\xc3\xa4*", "s", "\xc3\xa4\xc3\xb6", true},
        {"s.[ab]", "s", "a", false},
        {"s.[ab]", "s", "[ab]", true},
        {"s.a\\*", "s", "a*", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool is_match = glob_match_table(
            str_from(rows[i].pattern), str_from(rows[i].schema), str_from(rows[i].table));
        if (is_match != rows[i].is_match) {
            fail_msg("%s against %s.%s", rows[i].pattern, rows[i].schema, rows[i].table);
        }
    }
}

static void
long_patterns_of_stars_end(void **state)
{
    char pattern[256], table[4096];

    (void)state;
    for (size_t i = 0; i < sizeof pattern; i++) {
        pattern[i] = i % 2 == 0 ? '*' : 'a';
    }
    memset(table, 'a', sizeof table);
    table[sizeof table - 1] = 'b';
    assert_false(glob_match_table((struct str){.p = pattern, .n = sizeof pattern},
        STR("public"), (struct str){.p = table, .n = sizeof table}));
    assert_true(glob_match_table((struct str){.p = pattern, .n = sizeof pattern}, STR("public"),
        (struct str){.p = table, .n = sizeof table - 1}));
}

static void
any_of_several(void **state)
{
    (void)state;
    const struct str patterns[] = {STR("shop.*"), STR("t")};
    assert_true(glob_match_any(patterns, 2, STR("shop"), STR("item")));
    assert_true(glob_match_any(patterns, 2, STR("public"), STR("t")));
    assert_false(glob_match_any(patterns, 1, STR("public"), STR("t")));
    assert_false(glob_match_any(patterns, 0, STR("shop"), STR("item")));
}

static void
checks(void **state)
{
    static const struct {
        const char *pattern, *says; /* says NULL: good */
    } rows[] = {
        {"t", NULL},
        {"*", NULL},
        {"s.t", NULL},
        {"*.*", NULL},
        {"Sch\xc3\xa4ma.Tab elle", NULL},
        {"", "empty"},
        {".", "lacks a name"},
        {"s.", "lacks a name"},
        {".t", "lacks a name"},
        {"a.b.c", "more than one dot"},
        {"a..c", "more than one dot"},
        {"a\nb", "control character"},
        {"a\x7f", "control character"},
    };
    char big[257];
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int rc = glob_check(str_from(rows[i].pattern), &e);
        assert_int_equal(rc, rows[i].says == NULL ? 0 : ERR_PARSE);
        if (rows[i].says != NULL) {
            assert_non_null(strstr(e.msg, rows[i].says));
        }
    }
    memset(big, 'a', sizeof big);
    assert_int_equal(glob_check((struct str){.p = big, .n = 256}, &e), 0);
    assert_int_equal(glob_check((struct str){.p = big, .n = 257}, &e), ERR_PARSE);
}

static void
finds_wildcards(void **state)
{
    (void)state;
    assert_true(glob_has_wildcard(STR("public.*")));
    assert_true(glob_has_wildcard(STR("?")));
    assert_false(glob_has_wildcard(STR("public.t")));
    assert_false(glob_has_wildcard(STR("")));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches),
        cmocka_unit_test(long_patterns_of_stars_end),
        cmocka_unit_test(any_of_several),
        cmocka_unit_test(checks),
        cmocka_unit_test(finds_wildcards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
