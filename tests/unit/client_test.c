/* client: each call against a server in this process that answers what the test says: requests
 * are what proto/api.h describes, and statuses become the errors that client.h promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/client/client.h"
#include "proto/base/httpd.h"

/* The one answer, and the last request. Requests come one at a time, so the answer orders the
 * accesses. */
static struct {
    unsigned status;
    const char *type, *retry_after;
    struct str body;
    bool is_stream, breaks;
    char method[8], path[200], from[32], max[32], wait_ms[32], tables[200], type_in[64];
    char body_in[512];
    size_t body_in_n;
} srv;

static char folder[64], socket_path[96];
static struct httpd *httpd;
static struct client *client;

static void
take(char *to, size_t size, struct str s)
{
    (void)snprintf(to, size, "%.*s", (int)s.n, s.n == 0 ? "" : s.p);
}

static ssize_t
stream_piece(void *state, char *to, size_t max)
{
    size_t *at = state;
    size_t left = srv.body.n - *at, n = left < 3 ? left : 3;
    if (n == 0) {
        return srv.breaks ? HTTPD_STREAM_BREAK : HTTPD_STREAM_END;
    }
    assert_true(n <= max);
    memcpy(to, srv.body.p + *at, n);
    *at += n;
    return (ssize_t)n;
}

static void
note_request(struct httpd_req *rq)
{
    struct str s;
    take(srv.method, sizeof srv.method, httpd_method(rq));
    take(srv.path, sizeof srv.path, httpd_path(rq));
    take(srv.from, sizeof srv.from, httpd_query(rq, "from", &s) ? s : STR("-"));
    take(srv.max, sizeof srv.max, httpd_query(rq, "max", &s) ? s : STR("-"));
    take(srv.wait_ms, sizeof srv.wait_ms, httpd_query(rq, "wait_ms", &s) ? s : STR("-"));
    take(srv.tables, sizeof srv.tables, httpd_query(rq, "tables", &s) ? s : STR("-"));
    take(srv.type_in, sizeof srv.type_in, httpd_header(rq, "Content-Type", &s) ? s : STR("-"));
    s = httpd_body(rq);
    srv.body_in_n = s.n < sizeof srv.body_in ? s.n : sizeof srv.body_in;
    if (srv.body_in_n > 0) {
        memcpy(srv.body_in, s.p, srv.body_in_n);
    }
}

static void
handle(struct httpd_req *rq, void *arg)
{
    (void)arg;
    note_request(rq);
    if (srv.retry_after != NULL) {
        httpd_add_header(rq, "Retry-After", srv.retry_after);
    }
    if (srv.is_stream) {
        httpd_set_state(rq, calloc(1, sizeof(size_t)), free);
        httpd_respond_stream(rq, srv.status, srv.type, stream_piece);
        return;
    }
    struct buf b;
    buf_init(&b, SIZE_MAX);
    buf_put_str(&b, srv.body);
    httpd_respond(rq, srv.status, srv.type, &b);
    buf_fini(&b);
}

static size_t
body_limit(struct httpd_req *rq, void *arg)
{
    (void)rq;
    (void)arg;
    return 1024 * 1024;
}

static void
start_server(void)
{
    struct httpd_conf c = {.unix_path = socket_path,
        .max_connections = 8,
        .threads = 1,
        .idle_timeout_s = 30,
        .buffer_bytes = 64 * 1024,
        .handler = handle,
        .body_limit = body_limit};
    struct err e;
    assert_int_equal(httpd_open(&c, &httpd, &e), 0);
}

static int
setup(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/client_XXXXXX");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(socket_path, sizeof socket_path, "%s/s", folder);
    start_server();
    client = client_new(&(struct client_conf){.unix_path = socket_path});
    memset(&srv, 0, sizeof srv);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    client_free(client);
    httpd_close(httpd);
    httpd = NULL;
    (void)unlink(socket_path);
    return rmdir(folder);
}

static void
answer(unsigned status, const char *type, struct str body)
{
    srv.status = status;
    srv.type = type;
    srv.body = body;
}

static struct buf
message(void)
{
    struct buf b;
    buf_init(&b, API_CONTROL_BODY);
    return b;
}

/* ---- calls ---- */

static void
calls_of_a_sink(void **state)
{
    (void)state;
    struct api_sink_session want = {.generation = 3, .epoch = 1, .next = 1882345678901234}, got;
    struct buf auto_buf b = message();
    struct err e;
    api_put_sink_session(&b, &want);
    answer(200, API_MSGPACK, buf_str(&b));
    struct api_sink_open o = {.kind = STR("file"), .start = STR("earliest"), .tables = STR("")},
                         sent;
    assert_int_equal(client_sink_open(client, "my-sink", &o, &got, &e), 0);
    assert_int_equal(got.next, want.next);
    assert_string_equal(srv.method, "POST");
    assert_string_equal(srv.path, "/internal/sinks/my-sink/session");
    assert_string_equal(srv.type_in, API_MSGPACK);
    assert_int_equal(api_get_sink_open((struct str){srv.body_in, srv.body_in_n}, &sent, &e), 0);
    assert_true(str_is(sent.start, "earliest"));

    struct api_sink_commit c = {.generation = 3, .expect = 1, .next = 2}, sent_commit;
    assert_int_equal(client_sink_commit(client, "my-sink", &c, &got, &e), 0);
    assert_string_equal(srv.path, "/internal/sinks/my-sink/commit");
    assert_int_equal(
        api_get_sink_commit((struct str){srv.body_in, srv.body_in_n}, &sent_commit, &e), 0);
    assert_int_equal(sent_commit.next, 2);

    struct api_sink_status s = {.state = API_SINK_RUNNING};
    got.next = 0;
    assert_int_equal(client_sink_status(client, "my-sink", &s, &got, &e), 0);
    assert_string_equal(srv.path, "/internal/sinks/my-sink/status");
    assert_int_equal(got.next, want.next);
}

static void
fetch_asks_and_hands_the_bytes_on(void **state)
{
    (void)state;
    struct str batch;
    struct err e;
    answer(200, API_MSGPACK, STR("any\0bytes"));
    assert_int_equal(client_fetch(client, 42, 1048576, 250, (struct str){0}, &batch, &e), 0);
    assert_true(str_eq(batch, STR("any\0bytes")));
    assert_string_equal(srv.method, "GET");
    assert_string_equal(srv.path, API_FETCH);
    assert_string_equal(srv.from, "42");
    assert_string_equal(srv.max, "1048576");
    assert_string_equal(srv.wait_ms, "250");
    assert_string_equal(srv.tables, "-");
    assert_int_equal(client_fetch(client, 42, 1, 0, STR("a.*,b.x&from=1"), &batch, &e), 0);
    assert_string_equal(
        srv.tables, "a.*,b.x&from=1"); /* row data and names cannot add arguments */
    assert_string_equal(srv.from, "42");
}

static void
calls_of_the_source(void **state)
{
    (void)state;
    struct err e;
    struct api_source source = {.epoch = 5, .database = STR("app"), .slot = STR("oneslot")},
                      got_source;
    struct buf auto_buf sb = message();
    api_put_source(&sb, &source);
    answer(200, API_MSGPACK, buf_str(&sb));
    assert_int_equal(client_source_get(client, &got_source, &e), 0);
    assert_int_equal(got_source.epoch, 5);
    assert_true(str_is(got_source.database, "app"));
    assert_string_equal(srv.method, "GET");
    assert_string_equal(srv.path, API_SOURCE);
    struct api_source_update u = {.slot = STR("oneslot"), .slot_state = API_SLOT_INTENDED},
                             sent;
    assert_int_equal(client_source_put(client, &u, &e), 0); /* answered with the source */
    assert_string_equal(srv.method, "POST");
    assert_int_equal(
        api_get_source_update((struct str){srv.body_in, srv.body_in_n}, &sent, &e), 0);
    assert_int_equal(sent.slot_state, API_SLOT_INTENDED);
    struct api_source_status st = {.state = API_SOURCE_STREAMING};
    assert_int_equal(client_source_status(client, &st, &e), 0);
    assert_string_equal(srv.path, API_SOURCE_STATUS);
    struct api_table table = {.ns = STR("shop"), .name = STR("item"), .has_key = true}, *tables;
    uint32_t sum;
    assert_int_equal(client_source_tables(client, &table, 1, &e), 0);
    assert_string_equal(srv.path, API_SOURCE_TABLES);
    struct buf auto_buf list = message();
    buf_put(&list, srv.body_in, srv.body_in_n);
    answer(200, API_MSGPACK, buf_str(&list));
    assert_int_equal(client_tables(client, &tables, &sum, &e), 1);
    assert_true(sum == api_tables_sum(buf_str(&list)) && sum != 0);
    assert_string_equal(srv.path, API_TABLES);
    assert_true(str_is(tables[0].name, "item") && tables[0].has_key);
    free(tables);

    struct api_session session = {.generation = 7, .proven_lsn = 9}, got_session;
    struct buf auto_buf b = message();
    api_put_session(&b, &session);
    answer(200, API_MSGPACK, buf_str(&b));
    assert_int_equal(client_session_open(client, &got_session, &e), 0);
    assert_int_equal(got_session.generation, 7);
    assert_string_equal(srv.method, "POST");
    assert_string_equal(srv.path, API_SESSION);
    assert_int_equal(srv.body_in_n, 0);
}

static void
append_fills_the_head(void **state)
{
    (void)state;
    struct err e;
    struct api_append head = {.generation = 7, .sequence = 8}, sent;
    struct api_appended done = {.sequence = 8, .proven_lsn = 1, .tail = 2}, got;
    struct buf auto_buf b = message();
    api_put_appended(&b, &done);
    answer(200, API_MSGPACK, buf_str(&b));
    struct buf auto_buf body = message();
    char room[API_APPEND_HEAD] = {0};
    buf_put(&body, room, sizeof room);
    buf_puts(&body, "frames");
    assert_int_equal(client_append(client, &head, &body, &got, &e), 0);
    assert_int_equal(got.sequence, 8);
    assert_string_equal(srv.path, API_APPEND);
    assert_int_equal(srv.body_in_n, API_APPEND_HEAD + 6);
    assert_int_equal(api_get_append((struct str){srv.body_in, srv.body_in_n}, &sent, &e), 0);
    assert_int_equal(sent.sequence, 8);
    assert_memory_equal(srv.body_in + API_APPEND_HEAD, "frames", 6);
}

/* ---- errors ---- */

static void
statuses_and_codes_become_errors(void **state)
{
    (void)state;
    static const struct {
        unsigned status;
        const char *code;
        int want;
    } rows[] = {{400, NULL, ERR_PARSE}, {401, NULL, ERR_AUTH}, {403, NULL, ERR_AUTH},
        {404, NULL, ERR_NOTFOUND}, {409, NULL, ERR_FENCED}, {410, NULL, ERR_GONE},
        {413, NULL, ERR_TOOBIG}, {416, NULL, ERR_BEYOND}, {429, NULL, ERR_BUSY},
        {500, NULL, ERR_PROTOCOL}, {503, NULL, ERR_BUSY}, {503, "NOSPACE", ERR_NOSPACE},
        {503, "STOPPING", ERR_STOPPING}, {409, "FOREIGN", ERR_FOREIGN},
        {409, "FENCED", ERR_FENCED}, {409, "STEERED", ERR_STEERED},
        {500, "CORRUPT", ERR_CORRUPT}, {400, "UNSUPPORTED", ERR_UNSUPPORTED},
        {503, "WHATEVER", ERR_BUSY}, {400, "NOSPACE", ERR_PARSE}, {302, NULL, ERR_PROTOCOL}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[200];
        (void)snprintf(text, sizeof text,
            "{\"status\":%u,\"detail\":\"what happened %zu\"%s%s%s}", rows[i].status, i,
            rows[i].code == NULL ? "" : ",\"code\":\"",
            rows[i].code == NULL ? "" : rows[i].code, rows[i].code == NULL ? "" : "\"");
        answer(rows[i].status, API_PROBLEM, str_from(text));
        struct api_sink_session got, before;
        memset(&before, 0xa5, sizeof before);
        memcpy(&got, &before, sizeof got);
        struct err e;
        assert_int_equal(
            client_sink_commit(client, "s", &(struct api_sink_commit){0}, &got, &e),
            rows[i].want);
        assert_int_equal(e.code, rows[i].want);
        (void)snprintf(text, sizeof text, "what happened %zu", i);
        assert_string_equal(e.msg, text);
        assert_memory_equal(&got, &before, sizeof got);
    }
}

static void
an_answer_without_a_reason_is_an_error_too(void **state)
{
    (void)state;
    static const struct {
        const char *type, *body;
    } rows[] = {{"text/html", "{\"detail\":\"not a problem document\"}"}, {API_PROBLEM, ""},
        {API_PROBLEM, "{\"detail\":"}, {API_PROBLEM, "[]"}, {API_PROBLEM, "{\"detail\":7}"},
        {API_PROBLEM, "{\"detail\":\"\"}"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct str batch;
        struct err e;
        answer(410, rows[i].type, str_from(rows[i].body));
        assert_int_equal(client_fetch(client, 1, 1, 0, (struct str){0}, &batch, &e), ERR_GONE);
        assert_non_null(strstr(e.msg, "/internal/fetch"));
        assert_non_null(strstr(e.msg, "410"));
    }
}

static void
an_answer_of_another_version_is_refused(void **state)
{
    (void)state;
    struct api_session got;
    struct err e;
    answer(200, API_MSGPACK, STR("\x81\xa1x\x01"));
    assert_int_equal(client_session_open(client, &got, &e), ERR_PARSE);
}

static void
retry_after_is_the_last_answers(void **state)
{
    (void)state;
    struct str batch;
    struct err e;
    assert_int_equal(client_retry_after_ms(client), 1000);
    answer(503, API_PROBLEM, STR("{\"detail\":\"full\"}"));
    srv.retry_after = "7";
    assert_int_equal(client_fetch(client, 1, 1, 0, (struct str){0}, &batch, &e), ERR_BUSY);
    assert_int_equal(client_retry_after_ms(client), 7000);
    srv.retry_after = NULL;
    assert_int_equal(client_fetch(client, 1, 1, 0, (struct str){0}, &batch, &e), ERR_BUSY);
    assert_int_equal(client_retry_after_ms(client), 1000);
}

static void
no_broker_is_CONNECT_and_a_new_one_is_found(void **state)
{
    (void)state;
    struct str batch;
    struct err e;
    answer(200, API_MSGPACK, STR("x"));
    assert_int_equal(client_fetch(client, 1, 1, 0, (struct str){0}, &batch, &e), 0);
    httpd_close(httpd);
    int rc = client_fetch(client, 1, 1, 0, (struct str){0}, &batch, &e);
    assert_true(
        rc == ERR_CONNECT || rc == ERR_CLOSED); /* the kept connection may be noticed late */
    assert_int_equal(client_fetch(client, 1, 1, 0, (struct str){0}, &batch, &e), ERR_CONNECT);
    assert_true(strlen(e.msg) > 0);
    start_server();
    assert_int_equal(client_fetch(client, 1, 1, 0, (struct str){0}, &batch, &e), 0);
}

static void
an_answer_cut_off_is_CLOSED(void **state)
{
    (void)state;
    struct str batch;
    struct err e;
    answer(200, API_MSGPACK, STR("half of it"));
    srv.is_stream = srv.breaks = true;
    assert_int_equal(client_fetch(client, 1, 1, 0, (struct str){0}, &batch, &e), ERR_CLOSED);
}

/* ---- dead letters, rereads ---- */

static void
request_was(const char *method, const char *path)
{
    assert_string_equal(srv.method, method);
    assert_string_equal(srv.path, path);
}

static void
letters_are_buried_and_raised(void **state)
{
    (void)state;
    struct err e;
    struct api_bury l = {.offset = 7, .record = STR("batch"), .reason = STR("no")}, got;
    answer(204, NULL, STR(""));
    assert_int_equal(client_bury(client, "a", &l, &e), 0);
    request_was("POST", "/internal/sinks/a/bury");
    assert_int_equal(api_get_bury((struct str){srv.body_in, srv.body_in_n}, &got, &e), 0);
    assert_int_equal(got.offset, 7);
    struct api_raise r = {.offset = 8, .key = STR("k")}, raised;
    assert_int_equal(client_raise(client, "a", &r, &e), 0);
    request_was("POST", "/internal/sinks/a/raise");
    assert_int_equal(api_get_raise((struct str){srv.body_in, srv.body_in_n}, &raised, &e), 0);
    assert_int_equal(raised.offset, 8);
    answer(507, API_PROBLEM, STR("{\"detail\":\"quota\",\"code\":\"REFUSED\"}"));
    assert_int_equal(client_bury(client, "a", &l, &e), ERR_REFUSED);
    assert_string_equal(e.msg, "quota");
}

static void
letters_are_listed_and_fetched(void **state)
{
    (void)state;
    struct err e;
    struct buf auto_buf b;
    buf_init(&b, 1024);
    api_put_letters(&b, &(struct api_letter){.offset = 5, .key = STR("k")}, 1);
    answer(200, API_MSGPACK, buf_str(&b));
    struct api_letter got[4];
    assert_int_equal(client_letters(client, "a", 3, got, 4, &e), 1);
    request_was("GET", "/internal/sinks/a/letters");
    assert_string_equal(srv.max, "4");
    assert_int_equal(got[0].offset, 5);
    struct str batch;
    answer(200, API_MSGPACK, STR("batch"));
    assert_int_equal(client_letter(client, "a", 5, &batch, &e), 0);
    request_was("GET", "/internal/sinks/a/letters/5");
    assert_true(str_eq(batch, STR("batch")));
    answer(404, API_PROBLEM, STR("{\"detail\":\"gone\"}"));
    assert_int_equal(client_letter(client, "a", 5, &batch, &e), ERR_NOTFOUND);
}

static void
rereads_are_asked_for_and_answered(void **state)
{
    (void)state;
    struct err e;
    struct api_reread r = {.offset = 9, .ns = STR("s"), .table = STR("t")}, got[2];
    answer(204, NULL, STR(""));
    assert_int_equal(client_reread(client, "a", &r, NULL, &e), 0);
    request_was("POST", "/internal/sinks/a/reread");
    struct str sent = {srv.body_in, srv.body_in_n};
    assert_int_equal(api_get_rereads(sent, got, 2, &e), 1);
    assert_int_equal(got[0].offset, 9);
    struct buf auto_buf b;
    buf_init(&b, 1024);
    api_put_rereads(&b, &r, 1);
    answer(200, API_MSGPACK, buf_str(&b));
    assert_int_equal(client_rereads(client, 0, got, 2, &e), 1);
    request_was("GET", API_REREADS);
    assert_string_equal(srv.max, "2");
    answer(204, NULL, STR(""));
    struct api_reread_done d = {.id = 4, .read_at = 10}, done[1];
    assert_int_equal(client_rereads_done(client, &d, 1, &e), 0);
    request_was("POST", API_REREADS_DONE);
    sent = (struct str){srv.body_in, srv.body_in_n};
    assert_int_equal(api_get_rereads_done(sent, done, 1, &e), 1);
    assert_int_equal(done[0].id, 4);
}

/* ---- JSON and streams ---- */

static void
json_is_posted(void **state)
{
    (void)state;
    struct json *root = NULL;
    struct err e;
    int64_t v;
    answer(200, API_JSON, STR("{\"records\":7}"));
    assert_int_equal(client_post_json(client, "/x", STR("{\"a\":1}"), &root, &e), 0);
    assert_true(json_i64(json_get(root, "records"), &v) && v == 7);
    json_free(root);
    request_was("POST", "/x");
    assert_string_equal(srv.type_in, API_JSON);
    assert_memory_equal(srv.body_in, "{\"a\":1}", srv.body_in_n);
    answer(204, NULL, STR(""));
    assert_int_equal(client_post_json(client, "/x", STR(""), &root, &e), 0);
    assert_null(root);
    assert_memory_equal(srv.body_in, "{}", srv.body_in_n);
}

static void
json_is_parsed(void **state)
{
    (void)state;
    struct json *root = NULL;
    struct err e;
    int64_t v;
    answer(200, API_JSON, STR("{\"records\":7}"));
    assert_int_equal(client_get_json(client, "/lag?x=%20", &root, &e), 0);
    assert_true(json_i64(json_get(root, "records"), &v) && v == 7);
    json_free(root);
    assert_string_equal(srv.path, "/lag");
    answer(200, API_JSON, STR("{\"records\":"));
    assert_int_not_equal(client_get_json(client, "/lag", &root, &e), 0);
    answer(404, API_PROBLEM, STR("{\"detail\":\"no such sink\"}"));
    assert_int_equal(client_get_json(client, "/lag/x", &root, &e), ERR_NOTFOUND);
    assert_string_equal(e.msg, "no such sink");
}

static int
gather(void *arg, struct str piece, struct err *e)
{
    struct buf *b = arg;
    buf_put_str(b, piece);
    return b->n >= b->max ? err_set(e, ERR_TOOBIG, "enough") : 0;
}

static void
a_stream_comes_in_pieces(void **state)
{
    (void)state;
    struct err e;
    struct buf auto_buf b;
    buf_init(&b, 100);
    answer(200, API_NDJSON, STR("one\ntwo\nthree\n"));
    srv.is_stream = true;
    assert_int_equal(client_stream(client, "/changes", API_NDJSON, gather, &b, &e), 0);
    assert_true(str_eq(buf_str(&b), srv.body));
    srv.breaks = true; /* P7: not taken for the end */
    assert_int_equal(client_stream(client, "/changes", API_NDJSON, gather, &b, &e), ERR_CLOSED);
    struct buf auto_buf small;
    buf_init(&small, 3);
    srv.breaks = false;
    assert_int_equal(
        client_stream(client, "/changes", API_NDJSON, gather, &small, &e), ERR_TOOBIG);
    assert_string_equal(e.msg, "enough");
    srv.is_stream = false;
    answer(410, API_PROBLEM, STR("{\"detail\":\"before earliest\"}"));
    assert_int_equal(client_stream(client, "/changes", API_NDJSON, gather, &b, &e), ERR_GONE);
    assert_string_equal(e.msg, "before earliest");
}

static void
a_row_of_a_long_key_is_asked_for_up_to_a_limit(void **state)
{
    (void)state;
    struct err e;
    char *memory = calloc(API_REREAD_MAX, 1);
    assert_non_null(memory);
    struct api_reread r = {.offset = 9, .ns = STR("s"), .table = STR("t"), .nkeys = 1};
    r.key[0].name = STR("id");
    r.key[0].text = (struct str){memory, API_REREAD_MAX - 100};
    answer(204, NULL, STR(""));
    assert_int_equal(client_reread(client, "a", &r, NULL, &e), 0);
    r.key[0].text.n = API_REREAD_MAX;
    assert_int_equal(client_reread(client, "a", &r, NULL, &e), ERR_TOOBIG);
    free(memory);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(calls_of_a_sink),
        TEST(fetch_asks_and_hands_the_bytes_on),
        TEST(calls_of_the_source),
        TEST(append_fills_the_head),
        TEST(statuses_and_codes_become_errors),
        TEST(an_answer_without_a_reason_is_an_error_too),
        TEST(an_answer_of_another_version_is_refused),
        TEST(retry_after_is_the_last_answers),
        TEST(no_broker_is_CONNECT_and_a_new_one_is_found),
        TEST(an_answer_cut_off_is_CLOSED),
        TEST(letters_are_buried_and_raised),
        TEST(letters_are_listed_and_fetched),
        TEST(rereads_are_asked_for_and_answered),
        TEST(a_row_of_a_long_key_is_asked_for_up_to_a_limit),
        TEST(json_is_posted),
        TEST(json_is_parsed),
        TEST(a_stream_comes_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
