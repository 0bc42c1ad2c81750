/* internal_sink: sessions, offsets and reports of sink workers (P4). Knows positions and the
 * state; nothing of what a sink writes. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "broker/internal.h"
#include "broker/problem.h"
#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/xmalloc.h"
#include "proto/position.h"

static bool
copy_text(char *to, size_t size, struct str s)
{
    if (s.n >= size) {
        return false;
    }
    memcpy(to, s.p, s.n);
    to[s.n] = '\0';
    return true;
}

int
internal_sink_name(struct str name, char to[STATE_NAME_MAX], struct err *e)
{
    if (name.n == 0 || !copy_text(to, STATE_NAME_MAX, name) ||
        strspn(to, "abcdefghijklmnopqrstuvwxyz0123456789_-") != name.n) {
        return err_set(
            e, ERR_PARSE, "a sink's name is 1 to %d of a-z 0-9 _ -", STATE_NAME_MAX - 1);
    }
    return 0;
}

int
internal_check_generation(const struct sink_row *row, uint64_t generation, struct err *e)
{
    if (generation == row->generation) {
        return 0;
    }
    if (row->is_steered) {
        return err_set(e, ERR_STEERED,
            "sink '%s': session %" PRIu64
            " is over: the sink was paused, resumed or moved, or a dead letter decided on",
            row->name, generation);
    }
    return err_set(e, ERR_FENCED,
        "sink '%s': session %" PRIu64 " is over; the newest is %" PRIu64, row->name, generation,
        row->generation);
}

static uint32_t
tables_sum(struct broker *bk)
{
    (void)pthread_mutex_lock(&bk->report_lock);
    uint32_t sum = bk->tables.sum;
    (void)pthread_mutex_unlock(&bk->report_lock);
    return sum;
}

static void
respond_session(struct broker *bk, struct httpd_req *rq, const struct sink_row *row)
{
    struct journal_info info;
    journal_info(bk->journal, &info);
    struct dead_counts letters;
    dead_counts(bk->dead, row->name, &letters);
    struct api_sink_session s = {
        .generation = row->generation,
        .epoch = info.epoch,
        .next = row->next,
        .floor = row->floor,
        .is_paused = row->is_paused,
        .letters = letters.letters,
        .tables = tables_sum(bk),
    };
    memcpy(s.uuid, journal_uuid(bk->journal), API_UUID);
    auto_buf struct buf b;
    buf_init(&b, API_CONTROL_BODY);
    api_put_sink_session(&b, &s);
    httpd_respond(rq, 200, API_MSGPACK, &b);
}

/* The first time a sink is seen, `start` says where it begins. */
static int
register_sink(struct broker *bk, const char *name, const struct api_sink_open *o,
    struct sink_row *row, struct err *e)
{
    struct position p;
    struct journal_place place;
    int rc = position_parse(o->start, &p, e);
    if (rc == 0) {
        rc = journal_find(bk->journal, &p, &place, e);
    }
    if (rc == 0) {
        state_first_row(row, name, place.offset);
    }
    return rc;
}

static int
open_session(struct broker *bk, const char *name, const struct api_sink_open *o,
    struct sink_row *row, struct err *e)
{
    int rc = state_sink(bk->state, name, row, e);
    if (rc == ERR_NOTFOUND) {
        rc = register_sink(bk, name, o, row, e);
    }
    if (rc != 0) {
        return rc;
    }
    if (!copy_text(row->kind, sizeof row->kind, o->kind) ||
        !copy_text(row->tables, sizeof row->tables, o->tables)) {
        return err_set(e, ERR_PARSE, "sink '%s': its kind or its tables are too long", name);
    }
    row->generation++;
    row->is_steered = false;
    return state_set_sink(bk->state, row, e);
}

void
internal_sink_session(struct broker *bk, struct httpd_req *rq, struct str name_in_path)
{
    char name[STATE_NAME_MAX];
    struct api_sink_open o;
    struct sink_row row;
    struct err e;
    int rc = internal_sink_name(name_in_path, name, &e);
    if (rc == 0) {
        rc = api_get_sink_open(httpd_body(rq), &o, &e);
    }
    if (rc == 0) {
        (void)pthread_mutex_lock(&bk->retain_lock);
        rc = open_session(bk, name, &o, &row, &e);
        (void)pthread_mutex_unlock(&bk->retain_lock);
    }
    broker_end_on_fatal(rc, &e);
    if (rc != 0) {
        problem_respond(rq, &e);
        return;
    }
    log_info("sink_session", "sink=%s generation=%" PRIu64 " next=%" PRIu64, name,
        row.generation, row.next);
    respond_session(bk, rq, &row);
}

/* P4: by the newest worker only, from where the offset stands, never past the tail, never back.
 */
static int
move_offset(struct broker *bk, const char *name, const struct api_sink_commit *c,
    struct sink_row *row, struct err *e)
{
    int rc = state_sink(bk->state, name, row, e);
    if (rc == 0) {
        rc = internal_check_generation(row, c->generation, e);
    }
    if (rc != 0) {
        return rc;
    }
    if (c->next < c->expect) {
        return err_set(e, ERR_PARSE, "sink '%s': an offset only moves forward", name);
    }
    if (c->expect != row->next) {
        return err_set(e, ERR_FENCED, "sink '%s' stands at %" PRIu64 ", not at %" PRIu64, name,
            row->next, c->expect);
    }
    uint64_t tail = journal_tail(bk->journal);
    if (c->next > tail) {
        return err_set(e, ERR_BEYOND,
            "sink '%s': offset %" PRIu64 " lies beyond the end of the log (%" PRIu64 ")", name,
            c->next, tail);
    }
    row->next = c->next;
    return state_set_sink(bk->state, row, e);
}

void
internal_sink_commit(struct broker *bk, struct httpd_req *rq, struct str name_in_path)
{
    char name[STATE_NAME_MAX];
    struct api_sink_commit c;
    struct sink_row row;
    struct err e;
    int rc = internal_sink_name(name_in_path, name, &e);
    if (rc == 0) {
        rc = api_get_sink_commit(httpd_body(rq), &c, &e);
    }
    if (rc == 0) {
        (void)pthread_mutex_lock(&bk->retain_lock);
        rc = move_offset(bk, name, &c, &row, &e);
        (void)pthread_mutex_unlock(&bk->retain_lock);
    }
    broker_end_on_fatal(rc, &e);
    if (rc != 0) {
        problem_respond(rq, &e);
        return;
    }
    if (writer_is_full(bk->writer)) {
        keeper_nudge(bk->keeper);
    }
    respond_session(bk, rq, &row);
}

/* Under report_lock: the report of that sink, made when it is the first one. */
static struct sink_report *
find_report(struct broker *bk, const char *name)
{
    for (size_t i = 0; i < bk->nsinks; i++) {
        if (strcmp(bk->sink[i].name, name) == 0) {
            return &bk->sink[i];
        }
    }
    if (bk->nsinks >= STATE_SINKS_MAX) {
        return NULL;
    }
    bk->sink = xreallocarray(bk->sink, bk->nsinks + 1, sizeof *bk->sink);
    struct sink_report *r = &bk->sink[bk->nsinks++];
    memset(r, 0, sizeof *r);
    (void)copy_text(r->name, sizeof r->name, str_from(name));
    return r;
}

/* Records since the former report of the same worker, over the time between, smoothed over some
 * reports. */
static double
new_rate(const struct sink_report *r, const struct api_sink_status *s, int64_t now_ms)
{
    int64_t ms = now_ms - r->at_ms;
    if (r->at_ms == 0 || ms <= 0 || s->generation != r->status.generation ||
        s->records < r->status.records) {
        return 0;
    }
    double rate = (double)(s->records - r->status.records) * 1000.0 / (double)ms;
    return r->records_per_second == 0 ? rate : 0.5 * rate + 0.5 * r->records_per_second;
}

void
internal_sink_status(struct broker *bk, struct httpd_req *rq, struct str name_in_path)
{
    char name[STATE_NAME_MAX];
    struct api_sink_status s;
    struct sink_row row;
    struct err e;
    int rc = internal_sink_name(name_in_path, name, &e);
    if (rc == 0) {
        rc = api_get_sink_status(httpd_body(rq), &s, &e);
    }
    if (rc == 0) {
        rc = state_sink(bk->state, name, &row, &e);
    }
    if (rc == 0) {
        rc = internal_check_generation(&row, s.generation, &e);
    }
    if (rc != 0) {
        problem_respond(rq, &e);
        return;
    }
    (void)pthread_mutex_lock(&bk->report_lock);
    struct sink_report *r = find_report(bk, name);
    if (r != NULL) {
        int64_t now_ms = clock_mono_ms();
        r->records_per_second = new_rate(r, &s, now_ms);
        r->at_ms = now_ms;
        r->status = s;
        size_t n =
            s.last_error.n < sizeof r->last_error ? s.last_error.n : sizeof r->last_error - 1;
        if (n > 0) {
            memcpy(r->last_error, s.last_error.p, n);
        }
        r->last_error[n] = '\0';
        r->status.last_error = (struct str){0}; /* it was a view into the request */
    }
    (void)pthread_mutex_unlock(&bk->report_lock);
    respond_session(bk, rq, &row);
}

void
internal_tables(struct broker *bk, struct httpd_req *rq, struct str name)
{
    struct buf auto_buf b;
    (void)name;
    buf_init(&b, API_TABLES_BYTES);
    (void)pthread_mutex_lock(&bk->report_lock);
    if (bk->tables.sum == 0) {
        api_put_tables(&b, NULL, 0);
    } else {
        buf_put_str(&b, buf_str(&bk->tables.body));
    }
    (void)pthread_mutex_unlock(&bk->report_lock);
    httpd_respond(rq, 200, API_MSGPACK, &b);
}
