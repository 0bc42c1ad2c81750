/* Decoded changes become frames that record_decode reads back; a round trip through the real
 * bytes. */
#include "replicator/encode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base/bytes.h"
#include "proto/frame.h"
#include "proto/record.h"

#define S(literal)                                                                             \
    {                                                                                          \
        .p = (literal), .n = sizeof(literal) - 1                                               \
    }
#define assert_str(s, cstr) assert_true(str_is((s), (cstr)))

struct fixture {
    struct pgoutput_decoder decoder;
    struct relcache cache;
    struct record_decoder records;
    struct buf wire, out;
    uint32_t next_id;
    struct schema *schema; /* of the table, as a reader has it */
};

static int
setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    pgoutput_init(&f->decoder, false);
    relcache_init(&f->cache, 1 << 24, false);
    buf_init(&f->wire, 1 << 28);
    buf_init(&f->out, 1 << 28);
    f->next_id = 5;
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;
    pgoutput_fini(&f->decoder);
    relcache_fini(&f->cache);
    record_decoder_fini(&f->records);
    buf_fini(&f->wire);
    buf_fini(&f->out);
    schema_unref(f->schema);
    free(f);
    return 0;
}

/* ---- making wire messages ---- */

static void
wire_u16(struct buf *b, uint16_t v)
{
    char be[2];
    put_be16(be, v);
    buf_put(b, be, 2);
}

static void
wire_u32(struct buf *b, uint32_t v)
{
    char be[4];
    put_be32(be, v);
    buf_put(b, be, 4);
}

/* Values: NULL is NULL, "\1" unchanged, "\2..." binary, else text. */
static void
wire_tuple(struct buf *b, char tag, const char *const *v, uint16_t n)
{
    buf_putc(b, tag);
    wire_u16(b, n);
    for (uint16_t i = 0; i < n; i++) {
        if (v[i] == NULL || v[i][0] == 1) {
            buf_putc(b, v[i] == NULL ? 'n' : 'u');
        } else {
            buf_putc(b, v[i][0] == 2 ? 'b' : 't');
            wire_u32(b, (uint32_t)strlen(v[i]));
            buf_puts(b, v[i]);
        }
    }
}

static const struct pgoutput_msg *
decode(struct fixture *f)
{
    struct err e = {0};
    const struct pgoutput_msg *m = NULL;
    if (pgoutput_decode(&f->decoder, buf_str(&f->wire), false, &m, &e) != 0) {
        fail_msg("%s", e.msg);
    }
    return m;
}

static const struct pgoutput_msg *
row(struct fixture *f, char type, char old_tag, const char *const *old, const char *const *new,
    uint16_t n)
{
    buf_reset(&f->wire, SIZE_MAX);
    buf_putc(&f->wire, type);
    wire_u32(&f->wire, 16385);
    if (old != NULL) {
        wire_tuple(&f->wire, old_tag, old, n);
    }
    if (new != NULL) {
        wire_tuple(&f->wire, 'N', new, n);
    }
    return decode(f);
}

/* A table of columns c0, c1, ..., the first nkeys of them its key; its schema frame read back.
 */
static struct relation *
make_table(struct fixture *f, char replident, uint32_t ncols, uint32_t nkeys)
{
    static struct pgoutput_column cols[PGOUTPUT_MAX_COLS];
    static char names[PGOUTPUT_MAX_COLS][8];
    for (uint32_t i = 0; i < ncols; i++) {
        int n = snprintf(names[i], sizeof names[i], "c%u", i);
        cols[i] = (struct pgoutput_column){.name = {.p = names[i], .n = (size_t)n},
            .typoid = 25,
            .typmod = -1,
            .is_key = replident == 'f' || i < nkeys};
    }
    struct pgoutput_relation r = {.relid = 16385,
        .ns = S("public"),
        .name = S("t"),
        .replident = replident,
        .ncols = ncols,
        .cols = cols};
    struct err e = {0};
    struct relation *rel = NULL;
    assert_int_equal(relcache_put(&f->cache, &r, &rel, &e), 0);
    if (rel->needs_key) {
        struct str keys[4];
        for (uint32_t i = 0; i < nkeys; i++) {
            keys[i] = cols[i].name;
        }
        assert_true(relcache_set_key(rel, keys, nkeys));
    }
    return rel;
}

static void
next_frame(struct fixture *f, size_t *at, struct frame *ret)
{
    struct err e = {0};
    if (frame_next(buf_str(&f->out), at, true, ret, &e) != 0) {
        fail_msg("%s", e.msg);
    }
}

static void
publish(struct fixture *f, struct relation *rel)
{
    struct err e = {0};
    struct frame frame;
    size_t at = 0;
    buf_reset(&f->out, SIZE_MAX);
    assert_int_equal(encode_schema(&f->out, rel, &f->next_id, &e), 0);
    next_frame(f, &at, &frame);
    assert_true(
        at == f->out.n && frame.op == FRAME_SCHEMA && frame.schema_id == rel->schema.id);
    schema_unref(f->schema);
    f->schema = NULL;
    assert_int_equal(schema_decode(frame.schema_id, frame.payload, &f->schema, &e), 0);
}

/* Encodes into an empty buffer and reads the one record back. */
static struct record
through(struct fixture *f, const struct relation *rel, const struct pgoutput_msg *m)
{
    static const struct record_txn txn = {.count = 1};
    struct err e = {0};
    struct frame frame;
    struct record r;
    size_t at = 0;
    buf_reset(&f->out, SIZE_MAX);
    if (encode_row(&f->out, rel, m->type, &m->row, &e) != 0) {
        fail_msg("%s", e.msg);
    }
    next_frame(f, &at, &frame);
    assert_int_equal(at, f->out.n);
    if (record_decode(&f->records, &frame, f->schema, &txn, 0, &r, &e) != 0) {
        fail_msg("%s", e.msg);
    }
    return r;
}

static void
expect_row(const struct record_value *v, const char *const *want, uint32_t n)
{
    assert_non_null(v);
    for (uint32_t i = 0; i < n; i++) {
        if (want[i] == NULL) {
            assert_int_equal(v[i].kind, RECORD_NULL);
        } else if (want[i][0] == 1) {
            assert_int_equal(v[i].kind, RECORD_UNCHANGED);
        } else {
            assert_int_equal(v[i].kind, RECORD_TEXT);
            assert_str(v[i].text, want[i]);
        }
    }
}

#define ROW(...)                                                                               \
    (const char *const[])                                                                      \
    {                                                                                          \
        __VA_ARGS__                                                                            \
    }
#define UNCHANGED "\1"

/* ---- schemas ---- */

static void
test_schema_once_for_each_version(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    struct relation *rel = make_table(f, 'd', 3, 1);
    publish(f, rel);
    assert_true(rel->schema.id == 5 && f->next_id == 6);
    assert_true(f->schema->relid == 16385 && f->schema->ncols == 3 && f->schema->nkeys == 1);
    assert_str(f->schema->ns, "public");
    assert_str(f->schema->cols[2].name, "c2");
    size_t n = f->out.n;
    assert_int_equal(encode_schema(&f->out, rel, &f->next_id, &e), 0);
    assert_true(f->out.n == n && f->next_id == 6);
    rel = make_table(f, 'd', 3, 1);
    assert_int_equal(rel->schema.id, 5);
    rel = make_table(f, 'd', 4, 1);
    publish(f, rel);
    assert_true(rel->schema.id == 6 && f->schema->ncols == 4);
}

static void
test_schema_ids_run_out(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    struct relation *rel = make_table(f, 'd', 1, 1);
    f->next_id = UINT32_MAX;
    assert_int_equal(encode_schema(&f->out, rel, &f->next_id, &e), ERR_REFUSED);
    assert_true(f->out.n == 0 && rel->schema.id == 0);
}

/* ---- rows ---- */

static void
test_insert(void **state)
{
    struct fixture *f = *state;
    struct relation *rel = make_table(f, 'd', 4, 1);
    publish(f, rel);
    struct record r = through(f, rel, row(f, 'I', 0, NULL, ROW("1", "", NULL, UNCHANGED), 4));
    assert_true(r.op == FRAME_INSERT && r.flags == 0 && r.old_row == NULL);
    expect_row(r.new_row, ROW("1", "", NULL, UNCHANGED), 4);
}

static void
test_update_without_old(void **state)
{
    struct fixture *f = *state;
    struct relation *rel = make_table(f, 'd', 3, 1);
    publish(f, rel);
    struct record r = through(f, rel, row(f, 'U', 0, NULL, ROW("1", UNCHANGED, NULL), 3));
    assert_true(r.op == FRAME_UPDATE && r.flags == 0 && r.old_row == NULL);
    expect_row(r.new_row, ROW("1", UNCHANGED, NULL), 3);
}

/* Whatever a partition with another identity sends outside the key stays out. */
static void
test_old_key_holds_the_key_alone(void **state)
{
    struct fixture *f = *state;
    struct relation *rel = make_table(f, 'd', 3, 2);
    publish(f, rel);
    struct record r =
        through(f, rel, row(f, 'U', 'K', ROW("1", "a", "stray"), ROW("2", "a", UNCHANGED), 3));
    assert_true(r.op == FRAME_UPDATE && r.flags == FRAME_OLD_KEY);
    expect_row(r.old_row, ROW("1", "a"), 2);
    assert_int_equal(r.old_row[2].kind, RECORD_ABSENT);
    expect_row(r.new_row, ROW("2", "a", UNCHANGED), 3);
    r = through(f, rel, row(f, 'D', 'K', ROW("1", "a", "stray"), NULL, 3));
    assert_true(r.op == FRAME_DELETE && r.flags == FRAME_OLD_KEY && r.new_row == NULL);
    expect_row(r.old_row, ROW("1", "a"), 2);
    assert_int_equal(f->out.n, FRAME_HEADER + 6);
    assert_memory_equal(f->out.p + FRAME_HEADER,
        "\x93\xa1"
        "1\xa1"
        "a\xc0",
        6);
}

static void
test_full_fills_what_is_unchanged(void **state)
{
    struct fixture *f = *state;
    char big[1000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    struct relation *rel = make_table(f, 'f', 4, 1);
    publish(f, rel);
    assert_true(f->schema->nkeys == 1 && f->schema->cols[0].in_key);
    struct record r = through(f, rel,
        row(f, 'U', 'O', ROW("1", big, NULL, "b"), ROW("1", UNCHANGED, UNCHANGED, "c"), 4));
    assert_true(r.op == FRAME_UPDATE && r.flags == FRAME_OLD_FULL);
    expect_row(r.new_row, ROW("1", big, UNCHANGED, "c"), 4); /* never a NULL out of nowhere */
    expect_row(r.old_row, ROW("1", big, NULL, "b"), 4);
    r = through(f, rel, row(f, 'D', 'O', ROW("1", big, NULL, "b"), NULL, 4));
    assert_true(r.op == FRAME_DELETE && r.flags == FRAME_OLD_FULL);
    expect_row(r.old_row, ROW("1", big, NULL, "b"), 4);
}

/* Nothing of the key changed, yet it comes as an old key: its new value was left out. */
static void
test_a_key_that_is_unchanged_is_filled(void **state)
{
    struct fixture *f = *state;
    char big[70000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    struct relation *rel = make_table(f, 'd', 4, 2);
    publish(f, rel);
    struct record r = through(f, rel,
        row(f, 'U', 'K', ROW(big, "2", NULL, NULL), ROW(UNCHANGED, "2", UNCHANGED, "c"), 4));
    assert_true(r.op == FRAME_UPDATE && r.flags == FRAME_OLD_KEY);
    expect_row(r.new_row, ROW(big, "2", UNCHANGED, "c"), 4);
    expect_row(r.old_row, ROW(big, "2"), 2);
}

/* Each length around the borders of msgpack's headers and of the wide copy, at each place in
 * the row. */
static void
test_every_text_length(void **state)
{
    struct fixture *f = *state;
    static const uint32_t lengths[] = {0, 1, 15, 16, 30, 31, 32, 33, 63, 64, 65, 254, 255, 256,
        257, 65534, 65535, 65536, 65537};
    struct relation *rel = make_table(f, 'd', 3, 1);
    publish(f, rel);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        char *text = malloc(lengths[i] + 1);
        assert_non_null(text);
        for (uint32_t j = 0; j < lengths[i]; j++) {
            text[j] = (char)('a' + j % 26);
        }
        text[lengths[i]] = 0;
        for (int at = 0; at < 3; at++) {
            const char *v[3] = {"k", at == 2 ? NULL : "m", "z"};
            v[at] = text;
            struct record r = through(f, rel, row(f, 'I', 0, NULL, v, 3));
            expect_row(r.new_row, v, 3);
        }
        free(text);
    }
}

static void
test_every_width(void **state)
{
    struct fixture *f = *state;
    static const uint32_t widths[] = {0, 1, 15, 16, 17, 255, 256, PGOUTPUT_MAX_COLS};
    static const char *v[PGOUTPUT_MAX_COLS];
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        for (uint32_t j = 0; j < widths[i]; j++) {
            v[j] = j % 3 == 2 ? NULL : j % 3 == 1 ? "one" : "";
        }
        struct relation *rel = make_table(f, 'd', widths[i], 0);
        publish(f, rel);
        struct record r = through(f, rel, row(f, 'I', 0, NULL, v, (uint16_t)widths[i]));
        expect_row(r.new_row, v, widths[i]);
        r = through(f, rel, row(f, 'U', 'O', v, v, (uint16_t)widths[i]));
        expect_row(r.new_row, v, widths[i]);
        expect_row(r.old_row, v, widths[i]);
    }
}

static void
test_row_that_does_not_fit_its_table(void **state)
{
    struct fixture *f = *state;
    struct relation *rel = make_table(f, 'd', 3, 1);
    publish(f, rel);
    buf_reset(&f->out, SIZE_MAX);
    struct err e = {0};
    const struct pgoutput_msg *m = row(f, 'I', 0, NULL, ROW("1", "2"), 2);
    assert_int_equal(encode_row(&f->out, rel, m->type, &m->row, &e), ERR_PROTOCOL);
    assert_non_null(strstr(e.msg, "2 columns for the table public.t"));
    m = row(f, 'D', 'K', ROW("1", "2", "3", "4"), NULL, 4);
    assert_int_equal(encode_row(&f->out, rel, m->type, &m->row, &e), ERR_PROTOCOL);
    assert_true(f->out.n == 0 && buf_ok(&f->out));
}

static void
test_binary_is_refused(void **state)
{
    struct fixture *f = *state;
    struct relation *rel = make_table(f, 'd', 2, 1);
    publish(f, rel);
    buf_reset(&f->out, SIZE_MAX);
    struct err e = {0};
    const struct pgoutput_msg *m = row(f, 'I', 0, NULL, ROW("1", "\2x"), 2);
    assert_int_equal(encode_row(&f->out, rel, m->type, &m->row, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.msg, "column c1 of the table public.t"));
    m = row(f, 'U', 'O', ROW("\2x", "1"), ROW("1", "1"), 2);
    assert_int_equal(encode_row(&f->out, rel, m->type, &m->row, &e), ERR_UNSUPPORTED);
    assert_int_equal(f->out.n, 0);
}

static void
test_limit_leaves_what_was_there(void **state)
{
    struct fixture *f = *state;
    struct relation *rel = make_table(f, 'd', 2, 1);
    publish(f, rel);
    struct err e = {0};
    const struct pgoutput_msg *m = row(f, 'I', 0, NULL, ROW("1", "some text"), 2);
    struct buf auto_buf small;
    buf_init(&small, 200);
    int rc = 0, n = 0;
    size_t before = 0;
    while (rc == 0) {
        before = small.n;
        rc = encode_row(&small, rel, m->type, &m->row, &e);
        n++;
    }
    assert_non_null(strstr(e.msg, "the table public.t "));
    assert_non_null(strstr(e.msg, "take the column out of the publication"));
    assert_true(rc == ERR_TOOBIG && n > 2 && small.n == before && !buf_ok(&small));
    struct frame frame;
    size_t at = 0;
    for (int i = 1; i < n; i++) {
        assert_int_equal(frame_next(buf_str(&small), &at, true, &frame, &e), 0);
    }
    assert_int_equal(at, small.n);
}

/* ---- everything else ---- */

static void
test_truncate(void **state)
{
    struct fixture *f = *state;
    struct relation *rel = make_table(f, 'd', 1, 1);
    publish(f, rel);
    struct err e = {0};
    for (unsigned options = 0; options < 4; options++) {
        buf_reset(&f->wire, SIZE_MAX);
        buf_put(&f->wire, "T\0\0\0\1", 5);
        buf_putc(&f->wire, (char)options);
        wire_u32(&f->wire, 16385);
        const struct pgoutput_msg *m = decode(f);
        buf_reset(&f->out, SIZE_MAX);
        assert_int_equal(encode_truncate(&f->out, rel, &m->truncate, &e), 0);
        struct frame frame;
        size_t at = 0;
        next_frame(f, &at, &frame);
        assert_true(frame.op == FRAME_TRUNCATE && frame.schema_id == rel->schema.id &&
                    frame.payload.n == 0);
        assert_int_equal((frame.flags & FRAME_CASCADE) != 0, options & 1);
        assert_int_equal((frame.flags & FRAME_RESTART_IDENTITY) != 0, options >> 1);
    }
}

static void
test_transaction(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    struct pgoutput_begin begin = {.commit_lsn = 0x100, .ts_us = 77, .xid = 9};
    struct pgoutput_commit commit = {.commit_lsn = 0x100, .end_lsn = 0x130, .ts_us = 77};
    struct pgoutput_message message = {
        .is_transactional = true, .lsn = 0x90, .prefix = S("app"), .content = S("a\0b")};
    assert_int_equal(encode_begin(&f->out, &begin, &e), 0);
    assert_int_equal(encode_message(&f->out, &message, 1, &e), 0);
    assert_int_equal(
        encode_commit(&f->out, &commit, begin.xid, (struct str)S("elsewhere"), &e), 0);
    struct frame frame;
    struct frame_begin_txn b;
    struct frame_commit c;
    size_t at = 0;
    next_frame(f, &at, &frame);
    assert_int_equal(frame_get_begin(&frame, &b, &e), 0);
    assert_true(b.kind == FRAME_TXN_XACT && b.xid == 9 && b.lsn == 0x100);
    next_frame(f, &at, &frame);
    assert_true(frame.op == FRAME_MESSAGE && frame.flags == FRAME_TRANSACTIONAL &&
                frame.schema_id == 0);
    struct record r;
    static const struct record_txn txn = {.count = 1};
    assert_int_equal(record_decode(&f->records, &frame, NULL, &txn, 0, &r, &e), 0);
    assert_str(r.prefix, "app");
    assert_true(r.content.n == 3 && memcmp(r.content.p, "a\0b", 3) == 0);
    next_frame(f, &at, &frame);
    assert_int_equal(frame_get_commit(&frame, &c, &e), 0);
    assert_true(c.kind == FRAME_TXN_XACT && c.xid == 9 && c.lsn == 0x100 &&
                c.end_lsn == 0x130 && c.ts_us == 77);
    assert_str(c.origin, "elsewhere");
    assert_int_equal(at, f->out.n);
}

static void
test_message_outside_is_a_transaction(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    struct pgoutput_message message = {.lsn = 0x90, .prefix = S(""), .content = S("")};
    assert_int_equal(encode_message(&f->out, &message, 55, &e), 0);
    struct frame frame;
    struct frame_begin_txn b;
    struct frame_commit c;
    size_t at = 0;
    next_frame(f, &at, &frame);
    assert_int_equal(frame_get_begin(&frame, &b, &e), 0);
    assert_true(b.kind == FRAME_TXN_MESSAGE && b.xid == 0 && b.lsn == 0x90);
    next_frame(f, &at, &frame);
    assert_true(frame.op == FRAME_MESSAGE && frame.flags == 0);
    next_frame(f, &at, &frame);
    assert_int_equal(frame_get_commit(&frame, &c, &e), 0);
    assert_true(c.kind == FRAME_TXN_MESSAGE && c.xid == 0 && c.lsn == 0x90 &&
                c.end_lsn == 0x90 && c.ts_us == 55);
    assert_true(c.origin.n == 0 && at == f->out.n);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_schema_once_for_each_version),
        TEST(test_schema_ids_run_out),
        TEST(test_insert),
        TEST(test_update_without_old),
        TEST(test_old_key_holds_the_key_alone),
        TEST(test_full_fills_what_is_unchanged),
        TEST(test_a_key_that_is_unchanged_is_filled),
        TEST(test_every_text_length),
        TEST(test_every_width),
        TEST(test_row_that_does_not_fit_its_table),
        TEST(test_binary_is_refused),
        TEST(test_limit_leaves_what_was_there),
        TEST(test_truncate),
        TEST(test_transaction),
        TEST(test_message_outside_is_a_transaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
