#include "sinks/worker.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "broker/client/client.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/sig.h"
#include "proto/base/xmalloc.h"
#include "sinks/intake.h"
#include "sinks/pace.h"
#include "sinks/verdict.h"

enum {
    STATUS_MS = 1000,       /* between two status calls at least */
    HEARTBEAT_MS = 10000,   /* and at most: the broker keeps no status over a restart */
    LAZY_COMMIT_MS = 1000,  /* for an offset that only passed what `tables` leaves out */
    COMMIT_GRACE_MS = 5000, /* a stop waits this long for the commit of what was just written */
    LOG_AGAIN_MS = 60000    /* the same failure again in the log */
};

struct worker {
    const struct worker_conf *c;
    struct client *fetcher; /* its answer is the batch, valid through all other calls: */
    struct client *control;
    struct buf tables; /* comma-separated */
    bool has_session;
    struct api_sink_session session;
    struct sink *sink;
    struct intake intake;
    size_t at;                     /* intake.records[at..] are not settled */
    struct sink_verdict *verdicts; /* for intake.cap records */
    size_t verdicts_cap;
    uint64_t passed; /* everything below is settled; session.next follows it by commits */
    bool must_commit;
    int64_t committed_ms;
    struct pace pace;
    /* for /lag */
    struct api_sink_status status;
    char last_error[API_TEXT_MAX];
    bool status_changed;
    int64_t status_ms;
    /* for the log */
    int logged_code;
    int64_t logged_ms;
    uint64_t unlogged;
};

/* Calls end when a stop is asked for, but for a commit: it has until this moment (monotonic ms;
 * 0: none). */
static int64_t hold_until_ms;

static bool
should_stop(void)
{
    return sig_stop_requested() && clock_mono_ms() >= hold_until_ms;
}

/* ---- what it shows ---- */

static void
set_state(struct worker *w, uint8_t state, const struct err *e)
{
    const char *text = e != NULL ? e->msg : "";
    if (w->status.state == state &&
        strncmp(w->last_error, text, sizeof w->last_error - 1) == 0) {
        return;
    }
    w->status.state = state;
    (void)snprintf(w->last_error, sizeof w->last_error, "%s", text);
    w->status.last_error = str_from(w->last_error);
    w->status_changed = true;
}

static int64_t
status_due_ms(const struct worker *w)
{
    return w->status_ms + (w->status_changed ? STATUS_MS : HEARTBEAT_MS);
}

/* Not worth a failure of its own: what is wrong with the broker shows in the next call that
 * matters. */
static void
post_status(struct worker *w)
{
    int64_t now = clock_mono_ms();
    if (!w->has_session || now < status_due_ms(w)) {
        return;
    }
    w->status.generation = w->session.generation;
    w->status_ms = now;
    struct err e;
    int rc = client_sink_status(w->control, w->c->name, &w->status, &e);
    if (rc == 0) {
        w->status_changed = false;
    } else if (rc == ERR_FENCED) {
        w->has_session = false;
    } else if (rc != ERR_STOPPING) {
        log_err(LOG_DEBUG, "status_failed", &e, "will try again");
    }
}

static void
log_failure(struct worker *w, const struct err *e, const struct pace_step *s)
{
    int64_t now = clock_mono_ms();
    if (e->code == w->logged_code && now - w->logged_ms < LOG_AGAIN_MS) {
        w->unlogged++;
        return;
    }
    bool is_loud = s->state == API_SINK_STOPPED;
    log_write(is_loud ? LOG_ERROR : LOG_WARN, is_loud ? "sink_stopped" : "sink_retrying",
        "code=%s msg=%s retry_ms=%" PRId64 " repeated=%" PRIu64, err_name(e->code),
        log_quote(e->msg), s->delay_ms, w->unlogged);
    w->logged_code = e->code;
    w->logged_ms = now;
    w->unlogged = 0;
}

static void
set_running(struct worker *w)
{
    if (w->status.state != API_SINK_RUNNING) {
        log_info("sink_running", "next=%" PRIu64 " repeated=%" PRIu64, w->passed, w->unlogged);
        w->logged_code = 0;
        w->unlogged = 0;
    }
    set_state(w, API_SINK_RUNNING, NULL);
}

/* ---- the broker ---- */

static int
open_session(struct worker *w, struct err *e)
{
    struct api_sink_open o = {.kind = str_from(w->c->ops->name),
        .start = str_from(w->c->start),
        .tables = buf_str(&w->tables)};
    int rc = client_sink_open(w->control, w->c->name, &o, &w->session, e);
    if (rc != 0) {
        return rc;
    }
    w->has_session = true;
    w->passed = w->session.next;
    w->must_commit = false;
    w->committed_ms = clock_mono_ms();
    w->status_changed = true;
    w->at = 0;
    intake_reset(&w->intake);
    pace_session_opened(&w->pace, w->committed_ms);
    log_info("session_opened", "generation=%" PRIu64 " epoch=%" PRIu64 " next=%" PRIu64,
        w->session.generation, w->session.epoch, w->session.next);
    return 0;
}

static int
commit(struct worker *w, struct err *e)
{
    struct api_sink_commit o = {
        .generation = w->session.generation, .expect = w->session.next, .next = w->passed};
    hold_until_ms = clock_mono_ms() + COMMIT_GRACE_MS;
    int rc = client_sink_commit(w->control, w->c->name, &o, &w->session, e);
    hold_until_ms = 0;
    if (rc != 0) {
        return rc;
    }
    if (w->session.next != w->passed) {
        return err_set(e, ERR_PROTOCOL,
            "the broker moved the sink to %" PRIu64 " instead of %" PRIu64, w->session.next,
            w->passed);
    }
    w->must_commit = false;
    w->committed_ms = clock_mono_ms();
    pace_ok(&w->pace, PACE_BROKER);
    return 0;
}

static bool
is_commit_due(const struct worker *w)
{
    return w->passed != w->session.next &&
           (w->must_commit || clock_mono_ms() - w->committed_ms >= LAZY_COMMIT_MS);
}

/* How long a fetch may wait for something to come: until the next status or commit is due. */
static int64_t
fetch_wait_ms(const struct worker *w)
{
    int64_t now = clock_mono_ms(), wait = status_due_ms(w) - now;
    if (w->passed != w->session.next) {
        int64_t lazy = w->committed_ms + LAZY_COMMIT_MS - now;
        wait = lazy < wait ? lazy : wait;
    }
    return wait < 0 ? 0 : wait;
}

/* A batch has to carry on where the last one ended. */
static int
check_batch(const struct worker *w, struct err *e)
{
    const struct intake *in = &w->intake;
    uint64_t next = in->header.next_offset;
    bool is_sound = next >= w->passed && next <= in->header.tail_offset;
    if (in->n > 0) {
        is_sound = is_sound && in->records[0].offset >= w->passed &&
                   in->records[in->n - 1].offset < next;
    }
    if (!is_sound) {
        return err_set(e, ERR_CORRUPT,
            "the broker sent a batch up to %" PRIu64 " of %" PRIu64
            " that does not continue at %" PRIu64,
            next, in->header.tail_offset, w->passed);
    }
    return 0;
}

static int
fetch(struct worker *w, struct err *e)
{
    struct str bytes;
    size_t max =
        w->c->ops->batch_bytes < API_FETCH_MAX ? w->c->ops->batch_bytes : API_FETCH_MAX;
    intake_reset(&w->intake);
    w->at = 0;
    int rc = client_fetch(
        w->fetcher, w->passed, max, fetch_wait_ms(w), buf_str(&w->tables), &bytes, e);
    if (rc == ERR_GONE || rc == ERR_BEYOND) {
        (void)err_prefix(e, "the log does not have what follows this sink's offset");
    }
    if (rc == 0) {
        rc = intake_load(&w->intake, bytes, e);
    }
    if (rc == 0) {
        rc = check_batch(w, e);
    }
    if (rc != 0) {
        intake_reset(&w->intake);
        return rc;
    }
    pace_ok(&w->pace, PACE_BROKER);
    if (w->intake.n == 0) {
        w->passed = w->intake.header.next_offset;
    }
    return 0;
}

/* ---- the target ---- */

/* What the kind said of its failure; the class of the error decides, so it must have said it.
 */
static int
kind_failed(const struct worker *w, int rc, struct err *e)
{
    if (e->code == rc && rc < 0) {
        return rc;
    }
    return err_set(e, ERR_BUG, "a sink of kind %s failed with %d (%s) without saying why",
        w->c->ops->name, rc, err_name(rc));
}

static int
open_target(struct worker *w, struct err *e)
{
    struct sink_setup setup = {.name = w->c->name, .options = w->c->options, .next = w->passed};
    int rc = w->c->ops->open(&setup, &w->sink, e);
    return rc == 0 ? 0 : kind_failed(w, rc, e);
}

static void
close_target(struct worker *w)
{
    w->c->ops->close(w->sink);
    w->sink = NULL;
}

static struct sink_verdict *
fresh_verdicts(struct worker *w, size_t n)
{
    if (w->verdicts_cap < n) {
        w->verdicts_cap = w->intake.cap;
        w->verdicts = xreallocarray(w->verdicts, w->verdicts_cap, sizeof *w->verdicts);
    }
    memset(w->verdicts, 0, n * sizeof *w->verdicts);
    return w->verdicts;
}

/* Everything before the first record that is not settled is: `tables` left it out, or the
 * target has it. */
static void
settle(struct worker *w, size_t n)
{
    if (n == 0) {
        return;
    }
    const struct intake *in = &w->intake;
    w->at += n;
    w->passed = w->at < in->n ? in->records[w->at].offset : in->header.next_offset;
    w->must_commit = true;
    w->status.records += n;
    w->status.last_success_us = clock_wall_us();
    w->status_changed = true;
    pace_ok(&w->pace, PACE_TARGET);
}

/* Writes what is left of the batch. 0: all of it is settled; otherwise *e says why not. */
static int
write_rest(struct worker *w, struct err *e)
{
    const struct intake *in = &w->intake;
    struct sink_batch b = {.records = in->records + w->at,
        .n = in->n - w->at,
        .next = w->passed,
        .tail = in->header.tail_offset};
    struct sink_verdict *v = fresh_verdicts(w, b.n);
    int rc = w->c->ops->write(w->sink, &b, v, e);
    if (rc != 0) {
        rc = kind_failed(w, rc, e);
    }
    struct verdict_outcome o = verdict_settle(rc, v, b.records, b.n, e);
    settle(w, o.settled);
    return o.action == VERDICT_GO_ON ? 0 : e->code;
}

/* ---- the loop ---- */

struct failure {
    enum pace_from from;
    struct err e;
};

static int
fail(struct failure *f, enum pace_from from, int rc)
{
    f->from = from;
    f->e.code = rc;
    return rc;
}

/* What has to be there before records can flow. */
static int
prepare(struct worker *w, struct failure *f)
{
    int rc = 0;
    if (!w->has_session && (rc = open_session(w, &f->e)) != 0) {
        return fail(f, PACE_BROKER, rc);
    }
    if (w->sink == NULL && (rc = open_target(w, &f->e)) != 0) {
        return fail(f, PACE_TARGET, rc);
    }
    return 0;
}

/* One round: commit, fetch or write, whatever comes next. */
static int
step(struct worker *w, struct failure *f)
{
    int rc = prepare(w, f);
    if (rc != 0) {
        return rc;
    }
    if (is_commit_due(w)) {
        rc = commit(w, &f->e);
        return rc == 0 ? 0 : fail(f, PACE_BROKER, rc);
    }
    if (w->at == w->intake.n) {
        rc = fetch(w, &f->e);
        if (rc == 0 && w->intake.n == 0) {
            set_running(w);
        }
        return rc == 0 ? 0 : fail(f, PACE_BROKER, rc);
    }
    rc = write_rest(w, &f->e);
    if (rc != 0) {
        return fail(f, PACE_TARGET, rc);
    }
    set_running(w);
    return 0;
}

/* Waits for delay_ms or the stop, showing the state meanwhile. */
static void
wait_ms(struct worker *w, int64_t delay_ms)
{
    int64_t until = clock_mono_ms() + delay_ms;
    while (!sig_stop_requested()) {
        post_status(w);
        int64_t now = clock_mono_ms(), left = until - now;
        if (left <= 0) {
            return;
        }
        int64_t due = w->has_session ? status_due_ms(w) - now : left;
        left = due < left ? due : left;
        struct pollfd p = {.fd = sig_stop_fd(), .events = POLLIN};
        (void)poll(&p, 1, left < 0 ? 0 : (int)left);
    }
}

static struct pace_step
pace_of(struct worker *w, const struct failure *f)
{
    return pace_failed(&w->pace, f->from, f->e.code,
        f->from == PACE_BROKER ? client_retry_after_ms(w->control) : 0, clock_mono_ms());
}

/* What a failed write settled must not wait for the target. A commit that fails here costs the
 * session what it would at any other time; the next round waits for the broker. */
static int
commit_settled(struct worker *w, struct failure *f)
{
    struct failure own = {.from = PACE_BROKER};
    if (!w->has_session || !w->must_commit || commit(w, &own.e) == 0) {
        return 0;
    }
    struct pace_step s = pace_of(w, &own);
    w->has_session = !s.drop_session;
    if (s.exit) {
        *f = own;
        return own.e.code;
    }
    return 0;
}

static int
recover(struct worker *w, struct failure *f)
{
    struct pace_step s = pace_of(w, f);
    if (s.exit) {
        return f->e.code;
    }
    w->status.retries++;
    set_state(w, s.state, &f->e);
    log_failure(w, &f->e, &s);
    if (s.close_target) {
        close_target(w);
    }
    if (s.drop_session) {
        w->has_session = false;
    }
    if (f->from == PACE_TARGET) {
        int rc = commit_settled(w, f);
        if (rc != 0) {
            return rc;
        }
    }
    wait_ms(w, s.delay_ms);
    return 0;
}

static void
worker_open(struct worker *w, const struct worker_conf *c)
{
    struct client_conf cc = {.unix_path = c->unix_path, .should_stop = should_stop};
    *w = (struct worker){.c = c, .fetcher = client_new(&cc), .control = client_new(&cc)};
    w->status.state = API_SINK_STARTING;
    buf_init(&w->tables, API_CONTROL_BODY);
    for (size_t i = 0; i < c->ntables; i++) {
        buf_puts(&w->tables, i == 0 ? "" : ",");
        buf_put_str(&w->tables, c->tables[i]);
    }
    intake_init(&w->intake, c->tables, c->ntables);
    pace_init(&w->pace, (uint64_t)getpid() ^ (uint64_t)clock_mono_us());
}

/* What is settled when the stop comes is told to the broker; if that fails, it is only sent
 * again. */
static void
worker_close(struct worker *w, bool is_clean)
{
    struct err e;
    if (is_clean && w->has_session && w->passed != w->session.next && commit(w, &e) != 0) {
        log_err(LOG_WARN, "last_commit_failed", &e, "the target will get some changes again");
    }
    close_target(w);
    client_free(w->fetcher);
    client_free(w->control);
    intake_fini(&w->intake);
    buf_fini(&w->tables);
    free(w->verdicts);
}

int
worker_run(const struct worker_conf *c, struct err *e)
{
    struct worker w;
    worker_open(&w, c);
    int rc = 0;
    while (rc == 0 && !sig_stop_requested()) {
        struct failure f = {0};
        post_status(&w);
        if (step(&w, &f) != 0 && !(f.e.code == ERR_STOPPING && sig_stop_requested())) {
            rc = recover(&w, &f);
            if (rc != 0) {
                *e = f.e;
            }
        }
    }
    worker_close(&w, rc == 0);
    return rc;
}
