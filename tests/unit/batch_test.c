/* batch: what a writer puts in comes out; limits, order, and that no damage passes. */
#include "tests/unit/record_support.h"

#include "proto/batch.h"

static const struct record_txn txns[] = {
    {.first_offset = 100,
        .count = 3,
        .epoch = 2,
        .lsn = 0x1000,
        .end_lsn = 0x1030,
        .ts_us = 5,
        .xid = 742},
    {.first_offset = 103,
        .count = 1,
        .epoch = 2,
        .lsn = 0x2000,
        .end_lsn = 0x2000,
        .ts_us = -1,
        .kind = FRAME_TXN_MESSAGE},
    {.first_offset = 104,
        .count = 50,
        .epoch = 2,
        .lsn = 0x3000,
        .end_lsn = 0x3030,
        .ts_us = 7,
        .xid = UINT32_MAX,
        .origin = {.p = "node", .n = 4}},
};

static const struct batch_header header = {
    .next_offset = 160, .tail_offset = UINT64_MAX, .epoch = 2};

/* What is written, in order. */
static const struct item {
    uint8_t op;
    unsigned txn;
    uint64_t offset;
    uint32_t schema;
    const char *row[3];
} items[] = {
    {FRAME_INSERT, 0, 100, 7, {"1", "tea", NULL}},
    {FRAME_INSERT, 0, 101, 3, {"2", "cup", ""}},
    {FRAME_UPDATE, 0, 102, 7, {"1", "tea", support_unchanged}},
    {FRAME_MESSAGE, 1, 103, 0, {NULL}},
    {FRAME_READ, 2, 110, 3, {"3", "pot", "x"}}, /* the filter left some out */
    {FRAME_INSERT, 2, 111, 7, {"4", "pan", "y"}},
    {FRAME_INSERT, 2, 153, 3, {"5", "lid", "z"}},
};
enum { NITEMS = sizeof items / sizeof items[0] };

struct fixture {
    struct schema *three, *seven;
    struct buf frame;
};

static int
setup(void **state)
{
    struct fixture *x = calloc(1, sizeof *x);
    x->three = support_item(3);
    x->seven = support_item(7);
    buf_init(&x->frame, SIZE_MAX);
    *state = x;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *x = *state;
    schema_unref(x->three);
    schema_unref(x->seven);
    buf_fini(&x->frame);
    free(x);
    return 0;
}

static struct str
frame_of(struct fixture *x, const struct item *i)
{
    buf_reset(&x->frame, 0);
    if (i->op == FRAME_MESSAGE) {
        size_t start = frame_begin(&x->frame, FRAME_MESSAGE, 0, 0);
        mp_put_array(&x->frame, 2);
        mp_put_str(&x->frame, STR("app"));
        mp_put_bin(&x->frame, STR("content"));
        frame_end(&x->frame, start);
    } else {
        support_put_frame(&x->frame, i->op, 0, i->schema, i->row, NULL, 3);
    }
    return buf_str(&x->frame);
}

static bool
add(struct fixture *x, struct batch_writer *w, const struct item *i)
{
    const struct schema *s = i->schema == 0 ? NULL : i->schema == 3 ? x->three : x->seven;
    return batch_add(w, &txns[i->txn], s, i->offset, frame_of(x, i));
}

/* Writes as many items as b takes; returns how many. */
static unsigned
write_all(struct fixture *x, struct buf *b)
{
    struct batch_writer w;
    unsigned n = 0;
    batch_begin(&w, b);
    while (n < NITEMS && add(x, &w, &items[n])) {
        n++;
    }
    batch_end(&w, &header);
    assert_true(buf_ok(b));
    return n;
}

static void
assert_item(const struct record *r, const struct item *i)
{
    assert_int_equal(r->op, i->op);
    assert_true(r->offset == i->offset);
    assert_true(r->seq == i->offset - txns[i->txn].first_offset);
    assert_true(r->txn->lsn == txns[i->txn].lsn && r->txn->end_lsn == txns[i->txn].end_lsn);
    assert_true(r->txn->ts_us == txns[i->txn].ts_us && r->txn->epoch == 2);
    assert_int_equal(r->txn->xid, txns[i->txn].xid);
    assert_int_equal(r->txn->kind, txns[i->txn].kind);
    assert_true(str_eq(r->txn->origin, txns[i->txn].origin));
    if (i->op == FRAME_MESSAGE) {
        assert_true(str_is(r->prefix, "app") && str_is(r->content, "content"));
    } else {
        assert_int_equal(r->schema->id, i->schema);
        assert_true(str_is(r->new_row[1].text, i->row[1]));
    }
}

/* Reads all of it: the number of records, or the error. */
static int
count(struct str bytes)
{
    struct err e;
    struct batch_reader r;
    struct record record;
    int n = 0, rc = batch_open(&r, bytes, &e);
    if (rc != 0) {
        return rc;
    }
    while ((rc = batch_next(&r, &record, &e)) == 1) {
        n++;
    }
    assert_int_equal(batch_next(&r, &record, &e) < 0, rc < 0); /* it stays as it ended */
    batch_close(&r);
    return rc < 0 ? rc : n;
}

static void
everything_comes_back(void **state)
{
    struct fixture *x = *state;
    struct err e;
    struct batch_reader r;
    struct record record;
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    buf_puts(&b, "before");
    assert_int_equal(write_all(x, &b), NITEMS);
    assert_memory_equal(b.p, "before", 6);
    assert_int_equal(batch_open(&r, (struct str){b.p + 6, b.n - 6}, &e), 0);
    assert_true(r.header.next_offset == 160 && r.header.tail_offset == UINT64_MAX &&
                r.header.epoch == 2);
    for (unsigned i = 0; i < NITEMS; i++) {
        assert_int_equal(batch_next(&r, &record, &e), 1);
        assert_item(&record, &items[i]);
    }
    assert_int_equal(batch_next(&r, &record, &e), 0);
    assert_int_equal(batch_next(&r, &record, &e), 0);
    assert_true(r.is_end);
    assert_int_equal(r.nschemas, 2); /* each once */
    batch_close(&r);
}

static void
an_empty_batch(void **state)
{
    (void)state;
    struct batch_writer w;
    struct buf auto_buf b;
    buf_init(&b, BATCH_EMPTY);
    batch_begin(&w, &b);
    batch_end(&w, &header);
    assert_true(buf_ok(&b));
    assert_int_equal(b.n, BATCH_EMPTY);
    assert_int_equal(count(buf_str(&b)), 0);
}

/* Whatever the limit, what fits is a whole batch, and one byte more never makes it less (mp.c
 * asks for a little more than it writes, hence + 16). */
static void
every_limit_gives_a_whole_batch(void **state)
{
    struct fixture *x = *state;
    struct buf auto_buf all;
    buf_init(&all, SIZE_MAX);
    write_all(x, &all);
    unsigned before = 0;
    for (size_t limit = BATCH_EMPTY; limit <= all.n + 16; limit++) {
        struct buf auto_buf b;
        buf_init(&b, limit);
        unsigned n = write_all(x, &b);
        assert_true(n >= before && b.n <= limit);
        assert_int_equal(count(buf_str(&b)), n);
        before = n;
    }
    assert_int_equal(before, NITEMS);
}

/* A refused record leaves no trace: its schema comes with the one that follows. */
static void
a_refused_record_leaves_nothing(void **state)
{
    struct fixture *x = *state;
    struct batch_writer w;
    struct buf auto_buf b, large;
    buf_init(&b, 400);
    buf_init(&large, SIZE_MAX);
    char text[500] = {0};
    memset(text, 'x', sizeof text - 1);
    batch_begin(&w, &b);
    size_t before = b.n;
    support_put_frame(
        &large, FRAME_INSERT, 0, 7, (const char *const[]){"1", text, NULL}, NULL, 3);
    assert_false(batch_add(&w, &txns[0], x->seven, 100, buf_str(&large)));
    assert_int_equal(b.n, before);
    assert_true(buf_ok(&b));
    assert_true(add(x, &w, &items[0]));
    batch_end(&w, &header);
    assert_int_equal(count(buf_str(&b)), 1);
    buf_fini(&large);
}

static void
many_schemas(void **state)
{
    struct fixture *x = *state;
    (void)x;
    enum { N = 100 };
    struct schema *all[N];
    struct batch_writer w;
    struct record_txn t = {.first_offset = 0, .count = 2 * N, .epoch = 1};
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    batch_begin(&w, &b);
    for (unsigned i = 0; i < 2 * N; i++) {
        unsigned which = i * 37 % N;
        if (i < N) {
            all[which] = support_item(which * 1000003 + 1);
        }
        struct schema *s = all[which];
        struct buf auto_buf frame;
        buf_init(&frame, SIZE_MAX);
        support_put_frame(&frame, FRAME_TRUNCATE, 0, s->id, NULL, NULL, 0);
        assert_true(batch_add(&w, &t, s, i, buf_str(&frame)));
    }
    batch_end(&w, &header);
    assert_int_equal(count(buf_str(&b)), 2 * N);
    for (unsigned i = 0; i < N; i++) {
        schema_unref(all[i]);
    }
}

static void
every_truncation_is_an_error(void **state)
{
    struct fixture *x = *state;
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    write_all(x, &b);
    for (size_t n = 0; n < b.n; n++) {
        char *cut = support_exact(b.p, n);
        assert_int_equal(count((struct str){cut, n}), ERR_CORRUPT);
        free(cut);
    }
    buf_putc(&b, '\xc0'); /* and something behind it */
    assert_int_equal(count(buf_str(&b)), ERR_CORRUPT);
}

/* In a frame a flip is an error; elsewhere it may give another number, never a read out of
 * bounds. */
static void
every_flipped_bit(void **state)
{
    struct fixture *x = *state;
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    write_all(x, &b);
    struct str frame = frame_of(x, &items[NITEMS - 1]);
    size_t frame_at = b.n - 1 - frame.n;
    assert_memory_equal(b.p + frame_at, frame.p, frame.n);
    for (size_t bit = 0; bit < 8 * b.n; bit++) {
        char *flipped = support_exact(b.p, b.n);
        flipped[bit / 8] = (char)(flipped[bit / 8] ^ (1 << bit % 8));
        int rc = count((struct str){flipped, b.n});
        if (bit >= 8 * frame_at && bit < 8 * (b.n - 1)) {
            assert_int_equal(rc, ERR_CORRUPT);
        } else {
            assert_true(rc == ERR_CORRUPT || rc == ERR_NEWER || rc == NITEMS);
        }
        free(flipped);
    }
}

/* ---- batches that no writer of ours makes ---- */

static void
put_header(struct buf *b)
{
    mp_put_array(b, 4);
    mp_put_u64(b, BATCH_VERSION);
    mp_put_u64(b, 160);
    mp_put_u64(b, 160);
    mp_put_u64(b, 1);
}

static void
put_txn(struct buf *b, uint64_t kind, uint64_t xid, uint64_t first, uint64_t n)
{
    mp_put_array(b, 2);
    mp_put_str(b, STR("t"));
    mp_put_array(b, 9);
    const uint64_t fields[] = {kind, xid, 1, 1, 1, first, n, 1};
    for (unsigned i = 0; i < 8; i++) {
        mp_put_u64(b, fields[i]);
    }
    mp_put_nil(b);
}

static void
put_schema(struct buf *b, uint64_t id, const struct schema *s)
{
    struct buf auto_buf encoding;
    buf_init(&encoding, SIZE_MAX);
    schema_encode(&encoding, s);
    mp_put_array(b, 3);
    mp_put_str(b, STR("s"));
    mp_put_u64(b, id);
    mp_put_bin(b, buf_str(&encoding));
}

static void
put_record(struct buf *b, uint64_t offset, struct str frame)
{
    mp_put_array(b, 3);
    mp_put_str(b, STR("r"));
    mp_put_u64(b, offset);
    mp_put_bin(b, frame);
}

static void
order_and_bounds(void **state)
{
    struct fixture *x = *state;
    static const struct {
        uint64_t kind, xid, first, n; /* of the transaction; n 0: none */
        uint64_t schema;              /* 0: none */
        uint64_t offsets[2];
        int rc;
    } cases[] = {
        {0, 5, 10, 2, 7, {10, 11}, 2},
        {0, 5, 10, 2, 7, {11, 10}, ERR_CORRUPT}, /* backwards */
        {0, 5, 10, 2, 7, {10, 10}, ERR_CORRUPT}, /* twice */
        {0, 5, 10, 2, 7, {9, 10}, ERR_CORRUPT},  /* before its transaction */
        {0, 5, 10, 2, 7, {11, 12}, ERR_CORRUPT}, /* behind it */
        {0, 5, 10, 0, 7, {10, 11}, ERR_CORRUPT}, /* an empty one */
        {0, 5, UINT64_MAX, 2, 7, {UINT64_MAX, 0}, ERR_CORRUPT},
        {0, 5, 10, 2, 8, {10, 11}, ERR_CORRUPT}, /* a schema that is not there */
        {0, 5, 10, 2, 0, {10, 11}, ERR_CORRUPT},
        {3, 0, 10, 2, 7, {10, 11}, ERR_CORRUPT}, /* an unknown kind */
        {2, 5, 10, 2, 7, {10, 11}, ERR_CORRUPT}, /* a read has no xid */
        {2, 0, 10, 2, 7, {10, 11}, 2},
        {0, 1ull << 32, 10, 2, 7, {10, 11}, ERR_CORRUPT},
        {0, 5, 10, 2, 1ull << 32, {10, 11}, ERR_CORRUPT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf auto_buf b;
        buf_init(&b, SIZE_MAX);
        put_header(&b);
        put_txn(&b, cases[i].kind, cases[i].xid, cases[i].first, cases[i].n);
        if (cases[i].schema != 0) {
            put_schema(&b, cases[i].schema, x->seven);
        }
        put_record(&b, cases[i].offsets[0], frame_of(x, &items[0]));
        put_record(&b, cases[i].offsets[1], frame_of(x, &items[0]));
        mp_put_nil(&b);
        assert_int_equal(count(buf_str(&b)), cases[i].rc);
    }
}

static void
things_out_of_place(void **state)
{
    struct fixture *x = *state;
    struct buf auto_buf twice, early, control, two, unknown, empty;
    struct buf *all[] = {&twice, &early, &control, &two, &unknown, &empty};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        buf_init(all[i], SIZE_MAX);
        put_header(all[i]);
    }
    put_schema(&twice, 7, x->seven);
    put_schema(&twice, 7, x->seven);

    put_schema(&early, 7, x->seven); /* a record without a transaction */
    put_record(&early, 0, frame_of(x, &items[0]));

    put_txn(&control, 0, 5, 10, 2);
    buf_reset(&x->frame, 0);
    frame_put_idle(&x->frame, 1);
    put_record(&control, 10, buf_str(&x->frame));

    put_txn(&two, 0, 5, 10, 2);
    put_schema(&two, 7, x->seven);
    (void)frame_of(x, &items[0]);
    support_put_frame(&x->frame, FRAME_TRUNCATE, 0, 7, NULL, NULL, 0);
    put_record(&two, 10, buf_str(&x->frame));

    mp_put_array(&unknown, 2);
    mp_put_str(&unknown, STR("z"));
    mp_put_nil(&unknown);

    put_txn(&empty, 0, 5, 10, 2);
    put_record(&empty, 10, STR(""));

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        mp_put_nil(all[i]);
        assert_int_equal(count(buf_str(all[i])), ERR_CORRUPT);
    }
}

static void
versions(void **state)
{
    (void)state;
    assert_int_equal(count(STR("\x94\x01\x05\x05\x01\xc0")), 0);
    assert_int_equal(count(STR("\x94\x00\x05\x05\x01\xc0")), ERR_CORRUPT);
    assert_int_equal(count(STR("\x94\x02\x05\x05\x01\xc0")), ERR_NEWER);
    assert_int_equal(count(STR("\x96\x02\x05\x05\x01\x05\x05\xc0")), ERR_NEWER);
    assert_int_equal(count(STR("\x93\x01\x05\x05\xc0")), ERR_CORRUPT);
    assert_int_equal(count(STR("{\"error\":\"some answer in JSON\"}")), ERR_CORRUPT);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(everything_comes_back),
        cmocka_unit_test(an_empty_batch),
        TEST(every_limit_gives_a_whole_batch),
        TEST(a_refused_record_leaves_nothing),
        TEST(many_schemas),
        TEST(every_truncation_is_an_error),
        TEST(every_flipped_bit),
        TEST(order_and_bounds),
        TEST(things_out_of_place),
        cmocka_unit_test(versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
