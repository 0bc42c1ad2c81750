/* cmd_supervise: keeps child processes alive: the first one is the broker, whose first start
 * must succeed; the others follow it, and every one that ends is started again with backoff.
 * One thread, no environment of LMDB is ever open here. */
#ifndef ONESLOT_CLI_CMD_SUPERVISE_H
#define ONESLOT_CLI_CMD_SUPERVISE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/base/backoff.h"
#include "proto/base/err.h"

enum { CMD_CHILD_ARGS = 6 };

struct cmd_child {
    char *role; /* "broker", "replicator", "sink:NAME": logged as it is */
    char *argv[CMD_CHILD_ARGS];
    pid_t pid; /* 0: not running */
    int64_t started_ms, due_ms;
    struct backoff backoff;
};

struct cmd_supervisor {
    struct cmd_child *child; /* [0]: the broker */
    size_t n;
    char *socket; /* the broker's, by which it says that it is there */
    int chld_fd;  /* signalfd of SIGCHLD */
    bool is_up;   /* the broker came up: who ends is started again */
};

/* The children's argv are taken from `child` (owned by the caller until after the end). Call
 * sig_init() first. */
int cmd_supervise_open(struct cmd_supervisor *s, struct cmd_child *child, size_t n,
    const char *socket, struct err *e) MUST_CHECK;
void cmd_supervise_close(struct cmd_supervisor *s);
/* Starts the broker and waits until it answers. ERR_STOPPING: a signal came first; any other
 * error: it did not come up. */
int cmd_supervise_start(struct cmd_supervisor *s, struct err *e) MUST_CHECK;
/* Starts the others and keeps all alive until a signal asks to stop. */
void cmd_supervise_run(struct cmd_supervisor *s);
/* Ends everything: the broker last. */
void cmd_supervise_stop(struct cmd_supervisor *s);

#endif
