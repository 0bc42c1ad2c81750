/* cmd_verify: what a whole log must be beyond each of its segments. Pure. */
#ifndef ONESLOT_CLI_CMD_VERIFY_H
#define ONESLOT_CLI_CMD_VERIFY_H

#include "broker/cli/cmd_segcheck.h"

/* b follows a in the log: both whole, heads known. False when something lies between them that
 * is not there, or they belong to two logs; says so in b->msg and marks b damaged. */
bool cmd_verify_follows(const struct cmd_segcheck *a, struct cmd_segcheck *b);

#endif
