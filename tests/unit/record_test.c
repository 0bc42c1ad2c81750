/* record: what each op decodes to, and that payload and schema must fit. */
#include "tests/unit/record_support.h"

#include "proto/record.h"

static const struct record_txn txn = {
    .first_offset = 1000, .count = 100, .epoch = 1, .xid = 742};

struct fixture {
    struct schema *item;
    struct record_decoder decoder;
    struct buf b;
};

static int
setup(void **state)
{
    struct fixture *x = calloc(1, sizeof *x);
    x->item = support_item(7);
    buf_init(&x->b, SIZE_MAX);
    *state = x;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *x = *state;
    schema_unref(x->item);
    record_decoder_fini(&x->decoder);
    buf_fini(&x->b);
    free(x);
    return 0;
}

/* Decodes the one frame in x->b from a copy of exactly its size; the record's views do not
 * outlive it. */
static int
decode(struct fixture *x, const struct schema *s, struct record *r)
{
    struct err e;
    struct frame f;
    size_t at = 0;
    int rc = frame_next(buf_str(&x->b), &at, true, &f, &e);
    assert_int_equal(rc, 0);
    return record_decode(&x->decoder, &f, s, &txn, 1005, r, &e);
}

static int
decode_payload(struct fixture *x, uint8_t op, uint8_t flags, struct str payload)
{
    struct err e;
    struct record r;
    char *exact = support_exact(payload.p, payload.n);
    struct frame f = {.op = op,
        .flags = flags,
        .schema_id = op == FRAME_MESSAGE ? 0 : 7,
        .payload = {exact, payload.n}};
    int rc = record_decode(
        &x->decoder, &f, op == FRAME_MESSAGE ? NULL : x->item, &txn, 1005, &r, &e);
    free(exact);
    return rc;
}

static void
assert_row(const struct record_value *row, const char *const *cells)
{
    assert_non_null(row);
    for (unsigned i = 0; i < SUPPORT_NCOLS; i++) {
        if (cells[i] == NULL) {
            assert_int_equal(row[i].kind, RECORD_NULL);
        } else if (cells[i] == support_unchanged) {
            assert_int_equal(row[i].kind, RECORD_UNCHANGED);
        } else {
            assert_int_equal(row[i].kind, RECORD_TEXT);
            assert_true(str_is(row[i].text, cells[i]));
        }
    }
}

static void
rows_of_every_op(void **state)
{
    struct fixture *x = *state;
    static const char *const new_row[] = {"1", "tea", support_unchanged};
    static const char *const old_row[] = {"2", NULL, ""};
    static const struct {
        uint8_t op, flags;
        bool has_new, has_old;
    } cases[] = {
        {FRAME_INSERT, 0, true, false},
        {FRAME_READ, 0, true, false},
        {FRAME_UPDATE, 0, true, false},
        {FRAME_UPDATE, FRAME_OLD_FULL, true, true},
        {FRAME_DELETE, FRAME_OLD_FULL, false, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct record r;
        buf_reset(&x->b, 0);
        support_put_frame(&x->b, cases[i].op, cases[i].flags, 7,
            cases[i].has_new ? new_row : NULL, cases[i].has_old ? old_row : NULL,
            SUPPORT_NCOLS);
        assert_int_equal(decode(x, x->item, &r), 0);
        assert_int_equal(r.op, cases[i].op);
        assert_int_equal(r.flags, cases[i].flags);
        assert_true(r.offset == 1005 && r.seq == 5 && r.txn == &txn && r.schema == x->item);
        if (cases[i].has_new) {
            assert_row(r.new_row, new_row);
        } else {
            assert_null(r.new_row);
        }
        if (cases[i].has_old) {
            assert_row(r.old_row, old_row);
        } else {
            assert_null(r.old_row);
        }
    }
}

static void
an_old_key_has_nothing_but_the_key(void **state)
{
    struct fixture *x = *state;
    struct record r;
    support_put_frame(&x->b, FRAME_DELETE, FRAME_OLD_KEY, 7, NULL,
        (const char *const[]){"2", NULL, NULL}, SUPPORT_NCOLS);
    assert_int_equal(decode(x, x->item, &r), 0);
    assert_int_equal(r.old_row[0].kind, RECORD_TEXT);
    assert_int_equal(r.old_row[1].kind, RECORD_ABSENT);
    assert_int_equal(r.old_row[2].kind, RECORD_ABSENT);

    buf_reset(&x->b, 0);
    support_put_frame(&x->b, FRAME_DELETE, FRAME_OLD_KEY, 7, NULL,
        (const char *const[]){"2", NULL, "a value"}, SUPPORT_NCOLS);
    assert_int_equal(decode(x, x->item, &r), ERR_CORRUPT);
}

/* Text around the lengths where msgpack's form changes. */
static void
text_of_every_length(void **state)
{
    struct fixture *x = *state;
    static const size_t sizes[] = {0, 1, 31, 32, 255, 256, 65535, 65536, 70000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct record r;
        char *text = malloc(sizes[i] + 1);
        memset(text, 'x', sizes[i]);
        text[sizes[i]] = 0;
        buf_reset(&x->b, 0);
        support_put_frame(&x->b, FRAME_INSERT, 0, 7, (const char *const[]){"1", text, text},
            NULL, SUPPORT_NCOLS);
        assert_int_equal(decode(x, x->item, &r), 0);
        assert_true(str_is(r.new_row[1].text, text) && str_is(r.new_row[2].text, text));
        free(text);
    }
}

/* And as many columns as need each form of an array. */
static void
tuples_of_every_width(void **state)
{
    struct fixture *x = *state;
    static const uint32_t widths[] = {0, 1, 15, 16, 300, SCHEMA_MAX_COLS};
    static struct schema_col cols[SCHEMA_MAX_COLS];
    static const char *cells[SCHEMA_MAX_COLS + 1];
    for (uint32_t i = 0; i < SCHEMA_MAX_COLS; i++) {
        cols[i] = (struct schema_col){.name = STR("c")};
        cells[i] = "v";
    }
    cells[SCHEMA_MAX_COLS] = "one too many";
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        struct record r;
        struct schema *s = support_reread(
            7, &(struct schema){
                   .name = STR("t"), .replident = 'f', .ncols = widths[i], .cols = cols});
        buf_reset(&x->b, 0);
        support_put_frame(&x->b, FRAME_UPDATE, FRAME_OLD_FULL, 7, cells, cells, widths[i]);
        assert_int_equal(decode(x, s, &r), 0);
        assert_true(widths[i] == 0 || str_is(r.old_row[widths[i] - 1].text, "v"));
        buf_reset(&x->b, 0);
        support_put_frame(&x->b, FRAME_INSERT, 0, 7, cells, NULL, widths[i] + 1);
        assert_int_equal(decode(x, s, &r), ERR_CORRUPT);
        schema_unref(s);
    }
}

static void
truncates_and_messages(void **state)
{
    struct fixture *x = *state;
    struct record r;
    support_put_frame(&x->b, FRAME_TRUNCATE, FRAME_CASCADE, 7, NULL, NULL, 0);
    assert_int_equal(decode(x, x->item, &r), 0);
    assert_null(r.new_row);
    assert_null(r.old_row);
    assert_int_equal(r.flags, FRAME_CASCADE);

    buf_reset(&x->b, 0);
    size_t start = frame_begin(&x->b, FRAME_MESSAGE, FRAME_TRANSACTIONAL, 0);
    mp_put_array(&x->b, 2);
    mp_put_str(&x->b, STR("app"));
    mp_put_bin(&x->b, (struct str){"\0\xff", 2});
    frame_end(&x->b, start);
    assert_int_equal(decode(x, NULL, &r), 0);
    assert_null(r.schema);
    assert_true(str_is(r.prefix, "app"));
    assert_int_equal(r.content.n, 2);
}

static void
another_schema_is_an_error(void **state)
{
    struct fixture *x = *state;
    struct record r;
    struct schema *other = support_item(8);
    support_put_frame(
        &x->b, FRAME_INSERT, 0, 7, (const char *const[]){"1", NULL, NULL}, NULL, 3);
    assert_int_equal(decode(x, other, &r), ERR_CORRUPT);
    assert_int_equal(decode(x, NULL, &r), ERR_CORRUPT);
    assert_int_equal(decode(x, x->item, &r), 0);
    schema_unref(other);
}

/* lint:long: one table of payloads */
static void
damaged_payloads_are_errors(void **state)
{
    struct fixture *x = *state;
    static const struct {
        uint8_t op, flags;
        struct str payload;
        int rc;
    } cases[] = {
        {FRAME_INSERT, 0,
            S("\x93\xa1"
              "1\xc0\xc0"),
            0},
        {FRAME_INSERT, 0,
            S("\xdc\x00\x03\xa1"
              "1\xc0\xc2"),
            0},
        {FRAME_INSERT, 0,
            S("\xdd\x00\x00\x00\x03\xa1"
              "1\xc0\xc2"),
            0},
        {FRAME_INSERT, 0,
            S("\x93\xd9\x01"
              "1\xda\x00\x01x\xdb\x00\x00\x00\x01y"),
            0},
        {FRAME_INSERT, 0, S(""), ERR_CORRUPT},
        {FRAME_INSERT, 0,
            S("\x93\xa1"
              "1\xc0\xc0\xc0"),
            ERR_CORRUPT}, /* something behind it */
        {FRAME_INSERT, 0,
            S("\x92\xa1"
              "1\xc0"),
            ERR_CORRUPT}, /* too few columns */
        {FRAME_INSERT, 0,
            S("\x94\xa1"
              "1\xc0\xc0\xc0"),
            ERR_CORRUPT}, /* too many */
        {FRAME_INSERT, 0,
            S("\x83\xa1"
              "1\xc0\xc0\xc0"),
            ERR_CORRUPT}, /* a map */
        {FRAME_INSERT, 0,
            S("\x93\xa1"
              "1\xc0\xc3"),
            ERR_CORRUPT}, /* true */
        {FRAME_INSERT, 0,
            S("\x93\xa1"
              "1\xc0\x05"),
            ERR_CORRUPT}, /* a number */
        {FRAME_INSERT, 0,
            S("\x93\xa1"
              "1\xc0\xc4\x01x"),
            ERR_CORRUPT}, /* bin */
        {FRAME_INSERT, 0,
            S("\x93\xa1"
              "1\xc0\x90"),
            ERR_CORRUPT}, /* an array */
        {FRAME_INSERT, 0,
            S("\x93\xa1"
              "1\xc0\xdb\xff\xff\xff\xff"),
            ERR_CORRUPT},
        {FRAME_INSERT, 0, S("\xdd\xff\xff\xff\xff"), ERR_CORRUPT},
        {FRAME_UPDATE, 0,
            S("\x93\xa1"
              "1\xc0\xc0\x93\xa1"
              "1\xc0\xc0"),
            ERR_CORRUPT},
        {FRAME_UPDATE, FRAME_OLD_KEY,
            S("\x93\xa1"
              "1\xc0\xc0\x93\xa1"
              "1\xc0\xc0"),
            0},
        {FRAME_UPDATE, FRAME_OLD_KEY,
            S("\x93\xa1"
              "1\xc0\xc0"),
            ERR_CORRUPT},
        {FRAME_DELETE, FRAME_OLD_FULL,
            S("\x93\xa1"
              "1\xc0\xc0\x93\xa1"
              "1\xc0\xc0"),
            ERR_CORRUPT},
        {FRAME_DELETE, FRAME_OLD_KEY,
            S("\x93\xa1"
              "1\xc0\xc2"),
            ERR_CORRUPT},
        {FRAME_TRUNCATE, 0, S("\x90"), ERR_CORRUPT},
        {FRAME_MESSAGE, 0, S("\x92\xa1p\xc4\x01x"), 0},
        {FRAME_MESSAGE, 0, S("\x92\xa1p\xc0"), ERR_CORRUPT},
        {FRAME_MESSAGE, 0, S("\x91\xa1p"), ERR_CORRUPT},
        {FRAME_MESSAGE, 0, S("\x92\xa1p\xc4\x01x\x00"), ERR_CORRUPT},
        {FRAME_MESSAGE, 0, S("\x92\xa1p\xc4\x02x"), ERR_CORRUPT},
        {FRAME_BEGIN, 0, S("\x93\x00\x05\x09"), ERR_CORRUPT}, /* not a record */
        {0, 0, S(""), ERR_CORRUPT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(
            decode_payload(x, cases[i].op, cases[i].flags, cases[i].payload), cases[i].rc);
    }
}

static void
every_truncated_payload_is_an_error(void **state)
{
    struct fixture *x = *state;
    char text[300];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    support_put_frame(&x->b, FRAME_UPDATE, FRAME_OLD_FULL, 7,
        (const char *const[]){"1", text, "short"},
        (const char *const[]){"a text of more than thirty-one bytes", support_unchanged, NULL},
        3);
    struct str payload = {x->b.p + FRAME_HEADER, x->b.n - FRAME_HEADER};
    assert_int_equal(decode_payload(x, FRAME_UPDATE, FRAME_OLD_FULL, payload), 0);
    for (size_t n = 0; n < payload.n; n++) {
        assert_int_equal(
            decode_payload(x, FRAME_UPDATE, FRAME_OLD_FULL, (struct str){payload.p, n}),
            ERR_CORRUPT);
    }
}

/* A flip within a payload that the checksum let pass may give another value, never a read out
 * of bounds. */
static void
every_flipped_bit_is_survived(void **state)
{
    struct fixture *x = *state;
    support_put_frame(&x->b, FRAME_UPDATE, FRAME_OLD_KEY, 7,
        (const char *const[]){"1", "a text of more than thirty-one bytes", support_unchanged},
        (const char *const[]){"2", NULL, NULL}, 3);
    for (size_t bit = 8 * FRAME_HEADER; bit < 8 * x->b.n; bit++) {
        x->b.p[bit / 8] = (char)(x->b.p[bit / 8] ^ (1 << bit % 8));
        int rc = decode_payload(x, FRAME_UPDATE, FRAME_OLD_KEY,
            (struct str){x->b.p + FRAME_HEADER, x->b.n - FRAME_HEADER});
        assert_true(rc == 0 || rc == ERR_CORRUPT);
        x->b.p[bit / 8] = (char)(x->b.p[bit / 8] ^ (1 << bit % 8));
    }
}

static void
ops_have_names(void **state)
{
    (void)state;
    static const char *const names[] = {
        "insert", "update", "delete", "truncate", "read", "message"};
    for (uint8_t op = FRAME_INSERT; op <= FRAME_MESSAGE; op++) {
        uint8_t parsed = 0;
        assert_string_equal(record_op_name(op), names[op - 1]);
        assert_true(record_op_parse(str_from(names[op - 1]), &parsed));
        assert_int_equal(parsed, op);
    }
    static const char *const bad[] = {"", "INSERT", "inser", "inserts", "begin"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint8_t parsed = 77;
        assert_false(record_op_parse(str_from(bad[i]), &parsed));
        assert_int_equal(parsed, 77);
    }
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(rows_of_every_op),
        TEST(an_old_key_has_nothing_but_the_key),
        TEST(text_of_every_length),
        TEST(tuples_of_every_width),
        TEST(truncates_and_messages),
        TEST(another_schema_is_an_error),
        TEST(damaged_payloads_are_errors),
        TEST(every_truncated_payload_is_an_error),
        TEST(every_flipped_bit_is_survived),
        cmocka_unit_test(ops_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
