/* writer, journal, segment: what is appended is read again, once and whole, whatever was cut
 * off in between. */
#include <fcntl.h>
#include <sys/stat.h>

#include "log_support.h"

/* What a reader sees: rows as "lsn-i" of transactions in order. */
struct seen {
    uint64_t n;
    uint64_t first, last;
    uint64_t last_lsn;
    uint64_t bytes;
    bool has_gap;
};

static int
see(void *arg, const struct record_txn *t, const struct schema *s, uint64_t offset,
    struct str whole, struct err *e)
{
    struct seen *seen = arg;
    (void)e;
    assert_non_null(s);
    assert_true(offset - t->first_offset < t->count);
    assert_true(t->lsn >= seen->last_lsn);
    seen->has_gap = seen->has_gap || (seen->n > 0 && offset != seen->last + 1);
    seen->first = seen->n == 0 ? offset : seen->first;
    seen->last = offset;
    seen->last_lsn = t->lsn;
    seen->bytes += whole.n;
    seen->n++;
    return 0;
}

static struct seen
read_from(struct log_fixture *f, uint64_t from)
{
    struct seen seen = {0};
    struct err e;
    for (;;) {
        uint64_t before = from;
        support_ok(journal_read(f->j, &from, UINT64_MAX, see, &seen, &e), &e);
        if (from == before) {
            return seen;
        }
    }
}

static struct seen
read_all(struct log_fixture *f)
{
    return read_from(f, journal_earliest(f->j));
}

static void
test_appended_is_read(void **state)
{
    (void)state;
    struct log_fixture f;
    fixture_init(&f, 16 << 20, false);
    put_schema(&f, f.session.next_schema);
    put_txn(&f, 1, 100, 1000, 3);
    put_txn(&f, 2, 200, 2000, 2000);
    struct api_appended done = fixture_append_ok(&f);
    assert_int_equal(done.proven_lsn, 208);
    struct seen seen = read_all(&f);
    assert_int_equal(seen.n, 2003);
    assert_false(seen.has_gap);
    assert_int_equal(done.tail, seen.last + 1);
    fixture_reopen(&f);
    assert_int_equal(read_all(&f).n, 2003);
    assert_int_equal(f.session.proven_lsn, 208);
    /* From the middle of a block. */
    assert_int_equal(read_from(&f, seen.first + 1000).n, 1003);
    fixture_fini(&f);
}

/* A transaction over several appends is invisible until its commit, and gone when the session
 * ends before it. */
static void
test_unfinished_is_invisible_and_discarded(void **state)
{
    (void)state;
    for (int reopen = 0; reopen < 2; reopen++) {
        struct log_fixture f;
        fixture_init(&f, 16 << 20, false);
        put_schema(&f, f.session.next_schema);
        put_txn(&f, 1, 100, 1000, 10);
        put_begin(&f, 2, 200);
        for (int i = 0; i < 5000; i++) {
            put_insert(&f, f.session.next_schema, STR("x"),
                STR("value of a transaction that never ends"));
        }
        (void)fixture_append_ok(&f);
        put_insert(&f, f.session.next_schema, STR("x"), STR("more"));
        (void)fixture_append_ok(&f);
        assert_int_equal(read_all(&f).n, 10);
        if (reopen) {
            fixture_reopen(&f);
        } else {
            fixture_session(&f);
        }
        assert_int_equal(f.session.proven_lsn, 108);
        put_schema(&f, f.session.next_schema);
        put_txn(&f, 2, 200, 2000, 7);
        (void)fixture_append_ok(&f);
        struct seen seen = read_all(&f);
        assert_int_equal(seen.n, 17);
        assert_false(seen.has_gap);
        fixture_fini(&f);
    }
}

static void
test_resent_is_dropped(void **state)
{
    (void)state;
    struct log_fixture f;
    fixture_init(&f, 16 << 20, false);
    put_schema(&f, f.session.next_schema);
    put_txn(&f, 1, 100, 1000, 3);
    put_txn(&f, 2, 200, 2000, 4);
    (void)fixture_append_ok(&f);
    fixture_session(&f);
    put_schema(&f, f.session.next_schema);
    put_txn(&f, 1, 100, 1000, 3);
    put_txn(&f, 2, 200, 2000, 4);
    put_txn(&f, 3, 300, 3000, 5);
    struct api_appended done = fixture_append_ok(&f);
    assert_int_equal(read_all(&f).n, 12);
    assert_int_equal(done.proven_lsn, 308);
    struct writer_stats stats;
    writer_stats(f.w, &stats);
    assert_int_equal(stats.duplicates, 2);
    fixture_fini(&f);
}

static void
put_message(struct log_fixture *f, uint64_t lsn)
{
    frame_put_begin(
        &f->frames, &(struct frame_begin_txn){.kind = FRAME_TXN_MESSAGE, .lsn = lsn});
    size_t start = frame_begin(&f->frames, FRAME_MESSAGE, 0, 0);
    mp_put_array(&f->frames, 2);
    mp_put_cstr(&f->frames, "prefix");
    mp_put_bin(&f->frames, STR("content"));
    frame_end(&f->frames, start);
    frame_put_commit(
        &f->frames, &(struct frame_commit){
                        .kind = FRAME_TXN_MESSAGE, .lsn = lsn, .end_lsn = lsn, .ts_us = 1});
}

static void
put_read(struct log_fixture *f, uint64_t lsn, int n)
{
    frame_put_begin(&f->frames, &(struct frame_begin_txn){.kind = FRAME_TXN_READ, .lsn = lsn});
    for (int i = 0; i < n; i++) {
        size_t start = frame_begin(&f->frames, FRAME_READ, 0, f->session.next_schema);
        mp_put_array(&f->frames, 2);
        mp_put_str(&f->frames, STR("key"));
        mp_put_str(&f->frames, STR("read"));
        frame_end(&f->frames, start);
    }
    frame_put_commit(&f->frames,
        &(struct frame_commit){.kind = FRAME_TXN_READ, .lsn = lsn, .end_lsn = lsn, .ts_us = 1});
}

/* Rows read from a table stand at the end of the last transaction: they are never dropped, hide
 * none behind them that commits there, bring none back, and prove nothing. */
static void
test_read_rows_stand_outside_of_duplicates(void **state)
{
    (void)state;
    struct log_fixture f;
    fixture_init(&f, 16 << 20, false);
    put_schema(&f, f.session.next_schema);
    put_txn(&f, 1, 100, 1000, 2); /* ends at 108 */
    put_read(&f, 108, 3);
    put_read(&f, 108, 1);
    struct api_appended done = fixture_append_ok(&f);
    assert_int_equal(done.proven_lsn, 108);
    assert_int_equal(read_all(&f).n, 6);
    fixture_session(&f);
    put_schema(&f, f.session.next_schema);
    put_txn(&f, 1, 100, 1000, 2); /* sent again: dropped */
    put_txn(&f, 2, 108, 2000, 1); /* a commit record right behind */
    put_read(&f, 116, 1);
    done = fixture_append_ok(&f);
    assert_int_equal(done.proven_lsn, 116);
    assert_int_equal(read_all(&f).n, 8);
    fixture_reopen(&f);
    put_schema(&f, f.session.next_schema);
    put_txn(&f, 2, 108, 2000, 1);
    put_txn(&f, 3, 116, 3000, 1);
    put_read(&f, 124, 1);
    (void)fixture_append_ok(&f);
    struct seen seen = read_all(&f);
    assert_int_equal(seen.n, 10);
    assert_false(seen.has_gap);
    fixture_fini(&f);
}

static void
test_read_rows_below_the_log_are_refused(void **state)
{
    (void)state;
    struct log_fixture f;
    struct api_appended done;
    struct err e;
    fixture_init(&f, 16 << 20, false);
    put_schema(&f, f.session.next_schema);
    put_txn(&f, 1, 100, 1000, 2);
    put_read(&f, 99, 1);
    assert_int_equal(fixture_append(&f, &done, &e), ERR_PARSE);
    fixture_fini(&f);
}

/* A message outside a transaction may share its LSN with the commit behind it: each is dropped
 * only when it is there. */
static void
test_message_and_commit_at_one_lsn(void **state)
{
    (void)state;
    struct log_fixture f;
    fixture_init(&f, 16 << 20, false);
    put_message(&f, 100);
    (void)fixture_append_ok(&f);
    fixture_session(&f);
    put_schema(&f, f.session.next_schema);
    put_message(&f, 100);
    put_txn(&f, 1, 100, 1000, 2);
    struct api_appended done = fixture_append_ok(&f);
    uint64_t tail = done.tail;
    assert_int_equal(tail - journal_earliest(f.j), 3);
    fixture_session(&f);
    put_schema(&f, f.session.next_schema);
    put_message(&f, 100);
    put_txn(&f, 1, 100, 1000, 2);
    done = fixture_append_ok(&f);
    assert_int_equal(done.tail, tail);
    fixture_fini(&f);
}

static void
test_another_history_is_refused(void **state)
{
    (void)state;
    struct log_fixture f;
    fixture_init(&f, 16 << 20, false);
    put_schema(&f, f.session.next_schema);
    put_txn(&f, 1, 100, 1000, 1);
    (void)fixture_append_ok(&f);
    fixture_session(&f);
    put_schema(&f, f.session.next_schema);
    put_txn(&f, 9, 100, 1000, 1);
    struct api_appended done;
    struct err e;
    assert_int_equal(fixture_append(&f, &done, &e), ERR_PARSE);
    fixture_fini(&f);
}

static void
test_fencing(void **state)
{
    (void)state;
    struct log_fixture f;
    fixture_init(&f, 16 << 20, false);
    put_schema(&f, f.session.next_schema);
    put_txn(&f, 1, 100, 1000, 1);
    struct api_session old = f.session;
    struct api_session fresh;
    struct err e;
    support_ok(writer_open_session(f.w, &fresh, &e), &e);
    assert_true(fresh.generation > old.generation);
    struct api_appended done;
    assert_int_equal(fixture_append(&f, &done, &e), ERR_FENCED);
    assert_int_equal(journal_tail(f.j), journal_earliest(f.j));
    /* The right session, but not the next sequence. */
    f.session = fresh;
    f.sequence = 1;
    assert_int_equal(fixture_append(&f, &done, &e), ERR_FENCED);
    f.sequence = 0;
    support_ok(fixture_append(&f, &done, &e), &e);
    /* The same append again: its sequence is over. */
    f.sequence = 0;
    put_txn(&f, 1, 100, 1000, 1);
    assert_int_equal(fixture_append(&f, &done, &e), ERR_FENCED);
    /* A generation survives a restart. */
    fixture_close(&f);
    fixture_open(&f);
    support_ok(writer_open_session(f.w, &fresh, &e), &e);
    assert_true(fresh.generation > f.session.generation);
    fixture_fini(&f);
}

static void
test_rolls_at_transactions_and_removes(void **state)
{
    (void)state;
    for (int packed = 0; packed < 2; packed++) {
        struct log_fixture f;
        fixture_init(&f, 1 << 20, packed == 1);
        put_schema(&f, f.session.next_schema);
        uint64_t expected = 0;
        for (unsigned k = 1; k <= 600; k++) {
            put_txn(&f, k, 1000 * k, 1000 * k, 100);
            expected += 100;
            if (k % 7 == 0) {
                (void)fixture_append_ok(&f);
            }
        }
        (void)fixture_append_ok(&f);
        struct seen seen = read_all(&f);
        assert_int_equal(seen.n, expected);
        assert_false(seen.has_gap);
        struct journal_info info;
        journal_info(f.j, &info);
        assert_true(info.segments >= 2);
        assert_int_equal(info.records, expected);
        struct err e;
        bool done = true;
        while (done) {
            support_ok(journal_seal_one(f.j, &done, &e), &e);
        }
        assert_int_equal(read_all(&f).n, expected);
        fixture_reopen(&f);
        assert_int_equal(read_all(&f).n, expected);
        /* Positions in every segment. */
        for (uint64_t lsn = 1000; lsn <= 600000; lsn += 7000) {
            struct position p = {.kind = POSITION_LSN, .lsn = lsn - 999};
            struct journal_place place;
            support_ok(journal_find(f.j, &p, &place, &e), &e);
            assert_true(place.has_txn);
            assert_int_equal(place.lsn, lsn);
            p = (struct position){.kind = POSITION_TIME, .time_us = (int64_t)lsn};
            support_ok(journal_find(f.j, &p, &place, &e), &e);
            assert_int_equal(place.lsn, lsn);
            uint64_t bytes;
            support_ok(journal_bytes_from(f.j, place.offset, &bytes, &e), &e);
            assert_int_equal(bytes, read_from(&f, place.offset).bytes);
        }
        /* The oldest goes: what was in it is gone, not skipped. */
        uint64_t earliest = journal_earliest(f.j);
        support_ok(journal_remove_oldest(f.j, &e), &e);
        assert_true(journal_earliest(f.j) > earliest);
        uint64_t from = earliest;
        struct seen after = {0};
        assert_int_equal(journal_read(f.j, &from, UINT64_MAX, see, &after, &e), ERR_GONE);
        struct position p = {.kind = POSITION_LSN, .lsn = 1000};
        struct journal_place place;
        assert_int_equal(journal_find(f.j, &p, &place, &e), ERR_GONE);
        p = (struct position){.kind = POSITION_TIME, .time_us = 1000};
        assert_int_equal(journal_find(f.j, &p, &place, &e), ERR_GONE);
        p = (struct position){.kind = POSITION_OFFSET, .offset = earliest};
        assert_int_equal(journal_find(f.j, &p, &place, &e), ERR_GONE);
        p = (struct position){.kind = POSITION_OFFSET, .offset = journal_tail(f.j) + 1};
        assert_int_equal(journal_find(f.j, &p, &place, &e), ERR_BEYOND);
        fixture_reopen(&f);
        assert_false(read_all(&f).has_gap);
        fixture_fini(&f);
    }
}

/* Commit times that go back: the time index is their running maximum. */
static void
test_time_that_goes_back(void **state)
{
    (void)state;
    static const int64_t ts[] = {50, 40, 60, 55, 10, 70};
    struct log_fixture f;
    fixture_init(&f, 16 << 20, false);
    put_schema(&f, f.session.next_schema);
    for (unsigned i = 0; i < 6; i++) {
        put_txn(&f, i + 1, 100 * (i + 1), ts[i], 1);
        if (i % 2 == 1) {
            (void)fixture_append_ok(&f);
        }
    }
    for (int64_t t = 1; t <= 71; t++) {
        unsigned expected = 0;
        while (expected < 6 && ts[expected] < t) {
            expected++;
        }
        struct position p = {.kind = POSITION_TIME, .time_us = t};
        struct journal_place place;
        struct err e;
        support_ok(journal_find(f.j, &p, &place, &e), &e);
        assert_int_equal(place.has_txn, expected < 6);
        assert_int_equal(place.offset - journal_earliest(f.j), expected);
    }
    fixture_fini(&f);
}

static void
test_large_record(void **state)
{
    (void)state;
    static const size_t sizes[] = {
        1, 32000, 32720, 32752, 33000, 1 << 20, (1 << 20) + 1, 5 << 20};
    for (int packed = 0; packed < 2; packed++) {
        struct log_fixture f;
        fixture_init(&f, 64 << 20, packed == 1);
        put_schema(&f, f.session.next_schema);
        uint64_t bytes = 0;
        for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            char *v = malloc(sizes[i]);
            for (size_t k = 0; k < sizes[i]; k++) {
                v[k] = (char)('a' + (k * 7 + k / 100) % 26);
            }
            put_begin(&f, i + 1, 100 * (i + 1));
            size_t before = f.frames.n;
            put_insert(&f, f.session.next_schema, STR("before"), STR("x"));
            put_insert(&f, f.session.next_schema, STR("large"), (struct str){v, sizes[i]});
            put_insert(&f, f.session.next_schema, STR("after"), STR("x"));
            bytes += f.frames.n - before;
            put_commit(&f, i + 1, 100 * (i + 1), 5);
            free(v);
            (void)fixture_append_ok(&f);
        }
        struct seen seen = read_all(&f);
        assert_int_equal(seen.n, 3 * sizeof sizes / sizeof sizes[0]);
        assert_int_equal(seen.bytes, bytes);
        for (uint64_t at = seen.first; at <= seen.last; at++) {
            assert_int_equal(read_from(&f, at).n, seen.last + 1 - at);
        }
        fixture_reopen(&f);
        assert_int_equal(read_all(&f).bytes, bytes);
        fixture_fini(&f);
    }
}

static void
test_idle_position(void **state)
{
    (void)state;
    struct log_fixture f;
    fixture_init(&f, 16 << 20, false);
    frame_put_idle(&f.frames, 5000);
    assert_int_equal(fixture_append_ok(&f).proven_lsn, 5000);
    frame_put_idle(&f.frames, 4000);
    assert_int_equal(fixture_append_ok(&f).proven_lsn, 5000);
    fixture_reopen(&f);
    assert_int_equal(f.session.proven_lsn, 5000);
    put_schema(&f, f.session.next_schema);
    put_begin(&f, 1, 6000);
    frame_put_idle(&f.frames, 7000);
    struct api_appended done;
    struct err e;
    assert_int_equal(fixture_append(&f, &done, &e), ERR_PARSE);
    fixture_fini(&f);
}

/* Every malformed append is refused, leaves nothing behind, and ends the session. */
static void
test_refuses_nonsense(void **state)
{
    (void)state;
    for (int kind = 0; kind < 8; kind++) {
        struct log_fixture f;
        fixture_init(&f, 16 << 20, false);
        uint32_t id = f.session.next_schema;
        if (kind != 0) {
            put_schema(&f, id);
        }
        switch (kind) {
        case 0: /* a schema that was not announced */
            put_txn(&f, 1, 100, 1, 1);
            break;
        case 1: /* a record outside a transaction */
            put_insert(&f, id, STR("a"), STR("b"));
            break;
        case 2: /* a begin inside a transaction */
            put_begin(&f, 1, 100);
            put_begin(&f, 2, 200);
            break;
        case 3: /* a commit without begin */
            put_commit(&f, 1, 100, 1);
            break;
        case 4: /* another transaction's commit */
            put_begin(&f, 1, 100);
            put_insert(&f, id, STR("a"), STR("b"));
            put_commit(&f, 2, 100, 1);
            break;
        case 5: /* an empty transaction */
            put_begin(&f, 1, 100);
            put_commit(&f, 1, 100, 1);
            break;
        case 6: /* a flipped bit */
            put_txn(&f, 1, 100, 1, 3);
            f.frames.p[f.frames.n / 2] ^= 4;
            break;
        default: /* cut off */
            put_txn(&f, 1, 100, 1, 3);
            f.frames.n -= 3;
            break;
        }
        struct api_appended done;
        struct err e;
        int rc = fixture_append(&f, &done, &e);
        assert_true(rc == ERR_PARSE || rc == ERR_CORRUPT);
        assert_int_equal(journal_tail(f.j), journal_earliest(f.j));
        assert_int_equal(fixture_append(&f, &done, &e), ERR_FENCED);
        fixture_session(&f);
        put_schema(&f, f.session.next_schema);
        put_txn(&f, 1, 100, 1, 3);
        (void)fixture_append_ok(&f);
        assert_int_equal(read_all(&f).n, 3);
        fixture_fini(&f);
    }
}

/* Schema ids are never used twice, not even by a session whose schemas never reached the log.
 */
static void
test_schema_ids_grow(void **state)
{
    (void)state;
    struct log_fixture f;
    fixture_init(&f, 16 << 20, false);
    uint32_t first = f.session.next_schema;
    put_schema(&f, first);
    put_txn(&f, 1, 100, 1, 1);
    (void)fixture_append_ok(&f);
    fixture_session(&f);
    assert_true(f.session.next_schema > first);
    uint32_t second = f.session.next_schema;
    for (uint32_t id = second; id < second + 100; id++) {
        put_schema(&f, id);
    }
    frame_put_idle(&f.frames, 500);
    (void)fixture_append_ok(&f);
    fixture_reopen(&f);
    assert_true(f.session.next_schema >= second + 100);
    put_schema(&f, f.session.next_schema + 1); /* leaps over one */
    struct api_appended done;
    struct err e;
    assert_int_equal(fixture_append(&f, &done, &e), ERR_PARSE);
    fixture_fini(&f);
}

/* A flipped byte anywhere in the data pages that hold records is reported where it is read,
 * never served. */
static void
test_flipped_byte_is_reported(void **state)
{
    (void)state;
    struct log_fixture f;
    fixture_init(&f, 16 << 20, false);
    put_schema(&f, f.session.next_schema);
    put_txn(&f, 1, 100, 1000, 400);
    (void)fixture_append_ok(&f);
    struct seen seen = read_all(&f);
    char path[256];
    (void)snprintf(
        path, sizeof path, "%s/log/%020llu/data.mdb", f.dir, (unsigned long long)seen.first);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    struct stat info;
    assert_int_equal(fstat(fd, &info), 0);
    unsigned damaged = 0;
    for (off_t at = 0; at < info.st_size; at += 509) {
        char page[5];
        if (pread(fd, page, 5, at) != 5 || memcmp(page, "value", 5) == 0) {
            continue;
        }
        char old = page[0];
        char new = (char)(old ^ 0x10);
        /* Only within row texts: a damaged tree is LMDB's to find, in a process of its own
         * (verify). */
        char around[64];
        if (pread(fd, around, sizeof around, at) != (ssize_t)sizeof around ||
            memmem(around, sizeof around, "some value of a row", 19) == NULL) {
            continue;
        }
        assert_int_equal(pwrite(fd, &new, 1, at), 1);
        uint64_t from = seen.first;
        struct seen got = {0};
        struct err e;
        int rc = journal_read(f.j, &from, UINT64_MAX, see, &got, &e);
        assert_int_equal(rc, ERR_CORRUPT);
        assert_int_equal(from, seen.first + got.n);
        damaged++;
        assert_int_equal(pwrite(fd, &old, 1, at), 1);
    }
    (void)close(fd);
    assert_true(damaged > 5);
    assert_int_equal(read_all(&f).n, 400);
    fixture_fini(&f);
}

static void
test_state_and_log_belong_together(void **state)
{
    (void)state;
    struct log_fixture f;
    fixture_init(&f, 16 << 20, false);
    put_schema(&f, f.session.next_schema);
    put_txn(&f, 1, 100, 1000, 1);
    (void)fixture_append_ok(&f);
    fixture_close(&f);
    struct err e;
    char from[128];
    char to[128];
    /* The log was taken away. */
    (void)snprintf(from, sizeof from, "%s/log", f.dir);
    (void)snprintf(to, sizeof to, "%s/away", f.dir);
    assert_int_equal(rename(from, to), 0);
    struct journal_conf jc = {.data_dir = f.dir, .segment_bytes = f.segment_bytes};
    bool has_state;
    support_ok(state_exists(f.dir, &has_state, &e), &e);
    assert_true(has_state);
    struct journal *j;
    assert_int_equal(journal_open(&jc, false, &j, &e), ERR_NOTFOUND);
    (void)rmdir(from);
    assert_int_equal(rename(to, from), 0);
    /* The state was taken away. */
    (void)snprintf(from, sizeof from, "%s/state", f.dir);
    assert_int_equal(rename(from, to), 0);
    support_ok(journal_open(&jc, true, &j, &e), &e);
    struct state *st;
    assert_int_equal(state_open(f.dir, journal_uuid(j), false, &st, &e), ERR_FOREIGN);
    journal_close(j);
    char command[512];
    (void)snprintf(command, sizeof command, "rm -rf %s && mv %s %s", from, to, from);
    assert_int_equal(system(command), 0); /* lint:allow system: a test's own folder */
    fixture_open(&f);
    fixture_session(&f);
    assert_int_equal(read_all(&f).n, 1);
    fixture_fini(&f);
}

/* The last row fills an append, the COMMIT comes alone in the next one. */
static void
test_commit_alone_makes_visible(void **state)
{
    (void)state;
    struct log_fixture f;
    fixture_init(&f, 16 << 20, false);
    put_schema(&f, f.session.next_schema);
    put_begin(&f, 1, 100);
    put_insert(&f, f.session.next_schema, STR("a"), STR("b"));
    (void)fixture_append_ok(&f);
    assert_int_equal(read_all(&f).n, 0);
    put_commit(&f, 1, 100, 1000);
    struct api_appended done = fixture_append_ok(&f);
    assert_int_equal(done.proven_lsn, 108);
    assert_int_equal(read_all(&f).n, 1);
    fixture_reopen(&f);
    assert_int_equal(read_all(&f).n, 1);
    fixture_fini(&f);
}

/* Whatever ended the session: what it left above the tail is gone before the next one appends.
 */
static void
test_failed_session_leaves_nothing(void **state)
{
    (void)state;
    struct log_fixture f;
    fixture_init(&f, 16 << 20, false);
    put_schema(&f, f.session.next_schema);
    put_begin(&f, 1, 100);
    put_insert(&f, f.session.next_schema, STR("a"), STR("b"));
    (void)fixture_append_ok(&f);
    put_begin(&f, 2, 200); /* inside the first: refused */
    struct api_appended done;
    struct err e;
    assert_int_equal(fixture_append(&f, &done, &e), ERR_PARSE);
    for (int i = 0; i < 2; i++) {
        fixture_session(&f);
        put_schema(&f, f.session.next_schema);
        put_txn(&f, 1, 100, 1000, 5);
        (void)fixture_append_ok(&f);
        assert_int_equal(read_all(&f).n, 5);
    }
    fixture_fini(&f);
}

/* A broker killed inside a transaction far larger than the map of a fresh segment comes up
 * again. */
static void
test_giant_unfinished_transaction_is_discarded_at_start(void **state)
{
    (void)state;
    struct log_fixture f;
    fixture_init(&f, 1 << 20, false);
    put_schema(&f, f.session.next_schema);
    put_txn(&f, 1, 100, 1000, 5);
    put_begin(&f, 2, 200);
    char *v = calloc(1, 1 << 20);
    memset(v, 'v', 1 << 20);
    for (int i = 0; i < 160; i++) {
        put_insert(&f, f.session.next_schema, STR("x"), (struct str){v, 1 << 20});
        (void)fixture_append_ok(&f);
    }
    free(v);
    fixture_reopen(&f);
    assert_int_equal(read_all(&f).n, 5);
    put_schema(&f, f.session.next_schema);
    put_txn(&f, 2, 200, 2000, 7);
    (void)fixture_append_ok(&f);
    assert_int_equal(read_all(&f).n, 12);
    fixture_fini(&f);
}

/* A disk (behind a link that can be turned) that is full when an append comes, and no append
 * comes afterwards. */
static void
test_space_that_returns_is_noticed_without_an_append(void **state)
{
    (void)state;
    struct log_fixture f;
    fixture_init(&f, 16 << 20, false);
    char link[128];
    (void)snprintf(link, sizeof link, "%s/disk", f.dir);
    assert_int_equal(symlink("/proc", link), 0); /* no block of it is free */
    struct writer_conf c = {.journal = f.j, .state = f.st, .data_dir = link};
    struct writer *w;
    struct err e;
    support_ok(writer_new(&c, &w, &e), &e);
    struct api_session session;
    support_ok(writer_open_session(w, &session, &e), &e);
    struct api_append head = {.generation = session.generation, .sequence = 1};
    memcpy(head.uuid, session.uuid, API_UUID);
    struct api_appended done;
    assert_int_equal(writer_append(w, &head, STR(""), &done, &e), ERR_NOSPACE);
    assert_true(writer_is_out_of_space(w));
    writer_recheck_space(w);
    assert_true(writer_is_out_of_space(w));
    assert_int_equal(unlink(link), 0);
    writer_recheck_space(w); /* what cannot be asked changes nothing */
    assert_true(writer_is_out_of_space(w));
    assert_int_equal(symlink(f.dir, link), 0);
    writer_recheck_space(w);
    assert_false(writer_is_out_of_space(w));
    support_ok(writer_append(w, &head, STR(""), &done, &e), &e);
    writer_free(w);
    assert_int_equal(unlink(link), 0);
    fixture_fini(&f);
}

/* A large record behind a roll: the new segment's map must be made for what is still to come.
 */
static void
test_large_record_behind_a_roll(void **state)
{
    (void)state;
    struct log_fixture f;
    fixture_init(&f, 1 << 20, false);
    put_schema(&f, f.session.next_schema);
    char *v = malloc(100 << 20);
    memset(v, 'v', 100 << 20);
    put_txn(&f, 1, 100, 1000, 20000);
    put_begin(&f, 2, 200);
    put_insert(&f, f.session.next_schema, STR("x"), (struct str){v, 100 << 20});
    put_commit(&f, 2, 200, 2000);
    (void)fixture_append_ok(&f);
    free(v);
    assert_int_equal(read_all(&f).n, 20001);
    struct journal_info info;
    journal_info(f.j, &info);
    assert_int_equal(info.segments, 2);
    fixture_fini(&f);
}

/* Making the next segment fails once, behind a commit: the session is over, nothing is logged
 * twice or lost. */
static void
test_failed_roll(void **state)
{
    (void)state;
    struct log_fixture f;
    fixture_init(&f, 1 << 20, false);
    put_schema(&f, f.session.next_schema);
    put_txn(&f, 1, 100, 1000, 10);
    put_begin(&f, 2, 200);
    for (int i = 0; i < 20000; i++) {
        put_insert(&f, f.session.next_schema, STR("a"),
            STR("as much as makes a segment full in the end"));
    }
    (void)fixture_append_ok(&f);
    char path[128];
    char inside[160];
    (void)snprintf(path, sizeof path, "%s/log/.new", f.dir);
    (void)snprintf(inside, sizeof inside, "%s/in the way", path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(mkdir(inside, 0700), 0);
    put_commit(&f, 2, 200, 2000);
    put_txn(&f, 3, 300, 3000, 4);
    struct api_appended done;
    struct err e;
    int rc = fixture_append(&f, &done, &e);
    assert_true(rc != 0);
    assert_int_equal(fixture_append(&f, &done, &e), ERR_FENCED);
    assert_int_equal(rmdir(inside), 0);
    fixture_session(&f);
    put_schema(&f, f.session.next_schema);
    put_txn(&f, 1, 100, 1000, 10);
    put_txn(&f, 2, 200, 2000, 20000);
    put_txn(&f, 3, 300, 3000, 4);
    (void)fixture_append_ok(&f);
    struct seen seen = read_all(&f);
    assert_int_equal(seen.n, 20014);
    assert_false(seen.has_gap);
    fixture_fini(&f);
}

/* A segment that cannot be moved away stays in the log. */
static void
test_failed_removal_keeps_the_segment(void **state)
{
    (void)state;
    struct log_fixture f;
    fixture_init(&f, 1 << 20, false);
    put_schema(&f, f.session.next_schema);
    for (unsigned k = 1; k <= 3; k++) {
        put_txn(&f, k, 100 * k, 1000, 20000);
        (void)fixture_append_ok(&f);
    }
    struct err e;
    bool done = true;
    while (done) {
        support_ok(journal_seal_one(f.j, &done, &e), &e);
    }
    char trash[128];
    (void)snprintf(trash, sizeof trash, "%s/trash", f.dir);
    assert_int_equal(rmdir(trash), 0);
    assert_true(journal_remove_oldest(f.j, &e) != 0);
    assert_int_equal(read_all(&f).n, 60000);
    assert_int_equal(mkdir(trash, 0700), 0);
    support_ok(journal_remove_oldest(f.j, &e), &e);
    support_ok(journal_empty_trash(f.j, &e), &e);
    assert_int_equal(rmdir(trash), 0);
    assert_int_equal(read_all(&f).n, 40000);
    fixture_reopen(&f);
    assert_int_equal(read_all(&f).n, 40000);
    fixture_fini(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_appended_is_read),
        cmocka_unit_test(test_unfinished_is_invisible_and_discarded),
        cmocka_unit_test(test_resent_is_dropped),
        cmocka_unit_test(test_message_and_commit_at_one_lsn),
        cmocka_unit_test(test_another_history_is_refused),
        cmocka_unit_test(test_fencing),
        cmocka_unit_test(test_rolls_at_transactions_and_removes),
        cmocka_unit_test(test_time_that_goes_back),
        cmocka_unit_test(test_large_record),
        cmocka_unit_test(test_idle_position),
        cmocka_unit_test(test_read_rows_stand_outside_of_duplicates),
        cmocka_unit_test(test_read_rows_below_the_log_are_refused),
        cmocka_unit_test(test_refuses_nonsense),
        cmocka_unit_test(test_schema_ids_grow),
        cmocka_unit_test(test_flipped_byte_is_reported),
        cmocka_unit_test(test_state_and_log_belong_together),
        cmocka_unit_test(test_commit_alone_makes_visible),
        cmocka_unit_test(test_failed_session_leaves_nothing),
        cmocka_unit_test(test_giant_unfinished_transaction_is_discarded_at_start),
        cmocka_unit_test(test_space_that_returns_is_noticed_without_an_append),
        cmocka_unit_test(test_large_record_behind_a_roll),
        cmocka_unit_test(test_failed_roll),
        cmocka_unit_test(test_failed_removal_keeps_the_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
