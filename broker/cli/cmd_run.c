/* cmd_run: `oneslot run`: everything, supervised, in the foreground. Owns what is checked
 * before anything is touched, and which children there are. */
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "broker/cli/cmd.h"
#include "broker/cli/cmd_sinks.h"
#include "broker/cli/cmd_spawn.h"
#include "broker/cli/cmd_supervise.h"
#include "proto/api.h"
#include "proto/base/cleanup.h"
#include "proto/base/fs.h"
#include "proto/base/log.h"
#include "proto/base/sig.h"
#include "proto/base/xmalloc.h"
#include "proto/config.h"

/* Strings of argv are owned by the child, but the literals' copies too: one rule. */
static void
set_child(struct cmd_child *c, const char *role, char *path, const char *const *args)
{
    size_t n = 0;
    c->role = xstrdup(role);
    c->argv[n++] = path;
    for (; args[n - 1] != NULL; n++) {
        c->argv[n] = xstrdup(args[n - 1]);
    }
}

static void
free_children(struct cmd_child *c, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(c[i].role);
        for (size_t k = 0; k < CMD_CHILD_ARGS; k++) {
            free(c[i].argv[k]);
        }
    }
    free(c);
}

/* The broker, the replicator, and a sink process per enabled sink. */
static struct cmd_child *
make_children(const struct config *conf, const char *file, size_t *ret_n)
{
    struct cmd_child *c = xcalloc(conf->nsinks + 2, sizeof *c);
    size_t n = 0;
    set_child(&c[n++], "broker", cmd_spawn_path(NULL),
        (const char *const[]){"broker", "-c", file, NULL});
    set_child(&c[n++], "replicator", cmd_spawn_path("oneslot-replicator"),
        (const char *const[]){"-c", file, NULL});
    for (size_t i = 0; i < conf->nsinks; i++) {
        if (conf->sinks[i].enabled) {
            auto_free char *role = xasprintf("sink:%s", conf->sinks[i].name);
            set_child(&c[n++], role, cmd_spawn_path("oneslot-sink"),
                (const char *const[]){"-c", file, "--", conf->sinks[i].name, NULL});
        }
    }
    *ret_n = n;
    return c;
}

static int
say_where(const struct cmd_args *a, const struct config *conf)
{
    auto_buf struct buf b;
    buf_init(&b, 16 * 1024);
    bool is_ipv6 = strchr(conf->listen_host, ':') != NULL;
    buf_printf(&b, "oneslot: the API is at http://%s%s%s:%u, and on the socket %s/%s\n",
        is_ipv6 ? "[" : "", conf->listen_host, is_ipv6 ? "]" : "", (unsigned)conf->listen_port,
        conf->data_dir, API_SOCKET);
    return cmd_print(a, buf_str(&b));
}

static int
supervise(const struct cmd_args *a, const struct config *conf, struct cmd_supervisor *s)
{
    struct err e;
    int rc = cmd_supervise_start(s, &e);
    if (rc == 0) {
        (void)say_where(a, conf); /* nobody reading stdout is no reason to end */
        cmd_supervise_run(s);
    }
    log_info("stopping", "reason=%s", sig_stop_requested() ? "signal" : "broker");
    cmd_supervise_stop(s);
    return rc == 0 || rc == ERR_STOPPING ? CMD_DONE : cmd_complain(a, CMD_FAILED, "%s", e.msg);
}

static int
run_configured(const struct cmd_args *a, const struct config *conf)
{
    int status = cmd_sinks_check(a, conf);
    if (status != CMD_DONE) {
        return status;
    }
    struct err e;
    struct cmd_supervisor s;
    size_t n;
    struct cmd_child *child = make_children(conf, a->config, &n);
    auto_free char *path = fs_join(conf->data_dir, API_SOCKET);
    log_init("run", (enum log_level)conf->log_level);
    sig_init();
    if (cmd_supervise_open(&s, child, n, path, &e) == 0) {
        status = supervise(a, conf, &s);
        cmd_supervise_close(&s);
    } else {
        status = cmd_complain(a, CMD_FAILED, "%s", e.msg);
    }
    free_children(child, n);
    return status;
}

static int
run(const struct cmd_args *a)
{
    struct config *conf;
    int status = cmd_load(a, &conf);
    if (status == CMD_DONE) {
        status = run_configured(a, conf);
        config_free(conf);
    }
    return status;
}

static const struct cmd_option options[] = {CMD_OPTION_CONFIG, CMD_OPTION_HELP, CMD_OPTION_END};

const struct cmd cmd_run = {
    .name = "run",
    .summary = "everything, supervised, in the foreground",
    .synopsis = "[-c FILE]",
    .about =
        "Starts the broker (the log and the HTTP API), the replicator (PostgreSQL to the log) "
        "and\n"
        "one process for every enabled sink, and starts each again when it ends, after 100 ms "
        "at\n"
        "first, 10 s at most. The configuration and every sink's options are checked before\n"
        "anything is touched (exit status 78). A source or a target that is down is no reason "
        "to\n"
        "end: `oneslot lag` shows it. If the broker cannot start the first time (another one "
        "runs,\n"
        "the port is taken, the disk is not safe, the log is damaged), it ends with status 1.\n"
        "\n"
        "Ctrl-C, SIGTERM and SIGHUP (not under nohup) end it: sinks and replicator first, "
        "then\n"
        "the broker. Killing any of the processes, this one too, loses nothing.\n",
    .examples = "  oneslot run\n"
                "  oneslot run -c /etc/oneslot/oneslot.yaml\n",
    .options = options,
    .run = run,
};
