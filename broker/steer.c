/* steer: see steer.h. */
#include "broker/steer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "broker/doubts.h"
#include "broker/lag.h"
#include "broker/problem.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "proto/base/xmalloc.h"

enum { ANSWER_MAX = 64 * 1024 };

bool
steer_name(struct httpd_req *rq, struct str name, char to[STATE_NAME_MAX])
{
    if (name.n > 0 && name.n < STATE_NAME_MAX && memchr(name.p, '\0', name.n) == NULL) {
        memcpy(to, name.p, name.n);
        to[name.n] = '\0';
        return true;
    }
    problem_respond_text(rq, 404, "no sink is called '%.*s'; GET /sinks names them",
        (int)(name.n < STATE_NAME_MAX ? name.n : STATE_NAME_MAX), name.p);
    return false;
}

int
steer_fence(struct broker *bk, const char *name, struct err *e)
{
    struct sink_row row;
    int rc = state_sink(bk->state, name, &row, e);
    if (rc == 0) {
        state_steer_sink(&row);
        rc = state_set_sink(bk->state, &row, e);
    }
    return rc;
}

static void
respond_json(struct httpd_req *rq, struct buf *b)
{
    buf_putc(b, '\n');
    httpd_respond(rq, 200, API_JSON, b);
}

/* Why a sink that is not registered cannot be told anything yet. */
static int
find_row(struct broker *bk, const char *name, struct sink_row *ret, struct err *e)
{
    int rc = state_sink(bk->state, name, ret, e);
    if (rc == ERR_NOTFOUND && config_sink_find(bk->conf, name) != NULL) {
        return err_set(e, ERR_CONFLICT,
            "sink '%s' is configured, but was never started, since its `start` cannot be had; "
            "its last error says why",
            name);
    }
    return rc == ERR_NOTFOUND
               ? err_set(e, rc, "no sink is called '%s'; GET /sinks names them", name)
               : rc;
}

/* ---- pause, resume ---- */

/* Resuming what is not paused is an order too: a worker that stands `stopped` looks again now
 * (but at the published tables, which the replicator says every 15 seconds). */
static int
set_paused(
    struct broker *bk, const char *name, bool is_paused, struct sink_row *row, struct err *e)
{
    (void)pthread_mutex_lock(&bk->retain_lock);
    int rc = find_row(bk, name, row, e);
    if (rc == 0 && (row->is_paused != is_paused || !is_paused)) {
        row->is_paused = is_paused;
        state_steer_sink(row);
        rc = state_set_sink(bk->state, row, e);
    }
    (void)pthread_mutex_unlock(&bk->retain_lock);
    broker_end_on_fatal(rc, e);
    return rc;
}

/* A body says nothing here: an empty object at most. */
static int
check_empty(struct str body, struct err *e)
{
    struct json *root = NULL;
    int rc = body.n == 0 ? 0 : json_parse(body, &root, e);
    if (rc == 0 && body.n > 0 && (!json_is_object(root) || json_size(root) > 0)) {
        rc = err_set(e, ERR_PARSE, "the body has to be empty, or {}");
    }
    json_free(root);
    return rc;
}

static void
pause_or_resume(struct broker *bk, struct httpd_req *rq, struct str name_in_path, bool pause)
{
    char name[STATE_NAME_MAX];
    struct sink_row row;
    struct err e;
    if (!steer_name(rq, name_in_path, name)) {
        return;
    }
    int rc = check_empty(httpd_body(rq), &e);
    if (rc == 0) {
        rc = set_paused(bk, name, pause, &row, &e);
    }
    if (rc != 0) {
        problem_respond(rq, &e);
        return;
    }
    log_info(pause ? "sink_paused" : "sink_resumed", "sink=%s", log_quote(name));
    struct buf auto_buf b;
    struct jsonw w;
    buf_init(&b, ANSWER_MAX);
    jsonw_init(&w, &b);
    jsonw_object(&w, NULL);
    jsonw_cstr(&w, "name", name);
    jsonw_bool(&w, "paused", row.is_paused);
    jsonw_end_object(&w);
    respond_json(rq, &b);
}

void
steer_pause(struct broker *bk, struct httpd_req *rq, struct str name)
{
    pause_or_resume(bk, rq, name, true);
}

void
steer_resume(struct broker *bk, struct httpd_req *rq, struct str name)
{
    pause_or_resume(bk, rq, name, false);
}

/* ---- replay ---- */

/* A position, or the number of an offset. */
static int
get_position(const struct json *j, struct position *ret, struct err *e)
{
    struct str text;
    int64_t n;
    if (json_i64(j, &n) && n >= 0) {
        *ret = (struct position){.kind = POSITION_OFFSET, .offset = (uint64_t)n};
        return 0;
    }
    return json_str(j, &text) ? position_parse(text, ret, e)
                              : err_set(e, ERR_PARSE,
                                    "from: a position (earliest, latest, an offset, an LSN, "
                                    "a time) has to be there");
}

static int
get_bool(const struct json *j, const char *key, bool *ret, struct err *e)
{
    return json_bool(j, ret) ? 0 : err_set(e, ERR_PARSE, "%s: true or false", key);
}

static int
get_member(const char *key, const struct json *j, struct steer_replay_args *a, struct err *e)
{
    int64_t n;
    if (strcmp(key, "from") == 0) {
        return get_position(j, &a->from, e);
    }
    if (strcmp(key, "skip") == 0) {
        return get_bool(j, key, &a->may_skip, e);
    }
    if (strcmp(key, "dry_run") == 0) {
        return get_bool(j, key, &a->is_dry_run, e);
    }
    if (strcmp(key, "expect") != 0) {
        return err_set(e, ERR_PARSE,
            "there is no member '%.60s' here, but from, expect, skip and dry_run", key);
    }
    if (!json_i64(j, &n) || n < 0) {
        return err_set(e, ERR_PARSE, "expect: an offset, a whole number");
    }
    a->has_expect = true;
    a->expect = (uint64_t)n;
    return 0;
}

int
steer_parse_replay(struct str body, struct steer_replay_args *ret, struct err *e)
{
    struct json *root;
    struct steer_replay_args a = {0};
    int rc = json_parse(body, &root, e);
    if (rc != 0) {
        return rc;
    }
    if (!json_is_object(root) || json_get(root, "from") == NULL) {
        rc = err_set(e, ERR_PARSE, "the body has to be an object with `from`, a position");
    }
    for (size_t i = 0; rc == 0 && i < json_size(root); i++) {
        const char *key;
        const struct json *j = json_member(root, i, &key);
        rc = get_member(key, j, &a, e);
    }
    json_free(root);
    if (rc == 0) {
        *ret = a;
    }
    return rc;
}

/* Records between two offsets, whatever a sink's tables select: as /lag counts them. */
static uint64_t
count_between(struct journal *j, uint64_t low, uint64_t high)
{
    size_t n = journal_segments(j, NULL, 0);
    struct journal_segment *seg = xcalloc(n, sizeof *seg);
    size_t have = journal_segments(j, seg, n);
    uint64_t first;
    n = have < n ? have : n;
    uint64_t records =
        lag_records_from(seg, n, low, &first) - lag_records_from(seg, n, high, &first);
    free(seg);
    return records;
}

struct moved {
    struct journal_place from;
    uint64_t offset; /* its last settled record before */
    uint64_t records;
    bool is_moved;
};

/* Under retain_lock. */
static int
decide(struct broker *bk, const struct steer_replay_args *a, const struct sink_row *row,
    struct moved *ret, struct err *e)
{
    struct moved m = {.offset = row->next - 1};
    if (a->has_expect && a->expect != m.offset) {
        return err_set(e, ERR_CONFLICT,
            "sink '%s': its last settled record is %" PRIu64 ", not %" PRIu64
            "; nothing was moved",
            row->name, m.offset, a->expect);
    }
    int rc = journal_find(bk->journal, &a->from, &m.from, e);
    if (rc != 0) {
        return rc;
    }
    bool is_forward = m.from.offset > row->next;
    m.records = is_forward ? count_between(bk->journal, row->next, m.from.offset)
                           : count_between(bk->journal, m.from.offset, row->next);
    if (is_forward && !a->may_skip) {
        return err_set(e, ERR_CONFLICT,
            "sink '%s' stands before that position: moving there passes over %" PRIu64
            " records that are still in the log, and whatever is not; say skip (--skip) if "
            "that is wanted",
            row->name, m.records);
    }
    *ret = m;
    return 0;
}

static int
move(struct broker *bk, const char *name, const struct steer_replay_args *a, struct moved *ret,
    struct err *e)
{
    struct sink_row row;
    int rc = find_row(bk, name, &row, e);
    if (rc == 0) {
        rc = decide(bk, a, &row, ret, e);
    }
    if (rc != 0 || a->is_dry_run || ret->from.offset == row.next) {
        return rc;
    }
    if (ret->from.offset > row.next) {
        row.floor = ret->from.offset; /* what was passed over is missing in the target */
    }
    row.next = ret->from.offset;
    state_steer_sink(&row);
    rc = state_set_sink(bk->state, &row, e);
    ret->is_moved = rc == 0;
    return rc;
}

void
steer_replay(struct broker *bk, struct httpd_req *rq, struct str name_in_path)
{
    char name[STATE_NAME_MAX];
    struct steer_replay_args a;
    struct moved m = {0};
    struct err e;
    if (!steer_name(rq, name_in_path, name)) {
        return;
    }
    int rc = steer_parse_replay(httpd_body(rq), &a, &e);
    if (rc == 0) {
        (void)pthread_mutex_lock(&bk->retain_lock);
        rc = move(bk, name, &a, &m, &e);
        (void)pthread_mutex_unlock(&bk->retain_lock);
        broker_end_on_fatal(rc, &e);
    }
    if (rc != 0) {
        problem_respond_log(rq, &e, bk->journal);
        return;
    }
    if (m.is_moved) {
        log_info("sink_moved", "sink=%s offset=%" PRIu64 " next=%" PRIu64 " records=%" PRIu64,
            log_quote(name), m.offset, m.from.offset, m.records);
        keeper_nudge(bk->keeper);
    }
    struct buf auto_buf b;
    struct jsonw w;
    buf_init(&b, ANSWER_MAX);
    jsonw_init(&w, &b);
    jsonw_object(&w, NULL);
    problem_put_place(&w, "from", &m.from);
    jsonw_u64(&w, "offset", m.offset);
    jsonw_u64(&w, "records", m.records);
    jsonw_bool(&w, "moved", m.is_moved);
    jsonw_end_object(&w);
    respond_json(rq, &b);
}

/* ---- forgetting ---- */

/* What its worker said last goes with it. */
static void
forget_report(struct broker *bk, const char *name)
{
    (void)pthread_mutex_lock(&bk->report_lock);
    for (size_t i = 0; i < bk->nsinks; i++) {
        if (strcmp(bk->sink[i].name, name) == 0) {
            bk->nsinks--;
            memmove(&bk->sink[i], &bk->sink[i + 1], (bk->nsinks - i) * sizeof *bk->sink);
            break;
        }
    }
    (void)pthread_mutex_unlock(&bk->report_lock);
}

/* The sink itself last: a crash between leaves a sink that is still known and can be forgotten
 * again.
 */
static int
forget(struct broker *bk, const char *name, struct err *e)
{
    struct sink_row row;
    (void)pthread_mutex_lock(&bk->retain_lock);
    int rc = find_row(bk, name, &row, e);
    if (rc == 0) {
        rc = doubts_forget(&bk->dead_folder, name, e);
    }
    if (rc == 0) {
        rc = dead_forget(bk->dead, name, e);
    }
    if (rc == 0) {
        rc = state_forget_sink(bk->state, name, e);
    }
    (void)pthread_mutex_unlock(&bk->retain_lock);
    broker_end_on_fatal(rc, e);
    return rc;
}

void
steer_forget(struct broker *bk, struct httpd_req *rq, struct str name_in_path)
{
    char name[STATE_NAME_MAX];
    struct err e;
    struct buf b;
    if (!steer_name(rq, name_in_path, name)) {
        return;
    }
    if (config_sink_find(bk->conf, name) != NULL) {
        problem_respond_text(rq, 409,
            "sink '%s' is configured: take it out of the configuration and restart first",
            name);
        return;
    }
    if (forget(bk, name, &e) != 0) {
        problem_respond(rq, &e);
        return;
    }
    forget_report(bk, name);
    log_info("sink_forgotten", "sink=%s", log_quote(name));
    keeper_nudge(bk->keeper); /* the log may be shorter now */
    buf_init(&b, 0);
    httpd_respond(rq, 204, NULL, &b);
}
