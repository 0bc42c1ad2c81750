/* cmd_check: `oneslot check`: the preflight. libpq stays in the replicator, options of a kind
 * in the sink program: both are asked as programs. */
#include "broker/cli/cmd.h"
#include "broker/cli/cmd_sinks.h"
#include "broker/cli/cmd_spawn.h"
#include "proto/base/cleanup.h"
#include "proto/config.h"

static int
check_source(const struct cmd_args *a)
{
    auto_free char *path = cmd_spawn_path("oneslot-replicator");
    char *argv[] = {path, (char *)"--check", (char *)"-c", (char *)a->config,
        a->json ? (char *)"--json" : NULL, NULL};
    struct err e;
    return cmd_spawn_become(argv, &e) == 0 ? CMD_DONE
                                           : cmd_complain(a, CMD_FAILED, "%s", e.msg);
}

/* In the form of the replicator's lines, which follow. */
static int
say_sinks(const struct cmd_args *a, const struct config *conf)
{
    auto_buf struct buf b;
    buf_init(&b, CMD_SINKS_OPTIONS_MAX);
    for (size_t i = 0; i < conf->nsinks && !a->json; i++) {
        buf_printf(
            &b, "ok    %-12s %s: its options are accepted\n", "sink", conf->sinks[i].name);
    }
    return cmd_print(a, buf_str(&b));
}

static int
run(const struct cmd_args *a)
{
    struct config *conf;
    int status = cmd_load(a, &conf);
    if (status == CMD_DONE) {
        status = cmd_sinks_check(a, conf);
        if (status == CMD_DONE) {
            status = say_sinks(a, conf);
        }
        config_free(conf);
    }
    return status == CMD_DONE ? check_source(a) : status;
}

static const struct cmd_option options[] = {
    CMD_OPTION_CONFIG, CMD_OPTION_JSON, CMD_OPTION_HELP, CMD_OPTION_END};

const struct cmd cmd_check = {
    .name = "check",
    .summary = "preflight: what is wrong, and the SQL that mends it",
    .synopsis = "[-c FILE] [--json]",
    .about =
        "Looks at the configuration, every sink's options, and the source: server, role, "
        "wal_level,\n"
        "slots, publication, and tables whose UPDATEs would fail once they are published. It "
        "says\n"
        "for each what is wrong and the SQL that mends it. It changes nothing and needs no "
        "broker.\n"
        "Exit status 1 when something has to be mended, 78 when the configuration is wrong.\n",
    .examples = "  oneslot check\n"
                "  oneslot check --json | jq '.checks[] | select(.result != \"ok\")'\n",
    .options = options,
    .run = run,
};
