/* es_index: names that Elasticsearch takes, and what they cannot be confused with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sinks/elasticsearch/es_index.h"

static void
assert_alias(const char *tmpl, const char *schema, const char *table, const char *want)
{
    struct buf auto_buf b;
    struct err e;
    buf_init(&b, SIZE_MAX);
    assert_int_equal(es_index_check_template(str_from(tmpl), &e), 0);
    assert_int_equal(
        es_index_put_alias(&b, str_from(tmpl), str_from(schema), str_from(table), &e), 0);
    assert_string_equal(buf_cstr(&b), want);
}

static void
test_aliases(void **state)
{
    static const struct {
        const char *tmpl, *schema, *table, *want;
    } cases[] = {
        {"{schema}.{table}", "fabric", "user_data", "fabric.user_data"},
        {"{schema}.{table}", "Shop", "Item", "shop.item"},
        {"Prod-{table}", "s", "T", "prod-t"},
        {"{table}", "s", "a b", "a%20b"},
        {"{table}", "s", "a/b\\c*d?e\"f<g>h|i,j#k:l%m",
            "a%2fb%5cc%2ad%3fe%22f%3cg%3eh%7ci%2cj%23k%3al%25m"},
        {"{table}", "s", "a\nb\x7f", "a%0ab%7f"},
        {"{table}", "s", "_hidden", "%5fhidden"},
        {"{table}", "s", "-x", "%2dx"},
        {"{table}", "s", "+x", "%2bx"},
        {"{table}", "s", "..", "%2e."},
        {"{schema}.{table}", ".s", "t", "%2es.t"},
        /* not what Elasticsearch's own lower case would change */
        {"{table}", "s", "\xc3\x84pfel", "\xc3\xa4pfel"},                         /* Äpfel */
        {"{table}", "s", "\xd0\x9c\xd0\xb8\xd1\x80", "\xd0\xbc\xd0\xb8\xd1\x80"}, /* Мир */
        {"{table}", "s", "\xe8\xa1\xa8", "\xe8\xa1\xa8"},                         /* 表 */
        {"{table}", "s", "\xc4\xb0x", "%c4%b0x"},                                 /* İx */
        {"{table}", "s", "\xff", "%ff"},
        /* what another table's generation is called */
        {"{table}", "s", "t-000001", "t%2d000001"},
        {"{table}", "s", "t-12345", "t-12345"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_alias(cases[i].tmpl, cases[i].schema, cases[i].table, cases[i].want);
    }
}

static void
test_bad_templates_say_why(void **state)
{
    static const char *const bad[] = {
        "", "_x", "-x", ".x", "+{table}", "{db}", "{schema", "a b", "a/b", "a%b", "\xc3\xa4"};
    struct err e;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(es_index_check_template(str_from(bad[i]), &e), ERR_CONFIG);
        assert_non_null(strstr(e.msg, "index"));
    }
}

static void
test_too_long_is_refused_and_nothing_appended(void **state)
{
    char name[64], longer[241];
    struct buf auto_buf b;
    struct err e;
    (void)state;
    buf_init(&b, SIZE_MAX);
    memset(name, '*', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(
        es_index_put_alias(&b, STR("{schema}.{table}"), str_from(name), str_from(name), &e),
        ERR_CONFIG);
    assert_int_equal(b.n, 0);
    memset(longer, 'x', sizeof longer);
    assert_int_equal(
        es_index_check_template((struct str){.p = longer, .n = sizeof longer}, &e), ERR_CONFIG);
    /* The longest alias leaves room for a generation. */
    buf_put(&b, longer, ES_INDEX_ALIAS_MAX);
    struct buf auto_buf index;
    buf_init(&index, SIZE_MAX);
    es_index_put_generation(&index, buf_str(&b), 999999999);
    assert_true(index.n <= ES_INDEX_NAME_MAX);
}

static void
test_generations(void **state)
{
    static const struct {
        const char *alias, *index;
        uint64_t want;
    } cases[] = {{"a.b", "a.b-000001", 1}, {"a.b", "a.b-123456", 123456},
        {"a.b", "a.b-1234567", 1234567}, {"a.b", "a.b-0000001", 0}, {"a.b", "a.b-00001", 0},
        {"a.b", "a.b", 0}, {"a.b", "a.b-", 0}, {"a.b", "a.c-000001", 0},
        {"a.b", "a.b-x-000001", 0}, {"a.b", "a.b-000000", 0},
        {"a.b", "a.b-99999999999999999999999", 0}, {"a.b", "a.b-00000a", 0}};
    struct buf auto_buf b;
    (void)state;
    buf_init(&b, SIZE_MAX);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(
            es_index_generation(str_from(cases[i].alias), str_from(cases[i].index)),
            cases[i].want);
        if (cases[i].want > 0) {
            buf_reset(&b, SIZE_MAX);
            es_index_put_generation(&b, str_from(cases[i].alias), cases[i].want);
            assert_string_equal(buf_cstr(&b), cases[i].index);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_bad_templates_say_why),
        cmocka_unit_test(test_too_long_is_refused_and_nothing_appended),
        cmocka_unit_test(test_generations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
