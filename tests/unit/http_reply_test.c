/* http_reply: every status has a meaning, and what a receiver says of single records is
 * believed only where it is clear. */
#include "http_support.h"

#include "sinks/http/http_reply.h"

enum { N = 3 };

static struct buf reasons;

static int
setup(void **state)
{
    (void)state;
    http_support_init();
    buf_init(&reasons, SIZE_MAX);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    http_support_fini();
    buf_fini(&reasons);
    return 0;
}

static int
read_body(const char *body, struct err *e)
{
    memset(made.verdicts, 0, sizeof made.verdicts);
    buf_reset(&reasons, SIZE_MAX);
    assert_non_null(buf_room(&reasons, (size_t)N * HTTP_REPLY_REASON_MAX));
    char *exact = support_exact(body, strlen(body));
    int rc = http_reply_read((struct str){.p = exact, .n = strlen(body)}, made.records, N,
        made.verdicts, &reasons, e);
    free(exact);
    return rc;
}

#define D VERDICT_DONE
#define R VERDICT_RETRY
#define X VERDICT_REJECT

static void
bodies_and_what_they_say(void **state)
{
    static const struct {
        const char *body;
        enum verdict want[N];
    } rows[] = {
        {"", {D, D, D}},
        {"ok", {D, D, D}},
        {"\"{\"", {D, D, D}},
        {"<html>{</html>", {D, D, D}},
        {"[1,2", {D, D, D}},
        {"{}", {D, D, D}},
        {" \r\n{\"success\":true}", {D, D, D}},
        {"{\"results\":[]}", {R, R, R}},
        {"{\"results\":[{\"offset\":100,\"status\":\"ok\"},{\"offset\":101,\"status\":\"ok\"},"
         "{\"offset\":102,\"status\":\"ok\"}]}",
            {D, D, D}},
        {"{\"results\":[{\"offset\":102,\"status\":\"reject\"},{\"offset\":100,\"status\":"
         "\"retry\"},{\"offset\":101,\"status\":\"ok\"}]}",
            {R, D, X}},
        {"{\"results\":[{\"offset\":101,\"status\":\"ok\"}]}", {R, D, R}},
        {"{\"results\":[{\"offset\":100,\"status\":\"OK\"},{\"offset\":101},{\"status\":\"ok\"}"
         ",{\"offset\":\"102\",\"status\":\"ok\"}]}",
            {R, R, R}},
        {"{\"results\":[{\"offset\":100,\"status\":\"ok\"},{\"offset\":100,\"status\":\"ok\"},"
         "{\"offset\":101,\"status\":\"ok\"},{\"offset\":101,\"status\":\"reject\"},"
         "{\"offset\":102,\"status\":\"reject\"},{\"offset\":102,\"status\":\"ok\"},"
         "{\"offset\":102,\"status\":\"reject\"}]}",
            {D, R, R}},
        {"{\"results\":[{\"offset\":99,\"status\":\"reject\"},{\"offset\":-100,\"status\":"
         "\"reject\"},{\"offset\":1e2,\"status\":\"reject\"},{\"offset\":100,\"status\":"
         "\"ok\"}]}",
            {D, R, R}},
    };
    struct err e = {0};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(read_body(rows[i].body, &e), 0);
        for (size_t k = 0; k < N; k++) {
            if (made.verdicts[k].verdict != rows[i].want[k]) {
                fail_msg("%s: record %zu is %d", rows[i].body, k, made.verdicts[k].verdict);
            }
        }
    }
}

/* A word that is cut off must not become "all of them". */
static void
half_an_answer_is_none(void **state)
{
    static const char whole[] =
        "{\"results\":[{\"offset\":100,\"status\":\"retry\",\"reason\":\"r\"}]}";
    struct err e = {0};
    (void)state;
    for (size_t n = 1; n < sizeof whole - 1; n++) {
        char body[sizeof whole] = {0};
        memcpy(body, whole, n);
        assert_int_equal(read_body(body, &e), ERR_PROTOCOL);
        assert_int_equal(made.verdicts[0].verdict, VERDICT_UNSET);
    }
    assert_int_equal(read_body("{\"results\":{}}", &e), ERR_PROTOCOL);
    assert_int_equal(read_body("{\"results\":null}", &e), ERR_PROTOCOL);
    assert_int_equal(read_body("{\"results\":[100,101]}", &e), ERR_PROTOCOL);
    assert_int_equal(read_body("{\"results\":[]}x", &e), ERR_PROTOCOL);
    assert_int_equal(read_body(whole, &e), 0);
}

static void
a_reason_is_short_and_printable(void **state)
{
    struct err e = {0};
    struct buf auto_buf body;
    (void)state;
    assert_int_equal(read_body("{\"results\":[{\"offset\":100,\"status\":\"reject\",\"reason\":"
                               "\"no\\n\\u001b[1m\xc3\xa4\"},{\"offset\":101,\"status\":"
                               "\"reject\"}]}",
                         &e),
        0);
    assert_string_equal(made.verdicts[0].reason, "the receiver rejects it: no??[1m??");
    assert_string_equal(made.verdicts[1].reason, "the receiver rejects it");
    buf_init(&body, SIZE_MAX);
    buf_puts(&body, "{\"results\":[{\"offset\":100,\"status\":\"reject\",\"reason\":\"");
    for (size_t i = 0; i < 5000; i++) {
        buf_putc(&body, 'x');
    }
    buf_puts(&body, "\"}]}");
    assert_int_equal(read_body(buf_cstr(&body), &e), 0);
    assert_true(strlen(made.verdicts[0].reason) < HTTP_REPLY_REASON_MAX);
    assert_int_equal(made.verdicts[2].verdict, VERDICT_RETRY);
}

static void
every_status_has_a_meaning(void **state)
{
    (void)state;
    for (long s = 0; s < 1000; s++) {
        enum http_whole want = s >= 200 && s <= 299                 ? HTTP_WHOLE_OK
                               : s == 408 || s == 429 || s == 503   ? HTTP_WHOLE_PUSHED
                               : s == 425 || (s >= 500 && s <= 599) ? HTTP_WHOLE_RETRY
                               : s == 413                           ? HTTP_WHOLE_TOOBIG
                               : s == 400 || s == 422               ? HTTP_WHOLE_REFUSED
                                                                    : HTTP_WHOLE_STOP;
        assert_int_equal(http_reply_whole(s), want);
    }
}

static void
a_stop_says_what_to_do(void **state)
{
    static const struct {
        long status;
        int code;
        const char *says;
    } rows[] = {
        {301, ERR_REFUSED, "http://h answers 301: it sends elsewhere, and redirects are not"},
        {401, ERR_AUTH, "token_file"},
        {403, ERR_AUTH, "secret_file"},
        {404, ERR_REFUSED, "nothing at this `url`"},
        {405, ERR_REFUSED, "takes no POST"},
        {410, ERR_REFUSED, "nothing at this `url`"},
        {418, ERR_REFUSED, "receiver's log"},
        {429, ERR_BUSY, "not now"},
        {500, ERR_BUSY, "not now"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err e = {0};
        assert_int_equal(http_reply_error(rows[i].status, "http://h", &e), rows[i].code);
        assert_int_equal(err_class(rows[i].code),
            rows[i].code == ERR_BUSY ? ERR_CLASS_RETRY : ERR_CLASS_STOP);
        assert_non_null(strstr(e.msg, rows[i].says));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bodies_and_what_they_say, setup, teardown),
        cmocka_unit_test_setup_teardown(half_an_answer_is_none, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reason_is_short_and_printable, setup, teardown),
        cmocka_unit_test(every_status_has_a_meaning),
        cmocka_unit_test(a_stop_says_what_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
