/* http_render: a batch as NDJSON and as an array, how it is cut, and a signature that another
 * program verifies. */
#include "http_support.h"

#include "proto/base/json.h"
#include "proto/record_json.h"
#include "sinks/http/http_render.h"

static struct http_request rq;

static int
setup(void **state)
{
    (void)state;
    http_support_init();
    http_request_init(&rq);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    http_request_fini(&rq);
    http_support_fini();
    return 0;
}

static size_t
line_of(size_t i, struct buf *b)
{
    size_t before = b->n;
    record_json_put(b, &made.records[i]);
    return b->n - before;
}

static void
ndjson_is_a_change_per_line(void **state)
{
    struct buf auto_buf want;
    (void)state;
    buf_init(&want, SIZE_MAX);
    for (size_t i = 0; i < 3; i++) {
        (void)line_of(i, &want);
        buf_putc(&want, '\n');
    }
    http_render_body(&rq, HTTP_FORMAT_NDJSON, made.records, 3, 100000, 5);
    assert_int_equal(rq.n, 3);
    assert_true(str_eq(http_request_body(&rq), buf_str(&want)));
    assert_string_equal(http_render_type(HTTP_FORMAT_NDJSON), "application/x-ndjson");
}

static void
json_is_an_array_of_the_same(void **state)
{
    struct json *root = NULL;
    struct err e;
    (void)state;
    http_render_body(&rq, HTTP_FORMAT_JSON, made.records, 3, 100000, 5);
    assert_int_equal(json_parse(http_request_body(&rq), &root, &e), 0);
    assert_int_equal(json_size(root), 3);
    for (size_t i = 0; i < 3; i++) {
        int64_t offset = 0;
        struct str name;
        assert_true(json_i64(json_get(json_at(root, i), "offset"), &offset));
        assert_int_equal(offset, 100 + i);
        assert_true(json_str(json_get(json_get(json_at(root, i), "new"), "name"), &name));
        assert_true(str_is(name, "a\nb"));
        assert_int_equal(json_size(json_get(json_at(root, i), "unchanged")), 1);
    }
    json_free(root);
    assert_string_equal(http_render_type(HTTP_FORMAT_JSON), "application/json");
}

/* For every limit: never beyond it, never less than fits, and one record in any case. */
static void
a_body_is_cut_before_its_limit(void **state)
{
    (void)state;
    for (int format = HTTP_FORMAT_NDJSON; format <= HTTP_FORMAT_JSON; format++) {
        size_t whole, former = 1;
        http_render_body(&rq, (enum http_format)format, made.records, 8, SIZE_MAX, 5);
        whole = http_request_body(&rq).n;
        for (size_t max = 0; max <= whole; max++) {
            http_render_body(&rq, (enum http_format)format, made.records, 8, max, 5);
            assert_true(rq.n == 1 || http_request_body(&rq).n <= max);
            assert_true(rq.n >= former);
            assert_int_equal(rq.last, 100 + rq.n - 1);
            former = rq.n;
        }
        assert_int_equal(rq.n, 8);
    }
}

static void
the_key_is_first_and_last_offset(void **state)
{
    struct buf auto_buf line;
    (void)state;
    buf_init(&line, SIZE_MAX);
    http_render_body(&rq, HTTP_FORMAT_NDJSON, made.records + 2, 4, 100000, 5);
    http_render_key(&line, &rq);
    assert_string_equal(buf_cstr(&line), "Idempotency-Key: 102-105");
}

/* What `printf '1700000000.[]\n' | openssl dgst -sha256 -hmac s3cret` says. */
static void
a_signature_is_what_openssl_says(void **state)
{
    struct buf auto_buf line;
    struct http_request one = {0};
    (void)state;
    buf_init(&line, SIZE_MAX);
    http_request_init(&one);
    buf_puts(&one.text, "1700000000.[]\n");
    one.body_at = 11;
    http_render_signature(&line, STR("s3cret"), &one);
    assert_string_equal(buf_cstr(&line),
        "Oneslot-Signature: t=1700000000,v1="
        "4a3cbbd6819daff24cd87691b9167f435c31b171912d848b4239818a6a0a7bce");
    http_request_fini(&one);
}

static void
what_is_signed_is_time_dot_body(void **state)
{
    (void)state;
    http_render_body(&rq, HTTP_FORMAT_NDJSON, made.records, 2, 100000, 1700000000);
    struct str body = http_request_body(&rq);
    assert_int_equal(rq.text.n, body.n + 11);
    assert_memory_equal(rq.text.p, "1700000000.", 11);
    assert_true(body.p[0] == '{' && body.p[body.n - 1] == '\n');
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ndjson_is_a_change_per_line, setup, teardown),
        cmocka_unit_test_setup_teardown(json_is_an_array_of_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(a_body_is_cut_before_its_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(the_key_is_first_and_last_offset, setup, teardown),
        cmocka_unit_test_setup_teardown(a_signature_is_what_openssl_says, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_signed_is_time_dot_body, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
