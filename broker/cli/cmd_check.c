/* cmd_check: `oneslot check`: the preflight. libpq stays in the replicator, options of a kind
 * in the sink program: both are asked as programs, and what they find is one report. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "broker/cli/cmd.h"
#include "broker/cli/cmd_sinks.h"
#include "broker/cli/cmd_spawn.h"
#include "proto/base/cleanup.h"
#include "proto/base/json.h"
#include "proto/base/xmalloc.h"
#include "proto/config.h"

enum { REPORT_MAX = 16 * 1024 * 1024 };

struct report {
    const struct cmd_args *a;
    struct buf out;
    struct jsonw json;
    uint64_t failed, warned;
};

/* sql: what mends it; empty: nothing does. */
static void
line(struct report *r, struct str result, struct str what, struct str detail, struct str sql)
{
    r->failed += str_is(result, "FAIL");
    r->warned += str_is(result, "warn");
    if (r->a->json) {
        jsonw_object(&r->json, NULL);
        jsonw_str(&r->json, "result", result);
        jsonw_str(&r->json, "what", what);
        jsonw_str(&r->json, "detail", detail);
        if (sql.n > 0) {
            jsonw_str(&r->json, "sql", sql);
        } else {
            jsonw_null(&r->json, "sql");
        }
        jsonw_end_object(&r->json);
        return;
    }
    buf_printf(&r->out, "%-4.*s  %-12.*s ", (int)result.n, result.p, (int)what.n, what.p);
    buf_put_str(&r->out, detail);
    if (sql.n > 0) {
        buf_puts(&r->out, "\n                   ");
        buf_put_str(&r->out, sql);
    }
    buf_putc(&r->out, '\n');
}

/* ---- sinks ---- */

/* Every sink, whatever is wrong with another: CMD_CONFIG when any is refused. */
static int
check_sinks(struct report *r, const struct config *conf, bool *is_refused)
{
    int status = CMD_DONE;
    for (size_t i = 0; i < conf->nsinks; i++) {
        auto_buf struct buf detail;
        buf_init(&detail, CMD_SINKS_OPTIONS_MAX);
        buf_printf(&detail, "%s: ", conf->sinks[i].name);
        int one = cmd_sinks_judge(r->a, &conf->sinks[i], &detail);
        is_refused[i] = one != CMD_DONE;
        line(r, one == CMD_DONE ? STR("ok") : STR("FAIL"), STR("sink"), buf_str(&detail),
            (struct str){0});
        status = one == CMD_DONE || status == CMD_CONFIG ? status : one;
    }
    return status;
}

/* ---- the targets ---- */

/* The tables of the source, as lines of JSON (sinks/README.md); false: not known. */
static bool
list_tables(const struct cmd_args *a, struct buf *out)
{
    auto_free char *path = cmd_spawn_path("oneslot-replicator");
    char *argv[] = {path, (char *)"--tables", (char *)"-c", (char *)a->config, NULL};
    auto_buf struct buf said;
    struct err e;
    int status = CMD_FAILED;
    buf_init(&said, REPORT_MAX);
    if (cmd_spawn_capture(argv, &said, &status, &e) != 0 || status != 0 || !buf_ok(&said)) {
        return false; /* the source's own part has said why */
    }
    buf_put_str(out, buf_str(&said));
    return true;
}

/* Takes the next line off *rest, without its end. */
static bool
next_line(struct str *rest, struct str *ret)
{
    if (rest->n == 0) {
        return false;
    }
    const char *end = memchr(rest->p, '\n', rest->n);
    size_t n = end == NULL ? rest->n : (size_t)(end - rest->p);
    *ret = (struct str){rest->p, n};
    n += end != NULL;
    rest->p += n;
    rest->n -= n;
    return true;
}

static void
target_line(struct report *r, const char *sink, const char *result, struct str sentence)
{
    auto_buf struct buf detail;
    buf_init(&detail, CMD_SINKS_OPTIONS_MAX);
    buf_printf(&detail, "%s: ", sink);
    buf_put_str(&detail, sentence);
    line(r, str_from(result), STR("target"), buf_str(&detail), (struct str){0});
}

/* What `oneslot-sink NAME --check` said: "fault: ...", "warning: ...", "ok: ...". Anything else
 * is what a program says that did not get so far: a fault when it failed. */
static void
take_target_lines(struct report *r, const char *sink, struct str said, int status)
{
    static const struct {
        const char *before, *result;
    } kinds[] = {{"ok: ", "ok"}, {"warning: ", "warn"}, {"fault: ", "FAIL"}};
    struct str one;
    while (next_line(&said, &one)) {
        const char *result = status == 0 ? "warn" : "FAIL";
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
            size_t n = strlen(kinds[i].before);
            if (one.n >= n && memcmp(one.p, kinds[i].before, n) == 0) {
                result = kinds[i].result;
                one.p += n;
                one.n -= n;
                break;
            }
        }
        target_line(r, sink, result, one);
    }
}

static int
check_target(struct report *r, const struct config_sink *sink, struct str tables)
{
    auto_free char *path = cmd_spawn_path("oneslot-sink");
    char *argv[] = {path, (char *)"--check", (char *)"-c", (char *)r->a->config, (char *)"--",
        (char *)sink->name, NULL};
    auto_buf struct buf said;
    struct err e;
    int status = CMD_FAILED;
    uint64_t failed = r->failed;
    buf_init(&said, REPORT_MAX);
    if (cmd_spawn_feed(argv, tables, &said, &status, &e) != 0) {
        target_line(r, sink->name, "FAIL", str_from(e.msg));
        return CMD_FAILED;
    }
    take_target_lines(r, sink->name, buf_str(&said), status);
    if (status != 0 && r->failed == failed) {
        char text[128];
        (void)snprintf(text, sizeof text, "its check ended with status %d and no word", status);
        target_line(r, sink->name, "FAIL", str_from(text));
    }
    return status == 0 && r->failed == failed ? CMD_DONE : CMD_FAILED;
}

/* Every enabled sink whose options are right. */
static int
check_targets(struct report *r, const struct config *conf, const bool *is_refused)
{
    auto_buf struct buf tables;
    int status = CMD_DONE;
    buf_init(&tables, REPORT_MAX);
    if (!list_tables(r->a, &tables)) {
        line(r, STR("warn"), STR("target"),
            STR("the tables of the source are not known, so nothing is said about them"),
            (struct str){0});
    }
    for (size_t i = 0; i < conf->nsinks; i++) {
        if (conf->sinks[i].enabled && !is_refused[i] &&
            check_target(r, &conf->sinks[i], buf_str(&tables)) != CMD_DONE) {
            status = CMD_FAILED;
        }
    }
    return status;
}

/* ---- the source ---- */

static struct str
text_of(const struct json *check, const char *key)
{
    struct str s = {0};
    (void)json_str(json_get(check, key), &s);
    return s;
}

static int
take_lines(struct report *r, struct str said, struct err *e)
{
    struct json *root;
    int rc = json_parse(said, &root, e);
    if (rc != 0) {
        return rc;
    }
    const struct json *checks = json_get(root, "checks");
    for (size_t i = 0; i < json_size(checks); i++) {
        const struct json *c = json_at(checks, i);
        line(r, text_of(c, "result"), text_of(c, "what"), text_of(c, "detail"),
            text_of(c, "sql"));
    }
    json_free(root);
    return 0;
}

static int
check_source(struct report *r)
{
    auto_free char *path = cmd_spawn_path("oneslot-replicator");
    char *argv[] = {
        path, (char *)"--check", (char *)"--json", (char *)"-c", (char *)r->a->config, NULL};
    auto_buf struct buf said;
    struct err e;
    int status = CMD_FAILED;
    buf_init(&said, REPORT_MAX);
    if (cmd_spawn_run(argv, &said, &status, &e) != 0) {
        return cmd_complain(r->a, CMD_FAILED, "%s", e.msg);
    }
    if (take_lines(r, buf_str(&said), &e) != 0) {
        return cmd_complain(
            r->a, CMD_FAILED, "cannot check the source: %s ended with status %d", path, status);
    }
    return status;
}

/* ---- all of it ---- */

static void
put_end(struct report *r)
{
    if (r->a->json) {
        jsonw_end_array(&r->json);
        jsonw_u64(&r->json, "failed", r->failed);
        jsonw_end_object(&r->json);
        buf_putc(&r->out, '\n');
        return;
    }
    if (r->failed > 0) {
        buf_printf(&r->out, "%" PRIu64 " must be mended", r->failed);
    } else {
        buf_puts(&r->out, "ready");
    }
    buf_printf(&r->out, ", %" PRIu64 " warning%s; nothing was changed\n", r->warned,
        r->warned == 1 ? "" : "s");
}

static int
check_all(const struct cmd_args *a, const struct config *conf)
{
    struct report r = {.a = a};
    buf_init(&r.out, REPORT_MAX);
    if (a->json) {
        jsonw_init(&r.json, &r.out);
        jsonw_object(&r.json, NULL);
        jsonw_array(&r.json, "checks");
    }
    auto_free bool *is_refused = xcalloc(conf->nsinks + 1, sizeof *is_refused);
    int sinks = check_sinks(&r, conf, is_refused);
    int source = check_source(&r);
    int targets = check_targets(&r, conf, is_refused);
    put_end(&r);
    int status = cmd_print(a, buf_str(&r.out));
    buf_fini(&r.out);
    status = targets != CMD_DONE ? targets : status;
    status = source != CMD_DONE ? source : status;
    return sinks != CMD_DONE ? sinks : status;
}

static int
run(const struct cmd_args *a)
{
    struct config *conf;
    int status = cmd_load(a, &conf);
    if (status == CMD_DONE) {
        status = check_all(a, conf);
        config_free(conf);
    }
    return status;
}

static const struct cmd_option options[] = {
    CMD_OPTION_CONFIG, CMD_OPTION_JSON, CMD_OPTION_HELP, CMD_OPTION_END};

const struct cmd cmd_check = {
    .name = "check",
    .summary = "preflight: what is wrong, and the SQL that mends it",
    .synopsis = "[-c FILE] [--json]",
    .about =
        "Looks at the configuration, every sink's options, the source: server, role, "
        "wal_level,\n"
        "slots, publication, tables whose UPDATEs would fail once they are published; and at "
        "the\n"
        "target of every enabled sink: is it there, may we write, can it take these tables. It "
        "says\n"
        "for each what is wrong and the SQL that mends it, all of it in one go; only a file "
        "that\n"
        "cannot be read as a configuration ends it at once. It changes nothing and needs no "
        "broker.\n"
        "Exit status 1 when something has to be mended, 78 when the configuration is wrong.\n",
    .examples = "  oneslot check\n"
                "  oneslot check --json | jq '.checks[] | select(.result != \"ok\")'\n",
    .options = options,
    .run = run,
};
