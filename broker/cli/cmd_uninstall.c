/* cmd_uninstall: `oneslot uninstall`: drops slot and publication. */
#include <unistd.h>

#include "broker/cli/cmd.h"
#include "broker/cli/cmd_spawn.h"
#include "proto/base/cleanup.h"
#include "proto/config.h"

/* Held to the end, so that no broker starts meanwhile. Without a data folder there is none. */
static int
keep_brokers_out(const struct cmd_args *a, const struct config *conf, int *ret_fd)
{
    struct err e;
    if (access(conf->data_dir, F_OK) != 0) {
        return CMD_DONE;
    }
    int rc = proc_lock(conf->data_dir, "LOCK", "uninstall", 0, ret_fd, &e);
    if (rc == ERR_LOCKED) {
        return cmd_complain(a, CMD_FAILED,
            "a broker runs on %s; stop oneslot first (Ctrl-C or SIGTERM to `oneslot run`). %s",
            conf->data_dir, e.msg);
    }
    return rc == 0 ? CMD_DONE : cmd_complain(a, CMD_FAILED, "%s", e.msg);
}

static int
ask(const struct cmd_args *a, const struct config *conf)
{
    auto_buf struct buf question;
    buf_init(&question, 64 * 1024);
    buf_printf(&question,
        "Drop the slot %s and the publication %s? The publication goes also if oneslot only "
        "found it. Changes from now on are lost to oneslot; the log in %s stays.",
        conf->source.slot, conf->source.publication, conf->data_dir);
    return cmd_ask(a, buf_cstr(&question), "nothing was dropped");
}

static int
drop(const struct cmd_args *a)
{
    auto_free char *path = cmd_spawn_path("oneslot-replicator");
    char *argv[] = {path, (char *)"--drop", (char *)"-c", (char *)a->config,
        a->json ? (char *)"--json" : NULL, NULL};
    struct err e;
    int status = CMD_FAILED;
    return cmd_spawn_run(argv, NULL, &status, &e) == 0
               ? status
               : cmd_complain(a, CMD_FAILED, "%s", e.msg);
}

static int
run(const struct cmd_args *a)
{
    struct config *conf;
    auto_close int lock = -1;
    int status = cmd_load(a, &conf);
    if (status != CMD_DONE) {
        return status;
    }
    status = keep_brokers_out(a, conf, &lock);
    if (status == CMD_DONE) {
        status = ask(a, conf);
    }
    config_free(conf);
    return status == CMD_DONE ? drop(a) : status;
}

static const struct cmd_option options[] = {
    {"yes", 'y', CMD_FLAG, offsetof(struct cmd_args, yes), NULL, "do not ask"}, CMD_OPTION_JSON,
    CMD_OPTION_CONFIG, CMD_OPTION_HELP, CMD_OPTION_END};

const struct cmd cmd_uninstall = {
    .name = "uninstall",
    .summary = "drop slot and publication, after asking",
    .synopsis = "[--yes] [--json] [-c FILE]",
    .about = "Drops the replication slot and the publication that the configuration names,\n"
             "also a publication that oneslot did not create but found; one that belongs to\n"
             "another role stays, and the SQL for its owner is printed (exit status 1).\n"
             "Do this before you throw oneslot away: a forgotten slot keeps WAL until the\n"
             "source's disk is full. Stop `oneslot run` first. data_dir stays; remove it by\n"
             "hand.\n",
    .examples = "  oneslot uninstall\n"
                "  oneslot uninstall --yes -c /etc/oneslot/oneslot.yaml\n",
    .options = options,
    .run = run,
};
