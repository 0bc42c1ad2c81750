/* frame: round trips, what a header may say, and that no damage passes. */
#include "tests/unit/record_support.h"

#include "proto/base/bytes.h"

static void
next_ok(const struct buf *b, size_t *at, struct frame *f)
{
    struct err e;
    assert_int_equal(frame_next(buf_str(b), at, true, f, &e), 0);
}

static void
headers_round_trip(void **state)
{
    (void)state;
    static const struct {
        uint8_t op, flags;
        uint32_t schema;
        int rc;
    } cases[] = {
        {FRAME_INSERT, 0, 7, 0},
        {FRAME_INSERT, 1, 7, ERR_CORRUPT},
        {FRAME_INSERT, 0, 0, ERR_CORRUPT},
        {FRAME_UPDATE, 0, 7, 0},
        {FRAME_UPDATE, FRAME_OLD_KEY, UINT32_MAX, 0},
        {FRAME_UPDATE, FRAME_OLD_FULL, 7, 0},
        {FRAME_UPDATE, FRAME_OLD_FULL | FRAME_OLD_KEY, 7, ERR_CORRUPT},
        {FRAME_DELETE, 0, 7, ERR_CORRUPT},
        {FRAME_DELETE, FRAME_OLD_KEY, 7, 0},
        {FRAME_DELETE, FRAME_OLD_FULL, 7, 0},
        {FRAME_TRUNCATE, FRAME_CASCADE | FRAME_RESTART_IDENTITY, 7, 0},
        {FRAME_TRUNCATE, 4, 7, ERR_CORRUPT},
        {FRAME_TRUNCATE, 0, 0, ERR_CORRUPT},
        {FRAME_READ, 0, 7, 0},
        {FRAME_READ, 2, 7, ERR_CORRUPT},
        {FRAME_MESSAGE, FRAME_TRANSACTIONAL, 0, 0},
        {FRAME_MESSAGE, 0, 0, 0},
        {FRAME_MESSAGE, 2, 0, ERR_CORRUPT},
        {FRAME_MESSAGE, 0, 7, ERR_CORRUPT},
        {FRAME_SCHEMA, 0, 7, 0},
        {FRAME_SCHEMA, 0, 0, ERR_CORRUPT},
        {FRAME_BEGIN, 0, 0, 0},
        {FRAME_COMMIT, 0, 0, 0},
        {FRAME_COMMIT, 0, 1, ERR_CORRUPT},
        {FRAME_IDLE, 0, 0, 0},
        {FRAME_IDLE, 255, 0, ERR_CORRUPT},
        {0, 0, 0, ERR_CORRUPT},
        {7, 0, 7, ERR_CORRUPT},
        {0x7f, 0, 7, ERR_CORRUPT},
        {0x84, 0, 7, ERR_CORRUPT},
        {0xff, 0, 7, ERR_CORRUPT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e;
        struct frame f = {0};
        size_t at = 0;
        struct buf auto_buf b;
        buf_init(&b, SIZE_MAX);
        size_t start = frame_begin(&b, cases[i].op, cases[i].flags, cases[i].schema);
        buf_puts(&b, "payload");
        frame_end(&b, start);
        assert_int_equal(frame_next(buf_str(&b), &at, true, &f, &e), cases[i].rc);
        if (cases[i].rc == 0) {
            assert_int_equal(at, b.n);
            assert_int_equal(f.op, cases[i].op);
            assert_int_equal(f.flags, cases[i].flags);
            assert_int_equal(f.schema_id, cases[i].schema);
            assert_true(str_is(f.payload, "payload"));
        } else {
            assert_int_equal(at, 0);
            assert_null(f.payload.p);
        }
    }
}

/* The bytes themselves: a log written today is read by every later version. The check was
 * computed with the library's own XXH3_64bits, outside this program. */
static void
bytes_are_fixed(void **state)
{
    (void)state;
    static const unsigned char golden[] = {
        0x03, 0, 0, 0, 0xa9, 0x26, 0x4e, 0x55, 0x01, 0, 0, 0, 0x07, 0, 0, 0, 0x91, 0xa1, 'x'};
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    support_put_frame(&b, FRAME_INSERT, 0, 7, (const char *const[]){"x"}, NULL, 1);
    assert_int_equal(b.n, sizeof golden);
    assert_memory_equal(b.p, golden, sizeof golden);
}

static void
frames_follow_one_another(void **state)
{
    (void)state;
    struct err e;
    struct frame f;
    size_t at = 0;
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    frame_put_begin(
        &b, &(struct frame_begin_txn){.kind = FRAME_TXN_XACT, .xid = 742, .lsn = 99});
    support_put_frame(&b, FRAME_TRUNCATE, 0, 3, NULL, NULL, 0);
    frame_put_idle(&b, 100);
    next_ok(&b, &at, &f);
    assert_int_equal(f.op, FRAME_BEGIN);
    next_ok(&b, &at, &f);
    assert_int_equal(f.op, FRAME_TRUNCATE);
    assert_int_equal(f.payload.n, 0);
    next_ok(&b, &at, &f);
    assert_int_equal(f.op, FRAME_IDLE);
    assert_int_equal(frame_next(buf_str(&b), &at, true, &f, &e), ERR_SHORT);
    assert_int_equal(at, b.n);
}

/* Payloads of every length class of XXH3 (1-3, 4-8, 9-16, 17-128, 129-240, more). */
static const size_t payload_sizes[] = {0, 1, 7, 8, 9, 50, 120, 200, 232, 233, 400, 1500};

static void
put_payload(struct buf *b, size_t n)
{
    size_t start = frame_begin(b, FRAME_INSERT, 0, 7);
    for (size_t i = 0; i < n; i++) {
        buf_putc(b, (char)(i * 7 + 3));
    }
    frame_end(b, start);
}

static void
every_truncation_is_an_error(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof payload_sizes / sizeof payload_sizes[0]; i++) {
        struct buf auto_buf b;
        buf_init(&b, SIZE_MAX);
        put_payload(&b, payload_sizes[i]);
        for (size_t n = 1; n < b.n; n++) {
            struct err e;
            struct frame f;
            size_t at = 0;
            char *cut = support_exact(b.p, n);
            assert_int_equal(frame_next((struct str){cut, n}, &at, true, &f, &e), ERR_CORRUPT);
            assert_int_equal(frame_next((struct str){cut, n}, &at, false, &f, &e), ERR_CORRUPT);
            assert_int_equal(at, 0);
            free(cut);
        }
    }
}

static void
every_flipped_bit_is_an_error(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof payload_sizes / sizeof payload_sizes[0]; i++) {
        struct buf auto_buf b;
        buf_init(&b, SIZE_MAX);
        put_payload(&b, payload_sizes[i]);
        size_t n = b.n;
        put_payload(&b, 3000); /* what a longer length would take in */
        for (size_t bit = 0; bit < 8 * n; bit++) {
            struct err e;
            struct frame f;
            size_t at = 0;
            b.p[bit / 8] = (char)(b.p[bit / 8] ^ (1 << bit % 8));
            assert_int_equal(frame_next(buf_str(&b), &at, true, &f, &e), ERR_CORRUPT);
            b.p[bit / 8] = (char)(b.p[bit / 8] ^ (1 << bit % 8));
        }
    }
}

static void
unverified_frames_may_be_damaged(void **state)
{
    (void)state;
    struct err e;
    struct frame f;
    size_t at = 0;
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    put_payload(&b, 5);
    b.p[FRAME_HEADER] ^= 1;
    assert_int_equal(frame_next(buf_str(&b), &at, false, &f, &e), 0);
    assert_int_equal(at, b.n);
    b.p[10] = 1; /* but never their header */
    at = 0;
    assert_int_equal(frame_next(buf_str(&b), &at, false, &f, &e), ERR_CORRUPT);
}

static void
a_length_beyond_the_limit_is_an_error(void **state)
{
    (void)state;
    struct err e;
    struct frame f;
    size_t at = 0;
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    put_payload(&b, 5);
    put_le32(b.p, UINT32_MAX);
    assert_int_equal(frame_next(buf_str(&b), &at, false, &f, &e), ERR_CORRUPT);
}

static void
a_full_buffer_fails(void **state)
{
    (void)state;
    for (size_t max = 0; max < FRAME_HEADER + 3; max++) {
        struct buf auto_buf b;
        buf_init(&b, max);
        support_put_frame(&b, FRAME_INSERT, 0, 7, (const char *const[]){"x"}, NULL, 1);
        assert_false(buf_ok(&b));
    }
}

static void
commits_round_trip(void **state)
{
    (void)state;
    static const struct frame_commit cases[] = {
        {.kind = FRAME_TXN_XACT,
            .xid = 742,
            .lsn = 0x16B3748,
            .end_lsn = 0x16B3778,
            .ts_us = 1795341600123456},
        {.kind = FRAME_TXN_XACT,
            .xid = UINT32_MAX,
            .lsn = UINT64_MAX,
            .end_lsn = UINT64_MAX,
            .ts_us = INT64_MIN,
            .origin = {.p = "node a", .n = 6}},
        {.kind = FRAME_TXN_MESSAGE, .lsn = 1, .end_lsn = 1, .ts_us = -1},
        {.kind = FRAME_TXN_READ, .lsn = 2, .end_lsn = 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct frame_commit *c = &cases[i];
        struct err e;
        struct frame f;
        struct frame_commit got;
        struct frame_begin_txn begin;
        size_t at = 0;
        struct buf auto_buf b;
        buf_init(&b, SIZE_MAX);
        frame_put_begin(
            &b, &(struct frame_begin_txn){.kind = c->kind, .xid = c->xid, .lsn = c->lsn});
        frame_put_commit(&b, c);
        next_ok(&b, &at, &f);
        assert_int_equal(frame_get_begin(&f, &begin, &e), 0);
        assert_int_equal(begin.kind, c->kind);
        assert_int_equal(begin.xid, c->xid);
        assert_true(begin.lsn == c->lsn);
        next_ok(&b, &at, &f);
        assert_int_equal(frame_get_commit(&f, &got, &e), 0);
        assert_int_equal(got.kind, c->kind);
        assert_int_equal(got.xid, c->xid);
        assert_true(got.lsn == c->lsn && got.end_lsn == c->end_lsn && got.ts_us == c->ts_us);
        assert_true(str_eq(got.origin, c->origin));
    }
}

static int
get_control(const struct frame *f)
{
    struct err e;
    struct frame_commit commit;
    struct frame_begin_txn begin;
    uint64_t lsn;
    return f->op == FRAME_BEGIN    ? frame_get_begin(f, &begin, &e)
           : f->op == FRAME_COMMIT ? frame_get_commit(f, &commit, &e)
                                   : frame_get_idle(f, &lsn, &e);
}

static void
damaged_control_payloads_are_errors(void **state)
{
    (void)state;
    static const struct {
        uint8_t op;
        struct str payload;
        int rc;
    } cases[] = {
        {FRAME_BEGIN, S("\x93\x00\x05\x09"), 0},
        {FRAME_BEGIN, S("\x93\x02\x00\x09"), 0},
        {FRAME_BEGIN, S("\x93\x03\x00\x09"), ERR_CORRUPT},     /* unknown kind */
        {FRAME_BEGIN, S("\x93\x01\x05\x09"), ERR_CORRUPT},     /* a message has no xid */
        {FRAME_BEGIN, S("\x93\x00\x05\x09\x09"), ERR_CORRUPT}, /* something behind it */
        {FRAME_BEGIN, S("\x92\x00\x05"), ERR_CORRUPT},
        {FRAME_BEGIN, S("\x93\x00\xff\x09"), ERR_CORRUPT}, /* negative */
        {FRAME_BEGIN, S("\x93\x00\xcf\x00\x00\x00\x01\x00\x00\x00\x00\x09"),
            ERR_CORRUPT}, /* 2^32 */
        {FRAME_BEGIN, S(""), ERR_CORRUPT},
        {FRAME_COMMIT, S("\x96\x00\x05\x09\x0a\xff\xc0"), 0},
        {FRAME_COMMIT, S("\x96\x00\x05\x09\x0a\xff\xa1o"), 0},
        {FRAME_COMMIT, S("\x95\x00\x05\x09\x0a\xff"), ERR_CORRUPT},
        {FRAME_COMMIT, S("\x96\x00\x05\x09\x0a\xff"), ERR_CORRUPT},
        {FRAME_COMMIT, S("\x96\x00\x05\x09\x0a\xff\xa2o"), ERR_CORRUPT},
        {FRAME_COMMIT, S("\x96\x00\x05\x09\x0a\xff\xc0\xc0"), ERR_CORRUPT},
        {FRAME_COMMIT, S("\x96\x07\x05\x09\x0a\xff\xc0"), ERR_CORRUPT},
        {FRAME_IDLE, S("\x91\x64"), 0},
        {FRAME_IDLE, S("\x64"), ERR_CORRUPT},
        {FRAME_IDLE, S("\x91"), ERR_CORRUPT},
        {FRAME_IDLE, S("\x91\x64\x64"), ERR_CORRUPT},
        {FRAME_IDLE, S("\x91\xc0"), ERR_CORRUPT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *exact = support_exact(cases[i].payload.p, cases[i].payload.n);
        struct frame f = {.op = cases[i].op, .payload = {exact, cases[i].payload.n}};
        assert_int_equal(get_control(&f), cases[i].rc);
        free(exact);
    }
}

static void
every_truncated_control_payload_is_an_error(void **state)
{
    (void)state;
    struct buf auto_buf b;
    size_t at = 0;
    buf_init(&b, SIZE_MAX);
    frame_put_begin(&b, &(struct frame_begin_txn){.xid = 70000, .lsn = 1ull << 40});
    frame_put_commit(&b, &(struct frame_commit){.xid = 70000,
                             .lsn = 1ull << 40,
                             .end_lsn = 1ull << 41,
                             .ts_us = 1795341600123456,
                             .origin = STR("node")});
    frame_put_idle(&b, 1ull << 40);
    while (at < b.n) {
        struct frame f;
        next_ok(&b, &at, &f);
        for (size_t n = 0; n < f.payload.n; n++) {
            char *cut = support_exact(f.payload.p, n);
            struct frame short_one = {.op = f.op, .payload = {cut, n}};
            assert_int_equal(get_control(&short_one), ERR_CORRUPT);
            free(cut);
        }
    }
}

static void
idle_round_trips(void **state)
{
    (void)state;
    struct err e;
    struct frame f;
    size_t at = 0;
    uint64_t lsn = 0;
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    frame_put_idle(&b, 0xfedcba9876543210);
    next_ok(&b, &at, &f);
    assert_int_equal(frame_get_idle(&f, &lsn, &e), 0);
    assert_true(lsn == 0xfedcba9876543210);
}

static void
sums_depend_on_seed_and_bytes(void **state)
{
    (void)state;
    assert_int_equal(frame_sum(1, STR("abc")), frame_sum(1, STR("abc")));
    assert_int_not_equal(frame_sum(1, STR("abc")), frame_sum(2, STR("abc")));
    assert_int_not_equal(frame_sum(1, STR("abc")), frame_sum(1, STR("abd")));
    assert_int_equal(frame_sum(0, STR("")), 0x38d394c2u); /* XXH3-64 of nothing, low half */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_round_trip),
        cmocka_unit_test(bytes_are_fixed),
        cmocka_unit_test(frames_follow_one_another),
        cmocka_unit_test(every_truncation_is_an_error),
        cmocka_unit_test(every_flipped_bit_is_an_error),
        cmocka_unit_test(unverified_frames_may_be_damaged),
        cmocka_unit_test(a_length_beyond_the_limit_is_an_error),
        cmocka_unit_test(a_full_buffer_fails),
        cmocka_unit_test(commits_round_trip),
        cmocka_unit_test(damaged_control_payloads_are_errors),
        cmocka_unit_test(every_truncated_control_payload_is_an_error),
        cmocka_unit_test(idle_round_trips),
        cmocka_unit_test(sums_depend_on_seed_and_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
