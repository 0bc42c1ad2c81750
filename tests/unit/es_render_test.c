/* es_render: golden lines of a _bulk body; and no row can add a line or a member to it. */
#include "tests/unit/es_support.h"

#include "proto/base/json.h"
#include "proto/record_json.h"
#include "sinks/elasticsearch/es_render.h"

enum { NCOLS = 9 };

static const struct es_support_col cols[] = {{"id", 23, true, 0, NULL},
    {"ok", 16, false, 0, NULL}, {"name", 25, false, 0, NULL}, {"price", 1700, false, 0, NULL},
    {"f", 701, false, 0, NULL}, {"j", 114, false, 0, NULL}, {"jb", 3802, false, 0, NULL},
    {"_id", 25, false, 0, NULL}, {"a.b", 25, false, 0, NULL}, {0}};

static struct schema *schema;
static struct es_shape *shape;

static int
setup(void **state)
{
    (void)state;
    schema = es_support_schema(cols, false);
    shape = es_shape_new(schema, NULL);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    es_shape_free(shape);
    es_shape_free(NULL);
    schema_unref(schema);
    return 0;
}

static void
fill_row(struct record_value *row, const char *const *texts)
{
    for (unsigned i = 0; i < NCOLS; i++) {
        row[i] = es_support_text(texts[i]);
    }
}

static const struct es_target target = {
    .alias = {.p = "shop.item", .n = 9}, .id = {.p = "7", .n = 1}, .version = 1882345678901234};
#define TAIL                                                                                   \
    "\"_id\":\"7\",\"version\":1882345678901234,\"version_type\":\"external_gte\","            \
    "\"require_alias\":true}}\n"

static void
test_index_action_and_its_document(void **state)
{
    static const char *const texts[NCOLS] = {"7", "t", "Zo\xc3\xab\n\"x\"\\", "1.10", "NaN",
        "{ \"b\": 1,\n \"b\" : 2.50, \"c\":\"\\ud800\" }", "{\"a\": 1}", NULL, ""};
    struct record_value row[NCOLS];
    struct buf auto_buf b;
    (void)state;
    buf_init(&b, SIZE_MAX);
    fill_row(row, texts);
    assert_true(es_render_put_index(&b, shape, schema, row, NULL, &target));
    assert_string_equal(buf_cstr(&b),
        "{\"index\":{\"_index\":\"shop.item\"," TAIL
        "{\"id\":7,\"ok\":true,\"name\":\"Zo\xc3\xab\\n\\\"x\\\"\\\\\",\"price\":\"1.10\","
        "\"f\":\"NaN\",\"j\":{\"b\":2.50,\"c\":\"\\ufffd\"},\"jb\":{\"a\": 1},\"%5Fid\":null,"
        "\"a%2Eb\":\"\"}\n");
}

static void
test_delete_action(void **state)
{
    struct buf auto_buf b;
    (void)state;
    buf_init(&b, SIZE_MAX);
    es_render_put_delete(&b, &target);
    assert_string_equal(buf_cstr(&b), "{\"delete\":{\"_index\":\"shop.item\"," TAIL);
}

static void
test_document_is_the_new_of_the_change(void **state)
{
    static const struct es_support_col plain[] = {{"id", 23, true, 0, NULL},
        {"ok", 16, false, 0, NULL}, {"x", 3802, false, 0, NULL}, {"t", 1114, false, 0, NULL},
        {0}};
    struct schema *s = es_support_schema(plain, false);
    struct es_shape *sh = es_shape_new(s, NULL);
    struct record_value row[] = {es_support_text("1"), es_support_text(NULL),
        es_support_text("[1, 2]"), es_support_text("infinity")};
    struct buf auto_buf got, auto_buf want;
    (void)state;
    buf_init(&got, SIZE_MAX);
    buf_init(&want, SIZE_MAX);
    assert_true(es_render_put_source(&got, sh, s, row, NULL));
    record_json_put_row(&want, s, row);
    assert_string_equal(buf_cstr(&got), buf_cstr(&want));
    es_shape_free(sh);
    schema_unref(s);
}

static void
test_unchanged_columns_take_the_values_given(void **state)
{
    static const char *const texts[NCOLS] = {
        "7", NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL};
    struct record_value row[NCOLS];
    struct str fill[NCOLS] = {{0}};
    struct buf auto_buf b, auto_buf value;
    (void)state;
    buf_init(&b, SIZE_MAX);
    buf_init(&value, SIZE_MAX);
    fill_row(row, texts);
    row[2].kind = row[5].kind = row[6].kind = RECORD_UNCHANGED;
    assert_true(es_render_put_value(&value, schema, &schema->cols[2], STR("a\"\n")));
    fill[2] = buf_str(&value);
    fill[5] = STR("{\"k\" : [1.10,\n 1e400]}");
    fill[6] = STR("null");
    assert_true(es_render_put_source(&b, shape, schema, row, fill));
    assert_string_equal(buf_cstr(&b),
        "{\"id\":7,\"ok\":null,\"name\":\"a\\\"\\n\",\"price\":null,\"f\":null,"
        "\"j\":{\"k\":[1.10,1e400]},\"jb\":null,\"%5Fid\":null,\"a%2Eb\":null}");
}

/* G: text that would be a second action, in every place that a row reaches. */
static void
test_newline_in_a_key_does_not_become_a_second_action(void **state)
{
    static const char evil[] =
        "7\"}}\n{\"delete\":{\"_index\":\"shop.item\",\"_id\":\"1\"}}\r\n\xe2\x80\xa8\\";
    const struct es_support_col evil_cols[] = {
        {evil, 25, true, 0, NULL}, {"j", 114, false, 0, NULL}, {"k", 25, false, 0, NULL}, {0}};
    struct schema *s = es_support_schema(evil_cols, false);
    struct es_shape *sh = es_shape_new(s, NULL);
    struct record_value row[] = {
        es_support_text(evil), es_support_text("{\n\"a\"\r:\n1}\n"), es_support_text(evil)};
    const struct es_target to = {.alias = str_from(evil), .id = str_from(evil), .version = 5};
    struct buf auto_buf b;
    struct err e;
    (void)state;
    buf_init(&b, SIZE_MAX);
    assert_true(es_render_put_index(&b, sh, s, row, NULL, &to));
    es_render_put_delete(&b, &to);
    const char *line = buf_cstr(&b);
    for (unsigned i = 0; i < 3; i++) {
        const char *end = strchr(line, '\n');
        struct json *root = NULL;
        struct str id;
        assert_non_null(end);
        assert_int_equal(
            json_parse((struct str){.p = line, .n = (size_t)(end - line)}, &root, &e), 0);
        const struct json *action = json_get(root, i == 0 ? "index" : "delete");
        if (i != 1) {
            assert_int_equal(json_size(root), 1);
            assert_int_equal(json_size(action), 5);
            assert_true(json_str(json_get(action, "_id"), &id) && str_is(id, evil));
        } else {
            assert_int_equal(json_size(root), 3);
            assert_true(json_str(json_get(root, "k"), &id) && str_is(id, evil));
            assert_true(json_is_object(json_get(root, "j")));
        }
        json_free(root);
        line = end + 1;
    }
    assert_string_equal(line, "");
    es_shape_free(sh);
    schema_unref(s);
}

/* A value that PostgreSQL cannot hold is not pasted either: the row is refused. */
static void
test_json_that_is_none_is_not_sent(void **state)
{
    static const char *const bad[] = {"{\"a\":1}\n{\"delete\":{}}", "\"a\nb\"", "{", "x"};
    static const char *texts[NCOLS] = {"7"};
    struct record_value row[NCOLS];
    struct buf auto_buf b;
    (void)state;
    buf_init(&b, SIZE_MAX);
    buf_puts(&b, "before");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fill_row(row, texts);
        row[5] = es_support_text(bad[i]);
        assert_false(es_render_put_index(&b, shape, schema, row, NULL, &target));
        assert_string_equal(buf_cstr(&b), "before");
    }
}

static void
put_deep(struct buf *b, size_t depth)
{
    for (size_t i = 0; i < depth; i++) {
        buf_putc(b, '[');
    }
    for (size_t i = 0; i < depth; i++) {
        buf_putc(b, ']');
    }
}

/* Elasticsearch 7.17 ends with a StackOverflowError on a document nested 3000 deep, and would
 * again each time it is sent. */
static void
test_json_nested_too_deep_is_never_sent(void **state)
{
    static const char *texts[NCOLS] = {"7"};
    struct record_value row[NCOLS];
    struct str fill[NCOLS] = {{0}};
    struct buf auto_buf b, auto_buf deep;
    (void)state;
    buf_init(&b, SIZE_MAX);
    buf_init(&deep, SIZE_MAX);
    for (size_t depth = 999; depth <= 1000; depth++) {
        buf_reset(&deep, SIZE_MAX);
        put_deep(&deep, depth);
        for (unsigned col = 5; col <= 6; col++) { /* json, jsonb */
            fill_row(row, texts);
            row[col].kind = RECORD_TEXT;
            row[col].text = buf_str(&deep);
            size_t from = b.n;
            assert_int_equal(
                es_render_put_index(&b, shape, schema, row, NULL, &target), depth == 999);
            assert_int_equal(b.n > from, depth == 999);
            row[col].kind = RECORD_UNCHANGED;
            fill[col] = buf_str(&deep);
            assert_int_equal(es_render_put_source(&b, shape, schema, row, fill), depth == 999);
        }
    }
}

static void
test_sql_ascii_bytes_are_base64(void **state)
{
    static const struct es_support_col ascii[] = {
        {"id", 25, true, 0, NULL}, {"j", 114, false, 0, NULL}, {0}};
    struct schema *s = es_support_schema(ascii, true);
    struct es_shape *sh = es_shape_new(s, NULL);
    struct record_value row[] = {es_support_text("\xff"), es_support_text("{\"a\":\"\xff\"}")};
    struct buf auto_buf b;
    (void)state;
    buf_init(&b, SIZE_MAX);
    assert_true(es_render_put_source(&b, sh, s, row, NULL));
    assert_string_equal(
        buf_cstr(&b), "{\"id\":{\"base64\":\"/w==\"},\"j\":{\"base64\":\"eyJhIjoi/yJ9\"}}");
    es_shape_free(sh);
    schema_unref(s);
}

static void
test_full_buffer_fails(void **state)
{
    static const char *const texts[NCOLS] = {
        "7", "t", "a", "1", "1", "{\"a\":{\"a\":1,\"a\":2}}", "[]", "x", "y"};
    struct record_value row[NCOLS];
    struct buf auto_buf whole;
    (void)state;
    buf_init(&whole, SIZE_MAX);
    fill_row(row, texts);
    assert_true(es_render_put_index(&whole, shape, schema, row, NULL, &target));
    for (size_t max = 0; max < whole.n; max++) {
        struct buf auto_buf b;
        buf_init(&b, max);
        assert_true(es_render_put_index(&b, shape, schema, row, NULL, &target));
        assert_false(buf_ok(&b));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_index_action_and_its_document),
        cmocka_unit_test(test_delete_action),
        cmocka_unit_test(test_document_is_the_new_of_the_change),
        cmocka_unit_test(test_unchanged_columns_take_the_values_given),
        cmocka_unit_test(test_newline_in_a_key_does_not_become_a_second_action),
        cmocka_unit_test(test_json_that_is_none_is_not_sent),
        cmocka_unit_test(test_json_nested_too_deep_is_never_sent),
        cmocka_unit_test(test_sql_ascii_bytes_are_base64),
        cmocka_unit_test(test_full_buffer_fails),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
