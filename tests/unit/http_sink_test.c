/* The http kind against a receiver that answers as told: what becomes of each record, how a
 * batch is cut, what is sent with it, what is refused before anything is sent. */
#include "http_peer.h"

#include "proto/base/conf.h"
#include "proto/base/fs.h"
#include "proto/base/xmalloc.h"
#include "sinks/registry.h"

static struct {
    const struct sink_ops *ops;
    struct conf_doc *doc;
    void *options;
    struct sink *sink;
    char folder[64];
} t;

static int
setup(void **state)
{
    (void)state;
    memset(&t, 0, sizeof t);
    http_support_init();
    t.ops = registry_find("http");
    (void)snprintf(t.folder, sizeof t.folder, "/tmp/http_sink_XXXXXX");
    assert_non_null(mkdtemp(t.folder));
    return 0;
}

static void
close_sink(void)
{
    t.ops->close(t.sink);
    if (t.options != NULL) {
        conf_release(t.ops->options, t.options);
    }
    free(t.options);
    conf_free(t.doc);
    t.sink = NULL;
    t.options = NULL;
    t.doc = NULL;
}

static int
teardown(void **state)
{
    struct err e;
    (void)state;
    close_sink();
    http_support_fini();
    return fs_remove_tree(t.folder, &e);
}

static char *
put_file(const char *name, const char *content)
{
    struct err e;
    char *path = xasprintf("%s/%s", t.folder, name);
    assert_int_equal(fs_write_atomic(path, str_from(content), 0600, &e), 0);
    return path;
}

static int
open_yaml(const char *yaml, struct err *e)
{
    assert_int_equal(conf_load_text("t.yaml", str_from(yaml), &t.doc, e), 0);
    t.options = xcalloc(1, t.ops->options_size);
    assert_int_equal(conf_apply(conf_root(t.doc), t.ops->options, t.options, e), 0);
    struct sink_setup s = {
        .name = "hook", .options = t.options, .next = 1, .epoch = 1, .lanes = 1};
    return t.ops->open(&s, &t.sink, e);
}

/* With the peer's URL before yaml. */
static void
open_ok(const char *yaml)
{
    struct err e = {0};
    char *text = xasprintf("url: %s/hook?k=v\n%s", peer.url, yaml);
    int rc = open_yaml(text, &e);
    free(text);
    if (rc != 0) {
        fail_msg("%s", e.msg);
    }
}

static int
write_some(size_t n, struct err *e)
{
    memset(made.verdicts, 0, sizeof made.verdicts);
    t.sink->is_pushed_back = false;
    t.sink->retry_after_ms = -1;
    struct sink_batch b = {.records = made.records, .n = n, .next = 1, .tail = 100000};
    return t.ops->write(t.sink, &b, made.verdicts, e);
}

static void
write_ok(size_t n)
{
    struct err e = {0};
    if (write_some(n, &e) != 0) {
        fail_msg("%s", e.msg);
    }
}

static void
check_from(size_t from, size_t to, enum verdict want)
{
    for (size_t i = from; i < to; i++) {
        if (made.verdicts[i].verdict != want) {
            fail_msg("record %zu is %d and not %d", i, made.verdicts[i].verdict, want);
        }
    }
}

static const char *
last_post(void)
{
    return buf_cstr(&peer.last);
}

/* Each record of 0..n but `but` was accepted once, in order. */
static void
check_accepted(size_t n, size_t but)
{
    const char *at = buf_cstr(&peer.accepted);
    for (size_t i = 0; i < n; i++) {
        char offset[32];
        (void)snprintf(offset, sizeof offset, "{\"offset\":%zu,", 100 + i);
        if (i == but) {
            assert_null(strstr(peer.accepted.p, offset));
            continue;
        }
        assert_ptr_equal(strstr(at, offset), at);
        at = strchr(at, '\n') + 1;
    }
    assert_int_equal(*at, '\0');
}

/* ---- what is sent ---- */

static void
a_request_says_who_what_and_signs_it(void **state)
{
    (void)state;
    char *secret = put_file("secret", "s3cret\n"), *token = put_file("token", "tok\r\n");
    char *yaml = xasprintf("secret_file: %s\ntoken_file: %s\n", secret, token);
    http_peer_others = 0;
    peer_open(NULL, 0);
    open_ok(yaml);
    assert_int_equal(http_peer_others, 1); /* is somebody there? */
    write_ok(3);
    check_from(0, 3, VERDICT_DONE);
    check_accepted(3, SIZE_MAX);
    assert_non_null(strstr(last_post(), "POST /hook?k=v HTTP/1.1\r\n"));
    assert_non_null(strstr(last_post(), "\r\nContent-Type: application/x-ndjson\r\n"));
    assert_non_null(strstr(last_post(), "\r\nOneslot-Sink: hook\r\n"));
    assert_non_null(strstr(last_post(), "\r\nIdempotency-Key: 100-102\r\n"));
    assert_non_null(strstr(last_post(), "\r\nOneslot-Signature: t="));
    assert_non_null(strstr(last_post(), "\r\nAuthorization: Bearer tok\r\n"));
    assert_null(strcasestr(last_post(), "\r\nExpect:"));
    assert_null(strcasestr(last_post(), "\r\nTransfer-Encoding:"));
    assert_int_equal(t.sink->counts.requests, 1);
    assert_int_equal(t.sink->counts.bytes, peer.accepted.n);
    peer_close();
    free(secret);
    free(token);
    free(yaml);
}

static void
json_is_an_array(void **state)
{
    (void)state;
    peer_open(NULL, 0);
    open_ok("format: json\n");
    write_ok(2);
    struct str body = peer_body();
    assert_true(body.p[0] == '[' && body.p[body.n - 1] == ']');
    assert_non_null(strstr(last_post(), "\r\nContent-Type: application/json\r\n"));
    assert_null(strstr(last_post(), "Oneslot-Signature"));
    assert_null(strstr(last_post(), "Authorization"));
    peer_close();
}

static void
a_batch_is_cut_by_records_and_by_bytes(void **state)
{
    (void)state;
    peer_open(NULL, 0);
    open_ok("batch_records: 4\n");
    write_ok(10);
    assert_int_equal(peer.n_writes, 3);
    check_from(0, 10, VERDICT_DONE);
    check_accepted(10, SIZE_MAX);
    close_sink();
    peer_close();
    peer_open(NULL, 0);
    open_ok("batch_bytes: 1KiB\n");
    write_ok(10);
    assert_true(peer.n_writes > 1);
    check_accepted(10, SIZE_MAX);
    peer_close();
}

/* ---- answers ---- */

static void
one_poisoned_record_is_rejected_wherever_it_stands(void **state)
{
    (void)state;
    for (size_t bad = 0; bad < 33; bad += 8) {
        char poison[32];
        (void)snprintf(poison, sizeof poison, "{\"offset\":%zu,", 100 + bad);
        peer_open(NULL, 0);
        peer.poison = poison;
        open_ok("");
        write_ok(33);
        assert_int_equal(made.verdicts[bad].verdict, VERDICT_REJECT);
        assert_string_equal(made.verdicts[bad].reason,
            "the receiver answers 400 to this record alone: it is refused");
        check_from(0, bad, VERDICT_DONE);
        check_from(bad + 1, 33, VERDICT_DONE);
        check_accepted(33, bad);
        assert_true(peer.n_writes <= 16);
        close_sink();
        peer_close();
    }
}

static void
everything_poisoned_is_rejected_one_by_one(void **state)
{
    (void)state;
    peer_open(NULL, 0);
    peer.poison = "shop";
    open_ok("");
    write_ok(20);
    check_from(0, 20, VERDICT_REJECT);
    for (size_t i = 1; i < 20; i++) { /* reasons are of their own */
        assert_string_equal(made.verdicts[i].reason, made.verdicts[0].reason);
    }
    peer_close();
}

static void
a_body_too_large_is_halved_and_that_is_remembered(void **state)
{
    (void)state;
    peer_open(NULL, 0);
    peer.max_body = 2000;
    open_ok("");
    write_ok(HTTP_MANY);
    check_from(0, HTTP_MANY, VERDICT_DONE);
    check_accepted(HTTP_MANY, SIZE_MAX);
    size_t first = peer.n_writes;
    write_ok(HTTP_MANY);
    assert_true(peer.n_writes - first <= first);
    check_from(0, HTTP_MANY, VERDICT_DONE);
    close_sink();
    peer_close();
    peer_open(NULL, 0);
    peer.max_body = 20;
    open_ok("");
    write_ok(3);
    check_from(0, 3, VERDICT_REJECT);
    assert_non_null(strstr(made.verdicts[0].reason, "413 to this record alone"));
    peer_close();
}

static void
answers_per_record_are_followed(void **state)
{
    static const struct peer_step steps[] = {
        {.status = 200,
            .body = "{\"results\":[{\"offset\":100,\"status\":\"ok\"},{\"offset\":101,"
                    "\"status\":\"reject\",\"reason\":\"no such shop\"},{\"offset\":102,"
                    "\"status\":\"retry\"}]}"},
    };
    (void)state;
    peer_open(steps, 1);
    open_ok("batch_records: 4\n");
    write_ok(10);
    check_from(0, 1, VERDICT_DONE);
    check_from(1, 2, VERDICT_REJECT);
    assert_string_equal(made.verdicts[1].reason, "the receiver rejects it: no such shop");
    check_from(2, 4, VERDICT_RETRY);  /* 103 was not named */
    check_from(4, 10, VERDICT_UNSET); /* not sent: an earlier one comes again */
    assert_int_equal(peer.n_writes, 1);
    peer_close();
}

/* What a status of a whole request does: an error, whose class decides. */
static void
statuses_of_a_whole_request(void **state)
{
    static const struct {
        struct peer_step step;
        int code;
        bool is_pushed;
        int64_t retry_after_ms;
    } rows[] = {
        {{.status = 429, .header = "Retry-After: 7\r\n"}, ERR_BUSY, true, 7000},
        {{.status = 503}, ERR_BUSY, true, -1},
        {{.status = 408}, ERR_BUSY, true, -1},
        {{.status = 425}, ERR_BUSY, false, -1},
        {{.status = 500, .body = "{\"results\":[]}"}, ERR_BUSY, false, -1},
        {{.status = 301, .header = "Location: http://127.0.0.1:1/\r\n"}, ERR_REFUSED, false,
            -1},
        {{.status = 401}, ERR_AUTH, false, -1},
        {{.status = 404}, ERR_REFUSED, false, -1},
        {{.status = 200, .body = "{\"results\":[{"}, ERR_PROTOCOL, false, -1},
        {{.drops = true}, ERR_CLOSED, false, -1},
        {{.stalls = true}, ERR_TIMEOUT, true, -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err e = {0};
        peer_open(&rows[i].step, 1);
        open_ok("timeout: 300ms\n");
        assert_int_equal(write_some(3, &e), rows[i].code);
        assert_int_equal(e.code, rows[i].code);
        assert_int_equal(t.sink->is_pushed_back, rows[i].is_pushed);
        assert_int_equal(t.sink->retry_after_ms, rows[i].retry_after_ms);
        assert_null(strstr(e.msg, "k=v")); /* of the URL: it may be a secret */
        assert_int_equal(peer.n_writes, 1);
        write_ok(3);
        check_from(0, 3, VERDICT_DONE);
        close_sink();
        peer_close();
    }
}

/* What was accepted before counts, and nothing is sent behind the failure. */
static void
a_failure_in_the_middle_keeps_what_was_accepted(void **state)
{
    static const struct peer_step steps[] = {{0}, {.status = 403}};
    struct err e = {0};
    (void)state;
    peer_open(steps, 2);
    open_ok("batch_records: 4\n");
    write_ok(10);
    check_from(0, 4, VERDICT_DONE);
    check_from(4, 10, VERDICT_RETRY);
    assert_non_null(strstr(made.verdicts[4].reason, "answers 403"));
    assert_int_equal(peer.n_writes, 2);
    close_sink();
    peer_close();
    static const struct peer_step again[] = {{.status = 403}};
    peer_open(again, 1);
    open_ok("");
    assert_int_equal(write_some(10, &e), ERR_AUTH);
    peer_close();
}

static void
an_answer_without_end_is_refused(void **state)
{
    static char large[1100 * 1024];
    memset(large, 'x', sizeof large - 1);
    const struct peer_step step = {.status = 200, .body = large};
    struct err e = {0};
    (void)state;
    peer_open(&step, 1);
    open_ok("");
    assert_int_equal(write_some(1, &e), ERR_PROTOCOL);
    peer_close();
}

/* ---- opening ---- */

static void
bad_options_are_refused_without_repeating_them(void **state)
{
    static const char *const urls[] = {"ftp://h/x", "h/x", "http://", "http:///x",
        "https://u:p@h/x", "'http://h/x#f'", "'http://h/a b'", "'http://h?k=v'",
        "\"http://h/x\\r\\nX: y\""};
    (void)state;
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        struct err e = {0};
        char *yaml = xasprintf("url: %s\n", urls[i]);
        assert_int_equal(open_yaml(yaml, &e), ERR_CONFIG);
        assert_non_null(strstr(e.msg, "`url` of an http sink"));
        assert_null(strstr(e.msg, "u:p"));
        close_sink();
        free(yaml);
    }
    static const char *const secrets[] = {"", "\n", "a\nb\n"};
    for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++) {
        struct err e = {0};
        char *path = put_file("secret", secrets[i]);
        char *yaml = xasprintf(
            "url: http://127.0.0.1:1/\n%s: %s\n", i == 0 ? "secret_file" : "token_file", path);
        assert_int_equal(open_yaml(yaml, &e), ERR_CONFIG);
        assert_non_null(strstr(e.msg, path));
        close_sink();
        free(yaml);
        free(path);
    }
}

static void
nobody_there_is_tried_again(void **state)
{
    struct err e = {0};
    (void)state;
    peer_open(NULL, 0);
    peer_close(); /* the port is free again */
    char *yaml = xasprintf("url: %s/hook?k=v\n", peer.url);
    assert_int_equal(open_yaml(yaml, &e), ERR_CONNECT);
    assert_null(strstr(e.msg, "k=v"));
    free(yaml);
}

static void
check_warns_of_a_hook_that_anybody_could_call(void **state)
{
    struct buf auto_buf lines;
    struct err e;
    (void)state;
    buf_init(&lines, SIZE_MAX);
    peer_open(NULL, 0);
    open_ok("");
    assert_int_equal(t.ops->check(t.sink, NULL, 0, &lines, &e), 0);
    assert_non_null(strstr(buf_cstr(&lines), "warning: neither `secret_file`"));
    peer_close();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_request_says_who_what_and_signs_it),
        TEST(json_is_an_array),
        TEST(a_batch_is_cut_by_records_and_by_bytes),
        TEST(one_poisoned_record_is_rejected_wherever_it_stands),
        TEST(everything_poisoned_is_rejected_one_by_one),
        TEST(a_body_too_large_is_halved_and_that_is_remembered),
        TEST(answers_per_record_are_followed),
        TEST(statuses_of_a_whole_request),
        TEST(a_failure_in_the_middle_keeps_what_was_accepted),
        TEST(an_answer_without_end_is_refused),
        TEST(bad_options_are_refused_without_repeating_them),
        TEST(nobody_there_is_tried_again),
        TEST(check_warns_of_a_hook_that_anybody_could_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
