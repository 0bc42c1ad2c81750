/* cmd_options: every form of an option, every refusal with its hint, and the help made of the
 * same table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "broker/cli/cmd.h"

static int
parse(const char *const *args, struct cmd_args *ret, struct err *e)
{
    char *argv[12];
    int argc = 0;
    for (; args[argc] != NULL; argc++) {
        argv[argc] = (char *)args[argc];
    }
    argv[argc] = NULL;
    return cmd_options_parse(cmd_tail.options, argc, argv, ret, e);
}

#define PARSE(ret, e, ...) parse((const char *const[]){"tail", __VA_ARGS__, NULL}, (ret), (e))

static void
defaults_are_those_of_help(void **state)
{
    (void)state;
    struct cmd_args a;
    struct err e;
    assert_int_equal(parse((const char *const[]){"tail", NULL}, &a, &e), 0);
    assert_string_equal(a.config, "oneslot.yaml");
    assert_string_equal(a.name, "tail");
    assert_null(a.from);
    assert_null(a.url);
    assert_int_equal(a.limit, 0);
    assert_false(a.json || a.follow || a.help || a.watch || a.yes);
}

static void
every_form_is_taken(void **state)
{
    (void)state;
    struct cmd_args a;
    struct err e;
    assert_int_equal(PARSE(&a, &e, "-f", "-c", "x.yaml", "--from=0/16B3748", "--until",
                         "latest", "--limit", "12", "--json"),
        0);
    assert_true(a.follow && a.json);
    assert_string_equal(a.config, "x.yaml");
    assert_string_equal(a.from, "0/16B3748");
    assert_string_equal(a.until, "latest");
    assert_int_equal(a.limit, 12);
    assert_int_equal(PARSE(&a, &e, "-fcy.yaml", "--url", "http://h:1", "--ops", "insert",
                         "--tables", "a.*,b.c"),
        0);
    assert_true(a.follow);
    assert_string_equal(a.config, "y.yaml");
    assert_string_equal(a.url, "http://h:1");
    assert_string_equal(a.ops, "insert");
    assert_string_equal(a.tables, "a.*,b.c");
    assert_int_equal(PARSE(&a, &e, "-h"), 0);
    assert_true(a.help);
}

static void
refusals_say_what_and_where_to_look(void **state)
{
    (void)state;
    static const struct {
        const char *args[4];
        int code;
        const char *says;
    } cases[] = {
        {{"--frm", "x"}, ERR_USAGE, "unknown option --frm; did you mean --from?"},
        {{"--zebra"}, ERR_USAGE, "unknown option --zebra; `oneslot tail --help`"},
        {{"-x"}, ERR_USAGE, "unknown option -x; `oneslot tail --help`"},
        {{"-fx"}, ERR_USAGE, "unknown option -x"},
        {{"--from"}, ERR_USAGE, "--from needs a value, POS"},
        {{"-c"}, ERR_USAGE, "--config needs a value, FILE"},
        {{"--json=1"}, ERR_USAGE, "--json takes no value"},
        {{"--limit", "0"}, ERR_USAGE, "--limit must be a whole number from 1"},
        {{"--limit", "-3"}, ERR_USAGE, "--limit must be a whole number from 1"},
        {{"--limit", "3x"}, ERR_USAGE, "--limit must be a whole number from 1"},
        {{"--limit", "99999999999999999999999"}, ERR_USAGE, "--limit must be"},
        {{"stray"}, ERR_USAGE, "unexpected argument 'stray'"},
        {{"--", "-f"}, ERR_USAGE, "unexpected argument '-f'"},
        {{"--token-file", "t"}, ERR_UNSUPPORTED, "not in this version"},
        {{"--u", "x"}, ERR_USAGE, "unknown option --u"}, /* url or until? */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cmd_args a = {.name = "untouched"};
        struct err e = {0};
        const char *args[6] = {"tail"};
        memcpy(args + 1, cases[i].args, sizeof cases[i].args);
        assert_int_equal(parse(args, &a, &e), cases[i].code);
        assert_string_equal(a.name, "untouched");
        if (strstr(e.msg, cases[i].says) == NULL) {
            fail_msg("case %zu: '%s' does not say '%s'", i, e.msg, cases[i].says);
        }
    }
}

static void
words_come_where_they_are_taken(void **state)
{
    (void)state;
    struct cmd_args a;
    struct err e;
    char *args[] = {(char *)"replay", (char *)"search", (char *)"--from", (char *)"earliest",
        (char *)"--skip", (char *)"more", NULL};
    assert_int_equal(cmd_options_parse(cmd_replay.options, 6, args, &a, &e), ERR_USAGE);
    assert_non_null(strstr(e.msg, "'more'"));
    args[5] = NULL;
    assert_int_equal(cmd_options_parse(cmd_replay.options, 5, args, &a, &e), 0);
    assert_int_equal(a.nwords, 1);
    assert_string_equal(a.word[0], "search");
    assert_true(a.skip);
}

static void
help_shows_what_is_there_and_only_that(void **state)
{
    (void)state;
    struct buf auto_buf b;
    buf_init(&b, 65536);
    cmd_help(&b, &cmd_tail);
    const char *text = buf_cstr(&b);
    for (const struct cmd_option *o = cmd_tail.options; o->name != NULL; o++) {
        char dashed[40];
        (void)snprintf(dashed, sizeof dashed, " --%s", o->name);
        assert_int_equal(strstr(text, dashed) != NULL, o->type != CMD_NOT_YET);
    }
    assert_non_null(strstr(text, "Examples:"));
    assert_non_null(strstr(text, "  -f, --follow "));
    assert_non_null(strstr(text, "      --from POS "));
}

/* Every command teaches: lines that fit a terminal, -c, --help, an example. */
static void
help_of_every_command_fits(void **state)
{
    (void)state;
    static const struct cmd *const all[] = {&cmd_run, &cmd_broker, &cmd_check, &cmd_config,
        &cmd_lag, &cmd_tail, &cmd_sinks, &cmd_replay, &cmd_letters, &cmd_verify, &cmd_uninstall,
        &cmd_version};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct buf auto_buf b;
        buf_init(&b, 65536);
        cmd_help(&b, all[i]);
        const char *p = buf_cstr(&b);
        assert_non_null(strstr(p, "--config FILE"));
        assert_non_null(strstr(p, "--help"));
        assert_non_null(strstr(all[i]->examples, all[i]->name));
        while (*p != '\0') {
            size_t n = strcspn(p, "\n");
            if (n > 100) {
                fail_msg("%s: a line of %zu columns: %.40s", all[i]->name, n, p);
            }
            p += n + (p[n] == '\n');
        }
    }
}

static void
slips_are_recognised(void **state)
{
    (void)state;
    assert_true(cmd_options_resembles("tial", "tail") == false); /* two edits in four letters */
    assert_true(cmd_options_resembles("tails", "tail"));
    assert_true(cmd_options_resembles("verfy", "verify"));
    assert_true(cmd_options_resembles("unistall", "uninstall"));
    assert_false(cmd_options_resembles("x", "run"));
    assert_false(cmd_options_resembles("status", "lag"));
    assert_false(cmd_options_resembles(
        "a name that is far too long to be any option of ours", "config"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_help),
        cmocka_unit_test(every_form_is_taken),
        cmocka_unit_test(refusals_say_what_and_where_to_look),
        cmocka_unit_test(words_come_where_they_are_taken),
        cmocka_unit_test(help_shows_what_is_there_and_only_that),
        cmocka_unit_test(help_of_every_command_fits),
        cmocka_unit_test(slips_are_recognised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
