/* record_json: golden lines of every op (design/interface.md, "A change"), each parsed back,
 * and the same fields as msgpack. */
#include "tests/unit/record_support.h"

#include "proto/base/json.h"
#include "proto/record_json.h"

enum { TYPES_NCOLS = 12 };

static const struct record_txn xact = {.first_offset = 1882345678901230,
    .count = 10,
    .epoch = 1,
    .lsn = 0x16B3748,
    .end_lsn = 0x16B3778,
    .ts_us = 1795341600123456,
    .xid = 742,
    .kind = FRAME_TXN_XACT};

#define HEAD_OF(offset, seq)                                                                   \
    "{\"offset\":" offset ",\"lsn\":\"0/16B3748\",\"seq\":" seq                                \
    ",\"xid\":742,\"ts\":\"2026-11-22T10:00:00.123456Z\",\"epoch\":1,\"op\":"
#define HEAD HEAD_OF("1882345678901234", "4")
#define ITEM ",\"schema\":\"shop\",\"table\":\"item\""

struct fixture {
    struct schema *item, *types;
    struct record_decoder decoder;
    struct buf frame, out;
};

static struct schema *
types_schema(bool raw_text)
{
    static const struct {
        const char *name, *type_name;
        uint32_t typoid;
    } types[TYPES_NCOLS] = {
        {"b", "", 16},
        {"i2", "", 21},
        {"i4", "", 23},
        {"i8", "", 20},
        {"f4", "", 700},
        {"f8", "", 701},
        {"num", "", 1700},
        {"j", "", 114},
        {"jb", "", 3802},
        {"dom", "pg_catalog.int4", 16390},
        {"mood", "public.mood", 16391},
        {"a \"quoted\" name", "", 25},
    };
    struct schema_col cols[TYPES_NCOLS];
    for (unsigned i = 0; i < TYPES_NCOLS; i++) {
        cols[i] = (struct schema_col){.name = str_from(types[i].name),
            .typoid = types[i].typoid,
            .typmod = -1,
            .type_name = str_from(types[i].type_name)};
    }
    return support_reread(8, &(struct schema){.relid = 1,
                                 .ns = STR("public"),
                                 .name = STR("types"),
                                 .replident = 'n',
                                 .raw_text = raw_text,
                                 .ncols = TYPES_NCOLS,
                                 .cols = cols});
}

static int
setup(void **state)
{
    struct fixture *x = calloc(1, sizeof *x);
    x->item = support_item(7);
    x->types = types_schema(false);
    buf_init(&x->frame, SIZE_MAX);
    buf_init(&x->out, SIZE_MAX);
    *state = x;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *x = *state;
    schema_unref(x->item);
    schema_unref(x->types);
    record_decoder_fini(&x->decoder);
    buf_fini(&x->frame);
    buf_fini(&x->out);
    free(x);
    return 0;
}

static struct record
decode(struct fixture *x, const struct schema *s, const struct record_txn *t)
{
    struct err e;
    struct frame f;
    struct record r = {0};
    size_t at = 0;
    assert_int_equal(frame_next(buf_str(&x->frame), &at, true, &f, &e), 0);
    assert_int_equal(record_decode(&x->decoder, &f, s, t, t->first_offset + 4, &r, &e), 0);
    return r;
}

static struct record
row_record(struct fixture *x, uint8_t op, uint8_t flags, const struct schema *s,
    const char *const *new_row, const char *const *old_row)
{
    buf_reset(&x->frame, 0);
    support_put_frame(&x->frame, op, flags, s->id, new_row, old_row, s->ncols);
    return decode(x, s, &xact);
}

/* The line is that one, one line, and JSON. */
static void
assert_line(struct fixture *x, const struct record *r, const char *golden)
{
    struct err e;
    struct json *root = NULL;
    struct str op = {0};
    buf_reset(&x->out, 0);
    record_json_put(&x->out, r);
    assert_true(buf_ok(&x->out));
    assert_string_equal(buf_cstr(&x->out), golden);
    assert_null(memchr(x->out.p, '\n', x->out.n));
    assert_int_equal(json_parse(buf_str(&x->out), &root, &e), 0);
    assert_true(json_str(json_get(root, "op"), &op));
    assert_true(str_is(op, record_op_name(r->op)));
    json_free(root);
}

static void
golden_rows(void **state)
{
    struct fixture *x = *state;
    static const char *const unchanged = support_unchanged;
    const struct {
        uint8_t op, flags;
        const char *new_row[3], *old_row[3];
        const char *golden;
    } cases[] = {
        {FRAME_INSERT, 0, {"1", "tea", NULL}, {0},
            HEAD "\"insert\"" ITEM
                 ",\"key\":{\"id\":1},\"new\":{\"id\":1,\"name\":\"tea\",\"note\":null}}"},
        {FRAME_READ, 0, {"1", "t\"e\\a\n\x01", ""}, {0},
            HEAD "\"read\"" ITEM ",\"key\":{\"id\":1},\"new\":{\"id\":1,\"name\":"
                 "\"t\\\"e\\\\a\\n\\u0001\",\"note\":\"\"}}"},
        {FRAME_UPDATE, 0, {"1", "grüner Tee", unchanged}, {0},
            HEAD "\"update\"" ITEM ",\"key\":{\"id\":1},\"new\":{\"id\":1,\"name\":\"grüner "
                 "Tee\"},\"unchanged\":[\"note\"]}"},
        {FRAME_UPDATE, 0, {"1", unchanged, unchanged}, {0},
            HEAD "\"update\"" ITEM
                 ",\"key\":{\"id\":1},\"new\":{\"id\":1},\"unchanged\":[\"name\",\"note\"]}"},
        /* a key change: the new key, and the former one in old */
        {FRAME_UPDATE, FRAME_OLD_KEY, {"2", "tea", "x"}, {"1", NULL, NULL},
            HEAD "\"update\"" ITEM ",\"key\":{\"id\":2},\"new\":{\"id\":2,\"name\":\"tea\","
                 "\"note\":\"x\"},\"old\":{\"id\":1}}"},
        {FRAME_UPDATE, FRAME_OLD_FULL, {"1", "tea", "x"}, {"1", "coffee", NULL},
            HEAD "\"update\"" ITEM
                 ",\"key\":{\"id\":1},\"new\":{\"id\":1,\"name\":\"tea\",\"note\":\"x\"},"
                 "\"old\":{\"id\":1,\"name\":\"coffee\",\"note\":null}}"},
        /* the key itself TOASTed and not sent again: the old tuple has it */
        {FRAME_UPDATE, FRAME_OLD_KEY, {unchanged, "tea", "x"}, {"1", NULL, NULL},
            HEAD "\"update\"" ITEM
                 ",\"key\":{\"id\":1},\"new\":{\"name\":\"tea\",\"note\":\"x\"},"
                 "\"old\":{\"id\":1},\"unchanged\":[\"id\"]}"},
        {FRAME_DELETE, FRAME_OLD_KEY, {0}, {"1", NULL, NULL},
            HEAD "\"delete\"" ITEM ",\"key\":{\"id\":1},\"old\":{\"id\":1}}"},
        {FRAME_DELETE, FRAME_OLD_FULL, {0}, {"1", "tea", NULL},
            HEAD "\"delete\"" ITEM
                 ",\"key\":{\"id\":1},\"old\":{\"id\":1,\"name\":\"tea\",\"note\":null}}"},
        {FRAME_TRUNCATE, 0, {0}, {0},
            HEAD "\"truncate\"" ITEM ",\"cascade\":false,\"restart_identity\":false}"},
        {FRAME_TRUNCATE, FRAME_CASCADE, {0}, {0},
            HEAD "\"truncate\"" ITEM ",\"cascade\":true,\"restart_identity\":false}"},
        {FRAME_TRUNCATE, FRAME_RESTART_IDENTITY, {0}, {0},
            HEAD "\"truncate\"" ITEM ",\"cascade\":false,\"restart_identity\":true}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool has_new = cases[i].op != FRAME_DELETE && cases[i].op != FRAME_TRUNCATE;
        bool has_old = cases[i].op != FRAME_TRUNCATE && cases[i].flags != 0;
        struct record r = row_record(x, cases[i].op, cases[i].flags, x->item,
            has_new ? cases[i].new_row : NULL, has_old ? cases[i].old_row : NULL);
        assert_line(x, &r, cases[i].golden);
    }
}

static void
golden_messages(void **state)
{
    struct fixture *x = *state;
    static const struct record_txn alone = {.first_offset = 10,
        .count = 5,
        .epoch = 3,
        .lsn = 0x1600000000,
        .ts_us = 0,
        .kind = FRAME_TXN_MESSAGE};
    struct record r = {.offset = 10,
        .txn = &alone,
        .op = FRAME_MESSAGE,
        .prefix = STR("app"),
        .content = {"\0\xff\n", 3}};
    assert_line(x, &r,
        "{\"offset\":10,\"lsn\":\"16/"
        "0\",\"seq\":0,\"ts\":\"1970-01-01T00:00:00.000000Z\",\"epoch\":3,"
        "\"op\":\"message\",\"prefix\":\"app\",\"transactional\":false,\"content\":\"AP8K\"}");
    r = (struct record){.offset = 1882345678901234,
        .seq = 4,
        .txn = &xact,
        .op = FRAME_MESSAGE,
        .flags = FRAME_TRANSACTIONAL,
        .prefix = STR("caf\xe9"),
        .content = STR("")};
    assert_line(x, &r,
        HEAD "\"message\",\"prefix\":{\"base64\":\"Y2Fm6Q==\"},\"transactional\":true,"
             "\"content\":\"\"}");
}

static void
golden_heads(void **state)
{
    struct fixture *x = *state;
    struct record r = row_record(x, FRAME_TRUNCATE, 0, x->item, NULL, NULL);
    struct record_txn t = xact;
    r.txn = &t;
    t.origin = STR("node \"a\"");
    assert_line(x, &r,
        "{\"offset\":1882345678901234,\"lsn\":\"0/16B3748\",\"seq\":4,\"xid\":742,"
        "\"ts\":\"2026-11-22T10:00:00.123456Z\",\"epoch\":1,\"origin\":\"node "
        "\\\"a\\\"\",\"op\":\"truncate\"" ITEM
        ",\"cascade\":false,\"restart_identity\":false}");
    t = (struct record_txn){.epoch = INT64_MAX,
        .lsn = UINT64_MAX,
        .ts_us = 1795341600000000,
        .kind = FRAME_TXN_READ};
    r.offset = r.seq = INT64_MAX;
    assert_line(x, &r,
        "{\"offset\":9223372036854775807,\"lsn\":\"FFFFFFFF/"
        "FFFFFFFF\",\"seq\":9223372036854775807,"
        "\"ts\":\"2026-11-22T10:00:00.000000Z\",\"epoch\":9223372036854775807,\"op\":"
        "\"truncate\"" ITEM ",\"cascade\":false,\"restart_identity\":false}");
}

static void
golden_types(void **state)
{
    struct fixture *x = *state;
    static const struct {
        const char *row[TYPES_NCOLS];
        const char *golden;
    } cases[] = {
        {{"t", "-32768", "0", "9223372036854775807", "1.5", "-1e-05", "48.208200",
             "{ \"a\" :\n [1, \"x  y\"] }", "{\"a\": 1}", "-7", "ok", "v"},
            "{\"b\":true,\"i2\":-32768,\"i4\":0,\"i8\":9223372036854775807,\"f4\":1.5,\"f8\":-"
            "1e-05,"
            "\"num\":\"48.208200\",\"j\":{\"a\":[1,\"x  y\"]},\"jb\":{\"a\": "
            "1},\"dom\":-7,\"mood\":\"ok\","
            "\"a \\\"quoted\\\" name\":\"v\"}"},
        {{"f", NULL, NULL, NULL, "NaN", "Infinity", "NaN", "null", "\"s\"", NULL, NULL, NULL},
            "{\"b\":false,\"i2\":null,\"i4\":null,\"i8\":null,\"f4\":\"NaN\",\"f8\":"
            "\"Infinity\","
            "\"num\":\"NaN\",\"j\":null,\"jb\":\"s\",\"dom\":null,\"mood\":null,"
            "\"a \\\"quoted\\\" name\":null}"},
        {{NULL, NULL, NULL, NULL, "1e+20", "-Infinity", NULL, NULL, NULL, NULL, NULL, ""},
            "{\"b\":null,\"i2\":null,\"i4\":null,\"i8\":null,\"f4\":1e+20,\"f8\":\"-Infinity\","
            "\"num\":null,\"j\":null,\"jb\":null,\"dom\":null,\"mood\":null,"
            "\"a \\\"quoted\\\" name\":\"\"}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct record r = row_record(x, FRAME_INSERT, 0, x->types, cases[i].row, NULL);
        struct buf auto_buf golden;
        buf_init(&golden, SIZE_MAX);
        buf_puts(&golden, HEAD "\"insert\",\"schema\":\"public\",\"table\":\"types\",\"new\":");
        buf_puts(&golden, cases[i].golden);
        buf_putc(&golden, '}');
        assert_line(x, &r, buf_cstr(&golden));
    }
}

/* What is no JSON number becomes a string, whatever the column says: a line is always JSON. */
static void
numbers(void **state)
{
    struct fixture *x = *state;
    static const char *const is[] = {"0", "-0", "7", "10", "-10", "0.5", "-0.25", "1e5", "1E-5",
        "1e+05", "1.5e300", "123456789012345678901234567890"};
    static const char *const is_not[] = {"", "-", "+1", "01", "-01", ".5", "1.", "1.e5", "1e",
        "1e+", "1 ", " 1", "0x1", "NaN", "Infinity", "-Infinity", "1,5", "--1", "1-"};
    const struct schema_col *columns[] = {&x->types->cols[2], &x->types->cols[5]};
    for (size_t c = 0; c < 2; c++) {
        for (size_t i = 0; i < sizeof is / sizeof is[0]; i++) {
            buf_reset(&x->out, 0);
            record_json_put_value(&x->out, x->types, columns[c], str_from(is[i]));
            assert_string_equal(buf_cstr(&x->out), is[i]);
        }
        for (size_t i = 0; i < sizeof is_not / sizeof is_not[0]; i++) {
            buf_reset(&x->out, 0);
            record_json_put_value(&x->out, x->types, columns[c], str_from(is_not[i]));
            assert_int_equal(x->out.p[0], '"');
            assert_int_equal(x->out.n, strlen(is_not[i]) + 2);
        }
    }
}

static void
text_that_is_not_utf8(void **state)
{
    struct fixture *x = *state;
    struct schema *raw = types_schema(true);
    static const char *const row[TYPES_NCOLS] = {"t", "1", NULL, NULL, NULL, NULL, NULL,
        "\"\xe9\"", NULL, NULL,
        "gr\xfc"
        "n",
        "grün"};
    struct record r = row_record(x, FRAME_INSERT, 0, raw, row, NULL);
    assert_line(x, &r,
        HEAD
        "\"insert\",\"schema\":\"public\",\"table\":\"types\",\"new\":{\"b\":true,\"i2\":1,"
        "\"i4\":null,"
        "\"i8\":null,\"f4\":null,\"f8\":null,\"num\":null,\"j\":{\"base64\":\"Iuki\"},\"jb\":"
        "null,"
        "\"dom\":null,\"mood\":{\"base64\":\"Z3L8bg==\"},\"a \\\"quoted\\\" name\":\"grün\"}}");
    schema_unref(raw);
}

static void
keys(void **state)
{
    struct fixture *x = *state;
    struct record r =
        row_record(x, FRAME_INSERT, 0, x->item, (const char *const[]){"5", "a", "b"}, NULL);
    buf_reset(&x->out, 0);
    assert_true(record_json_put_key(&x->out, &r));
    assert_string_equal(buf_cstr(&x->out), "{\"id\":5}");

    static const char *const nothing[TYPES_NCOLS] = {NULL};
    buf_reset(&x->out, 0);
    r = row_record(x, FRAME_INSERT, 0, x->types, nothing, NULL);
    assert_false(record_json_put_key(&x->out, &r));
    r = row_record(x, FRAME_TRUNCATE, 0, x->item, NULL, NULL);
    assert_false(record_json_put_key(&x->out, &r));
    r = (struct record){.op = FRAME_MESSAGE, .txn = &xact};
    assert_false(record_json_put_key(&x->out, &r));
    assert_int_equal(x->out.n, 0);
}

static void
composite_keys_stand_in_column_order(void **state)
{
    struct fixture *x = *state;
    struct schema_col cols[] = {{.name = STR("a"), .typoid = 25, .in_key = true},
        {.name = STR("b"), .typoid = 25}, {.name = STR("c"), .typoid = 23, .in_key = true}};
    struct schema *s = support_reread(
        9, &(struct schema){
               .ns = STR("s"), .name = STR("t"), .replident = 'i', .ncols = 3, .cols = cols});
    struct record r = row_record(x, FRAME_UPDATE, FRAME_OLD_KEY, s,
        (const char *const[]){"x", "y", "2"}, (const char *const[]){"x", NULL, "1"});
    assert_line(x, &r,
        HEAD "\"update\",\"schema\":\"s\",\"table\":\"t\",\"key\":{\"a\":\"x\",\"c\":2},"
             "\"new\":{\"a\":\"x\",\"b\":\"y\",\"c\":2},\"old\":{\"a\":\"x\",\"c\":1}}");
    schema_unref(s);
}

static void
empty_rows(void **state)
{
    struct fixture *x = *state;
    struct schema *s =
        support_reread(9, &(struct schema){.ns = STR("s"), .name = STR("t"), .replident = 'n'});
    struct record r = row_record(x, FRAME_INSERT, 0, s, (const char *const[]){""}, NULL);
    assert_line(x, &r, HEAD "\"insert\",\"schema\":\"s\",\"table\":\"t\",\"new\":{}}");
    schema_unref(s);
}

/* With every limit below what the line needs the buffer is failed and what was there before
 * stays. */
static void
a_full_buffer_fails_at_every_size(void **state)
{
    struct fixture *x = *state;
    struct record r = row_record(x, FRAME_UPDATE, FRAME_OLD_FULL, x->item,
        (const char *const[]){"1", "tea", support_unchanged},
        (const char *const[]){"1", "x", "y"});
    buf_reset(&x->out, 0);
    record_json_put(&x->out, &r);
    size_t whole = x->out.n;
    for (size_t limit = 0; limit < whole; limit++) {
        struct buf auto_buf b;
        buf_init(&b, 4 + limit);
        buf_puts(&b, "keep");
        record_json_put(&b, &r);
        assert_false(buf_ok(&b));
        assert_memory_equal(b.p, "keep", 4);
    }
}

/* ---- msgpack ---- */

/* Reads a map's next member, which must have that name. */
static void
expect(struct mp *m, const char *name)
{
    struct str got = mp_str(m);
    assert_true(str_is(got, name));
}

static void
expect_text(struct mp *m, const char *name, const char *text)
{
    expect(m, name);
    assert_int_equal(mp_peek(m), MP_STR);
    struct str got = mp_str(m);
    assert_true(str_is(got, text));
}

static void
expect_head(struct mp *m, uint32_t members, const char *op)
{
    assert_int_equal(mp_map(m), members);
    expect(m, "offset");
    assert_true(mp_u64(m) == 1882345678901234);
    expect_text(m, "lsn", "0/16B3748");
    expect(m, "seq");
    assert_true(mp_u64(m) == 4);
    expect(m, "xid");
    assert_true(mp_u64(m) == 742);
    expect_text(m, "ts", "2026-11-22T10:00:00.123456Z");
    expect(m, "epoch");
    assert_true(mp_u64(m) == 1);
    expect_text(m, "op", op);
}

static struct mp
render_msgpack(struct fixture *x, const struct record *r)
{
    struct mp m;
    buf_reset(&x->out, 0);
    record_msgpack_put(&x->out, r);
    assert_true(buf_ok(&x->out));
    mp_init(&m, buf_str(&x->out));
    return m;
}

static void
msgpack_update(void **state)
{
    struct fixture *x = *state;
    struct record r = row_record(x, FRAME_UPDATE, FRAME_OLD_KEY, x->item,
        (const char *const[]){"2", "tea", support_unchanged},
        (const char *const[]){"1", NULL, NULL});
    struct mp m = render_msgpack(x, &r);
    expect_head(&m, 13, "update");
    expect_text(&m, "schema", "shop");
    expect_text(&m, "table", "item");
    expect(&m, "key");
    assert_int_equal(mp_map(&m), 1);
    expect(&m, "id");
    assert_true(mp_i64(&m) == 2);
    expect(&m, "new");
    assert_int_equal(mp_map(&m), 2);
    expect(&m, "id");
    assert_true(mp_i64(&m) == 2);
    expect_text(&m, "name", "tea");
    expect(&m, "old");
    assert_int_equal(mp_map(&m), 1);
    expect(&m, "id");
    assert_true(mp_i64(&m) == 1);
    expect(&m, "unchanged");
    assert_int_equal(mp_array(&m), 1);
    assert_true(str_is(mp_str(&m), "note"));
    assert_true(mp_done(&m));
}

static void
msgpack_types(void **state)
{
    struct fixture *x = *state;
    static const char *const row[TYPES_NCOLS] = {"t", "-3", "4", "9223372036854775807", "1.5",
        "NaN", "1.10", "{ }", "{}", "x", NULL, "v"};
    struct record r = row_record(x, FRAME_INSERT, 0, x->types, row, NULL);
    struct mp m = render_msgpack(x, &r);
    expect_head(&m, 10, "insert");
    expect_text(&m, "schema", "public");
    expect_text(&m, "table", "types");
    expect(&m, "new");
    assert_int_equal(mp_map(&m), TYPES_NCOLS);
    expect(&m, "b");
    assert_true(mp_bool(&m));
    expect(&m, "i2");
    assert_true(mp_i64(&m) == -3);
    expect(&m, "i4");
    assert_true(mp_i64(&m) == 4);
    expect(&m, "i8");
    assert_true(mp_i64(&m) == INT64_MAX);
    expect(&m, "f4");
    assert_true(mp_double(&m) == 1.5);
    expect(&m, "f8");
    assert_int_equal(mp_peek(&m), MP_DOUBLE);
    double nan = mp_double(&m);
    assert_true(nan != nan);
    expect_text(&m, "num", "1.10");
    expect_text(&m, "j", "{ }");
    expect_text(&m, "jb", "{}");
    expect_text(&m, "dom", "x"); /* not a number: as it is */
    expect(&m, "mood");
    assert_true(mp_nil(&m));
    expect_text(&m, "a \"quoted\" name", "v");
    assert_true(mp_done(&m));
}

static void
msgpack_others(void **state)
{
    struct fixture *x = *state;
    struct record r = row_record(x, FRAME_TRUNCATE, FRAME_CASCADE, x->item, NULL, NULL);
    struct mp m = render_msgpack(x, &r);
    expect_head(&m, 11, "truncate");
    expect_text(&m, "schema", "shop");
    expect_text(&m, "table", "item");
    expect(&m, "cascade");
    assert_true(mp_bool(&m));
    expect(&m, "restart_identity");
    assert_false(mp_bool(&m));
    assert_true(mp_done(&m));

    r = (struct record){.offset = 1882345678901234,
        .seq = 4,
        .txn = &xact,
        .op = FRAME_MESSAGE,
        .flags = FRAME_TRANSACTIONAL,
        .prefix = STR("app"),
        .content = {"\0\xff", 2}};
    m = render_msgpack(x, &r);
    expect_head(&m, 10, "message");
    expect_text(&m, "prefix", "app");
    expect(&m, "transactional");
    assert_true(mp_bool(&m));
    expect(&m, "content");
    assert_int_equal(mp_peek(&m), MP_BIN);
    assert_int_equal(mp_str(&m).n, 2);
    assert_true(mp_done(&m));
}

static void
msgpack_text_that_is_not_utf8(void **state)
{
    struct fixture *x = *state;
    struct schema_col col = {.name = STR("c"), .typoid = 25};
    struct schema *s = support_reread(9, &(struct schema){.ns = STR("s"),
                                             .name = STR("t"),
                                             .replident = 'n',
                                             .raw_text = true,
                                             .ncols = 1,
                                             .cols = &col});
    struct record r = row_record(x, FRAME_INSERT, 0, s, (const char *const[]){"\xff"}, NULL);
    struct mp m = render_msgpack(x, &r);
    expect_head(&m, 10, "insert");
    expect_text(&m, "schema", "s");
    expect_text(&m, "table", "t");
    expect(&m, "new");
    assert_int_equal(mp_map(&m), 1);
    expect(&m, "c");
    assert_int_equal(mp_peek(&m), MP_BIN);
    schema_unref(s);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(golden_rows),
        TEST(golden_messages),
        TEST(golden_heads),
        TEST(golden_types),
        TEST(numbers),
        TEST(text_that_is_not_utf8),
        TEST(keys),
        TEST(composite_keys_stand_in_column_order),
        TEST(empty_rows),
        TEST(a_full_buffer_fails_at_every_size),
        TEST(msgpack_update),
        TEST(msgpack_types),
        TEST(msgpack_others),
        TEST(msgpack_text_that_is_not_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
