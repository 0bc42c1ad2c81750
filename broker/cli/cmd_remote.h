/* cmd_remote: a command's way to a running broker: --url, or the socket of the configured
 * data_dir; and what its errors mean for the exit status. */
#ifndef ONESLOT_CLI_CMD_REMOTE_H
#define ONESLOT_CLI_CMD_REMOTE_H

#include "broker/cli/cmd.h"
#include "broker/client/client.h"

struct cmd_remote {
    struct client *client;
    char *where; /* for messages: the URL or the socket's path */
};

/* CMD_DONE, or a complaint and the exit status. Nothing is connected yet. Calls end when
 * sig_stop_requested(): sig_init() first. */
int cmd_remote_open(const struct cmd_args *a, struct cmd_remote *ret) MUST_CHECK;
void cmd_remote_close(struct cmd_remote *r);
/* Says what e was; returns the exit status: CMD_UNREACHABLE also for a broker that is there,
 * but does not answer in time. ERR_STOPPING (Ctrl-C) says nothing: CMD_DONE. */
int cmd_remote_complain(
    const struct cmd_args *a, const struct cmd_remote *r, const struct err *e);
/* GET path and append the JSON as it came, with a line break at its end. */
int cmd_remote_get_raw(
    struct cmd_remote *r, const char *path, struct buf *to, struct err *e) MUST_CHECK;
/* Whether the broker may be back soon: not there, restarting, or busy. */
bool cmd_remote_is_away(const struct err *e);

#endif
