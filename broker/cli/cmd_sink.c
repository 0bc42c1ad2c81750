/* cmd_sink: `oneslot sinks`: what there is, one in full, pause and resume. */
#include <stdio.h>
#include <string.h>

#include "broker/cli/cmd_remote.h"
#include "broker/cli/cmd_spawn.h"
#include "broker/cli/cmd_table.h"
#include "broker/cli/cmd_text.h"
#include "proto/base/cleanup.h"
#include "proto/base/httpc.h"
#include "proto/base/sig.h"

enum { OUT_MAX = 16 * 1024 * 1024, PATH_MAX_BYTES = 4096 };

static const char *const titles[] = {
    "SINK", "KIND", "STATE", "PAUSED", "ENABLED", "NEXT", "TABLES"};
enum { COLUMNS = sizeof titles / sizeof *titles };

/* ---- cells ---- */

static void
put_text(struct buf *b, const struct json *j)
{
    struct str s;
    buf_put_str(b, json_str(j, &s) && s.n > 0 ? s : STR("-"));
}

static void
put_yes(struct buf *b, const struct json *j)
{
    bool v = false;
    buf_puts(b, json_bool(j, &v) && v ? "yes" : "no");
}

static void
put_number(struct buf *b, const struct json *j)
{
    int64_t n;
    if (json_i64(j, &n)) {
        buf_printf(b, "%lld", (long long)n);
    } else {
        buf_putc(b, '-');
    }
}

static void
put_tables(struct buf *b, const struct json *j)
{
    for (size_t i = 0; i < json_size(j); i++) {
        buf_puts(b, i > 0 ? ", " : "");
        put_text(b, json_at(j, i));
    }
    buf_puts(b, json_size(j) == 0 ? "all" : "");
}

static void
put_cell(struct buf *b, const struct json *sink, size_t column)
{
    static const struct {
        const char *key;
        void (*put)(struct buf *b, const struct json *j);
    } cells[COLUMNS] = {{"name", put_text}, {"kind", put_text}, {"state", put_text},
        {"paused", put_yes}, {"enabled", put_yes}, {"next", put_number},
        {"tables", put_tables}};
    cells[column].put(b, json_get(sink, cells[column].key));
}

static void
put_error(struct buf *b, const struct json *sink)
{
    struct str why;
    if (json_str(json_get(sink, "last_error"), &why) && why.n > 0) {
        put_text(b, json_get(sink, "name"));
        buf_puts(b, ": ");
        cmd_text_put(b, why);
        buf_putc(b, '\n');
    }
}

static void
put_list(struct buf *b, const struct json *sinks)
{
    struct cmd_table t;
    cmd_table_init(&t, COLUMNS, titles, "lllllrl");
    for (size_t i = 0; i < json_size(sinks); i++) {
        for (size_t c = 0; c < COLUMNS; c++) {
            auto_buf struct buf cell;
            buf_init(&cell, 64 * 1024);
            put_cell(&cell, json_at(sinks, i), c);
            cmd_table_cell(&t, buf_str(&cell));
        }
    }
    cmd_table_render(b, &t);
    cmd_table_fini(&t);
    for (size_t i = 0; i < json_size(sinks); i++) {
        put_error(b, json_at(sinks, i));
    }
}

static void
put_one(struct buf *b, const struct json *sink)
{
    struct str yaml;
    for (size_t c = 0; c < COLUMNS; c++) {
        auto_buf struct buf cell;
        buf_init(&cell, 64 * 1024);
        put_cell(&cell, sink, c);
        buf_printf(b, "%-8s ", titles[c]);
        cmd_text_put(b, buf_str(&cell));
        buf_putc(b, '\n');
    }
    put_error(b, sink);
    if (!json_str(json_get(sink, "configuration"), &yaml)) {
        buf_puts(b, "\nNot configured any more: the log is kept for it until it is forgotten "
                    "(DELETE /sinks/NAME).\n");
        return;
    }
    buf_puts(b, "\nAs it is configured:\n");
    while (yaml.n > 0) {
        const char *end = memchr(yaml.p, '\n', yaml.n);
        size_t n = end == NULL ? yaml.n : (size_t)(end - yaml.p);
        buf_puts(b, "  ");
        cmd_text_put(b, (struct str){yaml.p, n});
        buf_putc(b, '\n');
        n += end != NULL;
        yaml.p += n;
        yaml.n -= n;
    }
}

/* ---- asking ---- */

static int
show(const struct cmd_args *a, struct cmd_remote *r, const char *path, bool is_list)
{
    struct err e;
    struct json *root;
    auto_buf struct buf b;
    buf_init(&b, OUT_MAX);
    if (a->json) {
        return cmd_remote_get_raw(r, path, &b, &e) == 0 ? cmd_print(a, buf_str(&b))
                                                        : cmd_remote_complain(a, r, &e);
    }
    if (client_get_json(r->client, path, &root, &e) != 0) {
        return cmd_remote_complain(a, r, &e);
    }
    if (is_list) {
        put_list(&b, json_get(root, "sinks"));
    } else {
        put_one(&b, root);
    }
    json_free(root);
    return cmd_print(a, buf_str(&b));
}

static int
change(const struct cmd_args *a, struct cmd_remote *r, const char *path)
{
    struct err e;
    struct json *root = NULL;
    bool is_paused = false;
    auto_buf struct buf b;
    buf_init(&b, PATH_MAX_BYTES);
    if (client_post_json(r->client, path, (struct str){0}, &root, &e) != 0) {
        return cmd_remote_complain(a, r, &e);
    }
    (void)json_bool(json_get(root, "paused"), &is_paused);
    json_free(root);
    if (a->json) {
        struct jsonw w;
        jsonw_init(&w, &b);
        jsonw_object(&w, NULL);
        jsonw_cstr(&w, "name", a->word[1]);
        jsonw_bool(&w, "paused", is_paused);
        jsonw_end_object(&w);
        buf_putc(&b, '\n');
    } else {
        buf_printf(&b, "sink %s %s\n", a->word[1],
            is_paused ? "is paused: it writes nothing, and the log is kept for it" : "goes on");
    }
    return cmd_print(a, buf_str(&b));
}

static int
ask(const struct cmd_args *a, struct cmd_remote *r)
{
    auto_buf struct buf path;
    buf_init(&path, PATH_MAX_BYTES);
    buf_puts(&path, "/sinks");
    if (a->nwords == 0) {
        return show(a, r, buf_cstr(&path), true);
    }
    buf_putc(&path, '/');
    httpc_put_escaped(&path, str_from(a->word[1]));
    if (strcmp(a->word[0], "show") == 0) {
        return show(a, r, buf_cstr(&path), false);
    }
    buf_printf(&path, "/%s", a->word[0]);
    return change(a, r, buf_cstr(&path));
}

static int
check_words(const struct cmd_args *a)
{
    if (a->nwords == 0) {
        return CMD_DONE;
    }
    const char *what = a->word[0];
    if (strcmp(what, "pause") != 0 && strcmp(what, "resume") != 0 &&
        strcmp(what, "show") != 0) {
        return cmd_complain(a, CMD_USAGE,
            "pause, resume or show, not '%.60s'; see `oneslot sinks --help`", what);
    }
    return a->nwords == 2 && a->word[1][0] != '\0'
               ? CMD_DONE
               : cmd_complain(a, CMD_USAGE, "which sink? `oneslot sinks %s NAME`", what);
}

static int
run(const struct cmd_args *a)
{
    struct cmd_remote r;
    int status = check_words(a);
    if (status != CMD_DONE) {
        return status;
    }
    sig_init();
    status = cmd_remote_open(a, &r);
    if (status == CMD_DONE) {
        status = ask(a, &r);
        cmd_remote_close(&r);
    }
    return status;
}

/* Options of a kind: the sink program has them. */
static int
help_on_kind(const struct cmd_args *a)
{
    auto_free char *path = cmd_spawn_path("oneslot-sink");
    char *argv[] = {path, (char *)"--help-kind", a->word[0], NULL};
    struct err e;
    int status = CMD_FAILED;
    return cmd_spawn_run(argv, NULL, &status, &e) == 0
               ? status
               : cmd_complain(a, CMD_FAILED, "%s", e.msg);
}

static const struct cmd_option options[] = {CMD_OPTION_JSON, CMD_OPTION_CONFIG, CMD_OPTION_URL,
    CMD_OPTION_TOKEN, CMD_OPTION_HELP, CMD_OPTION_WORDS(2), CMD_OPTION_END};

const struct cmd cmd_sinks = {
    .name = "sinks",
    .summary = "the sinks: show one, pause it, let it go on",
    .synopsis = "[show|pause|resume NAME] [--json] [-c FILE | --url URL]\n"
                "       oneslot sinks --help KIND",
    .about =
        "Lists every sink, configured or once seen. `show` has one of them with its\n"
        "configuration, secrets masked. `pause` lets it write nothing until `resume`, also\n"
        "over restarts; the log is kept for it meanwhile. NEXT is the first offset that it\n"
        "has not settled. `--help KIND` explains the options of a kind of sink.\n",
    .examples = "  oneslot sinks\n"
                "  oneslot sinks pause search\n"
                "  oneslot sinks show search --json | jq .state\n"
                "  oneslot sinks --help file\n",
    .options = options,
    .help_on = help_on_kind,
    .run = run,
};
