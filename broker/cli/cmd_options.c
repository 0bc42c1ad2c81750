/* cmd_options: see cmd_options.h. Owns what an option is; knows no command. */
#include "broker/cli/cmd_options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/check.h"

enum { OPTIONS_MAX = 24, NAME_MAX_LEN = 32, LONG_BASE = 256 /* beyond every letter */ };

struct tables { /* for getopt_long */
    struct option longs[OPTIONS_MAX + 1];
    char shorts[2 * OPTIONS_MAX + 2];
    size_t n;
};

static bool
is_option(const struct cmd_option *o)
{
    return o->name != NULL && o->type != CMD_WORDS;
}

static size_t
max_words(const struct cmd_option *options)
{
    while (is_option(options)) {
        options++;
    }
    return options->name == NULL ? 0 : options->offset;
}

static bool
takes_value(const struct cmd_option *o)
{
    return o->type != CMD_FLAG;
}

static void
build_tables(const struct cmd_option *options, struct tables *t)
{
    char *s = t->shorts;
    *s++ = ':'; /* tell a missing value from an unknown option, and print nothing */
    for (t->n = 0; is_option(&options[t->n]); t->n++) {
        const struct cmd_option *o = &options[t->n];
        CHECK(t->n < OPTIONS_MAX);
        t->longs[t->n] = (struct option){.name = o->name,
            .has_arg = takes_value(o) ? required_argument : no_argument,
            .val = LONG_BASE + (int)t->n};
        if (o->letter != 0) {
            *s++ = o->letter;
            if (takes_value(o)) {
                *s++ = ':';
            }
        }
    }
    t->longs[t->n] = (struct option){0};
    *s = '\0';
}

static const struct cmd_option *
find_option(const struct cmd_option *options, int val)
{
    if (val >= LONG_BASE) {
        return &options[val - LONG_BASE];
    }
    for (const struct cmd_option *o = options; is_option(o); o++) {
        if (val != 0 && o->letter == val) {
            return o;
        }
    }
    return NULL;
}

static int
min3(int a, int b, int c)
{
    int m = a < b ? a : b;
    return m < c ? m : c;
}

bool
cmd_options_resembles(const char *given, const char *name)
{
    size_t n = strlen(name);
    size_t m = strlen(given);
    int row[NAME_MAX_LEN + 1];
    if (n > NAME_MAX_LEN || m > NAME_MAX_LEN || m < 2) {
        return false;
    }
    for (size_t j = 0; j <= n; j++) {
        row[j] = (int)j;
    }
    for (size_t i = 1; i <= m; i++) { /* Levenshtein's distance, one row kept */
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= n; j++) {
            int above = row[j];
            row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (given[i - 1] != name[j - 1]));
            diagonal = above;
        }
    }
    return row[n] <= (n <= 4 ? 1 : 2);
}

static int
unknown(const struct cmd_option *options, const char *command, const char *text, struct err *e)
{
    for (const struct cmd_option *o = options; is_option(o); o++) {
        if (strncmp(text, "--", 2) == 0 && o->type != CMD_NOT_YET &&
            cmd_options_resembles(text + 2, o->name)) {
            return err_set(e, ERR_USAGE,
                "unknown option %.60s; did you mean --%s? (`oneslot %s --help` lists them)",
                text, o->name, command);
        }
    }
    return err_set(e, ERR_USAGE,
        "unknown option %.60s; `oneslot %s --help` lists what there is", text, command);
}

/* getopt's '?' and ':', told apart by what it left in optopt. */
static int
refuse(const struct cmd_option *options, int val, char **argv, struct err *e)
{
    const struct cmd_option *o = find_option(options, optopt);
    char letter[3] = {'-', (char)optopt, '\0'};
    if (val == ':' && o != NULL) {
        return err_set(e, ERR_USAGE, "--%s needs a value, %s; see `oneslot %s --help`", o->name,
            o->arg, argv[0]);
    }
    if (o != NULL) {
        return err_set(
            e, ERR_USAGE, "--%s takes no value; see `oneslot %s --help`", o->name, argv[0]);
    }
    return unknown(options, argv[0], optopt != 0 ? letter : argv[optind - 1], e);
}

static int
store_count(const struct cmd_option *o, uint64_t *to, const char *text, struct err *e)
{
    char *end = NULL;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || n == 0) {
        return err_set(
            e, ERR_USAGE, "--%s must be a whole number from 1, not '%.40s'", o->name, text);
    }
    *to = n;
    return 0;
}

static int
store_option(const struct cmd_option *o, struct cmd_args *a, const char *text, struct err *e)
{
    char *at = (char *)a + o->offset;
    switch (o->type) {
    case CMD_FLAG:
        *(bool *)at = true;
        return 0;
    case CMD_TEXT:
        *(const char **)at = text;
        return 0;
    case CMD_COUNT:
        return store_count(o, (uint64_t *)at, text, e);
    case CMD_NOT_YET:
    case CMD_WORDS:
        break;
    }
    return err_set(e, ERR_UNSUPPORTED, "--%s (%s): not in this version", o->name, o->help);
}

int
cmd_options_parse(const struct cmd_option *options, int argc, char **argv, struct cmd_args *ret,
    struct err *e)
{
    struct tables t;
    struct cmd_args a = {.name = argv[0], .config = "oneslot.yaml"};
    build_tables(options, &t);
    optind = 0; /* glibc: begin anew */
    opterr = 0;
    for (;;) {
        int val = getopt_long(argc, argv, t.shorts, t.longs, NULL);
        if (val == -1) {
            break;
        }
        const struct cmd_option *o =
            val == '?' || val == ':' ? NULL : find_option(options, val);
        int rc = o == NULL ? refuse(options, val, argv, e) : store_option(o, &a, optarg, e);
        if (rc != 0) {
            return rc;
        }
    }
    a.word = argv + optind;
    a.nwords = optind < argc ? (size_t)(argc - optind) : 0;
    if (a.nwords > max_words(options)) {
        return err_set(e, ERR_USAGE, "unexpected argument '%.60s'; see `oneslot %s --help`",
            a.word[max_words(options)], argv[0]);
    }
    *ret = a;
    return 0;
}

void
cmd_options_help(struct buf *b, const struct cmd_option *options)
{
    for (const struct cmd_option *o = options; is_option(o); o++) {
        if (o->type == CMD_NOT_YET) {
            continue;
        }
        char left[64];
        const char letter[5] = {'-', o->letter, ',', ' ', '\0'};
        (void)snprintf(left, sizeof left, "%s--%s%s%s", o->letter != 0 ? letter : "    ",
            o->name, o->arg != NULL ? " " : "", o->arg != NULL ? o->arg : "");
        buf_printf(b, "  %-22s %s\n", left, o->help);
    }
}
