/* api: every message survives the way there and back; cut short, lengthened or with a field of
 * another name it is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/api.h"
#include "proto/base/mp.h"

static const uint8_t uuid[API_UUID] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255};

static void
assert_str(struct str got, const char *want)
{
    assert_int_equal(got.n, strlen(want));
    assert_memory_equal(got.p, want, got.n);
}

/* Each length of the encoding but the whole is refused and leaves *ret alone; so is anything
 * behind it, and a first field of another name. */
#define REFUSES_ALL_BUT_WHOLE(stem, b)                                                         \
    do {                                                                                       \
        struct api_##stem kept, before;                                                        \
        memset(&before, 0xa5, sizeof before);                                                  \
        memcpy(&kept, &before, sizeof kept);                                                   \
        struct err e;                                                                          \
        for (size_t n = 0; n < (b)->n; n++) {                                                  \
            char *exact = malloc(n + 1); /* so that the sanitizer sees a read beyond */        \
            memcpy(exact + 1, (b)->p, n);                                                      \
            assert_int_equal(                                                                  \
                api_get_##stem((struct str){exact + 1, n}, &kept, &e), ERR_PARSE);             \
            free(exact);                                                                       \
        }                                                                                      \
        buf_putc((b), 0);                                                                      \
        assert_int_equal(api_get_##stem(buf_str(b), &kept, &e), ERR_PARSE);                    \
        (b)->n--;                                                                              \
        (b)->p[2] = (char)((b)->p[2] ^ 1); /* map, string head, first letter */                \
        assert_int_equal(api_get_##stem(buf_str(b), &kept, &e), ERR_PARSE);                    \
        assert_memory_equal(&kept, &before, sizeof kept);                                      \
        buf_fini(b);                                                                           \
    } while (0)

#define ROUND_TRIP(stem, b, s, got)                                                            \
    struct buf b;                                                                              \
    buf_init(&b, API_CONTROL_BODY);                                                            \
    api_put_##stem(&b, &s);                                                                    \
    assert_true(buf_ok(&b));                                                                   \
    struct api_##stem got;                                                                     \
    struct err e_##stem;                                                                       \
    assert_int_equal(api_get_##stem(buf_str(&b), &got, &e_##stem), 0)

static void
source(void **state)
{
    (void)state;
    struct api_source s = {.epoch = 3,
        .is_empty = true,
        .proven_lsn = UINT64_MAX,
        .has_identity = true,
        .system_id = 7000000000000000001u,
        .timeline = UINT32_MAX,
        .database = STR("app"),
        .slot = STR("one\0slot"),
        .slot_state = API_SLOT_CREATED,
        .start_lsn = 0x16B3748};
    memcpy(s.uuid, uuid, sizeof uuid);
    ROUND_TRIP(source, b, s, got);
    assert_memory_equal(got.uuid, uuid, sizeof uuid);
    assert_int_equal(got.epoch, s.epoch);
    assert_true(got.is_empty);
    assert_true(got.proven_lsn == UINT64_MAX);
    assert_true(got.has_identity);
    assert_true(got.system_id == s.system_id);
    assert_int_equal(got.timeline, UINT32_MAX);
    assert_str(got.database, "app");
    assert_true(str_eq(got.slot, s.slot));
    assert_int_equal(got.slot_state, API_SLOT_CREATED);
    assert_int_equal(got.start_lsn, s.start_lsn);
    REFUSES_ALL_BUT_WHOLE(source, &b);
}

static void
source_update(void **state)
{
    (void)state;
    struct api_source_update s = {.system_id = 1,
        .timeline = 2,
        .database = STR("d"),
        .slot = STR(""),
        .slot_state = API_SLOT_INTENDED,
        .start_lsn = 5};
    ROUND_TRIP(source_update, b, s, got);
    assert_int_equal(got.system_id, 1);
    assert_int_equal(got.timeline, 2);
    assert_str(got.database, "d");
    assert_str(got.slot, "");
    assert_int_equal(got.slot_state, API_SLOT_INTENDED);
    assert_int_equal(got.start_lsn, 5);
    REFUSES_ALL_BUT_WHOLE(source_update, &b);
}

static void
source_status(void **state)
{
    (void)state;
    struct api_source_status s = {.state = API_SOURCE_REFUSED,
        .slot = STR("s"),
        .server_lsn = 1,
        .received_lsn = 2,
        .acked_lsn = 3,
        .has_retained = true,
        .retained_wal_bytes = INT64_MIN,
        .wal_status = STR("reserved"),
        .has_safe = false,
        .safe_wal_bytes = INT64_MAX,
        .last_error = STR("no slot")};
    ROUND_TRIP(source_status, b, s, got);
    assert_int_equal(got.state, API_SOURCE_REFUSED);
    assert_str(got.slot, "s");
    assert_int_equal(got.server_lsn, 1);
    assert_int_equal(got.received_lsn, 2);
    assert_int_equal(got.acked_lsn, 3);
    assert_true(got.has_retained);
    assert_true(got.retained_wal_bytes == INT64_MIN);
    assert_str(got.wal_status, "reserved");
    assert_false(got.has_safe);
    assert_true(got.safe_wal_bytes == INT64_MAX);
    assert_str(got.last_error, "no slot");
    REFUSES_ALL_BUT_WHOLE(source_status, &b);
}

static void
session_and_appended(void **state)
{
    (void)state;
    struct api_session s = {.generation = 9, .epoch = 1, .proven_lsn = 44, .next_schema = 12};
    memcpy(s.uuid, uuid, sizeof uuid);
    ROUND_TRIP(session, b, s, got);
    assert_memory_equal(got.uuid, uuid, sizeof uuid);
    assert_int_equal(got.generation, 9);
    assert_int_equal(got.epoch, 1);
    assert_int_equal(got.proven_lsn, 44);
    assert_int_equal(got.next_schema, 12);
    REFUSES_ALL_BUT_WHOLE(session, &b);

    struct api_appended a = {.sequence = 1, .proven_lsn = 2, .tail = 1882345678901234};
    ROUND_TRIP(appended, ab, a, appended);
    assert_int_equal(appended.sequence, 1);
    assert_int_equal(appended.proven_lsn, 2);
    assert_int_equal(appended.tail, a.tail);
    REFUSES_ALL_BUT_WHOLE(appended, &ab);
}

static void
sink_session(void **state)
{
    (void)state;
    struct api_sink_open o = {
        .kind = STR("file"), .start = STR("earliest"), .tables = STR("fabric.*,public.a")};
    ROUND_TRIP(sink_open, ob, o, open);
    assert_str(open.kind, "file");
    assert_str(open.start, "earliest");
    assert_str(open.tables, "fabric.*,public.a");
    REFUSES_ALL_BUT_WHOLE(sink_open, &ob);

    struct api_sink_session s = {.generation = 2, .epoch = 3, .next = 4, .tables = UINT32_MAX};
    memcpy(s.uuid, uuid, sizeof uuid);
    ROUND_TRIP(sink_session, b, s, got);
    assert_memory_equal(got.uuid, uuid, sizeof uuid);
    assert_int_equal(got.generation, 2);
    assert_int_equal(got.epoch, 3);
    assert_int_equal(got.next, 4);
    assert_true(got.tables == UINT32_MAX);
    REFUSES_ALL_BUT_WHOLE(sink_session, &b);
}

static void
sink_commit_and_status(void **state)
{
    (void)state;
    struct api_sink_commit c = {.generation = 2, .expect = 100, .next = 200};
    ROUND_TRIP(sink_commit, cb, c, commit);
    assert_int_equal(commit.generation, 2);
    assert_int_equal(commit.expect, 100);
    assert_int_equal(commit.next, 200);
    REFUSES_ALL_BUT_WHOLE(sink_commit, &cb);

    struct api_sink_status s = {.generation = 2,
        .state = API_SINK_STOPPED,
        .records = 5,
        .retries = 6,
        .requests = 7,
        .bytes = 8,
        .stale = 9,
        .missing = 10,
        .lossy = 11,
        .rereads = 12,
        .lanes = 4,
        .last_success_us = -1,
        .last_error = STR("disk full")};
    ROUND_TRIP(sink_status, b, s, got);
    assert_int_equal(got.generation, 2);
    assert_int_equal(got.state, API_SINK_STOPPED);
    assert_int_equal(got.records, 5);
    assert_int_equal(got.retries, 6);
    assert_int_equal(got.requests, 7);
    assert_int_equal(got.bytes, 8);
    assert_int_equal(got.stale, 9);
    assert_int_equal(got.missing, 10);
    assert_int_equal(got.lossy, 11);
    assert_int_equal(got.rereads, 12);
    assert_int_equal(got.lanes, 4);
    assert_int_equal(got.last_success_us, -1);
    assert_str(got.last_error, "disk full");
    REFUSES_ALL_BUT_WHOLE(sink_status, &b);
}

static void
bury_and_raise(void **state)
{
    (void)state;
    struct api_bury l = {.generation = 3,
        .offset = 99,
        .state = API_LETTER_REREAD,
        .is_whole = true,
        .key = STR("k\0y"),
        .former = STR("f\0r"),
        .ns = STR("shop"),
        .table = STR("item"),
        .op = STR("update"),
        .reason = STR("no room"),
        .record = STR("bytes")};
    ROUND_TRIP(bury, b, l, got);
    assert_int_equal(got.generation, 3);
    assert_int_equal(got.offset, 99);
    assert_int_equal(got.state, API_LETTER_REREAD);
    assert_true(got.is_whole);
    assert_true(str_eq(got.key, STR("k\0y")));
    assert_true(str_eq(got.former, STR("f\0r")));
    assert_str(got.ns, "shop");
    assert_str(got.table, "item");
    assert_str(got.op, "update");
    assert_str(got.reason, "no room");
    assert_str(got.record, "bytes");
    REFUSES_ALL_BUT_WHOLE(bury, &b);

    struct api_raise r = {.generation = 3, .offset = 100, .is_prefix = true, .key = STR("k")};
    ROUND_TRIP(raise, rb, r, raise);
    assert_int_equal(raise.generation, 3);
    assert_int_equal(raise.offset, 100);
    assert_true(raise.is_prefix);
    assert_str(raise.key, "k");
    REFUSES_ALL_BUT_WHOLE(raise, &rb);
}

/* Every length but the whole is refused, and so are more than asked for. */
#define REFUSES_LISTS(get, b, type, count)                                                     \
    do {                                                                                       \
        type into[count];                                                                      \
        struct err f;                                                                          \
        for (size_t n = 0; n < (b)->n; n++) {                                                  \
            char *exact = malloc(n + 1);                                                       \
            memcpy(exact + 1, (b)->p, n);                                                      \
            assert_int_equal(get((struct str){exact + 1, n}, into, count, &f), ERR_PARSE);     \
            free(exact);                                                                       \
        }                                                                                      \
        assert_int_equal(get(buf_str(b), into, (count)-1, &f), ERR_PARSE);                     \
        assert_int_equal(get(buf_str(b), into, count, &f), count);                             \
        buf_putc((b), 0);                                                                      \
        assert_int_equal(get(buf_str(b), into, count, &f), ERR_PARSE);                         \
    } while (0)

static void
tables(void **state)
{
    (void)state;
    struct buf auto_buf b;
    struct err e;
    buf_init(&b, 1024);
    struct api_table t[2] = {{.ns = STR("shop"), .name = STR("item"), .has_key = true},
        {.ns = STR("a\"b"), .name = STR("")}};
    struct api_table got[2];
    api_put_tables(&b, t, 2);
    assert_int_equal(api_count_list(buf_str(&b), 2), 2);
    assert_int_equal(api_count_list(buf_str(&b), 1), 0);
    assert_int_equal(api_get_tables(buf_str(&b), got, 2, &e), 2);
    for (int i = 0; i < 2; i++) {
        assert_true(str_eq(got[i].ns, t[i].ns) && str_eq(got[i].name, t[i].name));
        assert_true(got[i].has_key == t[i].has_key);
    }
    REFUSES_LISTS(api_get_tables, &b, struct api_table, 2);
}

static void
letters(void **state)
{
    (void)state;
    struct buf auto_buf b;
    buf_init(&b, 1024);
    struct api_letter l[2] = {
        {.offset = 5, .state = API_LETTER_DEAD, .key = STR("a"), .former = STR("f")},
        {.offset = 1ull << 60, .state = API_LETTER_RETRY, .key = STR("")}};
    api_put_letters(&b, l, 2);
    struct api_letter got[2];
    struct err e;
    assert_int_equal(api_get_letters(buf_str(&b), got, 2, &e), 2);
    assert_int_equal(got[0].offset, 5);
    assert_int_equal(got[0].state, API_LETTER_DEAD);
    assert_str(got[0].key, "a");
    assert_str(got[0].former, "f");
    assert_int_equal(got[1].offset, 1ull << 60);
    assert_int_equal(got[1].state, API_LETTER_RETRY);
    assert_int_equal(got[1].key.n, 0);
    assert_int_equal(got[1].former.n, 0);
    REFUSES_LISTS(api_get_letters, &b, struct api_letter, 2);
}

static void
rereads(void **state)
{
    (void)state;
    struct buf auto_buf b;
    buf_init(&b, 1024);
    struct api_reread r[2] = {{.id = 1,
                                  .offset = 7,
                                  .ns = STR("shop"),
                                  .table = STR("item"),
                                  .nkeys = 2,
                                  .key = {{STR("a"), STR("1")}, {STR("b"), STR("")}}},
        {.id = 2, .offset = 8, .ns = STR("x"), .table = STR("y")}};
    api_put_rereads(&b, r, 2);
    struct api_reread got[2];
    struct err e;
    assert_int_equal(api_get_rereads(buf_str(&b), got, 2, &e), 2);
    assert_int_equal(got[0].id, 1);
    assert_int_equal(got[0].offset, 7);
    assert_str(got[0].ns, "shop");
    assert_str(got[0].table, "item");
    assert_int_equal(got[0].nkeys, 2);
    assert_str(got[0].key[0].name, "a");
    assert_str(got[0].key[0].text, "1");
    assert_str(got[0].key[1].name, "b");
    assert_int_equal(got[0].key[1].text.n, 0);
    assert_int_equal(got[1].nkeys, 0);
    REFUSES_LISTS(api_get_rereads, &b, struct api_reread, 2);

    struct buf auto_buf u;
    buf_init(&u, 1024);
    struct api_doubt doubts[2] = {{.key = 0, .offset = 9},
        {.key = UINT64_MAX, .table = UINT32_MAX, .offset = UINT64_MAX}};
    struct api_doubt read[2];
    api_put_doubts(&u, doubts, 2);
    assert_int_equal(api_get_doubts(buf_str(&u), read, 2, &e), 2);
    for (int i = 0; i < 2; i++) {
        assert_true(read[i].key == doubts[i].key && read[i].table == doubts[i].table);
        assert_true(read[i].offset == doubts[i].offset);
    }
    REFUSES_LISTS(api_get_doubts, &u, struct api_doubt, 2);

    struct buf auto_buf d;
    buf_init(&d, 1024);
    struct api_reread_done done[1] = {{.id = 1, .read_at = 9, .is_gone = true}}, back[1];
    api_put_rereads_done(&d, done, 1);
    assert_int_equal(api_get_rereads_done(buf_str(&d), back, 1, &e), 1);
    assert_int_equal(back[0].id, 1);
    assert_int_equal(back[0].read_at, 9);
    assert_true(back[0].is_gone);
    REFUSES_LISTS(api_get_rereads_done, &d, struct api_reread_done, 1);
}

static void
append_head(void **state)
{
    (void)state;
    struct api_append a = {.generation = 0x0102030405060708, .sequence = UINT64_MAX}, got;
    memcpy(a.uuid, uuid, sizeof uuid);
    char head[API_APPEND_HEAD + 5] = {0};
    struct err e;
    api_put_append(head, &a);
    assert_int_equal(
        api_get_append((struct str){head, sizeof head}, &got, &e), 0); /* frames follow */
    assert_memory_equal(&got, &a, sizeof a);
    for (size_t n = 0; n < API_APPEND_HEAD; n++) {
        assert_int_equal(api_get_append((struct str){head, n}, &got, &e), ERR_PARSE);
    }
    for (size_t i = 0; i < 8; i++) {
        head[i] = (char)(head[i] ^ 1);
        assert_int_equal(api_get_append((struct str){head, sizeof head}, &got, &e), ERR_PARSE);
        head[i] = (char)(head[i] ^ 1);
    }
}

static void
numbers_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct buf auto_buf b;
    buf_init(&b, 1024);
    mp_put_map(&b, 3);
    mp_put_cstr(&b, "sequence");
    mp_put_i64(&b, -1);
    mp_put_cstr(&b, "proven_lsn");
    mp_put_u64(&b, 1);
    mp_put_cstr(&b, "tail");
    mp_put_u64(&b, 1);
    struct api_appended got;
    struct err e;
    assert_int_equal(api_get_appended(buf_str(&b), &got, &e), ERR_PARSE);
}

static void
states_have_names(void **state)
{
    (void)state;
    assert_string_equal(api_source_state_name(API_SOURCE_CONNECTING), "connecting");
    assert_string_equal(api_source_state_name(API_SOURCE_REFUSED), "refused");
    assert_string_equal(api_source_state_name(200), "unknown");
    assert_string_equal(api_sink_state_name(API_SINK_STARTING), "starting");
    assert_string_equal(api_sink_state_name(API_SINK_STOPPED), "stopped");
    assert_string_equal(api_sink_state_name(5), "unknown");
    assert_string_equal(api_letter_state_name(API_LETTER_REREAD), "reread");
    assert_string_equal(api_letter_state_name(4), "unknown");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(source),
        cmocka_unit_test(source_update),
        cmocka_unit_test(source_status),
        cmocka_unit_test(session_and_appended),
        cmocka_unit_test(sink_session),
        cmocka_unit_test(sink_commit_and_status),
        cmocka_unit_test(bury_and_raise),
        cmocka_unit_test(tables),
        cmocka_unit_test(letters),
        cmocka_unit_test(rereads),
        cmocka_unit_test(append_head),
        cmocka_unit_test(numbers_that_do_not_fit_are_refused),
        cmocka_unit_test(states_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
