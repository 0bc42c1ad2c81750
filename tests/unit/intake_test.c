/* intake: what a kind gets is what the batch holds, filtered, and stays put while the batch is
 * loaded. */
#include "sink_support.h"

#include "proto/record_json.h"

static void
records_keep_their_values_and_transactions(void **state)
{
    (void)state;
    struct intake in;
    struct buf auto_buf bytes = {0};
    intake_init(&in, NULL, 0);
    for (int round = 0; round < 2; round++) { /* the second one in the memory of the first */
        buf_fini(&bytes);
        support_load(&in, &bytes, 5000, 3, 4000, 100000, "x"); /* several chunks */
        assert_int_equal(in.n, 4000);
        assert_int_equal(in.header.tail_offset, 100000);
        for (size_t i = 0; i < in.n; i++) {
            const struct record *r = &in.records[i];
            uint64_t offset = 5000 + i * 3;
            char name[24];
            (void)snprintf(name, sizeof name, "n%llu", (unsigned long long)offset);
            assert_int_equal(r->offset, offset);
            assert_int_equal(r->txn->first_offset, offset);
            assert_true(str_is(r->new_row[1].text, name));
            assert_null(r->old_row);
        }
    }
    intake_fini(&in);
}

/* Three tables and a message outside a transaction; offsets 1 to 8. */
static void
put_mixed(struct buf *b)
{
    static const char *const names[] = {"a", "b", "item"};
    struct schema_col col = {.name = STR("id"), .typoid = 23, .typmod = -1, .in_key = true};
    struct schema *s[3];
    for (uint32_t i = 0; i < 3; i++) {
        struct schema raw = {.relid = 100 + i,
            .ns = i == 2 ? STR("shop") : STR("fabric"),
            .name = str_from(names[i]),
            .replident = 'd',
            .ncols = 1,
            .cols = &col};
        s[i] = support_reread(i + 1, &raw);
    }
    struct batch_writer w;
    buf_init(b, SIZE_MAX);
    batch_begin(&w, b);
    const char *row[1] = {"7"};
    struct record_txn t = {
        .first_offset = 1, .count = 7, .epoch = 1, .lsn = 5, .end_lsn = 6, .xid = 9};
    for (uint64_t offset = 1; offset <= 7; offset++) {
        struct schema *of = s[offset % 3];
        struct buf auto_buf frame;
        buf_init(&frame, SIZE_MAX);
        support_put_frame(&frame, FRAME_INSERT, 0, of->id, row, NULL, 1);
        assert_true(batch_add(&w, &t, of, offset, buf_str(&frame)));
    }
    struct buf auto_buf message;
    buf_init(&message, SIZE_MAX);
    size_t start = frame_begin(&message, FRAME_MESSAGE, 0, 0);
    mp_put_array(&message, 2);
    mp_put_cstr(&message, "app");
    mp_put_bin(&message, STR("hello"));
    frame_end(&message, start);
    struct record_txn m = {.first_offset = 8,
        .count = 1,
        .epoch = 1,
        .lsn = 7,
        .end_lsn = 7,
        .kind = FRAME_TXN_MESSAGE};
    assert_true(batch_add(&w, &m, NULL, 8, buf_str(&message)));
    batch_end(&w, &(struct batch_header){.next_offset = 9, .tail_offset = 9, .epoch = 1});
    for (size_t i = 0; i < 3; i++) {
        schema_unref(s[i]);
    }
}

static void
tables_select_records(void **state)
{
    (void)state;
    static const struct {
        const char *tables[2];
        uint64_t want[9]; /* offsets, ending with 0 */
    } rows[] = {
        {{NULL}, {1, 2, 3, 4, 5, 6, 7, 8, 0}},
        {{"fabric.*"}, {1, 3, 4, 6, 7, 0}},
        {{"fabric.a"}, {3, 6, 0}},
        {{"shop.i*", "fabric.b"}, {1, 2, 4, 5, 7, 0}},
        {{"other.*"}, {0}},
    };
    struct buf auto_buf bytes;
    put_mixed(&bytes);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct str tables[2];
        size_t n = 0;
        for (; n < 2 && rows[i].tables[n] != NULL; n++) {
            tables[n] = str_from(rows[i].tables[n]);
        }
        struct intake in;
        struct err e;
        intake_init(&in, tables, n);
        assert_int_equal(intake_load(&in, buf_str(&bytes), &e), 0);
        for (size_t k = 0; k < in.n; k++) {
            assert_int_equal(in.records[k].offset, rows[i].want[k]);
            assert_ptr_equal(
                in.records[k].txn->first_offset, in.records[k].offset == 8 ? 8 : 1);
        }
        assert_int_equal(rows[i].want[in.n], 0);
        intake_fini(&in);
    }
}

/* P7, P8: of a batch that is not whole nothing is loaded. */
static void
a_batch_cut_short_loads_nothing(void **state)
{
    (void)state;
    struct buf auto_buf bytes;
    put_mixed(&bytes);
    struct intake in;
    intake_init(&in, NULL, 0);
    for (size_t n = 0; n < bytes.n; n++) {
        char *exact = support_exact(bytes.p, n);
        struct err e;
        assert_int_equal(intake_load(&in, (struct str){exact, n}, &e), ERR_CORRUPT);
        assert_int_equal(in.n, 0);
        free(exact);
    }
    struct err e;
    assert_int_equal(intake_load(&in, buf_str(&bytes), &e), 0);
    assert_int_equal(in.n, 8);
    intake_fini(&in);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_keep_their_values_and_transactions),
        cmocka_unit_test(tables_select_records),
        cmocka_unit_test(a_batch_cut_short_loads_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
