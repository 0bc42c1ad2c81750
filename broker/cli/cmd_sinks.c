/* cmd_sinks: see cmd_sinks.h. */
#include "broker/cli/cmd_sinks.h"

#include "broker/cli/cmd_spawn.h"
#include "proto/base/cleanup.h"
#include "proto/config.h"

int
cmd_sinks_options(const struct cmd_args *a, const struct config_sink *sink, struct buf *out)
{
    auto_free char *path = cmd_spawn_path("oneslot-sink");
    char *argv[] = {
        path, (char *)sink->name, (char *)"-c", (char *)a->config, (char *)"--config", NULL};
    struct err e;
    int status = 0;
    if (cmd_spawn_run(argv, out, &status, &e) != 0) {
        return cmd_complain(a, CMD_FAILED, "%s", e.msg);
    }
    if (status == CMD_CONFIG) {
        return CMD_CONFIG; /* it has said where and why */
    }
    return status == 0
               ? CMD_DONE
               : cmd_complain(a, CMD_FAILED, "cannot check sink %s: %s ended with status %d",
                     sink->name, path, status);
}

int
cmd_sinks_check(const struct cmd_args *a, const struct config *conf)
{
    for (size_t i = 0; i < conf->nsinks; i++) {
        auto_buf struct buf ignored;
        buf_init(&ignored, CMD_SINKS_OPTIONS_MAX);
        int status = cmd_sinks_options(a, &conf->sinks[i], &ignored);
        if (status != CMD_DONE) {
            return status;
        }
    }
    return CMD_DONE;
}
