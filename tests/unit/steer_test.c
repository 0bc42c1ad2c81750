/* steer, letters, internal_dead: what people and workers do to a sink over HTTP: sessions that
 * end when something changes (409), replay under P6, letters from burial to the answer. */
#include "serve_support.h"

#include "broker/client/client.h"
#include "broker/letters.h"
#include "broker/steer.h"
#include "proto/batch.h"

static const int64_t t0_us = INT64_C(1795341600000000);

/* A log of six records in two transactions, a worker's client, and sink `search` at its start.
 */
struct worker {
    struct serve s;
    struct client *c;
    uint64_t earliest, tail;
    struct api_sink_session session;
};

static void
open_session(struct worker *w)
{
    struct err e;
    struct api_sink_open o = {
        .kind = STR("file"), .start = STR("earliest"), .tables = STR("public.*")};
    support_ok(client_sink_open(w->c, "search", &o, &w->session, &e), &e);
}

static void
worker_init(struct worker *w)
{
    serve_init(&w->s, 16 << 20);
    put_schema(&w->s.log, w->s.log.session.next_schema);
    put_txn(&w->s.log, 700, 0x1000, t0_us, 3);
    put_txn(&w->s.log, 701, 0x1100, t0_us + 1000000, 3);
    (void)fixture_append_ok(&w->s.log);
    w->earliest = journal_earliest(w->s.bk.journal);
    w->tail = journal_tail(w->s.bk.journal);
    w->c = client_new(&(struct client_conf){.unix_path = w->s.socket});
    open_session(w);
}

static void
worker_fini(struct worker *w)
{
    client_free(w->c);
    serve_fini(&w->s);
}

static int
commit(struct worker *w, uint64_t next, struct err *e)
{
    struct api_sink_commit c = {
        .generation = w->session.generation, .expect = w->session.next, .next = next};
    return client_sink_commit(w->c, "search", &c, &w->session, e);
}

/* POST with a JSON body; the answer is owned by the caller. */
static struct json *
post(struct worker *w, const char *path, const char *body, long status)
{
    struct err e;
    struct httpc_resp rs = {0};
    struct json *root;
    struct httpc_req rq = {.method = "POST",
        .path = path,
        .content_type = "application/json",
        .body = str_from(body),
        .timeout_ms = SERVE_WAIT_MS,
        .max_body = SERVE_BODY_MAX};
    support_ok(httpc_call(w->s.c, &rq, &rs, &e), &e);
    if (rs.status != status) {
        fail_msg("POST %s %s: %ld instead of %ld: %s", path, body, rs.status, status,
            buf_cstr(&rs.body));
    }
    support_ok(json_parse(buf_str(&rs.body), &root, &e), &e);
    httpc_resp_fini(&rs);
    return root;
}

static void
post_free(struct worker *w, const char *path, const char *body, long status)
{
    json_free(post(w, path, body, status));
}

static uint64_t
number(const struct json *j, const char *key)
{
    int64_t v = -1;
    assert_true(json_i64(json_get(j, key), &v));
    return (uint64_t)v;
}

static bool
truth(const struct json *j, const char *key)
{
    bool v = false;
    assert_true(json_bool(json_get(j, key), &v));
    return v;
}

static void
assert_steered(struct worker *w)
{
    struct err e;
    struct api_sink_status st = {.generation = w->session.generation};
    assert_int_equal(commit(w, w->session.next, &e), ERR_STEERED);
    assert_int_equal(client_sink_status(w->c, "search", &st, &w->session, &e), ERR_STEERED);
}

/* ---- pause ---- */

static void
test_pausing_ends_the_session(void **state)
{
    (void)state;
    struct worker w;
    worker_init(&w);
    assert_false(w.session.is_paused);
    assert_int_equal(w.session.floor, w.earliest);
    struct json *j = post(&w, "/sinks/search/pause", "{}", 200);
    assert_true(truth(j, "paused"));
    json_free(j);
    assert_steered(&w);
    open_session(&w);
    assert_true(w.session.is_paused);
    uint64_t generation = w.session.generation;
    post_free(&w, "/sinks/search/pause", "", 200); /* it is already */
    open_session(&w);
    assert_int_equal(w.session.generation, generation + 1); /* the session's own */
    j = serve_json(&w.s, "/lag/search", 200);
    struct str text;
    assert_true(json_str(json_get(j, "state"), &text) && str_is(text, "paused"));
    json_free(j);
    worker_fini(&w);
}

static void
test_resuming(void **state)
{
    (void)state;
    struct worker w;
    worker_init(&w);
    post_free(&w, "/sinks/search/pause", "{}", 200);
    open_session(&w);
    struct json *j = post(&w, "/sinks/search/resume", "{}", 200);
    assert_false(truth(j, "paused"));
    json_free(j);
    assert_steered(&w);
    open_session(&w);
    assert_false(w.session.is_paused);
    post_free(&w, "/sinks/nobody/pause", "{}", 404);
    post_free(&w, "/sinks/search/pause", "{\"x\":1}", 400);
    post_free(&w, "/sinks/search/pause", "no", 400);
    post_free(&w, "/sinks/off/pause", "{}", 409); /* configured, never started */
    worker_fini(&w);
}

/* ---- replay ---- */

static void
test_replay_moves_back(void **state)
{
    (void)state;
    struct worker w;
    struct err e;
    char body[128];
    worker_init(&w);
    support_ok(commit(&w, w.tail, &e), &e);
    struct json *j =
        post(&w, "/sinks/search/replay", "{\"from\":\"0/1100\",\"dry_run\":true}", 200);
    assert_int_equal(number(j, "records"), 3);
    assert_int_equal(number(j, "offset"), w.tail - 1);
    assert_false(truth(j, "moved"));
    assert_int_equal(number(json_get(j, "from"), "offset"), w.earliest + 3);
    json_free(j);
    support_ok(commit(&w, w.tail, &e), &e); /* nobody was fenced */
    (void)snprintf(body, sizeof body, "{\"from\":\"earliest\",\"expect\":%llu}",
        (unsigned long long)w.tail);
    post_free(&w, "/sinks/search/replay", body, 409);
    (void)snprintf(body, sizeof body, "{\"from\":\"earliest\",\"expect\":%llu}",
        (unsigned long long)w.tail - 1);
    j = post(&w, "/sinks/search/replay", body, 200);
    assert_int_equal(number(j, "records"), 6);
    assert_true(truth(j, "moved"));
    json_free(j);
    assert_steered(&w);
    struct api_sink_session former = w.session;
    open_session(&w);
    assert_int_equal(w.session.next, w.earliest);
    struct api_sink_status st = {
        .generation = former.generation}; /* now another worker ended it */
    assert_int_equal(client_sink_status(w.c, "search", &st, &w.session, &e), ERR_FENCED);
    j = serve_json(&w.s, "/lag/search", 200);
    assert_int_equal(number(j, "records_behind"), 6);
    json_free(j);
    j = post(&w, "/sinks/search/replay", "{\"from\":\"earliest\"}", 200); /* it is there */
    assert_false(truth(j, "moved"));
    json_free(j);
    worker_fini(&w);
}

static void
test_replay_forward_needs_skip(void **state)
{
    (void)state;
    struct worker w;
    char body[128];
    worker_init(&w);
    post_free(&w, "/sinks/search/replay", "{\"from\":\"latest\"}", 409);
    post_free(&w, "/sinks/search/replay", "{\"from\":\"latest\",\"dry_run\":true}", 409);
    (void)snprintf(
        body, sizeof body, "{\"from\":%llu,\"skip\":true}", (unsigned long long)w.tail + 1);
    post_free(&w, "/sinks/search/replay", body, 416);
    (void)snprintf(
        body, sizeof body, "{\"from\":%llu,\"skip\":true}", (unsigned long long)w.earliest + 3);
    struct json *j = post(&w, "/sinks/search/replay", body, 200);
    assert_int_equal(number(j, "records"), 3);
    json_free(j);
    open_session(&w);
    assert_int_equal(w.session.next, w.earliest + 3);
    assert_int_equal(w.session.floor, w.earliest + 3); /* what it has may have missed changes */
    post_free(&w, "/sinks/search/replay", "{\"from\":\"earliest\"}", 200);
    open_session(&w);
    assert_int_equal(w.session.next, w.earliest);
    assert_int_equal(w.session.floor, w.earliest + 3);
    worker_fini(&w);
}

static const struct {
    const char *body;
    long status;
} replays[] = {
    {"", 400},
    {"[]", 400},
    {"{}", 400},
    {"{\"from\":true}", 400},
    {"{\"from\":\"nowhere\"}", 400},
    {"{\"from\":-1}", 400},
    {"{\"from\":\"earliest\",\"skip\":1}", 400},
    {"{\"from\":\"earliest\",\"expect\":\"1\"}", 400},
    {"{\"from\":\"earliest\",\"form\":1}", 400},
    {"{\"from\":1}", 410},
    {"{\"from\":\"9:0/1\"}", 409},
};

static void
test_replay_says_what_is_wrong(void **state)
{
    (void)state;
    struct worker w;
    worker_init(&w);
    for (size_t i = 0; i < sizeof replays / sizeof replays[0]; i++) {
        post_free(&w, "/sinks/search/replay", replays[i].body, replays[i].status);
    }
    post_free(&w, "/sinks/nobody/replay", "{\"from\":\"earliest\"}", 404);
    struct err e;
    support_ok(commit(&w, w.earliest + 1, &e), &e); /* nobody was fenced by any of it */
    worker_fini(&w);
}

/* A sink that retention has left behind: forward over the gap. */
static void
test_a_gap_is_passed_by_skip(void **state)
{
    (void)state;
    struct worker w;
    struct err e;
    struct sink_row row;
    worker_init(&w);
    support_ok(state_sink(w.s.bk.state, "search", &row, &e), &e);
    row.next = w.earliest - 100;
    row.floor = row.next;
    support_ok(state_set_sink(w.s.bk.state, &row, &e), &e);
    post_free(&w, "/sinks/search/replay", "{\"from\":\"earliest\"}", 409);
    post_free(&w, "/sinks/search/replay", "{\"from\":\"earliest\",\"skip\":true}", 200);
    open_session(&w);
    assert_int_equal(w.session.next, w.earliest);
    assert_int_equal(w.session.floor, w.earliest);
    worker_fini(&w);
}

/* ---- letters ---- */

/* The record at an offset, as a worker would put it into a batch. */
struct take {
    struct batch_writer bw;
    uint64_t offset;
};

static int
on_record(void *arg, const struct record_txn *t, const struct schema *s, uint64_t offset,
    struct str whole, struct err *e)
{
    struct take *k = arg;
    (void)e;
    if (offset == k->offset) {
        assert_true(batch_add(&k->bw, t, s, offset, whole));
    }
    return 0;
}

static void
record_at(struct worker *w, uint64_t offset, struct buf *b)
{
    struct take k = {.offset = offset};
    struct err e;
    uint64_t from = offset;
    buf_init(b, 1 << 20);
    batch_begin(&k.bw, b);
    support_ok(journal_read(w->s.bk.journal, &from, offset + 1, on_record, &k, &e), &e);
    batch_end(&k.bw, &(struct batch_header){.next_offset = offset + 1, .tail_offset = w->tail});
}

static int
bury(struct worker *w, uint64_t offset, const char *key, struct err *e)
{
    struct buf auto_buf record;
    record_at(w, offset, &record);
    struct api_bury b = {.generation = w->session.generation,
        .offset = offset,
        .state = API_LETTER_DEAD,
        .is_whole = true,
        .key = str_from(key),
        .ns = STR("public"),
        .table = STR("t"),
        .op = STR("insert"),
        .reason = STR("the field v cannot be a date"),
        .record = buf_str(&record)};
    return client_bury(w->c, "search", &b, e);
}

static void
test_a_letter_from_burial_to_its_end(void **state)
{
    (void)state;
    struct worker w;
    struct err e;
    char body[128];
    struct str text;
    struct api_letter l[4];
    worker_init(&w);
    support_ok(bury(&w, w.earliest, "k0", &e), &e);
    support_ok(bury(&w, w.earliest + 1, "k1", &e), &e);
    support_ok(commit(&w, w.tail, &e), &e); /* burying fences nobody */
    assert_int_equal(w.session.letters, 2);
    struct json *j = serve_json(&w.s, "/lag/search", 200);
    assert_int_equal(number(j, "dead_letters"), 2);
    json_free(j);

    j = serve_json(&w.s, "/sinks/search/dead-letters?limit=1&record=1", 200);
    assert_int_equal(number(j, "dead"), 2);
    assert_int_equal(json_size(json_get(j, "letters")), 1);
    const struct json *first = json_at(json_get(j, "letters"), 0);
    assert_int_equal(number(first, "offset"), w.earliest);
    assert_int_equal(number(first, "attempts"), 1);
    assert_true(json_str(json_get(first, "reason"), &text));
    assert_true(str_is(text, "the field v cannot be a date"));
    assert_int_equal(number(json_get(first, "change"), "offset"), w.earliest);
    assert_true(json_str(json_get(json_get(json_get(first, "change"), "key"), "id"), &text));
    assert_int_equal(number(j, "after"), w.earliest);
    json_free(j);
    (void)snprintf(body, sizeof body, "/sinks/search/dead-letters?after=%llu",
        (unsigned long long)w.earliest);
    j = serve_json(&w.s, body, 200);
    assert_int_equal(json_size(json_get(j, "letters")), 1);
    assert_true(json_is_null(json_get(j, "after")));
    json_free(j);

    (void)snprintf(body, sizeof body, "{\"ids\":[%llu]}", (unsigned long long)w.earliest + 1);
    j = post(&w, "/sinks/search/dead-letters/retry", body, 200);
    assert_int_equal(number(j, "letters"), 1);
    json_free(j);
    assert_steered(&w); /* so the worker learns of it */
    assert_int_equal(bury(&w, w.earliest + 2, "k2", &e), ERR_STEERED);
    struct api_raise r = {
        .generation = w.session.generation, .offset = w.tail, .key = STR("k1")};
    assert_int_equal(client_raise(w.c, "search", &r, &e), ERR_STEERED);
    open_session(&w);
    assert_int_equal(client_letters(w.c, "search", 0, l, 4, &e), 2);
    assert_int_equal(l[0].state, API_LETTER_DEAD);
    assert_true(str_is(l[0].key, "k0"));
    assert_int_equal(l[1].offset, w.earliest + 1);
    assert_int_equal(l[1].state, API_LETTER_RETRY);
    assert_int_equal(client_letters(w.c, "search", w.earliest, l, 4, &e), 1);
    struct str batch;
    support_ok(client_letter(w.c, "search", w.earliest + 1, &batch, &e), &e);
    struct batch_reader br;
    struct record record;
    support_ok(batch_open(&br, batch, &e), &e);
    assert_int_equal(batch_next(&br, &record, &e), 1);
    assert_int_equal(record.offset, w.earliest + 1);
    batch_close(&br);
    r.generation = w.session.generation;
    support_ok(client_raise(w.c, "search", &r, &e), &e);
    assert_int_equal(client_letter(w.c, "search", w.earliest + 1, &batch, &e), ERR_NOTFOUND);

    post_free(&w, "/sinks/search/dead-letters/discard", "{\"all\":true}", 200);
    open_session(&w);
    assert_int_equal(w.session.letters, 1); /* the mark */
    j = serve_json(&w.s, "/lag/search", 200);
    assert_int_equal(number(j, "dead_letters"), 0);
    json_free(j);
    worker_fini(&w);
}

static const struct {
    const char *body;
    long status;
} bodies[] = {
    {"", 400},
    {"{}", 400},
    {"{\"ids\":[]}", 400},
    {"{\"ids\":7}", 400},
    {"{\"ids\":[\"7\"]}", 400},
    {"{\"all\":false}", 400},
    {"{\"all\":true,\"ids\":[7]}", 400},
    {"{\"ids\":[7]}", 404},
    {"{\"all\":true}", 200},
};

static void
test_letters_say_what_is_wrong(void **state)
{
    (void)state;
    struct worker w;
    struct err e;
    worker_init(&w);
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        post_free(&w, "/sinks/search/dead-letters/retry", bodies[i].body, bodies[i].status);
        post_free(&w, "/sinks/search/dead-letters/discard", bodies[i].body, bodies[i].status);
    }
    post_free(&w, "/sinks/nobody/dead-letters/retry", "{\"all\":true}", 404);
    json_free(serve_json(&w.s, "/sinks/nobody/dead-letters", 404));
    json_free(serve_json(&w.s, "/sinks/search/dead-letters?limit=0", 400));
    json_free(serve_json(&w.s, "/sinks/search/dead-letters?record=2", 400));
    open_session(&w);
    struct api_bury b = {.generation = w.session.generation,
        .offset = w.tail,
        .key = STR("k"),
        .record = STR("r")};
    assert_int_equal(client_bury(w.c, "search", &b, &e), ERR_BEYOND);
    b.offset = w.earliest;
    assert_int_equal(client_bury(w.c, "nobody", &b, &e), ERR_NOTFOUND);
    struct str batch;
    assert_int_equal(client_letter(w.c, "search", 7, &batch, &e), ERR_NOTFOUND);
    worker_fini(&w);
}

static void
test_a_full_quota_is_told(void **state)
{
    (void)state;
    struct worker w;
    struct err e;
    worker_init(&w);
    size_t n = 200u * 1024 * 1024;
    char *piece = malloc(n);
    assert_non_null(piece);
    memset(piece, 'x', n);
    struct api_bury b = {.generation = w.session.generation,
        .offset = w.earliest,
        .key = STR("k"),
        .op = STR("insert"),
        .record = {piece, n}};
    support_ok(client_bury(w.c, "search", &b, &e), &e);
    b.offset++;
    assert_int_equal(client_bury(w.c, "search", &b, &e), ERR_REFUSED);
    assert_non_null(strstr(e.msg, "dead letters are full"));
    free(piece);
    worker_fini(&w);
}

static void
test_forgetting_a_sink_takes_its_letters(void **state)
{
    (void)state;
    struct worker w;
    struct err e;
    struct dead_counts c;
    struct httpc_resp rs = {0};
    worker_init(&w);
    struct sink_row row = {.name = "gone", .kind = "file", .next = w.earliest};
    support_ok(state_set_sink(w.s.bk.state, &row, &e), &e);
    struct api_bury b = {.offset = w.earliest, .op = STR("insert"), .record = STR("r")};
    support_ok(client_bury(w.c, "gone", &b, &e), &e);
    struct httpc_req rq = {.method = "DELETE",
        .path = "/sinks/gone",
        .timeout_ms = SERVE_WAIT_MS,
        .max_body = SERVE_BODY_MAX};
    support_ok(httpc_call(w.s.c, &rq, &rs, &e), &e);
    assert_int_equal(rs.status, 204);
    httpc_resp_fini(&rs);
    dead_counts(w.s.bk.dead, "gone", &c);
    assert_int_equal(c.letters, 0);
    worker_fini(&w);
}

/* ---- rows to be read again ---- */

/* There it stands until it is over. */
static void
check_doubts(struct worker *w, const struct api_doubt *doubt)
{
    struct err e;
    struct api_doubt *got, *left;
    assert_int_equal(client_doubts(w->c, "search", &got, &e), 1);
    assert_true(got[0].key == doubt->key && got[0].table == doubt->table);
    assert_true(got[0].offset == doubt->offset);
    struct api_doubt older = {.key = doubt->key, .offset = doubt->offset - 1};
    support_ok(client_proven(w->c, "search", &older, 1, &e), &e);
    assert_int_equal(client_doubts(w->c, "search", &left, &e), 1);
    free(left);
    support_ok(client_proven(w->c, "search", got, 1, &e), &e);
    assert_int_equal(client_doubts(w->c, "search", &left, &e), 0);
    free(left);
    free(got);
}

static void
test_rows_to_be_read_again(void **state)
{
    (void)state;
    struct worker w;
    struct err e;
    struct api_reread got[4];
    struct httpc_resp rs = {0};
    worker_init(&w);
    struct api_reread q = {.offset = w.earliest,
        .ns = STR("public"),
        .table = STR("t"),
        .nkeys = 1,
        .key = {{STR("id"), STR("7")}}};
    struct api_doubt doubt = {.key = UINT64_MAX - 5, .table = 7, .offset = w.earliest};
    support_ok(client_reread(w.c, "search", &q, &doubt, &e), &e);
    check_doubts(&w, &doubt);
    assert_int_equal(client_reread(w.c, "nobody", &q, &doubt, &e), ERR_NOTFOUND);
    q.nkeys = 0;
    assert_int_equal(client_reread(w.c, "search", &q, NULL, &e), ERR_PARSE);
    assert_int_equal(client_rereads(w.c, 0, got, 4, &e), 1);
    assert_int_equal(got[0].offset, w.earliest);
    assert_true(str_is(got[0].key[0].text, "7"));
    struct api_reread_done d = {.id = got[0].id, .read_at = w.tail, .is_gone = true};
    support_ok(client_rereads_done(w.c, &d, 1, &e), &e);
    assert_int_equal(client_rereads(w.c, 0, got, 4, &e), 0);
    serve_get(&w.s, "/metrics", 200, &rs);
    assert_non_null(strstr(buf_cstr(&rs.body), "\noneslot_rereads_asked_total 1\n"));
    assert_non_null(strstr(buf_cstr(&rs.body), "\noneslot_rereads_gone_total 1\n"));
    assert_non_null(strstr(buf_cstr(&rs.body), "\noneslot_rereads_waiting 0\n"));
    httpc_resp_fini(&rs);
    worker_fini(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pausing_ends_the_session),
        cmocka_unit_test(test_resuming),
        cmocka_unit_test(test_replay_moves_back),
        cmocka_unit_test(test_replay_forward_needs_skip),
        cmocka_unit_test(test_replay_says_what_is_wrong),
        cmocka_unit_test(test_a_gap_is_passed_by_skip),
        cmocka_unit_test(test_a_letter_from_burial_to_its_end),
        cmocka_unit_test(test_letters_say_what_is_wrong),
        cmocka_unit_test(test_a_full_quota_is_told),
        cmocka_unit_test(test_forgetting_a_sink_takes_its_letters),
        cmocka_unit_test(test_rows_to_be_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
