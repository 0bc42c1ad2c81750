/* The writer against a naive one written here, and against jansson; the reader against hostile
 * text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>

#include "proto/base/json.h"

/* Memory of exactly n bytes at the given misalignment, so that the sanitizer sees any access
 * beyond. */
struct exact {
    char *base, *p;
};

static struct exact
exact_copy(const char *from, size_t n, size_t misalign)
{
    struct exact x;
    x.base = malloc(n + misalign + (n + misalign == 0));
    x.p = x.base + misalign;
    if (n > 0) {
        memcpy(x.p, from, n);
    }
    return x;
}

/* The rule itself, byte by byte. */
static void
put_naively(struct buf *b, struct str s)
{
    buf_putc(b, '"');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        const char *shorts = "\"\"\\\\\bb\ff\nn\rr\tt", *at = shorts;
        while (*at != 0 && (unsigned char)*at != c) {
            at += 2;
        }
        if (*at != 0 && c != 0) {
            buf_putc(b, '\\');
            buf_putc(b, at[1]);
        } else if (c < 0x20 || c == 0x7f) {
            buf_printf(b, "\\u%04x", c);
        } else {
            buf_putc(b, (char)c);
        }
    }
    buf_putc(b, '"');
}

/* Writes s into a roomy buffer, into one of exactly enough room, and into one that is a byte
 * short. */
static void
assert_string_written(struct str s)
{
    struct buf auto_buf want, auto_buf roomy, auto_buf tight, auto_buf small;
    buf_init(&want, SIZE_MAX);
    put_naively(&want, s);
    buf_init(&roomy, SIZE_MAX);
    assert_non_null(buf_room(&roomy, 4096));
    json_put_string(&roomy, s);
    assert_int_equal(roomy.n, want.n);
    assert_memory_equal(roomy.p, want.p, want.n);
    buf_init(&tight, want.n);
    json_put_string(&tight, s);
    assert_true(buf_ok(&tight));
    assert_int_equal(tight.n, want.n);
    assert_memory_equal(tight.p, want.p, want.n);
    buf_init(&small, want.n - 1);
    json_put_string(&small, s);
    assert_false(buf_ok(&small));
    assert_int_equal(small.n, 0);
}

static void
test_every_byte_at_every_place(void **state)
{
    (void)state;
    char text[64];
    for (size_t n = 1; n <= 64; n++) {
        for (size_t at = 0; at < n; at++) {
            memset(text, 'a', sizeof text);
            struct exact x = exact_copy(text, n, (n + at) % 16);
            struct buf auto_buf want, auto_buf got;
            buf_init(&want, SIZE_MAX);
            buf_init(&got, SIZE_MAX);
            for (unsigned c = 0; c < 256; c++) {
                x.p[at] = (char)c;
                put_naively(&want, (struct str){.p = x.p, .n = n});
                json_put_string(&got, (struct str){.p = x.p, .n = n});
            }
            assert_int_equal(got.n, want.n);
            assert_memory_equal(got.p, want.p, want.n);
            free(x.base);
        }
    }
}

static void
test_every_byte_at_every_alignment_and_length(void **state)
{
    (void)state;
    char text[64];
    for (size_t misalign = 0; misalign < 16; misalign++) {
        for (size_t n = 0; n <= 64; n++) {
            for (unsigned c = 0; c < 256; c += n == 0 ? 256 : 1) {
                memset(text, (int)c, sizeof text);
                struct exact x = exact_copy(text, n, misalign);
                struct buf auto_buf b;
                buf_init(&b, 2 + n * 6);
                json_put_string(&b, (struct str){.p = x.p, .n = n});
                assert_true(buf_ok(&b) && b.n >= n + 2 && b.p[0] == '"' && b.p[b.n - 1] == '"');
                assert_int_equal((b.n - 2) % (n == 0 ? 1 : n), 0);
                assert_true(n == 0 || memcmp(b.p + 1, b.p + 1 + (b.n - 2) / n * (n - 1),
                                          (b.n - 2) / n) == 0);
                free(x.base);
            }
        }
    }
}

static void
test_limits_are_exact(void **state)
{
    (void)state;
    assert_string_written(STR(""));
    assert_string_written(STR("plain"));
    assert_string_written(STR("0123456789abcdef0123456789abcdef"));
    assert_string_written(STR("\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1"));
    assert_string_written(STR("a\"b\\c\nd\x7f"
                              "e\0f and some more of it"));
    assert_string_written(STR("0123456789abcde\"\"0123456789abcde\n0123456789abcdef\\"));
}

static void
test_seams_of_random_texts(void **state)
{
    (void)state;
    uint32_t seed = 1;
    static const char alphabet[] = "aaaaaaaaaaaaaaaaaaaaaaaaaa\"\\\n\1\x7f\x80\xff";
    for (int round = 0; round < 20000; round++) {
        char text[100];
        size_t n = (seed = seed * 1664525 + 1013904223) >> 16, len = n % sizeof text;
        for (size_t i = 0; i < len; i++) {
            seed = seed * 1664525 + 1013904223;
            text[i] = alphabet[(seed >> 16) % (sizeof alphabet - 1)];
        }
        struct exact x = exact_copy(text, len, 0);
        struct buf auto_buf want, auto_buf got;
        buf_init(&want, SIZE_MAX);
        buf_init(&got, SIZE_MAX);
        put_naively(&want, (struct str){.p = x.p, .n = len});
        json_put_string(&got, (struct str){.p = x.p, .n = len});
        assert_true(str_eq(buf_str(&want), buf_str(&got)));
        free(x.base);
    }
}

static void
test_strings_read_back(void **state)
{
    (void)state;
    for (unsigned code = 1; code < 0x800; code++) {
        char text[3] = {(char)code};
        size_t n = 1;
        if (code >= 0x80) {
            text[0] = (char)(0xc0 | code >> 6);
            text[1] = (char)(0x80 | (code & 0x3f));
            n = 2;
        }
        struct buf auto_buf b;
        struct json *root;
        struct str back;
        struct err e;
        buf_init(&b, 100);
        json_put_string(&b, (struct str){.p = text, .n = n});
        assert_int_equal(json_parse(buf_str(&b), &root, &e), 0);
        assert_true(json_str(root, &back));
        assert_true(str_eq(back, (struct str){.p = text, .n = n}));
        json_free(root);
    }
}

static void
test_utf8(void **state)
{
    (void)state;
    const struct {
        struct str text;
        bool is_valid;
    } cases[] = {
        {STR(""), true},
        {STR("plain ascii, longer than eight"), true},
        {STR("\0"), true},
        {STR("\x7f"), true},
        {STR("\xc2\x80"), true},
        {STR("\xdf\xbf"), true},
        {STR("\xe0\xa0\x80"), true},
        {STR("\xed\x9f\xbf"), true},
        {STR("\xee\x80\x80"), true},
        {STR("\xef\xbf\xbf"), true},
        {STR("\xf0\x90\x80\x80"), true},
        {STR("\xf4\x8f\xbf\xbf"), true},
        {STR("1234567\xc3\xb6"), true},
        {STR("\x80"), false},
        {STR("\xbf"), false},
        {STR("\xc0\x80"), false},
        {STR("\xc1\xbf"), false},
        {STR("\xe0\x9f\xbf"), false},
        {STR("\xed\xa0\x80"), false},
        {STR("\xed\xbf\xbf"), false},
        {STR("\xf0\x8f\xbf\xbf"), false},
        {STR("\xf4\x90\x80\x80"), false},
        {STR("\xf5\x80\x80\x80"), false},
        {STR("\xff"), false},
        {STR("\xc3"), false},
        {STR("\xc3("), false},
        {STR("\xe2\x82"), false},
        {STR("\xe2(\xac"), false},
        {STR("\xf0\x9f\x98"), false},
        {STR("\xf0\x9f\x98("), false},
        {STR("1234567\xc3"), false},
        {STR("12345678\xff"), false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct exact x = exact_copy(cases[i].text.p, cases[i].text.n, i % 8);
        assert_int_equal(
            json_is_utf8((struct str){.p = x.p, .n = cases[i].text.n}), cases[i].is_valid);
        free(x.base);
    }
    assert_true(json_is_utf8((struct str){0}));
}

static void
test_base64(void **state)
{
    (void)state;
    const struct {
        struct str in;
        const char *out;
    } cases[] = {/* RFC 4648, 10 */
        {STR(""), "\"\""}, {STR("f"), "\"Zg==\""}, {STR("fo"), "\"Zm8=\""},
        {STR("foo"), "\"Zm9v\""}, {STR("foob"), "\"Zm9vYg==\""}, {STR("fooba"), "\"Zm9vYmE=\""},
        {STR("foobar"), "\"Zm9vYmFy\""}, {STR("\0\xff\xfe\xfb"), "\"AP/++w==\""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf auto_buf b, auto_buf small;
        buf_init(&b, strlen(cases[i].out));
        json_put_base64(&b, cases[i].in);
        assert_string_equal(buf_cstr(&b), cases[i].out);
        buf_init(&small, strlen(cases[i].out) - 1);
        json_put_base64(&small, cases[i].in);
        assert_false(buf_ok(&small));
    }
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    json_put_base64_object(&b, STR("\xff"));
    assert_string_equal(buf_cstr(&b), "{\"base64\":\"/w==\"}");
}

static void
test_numbers(void **state)
{
    (void)state;
    struct buf auto_buf b;
    char want[32];
    buf_init(&b, 100);
    uint64_t v = 1;
    for (int i = 0; i < 64; i++, v = v << 1 | (uint64_t)(i & 1)) {
        for (int64_t d = -1; d <= 1; d++) {
            uint64_t u = v + (uint64_t)d;
            buf_reset(&b, SIZE_MAX);
            json_put_u64(&b, u);
            (void)snprintf(want, sizeof want, "%ju", (uintmax_t)u);
            assert_string_equal(buf_cstr(&b), want);
            buf_reset(&b, SIZE_MAX);
            json_put_i64(&b, (int64_t)u);
            (void)snprintf(want, sizeof want, "%jd", (intmax_t)(int64_t)u);
            assert_string_equal(buf_cstr(&b), want);
        }
    }
    buf_reset(&b, SIZE_MAX);
    json_put_i64(&b, INT64_MIN);
    json_put_u64(&b, UINT64_MAX);
    assert_string_equal(buf_cstr(&b), "-922337203685477580818446744073709551615");
}

static void
test_every_number_of_up_to_five_digits(void **state)
{
    (void)state;
    struct buf auto_buf b;
    char want[16];
    buf_init(&b, 100);
    for (unsigned v = 0; v < 100000; v++) {
        buf_reset(&b, SIZE_MAX);
        json_put_u64(&b, v);
        (void)snprintf(want, sizeof want, "%u", v);
        assert_string_equal(buf_cstr(&b), want);
    }
}

static void
assert_minified(const char *in, const char *out)
{
    struct buf auto_buf b, auto_buf tight, auto_buf small;
    size_t n = strlen(in);
    struct exact x = exact_copy(in, n, 0);
    struct str text = {.p = x.p, .n = n};
    buf_init(&b, SIZE_MAX);
    buf_putc(&b, ':');
    json_put_minified(&b, text);
    assert_string_equal(buf_cstr(&b) + 1, out);
    buf_init(&tight, strlen(out));
    json_put_minified(&tight, text);
    assert_true(buf_ok(&tight));
    assert_string_equal(buf_cstr(&tight), out);
    if (*out != 0) {
        buf_init(&small, strlen(out) - 1);
        json_put_minified(&small, text);
        assert_false(buf_ok(&small));
        buf_fini(&small);
    }
    buf_init(&small, 0);
    free(x.base);
}

static void
test_minify(void **state)
{
    (void)state;
    const char *const cases[][2] = {
        {"", ""},
        {"1", "1"},
        {" \t\r\n1 ", "1"},
        {"{\"a\": 1, \"b\": [1, 2]}", "{\"a\":1,\"b\":[1,2]}"},
        {"{\n  \"a b\" : \"c  d\"\r\n}", "{\"a b\":\"c  d\"}"},
        {"\" \\\" , \" , 1", "\" \\\" , \",1"},
        {"[\"\\\\\" , \"x\"]", "[\"\\\\\",\"x\"]"},
        {"[\"\\\\\\\" \", 1]", "[\"\\\\\\\" \",1]"},
        {"\"0123456789abcdef 0123456789abcdef \\\" 0123456789abcdef  \" ",
            "\"0123456789abcdef 0123456789abcdef \\\" 0123456789abcdef  \""},
        {"\"\\u0020 \\n\" ", "\"\\u0020 \\n\""},
        {"\"\xc3\xb6 \xe2\x80\xa8\" ", "\"\xc3\xb6 \xe2\x80\xa8\""},
        {"\"unterminated  ", "\"unterminated  "},
        {"\"ends in a backslash  \\", "\"ends in a backslash  \\"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_minified(cases[i][0], cases[i][1]);
    }
}

static void
test_minify_strings_of_every_length(void **state)
{
    (void)state;
    for (int n = 0; n <= 64; n++) {
        for (int at = 0; at <= n; at++) {
            char in[256], out[256];
            (void)snprintf(in, sizeof in, " [ \"%*s\\\"%*s\" , \"%*s\\\\\" ] \n", at, "",
                n - at, "", n, "");
            (void)snprintf(
                out, sizeof out, "[\"%*s\\\"%*s\",\"%*s\\\\\"]", at, "", n - at, "", n, "");
            assert_minified(in, out);
        }
    }
}

static void
test_document(void **state)
{
    (void)state;
    struct buf auto_buf b;
    struct jsonw w;
    buf_init(&b, SIZE_MAX);
    jsonw_init(&w, &b);
    jsonw_object(&w, NULL);
    jsonw_cstr(&w, "a\"b", "x");
    jsonw_cstr(&w, "none", NULL);
    jsonw_str(&w, "str",
        STR("\xff"
            "ok\xc3"));
    jsonw_array(&w, "list");
    jsonw_u64(&w, NULL, UINT64_MAX);
    jsonw_i64(&w, NULL, -1);
    jsonw_object(&w, NULL);
    jsonw_end_object(&w);
    jsonw_array(&w, NULL);
    jsonw_end_array(&w);
    jsonw_bool(&w, NULL, true);
    jsonw_end_array(&w);
    jsonw_double(&w, "d", 1.25, 1);
    jsonw_double(&w, "nan", NAN, 1);
    jsonw_double(&w, "inf", INFINITY, 1);
    jsonw_bool(&w, "f", false);
    jsonw_null(&w, "n");
    jsonw_end_object(&w);
    assert_string_equal(buf_cstr(&b),
        "{\"a\\\"b\":\"x\",\"none\":null,\"str\":\"\xef\xbf\xbdok\xef\xbf\xbd\",\"list\":["
        "18446744073709551615,-1,{},"
        "[],true],\"d\":1.2,\"nan\":null,\"inf\":null,\"f\":false,\"n\":null}");
}

static void
test_read_tree(void **state)
{
    (void)state;
    struct err e;
    struct json *root;
    struct str s;
    int64_t i = 42;
    double d = 42;
    bool b = false;
    const char *key = NULL;
    static const char text[] = "{\"s\":\"a\\u00f6\",\"i\":-9223372036854775808,\"d\":1.5,\"t\":"
                               "true,\"z\":null,\"l\":[1,[2]],\"o\":{\"k\":7}}";
    assert_int_equal(json_parse(str_from(text), &root, &e), 0);
    assert_true(json_is_object(root) && !json_is_array(root) && !json_is_null(root));
    assert_int_equal(json_size(root), 7);
    assert_true(json_str(json_get(root, "s"), &s) && str_is(s, "a\xc3\xb6"));
    assert_true(json_i64(json_get(root, "i"), &i) && i == INT64_MIN);
    assert_true(json_num(json_get(root, "i"), &d) && d == -9223372036854775808.0);
    assert_true(json_num(json_get(root, "d"), &d) && d == 1.5);
    assert_true(json_bool(json_get(root, "t"), &b) && b);
    assert_true(json_is_null(json_get(root, "z")) && json_is_null(json_get(root, "absent")));
    assert_null(json_get(root, "absent"));
    assert_int_equal(json_size(json_get(root, "l")), 2);
    assert_true(json_i64(json_at(json_at(json_get(root, "l"), 1), 0), &i) && i == 2);
    assert_null(json_at(json_get(root, "l"), 2));
    assert_true(json_i64(json_member(json_get(root, "o"), 0, &key), &i) && i == 7);
    assert_string_equal(key, "k");
    assert_null(json_member(json_get(root, "o"), 1, &key));
    assert_null(json_member(json_get(root, "l"), 0, &key));
    /* chains through nothing and through other kinds */
    assert_null(json_get(json_get(json_get(root, "s"), "x"), "y"));
    assert_null(json_at(NULL, 0));
    assert_int_equal(json_size(NULL) + json_size(json_get(root, "s")), 0);
    i = 42;
    assert_false(json_i64(json_get(root, "d"), &i) || json_i64(json_get(root, "s"), &i) ||
                 json_i64(NULL, &i));
    assert_false(json_num(json_get(root, "t"), &d) || json_bool(json_get(root, "i"), &b) ||
                 json_str(root, &s));
    assert_int_equal(i, 42);
    json_free(root);
    json_free(NULL);
}

static void
test_read_refuses(void **state)
{
    (void)state;
    struct json *const untouched = (void *)&state;
    const struct str cases[] = {STR(""), STR(" "), STR("{"), STR("{}x"), STR("{} {}"),
        STR("{\"a\":1,\"a\":2}"), STR("[1,]"), STR("nul"), STR("\"\xff\""),
        STR("\"\xed\xa0\x80\""), STR("\"a\nb\""), STR("\"\\u0000\""), STR("\"\\ud800\""),
        STR("9223372036854775808"), STR("1e999"), STR("NaN"), STR("01"), STR("{'a':1}"),
        STR("[1\0]"), STR("// x\n1")};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct json *root = untouched;
        struct err e;
        struct exact x = exact_copy(cases[i].p, cases[i].n, 0);
        if (json_parse((struct str){.p = x.p, .n = cases[i].n}, &root, &e) != ERR_PARSE ||
            root != untouched) {
            fail_msg("accepted: %s", cases[i].p);
        }
        free(x.base);
    }
}

static void
test_read_is_bounded(void **state)
{
    (void)state;
    struct json *root = NULL;
    struct err e;
    size_t n = (size_t)JSON_TEXT_MAX + 1;
    char *text = malloc(n);
    memset(text, ' ', n);
    text[0] = '1';
    assert_int_equal(json_parse((struct str){.p = text, .n = n}, &root, &e), ERR_TOOBIG);
    assert_int_equal(json_parse((struct str){.p = text, .n = n - 1}, &root, &e), 0);
    json_free(root);
    memset(text, '[', n);
    assert_int_equal(json_parse((struct str){.p = text, .n = n - 1}, &root, &e),
        ERR_PARSE); /* no deep recursion */
    free(text);
}

static void
test_every_truncation_is_refused(void **state)
{
    (void)state;
    static const char whole[] = "{\"a\":[1,2.5e3,true,null,\"x\\u00e9\\n\"],\"b\":{\"c\":-1}}";
    for (size_t n = 0; n < sizeof whole - 1; n++) {
        struct json *root;
        struct err e;
        struct exact x = exact_copy(whole, n, 0);
        assert_int_equal(json_parse((struct str){.p = x.p, .n = n}, &root, &e), ERR_PARSE);
        free(x.base);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_byte_at_every_place),
        cmocka_unit_test(test_every_byte_at_every_alignment_and_length),
        cmocka_unit_test(test_limits_are_exact),
        cmocka_unit_test(test_seams_of_random_texts),
        cmocka_unit_test(test_strings_read_back),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_every_number_of_up_to_five_digits),
        cmocka_unit_test(test_minify),
        cmocka_unit_test(test_minify_strings_of_every_length),
        cmocka_unit_test(test_document),
        cmocka_unit_test(test_read_tree),
        cmocka_unit_test(test_read_refuses),
        cmocka_unit_test(test_read_is_bounded),
        cmocka_unit_test(test_every_truncation_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
