/* cmd_restart: when a child that ended is started again. Pure. */
#ifndef ONESLOT_CLI_CMD_RESTART_H
#define ONESLOT_CLI_CMD_RESTART_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/backoff.h"

enum {
    CMD_RESTART_MIN_MS = 100,
    CMD_RESTART_MAX_MS = 10 * 1000,
    CMD_RESTART_STEADY_MS = 30 * 1000 /* up so long: the next delay begins at the least again */
};

/* status is waitpid's. The delay before the next start. */
int64_t cmd_restart_delay_ms(struct backoff *b, int status, int64_t up_ms);
/* It ended because of its configuration or command line (78, 2): a person must act. */
bool cmd_restart_is_refusal(int status);

#endif
