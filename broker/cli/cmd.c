/* cmd: see cmd.h. Owns the table of commands and the exit status of bad usage. */
#include "broker/cli/cmd.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/config.h"

static const struct cmd *const commands[] = {&cmd_run, &cmd_check, &cmd_lag, &cmd_tail,
    &cmd_sinks, &cmd_replay, &cmd_letters, &cmd_verify, &cmd_config, &cmd_broker,
    &cmd_uninstall, &cmd_version};
enum { COMMANDS = sizeof commands / sizeof *commands, HELP_MAX = 64 * 1024 };

/* Named in design/interface.md, built later. */
static const char *const not_yet[] = {"backfill", "backup"};
enum { NOT_YET = sizeof not_yet / sizeof *not_yet };

int
cmd_complain(const struct cmd_args *a, int status, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    (void)fprintf(stderr, "oneslot %s: %s\n", a->name, text);
    return status;
}

int
cmd_print(const struct cmd_args *a, struct str text)
{
    if ((text.n == 0 || fwrite(text.p, 1, text.n, stdout) == text.n) && fflush(stdout) == 0) {
        return CMD_DONE;
    }
    if (errno == EPIPE) {
        return CMD_FAILED;
    }
    /* lint:allow strerror: a program of one thread */
    return cmd_complain(a, CMD_FAILED, "cannot write to standard output: %s", strerror(errno));
}

int
cmd_ask(const struct cmd_args *a, const char *question, const char *otherwise)
{
    char answer[8];
    if (a->yes) {
        return CMD_DONE;
    }
    if (!isatty(STDIN_FILENO)) {
        return cmd_complain(a, CMD_USAGE, "nobody is there to ask; say --yes");
    }
    (void)printf("%s [y/N] ", question);
    (void)fflush(stdout);
    if (fgets(answer, sizeof answer, stdin) != NULL &&
        (strcmp(answer, "y\n") == 0 || strcmp(answer, "yes\n") == 0)) {
        return CMD_DONE;
    }
    return cmd_complain(a, CMD_FAILED, "%s", otherwise);
}

int
cmd_load(const struct cmd_args *a, struct config **ret)
{
    struct err e;
    return config_load(a->config, ret, &e) == 0 ? CMD_DONE
                                                : cmd_complain(a, CMD_CONFIG, "%s", e.msg);
}

void
cmd_help(struct buf *b, const struct cmd *c)
{
    buf_printf(b, "Usage: oneslot %s %s\n\n%s\nOptions:\n", c->name, c->synopsis, c->about);
    cmd_options_help(b, c->options);
    buf_printf(b, "\nExamples:\n%s", c->examples);
    if (c->more_help != NULL) {
        c->more_help(b);
    }
}

static void
put_overview(struct buf *b)
{
    buf_puts(b,
        "Usage: oneslot COMMAND [OPTIONS]\n\n"
        "One replication slot, every sink: changes of a PostgreSQL database in a durable "
        "log,\nreadable again from any LSN.\n\nCommands:\n");
    for (size_t i = 0; i < COMMANDS; i++) {
        buf_printf(b, "  %-13s %s\n", commands[i]->name, commands[i]->summary);
    }
    buf_puts(b, "\n`oneslot COMMAND --help` explains one. All take -c FILE (default: "
                "oneslot.yaml).\n\n"
                "Exit status: 0 done, 1 failed, 2 bad usage, 69 broker unreachable, 78 bad "
                "configuration.\n");
}

static int
print_help(const struct cmd_args *a, const struct cmd *c)
{
    auto_buf struct buf b;
    buf_init(&b, HELP_MAX);
    if (c != NULL) {
        cmd_help(&b, c);
    } else {
        put_overview(&b);
    }
    return cmd_print(a, buf_str(&b));
}

static int
unknown_command(const char *name)
{
    for (size_t i = 0; i < NOT_YET; i++) {
        if (strcmp(name, not_yet[i]) == 0) {
            (void)fprintf(stderr, "oneslot %s: not in this version\n", name);
            return CMD_USAGE;
        }
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (cmd_options_resembles(name, commands[i]->name)) {
            (void)fprintf(stderr,
                "oneslot: unknown command %.60s; did you mean %s? (`oneslot --help` lists "
                "them)\n",
                name, commands[i]->name);
            return CMD_USAGE;
        }
    }
    (void)fprintf(
        stderr, "oneslot: unknown command %.60s; `oneslot --help` lists what there is\n", name);
    return CMD_USAGE;
}

static int
run_command(const struct cmd *c, int argc, char **argv)
{
    struct cmd_args a = {.name = c->name};
    struct err e;
    if (cmd_options_parse(c->options, argc, argv, &a, &e) != 0) {
        return cmd_complain(&a, CMD_USAGE, "%s", e.msg);
    }
    if (a.help && a.nwords > 0 && c->help_on != NULL) {
        return c->help_on(&a);
    }
    return a.help ? print_help(&a, c) : c->run(&a);
}

static const struct cmd *
find_command(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(name, commands[i]->name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

int
cmd_main(int argc, char **argv)
{
    const struct cmd_args whole = {.name = "--help"};
    (void)signal(
        SIGCHLD, SIG_DFL); /* ignored by whoever started us, ends of children would be lost */
    if (argc < 2) {
        (void)fprintf(stderr, "oneslot: which command? `oneslot --help` lists them\n");
        return CMD_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        const struct cmd *about = argc > 2 ? find_command(argv[2]) : NULL;
        return argc > 2 && about == NULL ? unknown_command(argv[2]) : print_help(&whole, about);
    }
    const struct cmd *c = find_command(strcmp(name, "--version") == 0 ? "version" : name);
    return c != NULL ? run_command(c, argc - 1, argv + 1) : unknown_command(name);
}
