/* es_json: what `json` allows and Elasticsearch does not, made as jsonb would have it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sinks/elasticsearch/es_json.h"
#include "sinks/elasticsearch/es_scan.h"

static void
assert_json(const char *text, const char *want)
{
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    buf_puts(&b, "before");
    assert_int_equal(es_json_put(&b, str_from(text)), want != NULL);
    assert_memory_equal(b.p, "before", 6);
    assert_string_equal(buf_cstr(&b) + 6, want == NULL ? "" : want);
}

static void
test_values_keep_their_text_on_one_line(void **state)
{
    (void)state;
    assert_json(" {\n \"b\" : [ 1 ,\t2.50 , -0, 1E+5 , {} , [ ] ] ,\r\n\"a\":\"x y\\n\" } ",
        "{\"b\":[1,2.50,-0,1E+5,{},[]],\"a\":\"x y\\n\"}");
    assert_json("123456789012345678901234567890.10", "123456789012345678901234567890.10");
    assert_json(" null ", "null");
    assert_json("\"\\u0000\"", "\"\\u0000\"");
    assert_json("[[[[\"a\"]],true],false]", "[[[[\"a\"]],true],false]");
}

static void
test_last_of_repeated_keys_counts(void **state)
{
    (void)state;
    assert_json("{\"a\":1,\"a\":2}", "{\"a\":2}");
    assert_json("{\"a\":1,\"b\":2,\"a\":3,\"c\":4}", "{\"b\":2,\"a\":3,\"c\":4}");
    assert_json("{\"a\":1,\"b\":0,\"a\":2,\"a\":[{\"x\":1,\"x\":2},3]}",
        "{\"b\":0,\"a\":[{\"x\":2},3]}");
    assert_json("{\"o\":{\"a\":1,\"a\":2},\"o\":{\"a\":3},\"p\":{\"a\":1}}",
        "{\"o\":{\"a\":3},\"p\":{\"a\":1}}");
    /* compared as what they stand for */
    assert_json("{\"a\":1,\"\\u0061\":2}", "{\"a\":2}");
    assert_json("{\"\\/\":1,\"/\":2}", "{\"/\":2}");
    assert_json("{\"\":1,\"\":2}", "{\"\":2}");
    assert_json("{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":2}", "{\"\xf0\x9f\x98\x80\":2}");
    assert_json("{\"\\u0000\":1,\"\\u0000\":2}", "{\"\\u0000\":2}");
}

static void
test_many_repeated_keys(void **state)
{
    enum { N = 1000, DIFFERENT = 300 };
    struct buf auto_buf text, auto_buf want, auto_buf got;
    (void)state;
    buf_init(&text, SIZE_MAX);
    buf_init(&want, SIZE_MAX);
    buf_init(&got, SIZE_MAX);
    for (int i = 0; i < N; i++) {
        buf_printf(&text, "%s\"k%d\":[%d]", i == 0 ? "{" : ",", i * 7 % DIFFERENT, i);
        if (i >= N - DIFFERENT) {
            buf_printf(
                &want, "%s\"k%d\":[%d]", i == N - DIFFERENT ? "{" : ",", i * 7 % DIFFERENT, i);
        }
    }
    buf_puts(&text, "}");
    buf_puts(&want, "}");
    assert_true(es_json_put(&got, buf_str(&text)));
    assert_string_equal(buf_cstr(&got), buf_cstr(&want));
}

static void
test_lone_surrogates_are_replaced(void **state)
{
    (void)state;
    assert_json("\"\\ud800\"", "\"\\ufffd\"");
    assert_json("\"\\uDC00x\"", "\"\\ufffdx\"");
    assert_json("\"\\ud83d\\ude00\"", "\"\\ud83d\\ude00\"");
    assert_json("\"\\ud83d\\ud83d\\ude00\"", "\"\\ufffd\\ud83d\\ude00\"");
    assert_json("\"\\\\ud800\"", "\"\\\\ud800\""); /* a backslash and letters */
    assert_json("{\"\\ud800\":\"a\\udfffb\"}", "{\"\xef\xbf\xbd\":\"a\\ufffdb\"}");
}

static void
test_what_is_not_json_appends_nothing(void **state)
{
    static const char *const bad[] = {"", " ", "{", "[1", "[1,]", "{\"a\"}", "{\"a\":}",
        "{\"a\":1,}", "{a:1}", "01", "1.", "-", "1e", "tru", "\"", "\"\\x\"", "\"\\u12\"",
        "\"a\nb\"", "1 2", "[1}", "{\"a\":1]", "]", "nan", "{\"a\":1}}"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct str raw;
        struct es_scan sc = es_scan_of(str_from(bad[i]));
        assert_json(bad[i], NULL);
        assert_false(es_scan_value(&sc, &raw) && es_scan_end(&sc));
    }
}

static void
put_deep(struct buf *b, size_t depth)
{
    buf_reset(b, SIZE_MAX);
    for (size_t i = 0; i < depth; i += 2) {
        buf_puts(b, i + 1 < depth ? "{\"]\\\"[\":[" : "[");
    }
    buf_puts(b, depth % 2 == 1 ? "]" : "");
    for (size_t i = 0; i + 1 < depth; i += 2) {
        buf_puts(b, "]}");
    }
}

static void
test_depth_is_limited(void **state)
{
    struct buf auto_buf text, auto_buf got;
    struct str raw;
    (void)state;
    buf_init(&text, SIZE_MAX);
    buf_init(&got, SIZE_MAX);
    put_deep(&text, ES_JSON_DEPTH_MAX - 1);
    assert_true(es_json_put(&got, buf_str(&text)));
    assert_true(str_eq(buf_str(&got), buf_str(&text)));
    assert_false(es_json_is_too_deep(buf_str(&text)));
    put_deep(&text, ES_JSON_DEPTH_MAX + 1);
    buf_reset(&got, SIZE_MAX);
    assert_false(es_json_put(&got, buf_str(&text)));
    assert_true(es_json_is_too_deep(buf_str(&text)));
    assert_int_equal(got.n, 0);
    put_deep(
        &text, 2 * ES_SCAN_DEPTH_MAX); /* an answer so deep is refused, without recursion */
    struct es_scan sc = es_scan_of(buf_str(&text));
    assert_false(es_scan_value(&sc, &raw));
    put_deep(&text, ES_SCAN_DEPTH_MAX);
    sc = es_scan_of(buf_str(&text));
    assert_true(es_scan_value(&sc, &raw) && es_scan_end(&sc));
}

static void
test_brackets_side_by_side_are_not_deep(void **state)
{
    struct buf auto_buf text;
    (void)state;
    buf_init(&text, SIZE_MAX);
    buf_putc(&text, '[');
    for (int i = 0; i < 3000; i++) {
        buf_puts(&text, i == 0 ? "[{}]" : ",\"[[\\\"[[\",[{}]");
    }
    buf_putc(&text, ']');
    assert_false(es_json_is_too_deep(buf_str(&text)));
}

static void
test_full_buffer_fails(void **state)
{
    (void)state;
    const char *text = "{\"a\":[1,{\"b\":\"c\\n\",\"b\":2}],\"a\":null}";
    struct buf auto_buf whole;
    buf_init(&whole, SIZE_MAX);
    assert_true(es_json_put(&whole, str_from(text)));
    for (size_t max = 0; max < strlen(text); max++) {
        struct buf auto_buf b;
        buf_init(&b, max);
        bool is_ok = es_json_put(&b, str_from(text));
        assert_int_equal(is_ok, !b.failed);
        if (is_ok) {
            assert_true(str_eq(buf_str(&b), buf_str(&whole)));
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_keep_their_text_on_one_line),
        cmocka_unit_test(test_last_of_repeated_keys_counts),
        cmocka_unit_test(test_many_repeated_keys),
        cmocka_unit_test(test_lone_surrogates_are_replaced),
        cmocka_unit_test(test_what_is_not_json_appends_nothing),
        cmocka_unit_test(test_depth_is_limited),
        cmocka_unit_test(test_brackets_side_by_side_are_not_deep),
        cmocka_unit_test(test_full_buffer_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
