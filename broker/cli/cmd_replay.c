/* cmd_replay: `oneslot replay`: moves a sink, with the number of records first. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "broker/cli/cmd_remote.h"
#include "broker/cli/cmd_text.h"
#include "proto/base/httpc.h"
#include "proto/base/sig.h"

enum { TEXT_MAX = 8192, TRIES = 10 };

/* What the broker says of a move, done or not. */
struct answer {
    int64_t from, offset, records;
    char lsn[32], ts[40];
    bool is_moved;
};

static void
copy_text(char *to, size_t size, const struct json *j)
{
    struct str s = {0};
    (void)json_str(j, &s);
    (void)snprintf(to, size, "%.*s", (int)s.n, s.n > 0 ? s.p : "");
}

static int
get_answer(const struct json *root, struct answer *ret, struct err *e)
{
    struct answer n = {0};
    const struct json *from = json_get(root, "from");
    if (!json_i64(json_get(from, "offset"), &n.from) ||
        !json_i64(json_get(root, "offset"), &n.offset) ||
        !json_i64(json_get(root, "records"), &n.records) ||
        !json_bool(json_get(root, "moved"), &n.is_moved)) {
        return err_set(e, ERR_PROTOCOL,
            "the broker's answer is not understood; run the same version everywhere");
    }
    copy_text(n.lsn, sizeof n.lsn, json_get(from, "lsn"));
    copy_text(n.ts, sizeof n.ts, json_get(from, "ts"));
    *ret = n;
    return 0;
}

/* expect < 0: whatever its offset is. */
static int
call(const struct cmd_args *a, struct client *c, const char *from, int64_t expect,
    bool is_dry_run, struct answer *ret, struct err *e)
{
    auto_buf struct buf path;
    auto_buf struct buf body;
    struct jsonw w;
    struct json *root = NULL;
    buf_init(&path, TEXT_MAX);
    buf_init(&body, TEXT_MAX);
    buf_puts(&path, "/sinks/");
    httpc_put_escaped(&path, str_from(a->word[0]));
    buf_puts(&path, "/replay");
    jsonw_init(&w, &body);
    jsonw_object(&w, NULL);
    jsonw_cstr(&w, "from", from);
    jsonw_bool(&w, "skip", a->skip);
    jsonw_bool(&w, "dry_run", is_dry_run);
    if (expect >= 0) {
        jsonw_i64(&w, "expect", expect);
    }
    jsonw_end_object(&w);
    if (!buf_ok(&body) || !buf_ok(&path)) {
        return err_set(e, ERR_USAGE, "the name or the position is too long");
    }
    int rc = client_post_json(c, buf_cstr(&path), buf_str(&body), &root, e);
    if (rc == 0) {
        rc = get_answer(root, ret, e);
        json_free(root);
    }
    return rc;
}

static bool
is_forward(const struct answer *n)
{
    return n->from > n->offset + 1;
}

static void
put_plan(struct buf *b, const struct cmd_args *a, const struct answer *n)
{
    buf_printf(b, "Sink %s stands behind offset %" PRId64 ". ", a->word[0], n->offset);
    if (n->from == n->offset + 1) {
        buf_puts(b, "That is where it would be moved to: nothing to do.");
        return;
    }
    buf_puts(b, is_forward(n) ? "Moved forward to offset " : "Moved back to offset ");
    buf_printf(b, "%" PRId64, n->from);
    if (n->lsn[0] != '\0') {
        buf_printf(b, " (%s, %s)", n->lsn, n->ts);
    }
    buf_puts(b, is_forward(n) ? " it would never get " : " it would write again ");
    cmd_text_put_count(b, (uint64_t)n->records);
    buf_puts(b, n->records == 1 ? " record." : " records.");
}

static int
print(const struct cmd_args *a, const struct answer *n)
{
    auto_buf struct buf b;
    buf_init(&b, TEXT_MAX);
    if (a->json) {
        struct jsonw w;
        jsonw_init(&w, &b);
        jsonw_object(&w, NULL);
        jsonw_cstr(&w, "sink", a->word[0]);
        jsonw_object(&w, "from");
        jsonw_i64(&w, "offset", n->from);
        jsonw_cstr(&w, "lsn", n->lsn[0] == '\0' ? NULL : n->lsn);
        jsonw_cstr(&w, "ts", n->ts[0] == '\0' ? NULL : n->ts);
        jsonw_end_object(&w);
        jsonw_i64(&w, "offset", n->offset);
        jsonw_i64(&w, "records", n->records);
        jsonw_bool(&w, "moved", n->is_moved);
        jsonw_end_object(&w);
    } else if (n->is_moved) {
        buf_printf(&b, "sink %s reads on at offset %" PRId64 "; records %s: ", a->word[0],
            n->from, is_forward(n) ? "passed over" : "to be written again");
        cmd_text_put_count(&b, (uint64_t)n->records);
    } else {
        put_plan(&b, a, n);
    }
    buf_putc(&b, '\n');
    return cmd_print(a, buf_str(&b));
}

/* A sink that is at work moves on while a person thinks: that is no reason to give up, being
 * moved by somebody else is. What the person saw (a fixed offset) is where it goes. */
static int
move(const struct cmd_args *a, struct client *c, const struct answer *plan, struct answer *ret,
    struct err *e)
{
    char from[32];
    (void)snprintf(from, sizeof from, "%" PRId64, plan->from);
    int64_t expect = plan->offset;
    int rc = ERR_CONFLICT;
    for (int i = 0; i < TRIES && rc == ERR_CONFLICT; i++) {
        rc = call(a, c, from, expect, false, ret, e);
        if (rc != ERR_CONFLICT || a->expect != 0) {
            return rc;
        }
        struct answer now;
        int again = call(a, c, from, -1, true, &now, e);
        if (again != 0) {
            return again;
        }
        if (now.offset < expect || (now.offset > plan->from) != (plan->offset > plan->from)) {
            return err_set(e, ERR_CONFLICT,
                "sink %s was moved meanwhile (it stands behind %" PRId64
                "); nothing was done, look again",
                a->word[0], now.offset);
        }
        expect = now.offset;
    }
    return rc == ERR_CONFLICT
               ? err_set(e, rc,
                     "sink %s moves on too fast; `oneslot sinks pause %s` it first, and resume "
                     "it afterwards",
                     a->word[0], a->word[0])
               : rc;
}

static int
replay(const struct cmd_args *a, struct cmd_remote *r)
{
    struct answer plan;
    struct answer done;
    struct err e;
    int64_t expect = a->expect == 0 ? -1 : (int64_t)a->expect;
    if (call(a, r->client, a->from, expect, true, &plan, &e) != 0) {
        return cmd_remote_complain(a, r, &e);
    }
    if (a->dry_run || plan.from == plan.offset + 1) {
        return print(a, &plan);
    }
    auto_buf struct buf question;
    buf_init(&question, TEXT_MAX);
    put_plan(&question, a, &plan);
    buf_puts(&question, " Move it?");
    int status = cmd_ask(a, buf_cstr(&question), "nothing was moved");
    if (status != CMD_DONE) {
        return status;
    }
    return move(a, r->client, &plan, &done, &e) == 0 ? print(a, &done)
                                                     : cmd_remote_complain(a, r, &e);
}

static int
run(const struct cmd_args *a)
{
    struct cmd_remote r;
    if (a->nwords != 1 || a->word[0][0] == '\0') {
        return cmd_complain(a, CMD_USAGE,
            "which sink? `oneslot replay SINK --from POS`; `oneslot sinks` has them");
    }
    if (a->from == NULL) {
        return cmd_complain(
            a, CMD_USAGE, "from where? `oneslot replay %.60s --from POS`", a->word[0]);
    }
    sig_init();
    int status = cmd_remote_open(a, &r);
    if (status == CMD_DONE) {
        status = replay(a, &r);
        cmd_remote_close(&r);
    }
    return status;
}

static const struct cmd_option options[] = {
    {"from", 0, CMD_TEXT, offsetof(struct cmd_args, from), "POS", "read on here"},
    {"dry-run", 'n', CMD_FLAG, offsetof(struct cmd_args, dry_run), NULL,
        "only say how many records it would be"},
    {"skip", 0, CMD_FLAG, offsetof(struct cmd_args, skip), NULL,
        "forward, past records that it then never gets"},
    {"expect", 0, CMD_COUNT, offsetof(struct cmd_args, expect), "OFFSET",
        "only if this is its last settled record (`offset` of lag)"},
    {"yes", 'y', CMD_FLAG, offsetof(struct cmd_args, yes), NULL, "do not ask"}, CMD_OPTION_JSON,
    CMD_OPTION_CONFIG, CMD_OPTION_URL, CMD_OPTION_TOKEN, CMD_OPTION_HELP, CMD_OPTION_WORDS(1),
    CMD_OPTION_END};

const struct cmd cmd_replay = {
    .name = "replay",
    .summary = "move a sink back, so that it writes again",
    .synopsis = "SINK --from POS [--dry-run] [--skip] [--expect OFFSET] [--yes]\n"
                "                      [--json] [-c FILE | --url URL]",
    .about =
        "Moves a sink back in the log: it writes everything from POS on again, up to where it\n"
        "stood and further. It says how many records that are (of whatever table, as lag "
        "counts\n"
        "them) and asks before it moves; --dry-run stops there. A sink that can tell old from\n"
        "new, like elasticsearch, keeps what is newer. Moving forward leaves records out for\n"
        "good and is done with --skip only: also for a sink whose next records retention has\n"
        "taken away (--from earliest --skip).\n"
        "\n"
        "A POS is earliest, latest, an offset (1882345678901234), an LSN (0/16B3748, or\n"
        "EPOCH:0/16B3748), or a time (2026-11-22T10:00:00Z). A commit LSN includes its\n"
        "transaction.\n",
    .examples = "  oneslot replay search --from 0/16B3748 --dry-run\n"
                "  oneslot replay search --from 2026-11-22T10:00:00Z\n"
                "  oneslot replay search --from latest --skip --yes\n",
    .options = options,
    .run = run,
};
