/* changes_query, filter: what a reader may ask for, and where its answer ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/changes_query.h"

static void
set(struct changes_args *a, enum changes_arg i, const char *text)
{
    a->v[i] = str_from(text);
    a->has[i] = true;
}

static void
test_defaults(void **state)
{
    (void)state;
    struct changes_args a = {0};
    struct changes_query q;
    struct err e;
    assert_int_equal(changes_query_parse(&a, &q, &e), 0);
    assert_int_equal(q.from.kind, POSITION_EARLIEST);
    assert_false(q.has_until);
    assert_true(q.limit == UINT64_MAX);
    assert_false(q.is_following);
    assert_int_equal(q.wait_ms, 0);
    assert_int_equal(q.format, CHANGES_NDJSON);
    assert_true(filter_wants(&q.filter, FRAME_MESSAGE, NULL));
    changes_query_fini(&q);
}

static const struct {
    enum changes_arg arg;
    const char *text;
    int code;
    const char *names; /* what the sentence must name */
} refused[] = {
    {CHANGES_FROM, "", ERR_PARSE, "from"},
    {CHANGES_FROM, "yesterday", ERR_PARSE, "from"},
    {CHANGES_UNTIL, "-1", ERR_PARSE, "until"},
    {CHANGES_TABLES, "a.b.c", ERR_PARSE, "tables"},
    {CHANGES_TABLES, "public.a,,public.b", ERR_PARSE, "tables"},
    {CHANGES_TABLES, "public.a,", ERR_PARSE, "tables"},
    {CHANGES_OPS, "upsert", ERR_PARSE, "ops"},
    {CHANGES_OPS, "insert,", ERR_PARSE, "ops"},
    {CHANGES_LIMIT, "0", ERR_PARSE, "limit"},
    {CHANGES_LIMIT, "", ERR_PARSE, "limit"},
    {CHANGES_LIMIT, "18446744073709551616", ERR_PARSE, "limit"},
    {CHANGES_LIMIT, "-1", ERR_PARSE, "limit"},
    {CHANGES_LIMIT, "1e3", ERR_PARSE, "limit"},
    {CHANGES_FOLLOW, "2", ERR_PARSE, "follow"},
    {CHANGES_FOLLOW, "5", ERR_PARSE, "follow"},
    {CHANGES_FOLLOW, "true", ERR_PARSE, "follow"},
    {CHANGES_WAIT, "301", ERR_PARSE, "wait"},
    {CHANGES_WAIT, "1.5", ERR_PARSE, "wait"},
    {CHANGES_FORMAT, "json", ERR_PARSE, "format"},
    {CHANGES_FORMAT, "", ERR_PARSE, "format"},
    {CHANGES_FORMAT, "debezium", ERR_UNSUPPORTED, "not in this version"},
};

static void
test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct changes_args a = {0};
        struct changes_query q;
        struct err e;
        set(&a, refused[i].arg, refused[i].text);
        if (changes_query_parse(&a, &q, &e) != refused[i].code ||
            strstr(e.msg, refused[i].names) == NULL) {
            fail_msg("case %zu '%s': %s", i, refused[i].text, e.msg);
        }
    }
}

static void
test_numbers_at_their_bounds(void **state)
{
    (void)state;
    struct changes_args a = {0};
    struct changes_query q;
    struct err e;
    set(&a, CHANGES_LIMIT, "18446744073709551615");
    set(&a, CHANGES_FOLLOW, "0");
    set(&a, CHANGES_WAIT, "300");
    assert_int_equal(changes_query_parse(&a, &q, &e), 0);
    assert_true(q.limit == UINT64_MAX);
    assert_false(q.is_following);
    assert_int_equal(q.wait_ms, 300000);
    changes_query_fini(&q);
}

static const struct {
    const char *format, *accept;
    enum changes_format want;
} formats[] = {
    {NULL, "text/event-stream", CHANGES_SSE},
    {NULL, "application/msgpack", CHANGES_MSGPACK},
    {NULL, "application/x-msgpack;q=0.5", CHANGES_MSGPACK},
    {NULL, "*/*", CHANGES_NDJSON},
    {NULL, "text/html, TEXT/Event-Stream;q=0.9 ,application/msgpack", CHANGES_SSE},
    {NULL, "application/msgpackx", CHANGES_NDJSON},
    {NULL, ",,;", CHANGES_NDJSON},
    {NULL, "", CHANGES_NDJSON},
    {"ndjson", "text/event-stream", CHANGES_NDJSON},
    {"sse", NULL, CHANGES_SSE},
    {"msgpack", "text/event-stream", CHANGES_MSGPACK},
};

static void
test_formats(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        struct changes_args a = {0};
        struct changes_query q;
        struct err e;
        if (formats[i].format != NULL) {
            set(&a, CHANGES_FORMAT, formats[i].format);
        }
        if (formats[i].accept != NULL) {
            set(&a, CHANGES_ACCEPT, formats[i].accept);
        }
        assert_int_equal(changes_query_parse(&a, &q, &e), 0);
        if (q.format != formats[i].want) {
            fail_msg("case %zu: format %d", i, q.format);
        }
        changes_query_fini(&q);
    }
}

static void
test_last_event_id_resumes_behind_it(void **state)
{
    (void)state;
    struct changes_args a = {0};
    struct changes_query q;
    struct err e;
    set(&a, CHANGES_FROM, "latest");
    set(&a, CHANGES_LAST_EVENT_ID, "41");
    assert_int_equal(changes_query_parse(&a, &q, &e), 0);
    assert_int_equal(q.from.kind, POSITION_LATEST); /* not an event stream */
    changes_query_fini(&q);
    set(&a, CHANGES_ACCEPT, "text/event-stream");
    assert_int_equal(changes_query_parse(&a, &q, &e), 0);
    assert_int_equal(q.from.kind, POSITION_OFFSET);
    assert_int_equal(q.from.offset, 42);
    changes_query_fini(&q);
    set(&a, CHANGES_LAST_EVENT_ID, "18446744073709551615");
    assert_int_equal(changes_query_parse(&a, &q, &e), ERR_PARSE);
    set(&a, CHANGES_LAST_EVENT_ID, "x");
    assert_int_equal(changes_query_parse(&a, &q, &e), ERR_PARSE);
}

/* ---- filter ---- */

static const struct {
    const char *tables, *ops;
    uint8_t op;
    const char *ns, *name; /* NULL: a message */
    bool want;
} wants[] = {
    {"", "", FRAME_INSERT, "public", "t", true},
    {"", "", FRAME_MESSAGE, NULL, NULL, true},
    {"t", "", FRAME_INSERT, "public", "t", true},
    {"t", "", FRAME_INSERT, "shop", "t", false},
    {"shop.*", "", FRAME_TRUNCATE, "shop", "t", true},
    {"x, shop.t ,y", "", FRAME_INSERT, "shop", "t", true},
    {"*.*", "", FRAME_MESSAGE, NULL, NULL, false},
    {"", "delete,update", FRAME_INSERT, "public", "t", false},
    {"", "delete,update", FRAME_UPDATE, "public", "t", true},
    {"", "message", FRAME_MESSAGE, NULL, NULL, true},
    {"t", "delete", FRAME_DELETE, "public", "u", false},
};

static void
test_filter(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wants / sizeof wants[0]; i++) {
        struct filter f;
        struct err e;
        struct schema s = {.id = 65,
            .ns = str_from(wants[i].ns == NULL ? "" : wants[i].ns),
            .name = str_from(wants[i].name == NULL ? "" : wants[i].name)};
        const struct schema *at = wants[i].ns == NULL ? NULL : &s;
        assert_int_equal(
            filter_init(&f, str_from(wants[i].tables), str_from(wants[i].ops), &e), 0);
        for (int again = 0; again < 2; again++) {
            if (filter_wants(&f, wants[i].op, at) != wants[i].want) {
                fail_msg("case %zu, call %d", i, again);
            }
        }
        filter_fini(&f);
    }
}

static void
test_filter_keeps_versions_apart(void **state)
{
    (void)state;
    struct filter f;
    struct err e;
    /* The same place in the cache. */
    struct schema t = {.id = 1, .ns = STR("public"), .name = STR("t")};
    struct schema u = {.id = 1 + FILTER_CACHE, .ns = STR("public"), .name = STR("u")};
    assert_int_equal(filter_init(&f, STR("t"), STR(""), &e), 0);
    for (int i = 0; i < 3; i++) {
        assert_true(filter_wants(&f, FRAME_INSERT, &t));
        assert_false(filter_wants(&f, FRAME_INSERT, &u));
    }
    filter_fini(&f);
}

/* ---- until ---- */

static struct changes_bound
bound(const char *until)
{
    struct changes_args a = {0};
    struct changes_query q;
    struct err e;
    struct journal_info info = {.epoch = 3, .earliest = {.offset = 100}, .next = 200};
    set(&a, CHANGES_UNTIL, until);
    assert_int_equal(changes_query_parse(&a, &q, &e), 0);
    changes_query_fini(&q);
    return changes_bound_of(&q, &info);
}

static const struct {
    const char *until;
    struct record_txn t;
    bool is_beyond;
} beyond[] = {
    {"earliest", {.first_offset = 100}, false},
    {"earliest", {.first_offset = 101}, true},
    {"latest", {.first_offset = 199}, false},
    {"latest", {.first_offset = 200}, true},
    {"150", {.first_offset = 140, .count = 20}, false}, /* its transaction is included */
    {"150", {.first_offset = 150}, false},
    {"150", {.first_offset = 151}, true},
    {"18446744073709551615", {.first_offset = 1u << 31}, false},
    {"0/100", {.epoch = 3, .lsn = 0x100}, false},
    {"0/100", {.epoch = 3, .lsn = 0x101}, true},
    {"0/100", {.epoch = 2, .lsn = 0x999}, false}, /* an older epoch lies before */
    {"2:0/100", {.epoch = 2, .lsn = 0x100}, false},
    {"2:0/100", {.epoch = 2, .lsn = 0x101}, true},
    {"2:0/100", {.epoch = 3, .lsn = 0x1}, true},
    {"1970-01-01T00:00:01Z", {.ts_us = 1000000}, false},
    {"1970-01-01T00:00:01Z", {.ts_us = 1000001}, true},
};

static void
test_beyond(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof beyond / sizeof beyond[0]; i++) {
        struct changes_bound b = bound(beyond[i].until);
        if (changes_is_beyond(&b, &beyond[i].t) != beyond[i].is_beyond) {
            fail_msg("case %zu: until=%s", i, beyond[i].until);
        }
    }
}

static void
test_passed(void **state)
{
    (void)state;
    struct record_txn commit = {.epoch = 3, .lsn = 0x100, .kind = FRAME_TXN_XACT};
    struct record_txn message = {.epoch = 3, .lsn = 0x100, .kind = FRAME_TXN_MESSAGE};
    struct changes_bound by_lsn = bound("0/100");
    struct changes_bound by_offset = bound("150");
    struct changes_bound by_time = bound("1970-01-01T00:00:01Z");
    struct changes_bound none = {.kind = CHANGES_UNBOUND};
    assert_true(changes_is_passed(&by_lsn, &commit, 0));
    assert_false(changes_is_passed(&by_lsn, &message, 0)); /* its commit may follow */
    assert_false(changes_is_passed(&by_lsn, NULL, 0));
    commit.lsn = 0xff;
    assert_false(changes_is_passed(&by_lsn, &commit, 0));
    assert_false(changes_is_passed(&by_offset, &commit, 150));
    assert_true(changes_is_passed(&by_offset, NULL, 151));
    assert_false(changes_is_passed(&by_time, &commit, 1000));
    assert_false(changes_is_passed(&none, &commit, 1000));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_numbers_at_their_bounds),
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_last_event_id_resumes_behind_it),
        cmocka_unit_test(test_filter),
        cmocka_unit_test(test_filter_keeps_versions_apart),
        cmocka_unit_test(test_beyond),
        cmocka_unit_test(test_passed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
