/* Lines as they arrive on stderr: format, levels, escaping, one write each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"

static int saved_stderr, packets[2];
static char got[8192];

/* stderr becomes a pipe in packet mode: one read gives what one write wrote (up to 4096 bytes).
 */
static int
capture(void **state)
{
    (void)state;
    saved_stderr = dup(STDERR_FILENO);
    assert_int_equal(pipe2(packets, O_DIRECT | O_NONBLOCK | O_CLOEXEC), 0);
    assert_true(dup2(packets[1], STDERR_FILENO) >= 0);
    return 0;
}

static int
release(void **state)
{
    (void)state;
    assert_true(dup2(saved_stderr, STDERR_FILENO) >= 0);
    return close(packets[0]) | close(packets[1]) | close(saved_stderr);
}

/* The next write, or "" when there was none. */
static const char *
next_write(void)
{
    ssize_t n = read(packets[0], got, sizeof got - 1);
    got[n < 0 ? 0 : n] = 0;
    return got;
}

/* The same without its "ts=... " which is checked. */
static const char *
next_line(void)
{
    const char *line = next_write();
    const char *space = strchr(line, ' ');
    int64_t us;
    assert_memory_equal(line, "ts=", 3);
    assert_non_null(space);
    assert_true(
        clock_parse_us((struct str){.p = line + 3, .n = (size_t)(space - line - 3)}, &us));
    assert_in_range(clock_wall_us() - us, 0, 60000000);
    return space + 1;
}

static void
test_line_format(void **state)
{
    (void)state;
    log_init("broker", LOG_INFO);
    log_info("append_ok", "lsn=%s n=%d", "0/16B3748", 7);
    assert_string_equal(next_line(), "level=info prog=broker ev=append_ok lsn=0/16B3748 n=7\n");
    log_error("down", "why=%s", log_quote("a b"));
    assert_string_equal(next_line(), "level=error prog=broker ev=down why=\"a b\"\n");
    log_warn("bare", NULL);
    assert_string_equal(next_line(), "level=warn prog=broker ev=bare\n");
    assert_string_equal(next_write(), "");
}

static void
test_levels(void **state)
{
    (void)state;
    const char *const names[] = {"error", "warn", "info", "debug"};
    for (int set = LOG_ERROR; set <= LOG_DEBUG; set++) {
        assert_string_equal(log_level_names[set], names[set]);
        log_init("p", (enum log_level)set);
        for (int at = LOG_ERROR; at <= LOG_DEBUG; at++) {
            assert_int_equal(log_enabled((enum log_level)at), at <= set);
            log_write((enum log_level)at, "x", "n=%d", at);
            assert_int_equal(next_write()[0] != 0, at <= set);
        }
    }
    assert_null(log_level_names[LOG_DEBUG + 1]);
}

static void
test_quote(void **state)
{
    (void)state;
    const struct {
        const char *in, *out;
    } cases[] = {
        {"", "\"\""},
        {"a=b c", "\"a=b c\""},
        {"\" ev=forged", "\"\\\" ev=forged\""},
        {"a\\b", "\"a\\\\b\""},
        {"a\nb\rc\td", "\"a\\nb\\rc\\td\""},
        {"\x1b[31m\x7f\x01", "\"\\x1b[31m\\x7f\\x01\""},
        {"Wien \xc3\xb6\xe2\x82\xac\xf0\x9f\x98\x80",
            "\"Wien \xc3\xb6\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"\xc2\x9b", "\"\\xc2\\x9b\""}, /* CSI as a C1 control */
        {"\xff\xc0\x80 \xc3", "\"\\xff\\xc0\\x80 \\xc3\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_string_equal(log_quote(cases[i].in), cases[i].out);
    }
    assert_string_equal(log_quote(NULL), "\"\"");
    assert_string_equal(log_quote_str((struct str){.p = "a\0b", .n = 3}), "\"a\\x00b\"");
}

static void
test_quote_is_bounded_and_rings(void **state)
{
    (void)state;
    char text[2000];
    memset(text, 'a', sizeof text);
    for (size_t n = 480; n < 530; n++) {
        const char *q = log_quote_str((struct str){.p = text, .n = n});
        size_t len = strlen(q);
        assert_true(len < 512);
        assert_int_equal(q[len - 1], '"');
        assert_true(len == n + 2 || (len > 500 && memcmp(q + len - 4, "...\"", 4) == 0));
    }
    memset(text, 1, sizeof text);
    assert_true(strlen(log_quote_str((struct str){.p = text, .n = sizeof text})) < 512);
    const char *eight[8];
    for (int i = 0; i < 8; i++) {
        eight[i] = log_quote_str((struct str){.p = &"01234567"[i], .n = 1});
    }
    for (int i = 0; i < 8; i++) {
        assert_int_equal(eight[i][1], '0' + i);
    }
}

static void
test_control_bytes_in_fields_cannot_forge_a_line(void **state)
{
    (void)state;
    log_init("p", LOG_INFO);
    log_info("x", "raw=%s", "a\nts=1 level=error\x1b[2J");
    assert_string_equal(
        next_line(), "level=info prog=p ev=x raw=a\\nts=1 level=error\\x1b[2J\n");
    assert_string_equal(next_write(), "");
}

static void
test_long_lines_are_cut_to_one_write(void **state)
{
    (void)state;
    char text[9000];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 0;
    log_init("p", LOG_INFO);
    log_info("x", "t=%s", text);
    const char *line = next_line();
    assert_true(strlen(line) > 3900);
    assert_int_equal(line[strlen(line) - 1], '\n');
    memset(text, 2, sizeof text - 1);
    log_info("x", "t=%s", text);
    line = next_line();
    assert_int_equal(line[strlen(line) - 1], '\n');
    assert_string_equal(next_write(), "");
}

static void
test_err(void **state)
{
    (void)state;
    struct err e;
    log_init("p", LOG_INFO);
    (void)err_set_at(
        &e, ERR_NOSPACE, 0, "/work/broker/writer.c", 12, "disk \"%s\" is\nfull", "d");
    log_err(LOG_WARN, "append_failed", &e, "will retry");
    assert_string_equal(next_line(),
        "level=warn prog=p ev=append_failed code=NOSPACE msg=\"disk \\\"d\\\" is\\nfull\" "
        "at=broker/writer.c:12 more=\"will retry\"\n");
    (void)err_set_at(&e, ERR_IO, 0, "a.c", 1, "x");
    log_err(LOG_ERROR, "y", &e, NULL);
    assert_string_equal(next_line(), "level=error prog=p ev=y code=IO msg=\"x\" at=a.c:1\n");
    e = (struct err){0};
    log_err(LOG_ERROR, "y", &e, NULL);
    assert_string_equal(next_line(), "level=error prog=p ev=y code=OK msg=\"\" at=?:0\n");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_line_format, capture, release),
        cmocka_unit_test_setup_teardown(test_levels, capture, release),
        cmocka_unit_test(test_quote),
        cmocka_unit_test(test_quote_is_bounded_and_rings),
        cmocka_unit_test_setup_teardown(
            test_control_bytes_in_fields_cannot_forge_a_line, capture, release),
        cmocka_unit_test_setup_teardown(test_long_lines_are_cut_to_one_write, capture, release),
        cmocka_unit_test_setup_teardown(test_err, capture, release),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
