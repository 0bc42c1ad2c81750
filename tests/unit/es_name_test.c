/* es_name: a column's field, injective, in names that Elasticsearch takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base/json.h"
#include "sinks/elasticsearch/es_name.h"

static void
test_names(void **state)
{
    static const struct {
        const char *column, *field;
    } cases[] = {{"id", "id"}, {"User Name", "User Name"}, {"_own", "_own"}, {"_id", "%5Fid"},
        {"_source", "%5Fsource"}, {"_ID", "_ID"}, {"a.b", "a%2Eb"}, {".a", "%2Ea"},
        {"..", "%2E%2E"}, {"100%", "100%25"}, {"%5Fid", "%255Fid"}, {" ", "%20"},
        {"   ", "%20  "}, {" a", " a"}, {"a\nb", "a%0Ab"}, {"\xc3\xa4", "\xc3\xa4"},
        {"\xff", "%FF"}, {"a\"b", "a\"b"}, {"type", "type"}, {"*", "*"}};
    struct buf auto_buf b;
    (void)state;
    buf_init(&b, SIZE_MAX);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf_reset(&b, SIZE_MAX);
        es_name_put(&b, str_from(cases[i].column));
        assert_string_equal(buf_cstr(&b), cases[i].field);
    }
    buf_reset(&b, SIZE_MAX);
    es_name_put_json(&b, STR("a\"b."));
    assert_string_equal(buf_cstr(&b), "\"a\\\"b%2E\"");
}

static void
undo(struct buf *b, struct str field)
{
    for (size_t i = 0; i < field.n; i++) {
        if (field.p[i] == '%') {
            assert_true(i + 2 < field.n);
            buf_putc(
                b, (char)(str_hex_digit(field.p[i + 1]) << 4 | str_hex_digit(field.p[i + 2])));
            i += 2;
        } else {
            buf_putc(b, field.p[i]);
        }
    }
}

static void
test_every_name_can_be_read_back(void **state)
{
    static const char alphabet[] = "_id. %5F\xc3\xa9\xff\n\"ab";
    struct buf auto_buf b, auto_buf back;
    (void)state;
    buf_init(&b, SIZE_MAX);
    buf_init(&back, SIZE_MAX);
    srandom(3);
    for (unsigned round = 0; round < 20000; round++) {
        char name[8];
        size_t n = 1 + (size_t)random() % sizeof name;
        for (size_t i = 0; i < n; i++) {
            name[i] = alphabet[(size_t)random() % (sizeof alphabet - 1)];
        }
        buf_reset(&b, SIZE_MAX);
        buf_reset(&back, SIZE_MAX);
        es_name_put(&b, (struct str){.p = name, .n = n});
        assert_true(json_is_utf8(buf_str(&b)));
        undo(&back, buf_str(&b));
        assert_int_equal(back.n, n);
        assert_memory_equal(back.p, name, n);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_every_name_can_be_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
