/* dsn: no password is shown, whatever the form; what is neither form is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/dsn.h"

static void
masks(void **state)
{
    static const struct {
        const char *dsn, *shown; /* shown NULL: neither form */
    } rows[] = {
        {"host=127.0.0.1 dbname=app", "host=127.0.0.1 dbname=app"},
        {"user=u password=hush dbname=app", "user=u password=******** dbname=app"},
        {"  password = 'hu sh\\'x'  user = u ", "password=******** user=u"},
        {"password='' user=u", "password=******** user=u"},
        {"password=hu\\ sh user=u", "password=******** user=u"},
        {"password=", "password=********"},
        {"sslpassword=hush", "sslpassword=********"},
        {"PASSWORD=hush", "PASSWORD=********"},
        {"passfile=/x user='a b'", "passfile=/x user='a b'"},
        {"", NULL},
        {" \n", NULL},
        {"app", NULL},
        {"host=h app", NULL},
        {"=hush", NULL},
        {" postgresql://u:hush@h/app?sslmode=require", NULL},
        {"user=u pass;hush=x", NULL},
        {"password='hush", NULL},
        {"postgresql://", "postgresql://"},
        {"postgresql://h/app", "postgresql://h/app"},
        {"postgresql://h:5432/app?sslmode=require", "postgresql://h:5432/app?sslmode=require"},
        {"postgres://u@h/app", "postgres://u@h/app"},
        {"postgresql://u:hush@h/app", "postgresql://u:********@h/app"},
        {"postgresql://u:hu@s/h?x@h/app", "postgresql://u:********@h/app"},
        {"postgresql://:hush@h", "postgresql://:********@h"},
        {"postgresql://h/app?user=u&password=hush&sslpassword=hush",
            "postgresql://h/app?user=u&password=********&sslpassword=********"},
        {"postgresql://h/app?p%61ssword=hush", "postgresql://h/app?p%61ssword=********"},
        {"postgresql://u:hush@h/app?password=hush&%&a",
            "postgresql://u:********@h/app?password=********&%=********&a"},
        {"mysql://u:hush@h/app", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        auto_buf struct buf b;
        size_t n = strlen(rows[i].dsn);
        buf_init(&b, 6 * n + 16);
        assert_int_equal(dsn_mask(&b, str_from(rows[i].dsn)), rows[i].shown != NULL);
        assert_true(buf_ok(&b));
        if (rows[i].shown != NULL) {
            assert_string_equal(buf_cstr(&b), rows[i].shown);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(masks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
