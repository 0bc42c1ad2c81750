/* oneslot-replicator: the process between PostgreSQL and the broker. Only wires: arguments,
 * configuration, lock, source; or the preflight, or the removal of slot and publication. */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/cleanup.h"
#include "proto/base/log.h"
#include "proto/base/proc.h"
#include "proto/base/sig.h"
#include "proto/config.h"
#include "replicator/preflight.h"
#include "replicator/source.h"

enum { LOCK_WAIT_MS = 10000 }; /* a former process is on its way out */
/* Above what libcurl allocates for each batch (proto/base/httpc.c): else each is mapped,
 * touched and unmapped, a tenth of our time. */
enum { ARENAS = 2, MMAP_THRESHOLD = 1 << 20 };

static const char usage[] =
    "Usage: oneslot-replicator [-c FILE]                  read PostgreSQL into the log\n"
    "       oneslot-replicator --check [-c FILE] [--json] preflight of the source; changes "
    "nothing\n"
    "       oneslot-replicator --tables [-c FILE]         the tables that are or would be "
    "published\n"
    "       oneslot-replicator --drop [-c FILE] [--json]  drop slot and publication\n"
    "       oneslot-replicator --help | --version\n"
    "\n"
    "  -c FILE   the configuration (default: oneslot.yaml)\n"
    "  --json    for programs\n"
    "\n"
    "`oneslot run` starts it beside the broker, whose socket in data_dir it needs; `oneslot "
    "check` and\n"
    "`oneslot uninstall` call it with --check, --tables and --drop, which need no broker.\n"
    "\n"
    "Exit status: 0 done, 1 failed, 2 bad usage, 69 no broker here, 78 bad configuration.\n";

struct args {
    const char *config;
    bool check, tables, drop, json, help, version;
};

static int
bad_usage(const char *what, const char *arg)
{
    (void)fprintf(
        stderr, "oneslot-replicator: %s: %s; see oneslot-replicator --help\n", what, arg);
    return PROC_USAGE;
}

static bool *
find_flag(struct args *a, const char *option)
{
    struct {
        const char *name;
        bool *flag;
    } flags[] = {{"--check", &a->check}, {"--tables", &a->tables}, {"--drop", &a->drop},
        {"--json", &a->json}, {"--help", &a->help}, {"-h", &a->help},
        {"--version", &a->version}};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcmp(option, flags[i].name) == 0) {
            return flags[i].flag;
        }
    }
    return NULL;
}

static int
parse_args(int argc, char **argv, struct args *a)
{
    *a = (struct args){.config = "oneslot.yaml"};
    for (int i = 1; i < argc; i++) {
        bool *flag = find_flag(a, argv[i]);
        if (flag != NULL) {
            *flag = true;
        } else if (strcmp(argv[i], "-c") != 0) {
            return bad_usage("unknown option", argv[i]);
        } else if (++i == argc) {
            return bad_usage("a value is missing behind", "-c");
        } else {
            a->config = argv[i];
        }
    }
    return a->check + a->tables + a->drop > 1
               ? bad_usage("one at a time", "--check --tables --drop")
               : 0;
}

static int
complain(const struct err *e, int status)
{
    (void)fprintf(stderr, "oneslot-replicator: %s\n", e->msg);
    return status;
}

static int
print(const char *text)
{
    struct err e;
    if (fputs(text, stdout) < 0 || fflush(stdout) != 0) {
        (void)err_set_sys(&e, ERR_IO, errno, "cannot write to standard output");
        return complain(&e, PROC_FAILED);
    }
    return PROC_DONE;
}

static int
lock(const struct config *c, int *ret_fd)
{
    struct err e;
    int rc = proc_lock(c->data_dir, "replicator.lock", "replicator", LOCK_WAIT_MS, ret_fd, &e);
    if (rc == ERR_LOCKED) {
        (void)err_prefix(&e, "a replicator of this data folder is already running");
    }
    return rc == 0 ? 0 : complain(&e, rc == ERR_CONNECT ? PROC_UNAVAILABLE : PROC_FAILED);
}

static int
run(const struct config *c)
{
    struct err e = {0};
    auto_close int lock_fd = -1;
    if (!proc_tie_to_supervisor()) {
        return PROC_FAILED;
    }
    log_init("replicator", (enum log_level)c->log_level);
    int rc = lock(c, &lock_fd);
    if (rc != 0) {
        return rc;
    }
    sig_init(); /* not before: a signal ends the wait for the lock */
    log_info("replicator_begin", "slot=%s publication=%s", log_quote(c->source.slot),
        log_quote(c->source.publication));
    if (source_run(c, &e) != 0) {
        log_err(
            LOG_ERROR, "replicator_failed", &e, "the process ends; a restart is the recovery");
        return PROC_FAILED;
    }
    log_info("replicator_end", "reason=signal");
    return PROC_DONE;
}

static int
do_check(const struct config *c, bool as_json)
{
    struct err e;
    unsigned failed = 0;
    if (preflight_run(&c->source, as_json, &failed, &e) != 0) {
        return complain(&e, PROC_FAILED);
    }
    return failed > 0 ? PROC_FAILED : PROC_DONE;
}

static int
do_drop(const struct config *c, bool as_json)
{
    struct err e;
    return preflight_drop(&c->source, as_json, &e) == 0 ? PROC_DONE : complain(&e, PROC_FAILED);
}

static int
dispatch(const struct config *c, const struct args *a)
{
    if (!a->check && !a->tables && !a->drop) {
        return run(c);
    }
    sig_init();
    if (a->tables) {
        struct err e;
        return preflight_tables(&c->source, &e) == 0 ? PROC_DONE : complain(&e, PROC_FAILED);
    }
    if (a->check) {
        return do_check(c, a->json);
    }
    return do_drop(c, a->json);
}

int
main(int argc, char **argv)
{
    struct args a;
    struct err e;
    struct config *c = NULL;
    int rc = parse_args(argc, argv, &a);
    if (rc != 0) {
        return rc;
    }
    if (a.help || a.version) {
        return print(a.help ? usage : "oneslot-replicator " ONESLOT_VERSION "\n");
    }
    /* Few threads, and a rare row above a MiB: its memory goes back to the system as soon as it
     * is freed. */
    (void)mallopt(M_ARENA_MAX, ARENAS);
    (void)mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
    (void)mallopt(M_TRIM_THRESHOLD, MMAP_THRESHOLD);
    if (config_load(a.config, &c, &e) != 0) {
        return complain(&e, PROC_CONFIG);
    }
    rc = dispatch(c, &a);
    config_free(c);
    return rc;
}
