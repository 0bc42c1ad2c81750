/* lane: a thread's work: take what is next, write it, settle it, wait after a failure. */
#include <inttypes.h>
#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "proto/base/cond.h"
#include "proto/base/xmalloc.h"
#include "sinks/lanes_internal.h"

enum {
    CUT_MS = 1000,    /* one push back is felt by all lanes at once: halve only so often */
    GROW_WRITES = 16, /* good writes before another lane is used */
    IDLE_MS = 60000   /* only a bound for the wait */
};

/* ---- how much at once ---- */

static void
cut(struct lanes *ls, int64_t now_ms)
{
    if (now_ms - ls->cut_ms < CUT_MS) {
        return;
    }
    ls->cut_ms = now_ms;
    ls->good_writes = 0;
    ls->use_lanes = ls->use_lanes > 1 ? ls->use_lanes / 2 : 1;
    ls->use_records = ls->use_records > 1 ? ls->use_records / 2 : 1;
}

static void
grow(struct lanes *ls)
{
    size_t max = ls->c.ops->batch_records;
    size_t step = max / 16 == 0 ? 1 : max / 16;
    ls->use_records = ls->use_records + step < max ? ls->use_records + step : max;
    if (++ls->good_writes % GROW_WRITES == 0 && ls->use_lanes < ls->n) {
        ls->use_lanes++;
    }
}

/* ---- failures ---- */

static void
failed(struct lane *l, enum pace_from from, const struct err *e)
{
    struct lanes *ls = l->ls;
    int64_t now = clock_mono_ms();
    int64_t asked = from == PACE_BROKER ? client_retry_after_ms(l->client)
                    : l->sink != NULL   ? l->sink->retry_after_ms
                                        : -1;
    if (e->code == ERR_STOPPING && ls->c.should_stop()) {
        l->until_ms = INT64_MAX;
        return;
    }
    struct pace_step s = pace_failed(&l->pace, from, e->code, asked, now);
    if (s.drop_session && !ls->view.is_over) {
        ls->view.is_over = true;
        ls->view.over = *e;
        lanes_news(ls);
    }
    if (e->code == ERR_STEERED) {
        return; /* no failure */
    }
    ls->view.error = *e;
    ls->view.delay_ms = s.delay_ms;
    ls->view.failures++;
    ls->view.retries++;
    ls->view.is_fatal = ls->view.is_fatal || s.exit;
    l->until_ms = now + s.delay_ms;
    l->is_failing = true;
    if (s.state == API_SINK_STOPPED) {
        ls->is_stopped = true;
        ls->stopped_until_ms = now + s.delay_ms;
        if (s.close_target) {
            ls->openings++; /* what was wrong may be in how it was opened */
        }
    }
    lanes_news(ls);
}

static void
went_well(struct lane *l)
{
    if (l->is_failing) {
        l->is_failing = false;
        l->ls->is_stopped = false;
        lanes_news(l->ls);
    }
}

/* ---- the instance ---- */

static void
add_counts(struct lane *l)
{
    const struct sink_counts *is = &l->sink->counts;
    struct sink_counts *to = &l->ls->view.counts;
    to->requests += is->requests - l->shown.requests;
    to->bytes += is->bytes - l->shown.bytes;
    to->stale += is->stale - l->shown.stale;
    to->missing += is->missing - l->shown.missing;
    to->lossy += is->lossy - l->shown.lossy;
    l->shown = *is;
}

static void
close_sink(struct lane *l)
{
    struct sink *s = l->sink;
    l->sink = NULL;
    (void)pthread_mutex_unlock(&l->ls->lock);
    l->ls->c.ops->close(s);
    (void)pthread_mutex_lock(&l->ls->lock);
}

/* What the kind said of its failure; the class of the error decides, so it must have said it.
 */
static int
kind_failed(const struct lanes *ls, int rc, struct err *e)
{
    if (e->code == rc && rc < 0) {
        return rc;
    }
    return err_set(e, ERR_BUG, "a sink of kind %s failed with %d (%s) without saying why",
        ls->c.ops->name, rc, err_name(rc));
}

static int
open_sink(struct lane *l, struct err *e)
{
    struct lanes *ls = l->ls;
    struct sink_setup setup = {.name = ls->c.name,
        .options = ls->c.options,
        .next = ls->window.passed,
        .epoch = ls->session.epoch,
        .seen_path = ls->c.seen_path,
        .lane = l->index,
        .lanes = ls->n,
        .should_stop = ls->c.should_stop};
    memcpy(setup.uuid, ls->session.uuid, sizeof setup.uuid);
    uint64_t openings = ls->openings;
    struct sink *s = NULL;
    (void)pthread_mutex_unlock(&ls->lock);
    int rc = ls->c.ops->open(&setup, &s, e);
    (void)pthread_mutex_lock(&ls->lock);
    if (rc != 0) {
        return kind_failed(ls, rc, e);
    }
    l->sink = s;
    l->opened = openings;
    l->shown = (struct sink_counts){0};
    if (!ls->has_opened) {
        ls->has_opened = true;
        lanes_news(ls);
    }
    return 0;
}

/* ---- taking ---- */

static void
want_room(struct lane *l, size_t n)
{
    if (n <= l->cur_cap) {
        return;
    }
    l->cur_cap = n;
    l->cur = xreallocarray(l->cur, n, sizeof *l->cur);
    l->records = xreallocarray(l->records, n, sizeof *l->records);
    l->barred = xreallocarray(l->barred, n, sizeof *l->barred);
    l->floors = xreallocarray(l->floors, n, sizeof *l->floors);
    l->keys = xreallocarray(l->keys, n, sizeof *l->keys);
    l->verdicts = xreallocarray(l->verdicts, n, sizeof *l->verdicts);
    l->effects = xreallocarray(l->effects, n, sizeof *l->effects);
}

static size_t
bytes_of(const struct window_item *item)
{
    const struct intake *in = &item->batch->intake;
    return in->frames[item->r - in->records].n;
}

/* The barrier at the head: true when this lane is the one that writes it. It stays queued. */
static bool
take_barrier(struct lane *l, struct window_item *item)
{
    uint16_t bit = (uint16_t)(1u << l->index);
    if ((item->arrived & bit) != 0) {
        return false;
    }
    item->arrived |= bit;
    if (item->arrived != item->lanes) {
        return false;
    }
    want_room(l, 1);
    l->cur[0] = item;
    l->ncur = 1;
    return true;
}

/* Takes from the queue what makes up one write. */
static bool
take(struct lane *l)
{
    struct lanes *ls = l->ls;
    size_t bytes = 0;
    struct window_item *item = lane_queue_head(l);
    if (item != NULL && item->is_barrier) {
        return take_barrier(l, item);
    }
    while (item != NULL && !item->is_barrier && l->ncur < ls->use_records) {
        bytes += bytes_of(item);
        if (l->ncur > 0 && bytes > ls->c.ops->batch_bytes) {
            break;
        }
        if (l->ncur == l->cur_cap) {
            want_room(l, l->cur_cap == 0 ? 64 : 2 * l->cur_cap);
        }
        l->cur[l->ncur++] = item;
        lane_queue_pop(l);
        item = lane_queue_head(l);
    }
    return l->ncur > 0;
}

/* ---- writing ---- */

/* Writes the first n of cur; what came of it is in verdicts and effects. */
static enum verdict_action
write_some(struct lane *l, size_t n, struct err *e)
{
    struct lanes *ls = l->ls;
    struct sink_batch b = {.records = l->records,
        .n = n,
        .barred = l->barred,
        .floors = l->floors,
        .next = ls->window.passed,
        .tail = ls->tail,
        .floor = ls->session.floor};
    memset(l->verdicts, 0, n * sizeof *l->verdicts);
    l->sink->retry_after_ms = -1;
    l->sink->is_pushed_back = false;
    ls->running++;
    (void)pthread_mutex_unlock(&ls->lock);
    int rc = ls->c.ops->write(l->sink, &b, l->verdicts, e);
    (void)pthread_mutex_lock(&ls->lock);
    ls->running--;
    if (rc != 0) {
        rc = kind_failed(ls, rc, e);
    }
    add_counts(l);
    if (l->sink->is_pushed_back) {
        cut(ls, clock_mono_ms());
    }
    struct verdict_run no_limit = {0}; /* letters were rejected before: no wrong mapping */
    struct verdict_run *run = l->cur[0]->is_letter ? &no_limit : &ls->run;
    return verdict_decide(rc, l->verdicts, l->records, l->keys, n, run, l->effects, e);
}

/* Whether a write may begin: see lanes_confirm. */
static bool
is_session_good(const struct lanes *ls)
{
    return clock_mono_ms() < ls->session.good_until_ms;
}

/* One write of what cur holds, and all that follows from it. */
static void
write_cur(struct lane *l)
{
    struct lanes *ls = l->ls;
    struct err e = {0};
    if (lane_prepare(l, &e) != 0) {
        failed(l, PACE_BROKER, &e);
        return;
    }
    if (l->ncur == 0) {
        went_well(l);
        return;
    }
    if (!is_session_good(ls)) {
        return; /* opening, preparing, or standing still has taken that long: it stays in cur */
    }
    size_t n = l->ncur < ls->use_records ? l->ncur : ls->use_records;
    enum verdict_action action = write_some(l, n, &e);
    struct err own = {0};
    size_t before = l->ncur;
    if (action != VERDICT_EXIT && lane_settle(l, n, &own) != 0) {
        failed(l, PACE_BROKER, &own);
        return;
    }
    if (l->ncur < before) {
        pace_ok(&l->pace, PACE_TARGET);
        pace_ok(&l->pace, PACE_BROKER);
    }
    if (action != VERDICT_GO_ON) {
        failed(l, PACE_TARGET, &e);
        return;
    }
    if (!l->sink->is_pushed_back) {
        grow(ls);
    }
    went_well(l);
}

static void
work(struct lane *l)
{
    struct lanes *ls = l->ls;
    if (l->sink != NULL && l->opened != ls->openings) {
        close_sink(l);
    }
    if (l->sink == NULL) {
        struct err e = {0};
        if (open_sink(l, &e) != 0) {
            failed(l, PACE_TARGET, &e);
            return;
        }
        if (l->ncur == 0) {
            pace_ok(&l->pace, PACE_TARGET);
            went_well(l);
        }
    }
    if (l->ncur > 0) {
        write_cur(l);
    }
}

/* ---- the thread ---- */

/* Whether there is something to do now; *ret_until: until when to wait otherwise. */
static bool
is_due(struct lane *l, int64_t *ret_until)
{
    struct lanes *ls = l->ls;
    int64_t now = clock_mono_ms();
    *ret_until = now + IDLE_MS;
    if (ls->is_halted || ls->view.is_over || ls->c.should_stop() || !is_session_good(ls)) {
        return false;
    }
    int64_t until = l->until_ms > ls->stopped_until_ms ? l->until_ms : ls->stopped_until_ms;
    if (now < until) {
        *ret_until = until < *ret_until ? until : *ret_until;
        return false;
    }
    bool must_open = l->index == 0 && (l->sink == NULL || l->opened != ls->openings);
    if (l->ncur == 0 && !take(l)) {
        return must_open;
    }
    return ls->running < ls->use_lanes || must_open;
}

void *
lane_main(void *arg)
{
    struct lane *l = arg;
    struct lanes *ls = l->ls;
    (void)pthread_mutex_lock(&ls->lock);
    while (!ls->is_quitting) {
        int64_t until;
        if (!is_due(l, &until)) {
            (void)cond_wait_until(&ls->changed, &ls->lock, until);
            continue;
        }
        l->is_busy = true;
        work(l);
        l->is_busy = false;
        (void)pthread_cond_broadcast(&ls->changed);
    }
    if (l->sink != NULL) {
        close_sink(l);
    }
    (void)pthread_mutex_unlock(&ls->lock);
    return NULL;
}
