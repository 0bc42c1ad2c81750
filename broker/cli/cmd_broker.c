/* cmd_broker: `oneslot broker`: the log, the offsets and the HTTP API as one process. */
#include <malloc.h>

#include "broker/broker.h"
#include "broker/cli/cmd.h"
#include "proto/base/log.h"
#include "proto/base/sig.h"

enum { ARENAS = 2 }; /* of malloc: one per thread would keep memory that nobody needs */

static int
run(const struct cmd_args *a)
{
    struct config *conf;
    struct err e;
    if (!proc_tie_to_supervisor()) {
        return CMD_FAILED;
    }
    int status = cmd_load(a, &conf);
    if (status != CMD_DONE) {
        return status;
    }
    (void)mallopt(M_ARENA_MAX, ARENAS);
    log_init("broker", (enum log_level)conf->log_level);
    sig_init();
    if (broker_run(conf, &e) != 0) {
        status = cmd_complain(a, CMD_FAILED, "%s", e.msg);
    }
    config_free(conf);
    return status;
}

static const struct cmd_option options[] = {CMD_OPTION_CONFIG, CMD_OPTION_HELP, CMD_OPTION_END};

const struct cmd cmd_broker = {
    .name = "broker",
    .summary = "the log and the HTTP API alone (`run` starts it)",
    .synopsis = "[-c FILE]",
    .about =
        "The one process that opens the log: it takes changes from the replicator, makes them\n"
        "durable, keeps the sinks' offsets and serves the HTTP API on `listen` and on the "
        "socket\n"
        "DATA_DIR/oneslot.sock. A second broker on the same data_dir is refused. `oneslot "
        "run`\n"
        "starts it together with the others; on its own it is for service managers that look\n"
        "after each process themselves.\n",
    .examples = "  oneslot broker -c /etc/oneslot/oneslot.yaml\n",
    .options = options,
    .run = run,
};
