/* es_mapping: the field of every type, the option `mapping`, bodies that are JSON, and what an
 * index lacks. What a real server says of these mappings is in tests/e2e. */
#include "tests/unit/es_support.h"

#include <stdio.h>

#include "proto/base/json.h"
#include "sinks/elasticsearch/es_mapping.h"

static const struct es_dialect elastic = {.major = 8}, opensearch = {.is_opensearch = true};
static const struct es_meta meta = {
    .uuid = {0x01, 0xab, [15] = 0xff}, .epoch = 3, .generation = 1};

static const struct es_support_col item_cols[] = {{"id", 23, true, 0, NULL},
    {"name", 25, false, 0, NULL}, {"_id", 2950, false, 0, NULL}, {0}};

static struct conf_doc *
conf_of(const char *yaml, const struct conf_node **ret)
{
    struct conf_doc *d = NULL;
    struct err e;
    assert_int_equal(conf_load_text("t.yaml", str_from(yaml), &d, &e), 0);
    *ret = conf_child(conf_root(d), "mapping");
    return d;
}

/* The property of a table's second column. */
static void
property_of(struct buf *b, struct es_support_col col, bool raw_text, const char *yaml,
    const struct es_dialect *d)
{
    const struct es_support_col cols[] = {{"id", 23, true, 0, NULL}, col, {0}};
    const bool only_second[] = {false, true};
    const struct conf_node *overrides = NULL;
    struct conf_doc *doc = yaml == NULL ? NULL : conf_of(yaml, &overrides);
    struct schema *s = es_support_schema(cols, raw_text);
    struct err e;
    assert_int_equal(es_mapping_check(overrides, &e), 0);
    buf_reset(b, SIZE_MAX);
    es_mapping_put_extension(b, d, s, overrides, only_second);
    schema_unref(s);
    conf_free(doc);
}

#define ISO       "strict_date_optional_time||"
#define DATE_TAIL "||epoch_millis\",\"ignore_malformed\":true}"
#define TIME      "uuuu-MM-dd HH:mm:ss[.SSSSSS][.SSSSS][.SSSS][.SSS][.SS][.S]"
#define KEYWORD   "{\"type\":\"keyword\",\"ignore_above\":8191}"
#define TEXT      "{\"type\":\"text\",\"fields\":{\"keyword\":" KEYWORD "}}"
#define KEPT      "{\"type\":\"object\",\"enabled\":false}"

static void
test_field_of_every_type(void **state)
{
    enum { NUMERIC_10_2 = ((10 << 16) | 2) + 4, NUMERIC_16_0 = (16 << 16) + 4 };
    static const struct {
        struct es_support_col col;
        const char *want;
    } cases[] = {
        {{"c", 16, false, 0, NULL}, "{\"type\":\"keyword\",\"ignore_above\":8191}"},
        {{"c", 21, false, 0, NULL}, "{\"type\":\"short\",\"ignore_malformed\":true}"},
        {{"c", 23, false, 0, NULL}, "{\"type\":\"integer\",\"ignore_malformed\":true}"},
        {{"c", 20, false, 0, NULL}, "{\"type\":\"long\",\"ignore_malformed\":true}"},
        {{"c", 701, false, 0, NULL}, "{\"type\":\"double\",\"ignore_malformed\":true}"},
        {{"c", 1700, false, NUMERIC_10_2, NULL},
            "{\"type\":\"double\",\"ignore_malformed\":true}"},
        {{"c", 1700, false, NUMERIC_16_0, NULL},
            "{\"type\":\"keyword\",\"ignore_above\":8191,\"fields\":{\"num\":{\"type\":"
            "\"double\",\"ignore_malformed\":true}}}"},
        {{"c", 1700, false, 0, NULL},
            "{\"type\":\"keyword\",\"ignore_above\":8191,\"fields\":{\"num\":{\"type\":"
            "\"double\",\"ignore_malformed\":true}}}"},
        {{"c", 25, false, 0, NULL}, TEXT}, {{"c", 1043, false, 0, NULL}, TEXT},
        {{"c", 2950, false, 0, NULL}, KEYWORD}, {{"c", 19, false, 0, NULL}, KEYWORD},
        {{"c", 1082, false, 0, NULL},
            "{\"type\":\"date\",\"format\":\"uuuu-MM-dd||strict_date_optional_time" DATE_TAIL},
        {{"c", 1114, false, 0, NULL}, "{\"type\":\"date\",\"format\":\"" ISO TIME DATE_TAIL},
        {{"c", 1184, false, 0, NULL},
            "{\"type\":\"date\",\"format\":\"" ISO TIME "[xxx][x]" DATE_TAIL},
        {{"c", 1083, false, 0, NULL}, KEYWORD}, {{"c", 1186, false, 0, NULL}, KEYWORD},
        {{"c", 114, false, 0, NULL}, KEPT}, {{"c", 3802, false, 0, NULL}, KEPT},
        {{"c", 17, false, 0, NULL}, KEPT},
        {{"c", 869, false, 0, NULL},
            "{\"type\":\"ip\",\"ignore_malformed\":true,\"fields\":{\"keyword\":" KEYWORD "}}"},
        {{"c", 650, false, 0, NULL}, KEYWORD},
        {{"c", 3904, false, 0, NULL}, KEYWORD}, /* int4range */
        {{"c", 1007, false, 0, NULL}, TEXT},    /* int4[] */
        {{"c", 16390, false, 0, "pg_catalog.int4"},
            "{\"type\":\"integer\",\"ignore_malformed\":true}"}, /* a domain */
        {{"c", 16390, false, 0, "pg_catalog.jsonb"}, KEPT},
        {{"c", 16391, false, 0, "public.mood"}, KEYWORD},
        {{"c", 16392, false, 0, "public._mood"}, TEXT},
        {{"c", 16393, false, 0, "ext.citext"}, TEXT},
        {{"c", 16394, false, 0, "public.geometry"}, KEPT},
        {{"c", 16395, false, 0, "other.int4"}, KEYWORD}, /* not PostgreSQL's */
    };
    struct buf auto_buf b, auto_buf want;
    (void)state;
    buf_init(&b, SIZE_MAX);
    buf_init(&want, SIZE_MAX);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        property_of(&b, cases[i].col, false, NULL, &elastic);
        buf_reset(&want, SIZE_MAX);
        buf_printf(&want, "{\"properties\":{\"c\":%s}}", cases[i].want);
        assert_string_equal(buf_cstr(&b), buf_cstr(&want));
    }
}

static void
test_sql_ascii_text_may_come_as_an_object(void **state)
{
    struct buf auto_buf b;
    (void)state;
    buf_init(&b, SIZE_MAX);
    property_of(&b, (struct es_support_col){"c", 25, false, 0, NULL}, true, NULL, &elastic);
    assert_string_equal(buf_cstr(&b), "{\"properties\":{\"c\":" KEPT "}}");
    property_of(&b, (struct es_support_col){"c", 23, false, 0, NULL}, true, NULL, &elastic);
    assert_non_null(strstr(buf_cstr(&b), "integer"));
}

static void
test_overrides(void **state)
{
    static const struct {
        const char *yaml, *want;
        bool is_opensearch;
    } cases[] = {
        {"mapping:\n  shop.item.c: keyword\n", KEYWORD, false},
        {"mapping:\n  \"shop.*.c\": text\n", TEXT, false},
        {"mapping:\n  \"*.*.*\": none\n  shop.item.c: geo_point\n",
            "{\"type\":\"geo_point\",\"ignore_malformed\":true}", false},
        {"mapping:\n  shop.item.c: flattened\n",
            "{\"type\":\"flattened\",\"ignore_above\":8191}", false},
        {"mapping:\n  shop.item.c: flattened\n", "{\"type\":\"flat_object\"}", true},
        {"mapping:\n  shop.item.c: date_nanos\n",
            "{\"type\":\"date_nanos\",\"format\":\"strict_date_optional_time_nanos||" TIME
                DATE_TAIL,
            false},
        {"mapping:\n  shop.item.c: '{ \"type\": \"scaled_float\", \"scaling_factor\": 100 }'\n",
            "{\"type\":\"scaled_float\",\"scaling_factor\":100}", false},
        {"mapping:\n  shop.item.c: version\n", "{\"type\":\"version\"}", false},
        {"mapping:\n  shop.other.c: keyword\n", NULL, false},
        {"mapping:\n", NULL, false},
    };
    struct buf auto_buf b, auto_buf want;
    (void)state;
    buf_init(&b, SIZE_MAX);
    buf_init(&want, SIZE_MAX);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        property_of(&b, (struct es_support_col){"c", 1114, false, 0, NULL}, false,
            cases[i].yaml, cases[i].is_opensearch ? &opensearch : &elastic);
        buf_reset(&want, SIZE_MAX);
        buf_printf(&want, "{\"properties\":{\"c\":%s}}",
            cases[i].want != NULL ? cases[i].want
                                  : "{\"type\":\"date\",\"format\":\"" ISO TIME DATE_TAIL);
        assert_string_equal(buf_cstr(&b), buf_cstr(&want));
    }
    property_of(&b, (struct es_support_col){"c", 25, false, 0, NULL}, false,
        "mapping:\n  shop.item.c: none\n", &elastic);
    assert_string_equal(buf_cstr(&b), "{\"properties\":{}}");
}

static void
test_bad_overrides_say_where(void **state)
{
    static const struct {
        const char *yaml, *want;
    } cases[] = {{"mapping: keyword\n", "t.yaml:1:10"},
        {"mapping:\n  a.b: keyword\n", "t.yaml:2:3"},
        {"mapping:\n  a.b.c: Key Word\n", "t.yaml:2:10"},
        {"mapping:\n  a.b.c: '{\"type\":}'\n", "t.yaml:2:10"},
        {"mapping:\n  a.b.c:\n", "t.yaml:2"}, {"mapping:\n  a.b.c: [x]\n", "t.yaml:2:10"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct conf_node *overrides;
        struct conf_doc *d = conf_of(cases[i].yaml, &overrides);
        struct err e;
        assert_int_equal(es_mapping_check(overrides, &e), ERR_CONFIG);
        assert_memory_equal(e.msg, cases[i].want, strlen(cases[i].want));
        conf_free(d);
    }
}

static void
test_body_of_creation(void **state)
{
    struct schema *s = es_support_schema(item_cols, false);
    struct json *root = NULL;
    struct buf auto_buf b;
    struct err e;
    (void)state;
    buf_init(&b, SIZE_MAX);
    es_mapping_put_create(&b, &elastic, s, NULL, &meta, STR("shop.item"));
    assert_string_equal(buf_cstr(&b),
        "{\"settings\":{\"index.gc_deletes\":\"1h\",\"index.mapping.total_fields.limit\":1000},"
        "\"aliases\":{\"shop.item\":{}},\"mappings\":{\"dynamic\":false,\"_meta\":{\"oneslot\":"
        "{"
        "\"version\":1,\"log\":\"01ab00000000000000000000000000ff\",\"epoch\":3,"
        "\"generation\":1,\"schema\":\"shop\",\"table\":\"item\",\"key\":[\"id\"]}},"
        "\"properties\":{\"id\":{\"type\":\"integer\",\"ignore_malformed\":true},\"name\":" TEXT
        ",\"%5Fid\":" KEYWORD "}}}");
    assert_int_equal(json_parse(buf_str(&b), &root, &e), 0);
    buf_reset(&b, SIZE_MAX);
    es_mapping_put_create(&b, &opensearch, s, NULL, &meta, STR("shop.item"));
    assert_non_null(
        strstr(buf_cstr(&b), "fields.limit\":1000,\"index.mapping.depth.limit\":1001}"));
    json_free(root);
    schema_unref(s);
}

static void
test_wide_tables_get_room_for_their_fields(void **state)
{
    enum { WIDE = 1600 };
    static char names[WIDE][16];
    static struct schema_col cols[WIDE];
    struct buf auto_buf b;
    (void)state;
    buf_init(&b, SIZE_MAX);
    for (unsigned i = 0; i < WIDE; i++) {
        int n = snprintf(names[i], sizeof names[i], "c%u", i);
        cols[i] = (struct schema_col){.name = {.p = names[i], .n = (size_t)n},
            .typoid = 25,
            .typmod = -1,
            .in_key = i == 0};
    }
    struct schema *s = support_reread(1, &(struct schema){.relid = 1,
                                             .ns = STR("s"),
                                             .name = STR("t"),
                                             .replident = 'd',
                                             .ncols = WIDE,
                                             .cols = cols});
    es_mapping_put_create(&b, &elastic, s, NULL, &meta, STR("s.t"));
    assert_non_null(strstr(buf_cstr(&b), "\"index.mapping.total_fields.limit\":5000"));
    buf_reset(&b, SIZE_MAX);
    es_mapping_put_limit(&b, s, 4000);
    assert_string_equal(buf_cstr(&b), "{\"index.mapping.total_fields.limit\":9000}");
    schema_unref(s);
}

static void
test_new_columns_are_those_without_a_field(void **state)
{
    static const struct {
        const char *properties, *yaml;
        int want;
        bool is_new[3];
    } cases[] = {
        {"", NULL, 3, {true, true, true}},
        {"{}", NULL, 3, {true, true, true}},
        {"{\"id\":{\"type\":\"long\"},\"old\":{\"type\":\"long\"},\"%5Fid\":{}}", NULL, 1,
            {false, true, false}},
        {"{\"id\":1,\"na\\u006de\":1,\"%5Fid\":{\"properties\":{\"x\":1}}}", NULL, 0, {0}},
        {"{\"_id\":{}}", "mapping:\n  shop.item.name: none\n", 2, {true, false, true}},
        {"[]", NULL, ERR_CORRUPT, {0}},
        {"{\"id\":", NULL, ERR_CORRUPT, {0}},
        {"{} x", NULL, ERR_CORRUPT, {0}},
    };
    struct schema *s = es_support_schema(item_cols, false);
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct conf_node *overrides = NULL;
        struct conf_doc *d = cases[i].yaml == NULL ? NULL : conf_of(cases[i].yaml, &overrides);
        bool is_new[3];
        struct err e;
        int n = es_mapping_find_new(s, overrides, str_from(cases[i].properties), is_new, &e);
        assert_int_equal(n, cases[i].want);
        if (n >= 0) {
            assert_memory_equal(is_new, cases[i].is_new, sizeof is_new);
        }
        conf_free(d);
    }
    schema_unref(s);
}

/* ---- what is not indexed ---- */

static bool
ignores(struct es_support_col col, struct str text, bool raw_text, const char *yaml)
{
    const struct es_support_col cols[] = {{"id", 23, true, 0, NULL}, col, {0}};
    const struct conf_node *overrides = NULL;
    struct conf_doc *doc = yaml == NULL ? NULL : conf_of(yaml, &overrides);
    struct schema *s = es_support_schema(cols, raw_text);
    bool is_ignored = es_mapping_ignores(es_mapping_rule(s, &s->cols[1], overrides), text);
    schema_unref(s);
    conf_free(doc);
    return is_ignored;
}

static void
test_values_that_no_field_takes(void **state)
{
    enum { NUMERIC_10_2 = ((10 << 16) | 2) + 4 };
    static const struct {
        uint32_t oid;
        int32_t typmod;
        const char *text;
        bool want;
    } cases[] = {
        {21, 0, "-32768", false},
        {23, 0, "7", false},
        {16, 0, "t", false},
        {700, 0, "1e+20", false},
        {700, 0, "-Infinity", true},
        {701, 0, "NaN", true},
        {701, 0, "-0", false},
        {1700, NUMERIC_10_2, "12345678.90", false},
        {1700, NUMERIC_10_2, "NaN", true},
        {1700, 0, "-1.5", false},
        {1700, 0, "Infinity", true},
        {1082, 0, "2026-01-02", false},
        {1082, 0, "0001-01-01", false},
        {1082, 0, "0044-03-15 BC", true},
        {1082, 0, "10000-01-01", true},
        {1082, 0, "infinity", true},
        {1114, 0, "9999-12-31 23:59:59.999999", false},
        {1114, 0, "-infinity", true},
        {1184, 0, "2026-01-02 03:04:05+00", false},
        {1184, 0, "294276-12-31 23:59:59+00", true},
        {869, 0, "10.1.2.3", false},
        {869, 0, "::1", false},
        {869, 0, "10.0.0.0/8", true},
        {2950, 0, "00000000-0000-0000-0000-000000000001", false},
        {17, 0, "\\x00", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct es_support_col col = {"c", cases[i].oid, false, cases[i].typmod, NULL};
        if (ignores(col, str_from(cases[i].text), false, NULL) != cases[i].want) {
            fail_msg("case %zu: %s", i, cases[i].text);
        }
    }
}

/* n times a character, behind a first piece. */
static struct str
repeated(struct buf *b, const char *first, const char *character, size_t n)
{
    buf_reset(b, SIZE_MAX);
    buf_puts(b, first);
    for (size_t i = 0; i < n; i++) {
        buf_puts(b, character);
    }
    return buf_str(b);
}

static void
test_texts_and_numbers_beyond_what_a_field_holds(void **state)
{
    static const struct {
        uint32_t oid;
        const char *first, *character;
        size_t n;
        bool want;
    } cases[] = {
        {25, "", "x", 8191, false},
        {25, "", "x", 8192, true},
        {25, "", "\xc3\xa4", 8191, false},
        {25, "", "\xe2\x82\xac", 8192, true},
        {25, "", "\xf0\x9f\x98\x80", 4095, false}, /* two units each */
        {25, "", "\xf0\x9f\x98\x80", 4096, true},
        {2950, "", "x", 8192, true},
        {17, "", "x", 10000, false},
        {3802, "", "1", 10000, false},
        {1700, "1", "0", 308, false},
        {1700, "1", "0", 309, true},
        {1700, "-1797693134862315807", "0", 290, false},
        {1700, "-1797693134862315808", "0", 290, true},
        {1700, "0.", "1", 8189, false},
        {1700, "0.", "1", 8190, true},
    };
    struct buf auto_buf b;
    (void)state;
    buf_init(&b, SIZE_MAX);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct es_support_col col = {"c", cases[i].oid, false, 0, NULL};
        struct str text = repeated(&b, cases[i].first, cases[i].character, cases[i].n);
        if (ignores(col, text, false, NULL) != cases[i].want) {
            fail_msg("case %zu", i);
        }
    }
}

static void
test_what_the_kind_did_not_choose_is_not_judged(void **state)
{
    struct es_support_col name = {"name", 25, false, 0, NULL};
    struct buf auto_buf b;
    (void)state;
    buf_init(&b, SIZE_MAX);
    struct str text = repeated(&b, "", "x", 9000);
    assert_true(ignores(name, text, false, "mapping: {\"*.*.other\": none}"));
    assert_false(ignores(name, text, false, "mapping: {\"*.*.name\": keyword}"));
    assert_false(ignores(name, text, true, NULL));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_field_of_every_type),
        cmocka_unit_test(test_sql_ascii_text_may_come_as_an_object),
        cmocka_unit_test(test_overrides),
        cmocka_unit_test(test_values_that_no_field_takes),
        cmocka_unit_test(test_texts_and_numbers_beyond_what_a_field_holds),
        cmocka_unit_test(test_what_the_kind_did_not_choose_is_not_judged),
        cmocka_unit_test(test_bad_overrides_say_where),
        cmocka_unit_test(test_body_of_creation),
        cmocka_unit_test(test_wide_tables_get_room_for_their_fields),
        cmocka_unit_test(test_new_columns_are_those_without_a_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
