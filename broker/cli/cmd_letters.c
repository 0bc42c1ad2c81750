/* cmd_letters: `oneslot dead-letters`: how many there are, which, one in full, and what is to
 * become of them. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/cli/cmd_line.h"
#include "broker/cli/cmd_remote.h"
#include "broker/cli/cmd_table.h"
#include "broker/cli/cmd_text.h"
#include "proto/base/httpc.h"
#include "proto/base/sig.h"

enum {
    OUT_MAX = 16 * 1024 * 1024,
    TEXT_MAX = 64 * 1024,
    WORDS_MAX = 2 + API_LETTERS_MAX,
    PAGE = 200
};

/* ---- cells ---- */

static void
put_text(struct buf *b, const struct json *j)
{
    struct str s;
    buf_put_str(b, json_str(j, &s) && s.n > 0 ? s : STR("-"));
}

static void
put_number(struct buf *b, const struct json *j)
{
    int64_t n;
    if (json_i64(j, &n)) {
        buf_printf(b, "%" PRId64, n);
    } else {
        buf_putc(b, '-');
    }
}

static void
put_bytes(struct buf *b, const struct json *j)
{
    double n = 0;
    (void)json_num(j, &n);
    cmd_text_put_bytes(b, n);
}

static void
put_table(struct buf *b, const struct json *letter)
{
    put_text(b, json_get(letter, "schema"));
    buf_putc(b, '.');
    put_text(b, json_get(letter, "table"));
}

struct column {
    const char *key;
    void (*put)(struct buf *b, const struct json *j);
};

static void
put_row(struct cmd_table *t, const struct json *j, const struct column *columns, size_t n)
{
    for (size_t c = 0; c < n; c++) {
        auto_buf struct buf cell;
        buf_init(&cell, TEXT_MAX);
        if (columns[c].key == NULL) {
            columns[c].put(&cell, j);
        } else {
            columns[c].put(&cell, json_get(j, columns[c].key));
        }
        cmd_table_cell(t, buf_str(&cell));
    }
}

/* ---- paths ---- */

static void
put_path(struct buf *path, const char *sink, const char *rest)
{
    buf_puts(path, "/sinks/");
    httpc_put_escaped(path, str_from(sink));
    buf_puts(path, "/dead-letters");
    buf_puts(path, rest);
}

static int
parse_id(const struct cmd_args *a, const char *text, uint64_t *ret)
{
    return str_u64(str_from(text), INT64_MAX, ret)
               ? CMD_DONE
               : cmd_complain(a, CMD_USAGE,
                     "an ID is the offset of a dead letter, not '%.60s'; `oneslot dead-letters "
                     "%.60s` has them",
                     text, a->word[0]);
}

/* ---- all sinks ---- */

static const char *const sink_titles[] = {
    "SINK", "DEAD", "TO RETRY", "DISCARDED", "REREAD", "BYTES"};
static const struct column sink_columns[] = {{"sink", put_text}, {"dead", put_number},
    {"retry", put_number}, {"discarded", put_number}, {"reread", put_number},
    {"bytes", put_bytes}};
enum { SINK_COLUMNS = sizeof sink_columns / sizeof *sink_columns };

/* One sink's counts, as a row, or as its line of JSON. */
static int
count_sink(const struct cmd_args *a, struct cmd_remote *r, const struct json *sink,
    struct cmd_table *t, struct buf *b, struct err *e)
{
    struct str name = {0};
    char text[128];
    struct json *counts;
    auto_buf struct buf path;
    buf_init(&path, TEXT_MAX);
    (void)json_str(json_get(sink, "name"), &name);
    (void)snprintf(text, sizeof text, "%.*s", (int)name.n, name.n > 0 ? name.p : "");
    put_path(&path, text, "?limit=1");
    if (a->json) {
        return cmd_remote_get_raw(r, buf_cstr(&path), b, e);
    }
    int rc = client_get_json(r->client, buf_cstr(&path), &counts, e);
    if (rc == 0) {
        put_row(t, counts, sink_columns, SINK_COLUMNS);
        json_free(counts);
    }
    return rc;
}

static int
show_sinks(const struct cmd_args *a, struct cmd_remote *r)
{
    struct err e;
    struct json *root;
    struct cmd_table t;
    auto_buf struct buf b;
    buf_init(&b, OUT_MAX);
    if (client_get_json(r->client, "/sinks", &root, &e) != 0) {
        return cmd_remote_complain(a, r, &e);
    }
    const struct json *sinks = json_get(root, "sinks");
    int rc = 0;
    cmd_table_init(&t, SINK_COLUMNS, sink_titles, "lrrrrr");
    for (size_t i = 0; rc == 0 && i < json_size(sinks); i++) {
        rc = count_sink(a, r, json_at(sinks, i), &t, &b, &e);
    }
    if (!a->json) {
        cmd_table_render(&b, &t);
    }
    cmd_table_fini(&t);
    json_free(root);
    return rc == 0 ? cmd_print(a, buf_str(&b)) : cmd_remote_complain(a, r, &e);
}

/* ---- one sink ---- */

static const char *const letter_titles[] = {
    "ID", "STATE", "TABLE", "OP", "TRIES", "LAST", "REASON"};
static const struct column letter_columns[] = {{"offset", put_number}, {"state", put_text},
    {NULL, put_table}, {"op", put_text}, {"attempts", put_number}, {"last", put_text},
    {"reason", put_text}};
enum { LETTER_COLUMNS = sizeof letter_columns / sizeof *letter_columns };

/* Prints a page; *ret_after is for the next one, -1: there is none. */
static int
print_page(const struct cmd_args *a, struct str text, int64_t *ret_after, struct err *e)
{
    struct json *root;
    int rc = json_parse(text, &root, e);
    if (rc != 0) {
        return rc;
    }
    if (!json_i64(json_get(root, "after"), ret_after)) {
        *ret_after = -1;
    }
    if (a->json) {
        json_free(root);
        return cmd_print(a, text);
    }
    struct cmd_table t;
    auto_buf struct buf b;
    buf_init(&b, OUT_MAX);
    const struct json *letters = json_get(root, "letters");
    cmd_table_init(&t, LETTER_COLUMNS, letter_titles, "rlllrll");
    for (size_t i = 0; i < json_size(letters); i++) {
        put_row(&t, json_at(letters, i), letter_columns, LETTER_COLUMNS);
    }
    cmd_table_render(&b, &t);
    cmd_table_fini(&t);
    json_free(root);
    return cmd_print(a, buf_str(&b));
}

static int
list(const struct cmd_args *a, struct cmd_remote *r)
{
    int64_t after = 0;
    int status = CMD_DONE;
    while (after >= 0 && status == CMD_DONE) {
        struct err e;
        auto_buf struct buf path;
        auto_buf struct buf page;
        buf_init(&path, TEXT_MAX);
        buf_init(&page, OUT_MAX);
        put_path(&path, a->word[0], "");
        buf_printf(&path, "?after=%" PRId64 "&limit=%d", after, PAGE);
        if (cmd_remote_get_raw(r, buf_cstr(&path), &page, &e) != 0) {
            return cmd_remote_complain(a, r, &e);
        }
        status = print_page(a, buf_str(&page), &after, &e);
        if (status < 0) {
            return cmd_remote_complain(a, r, &e);
        }
    }
    return status;
}

/* ---- some in full ---- */

/* The change as it stands in the answer: behind the first `"change":` (a quote inside a text is
 * escaped), before what ends an answer of one letter. */
static struct str
change_of(struct str text)
{
    static const char before[] = "\"change\":";
    static const char behind[] = "}],\"after\":";
    struct str none = {0};
    const char *at = memmem(text.p, text.n, before, sizeof before - 1);
    if (at == NULL) {
        return none;
    }
    at += sizeof before - 1;
    const char *end = text.p + text.n;
    while (end > at && (size_t)(text.p + text.n - end) < sizeof behind - 1) {
        end--;
    }
    while (end > at && memcmp(end, behind, sizeof behind - 1) != 0) {
        end--;
    }
    return (struct str){at, (size_t)(end - at)};
}

static void
put_full(struct buf *b, const struct json *letter, struct str change)
{
    static const char *const names[] = {
        "ID", "state", "table", "op", "attempts", "last", "reason"};
    for (size_t c = 0; c < LETTER_COLUMNS; c++) {
        auto_buf struct buf cell;
        buf_init(&cell, TEXT_MAX);
        const struct column *col = &letter_columns[c];
        col->put(&cell, col->key == NULL ? letter : json_get(letter, col->key));
        buf_printf(b, "%-9s ", names[c]);
        cmd_text_put(b, buf_str(&cell));
        buf_putc(b, '\n');
    }
    buf_printf(b, "%-9s ", "change");
    if (!cmd_line_put(b, change, 0)) {
        buf_puts(b, "- (only a mark is left of it, or it is too large to be shown)");
    }
    buf_puts(b, "\n");
}

static int
show_one(const struct cmd_args *a, struct cmd_remote *r, uint64_t id)
{
    struct err e;
    struct json *root = NULL;
    int64_t offset = -1;
    auto_buf struct buf path;
    auto_buf struct buf text;
    auto_buf struct buf out;
    buf_init(&path, TEXT_MAX);
    buf_init(&text, OUT_MAX);
    buf_init(&out, 2 * (size_t)OUT_MAX);
    put_path(&path, a->word[0], "");
    buf_printf(&path, "?after=%" PRIu64 "&limit=1&record=1", id == 0 ? 0 : id - 1);
    int rc = cmd_remote_get_raw(r, buf_cstr(&path), &text, &e);
    if (rc == 0) {
        rc = json_parse(buf_str(&text), &root, &e);
    }
    if (rc != 0) {
        return cmd_remote_complain(a, r, &e);
    }
    const struct json *letter = json_at(json_get(root, "letters"), 0);
    bool is_it = json_i64(json_get(letter, "offset"), &offset) && (uint64_t)offset == id;
    if (is_it && a->json) {
        buf_put_str(&out, buf_str(&text));
    } else if (is_it) {
        put_full(&out, letter, change_of(buf_str(&text)));
    }
    json_free(root);
    return is_it ? cmd_print(a, buf_str(&out))
                 : cmd_complain(
                       a, CMD_FAILED, "sink %s has no dead letter %" PRIu64, a->word[0], id);
}

static int
show(const struct cmd_args *a, struct cmd_remote *r)
{
    int status = CMD_DONE;
    for (size_t i = 2; i < a->nwords && status == CMD_DONE; i++) {
        uint64_t id;
        status = parse_id(a, a->word[i], &id);
        if (status == CMD_DONE && i > 2 && !a->json) {
            status = cmd_print(a, STR("\n"));
        }
        if (status == CMD_DONE) {
            status = show_one(a, r, id);
        }
    }
    return status;
}

/* ---- retry, discard ---- */

static int
put_ids(const struct cmd_args *a, struct buf *body)
{
    struct jsonw w;
    int status = CMD_DONE;
    jsonw_init(&w, body);
    jsonw_object(&w, NULL);
    if (a->all) {
        jsonw_bool(&w, "all", true);
    } else {
        jsonw_array(&w, "ids");
        for (size_t i = 2; i < a->nwords && status == CMD_DONE; i++) {
            uint64_t id;
            status = parse_id(a, a->word[i], &id);
            if (status == CMD_DONE) {
                jsonw_u64(&w, NULL, id);
            }
        }
        jsonw_end_array(&w);
    }
    jsonw_end_object(&w);
    return status;
}

static int
say_changed(const struct cmd_args *a, int64_t n, bool is_retry)
{
    auto_buf struct buf b;
    buf_init(&b, TEXT_MAX);
    if (a->json) {
        buf_printf(&b, "{\"letters\":%" PRId64 "}\n", n);
    } else {
        buf_printf(&b, "%" PRId64 " letter%s %s\n", n, n == 1 ? "" : "s",
            is_retry ? "will be sent again" : "given up");
    }
    return cmd_print(a, buf_str(&b));
}

static int
change(const struct cmd_args *a, struct cmd_remote *r)
{
    bool is_retry = strcmp(a->word[1], "retry") == 0;
    struct err e;
    struct json *root = NULL;
    int64_t n = 0;
    auto_buf struct buf path;
    auto_buf struct buf body;
    buf_init(&path, TEXT_MAX);
    buf_init(&body, API_CONTROL_BODY);
    put_path(&path, a->word[0], is_retry ? "/retry" : "/discard");
    int status = put_ids(a, &body);
    if (status == CMD_DONE && a->all && !is_retry) {
        status = cmd_ask(a,
            "Give up all dead letters of this sink? Their records are then "
            "gone for good.",
            "nothing was discarded");
    }
    if (status != CMD_DONE) {
        return status;
    }
    if (client_post_json(r->client, buf_cstr(&path), buf_str(&body), &root, &e) != 0) {
        return cmd_remote_complain(a, r, &e);
    }
    (void)json_i64(json_get(root, "letters"), &n);
    json_free(root);
    return say_changed(a, n, is_retry);
}

/* ---- the command ---- */

static int
check_words(const struct cmd_args *a)
{
    const char *what = a->nwords > 1 ? a->word[1] : NULL;
    bool is_show = what != NULL && strcmp(what, "show") == 0;
    if (what == NULL) {
        return a->all ? cmd_complain(a, CMD_USAGE, "--all what? retry or discard") : CMD_DONE;
    }
    if (!is_show && strcmp(what, "retry") != 0 && strcmp(what, "discard") != 0) {
        return cmd_complain(a, CMD_USAGE,
            "show, retry or discard, not '%.60s'; see `oneslot dead-letters --help`", what);
    }
    if (a->all == (a->nwords > 2) || (is_show && a->all)) {
        return cmd_complain(a, CMD_USAGE,
            "which letters? their IDs%s; `oneslot dead-letters %s` "
            "has them",
            is_show ? "" : ", or --all", a->word[0]);
    }
    return CMD_DONE;
}

static int
ask(const struct cmd_args *a, struct cmd_remote *r)
{
    if (a->nwords == 0) {
        return show_sinks(a, r);
    }
    if (a->nwords == 1) {
        return list(a, r);
    }
    return strcmp(a->word[1], "show") == 0 ? show(a, r) : change(a, r);
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

static const struct cmd_option options[] = {{"all", 0, CMD_FLAG, offsetof(struct cmd_args, all),
                                                NULL, "every letter that still has its record"},
    {"yes", 'y', CMD_FLAG, offsetof(struct cmd_args, yes), NULL, "do not ask"}, CMD_OPTION_JSON,
    CMD_OPTION_CONFIG, CMD_OPTION_URL, CMD_OPTION_TOKEN, CMD_OPTION_HELP,
    CMD_OPTION_WORDS(WORDS_MAX), CMD_OPTION_END};

const struct cmd cmd_letters = {
    .name = "dead-letters",
    .summary = "records that a target can never accept",
    .synopsis = "[SINK [show|retry|discard ID...|--all]] [--yes] [--json]\n"
                "                            [-c FILE | --url URL]",
    .about =
        "A record that a sink's target can never accept (a field of the wrong type, say) is "
        "set\n"
        "aside with the reason, and the sink goes on. Without SINK: how many each sink has.\n"
        "With it: which. `show` has the change in full. When what was wrong is mended, "
        "`retry`\n"
        "sends it once more; it never overwrites anything newer. `discard` gives it up: a "
        "mark\n"
        "of its row stays until a later change of the row has arrived. A later change of the\n"
        "row takes a letter away by itself; but where the target has no versions (http), one\n"
        "that follows a rejected change of the row's key is a letter too, and not sent before\n"
        "it: `retry --all` sends them in their order.\n",
    .examples = "  oneslot dead-letters\n"
                "  oneslot dead-letters search show 1882345678901234\n"
                "  oneslot dead-letters search retry --all\n"
                "  oneslot dead-letters search --json | jq -r '.letters[].reason'\n",
    .options = options,
    .run = run,
};
