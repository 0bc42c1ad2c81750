/* fetch: what a sink's worker gets from the broker, over the Unix socket. */
#include "serve_support.h"

#include "proto/batch.h"

static const int64_t t0_us = INT64_C(1795341600000000);
enum { NTXNS = 10, NROWS = 3 };

static void
serve_small(struct serve *s)
{
    serve_init(s, 64 << 20);
    put_schema(&s->log, s->log.session.next_schema);
    for (unsigned i = 0; i < NTXNS; i++) {
        put_txn(&s->log, 700 + i, 0x1000 + 0x100 * (uint64_t)i, t0_us, NROWS);
    }
    (void)fixture_append_ok(&s->log);
}

struct fetched {
    long status;
    size_t n, bytes;
    uint64_t first, last, next, tail;
};

static struct fetched
fetch(struct httpc *c, uint64_t from, const char *more)
{
    struct httpc_resp rs = {0};
    struct batch_reader r;
    struct record record;
    struct err e;
    char path[256];
    int rc;
    (void)snprintf(
        path, sizeof path, "/internal/fetch?from=%llu%s", (unsigned long long)from, more);
    serve_get_as(c, path, NULL, &rs);
    struct fetched f = {.status = rs.status, .bytes = rs.body.n};
    if (rs.status == 200) {
        support_ok(batch_open(&r, buf_str(&rs.body), &e), &e);
        f.next = r.header.next_offset;
        f.tail = r.header.tail_offset;
        while ((rc = batch_next(&r, &record, &e)) == 1) {
            f.first = f.n == 0 ? record.offset : f.first;
            f.last = record.offset;
            f.n++;
        }
        support_ok(rc, &e);
        batch_close(&r);
    }
    httpc_resp_fini(&rs);
    return f;
}

static void
test_all_at_once(void **state)
{
    (void)state;
    struct serve s;
    serve_small(&s);
    uint64_t earliest = journal_earliest(s.bk.journal);
    uint64_t tail = journal_tail(s.bk.journal);
    struct fetched f = fetch(s.u, earliest, "");
    assert_int_equal(f.n, NTXNS * NROWS);
    assert_true(f.first == earliest && f.last + 1 == tail && f.next == tail && f.tail == tail);
    f = fetch(s.u, tail, "");
    assert_int_equal(f.n, 0);
    assert_true(f.next == tail);
    assert_int_equal(fetch(s.u, tail + 1, "").status, 416);
    assert_int_equal(fetch(s.u, 3, "").status, 410);
    assert_int_equal(fetch(s.u, earliest, "&max=x").status, 400);
    assert_int_equal(fetch(s.u, earliest, "&max=99999999999").status, 400);
    assert_int_equal(fetch(s.u, earliest, "&wait_ms=60001").status, 400);
    assert_int_equal(fetch(s.u, earliest, "&until=1").status, 400);
    assert_int_equal(fetch(s.c, earliest, "").status, 403); /* not on TCP */
    serve_fini(&s);
}

/* Whatever the size, every record comes once, in order, and each fetch gets on. */
static void
test_piecewise(void **state)
{
    (void)state;
    struct serve s;
    serve_small(&s);
    uint64_t tail = journal_tail(s.bk.journal);
    for (unsigned max = 0; max < 3000; max += 97) {
        char more[32];
        uint64_t next = journal_earliest(s.bk.journal);
        (void)snprintf(more, sizeof more, "&max=%u", max);
        while (next < tail) {
            struct fetched f = fetch(s.u, next, more);
            assert_int_equal(f.status, 200);
            assert_true(f.n > 0 && f.first == next && f.last == next + f.n - 1);
            assert_true(f.next == f.last + 1);
            assert_true(f.n == 1 || f.bytes <= max);
            next = f.next;
        }
        assert_true(next == tail);
    }
    serve_fini(&s);
}

static void
test_filtered_records_count_as_seen(void **state)
{
    (void)state;
    struct serve s;
    serve_small(&s);
    uint64_t tail = journal_tail(s.bk.journal);
    struct fetched f = fetch(s.u, journal_earliest(s.bk.journal),
        "&tables=fabric.*&wait_ms=20000"); /* no waiting: there is progress to tell */
    assert_int_equal(f.n, 0);
    assert_true(f.next == tail);
    assert_int_equal(
        fetch(s.u, journal_earliest(s.bk.journal), "&tables=public.*").n, NTXNS * NROWS);
    serve_fini(&s);
}

static void
test_a_large_record_comes_alone(void **state)
{
    (void)state;
    struct serve s;
    enum { LARGE = 5 << 20 };
    serve_small(&s);
    uint64_t at = journal_tail(s.bk.journal);
    char *v = malloc(LARGE);
    assert_non_null(v);
    memset(v, 'x', LARGE);
    put_begin(&s.log, 900, 0x9000);
    put_insert(&s.log, s.log.session.next_schema, STR("a"), STR("small"));
    put_insert(&s.log, s.log.session.next_schema, STR("b"), (struct str){v, LARGE});
    put_insert(&s.log, s.log.session.next_schema, STR("c"), STR("small"));
    put_commit(&s.log, 900, 0x9000, t0_us);
    free(v);
    (void)fixture_append_ok(&s.log);
    struct fetched f = fetch(s.u, at, "");
    assert_true(f.n == 1 && f.last == at);
    f = fetch(s.u, at + 1, "");
    assert_true(f.n == 1 && f.last == at + 1 && f.bytes > LARGE);
    f = fetch(s.u, at + 2, "");
    assert_true(f.n == 1 && f.last == at + 2);
    serve_fini(&s);
}

struct waiting {
    struct serve *s;
    uint64_t from;
    pthread_t thread;
    struct fetched got;
};

static void *
wait_main(void *arg)
{
    struct waiting *w = arg;
    struct httpc *c = httpc_new(
        &(struct httpc_conf){.unix_path = w->s->socket, .base_url = "http://oneslot"});
    w->got = fetch(c, w->from, "&wait_ms=20000");
    httpc_free(c);
    return NULL;
}

static void
test_waits_for_the_next_commit(void **state)
{
    (void)state;
    struct serve s;
    serve_small(&s);
    struct waiting w = {.s = &s, .from = journal_tail(s.bk.journal)};
    int64_t from_ms = clock_mono_ms();
    assert_int_equal(fetch(s.u, w.from, "&wait_ms=300").n, 0);
    assert_true(clock_mono_ms() - from_ms >= 300);
    assert_int_equal(pthread_create(&w.thread, NULL, wait_main, &w), 0);
    clock_sleep_ms(50); /* usually it waits by now; either way it must get the record */
    put_txn(&s.log, 900, 0x9000, t0_us, 2);
    (void)fixture_append_ok(&s.log);
    assert_int_equal(pthread_join(w.thread, NULL), 0);
    assert_true(w.got.n == 2 && w.got.first == w.from);
    serve_fini(&s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_at_once),
        cmocka_unit_test(test_piecewise),
        cmocka_unit_test(test_filtered_records_count_as_seen),
        cmocka_unit_test(test_a_large_record_comes_alone),
        cmocka_unit_test(test_waits_for_the_next_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
