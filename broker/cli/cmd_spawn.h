/* cmd_spawn: other programs of oneslot as child processes: found beside this one, fork and
 * exec, no shell. */
#ifndef ONESLOT_CLI_CMD_SPAWN_H
#define ONESLOT_CLI_CMD_SPAWN_H

#include <sys/types.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"

/* The path of a program beside this one; NULL: this one. Owned by the caller. */
char *cmd_spawn_path(const char *program);
/* A supervised child: its own process group (a Ctrl-C reaches only the supervisor), ends with
 * us, ONESLOT_SUPERVISED=our pid. argv[0] is the path. */
int cmd_spawn_supervised(char *const argv[], pid_t *ret_pid, struct err *e) MUST_CHECK;
/* Runs argv to its end with our stderr; what it prints goes to out, or to our stdout when out
 * is NULL. *ret_status is its exit status (128 + signal; 127: cannot be run, said on stderr).
 */
int cmd_spawn_run(
    char *const argv[], struct buf *out, int *ret_status, struct err *e) MUST_CHECK;
/* The same, but what it says on stderr goes to out as well. */
int cmd_spawn_capture(
    char *const argv[], struct buf *out, int *ret_status, struct err *e) MUST_CHECK;

/* As cmd_spawn_capture, with `in` as its standard input. */
int cmd_spawn_feed(char *const argv[], struct str in, struct buf *out, int *ret_status,
    struct err *e) MUST_CHECK;

#endif
