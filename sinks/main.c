/* oneslot-sink NAME: the process of one sink. Only wires: arguments, configuration, lock,
 * worker. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/api.h"
#include "proto/base/cleanup.h"
#include "proto/base/fs.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "proto/base/proc.h"
#include "proto/base/sig.h"
#include "proto/base/xmalloc.h"
#include "proto/config.h"
#include "sinks/inspect.h"
#include "sinks/registry.h"
#include "sinks/worker.h"

enum { LOCK_WAIT_MS = 10000 }; /* a former process of this sink is on its way out */

static const char usage[] =
    "Usage: oneslot-sink NAME [-c FILE]            run the sink NAME of the configuration\n"
    "       oneslot-sink NAME [-c FILE] --config   print its effective options and end\n"
    "       oneslot-sink NAME [-c FILE] --config-json\n"
    "                                              print all of its configuration as JSON and "
    "end\n"
    "       oneslot-sink NAME [-c FILE] --check    look at its target, with the source's "
    "tables as\n"
    "                                              JSON lines on standard input, and end\n"
    "       oneslot-sink --help-kind KIND          print the options of a kind\n"
    "       oneslot-sink --help | --version\n"
    "\n"
    "  -c FILE   the configuration (default: oneslot.yaml)\n"
    "  --        what follows is a NAME, also when it begins with -\n"
    "\n"
    "One process per sink: it reads the log from the broker's socket in data_dir, writes to "
    "the target, and\n"
    "moves the sink's offset behind what the target has. `oneslot run` starts one for every "
    "configured sink.\n"
    "\n"
    "Exit status: 0 done, 1 failed, 2 bad usage, 69 no broker here, 78 bad configuration.\n";

struct args {
    const char *name, *config, *help_kind;
    bool help, version, show_config, is_json, check;
};

static int
bad_usage(const char *what, const char *arg)
{
    (void)fprintf(stderr, "oneslot-sink: %s%s%s; see oneslot-sink --help\n", what,
        arg == NULL ? "" : ": ", arg == NULL ? "" : arg);
    return PROC_USAGE;
}

/* Takes argv[*i] and, where it has one, the value behind it. */
static int
parse_option(int argc, char **argv, int *i, struct args *a)
{
    const char *o = argv[*i];
    const char **value = NULL;
    if (strcmp(o, "--help") == 0 || strcmp(o, "-h") == 0) {
        a->help = true;
    } else if (strcmp(o, "--version") == 0) {
        a->version = true;
    } else if (strcmp(o, "--config") == 0) {
        a->show_config = true;
    } else if (strcmp(o, "--config-json") == 0) {
        a->show_config = true;
        a->is_json = true;
    } else if (strcmp(o, "--check") == 0) {
        a->check = true;
    } else if (strcmp(o, "-c") == 0) {
        value = &a->config;
    } else if (strcmp(o, "--help-kind") == 0) {
        value = &a->help_kind;
    } else {
        return bad_usage("unknown option", o);
    }
    if (value != NULL) {
        if (*i + 1 == argc) {
            return bad_usage("a value is missing behind", o);
        }
        *value = argv[++*i];
    }
    return 0;
}

static int
parse_args(int argc, char **argv, struct args *a)
{
    *a = (struct args){.config = "oneslot.yaml"};
    bool may_be_option = true;
    for (int i = 1; i < argc; i++) {
        if (may_be_option && strcmp(argv[i], "--") == 0) {
            may_be_option = false;
        } else if (may_be_option && argv[i][0] == '-') {
            int rc = parse_option(argc, argv, &i, a);
            if (rc != 0) {
                return rc;
            }
        } else if (a->name != NULL) {
            return bad_usage("one sink at a time, not also", argv[i]);
        } else {
            a->name = argv[i];
        }
    }
    if (a->name == NULL && !a->help && !a->version && a->help_kind == NULL) {
        return bad_usage("which sink? its NAME is missing", NULL);
    }
    return 0;
}

/* What a person asked for on standard output; a full disk or a closed pipe is a failure. */
static int
print(const char *text)
{
    if (fputs(text, stdout) < 0 || fflush(stdout) != 0) {
        /* lint:allow strerror: said before any thread is started */
        const char *why = strerror(errno);
        (void)fprintf(stderr, "oneslot-sink: cannot write to standard output: %s\n", why);
        return PROC_FAILED;
    }
    return PROC_DONE;
}

static int
complain(const struct err *e, int status)
{
    (void)fprintf(stderr, "oneslot-sink: %s\n", e->msg);
    return status;
}

static int
print_help(void)
{
    struct buf auto_buf b;
    buf_init(&b, 64 * 1024);
    buf_puts(&b, usage);
    buf_puts(&b, "\nKinds:\n");
    for (size_t i = 0; registry_at(i) != NULL; i++) {
        buf_printf(&b, "  %-14s %s\n", registry_at(i)->name, registry_at(i)->help);
    }
    return print(buf_cstr(&b));
}

static int
print_kind(const char *kind)
{
    const struct sink_ops *ops = registry_find(kind);
    struct err e;
    if (ops == NULL) {
        (void)registry_unknown(kind, &e);
        return complain(&e, PROC_USAGE);
    }
    struct buf auto_buf b;
    buf_init(&b, 64 * 1024);
    buf_printf(&b, "%s: %s\n", ops->name, ops->help);
    conf_help(&b, ops->options, 2);
    return print(buf_cstr(&b));
}

static int
lock(const struct config *c, const char *name, int *ret_fd)
{
    struct err e;
    char *auto_free file = xasprintf("sink-%s.lock", name);
    int rc = proc_lock(c->data_dir, file, "sink", LOCK_WAIT_MS, ret_fd, &e);
    if (rc == ERR_LOCKED) {
        (void)err_prefix(&e, "sink %s is already running", name);
    }
    return rc == 0 ? 0 : complain(&e, rc == ERR_CONNECT ? PROC_UNAVAILABLE : PROC_FAILED);
}

/* The sink's patterns; free them. */
static struct str *
patterns(const struct config_sink *s)
{
    struct str *tables = xcalloc(s->tables.n + 1, sizeof *tables);
    for (size_t i = 0; i < s->tables.n; i++) {
        tables[i] = str_from(s->tables.v[i]);
    }
    return tables;
}

static int
check(const struct config_sink *s, const struct sink_ops *ops, const void *options)
{
    struct str *tables = patterns(s);
    struct inspect_conf cc = {.name = s->name,
        .ops = ops,
        .options = options,
        .tables = tables,
        .ntables = s->tables.n};
    struct buf auto_buf lines;
    struct err e;
    unsigned faults = 0;
    buf_init(&lines, 1024 * 1024);
    log_init("check", LOG_ERROR);
    int rc = inspect_run(&cc, STDIN_FILENO, &lines, &faults, &e);
    free(tables);
    if (rc != 0) {
        return complain(&e, PROC_USAGE);
    }
    int status = print(buf_cstr(&lines));
    return status != 0 ? status : faults == 0 ? PROC_DONE : PROC_FAILED;
}

static int
run(const struct config *c, const struct config_sink *s, const struct sink_ops *ops,
    const void *options)
{
    static char prog[80];
    (void)snprintf(prog, sizeof prog, "sink:%s", s->name);
    if (!proc_tie_to_supervisor()) {
        return PROC_FAILED;
    }
    int fd = -1;
    int status = lock(c, s->name, &fd);
    if (status != 0) {
        return status;
    }
    log_init(prog, (enum log_level)c->log_level);
    sig_init();
    (void)signal(SIGXFSZ, SIG_IGN); /* a file size limit is EFBIG, as a full disk is ENOSPC */
    struct str *tables = patterns(s);
    char *socket_path = fs_join(c->data_dir, API_SOCKET);
    char *seen_path = xasprintf("%s/sink-%s.seen", c->data_dir, s->name);
    struct worker_conf wc = {.name = s->name,
        .ops = ops,
        .options = options,
        .start = s->start_text,
        .tables = tables,
        .ntables = s->tables.n,
        .unix_path = socket_path,
        .seen_path = seen_path,
        .lanes = (unsigned)s->lanes,
        .reject_limit = (unsigned)s->reject_limit};
    struct err e;
    log_info("sink_started", "kind=%s pid=%ld version=%s", ops->name, (long)getpid(),
        ONESLOT_VERSION);
    int rc = worker_run(&wc, &e);
    if (rc != 0) {
        log_err(
            LOG_ERROR, "sink_failed", &e, "the process ends; nothing unsettled was committed");
    } else {
        log_info("sink_ended", "kind=%s", ops->name);
    }
    free(tables);
    free(socket_path);
    free(seen_path);
    (void)close(fd);
    return rc == 0 ? PROC_DONE : PROC_FAILED;
}

static int
show_config(
    const struct config_sink *s, const struct sink_ops *ops, const void *options, bool is_json)
{
    struct buf auto_buf b;
    buf_init(&b, 1024 * 1024);
    if (is_json) {
        struct jsonw w;
        jsonw_init(&w, &b);
        jsonw_object(&w, NULL);
        config_sink_print_json(&w, s);
        conf_print_json(&w, ops->options, options);
        jsonw_end_object(&w);
        buf_putc(&b, '\n');
    } else {
        conf_print(&b, ops->options, options, 4);
    }
    return print(buf_cstr(&b));
}

static int
run_or_print(const struct config *c, const struct args *a)
{
    struct err e;
    const struct config_sink *s = config_sink_find(c, a->name);
    if (s == NULL) {
        (void)fprintf(
            stderr, "oneslot-sink: %s has no sink '%s' under `sinks`\n", a->config, a->name);
        return PROC_USAGE;
    }
    const struct sink_ops *ops = registry_find(config_kind_name(s->kind));
    if (ops == NULL) {
        (void)registry_unknown(config_kind_name(s->kind), &e);
        return complain(&e, PROC_CONFIG);
    }
    void *options = xcalloc(1, ops->options_size);
    int status = PROC_CONFIG;
    if (config_sink_apply(s, ops->options, options, &e) != 0) {
        (void)complain(&e, status);
    } else if (a->show_config) {
        status = show_config(s, ops, options, a->is_json);
    } else if (a->check) {
        status = check(s, ops, options);
    } else if (!s->enabled) {
        (void)fprintf(
            stderr, "oneslot-sink: sink '%s' is not enabled in %s\n", s->name, a->config);
    } else {
        status = run(c, s, ops, options);
    }
    conf_release(ops->options, options);
    free(options);
    return status;
}

int
main(int argc, char **argv)
{
    struct args a;
    int status = parse_args(argc, argv, &a);
    if (status != 0) {
        return status;
    }
    if (a.help) {
        return print_help();
    }
    if (a.version) {
        return print("oneslot-sink " ONESLOT_VERSION "\n");
    }
    if (a.help_kind != NULL) {
        return print_kind(a.help_kind);
    }
    struct config *c = NULL;
    struct err e;
    if (config_load(a.config, &c, &e) != 0) {
        return complain(&e, PROC_CONFIG);
    }
    status = run_or_print(c, &a);
    config_free(c);
    return status;
}
