/* sql: names and texts that try to leave their quotes, and what each SQLSTATE means to us. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/err.h"
#include "replicator/sql.h"

static void
test_quotes(void **state)
{
    (void)state;
    static const struct {
        const char *in, *ident, *literal;
    } cases[] = {
        {"oneslot", "\"oneslot\"", "'oneslot'"},
        {"", "\"\"", "''"},
        {"a\"b", "\"a\"\"b\"", "'a\"b'"},
        {"a'b", "\"a'b\"", "'a''b'"},
        {"'); DROP TABLE t; --", "\"'); DROP TABLE t; --\"", "'''); DROP TABLE t; --'"},
        {"back\\slash", "\"back\\slash\"", "'back\\slash'"},
        {"\"\"", "\"\"\"\"\"\"", "'\"\"'"},
        {"Größe", "\"Größe\"", "'Größe'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        auto_buf struct buf ident, literal;
        buf_init(&ident, 100);
        buf_init(&literal, 100);
        sql_put_ident(&ident, str_from(cases[i].in));
        sql_put_literal(&literal, str_from(cases[i].in));
        assert_string_equal(buf_cstr(&ident), cases[i].ident);
        assert_string_equal(buf_cstr(&literal), cases[i].literal);
    }
}

static void
test_table(void **state)
{
    (void)state;
    auto_buf struct buf b;
    buf_init(&b, 100);
    sql_put_table(&b, STR("my schema"), STR("Ta.ble"));
    assert_string_equal(buf_cstr(&b), "\"my schema\".\"Ta.ble\"");
}

/* A NUL would end the statement for libpq and hide the rest of it. */
static void
test_nul_fails(void **state)
{
    (void)state;
    auto_buf struct buf ident, literal;
    buf_init(&ident, 100);
    buf_init(&literal, 100);
    sql_put_ident(&ident, STR("a\0b"));
    sql_put_literal(&literal, STR("a\0b"));
    assert_false(buf_ok(&ident));
    assert_false(buf_ok(&literal));
}

static void
test_states(void **state)
{
    (void)state;
    static const struct {
        const char *sqlstate;
        int code;
        enum err_class class;
    } cases[] = {
        {"28P01", ERR_AUTH, ERR_CLASS_STOP}, {"28000", ERR_AUTH, ERR_CLASS_STOP},
        {"42501", ERR_AUTH, ERR_CLASS_STOP}, {"3D000", ERR_CONFIG, ERR_CLASS_STOP},
        {"53300", ERR_BUSY, ERR_CLASS_RETRY}, {"53100", ERR_BUSY, ERR_CLASS_RETRY},
        {"53400", ERR_REFUSED, ERR_CLASS_STOP}, {"55006", ERR_BUSY, ERR_CLASS_RETRY},
        {"55000", ERR_REFUSED, ERR_CLASS_STOP}, {"42704", ERR_REFUSED, ERR_CLASS_STOP},
        {"58P01", ERR_REFUSED, ERR_CLASS_STOP}, {"58030", ERR_BUSY, ERR_CLASS_RETRY},
        {"57P01", ERR_CLOSED, ERR_CLASS_RETRY}, {"57P02", ERR_CLOSED, ERR_CLASS_RETRY},
        {"57P03", ERR_CLOSED, ERR_CLASS_RETRY}, {"08006", ERR_CLOSED, ERR_CLASS_RETRY},
        {"54000", ERR_REFUSED, ERR_CLASS_STOP}, {"57014", ERR_TIMEOUT, ERR_CLASS_RETRY},
        {"42710", ERR_BUSY, ERR_CLASS_RETRY}, {"22023", ERR_REFUSED, ERR_CLASS_STOP},
        {"XX000", ERR_CLOSED, ERR_CLASS_RETRY}, {"XX001", ERR_REFUSED, ERR_CLASS_STOP},
        {"", ERR_CLOSED, ERR_CLASS_RETRY},
        {"99999", ERR_REFUSED, ERR_CLASS_STOP}, /* unknown: a person must look */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct sql_state *s = sql_state_find(cases[i].sqlstate);
        assert_int_equal(s->code, cases[i].code);
        assert_int_equal(err_class(s->code), cases[i].class);
        assert_true(s->advice[0] != '\0');
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quotes),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_nul_fails),
        cmocka_unit_test(test_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
