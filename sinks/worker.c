#include "sinks/worker.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "broker/client/client.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/sig.h"
#include "sinks/lanes.h"
#include "sinks/pace.h"
#include "sinks/published.h"

enum {
    STATUS_MS = 1000,        /* between two status calls; the answer says whether the session is
                                still good */
    SESSION_GOOD_MS = 10000, /* no write begins so long after the broker last answered a call
                                that names the session: several status calls, so that nothing
                                waits while the broker is there */
    LAZY_COMMIT_MS = 1000,   /* for an offset that only passed what `tables` leaves out */
    BUSY_COMMIT_MS = 50,     /* while more is under way: each commit is a sync */
    BUSY_FETCH_MS = 20,      /* a fetch waits so long while writes are under way */
    COMMIT_GRACE_MS = 5000, /* a stop waits this long for the commit of what was just written */
    LOG_AGAIN_MS = 60000    /* the same failure again in the log */
};

struct worker {
    const struct worker_conf *c;
    struct client *fetcher; /* its answer is the batch */
    struct client *control;
    struct buf tables; /* comma-separated */
    struct lanes *lanes;
    struct lanes_view view;
    bool has_session, has_begun; /* a session; what it says is the lanes' */
    struct api_sink_session session;
    uint64_t settled_before; /* view.settled at the last commit */
    int64_t committed_ms;
    bool is_told;        /* the last call about proven doubts went well */
    uint64_t retry_from; /* letters to be sent once more: from this offset on */
    struct pace pace;    /* for the broker */
    struct published published;
    /* for /lag */
    struct api_sink_status status;
    char last_error[API_TEXT_MAX];
    bool is_retrying; /* because of the broker */
    uint64_t retries; /* of ours */
    int64_t status_ms;
    /* for the log */
    uint64_t failures; /* of the lanes that were logged */
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
log_failure(struct worker *w, const struct err *e, uint8_t state, int64_t delay_ms)
{
    int64_t now = clock_mono_ms();
    if (e->code == w->logged_code && now - w->logged_ms < LOG_AGAIN_MS) {
        w->unlogged++;
        return;
    }
    bool is_loud = state == API_SINK_STOPPED;
    log_write(is_loud ? LOG_ERROR : LOG_WARN, is_loud ? "sink_stopped" : "sink_retrying",
        "code=%s msg=%s retry_ms=%" PRId64 " repeated=%" PRIu64, err_name(e->code),
        log_quote(e->msg), delay_ms, w->unlogged);
    w->logged_code = e->code;
    w->logged_ms = now;
    w->unlogged = 0;
}

static bool
is_news(const struct worker *w, uint8_t state, const char *text)
{
    return w->status.state != state ||
           strncmp(w->last_error, text, sizeof w->last_error - 1) != 0;
}

static void
set_state(struct worker *w, uint8_t state, const char *text)
{
    if (state == API_SINK_RUNNING && w->status.state != API_SINK_RUNNING) {
        log_info(
            "sink_running", "next=%" PRIu64 " repeated=%" PRIu64, w->view.passed, w->unlogged);
        w->logged_code = 0;
        w->unlogged = 0;
    }
    if (is_news(w, state, text)) {
        w->status_ms = 0;
    }
    w->status.state = state;
    (void)snprintf(w->last_error, sizeof w->last_error, "%s", text);
    w->status.last_error = str_from(w->last_error);
}

/* What the lanes have come to. */
static void
look(struct worker *w)
{
    struct lanes_view *v = &w->view;
    lanes_look(w->lanes, v);
    if (v->failures != w->failures) {
        log_failure(w, &v->error, v->state, v->delay_ms);
        w->failures = v->failures;
    }
    w->status.records = v->settled;
    w->status.retries = v->retries + w->retries;
    w->status.requests = v->counts.requests;
    w->status.bytes = v->counts.bytes;
    w->status.stale = v->counts.stale;
    w->status.missing = v->counts.missing;
    w->status.lossy = v->counts.lossy;
    w->status.rereads = v->rereads;
    w->status.lanes = v->lanes;
    w->status.last_success_us = v->last_success_us;
}

static void
show_refusal(struct worker *w)
{
    const struct err *e = &w->published.refusal;
    if (is_news(w, API_SINK_STOPPED, e->msg)) {
        log_err(LOG_ERROR, "sink_stopped", e, "it goes on once other tables are published");
    }
    set_state(w, API_SINK_STOPPED, e->msg);
}

static void
show_lanes(struct worker *w)
{
    if (w->session.is_paused) {
        set_state(w, API_SINK_PAUSED, "");
    } else if (w->published.refusal.code != 0) {
        show_refusal(w);
    } else if (w->view.state != API_SINK_RUNNING) {
        set_state(w, w->view.state, w->view.error.msg);
    } else {
        set_state(w, API_SINK_RUNNING, "");
    }
}

/* The broker took a call that names the session, sent at asked_ms: counted from then, for we
 * may have stood still since it answered. */
static void
confirm_session(struct worker *w, int64_t asked_ms)
{
    lanes_confirm(w->lanes, asked_ms + SESSION_GOOD_MS);
}

/* Not worth a failure: what the broker was not told stays doubted there, which does no harm. */
static void
tell_proven(struct worker *w)
{
    struct api_doubt d[API_PROVEN_MAX];
    struct err e;
    size_t n = lanes_proven(w->lanes, d);
    if (n == 0) {
        return;
    }
    w->is_told = client_proven(w->control, w->c->name, d, n, &e) == 0;
    if (w->is_told) {
        lanes_told(w->lanes, n);
    } else {
        log_err(LOG_DEBUG, "proven_failed", &e, "will try again");
    }
}

/* Not worth a failure of its own but when it says that the session is over: what is wrong with
 * the broker shows in the next call that matters. */
static int
post_status(struct worker *w, struct err *e)
{
    int64_t now = clock_mono_ms();
    if (!w->has_session || now < w->status_ms + STATUS_MS) {
        return 0;
    }
    w->status.generation = w->session.generation;
    w->status_ms = now;
    int rc = client_sink_status(w->control, w->c->name, &w->status, &w->session, e);
    if (rc == 0) {
        confirm_session(w, now);
        tell_proven(w);
    }
    bool is_over = rc == ERR_FENCED || rc == ERR_STEERED;
    if (rc != 0 && !is_over && rc != ERR_STOPPING) {
        log_err(LOG_DEBUG, "status_failed", e, "will try again");
    }
    return is_over ? rc : 0;
}

/* ---- the session ---- */

static int
load_letters(struct worker *w, struct err *e)
{
    static struct api_letter letters[API_LETTERS_MAX];
    uint64_t after = 0;
    for (;;) {
        int n = client_letters(w->control, w->c->name, after, letters, API_LETTERS_MAX, e);
        for (int i = 0; i < n; i++) {
            lanes_add_letter(w->lanes, &letters[i]);
            after = letters[i].offset;
        }
        if (n < API_LETTERS_MAX) {
            return n < 0 ? n : 0;
        }
    }
}

static int
load_doubts(struct worker *w, struct err *e)
{
    auto_free struct api_doubt *d = NULL;
    int n = client_doubts(w->control, w->c->name, &d, e);
    for (int i = 0; i < n; i++) {
        lanes_add_doubt(w->lanes, &d[i]);
    }
    return n < 0 ? n : 0;
}

static int
open_session(struct worker *w, struct err *e)
{
    struct api_sink_open o = {.kind = str_from(w->c->ops->name),
        .start = str_from(w->c->start),
        .tables = buf_str(&w->tables)};
    w->has_begun = false;
    lanes_halt(w->lanes);
    int64_t asked_ms = clock_mono_ms();
    int rc = client_sink_open(w->control, w->c->name, &o, &w->session, e);
    if (rc != 0) {
        return rc;
    }
    struct lanes_session s = {.generation = w->session.generation,
        .epoch = w->session.epoch,
        .next = w->session.next,
        .floor = w->session.floor,
        .good_until_ms = asked_ms + SESSION_GOOD_MS};
    memcpy(s.uuid, w->session.uuid, sizeof s.uuid);
    lanes_begin(w->lanes, &s);
    w->has_session = true;
    w->retry_from = 0;
    w->committed_ms = clock_mono_ms();
    w->status_ms = 0;
    pace_session_opened(&w->pace, w->committed_ms);
    log_info("session_opened",
        "generation=%" PRIu64 " epoch=%" PRIu64 " next=%" PRIu64 " paused=%d letters=%" PRIu64,
        s.generation, s.epoch, s.next, w->session.is_paused, w->session.letters);
    return 0;
}

/* Everything that a session says has arrived where it is needed, before a record flows. */
static int
begin(struct worker *w, struct err *e)
{
    int rc = w->session.letters > 0 ? load_letters(w, e) : 0;
    if (rc == 0 && (w->c->ops->flags & SINK_NEEDS_VALUES) != 0) {
        rc = load_doubts(w, e);
    }
    if (rc != 0) {
        return rc;
    }
    w->has_begun = true;
    if (!w->session.is_paused) {
        lanes_run(w->lanes);
    }
    look(w);
    return 0;
}

/* ---- the offset ---- */

static int
commit(struct worker *w, struct err *e)
{
    uint64_t to = w->view.passed;
    struct api_sink_commit o = {
        .generation = w->session.generation, .expect = w->session.next, .next = to};
    int64_t asked_ms = clock_mono_ms();
    hold_until_ms = asked_ms + COMMIT_GRACE_MS;
    int rc = client_sink_commit(w->control, w->c->name, &o, &w->session, e);
    hold_until_ms = 0;
    if (rc != 0) {
        return rc;
    }
    confirm_session(w, asked_ms);
    if (w->session.next != to) {
        return err_set(e, ERR_PROTOCOL,
            "the broker moved the sink to %" PRIu64 " instead of %" PRIu64, w->session.next,
            to);
    }
    w->settled_before = w->view.settled;
    w->committed_ms = clock_mono_ms();
    pace_ok(&w->pace, PACE_BROKER);
    return 0;
}

/* The longest that a commit of what has passed may wait. */
static int64_t
commit_due_ms(const struct worker *w)
{
    if (w->view.settled == w->settled_before) {
        return w->committed_ms + LAZY_COMMIT_MS;
    }
    return w->view.is_idle ? 0 : w->committed_ms + BUSY_COMMIT_MS;
}

static bool
has_passed(const struct worker *w)
{
    return w->view.passed != w->session.next;
}

/* ---- the log ---- */

static int
fetch(struct worker *w, int64_t wait_ms, struct err *e)
{
    struct str bytes;
    int rc = client_fetch(
        w->fetcher, w->view.fetched, API_FETCH_BYTES, wait_ms, buf_str(&w->tables), &bytes, e);
    if (rc == ERR_GONE || rc == ERR_BEYOND) {
        (void)err_prefix(e, "the log does not have what follows this sink's offset");
    }
    if (rc == 0) {
        rc = lanes_feed(w->lanes, bytes, e);
    }
    if (rc == 0) {
        pace_ok(&w->pace, PACE_BROKER);
    }
    return rc;
}

/* One letter at a time, in the order of their offsets. */
static int
send_letter(struct worker *w, struct err *e)
{
    uint64_t offset;
    struct str bytes;
    if (w->view.has_letter || !lanes_next_retry(w->lanes, w->retry_from, &offset)) {
        return 0;
    }
    int rc = client_letter(w->fetcher, w->c->name, offset, &bytes, e);
    if (rc == 0) {
        rc = lanes_feed_letter(w->lanes, bytes, e);
    } else if (rc == ERR_NOTFOUND) {
        rc = 0; /* raised since */
    }
    if (rc == 0) {
        w->retry_from = offset + 1;
    }
    return rc;
}

/* ---- the loop ---- */

static void
wait_until(struct worker *w, int64_t until_ms)
{
    int64_t left = until_ms - clock_mono_ms();
    struct pollfd p[2] = {
        {.fd = sig_stop_fd(), .events = POLLIN}, {.fd = lanes_fd(w->lanes), .events = POLLIN}};
    (void)poll(p, 2, left < 0 ? 0 : left > STATUS_MS ? STATUS_MS : (int)left);
}

static int64_t
earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Until when nothing but news can need us. */
static int64_t
next_due_ms(const struct worker *w)
{
    int64_t due = w->status_ms + STATUS_MS;
    return has_passed(w) ? earlier(due, commit_due_ms(w)) : due;
}

/* May records be given to the lanes, if there is room? Once more is published than the kind can
 * take, nothing more: better now than at some table's first change. */
static bool
may_feed(const struct worker *w)
{
    return !w->session.is_paused && w->published.refusal.code == 0;
}

/* One round, with a session: whatever comes next. */
static int
step(struct worker *w, struct err *e)
{
    int rc = w->has_begun ? 0 : begin(w, e);
    if (rc == 0) {
        rc = published_look(&w->published, w->c, w->fetcher, w->session.tables, e);
    }
    if (rc != 0) {
        return rc;
    }
    look(w);
    if (w->view.is_fatal) {
        *e = w->view.error;
        return e->code;
    }
    if (w->view.is_over) { /* but for an order: sessions that are over soon are waited after */
        *e = w->view.over;
        e->code = e->code == ERR_STEERED ? ERR_STEERED : ERR_FENCED;
        return e->code;
    }
    if (has_passed(w) && clock_mono_ms() >= commit_due_ms(w)) {
        return commit(w, e);
    }
    show_lanes(w);
    rc = post_status(w, e);
    if (w->is_told && w->view.proven > API_PROVEN_MAX / 4) {
        tell_proven(w);
    }
    if (rc == 0 && may_feed(w)) {
        rc = send_letter(w, e);
    }
    if (rc != 0) {
        return rc;
    }
    if (!w->view.has_room || !may_feed(w) || w->view.state == API_SINK_STOPPED) {
        wait_until(w, next_due_ms(w));
        return 0;
    }
    bool is_writing = !w->view.is_idle && w->view.state == API_SINK_RUNNING;
    int64_t wait_ms = next_due_ms(w) - clock_mono_ms();
    wait_ms = wait_ms < 0 ? 0 : wait_ms;
    return fetch(w, is_writing ? earlier(wait_ms, BUSY_FETCH_MS) : wait_ms, e);
}

/* What the lanes have settled does not wait for what went wrong elsewhere. */
static int
keep_up(struct worker *w, struct err *e)
{
    if (!w->has_session) {
        return 0;
    }
    look(w);
    if (w->has_begun && has_passed(w) && clock_mono_ms() >= commit_due_ms(w)) {
        int rc = commit(w, e);
        if (rc != 0) {
            return rc;
        }
    }
    return post_status(w, e);
}

/* Another worker may have the sink: nothing is written without a session. */
static void
drop_session(struct worker *w)
{
    w->has_session = false;
    lanes_halt(w->lanes);
}

/* Waits for delay_ms, an order or the stop, showing the state meanwhile. */
static void
pause_ms(struct worker *w, int64_t delay_ms)
{
    int64_t until = clock_mono_ms() + delay_ms;
    while (!sig_stop_requested() && clock_mono_ms() < until) {
        struct err e;
        int rc = keep_up(w, &e);
        if (rc != 0 && rc != ERR_BUSY && rc != ERR_NOSPACE) {
            drop_session(w);
        }
        if (rc == ERR_STEERED) {
            return;
        }
        int64_t due = w->has_session ? next_due_ms(w) : until;
        wait_until(w, earlier(until, due > clock_mono_ms() ? due : clock_mono_ms() + 1));
    }
}

/* A failure of a call to the broker. Non-zero: the process must end. */
static int
recover(struct worker *w, const struct err *e)
{
    struct pace_step s = pace_failed(
        &w->pace, PACE_BROKER, e->code, client_retry_after_ms(w->control), clock_mono_ms());
    if (s.exit || w->view.is_fatal) {
        return e->code;
    }
    if (s.drop_session) {
        drop_session(w);
    }
    if (s.drop_session && s.delay_ms == 0) {
        return 0; /* a person asked for it, or it had lasted */
    }
    w->retries++;
    w->status.retries++;
    set_state(w, s.state, e->msg);
    log_failure(w, e, s.state, s.delay_ms);
    pause_ms(w, s.delay_ms);
    return 0;
}

static void
worker_open(struct worker *w, const struct worker_conf *c)
{
    struct client_conf cc = {.unix_path = c->unix_path, .should_stop = should_stop};
    *w = (struct worker){.c = c, .fetcher = client_new(&cc), .control = client_new(&cc)};
    struct lanes_conf lc = {.name = c->name,
        .ops = c->ops,
        .options = c->options,
        .tables = c->tables,
        .ntables = c->ntables,
        .unix_path = c->unix_path,
        .seen_path = c->seen_path,
        .lanes = c->lanes,
        .reject_limit = c->reject_limit,
        .should_stop = sig_stop_requested};
    w->status.state = API_SINK_STARTING;
    buf_init(&w->tables, API_CONTROL_BODY);
    for (size_t i = 0; i < c->ntables; i++) {
        buf_puts(&w->tables, i == 0 ? "" : ",");
        buf_put_str(&w->tables, c->tables[i]);
    }
    pace_init(&w->pace, (uint64_t)getpid() ^ (uint64_t)clock_mono_us());
    w->lanes = lanes_open(&lc);
}

/* What is settled when the stop comes is told to the broker; if that fails, it is only sent
 * again. */
static void
worker_close(struct worker *w, bool is_clean)
{
    struct err e;
    lanes_halt(w->lanes);
    look(w);
    if (is_clean && w->has_session && w->has_begun && has_passed(w) && commit(w, &e) != 0) {
        log_err(LOG_WARN, "commit_failed", &e, "it is sent again by the next worker");
    }
    if (is_clean) {
        tell_proven(w);
    }
    lanes_close(w->lanes);
    client_free(w->fetcher);
    client_free(w->control);
    buf_fini(&w->tables);
}

int
worker_run(const struct worker_conf *c, struct err *e)
{
    struct worker w;
    worker_open(&w, c);
    int rc = 0;
    while (rc == 0 && !sig_stop_requested()) {
        struct err why = {0};
        rc = w.has_session ? step(&w, &why) : open_session(&w, &why);
        if (rc == ERR_STOPPING && sig_stop_requested()) {
            rc = 0;
        } else if (rc != 0) {
            rc = recover(&w, &why);
            *e = why;
        }
    }
    worker_close(&w, rc == 0);
    return rc;
}
