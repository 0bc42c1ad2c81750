/* cmd: the commands of `oneslot`: one table {name, what it does, options, run}, from which
 * dispatch and every --help are made. A command returns its exit status and has said on stderr
 * why it is not CMD_DONE. */
#ifndef ONESLOT_CLI_CMD_H
#define ONESLOT_CLI_CMD_H

#include "broker/cli/cmd_options.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/proc.h"

enum cmd_status {
    CMD_DONE = PROC_DONE,
    CMD_FAILED = PROC_FAILED,
    CMD_USAGE = PROC_USAGE,
    CMD_UNREACHABLE = PROC_UNAVAILABLE,
    CMD_CONFIG = PROC_CONFIG
};

struct cmd {
    const char *name, *summary;
    const char *synopsis; /* what follows `oneslot NAME` */
    const char *about;    /* paragraphs of at most 78 columns */
    const char *examples; /* lines with their indent */
    const struct cmd_option *options;
    void (*more_help)(struct buf *b); /* NULL: none */
    /* --help with a word: help on that; NULL: the word is passed over */
    int (*help_on)(const struct cmd_args *a);
    int (*run)(const struct cmd_args *a);
};

extern const struct cmd cmd_run, cmd_broker, cmd_check, cmd_config, cmd_lag, cmd_tail,
    cmd_replay, cmd_sinks, cmd_letters, cmd_verify, cmd_uninstall, cmd_version;

/* The program: returns its exit status. */
int cmd_main(int argc, char **argv);
/* The help of one command, as --help prints it. */
void cmd_help(struct buf *b, const struct cmd *c);
/* "oneslot NAME: SENTENCE" on stderr; returns status. */
int cmd_complain(const struct cmd_args *a, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Writes to stdout and flushes: CMD_DONE, or a complaint and CMD_FAILED. A reader that has gone
 * (a closed pipe) has seen enough: no complaint, and CMD_FAILED all the same. */
int cmd_print(const struct cmd_args *a, struct str text);

/* Asks a person on the terminal: CMD_DONE for y or yes (and with --yes, unasked). CMD_USAGE
 * where nobody is there to ask; anything else: the complaint `otherwise` and CMD_FAILED. */
int cmd_ask(const struct cmd_args *a, const char *question, const char *otherwise) MUST_CHECK;

struct config;
/* Loads a->config: CMD_DONE and *ret owned, or a complaint and CMD_CONFIG. */
int cmd_load(const struct cmd_args *a, struct config **ret) MUST_CHECK;

#endif
