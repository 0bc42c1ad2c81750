/* cmd_sinks: what only `oneslot-sink` knows of a configured sink: whether its options are
 * right, and their effective values. */
#ifndef ONESLOT_CLI_CMD_SINKS_H
#define ONESLOT_CLI_CMD_SINKS_H

#include "broker/cli/cmd.h"

struct config_sink;

enum { CMD_SINKS_OPTIONS_MAX = 1024 * 1024 };

/* CMD_DONE, or a complaint (the sink program's own, where the options are wrong) and the exit
 * status. Appends the effective options, YAML at an indent of 4, secrets masked; with --json a
 * line with all of the sink's configuration. */
int cmd_sinks_options(
    const struct cmd_args *a, const struct config_sink *sink, struct buf *out) MUST_CHECK;
/* Says nothing, but appends to detail whether its options are accepted, or why not: the exit
 * status. */
int cmd_sinks_judge(
    const struct cmd_args *a, const struct config_sink *sink, struct buf *detail) MUST_CHECK;
/* All sinks, the disabled ones too. */
int cmd_sinks_check(const struct cmd_args *a, const struct config *conf) MUST_CHECK;

#endif
