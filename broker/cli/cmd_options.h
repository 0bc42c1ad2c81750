/* cmd_options: command lines by tables: parsing (getopt_long) and the text of --help. */
#ifndef ONESLOT_CLI_CMD_OPTIONS_H
#define ONESLOT_CLI_CMD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"

/* What any command may be told. Strings are views into argv. */
struct cmd_args {
    const char *name; /* of the command */
    const char *config, *url;
    const char *from, *until, *tables, *ops; /* NULL: not given */
    uint64_t limit;                          /* 0: none */
    uint64_t expect;                         /* 0: not given */
    bool help, json, watch, follow, yes, dry_run, skip, all;
    char **word; /* what is no option, where the command takes such */
    size_t nwords;
};

enum cmd_option_type {
    CMD_FLAG,
    CMD_TEXT,
    CMD_COUNT,   /* a number from 1 */
    CMD_NOT_YET, /* named in interface.md: refused, and not in --help */
    CMD_WORDS    /* the last entry of a command that takes arguments without dashes, `offset` of
                    them at most */
};

struct cmd_option {
    const char *name; /* without the dashes */
    char letter;      /* 0: none */
    enum cmd_option_type type;
    size_t offset;   /* into struct cmd_args */
    const char *arg; /* what --help calls the value */
    const char *help;
};

#define CMD_OPTION_HELP                                                                        \
    {                                                                                          \
        "help", 'h', CMD_FLAG, offsetof(struct cmd_args, help), NULL, "this text"              \
    }
#define CMD_OPTION_CONFIG                                                                      \
    {                                                                                          \
        "config", 'c', CMD_TEXT, offsetof(struct cmd_args, config), "FILE",                    \
            "the configuration (default: oneslot.yaml)"                                        \
    }
#define CMD_OPTION_JSON                                                                        \
    {                                                                                          \
        "json", 0, CMD_FLAG, offsetof(struct cmd_args, json), NULL, "for programs"             \
    }
#define CMD_OPTION_URL                                                                         \
    {                                                                                          \
        "url", 0, CMD_TEXT, offsetof(struct cmd_args, url), "URL",                             \
            "of a broker (default: the socket in data_dir)"                                    \
    }
#define CMD_OPTION_TOKEN                                                                       \
    {                                                                                          \
        "token-file", 0, CMD_NOT_YET, 0, "FILE", "access control"                              \
    }
#define CMD_OPTION_WORDS(max)                                                                  \
    {                                                                                          \
        "", 0, CMD_WORDS, (max), NULL, NULL                                                    \
    }
#define CMD_OPTION_END                                                                         \
    {                                                                                          \
        0                                                                                      \
    }

/* argv[0] is the command's name. ERR_USAGE, or ERR_UNSUPPORTED; the sentence has a hint.
 * Options end with a NULL name. */
int cmd_options_parse(const struct cmd_option *options, int argc, char **argv,
    struct cmd_args *ret, struct err *e) MUST_CHECK;
/* One line per option, as --help shows them. */
void cmd_options_help(struct buf *b, const struct cmd_option *options);
/* Whether two names are so close that one is likely a slip of the other. */
bool cmd_options_resembles(const char *given, const char *name);

#endif
