/* schema: round trip, what is derived from it, and that no damage passes. */
#include "tests/unit/record_support.h"

#include "proto/base/json.h"

static void
everything_comes_back(void **state)
{
    (void)state;
    struct schema *s = support_item(9);
    assert_int_equal(s->id, 9);
    assert_int_equal(s->relid, 16400);
    assert_true(str_is(s->ns, "shop") && str_is(s->name, "item"));
    assert_int_equal(s->replident, 'd');
    assert_false(s->raw_text);
    assert_int_equal(s->ncols, 3);
    assert_int_equal(s->nkeys, 1);
    assert_true(s->cols[0].in_key && !s->cols[1].in_key && !s->cols[2].in_key);
    assert_true(str_is(s->cols[0].name, "id") && str_is(s->cols[2].name, "note"));
    assert_true(str_is(s->cols[0].type_name, "pg_catalog.int4"));
    assert_int_equal(s->cols[0].typoid, 23);
    assert_int_equal(s->cols[1].typmod, -1);
    assert_true(str_is(s->json_table, "\"schema\":\"shop\",\"table\":\"item\""));
    assert_true(str_is(s->cols[0].json_key, "\"id\":"));
    assert_int_equal(s->json_keys_size, 5 + 7 + 7);
    schema_unref(s);
}

static void
json_types(void **state)
{
    (void)state;
    static const struct {
        uint32_t typoid;
        const char *type_name;
        enum schema_json json;
    } cases[] = {
        {16, "", SCHEMA_JSON_BOOL},
        {20, "", SCHEMA_JSON_INT},
        {21, "", SCHEMA_JSON_INT},
        {23, "", SCHEMA_JSON_INT},
        {700, "", SCHEMA_JSON_FLOAT},
        {701, "", SCHEMA_JSON_FLOAT},
        {114, "", SCHEMA_JSON_JSON},
        {3802, "", SCHEMA_JSON_JSONB},
        {25, "", SCHEMA_JSON_STRING},
        {1700, "pg_catalog.numeric", SCHEMA_JSON_STRING},
        {26, "pg_catalog.oid", SCHEMA_JSON_STRING},
        {16390, "pg_catalog.bool", SCHEMA_JSON_BOOL}, /* domains carry their base type's name */
        {16390, "pg_catalog.int2", SCHEMA_JSON_INT},
        {16390, "pg_catalog.int4", SCHEMA_JSON_INT},
        {16390, "pg_catalog.int8", SCHEMA_JSON_INT},
        {16390, "pg_catalog.float4", SCHEMA_JSON_FLOAT},
        {16390, "pg_catalog.float8", SCHEMA_JSON_FLOAT},
        {16390, "pg_catalog.json", SCHEMA_JSON_JSON},
        {16390, "pg_catalog.jsonb", SCHEMA_JSON_JSONB},
        {16390, "pg_catalog._int4", SCHEMA_JSON_STRING},
        {16390, "public.int4", SCHEMA_JSON_STRING}, /* somebody's own type of that name */
        {16390, "int4", SCHEMA_JSON_STRING},
        {16390, "", SCHEMA_JSON_STRING},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct schema_col col = {.name = STR("c"),
            .typoid = cases[i].typoid,
            .type_name = str_from(cases[i].type_name)};
        struct schema *s = support_reread(
            1, &(struct schema){.name = STR("t"), .replident = 'n', .ncols = 1, .cols = &col});
        assert_int_equal(s->cols[0].json, cases[i].json);
        schema_unref(s);
    }
}

static void
names_are_escaped_once(void **state)
{
    (void)state;
    static const struct {
        struct str name;
        const char *key;
    } cases[] = {
        {S("a"), "\"a\":"}, {S("a\"b\\c\nd"), "\"a\\\"b\\\\c\\nd\":"},
        {S("größe"), "\"größe\":"},
        {S("gr\xf6\xdf"
           "e"),
            "\"base64:Z3L232U=\":"}, /* LATIN1 in an SQL_ASCII database */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct schema_col col = {.name = cases[i].name};
        struct schema *s = support_reread(1, &(struct schema){.ns = STR("n"),
                                                 .name = cases[i].name,
                                                 .replident = 'n',
                                                 .ncols = 1,
                                                 .cols = &col});
        assert_true(str_is(s->cols[0].json_key, cases[i].key));
        assert_true(str_eq(s->cols[0].name, cases[i].name));
        schema_unref(s);
    }
}

/* 63 bytes of what escaping makes longest, in as many columns as there can be. */
static void
the_largest_table_fits(void **state)
{
    (void)state;
    static char name[64];
    memset(name, 1, 63);
    struct schema_col *cols = calloc(SCHEMA_MAX_COLS, sizeof *cols);
    assert_non_null(cols);
    for (unsigned i = 0; i < SCHEMA_MAX_COLS; i++) {
        cols[i] = (struct schema_col){.name = {name, 63}, .in_key = true};
    }
    struct schema *s = support_reread(1, &(struct schema){.ns = {name, 63},
                                             .name = {name, 63},
                                             .replident = 'f',
                                             .ncols = SCHEMA_MAX_COLS,
                                             .cols = cols});
    assert_int_equal(s->nkeys, SCHEMA_MAX_COLS);
    assert_int_equal(s->json_keys_size, SCHEMA_MAX_COLS * (63 * 6 + 3));
    schema_unref(s);
    free(cols);
}

static void
a_table_may_have_no_columns(void **state)
{
    (void)state;
    struct schema *s = support_reread(1, &(struct schema){.name = STR("t"), .replident = 'n'});
    assert_int_equal(s->ncols, 0);
    assert_int_equal(s->nkeys, 0);
    schema_unref(s);
}

static void
references_are_counted(void **state)
{
    (void)state;
    struct schema *s = support_item(1);
    assert_ptr_equal(schema_ref(s), s);
    schema_unref(s);
    assert_true(str_is(s->name, "item")); /* still there: the sanitizer looks */
    schema_unref(s);
    schema_unref(NULL);
}

static void
every_truncation_is_an_error(void **state)
{
    (void)state;
    struct schema *s = support_item(1);
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    schema_encode(&b, s);
    for (size_t n = 0; n < b.n; n++) {
        struct err e;
        struct schema *ret = NULL;
        char *cut = support_exact(b.p, n);
        assert_int_equal(schema_decode(1, (struct str){cut, n}, &ret, &e), ERR_CORRUPT);
        assert_null(ret);
        free(cut);
    }
    schema_unref(s);
}

static void
damaged_encodings_are_errors(void **state)
{
    (void)state;
#define BEGIN "\x96\x05\xa1n\xa1t"
    static const struct {
        struct str encoding;
        int rc;
    } cases[] = {
        {S(BEGIN "\xa1"
                 "d\xc2\x90"),
            0},
        {S(BEGIN "\xa1"
                 "d\xc2\x91\x95\xa1"
                 "c\x19\xff\xa0\xc3"),
            0},
        {S(BEGIN "\xa1"
                 "d\xc2\x90\x00"),
            ERR_CORRUPT}, /* something behind it */
        {S(BEGIN "\xa1"
                 "x\xc2\x90"),
            ERR_CORRUPT}, /* unknown replica identity */
        {S(BEGIN "\xa2"
                 "dd\xc2\x90"),
            ERR_CORRUPT},
        {S(BEGIN "\xa0\xc2\x90"), ERR_CORRUPT},
        {S(BEGIN "\xa1"
                 "d\x00\x90"),
            ERR_CORRUPT}, /* raw_text is no bool */
        {S(BEGIN "\xa1"
                 "d\xc2\x80"),
            ERR_CORRUPT}, /* columns are no array */
        {S("\x96\x05\xa1n\xa0\xa1"
           "d\xc2\x90"),
            ERR_CORRUPT}, /* no name */
        {S("\x95\x05\xa1n\xa1t\xa1"
           "d\xc2"),
            ERR_CORRUPT},
        {S("\x97\x05\xa1n\xa1t\xa1"
           "d\xc2\x90\x00"),
            ERR_CORRUPT},
        {S("\x96\xcf\x00\x00\x00\x01\x00\x00\x00\x00\xa1n\xa1t\xa1"
           "d\xc2\x90"),
            ERR_CORRUPT},
        {S(BEGIN "\xa1"
                 "d\xc2\x91\x95\xa0\x19\xff\xa0\xc3"),
            ERR_CORRUPT}, /* nameless column */
        {S(BEGIN "\xa1"
                 "d\xc2\x91\x94\xa1"
                 "c\x19\xff\xa0"),
            ERR_CORRUPT}, /* four fields */
        {S(BEGIN "\xa1"
                 "d\xc2\x91\x95\xa1"
                 "c\xff\xff\xa0\xc3"),
            ERR_CORRUPT}, /* negative oid */
        {S(BEGIN "\xa1"
                 "d\xc2\x91\x95\xa1"
                 "c\x19\xce\x80\x00\x00\x00\xa0\xc3"),
            ERR_CORRUPT},
        {S(BEGIN "\xa1"
                 "d\xc2\x92\x95\xa1"
                 "c\x19\xff\xa0\xc3"),
            ERR_CORRUPT}, /* one of two */
    };
#undef BEGIN
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e;
        struct schema *ret = NULL;
        char *exact = support_exact(cases[i].encoding.p, cases[i].encoding.n);
        assert_int_equal(
            schema_decode(1, (struct str){exact, cases[i].encoding.n}, &ret, &e), cases[i].rc);
        assert_true((ret != NULL) == (cases[i].rc == 0));
        schema_unref(ret);
        free(exact);
    }
}

static void
too_many_columns_are_an_error(void **state)
{
    (void)state;
    struct err e;
    struct schema *ret = NULL;
    struct schema_col *cols = calloc(SCHEMA_MAX_COLS + 1, sizeof *cols);
    assert_non_null(cols);
    for (unsigned i = 0; i <= SCHEMA_MAX_COLS; i++) {
        cols[i].name = STR("c");
    }
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    schema_encode(&b,
        &(struct schema){
            .name = STR("t"), .replident = 'n', .ncols = SCHEMA_MAX_COLS + 1, .cols = cols});
    assert_int_equal(schema_decode(1, buf_str(&b), &ret, &e), ERR_CORRUPT);
    free(cols);
}

/* A schema has no checksum of its own (its frame has): no flip may be read out of bounds. */
static void
every_flipped_bit_is_survived(void **state)
{
    (void)state;
    struct schema *s = support_item(1);
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    schema_encode(&b, s);
    unsigned errors = 0;
    for (size_t bit = 0; bit < 8 * b.n; bit++) {
        struct err e;
        struct schema *ret = NULL;
        char *flipped = support_exact(b.p, b.n);
        flipped[bit / 8] = (char)(flipped[bit / 8] ^ (1 << bit % 8));
        int rc = schema_decode(1, (struct str){flipped, b.n}, &ret, &e);
        assert_true(rc == 0 || rc == ERR_CORRUPT);
        errors += rc != 0;
        free(flipped);
        if (rc == 0) {
            assert_true(ret->ncols == 3 && ret->cols[2].json_key.n >= 3);
        }
        schema_unref(ret);
    }
    assert_true(errors > b.n); /* at least one bit of each byte matters to the form */
    schema_unref(s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_comes_back),
        cmocka_unit_test(json_types),
        cmocka_unit_test(names_are_escaped_once),
        cmocka_unit_test(the_largest_table_fits),
        cmocka_unit_test(a_table_may_have_no_columns),
        cmocka_unit_test(references_are_counted),
        cmocka_unit_test(every_truncation_is_an_error),
        cmocka_unit_test(damaged_encodings_are_errors),
        cmocka_unit_test(too_many_columns_are_an_error),
        cmocka_unit_test(every_flipped_bit_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
