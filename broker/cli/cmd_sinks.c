/* cmd_sinks: see cmd_sinks.h. */
#include "broker/cli/cmd_sinks.h"

#include <string.h>

#include "broker/cli/cmd_spawn.h"
#include "proto/base/cleanup.h"
#include "proto/config.h"

int
cmd_sinks_options(const struct cmd_args *a, const struct config_sink *sink, struct buf *out)
{
    auto_free char *path = cmd_spawn_path("oneslot-sink");
    char *argv[] = {path, (char *)(a->json ? "--config-json" : "--config"), (char *)"-c",
        (char *)a->config, (char *)"--", (char *)sink->name, NULL};
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

/* "oneslot-sink: SENTENCE\n" as the sentence alone. */
static struct str
sentence_of(struct str said)
{
    static const char prefix[] = "oneslot-sink: ";
    if (said.n >= sizeof prefix - 1 && memcmp(said.p, prefix, sizeof prefix - 1) == 0) {
        said.p += sizeof prefix - 1;
        said.n -= sizeof prefix - 1;
    }
    while (said.n > 0 && said.p[said.n - 1] == '\n') {
        said.n--;
    }
    return said;
}

int
cmd_sinks_judge(const struct cmd_args *a, const struct config_sink *sink, struct buf *detail)
{
    auto_free char *path = cmd_spawn_path("oneslot-sink");
    char *argv[] = {path, (char *)"--config", (char *)"-c", (char *)a->config, (char *)"--",
        (char *)sink->name, NULL};
    auto_buf struct buf said;
    struct err e;
    int status = 0;
    buf_init(&said, CMD_SINKS_OPTIONS_MAX);
    if (cmd_spawn_capture(argv, &said, &status, &e) != 0) {
        buf_puts(detail, e.msg);
        return CMD_FAILED;
    }
    if (status == 0) {
        buf_puts(detail, "its options are accepted");
        return CMD_DONE;
    }
    if (status != CMD_CONFIG) {
        buf_printf(detail, "%s ended with status %d: ", path, status);
    }
    buf_put_str(detail, sentence_of(buf_str(&said)));
    return status == CMD_CONFIG ? CMD_CONFIG : CMD_FAILED;
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
