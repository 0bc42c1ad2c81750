/* cmd_line, cmd_text, cmd_table, cmd_lag: what a person sees, to the byte; hostile row data;
 * every truncation of a line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "broker/cli/cmd_lag.h"
#include "broker/cli/cmd_line.h"
#include "broker/cli/cmd_table.h"
#include "broker/cli/cmd_text.h"

#define HEAD                                                                                   \
    "{\"offset\":1882345678901234,\"lsn\":\"0/16B3748\",\"seq\":0,\"xid\":742,"                \
    "\"ts\":\"2026-11-22T10:00:00.123456Z\",\"epoch\":1,"
#define TS    "2026-11-22T10:00:00.123456Z "
#define TABLE "\"schema\":\"fabric\",\"table\":\"user_data\","

static const struct {
    const char *line, *shown;
} lines[] = {
    {HEAD "\"op\":\"insert\"," TABLE
          "\"key\":{\"id\":7},\"new\":{\"id\":7,\"name\":\"Anna Berg\","
          "\"ok\":true,\"note\":null,\"mail\":\"a@b.example\"}}",
        TS
        "insert fabric.user_data id=7 name=\"Anna Berg\" ok=true note=null mail=a@b.example"},
    {HEAD "\"op\":\"update\"," TABLE
          "\"key\":{\"id\":7},\"new\":{\"id\":7,\"name\":\"B\",\"x\":1},"
          "\"old\":{\"id\":7,\"name\":\"A\",\"x\":1},\"unchanged\":[\"doc\"]}",
        TS "update fabric.user_data id=7 name=B"},
    {HEAD "\"op\":\"update\"," TABLE "\"key\":{\"id\":7},\"new\":{\"id\":7,\"x\":1}}",
        TS "update fabric.user_data id=7 x=1"},
    {HEAD "\"op\":\"delete\"," TABLE
          "\"key\":{\"a\":1,\"b\":\"\"},\"old\":{\"a\":1,\"b\":\"\"}}",
        TS "delete fabric.user_data a=1 b=\"\""},
    {HEAD "\"op\":\"truncate\"," TABLE "\"cascade\":true,\"restart_identity\":false}",
        TS "truncate fabric.user_data cascade"},
    {HEAD "\"op\":\"message\",\"prefix\":\"app\",\"transactional\":false,\"content\":\"aGk\"}",
        TS "message app (outside a transaction) content=aGk"},
    /* text that looks like something else keeps its quotes; JSON is shown as it is */
    {HEAD "\"op\":\"read\"," TABLE "\"new\":{\"t\":\"true\",\"n\":\"null\",\"s p\":\"1\","
          "\"j\":{\"a\":[1,{\"b\":\"}]\\\"\"}]},\"e\":{}}}",
        TS "read fabric.user_data t=\"true\" n=\"null\" \"s p\"=1 "
           "j={\"a\":[1,{\"b\":\"}]\\\"\"}]} e={}"},
    /* an escape sequence, C1, and text that runs backwards */
    {HEAD "\"op\":\"insert\"," TABLE "\"new\":{\"v\":\"\\u001b[2J\xc2\x9b\xe2\x80\xae\"}}",
        TS "insert fabric.user_data v=\"\\u001b[2J\\u009b\\u202e\""},
};

static void
lines_are_shown(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct buf auto_buf b;
        uint64_t offset = 0;
        buf_init(&b, 65536);
        assert_true(cmd_line_put(&b, str_from(lines[i].line), 0));
        assert_string_equal(buf_cstr(&b), lines[i].shown);
        assert_true(cmd_line_offset(str_from(lines[i].line), &offset));
        assert_int_equal(offset, 1882345678901234);
    }
}

static void
a_line_cut_short_is_refused_at_every_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        size_t n = strlen(lines[i].line);
        for (size_t cut = 0; cut < n; cut++) {
            char *copy = test_malloc(cut + 1); /* so that a sanitizer sees one byte too far */
            struct buf auto_buf b;
            uint64_t offset = 5;
            buf_init(&b, 65536);
            memcpy(copy, lines[i].line, cut);
            assert_false(cmd_line_put(&b, (struct str){copy, cut}, 0));
            assert_false(cmd_line_offset((struct str){copy, cut}, &offset));
            assert_int_equal(offset, 5);
            assert_int_equal(b.n, 0);
            test_free(copy);
        }
    }
}

static void
other_json_is_no_change(void **state)
{
    (void)state;
    static const char *const others[] = {"", "{}", "[]", "null", "{\"offset\":1}",
        "{\"op\":\"insert\"}", "{\"offset\":1,\"op\":\"insert\"} trailing",
        "{\"offset\":1,\"op\":\"insert\",}x", "}", "\"", "{\"a\"",
        "{\"offset\":,\"op\":\"x\"}"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct buf auto_buf b;
        buf_init(&b, 1024);
        assert_false(cmd_line_put(&b, str_from(others[i]), 0));
    }
    uint64_t offset;
    assert_false(cmd_line_offset(str_from("{\"offset\":-1,\"op\":\"insert\"}"), &offset));
    assert_false(cmd_line_offset(str_from("{\"offset\":\"12\",\"op\":\"insert\"}"), &offset));
    assert_false(cmd_line_offset(
        str_from("{\"offset\":99999999999999999999,\"op\":\"insert\"}"), &offset));
}

static void
a_line_is_cut_to_the_terminal(void **state)
{
    (void)state;
    for (size_t width = 1; width < 120; width++) {
        struct buf auto_buf b;
        buf_init(&b, 65536);
        buf_puts(&b, "before|");
        assert_true(cmd_line_put(&b, str_from(lines[0].line), width));
        struct str line = {b.p + 7, b.n - 7};
        size_t whole = strlen(lines[0].shown);
        assert_int_equal(cmd_text_width(line), width < whole ? width : whole);
        assert_int_equal(memcmp(b.p, "before|", 7), 0);
    }
}

static void
wide_characters_take_two_columns(void **state)
{
    (void)state;
    struct buf auto_buf b;
    buf_init(&b, 1024);
    buf_puts(&b, "a日本b");
    assert_int_equal(cmd_text_width(buf_str(&b)), 6);
    cmd_text_cut(&b, 0, 6);
    assert_string_equal(buf_cstr(&b), "a日本b");
    cmd_text_cut(&b, 0, 5);
    assert_string_equal(buf_cstr(&b), "a日…"); /* 4 columns: the next would need 6 */
    assert_true(cmd_text_width(buf_str(&b)) <= 5);
}

static void
unsafe_text_is_escaped(void **state)
{
    (void)state;
    const struct {
        struct str text;
        const char *shown;
    } cases[] = {{STR("plain é 日"), "plain é 日"}, {STR("a\tb\n"), "a\\x09b\\x0a"},
        {STR("\x1b]0;t\x07"), "\\x1b]0;t\\x07"}, {STR("\x7f"), "\\x7f"},
        {STR("a\0b"), "a\\x00b"}, {STR("\xff\xc3"), "\\xff\\xc3"}, {STR("\xc2\x85"), "\\u0085"},
        {STR("\xf3\xa0\x80\x81"), "\\U000e0001"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf auto_buf b;
        buf_init(&b, 1024);
        cmd_text_put(&b, cases[i].text);
        assert_string_equal(buf_cstr(&b), cases[i].shown);
    }
}

static void
numbers_are_for_people(void **state)
{
    (void)state;
    struct buf auto_buf b;
    buf_init(&b, 1024);
    cmd_text_put_count(&b, 0);
    buf_putc(&b, '|');
    cmd_text_put_count(&b, 1000);
    buf_putc(&b, '|');
    cmd_text_put_count(&b, UINT64_MAX);
    buf_putc(&b, '|');
    cmd_text_put_bytes(&b, 1023);
    buf_putc(&b, '|');
    cmd_text_put_bytes(&b, 1536);
    buf_putc(&b, '|');
    cmd_text_put_bytes(&b, 5.0 * 1024 * 1024 * 1024);
    buf_putc(&b, '|');
    cmd_text_put_seconds(&b, 0.25);
    buf_putc(&b, '|');
    cmd_text_put_seconds(&b, 61);
    buf_putc(&b, '|');
    cmd_text_put_seconds(&b, 7200);
    assert_string_equal(buf_cstr(&b),
        "0|1,000|18,446,744,073,709,551,615|1023 B|1.5 KiB|5.0 GiB|0.2 s|61 s|2.0 h");
}

static void
columns_line_up(void **state)
{
    (void)state;
    static const char *const titles[] = {"NAME", "N", "LAST"};
    struct cmd_table t;
    struct buf auto_buf b;
    buf_init(&b, 65536);
    cmd_table_init(&t, 3, titles, "lrl");
    cmd_table_cell(&t, STR("é"));
    cmd_table_cell(&t, STR("1,000"));
    cmd_table_cell(&t, STR("x"));
    cmd_table_cell(&t, STR("longer name"));
    cmd_table_cell(&t, STR("2"));
    cmd_table_cell(&t, STR(""));
    cmd_table_cell(&t, STR("half a row"));
    cmd_table_render(&b, &t);
    cmd_table_fini(&t);
    assert_string_equal(buf_cstr(&b), "NAME             N  LAST\n"
                                      "é            1,000  x\n"
                                      "longer name      2  \n");
}

static void
show_lag(const char *text, struct buf *b)
{
    struct json *root;
    struct err e;
    assert_int_equal(json_parse(str_from(text), &root, &e), 0);
    cmd_lag_render(b, root);
    json_free(root);
}

static void
lag_is_one_page(void **state)
{
    (void)state;
    struct buf auto_buf b;
    buf_init(&b, 65536);
    show_lag(
        "{\"source\":{\"state\":\"retrying\",\"slot\":\"oneslot\",\"server_lsn\":\"0/2000\","
        "\"received_lsn\":\"0/1F00\",\"durable_lsn\":\"0/1F00\",\"acked_lsn\":\"0/1F00\","
        "\"lag_bytes\":256,\"retained_wal_bytes\":16777216,\"wal_status\":\"reserved\","
        "\"safe_wal_bytes\":null,\"last_error\":\"no \\u001b route\"},"
        "\"log\":{\"earliest\":{\"offset\":7,\"lsn\":\"0/1\",\"ts\":\"T1\"},\"tail\":"
        "{\"offset\":9,\"lsn\":\"0/2\",\"ts\":\"T2\"},\"records\":1234,\"bytes\":2048,"
        "\"segments\":2,\"disk_free_bytes\":1073741824},"
        "\"sinks\":[{\"name\":\"f\",\"kind\":\"file\",\"state\":\"running\",\"lsn\":\"0/2\","
        "\"records_behind\":1000,\"bytes_behind\":0,\"seconds_behind\":0.0,"
        "\"records_per_second\":812.5,\"eta_seconds\":null,\"dead_letters\":0,\"retries\":3,"
        "\"last_success\":null,\"last_error\":\"full\"}]}",
        &b);
    assert_string_equal(buf_cstr(&b),
        "source  retrying, slot oneslot, 256 B behind the server; WAL kept for us 16.0 MiB "
        "(reserved)\n"
        "        server 0/2000  received 0/1F00  durable 0/1F00  acknowledged 0/1F00\n"
        "        last error: no \\x1b route\n"
        "log     1,234 records, 2.0 KiB in segments: 2; free on its disk 1.0 GiB\n"
        "        earliest 7  0/1  T1\n"
        "        tail     9  0/2  T2\n"
        "\n"
        "SINK  KIND  STATE    BEHIND  BYTES   TIME  PER SECOND  ETA  DEAD  RETRIES  LSN  LAST "
        "SUCCESS\n"
        "f     file  running   1,000    0 B  0.0 s       812.5    -     0        3  0/2  -\n"
        "f: last error: full\n");
}

static void
lag_of_a_broker_that_knows_nothing_yet(void **state)
{
    (void)state;
    struct buf auto_buf b;
    buf_init(&b, 65536);
    show_lag("{\"source\":null,\"log\":{\"records\":0},\"sinks\":[]}", &b);
    assert_non_null(strstr(buf_cstr(&b), "source  -, slot -, - behind the server"));
    assert_non_null(strstr(buf_cstr(&b), "log     0 records, - in segments: -"));
    assert_non_null(strstr(buf_cstr(&b), "sinks   none\n"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_shown),
        cmocka_unit_test(a_line_cut_short_is_refused_at_every_byte),
        cmocka_unit_test(other_json_is_no_change),
        cmocka_unit_test(a_line_is_cut_to_the_terminal),
        cmocka_unit_test(wide_characters_take_two_columns),
        cmocka_unit_test(unsafe_text_is_escaped),
        cmocka_unit_test(numbers_are_for_people),
        cmocka_unit_test(columns_line_up),
        cmocka_unit_test(lag_is_one_page),
        cmocka_unit_test(lag_of_a_broker_that_knows_nothing_yet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
