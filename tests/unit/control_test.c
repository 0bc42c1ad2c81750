/* lag, metrics, control, routes: what people and monitors ask a running broker. */
#include "serve_support.h"

#include "broker/openapi.h"

static const int64_t t0_us = INT64_C(1795341600000000); /* 2026-11-22T10:00:00Z */

static void
serve_some(struct serve *s)
{
    serve_init(s, 16 << 20);
    put_schema(&s->log, s->log.session.next_schema);
    put_txn(&s->log, 700, 0x1000, t0_us, 3);
    put_txn(&s->log, 701, 0x1100, t0_us + 1000000, 3);
    (void)fixture_append_ok(&s->log);
}

static int64_t
number(const struct json *j, const char *key)
{
    int64_t v;
    if (!json_i64(json_get(j, key), &v)) {
        fail_msg("%s is no integer", key);
    }
    return v;
}

static void
assert_text(const struct json *j, const char *key, const char *want)
{
    struct str v;
    if (!json_str(json_get(j, key), &v) || !str_is(v, want)) {
        fail_msg("%s is not '%s'", key, want);
    }
}

/* ---- the description is true ---- */

static const struct json *
schema_of(const struct json *api, const char *name)
{
    const struct json *s = json_get(json_get(json_get(api, "components"), "schemas"), name);
    assert_true(json_is_object(s));
    return s;
}

/* Every member that is there is described, and every one that is required is there. */
static void
assert_described(const struct json *api, const char *name, const struct json *j)
{
    const struct json *s = schema_of(api, name);
    const struct json *required = json_get(s, "required");
    assert_true(json_is_object(j));
    for (size_t i = 0; i < json_size(j); i++) {
        const char *key;
        (void)json_member(j, i, &key);
        if (json_get(json_get(s, "properties"), key) == NULL) {
            fail_msg("%s.%s is not described", name, key);
        }
    }
    for (size_t i = 0; i < json_size(required); i++) {
        struct str key;
        assert_true(json_str(json_at(required, i), &key));
        char text[64];
        (void)snprintf(text, sizeof text, "%.*s", (int)key.n, key.p);
        bool is_there = false;
        for (size_t k = 0; k < json_size(j); k++) {
            const char *have;
            (void)json_member(j, k, &have);
            is_there = is_there || strcmp(have, text) == 0;
        }
        if (!is_there) {
            fail_msg("%s.%s is missing", name, text);
        }
    }
}

static const struct {
    const char *path;
    long status;
    const char *schema;
} described[] = {
    {"/lag", 200, "Lag"},
    {"/lag/search", 200, "SinkLag"},
    {"/positions/0/1100", 200, "Place"},
    {"/positions/latest", 200, "Place"},
    {"/sinks", 200, "Sinks"},
    {"/sinks/search", 200, "Sink"},
    {"/sinks/search/dead-letters", 200, "DeadLetters"},
    {"/healthz", 200, "Health"},
    {"/readyz", 200, "Readiness"},
    {"/openapi.json", 200, "Description"},
    {"/changes?limit=1", 200, "Change"},
    {"/changes?from=1", 410, "Problem"},
    {"/changes?from=18446744073709551615", 416, "Problem"},
    {"/lag/nobody", 404, "Problem"},
    {"/sinks/nobody", 404, "Problem"},
    {"/nothing", 404, "Problem"},
};

static void
test_answers_are_as_described(void **state)
{
    (void)state;
    struct serve s;
    serve_some(&s);
    struct json *api = serve_json(&s, "/openapi.json", 200);
    for (size_t i = 0; i < sizeof described / sizeof described[0]; i++) {
        struct json *j = serve_json(&s, described[i].path, described[i].status);
        assert_described(api, described[i].schema, j);
        json_free(j);
    }
    struct json *lag = serve_json(&s, "/lag", 200);
    assert_described(api, "SourceLag", json_get(lag, "source"));
    assert_described(api, "LogLag", json_get(lag, "log"));
    assert_described(api, "Place", json_get(json_get(lag, "log"), "tail"));
    assert_described(api, "SinkLag", json_at(json_get(lag, "sinks"), 0));
    json_free(lag);
    /* Whatever is described is served. */
    const struct json *paths = json_get(api, "paths");
    for (size_t i = 0; i < json_size(paths); i++) {
        const char *path;
        const struct json *p = json_member(paths, i, &path);
        if (json_get(p, "get") != NULL && strchr(path, '{') == NULL) {
            struct httpc_resp rs = {0};
            serve_get(&s, path, 200, &rs);
            httpc_resp_fini(&rs);
        }
    }
    json_free(api);
    serve_fini(&s);
}

/* ---- lag ---- */

static void
test_lag_of_a_log_without_a_position(void **state)
{
    (void)state;
    struct serve s;
    serve_init(&s, 1 << 20);
    s.bk.source = (struct source_report){.at_ms = clock_mono_ms(),
        .status = {.state = API_SOURCE_STREAMING, .server_lsn = 0x1208}};
    struct json *j = serve_json(&s, "/lag", 200);
    const struct json *source = json_get(j, "source");
    assert_text(source, "server_lsn", "0/1208");
    assert_true(json_is_null(json_get(source, "durable_lsn")));
    assert_true(json_is_null(json_get(source, "lag_bytes"))); /* not all WAL there ever was */
    json_free(j);
    serve_fini(&s);
}

static void
test_lag_of_source_and_log(void **state)
{
    (void)state;
    struct serve s;
    serve_some(&s);
    struct json *j = serve_json(&s, "/lag", 200);
    const struct json *source = json_get(j, "source");
    assert_text(source, "state", "connecting");
    assert_text(source, "last_error", "no replicator is connected");
    assert_text(source, "slot", "oneslot");
    assert_text(source, "durable_lsn", "0/1108");
    assert_true(json_is_null(json_get(source, "server_lsn")));
    assert_true(json_is_null(json_get(source, "lag_bytes")));
    const struct json *log = json_get(j, "log");
    assert_int_equal(number(log, "records"), 6);
    assert_int_equal(number(log, "segments"), 1);
    assert_true(number(log, "disk_free_bytes") > 0);
    assert_text(json_get(log, "earliest"), "lsn", "0/1000");
    assert_text(json_get(log, "tail"), "lsn", "0/1100");
    assert_text(json_get(log, "tail"), "ts", "2026-11-22T10:00:01.000000Z");
    assert_int_equal(number(json_get(log, "tail"), "offset"),
        number(json_get(log, "earliest"), "offset") + 6);
    json_free(j);
    s.bk.source = (struct source_report){.at_ms = clock_mono_ms(),
        .slot = "mine",
        .status = {.state = API_SOURCE_STREAMING,
            .server_lsn = 0x1208,
            .received_lsn = 0x1200,
            .acked_lsn = 0x1100,
            .has_retained = true,
            .retained_wal_bytes = 4096}};
    j = serve_json(&s, "/lag", 200);
    source = json_get(j, "source");
    assert_text(source, "state", "streaming");
    assert_text(source, "slot", "mine");
    assert_text(source, "server_lsn", "0/1208");
    assert_int_equal(number(source, "lag_bytes"), 0x100);
    assert_int_equal(number(source, "retained_wal_bytes"), 4096);
    assert_true(json_is_null(json_get(source, "last_error")));
    assert_true(json_is_null(json_get(source, "safe_wal_bytes")));
    json_free(j);
    s.bk.source.at_ms = clock_mono_ms() - 11000; /* its word is too old */
    j = serve_json(&s, "/lag", 200);
    assert_text(json_get(j, "source"), "state", "connecting");
    assert_text(json_get(j, "source"), "server_lsn", "0/1208");
    json_free(j);
    serve_fini(&s);
}

static void
set_sink(struct serve *s, const char *name, uint64_t next)
{
    struct sink_row row = {.next = next, .generation = 4, .kind = "file"};
    struct err e;
    (void)snprintf(row.name, sizeof row.name, "%s", name);
    support_ok(state_set_sink(s->bk.state, &row, &e), &e);
}

static void
set_report(struct serve *s, const char *name)
{
    s->bk.sink = calloc(1, sizeof *s->bk.sink);
    assert_non_null(s->bk.sink);
    s->bk.nsinks = 1;
    s->bk.sink[0] = (struct sink_report){.at_ms = clock_mono_ms(),
        .records_per_second = 2,
        .last_error = "target says no",
        .status = {.generation = 4,
            .state = API_SINK_RETRYING,
            .retries = 9,
            .last_success_us = t0_us}};
    (void)snprintf(s->bk.sink[0].name, sizeof s->bk.sink[0].name, "%s", name);
}

static void
test_lag_of_sinks(void **state)
{
    (void)state;
    struct serve s;
    serve_some(&s);
    uint64_t earliest = journal_earliest(s.bk.journal);
    struct json *j = serve_json(&s, "/lag", 200);
    const struct json *sinks = json_get(j, "sinks");
    assert_int_equal(json_size(sinks), 2); /* configured, never seen */
    assert_text(json_at(sinks, 0), "name", "search");
    assert_text(json_at(sinks, 0), "state", "starting");
    assert_text(json_at(sinks, 1), "state", "paused");
    assert_true(json_is_null(json_get(json_at(sinks, 0), "offset")));
    assert_int_equal(number(json_at(sinks, 0), "records_behind"), 0);
    json_free(j);

    set_sink(&s, "search", earliest + 3); /* the first transaction is settled */
    set_sink(&s, "gone", earliest);
    set_report(&s, "search");
    j = serve_json(&s, "/lag", 200);
    sinks = json_get(j, "sinks");
    assert_int_equal(json_size(sinks), 3);
    const struct json *search = json_at(sinks, 0);
    assert_text(search, "state", "retrying");
    assert_text(search, "last_error", "target says no");
    assert_int_equal(number(search, "offset"), earliest + 2);
    assert_text(search, "lsn", "0/1000");
    assert_text(search, "ts", "2026-11-22T10:00:00.000000Z");
    assert_int_equal(number(search, "next"), earliest + 3);
    assert_int_equal(number(search, "records_behind"), 3);
    assert_true(number(search, "bytes_behind") > 0);
    double seconds;
    assert_true(json_num(json_get(search, "seconds_behind"), &seconds));
    double want = (double)(clock_wall_us() - t0_us - 1000000) / 1e6;
    assert_true(want < 0 ? seconds == 0 : seconds > want - 10 && seconds < want + 0.001);
    assert_true(json_num(json_get(search, "eta_seconds"), &seconds) && seconds == 2);
    assert_int_equal(number(search, "retries"), 9);
    assert_text(search, "last_success", "2026-11-22T10:00:00.000000Z");
    const struct json *gone = json_at(sinks, 2);
    assert_text(gone, "name", "gone");
    assert_text(gone, "state", "stopped");
    assert_int_equal(number(gone, "records_behind"), 6);
    assert_true(json_is_null(json_get(gone, "offset")));
    assert_true(json_is_null(json_get(gone, "eta_seconds")));
    json_free(j);

    s.bk.sink[0].status.generation = 3; /* a former worker's word */
    j = serve_json(&s, "/lag/search", 200);
    assert_text(j, "state", "starting");
    json_free(j);
    set_sink(&s, "search", journal_tail(s.bk.journal));
    j = serve_json(&s, "/lag/search", 200);
    assert_int_equal(number(j, "records_behind"), 0);
    assert_true(json_num(json_get(j, "seconds_behind"), &seconds) && seconds == 0);
    assert_int_equal(number(j, "bytes_behind"), 0);
    json_free(j);
    serve_fini(&s);
}

/* ---- positions ---- */

static void
test_positions(void **state)
{
    (void)state;
    struct serve s;
    serve_some(&s);
    uint64_t earliest = journal_earliest(s.bk.journal);
    char path[64];
    struct json *j = serve_json(&s, "/positions/0/1008", 200);
    assert_int_equal(number(j, "offset"), earliest + 3);
    assert_text(j, "lsn", "0/1100");
    assert_text(j, "ts", "2026-11-22T10:00:01.000000Z");
    json_free(j);
    j = serve_json(&s, "/positions/0%2F1000", 200);
    assert_int_equal(number(j, "offset"), earliest);
    json_free(j);
    j = serve_json(&s, "/positions/latest", 200);
    assert_int_equal(number(j, "offset"), earliest + 6);
    assert_true(json_is_null(json_get(j, "lsn")));
    json_free(j);
    (void)snprintf(path, sizeof path, "/positions/%llu", (unsigned long long)earliest + 4);
    j = serve_json(&s, path, 200);
    assert_int_equal(number(j, "offset"), earliest + 4);
    assert_text(j, "lsn", "0/1100");
    json_free(j);
    json_free(serve_json(&s, "/positions/here", 400));
    json_free(serve_json(&s, "/positions/7:0/1", 409));
    json_free(serve_json(&s, "/positions/1", 410));
    json_free(serve_json(&s, "/positions/18446744073709551615", 416));
    serve_fini(&s);
}

/* ---- health ---- */

static void
test_readiness(void **state)
{
    (void)state;
    struct serve s;
    struct httpc_resp rs = {0};
    serve_some(&s);
    serve_get(&s, "/readyz", 200, &rs);
    s.bk.source.at_ms = clock_mono_ms();
    s.bk.source.status.state = API_SOURCE_RETRYING; /* passes by itself */
    serve_get(&s, "/readyz", 200, &rs);
    s.bk.source.status.state = API_SOURCE_REFUSED;
    (void)snprintf(s.bk.source.last_error, sizeof s.bk.source.last_error, "no such slot");
    writer_set_full(s.bk.writer, true);
    struct json *j = serve_json(&s, "/readyz", 503);
    assert_int_equal(json_size(json_get(j, "reasons")), 2);
    struct str reason;
    assert_true(json_str(json_at(json_get(j, "reasons"), 1), &reason));
    assert_non_null(memmem(reason.p, reason.n, "no such slot", 12));
    json_free(j);
    serve_get(&s, "/healthz", 200, &rs);
    httpc_resp_fini(&rs);
    serve_fini(&s);
}

/* ---- metrics ---- */

static bool
is_metric_line(struct str line)
{
    size_t at = 0;
    while (at < line.n && line.p[at] != ' ' && line.p[at] != '{') {
        at++;
    }
    if (line.n < 8 || memcmp(line.p, "oneslot_", 8) != 0 || line.p[line.n - 1] == ' ') {
        return false;
    }
    if (line.p[at] == '{') {
        const char *end = memchr(line.p + at, '}', line.n - at);
        at = end == NULL ? line.n : (size_t)(end - line.p) + 1;
    }
    return at < line.n && line.p[at] == ' ' &&
           strspn(line.p + at + 1, "0123456789.") == line.n - at - 1;
}

static void
test_metrics(void **state)
{
    (void)state;
    struct serve s;
    struct httpc_resp rs = {0};
    serve_some(&s);
    set_sink(&s, "search", journal_earliest(s.bk.journal));
    set_report(&s, "search");
    serve_get(&s, "/changes", 200, &rs);
    serve_get(&s, "/metrics", 200, &rs);
    struct str rest = buf_str(&rs.body);
    struct str line;
    size_t samples = 0;
    while (serve_line(&rest, &line)) {
        bool is_comment = line.n > 7 && (memcmp(line.p, "# HELP ", 7) == 0 ||
                                            memcmp(line.p, "# TYPE ", 7) == 0);
        if (!is_comment && !is_metric_line(line)) {
            fail_msg("not a metric: %.*s", (int)line.n, line.p);
        }
        samples += !is_comment;
    }
    assert_int_equal(rest.n, 0);
    assert_true(samples > 50);
    static const char *const lines[] = {
        "\noneslot_build_info{version=\"" ONESLOT_VERSION "\"} 1\n",
        "\noneslot_log_records 6\n",
        "\noneslot_writer_transactions_total 2\n",
        "\noneslot_readers_records_total 6\n",
        "\noneslot_readers 0\n",
        "\noneslot_sink_records_behind{sink=\"search\",kind=\"file\"} 6\n",
        "\noneslot_sink_state{sink=\"search\",kind=\"file\",state=\"retrying\"} 1\n",
        "\noneslot_source_state{state=\"connecting\"} 1\n",
        "\noneslot_source_state{state=\"streaming\"} 0\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        if (strstr(buf_cstr(&rs.body), lines[i]) == NULL) {
            fail_msg("not there: %s", lines[i]);
        }
    }
    httpc_resp_fini(&rs);
    serve_fini(&s);
}

/* ---- sinks ---- */

static long
call(struct httpc *c, const char *method, const char *path, struct httpc_resp *rs)
{
    struct err e;
    struct httpc_req rq = {.method = method,
        .path = path,
        .content_type = strcmp(method, "POST") == 0 ? "application/json" : NULL,
        .timeout_ms = SERVE_WAIT_MS,
        .max_body = SERVE_BODY_MAX};
    support_ok(httpc_call(c, &rq, rs, &e), &e);
    return rs->status;
}

static void
test_sinks(void **state)
{
    (void)state;
    struct serve s;
    bool v;
    serve_some(&s);
    set_sink(&s, "gone", journal_earliest(s.bk.journal));
    struct json *j = serve_json(&s, "/sinks", 200);
    assert_int_equal(json_size(json_get(j, "sinks")), 3);
    const struct json *off = json_at(json_get(j, "sinks"), 1);
    assert_text(off, "name", "off");
    assert_true(json_bool(json_get(off, "enabled"), &v) && !v);
    const struct json *gone = json_at(json_get(j, "sinks"), 2);
    assert_text(gone, "name", "gone");
    assert_true(json_bool(json_get(gone, "configured"), &v) && !v);
    assert_true(json_bool(json_get(gone, "registered"), &v) && v);
    assert_true(json_is_null(json_get(gone, "configuration")));
    json_free(j);
    serve_fini(&s);
}

static void
test_sink_configuration_is_shown(void **state)
{
    (void)state;
    struct serve s;
    struct str text;
    bool v;
    serve_some(&s);
    struct json *j = serve_json(&s, "/sinks/search", 200);
    assert_text(j, "kind", "file");
    assert_text(j, "start", "earliest");
    assert_true(json_str(json_at(json_get(j, "tables"), 0), &text));
    assert_true(str_is(text, "public.*"));
    assert_true(json_str(json_get(j, "configuration"), &text));
    assert_non_null(memmem(text.p, text.n, "path", 4));
    assert_true(json_bool(json_get(j, "registered"), &v) && !v);
    json_free(j);
    serve_fini(&s);
}

static void
test_forgetting_a_sink(void **state)
{
    (void)state;
    struct serve s;
    struct httpc_resp rs = {0};
    serve_some(&s);
    set_sink(&s, "search", journal_tail(s.bk.journal));
    set_sink(&s, "gone", journal_earliest(s.bk.journal));
    set_report(&s, "gone");
    assert_int_equal(call(s.c, "DELETE", "/sinks/nobody", &rs), 404);
    assert_int_equal(call(s.c, "DELETE", "/sinks/search", &rs), 409); /* configured */
    assert_int_equal(state_needed_offset(s.bk.state), journal_earliest(s.bk.journal));
    assert_int_equal(call(s.c, "DELETE", "/sinks/gone", &rs), 204);
    assert_int_equal(state_needed_offset(s.bk.state), journal_tail(s.bk.journal));
    assert_int_equal(s.bk.nsinks, 0);
    assert_int_equal(call(s.c, "DELETE", "/sinks/gone", &rs), 404);
    json_free(serve_json(&s, "/lag/gone", 404));
    httpc_resp_fini(&rs);
    serve_fini(&s);
}

/* ---- routes ---- */

static const struct {
    const char *method, *path;
    long tcp, local;
    const char *detail; /* on TCP */
} routed[] = {
    {"POST", "/lag", 405, 405, "GET only"},
    {"PUT", "/sinks/search", 405, 405, "GET, DELETE only"},
    {"POST", "/sinks/nobody/pause", 404, 404, "GET /sinks names them"},
    {"GET", "/sinks/nobody/dead-letters", 404, 404, "GET /sinks names them"},
    {"POST", "/internal/sinks/search/bury", 403, 400, "Unix socket"},
    {"GET", "/internal/rereads", 403, 200, "Unix socket"},
    {"GET", "/sinks/search/pause", 405, 405, "POST only"},
    {"GET", "/lag?x=1", 400, 400, "'x'"},
    {"GET", "/internal/fetch", 403, 400, "Unix socket"},
    {"POST", "/internal/sinks/search/session", 403, 400, "Unix socket"},
    {"POST", "/internal/append", 404, 404, "no such resource"}, /* append.sock's */
    {"GET", "//", 404, 404, "no such resource"},
};

static void
test_dispatch(void **state)
{
    (void)state;
    struct serve s;
    struct httpc_resp rs = {0};
    serve_some(&s);
    for (size_t i = 0; i < sizeof routed / sizeof routed[0]; i++) {
        long tcp = call(s.c, routed[i].method, routed[i].path, &rs);
        if (tcp != routed[i].tcp || strstr(buf_cstr(&rs.body), routed[i].detail) == NULL) {
            fail_msg(
                "%s %s: %ld %s", routed[i].method, routed[i].path, tcp, buf_cstr(&rs.body));
        }
        assert_string_equal(rs.content_type, "application/problem+json");
        long local = call(s.u, routed[i].method, routed[i].path, &rs);
        if (local != routed[i].local) {
            fail_msg("%s %s on the socket: %ld", routed[i].method, routed[i].path, local);
        }
    }
    serve_get(&s, "/", 200, &rs);
    assert_non_null(strstr(buf_cstr(&rs.body), "/changes"));
    assert_null(strstr(buf_cstr(&rs.body), "/internal"));
    httpc_resp_fini(&rs);
    serve_fini(&s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_are_as_described),
        cmocka_unit_test(test_lag_of_a_log_without_a_position),
        cmocka_unit_test(test_lag_of_source_and_log),
        cmocka_unit_test(test_lag_of_sinks),
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_readiness),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_sinks),
        cmocka_unit_test(test_sink_configuration_is_shown),
        cmocka_unit_test(test_forgetting_a_sink),
        cmocka_unit_test(test_dispatch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
