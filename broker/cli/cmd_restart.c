/* cmd_restart: see cmd_restart.h. */
#include "broker/cli/cmd_restart.h"

#include <sys/wait.h>

#include "broker/cli/cmd.h"

bool
cmd_restart_is_refusal(int status)
{
    return WIFEXITED(status) &&
           (WEXITSTATUS(status) == CMD_CONFIG || WEXITSTATUS(status) == CMD_USAGE);
}

int64_t
cmd_restart_delay_ms(struct backoff *b, int status, int64_t up_ms)
{
    if (up_ms >= CMD_RESTART_STEADY_MS) {
        backoff_reset(b);
    }
    int64_t delay = backoff_next_ms(b);
    return cmd_restart_is_refusal(status) ? CMD_RESTART_MAX_MS : delay;
}
