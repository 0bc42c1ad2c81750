/* cmd_tail: `oneslot tail`: changes, readable. Only whole lines go out, so that going on after
 * a broken connection neither repeats nor tears one. */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "broker/cli/cmd_line.h"
#include "broker/cli/cmd_remote.h"
#include "broker/cli/cmd_text.h"
#include "proto/base/backoff.h"
#include "proto/base/clock.h"
#include "proto/base/httpc.h"
#include "proto/base/sig.h"
#include "proto/position.h"

enum {
    PATH_MAX_BYTES = 64 * 1024,
    KEEP_BYTES = 4 * 1024 * 1024,
    AWAY_MIN_MS = 100,
    AWAY_MAX_MS = 5000
};
/* One record may be 2 GiB, and more as JSON. */
#define LINE_MAX_BYTES ((size_t)8 << 30)

struct tail {
    const struct cmd_args *a;
    struct cmd_remote remote;
    struct buf line; /* the beginning of a line whose end has not come yet */
    struct buf out;
    uint64_t seen; /* records printed */
    bool has_last;
    uint64_t last;  /* offset of the last one */
    int out_status; /* CMD_DONE until printing failed */
    size_t columns; /* 0: stdout is not a terminal */
};

/* ---- lines ---- */

static int
put_line(struct tail *t, struct str line, struct err *e)
{
    uint64_t offset;
    if (line.n == 0) {
        return 0;
    }
    if (!cmd_line_offset(line, &offset)) {
        return err_set(e, ERR_PROTOCOL,
            "the broker sent a line that is not a change; is it another version?");
    }
    if (t->a->json) {
        buf_put_str(&t->out, line);
    } else {
        (void)cmd_line_put(&t->out, line, t->columns);
    }
    buf_putc(&t->out, '\n');
    t->has_last = true;
    t->last = offset;
    t->seen++;
    return buf_ok(&t->out)
               ? 0
               : err_set(e, ERR_TOOBIG, "a line is beyond %zu bytes", LINE_MAX_BYTES);
}

static int
flush(struct tail *t, struct err *e)
{
    t->out_status = cmd_print(t->a, buf_str(&t->out));
    buf_reset(&t->out, KEEP_BYTES);
    return t->out_status == CMD_DONE ? 0 : err_set(e, ERR_CLOSED, "nobody reads any more");
}

static int
on_piece(void *arg, struct str piece, struct err *e)
{
    struct tail *t = arg;
    int rc = 0;
    t->columns = cmd_text_columns(STDOUT_FILENO);
    while (rc == 0 && piece.n > 0) {
        const char *nl = memchr(piece.p, '\n', piece.n);
        size_t n = nl == NULL ? piece.n : (size_t)(nl - piece.p) + 1;
        struct str part = {piece.p, nl == NULL ? n : n - 1};
        piece.p += n;
        piece.n -= n;
        if (nl != NULL && t->line.n == 0) {
            rc = put_line(t, part, e);
            continue;
        }
        buf_put_str(&t->line, part);
        if (!buf_ok(&t->line)) {
            return err_set(e, ERR_TOOBIG, "a line is beyond %zu bytes", LINE_MAX_BYTES);
        }
        if (nl != NULL) {
            rc = put_line(t, buf_str(&t->line), e);
            buf_reset(&t->line, KEEP_BYTES);
        }
    }
    int flushed = t->out.n > 0 ? flush(t, rc == 0 ? e : NULL) : 0;
    return rc != 0 ? rc : flushed;
}

/* ---- requests ---- */

static void
put_arg(struct buf *b, const char *name, const char *value)
{
    if (value != NULL) {
        buf_printf(b, "&%s=", name);
        httpc_put_escaped(b, str_from(value));
    }
}

static void
put_path(struct buf *b, const struct tail *t, const char *from)
{
    const struct cmd_args *a = t->a;
    buf_puts(b, "/changes?from=");
    if (t->has_last) {
        buf_printf(b, "%" PRIu64, t->last + 1);
    } else {
        httpc_put_escaped(b, str_from(from));
    }
    put_arg(b, "until", a->until);
    put_arg(b, "tables", a->tables);
    put_arg(b, "ops", a->ops);
    if (a->limit > 0) {
        buf_printf(b, "&limit=%" PRIu64, a->limit - t->seen);
    }
    buf_puts(b, a->follow ? "&follow=1" : "");
}

static bool
is_complete(const struct tail *t)
{
    return t->a->limit > 0 && t->seen >= t->a->limit;
}

/* One connection, to its end. */
static int
read_on(struct tail *t, const char *from, struct err *e)
{
    auto_buf struct buf path;
    buf_init(&path, PATH_MAX_BYTES);
    put_path(&path, t, from);
    if (!buf_ok(&path)) {
        return err_set(
            e, ERR_USAGE, "--tables and --ops take more than %d bytes", PATH_MAX_BYTES);
    }
    buf_reset(&t->line, KEEP_BYTES);
    return client_stream(t->remote.client, buf_cstr(&path), API_NDJSON, on_piece, t, e);
}

static void
pause_ms(int64_t ms)
{
    struct pollfd p = {.fd = sig_stop_fd(), .events = POLLIN};
    (void)poll(&p, 1, (int)ms);
}

/* Whether an answer that ended this way (rc 0: properly) is followed by the next one. A
 * following answer without `until` has no end of its own: the broker went down. */
static bool
goes_on(const struct tail *t, int rc, const struct err *e)
{
    if (!t->a->follow || is_complete(t) || sig_stop_requested() || t->out_status != CMD_DONE) {
        return false;
    }
    return rc == 0 ? t->a->until == NULL : cmd_remote_is_away(e);
}

static int
follow(struct tail *t, const char *from, struct err *e)
{
    struct backoff b;
    bool is_away = false;
    backoff_init(&b, AWAY_MIN_MS, AWAY_MAX_MS, (uint64_t)clock_wall_us());
    for (;;) {
        uint64_t seen = t->seen;
        int rc = read_on(t, from, e);
        if (!goes_on(t, rc, e)) {
            return rc;
        }
        if (t->seen != seen) {
            backoff_reset(&b);
            is_away = false;
        }
        if (!is_away) {
            (void)fprintf(stderr, "oneslot tail: the broker is away (%s); waiting for it\n",
                rc == 0 ? "it ended the answer" : e->msg);
            is_away = true;
        }
        pause_ms(backoff_next_ms(&b));
    }
}

/* `latest` as an offset: a reconnection before the first change must not move it. */
static int
resolve_latest(struct tail *t, char *to, size_t n, struct err *e)
{
    struct json *root;
    int64_t offset;
    int rc = client_get_json(t->remote.client, "/positions/latest", &root, e);
    if (rc != 0) {
        return rc;
    }
    if (json_i64(json_get(root, "offset"), &offset)) {
        (void)snprintf(to, n, "%" PRId64, offset);
    } else {
        rc = err_set(e, ERR_PROTOCOL, "the broker's answer to /positions/latest has no offset");
    }
    json_free(root);
    return rc;
}

static int
tail_all(struct tail *t, const struct position *from)
{
    char offset[24];
    struct err e = {0};
    int rc = 0;
    const char *text = t->a->from != NULL ? t->a->from : "earliest";
    if (t->a->follow && from->kind == POSITION_LATEST) {
        rc = resolve_latest(t, offset, sizeof offset, &e);
        text = offset;
    }
    if (rc == 0) {
        rc = follow(t, text, &e);
    }
    if (t->out_status != CMD_DONE) {
        return t->out_status;
    }
    if (rc == ERR_STOPPING && !t->a->follow) {
        return cmd_complain(t->a, CMD_FAILED, "interrupted before the end");
    }
    if (rc == ERR_PARSE) {
        return cmd_complain(
            t->a, CMD_USAGE, "%s", e.msg); /* the broker does not take a value */
    }
    return rc == 0 ? CMD_DONE : cmd_remote_complain(t->a, &t->remote, &e);
}

static int
parse_positions(const struct cmd_args *a, struct position *ret_from)
{
    struct err e;
    struct position until;
    *ret_from = (struct position){.kind = a->follow ? POSITION_LATEST : POSITION_EARLIEST};
    if (a->from != NULL && position_parse(str_from(a->from), ret_from, &e) != 0) {
        return cmd_complain(a, CMD_USAGE, "--from: %s", e.msg);
    }
    if (a->until != NULL && position_parse(str_from(a->until), &until, &e) != 0) {
        return cmd_complain(a, CMD_USAGE, "--until: %s", e.msg);
    }
    return CMD_DONE;
}

static int
run(const struct cmd_args *a)
{
    struct position from;
    struct tail t = {.a = a};
    int status = parse_positions(a, &from);
    if (status != CMD_DONE) {
        return status;
    }
    sig_init();
    status = cmd_remote_open(a, &t.remote);
    if (status != CMD_DONE) {
        return status;
    }
    buf_init(&t.line, LINE_MAX_BYTES);
    buf_init(&t.out, LINE_MAX_BYTES);
    status = tail_all(&t, &from);
    buf_fini(&t.line);
    buf_fini(&t.out);
    cmd_remote_close(&t.remote);
    return status;
}

static const struct cmd_option options[] = {
    {"follow", 'f', CMD_FLAG, offsetof(struct cmd_args, follow), NULL,
        "go on with what comes; wait for a broker that is away"},
    {"from", 0, CMD_TEXT, offsetof(struct cmd_args, from), "POS",
        "begin here (default: earliest; with -f: latest)"},
    {"until", 0, CMD_TEXT, offsetof(struct cmd_args, until), "POS",
        "end after the last transaction at or before it (default: the tail)"},
    {"tables", 0, CMD_TEXT, offsetof(struct cmd_args, tables), "LIST",
        "only these, as patterns: fabric.*,public.orders"},
    {"ops", 0, CMD_TEXT, offsetof(struct cmd_args, ops), "LIST",
        "only insert,update,delete,truncate,read,message"},
    {"limit", 0, CMD_COUNT, offsetof(struct cmd_args, limit), "N", "at most N changes"},
    CMD_OPTION_JSON, CMD_OPTION_CONFIG, CMD_OPTION_URL, CMD_OPTION_TOKEN, CMD_OPTION_HELP,
    CMD_OPTION_END};

const struct cmd cmd_tail = {
    .name = "tail",
    .summary = "changes, readable (NDJSON with --json)",
    .synopsis = "[-f] [--from POS] [--until POS] [--tables LIST] [--ops LIST]\n"
                "                    [--limit N] [--json] [-c FILE | --url URL]",
    .about =
        "Prints the changes in the log, one line each: commit time, operation, table, "
        "key, and the\n"
        "new values (of an update those that differ, where the table's replica identity "
        "tells).\n"
        "On a terminal lines are cut to its width. --json gives whole changes.\n"
        "\n"
        "A POS is earliest, latest, an offset (1882345678901234), an LSN (0/16B3748, or\n"
        "EPOCH:0/16B3748), or a time (2026-11-22T10:00:00Z). A commit LSN includes its\n"
        "transaction. --until a time ends before the first transaction with a later commit "
        "time.\n"
        "An answer that breaks off before its end is status 1; with -f it "
        "goes on\n"
        "behind the last change as soon as the broker is there again.\n",
    .examples = "  oneslot tail -f\n"
                "  oneslot tail --from 0/16B3748 --tables 'fabric.*' --ops delete\n"
                "  oneslot tail --from 2026-11-22T10:00:00Z --limit 10 --json | jq .new\n",
    .options = options,
    .run = run,
};
