/* feed: a connection's messages in order, and what becomes of them: frames and the
 * acknowledgement rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/bytes.h"
#include "proto/frame.h"
#include "replicator/feed.h"

enum { START = 100, TABLE = 4711 };

struct fixture {
    struct feed feed;
    struct buf batch, message;
    unsigned keys_asked;
};

static int
find_key(void *arg, struct relation *rel, struct err *e)
{
    (void)e;
    struct fixture *f = arg;
    f->keys_asked++;
    struct str id = STR("id");
    assert_true(relcache_set_key(rel, &id, 1));
    return 0;
}

static int
setup(void **state)
{
    static struct fixture f;
    f = (struct fixture){0};
    struct feed_conf c = {
        .proven_lsn = START, .next_schema = 7, .find_key = find_key, .arg = &f};
    feed_init(&f.feed, &c);
    buf_init(&f.batch, 1 << 20);
    buf_init(&f.message, 1 << 16);
    *state = &f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;
    feed_fini(&f->feed);
    buf_fini(&f->batch);
    buf_fini(&f->message);
    return 0;
}

/* ---- messages, as PostgreSQL writes them ---- */

static void
put32(struct buf *b, uint32_t v)
{
    char bytes[4];
    put_be32(bytes, v);
    buf_put(b, bytes, 4);
}

static void
put64(struct buf *b, uint64_t v)
{
    put32(b, (uint32_t)(v >> 32));
    put32(b, (uint32_t)v);
}

static struct buf *
begin_message(struct fixture *f, char type)
{
    buf_reset(&f->message, SIZE_MAX);
    buf_putc(&f->message, type);
    return &f->message;
}

static int
apply(struct fixture *f)
{
    struct err e;
    struct pgoutput_copy m = {
        .type = PGOUTPUT_XLOG_DATA, .sent_us = 5, .data = buf_str(&f->message)};
    return feed_apply(&f->feed, &m, &f->batch, &e);
}

static int
begin(struct fixture *f, uint64_t lsn, uint32_t xid)
{
    struct buf *b = begin_message(f, 'B');
    put64(b, lsn);
    put64(b, 0);
    put32(b, xid);
    return apply(f);
}

static int
commit(struct fixture *f, uint64_t lsn, uint64_t end)
{
    struct buf *b = begin_message(f, 'C');
    buf_putc(b, 0);
    put64(b, lsn);
    put64(b, end);
    put64(b, 0);
    return apply(f);
}

static int
relation(struct fixture *f, char replident)
{
    struct buf *b = begin_message(f, 'R');
    put32(b, TABLE);
    buf_put(b, "public\0t\0", 9);
    buf_putc(b, replident);
    buf_put(b, "\0\1\1id\0", 6);
    put32(b, 23);
    put32(b, UINT32_MAX);
    return apply(f);
}

static int
insert(struct fixture *f, uint32_t relid)
{
    struct buf *b = begin_message(f, 'I');
    put32(b, relid);
    buf_put(b, "N\0\1t", 4);
    put32(b, 1);
    buf_putc(b, '7');
    return apply(f);
}

static int
origin(struct fixture *f, const char *name)
{
    struct buf *b = begin_message(f, 'O');
    put64(b, 1);
    buf_put(b, name, strlen(name) + 1);
    return apply(f);
}

static int
message(struct fixture *f, bool is_transactional, uint64_t lsn)
{
    struct buf *b = begin_message(f, 'M');
    buf_putc(b, is_transactional);
    put64(b, lsn);
    buf_put(b, "app\0", 4);
    put32(b, 2);
    buf_puts(b, "hi");
    return apply(f);
}

/* ---- what they became ---- */

static void
expect_ops(struct fixture *f, const uint8_t *ops, size_t n)
{
    size_t at = 0;
    struct frame fr;
    struct err e;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(frame_next(buf_str(&f->batch), &at, true, &fr, &e), 0);
        assert_int_equal(fr.op, ops[i]);
    }
    assert_int_equal(frame_next(buf_str(&f->batch), &at, true, &fr, &e), ERR_SHORT);
}
#define EXPECT(f, ...)                                                                         \
    expect_ops((f), (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void
last_commit(struct fixture *f, struct frame_commit *ret)
{
    size_t at = 0;
    struct frame fr = {0};
    struct err e;
    while (frame_next(buf_str(&f->batch), &at, true, &fr, &e) == 0) {
        if (fr.op == FRAME_COMMIT) {
            assert_int_equal(frame_get_commit(&fr, ret, &e), 0);
        }
    }
}

static void
transaction(void **state)
{
    struct fixture *f = *state;
    struct frame_commit c = {0};
    assert_int_equal(begin(f, 200, 9), 0);
    assert_true(feed_in_transaction(&f->feed));
    assert_int_equal(origin(f, "elsewhere"), 0);
    assert_int_equal(relation(f, 'd'), 0);
    assert_int_equal(f->batch.n, 0); /* nothing before the first record */
    assert_int_equal(insert(f, TABLE), 0);
    assert_int_equal(insert(f, TABLE), 0);
    assert_int_equal(message(f, true, 190), 0);
    assert_int_equal(commit(f, 200, 210), 0);
    EXPECT(
        f, FRAME_BEGIN, FRAME_SCHEMA, FRAME_INSERT, FRAME_INSERT, FRAME_MESSAGE, FRAME_COMMIT);
    last_commit(f, &c);
    assert_int_equal(c.lsn, 200);
    assert_int_equal(c.end_lsn, 210);
    assert_int_equal(c.xid, 9);
    assert_true(str_is(c.origin, "elsewhere"));
    assert_false(feed_in_transaction(&f->feed));
    assert_int_equal(f->keys_asked, 0);
    /* P1: nothing may be acknowledged before that batch is durable */
    assert_int_equal(ack_flush_lsn(&f->feed.ack), START);
    ack_durable(&f->feed.ack, ack_handover(&f->feed.ack));
    assert_int_equal(ack_flush_lsn(&f->feed.ack), 210);
}

static void
origin_ends_with_its_transaction(void **state)
{
    struct fixture *f = *state;
    struct frame_commit c = {0};
    assert_int_equal(relation(f, 'd'), 0);
    assert_int_equal(begin(f, 200, 9), 0);
    assert_int_equal(origin(f, "elsewhere"), 0);
    assert_int_equal(insert(f, TABLE), 0);
    assert_int_equal(commit(f, 200, 210), 0);
    assert_int_equal(begin(f, 300, 10), 0);
    assert_int_equal(insert(f, TABLE), 0);
    assert_int_equal(commit(f, 300, 310), 0);
    last_commit(f, &c);
    assert_int_equal(c.lsn, 300);
    assert_int_equal(c.origin.n, 0);
}

/* Servers before 15 send them: nothing for the log, but a position. */
static void
empty_transaction(void **state)
{
    struct fixture *f = *state;
    uint64_t lsn = 0;
    assert_int_equal(begin(f, 200, 9), 0);
    assert_int_equal(commit(f, 200, 210), 0);
    assert_int_equal(f->batch.n, 0);
    assert_true(ack_idle_wanted(&f->feed.ack, &lsn));
    assert_int_equal(lsn, 210);
    assert_int_equal(ack_flush_lsn(&f->feed.ack), START);
}

static void
message_of_its_own(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(message(f, false, 250), 0);
    EXPECT(f, FRAME_BEGIN, FRAME_MESSAGE, FRAME_COMMIT);
    ack_durable(&f->feed.ack, ack_handover(&f->feed.ack));
    assert_int_equal(ack_flush_lsn(&f->feed.ack), 250);
}

static void
key_under_full(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(relation(f, 'f'), 0);
    assert_int_equal(f->keys_asked, 1);
    assert_int_equal(f->feed.next_schema, 7);
    assert_int_equal(begin(f, 200, 9), 0);
    assert_int_equal(insert(f, TABLE), 0);
    assert_int_equal(f->feed.next_schema, 8);
}

static void
out_of_place(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(commit(f, 200, 210), ERR_PROTOCOL);
    assert_int_equal(origin(f, "x"), ERR_PROTOCOL);
    assert_int_equal(relation(f, 'd'), 0);
    assert_int_equal(insert(f, TABLE), ERR_PROTOCOL); /* outside a transaction */
    assert_int_equal(message(f, true, 1), ERR_PROTOCOL);
    assert_int_equal(begin(f, 200, 9), 0);
    assert_int_equal(begin(f, 201, 10), ERR_PROTOCOL);
    assert_int_equal(message(f, false, 1), ERR_PROTOCOL);
    assert_int_equal(insert(f, TABLE + 1), ERR_PROTOCOL); /* never described */
    assert_int_equal(commit(f, 201, 210), ERR_PROTOCOL);  /* of another transaction */
    assert_int_equal(commit(f, 200, 199), ERR_PROTOCOL);
    assert_int_equal(ack_flush_lsn(&f->feed.ack), START);
}

/* ---- rows read from a table ---- */

static struct relation *
described(struct relcache *c, const char *column)
{
    struct pgoutput_column col = {
        .name = str_from(column), .typoid = 23, .typmod = -1, .is_key = true};
    struct pgoutput_relation r = {.relid = TABLE,
        .ns = STR("public"),
        .name = STR("t"),
        .replident = 'd',
        .ncols = 1,
        .cols = &col};
    struct relation *rel = NULL;
    struct err e;
    assert_int_equal(relcache_put(c, &r, &rel, &e), 0);
    return rel;
}

static void
read_rows(struct fixture *f, struct relation *rel)
{
    /* Not behind each other, and at the end of their memory. */
    struct pgoutput_value v[2] = {{.p = "7", .n = 1, .kind = PGOUTPUT_TEXT},
        {.p = "a text of more than thirty-two bytes", .n = 36, .kind = PGOUTPUT_TEXT}};
    struct pgoutput_tuple rows[2] = {{.v = &v[1], .ncols = 1}, {.v = &v[0], .ncols = 1}};
    struct err e;
    assert_int_equal(feed_read(&f->feed, rel, rows, 2, 5, &f->batch, &e), 0);
}

/* The shape that the connection has described has the schema version of its changes; another
 * one gets its own, and later changes keep theirs. */
static void
rows_read_from_a_table(void **state)
{
    struct fixture *f = *state;
    struct relcache shapes;
    struct frame_commit c = {0};
    relcache_init(&shapes, 1 << 20, false);
    read_rows(f, described(&shapes, "id"));
    EXPECT(f, FRAME_SCHEMA, FRAME_BEGIN, FRAME_READ, FRAME_READ, FRAME_COMMIT);
    last_commit(f, &c);
    assert_true(
        c.kind == FRAME_TXN_READ && c.lsn == START && c.end_lsn == START && c.ts_us == 5);
    assert_int_equal(relation(f, 'd'), 0);
    assert_int_equal(begin(f, 200, 9), 0);
    assert_int_equal(insert(f, TABLE), 0);
    assert_int_equal(commit(f, 200, 210), 0);
    uint32_t of_changes = relcache_find(&f->feed.relations, TABLE)->schema.id;
    buf_reset(&f->batch, SIZE_MAX);
    read_rows(f, described(&shapes, "id"));
    EXPECT(f, FRAME_BEGIN, FRAME_READ, FRAME_READ, FRAME_COMMIT);
    last_commit(f, &c);
    assert_true(c.lsn == 210 && c.end_lsn == 210);
    buf_reset(&f->batch, SIZE_MAX);
    read_rows(f, described(&shapes, "other"));
    read_rows(f, described(&shapes, "other"));
    EXPECT(f, FRAME_SCHEMA, FRAME_BEGIN, FRAME_READ, FRAME_READ, FRAME_COMMIT, FRAME_BEGIN,
        FRAME_READ, FRAME_READ, FRAME_COMMIT);
    assert_int_equal(relcache_find(&f->feed.relations, TABLE)->schema.id, of_changes);
    /* P1: it proves nothing */
    ack_durable(&f->feed.ack, ack_handover(&f->feed.ack));
    assert_int_equal(ack_flush_lsn(&f->feed.ack), 210);
    relcache_fini(&shapes);
}

static void
a_logged_transaction_is_known(void **state)
{
    struct fixture *f = *state;
    uint64_t running = 9;
    struct snapshot s = {.xmin = 9, .xmax = 20, .xip = &running, .n = 1};
    assert_int_equal(begin(f, 150, 9), 0);
    assert_int_equal(commit(f, 150, 160), 0); /* without records it is not in the log */
    assert_int_equal(xids_check(&f->feed.logged, &s), XIDS_VISIBLE);
    assert_int_equal(relation(f, 'd'), 0);
    assert_int_equal(begin(f, 200, 9), 0);
    assert_int_equal(insert(f, TABLE), 0);
    assert_int_equal(xids_check(&f->feed.logged, &s), XIDS_VISIBLE);
    assert_int_equal(commit(f, 200, 210), 0);
    assert_int_equal(xids_check(&f->feed.logged, &s), XIDS_HIDDEN);
}

static void
later_protocols_are_refused(void **state)
{
    struct fixture *f = *state;
    struct buf *b = begin_message(f, 'S');
    put32(b, 9);
    buf_putc(b, 1);
    assert_int_equal(apply(f), ERR_UNSUPPORTED);
    begin_message(f, '?');
    assert_int_equal(apply(f), ERR_PROTOCOL);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(transaction),
        TEST(origin_ends_with_its_transaction),
        TEST(empty_transaction),
        TEST(message_of_its_own),
        TEST(key_under_full),
        TEST(out_of_place),
        TEST(rows_read_from_a_table),
        TEST(a_logged_transaction_is_known),
        TEST(later_protocols_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
