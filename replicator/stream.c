/* stream: see stream.h. What costs is waking for every message (facts/ingest-and-replay.md):
 * everything that has arrived is taken before the socket is looked at again, and a short sleep
 * before blocking lets more arrive. */
#include "replicator/stream.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/sig.h"
#include "proto/frame.h"
#include "proto/lsn.h"
#include "replicator/catalog.h"
#include "replicator/feed.h"
#include "replicator/reread.h"
#include "replicator/sender.h"

enum {
    DRAIN_MESSAGES = 1024, /* then the timers are looked at */
    NAP_NS = 100 * 1000,   /* 300 us would let the socket's buffer fill */
    TIMER_SLACK_NS = 1000, /* the kernel's own 50 us would make that nap half as long again */
    GATHER_US = 1000,      /* between hand-overs of batches that are not full */
    STATUS_US = 10 * 1000000,  /* between two status messages: below wal_sender_timeout / 3 */
    PROGRESS_US = 1000000,     /* flush progress is told within this, or */
    PROGRESS_BYTES = 16 << 20, /* after this much WAL */
    IDLE_US = 3 * 1000000,     /* idle positions go to the ledger at most so often, */
    /* or so often while the server asks: beside a busy database it asks at every step, and each
     * is a sync */
    ASKED_IDLE_US = 200 * 1000,
    WATCH_US = 1000000,      /* an append that takes longer may not end soon */
    HOLD_US = 3 * 1000000,   /* the longest that rows being read hold the stream up */
    ASK_CONNECT_MS = 5000,   /* as long as CATALOG_KEY_MS: together below wal_sender_timeout */
    LARGE_MESSAGE = 32 << 20 /* a connection that has seen one is replaced when it is quiet */
};

struct stream {
    const struct stream_conf *conf;
    struct pgconn *pg;       /* conf->replication */
    struct pgconn *asking;   /* NULL until a table under FULL comes */
    struct pgconn *watching; /* NULL unless an append does not end */
    struct sender *sender;
    struct reread *reread;
    struct feed feed;
    bool is_paused; /* for rows being read; once no transaction is open nothing is applied */
    bool has_tail;
    uint64_t log_tail; /* as of the last append that is durable */
    uint64_t read_tag; /* of the batch that holds read rows, while they are APPENDED */
    int64_t held_us;   /* since when in REREAD_HELD */
    struct str held;   /* a message that finds no room: both batches are full. Empty: none */
    bool is_dry;       /* nothing more has arrived */
    bool has_taken;    /* something had, since the socket was last read */
    bool has_unsent;   /* status in libpq's buffer */
    bool was_waiting;
    bool renews;        /* ended in order to connect again at once */
    uint64_t tag;       /* of the batch in flight */
    uint64_t told_lsn;  /* flush LSN last sent */
    uint64_t asked_lsn; /* the server wants to hear of this one at once; 0: no */
    bool status_is_due;
    int64_t now_us, told_us, progress_us /* first untold progress, 0 none */, handed_us,
        idle_us, watch_us /* last tried to */;
};

/* Rows are read, or wanted: nothing is applied, and nothing else appended. */
static bool
is_standing(const struct stream *st)
{
    return st->is_paused && !feed_in_transaction(&st->feed);
}

/* ---- primary keys of tables under FULL ---- */

static int
ask_key(struct stream *st, uint32_t relid, struct catalog_key *ret, struct err *e)
{
    if (st->asking == NULL) {
        struct pgconn_conf c = *st->conf->plain;
        c.connect_timeout_ms = ASK_CONNECT_MS;
        int rc = pgconn_open(&c, &st->asking, e);
        if (rc != 0) {
            return rc;
        }
    }
    int rc = catalog_key(st->asking, relid, ret, e);
    if (rc != 0) {
        pgconn_close(st->asking);
        st->asking = NULL;
    }
    return rc;
}

/* The stream stands still meanwhile, so that the server must hear of us right after. */
static int
find_key(void *arg, struct relation *rel, struct err *e)
{
    struct stream *st = arg;
    struct catalog_key key;
    bool was_open = st->asking != NULL; /* and may have been closed since */
    int rc = ask_key(st, rel->schema.relid, &key, e);
    if (rc == ERR_CLOSED && was_open) {
        rc = ask_key(st, rel->schema.relid, &key, e);
    }
    st->status_is_due = true;
    if (rc != 0) {
        return rc;
    }
    struct str names[CATALOG_KEYS_MAX];
    for (unsigned i = 0; i < key.n; i++) {
        names[i] = str_from(key.column[i]);
    }
    if (!relcache_set_key(rel, names, key.n)) {
        log_warn("key_unknown",
            "schema=%s table=%s msg=\"its primary key is not among the columns sent; records "
            "of "
            "it have no key\"",
            log_quote_str(rel->schema.ns), log_quote_str(rel->schema.name));
    }
    return 0;
}

/* ---- to PostgreSQL ---- */

static int
send_status(struct stream *st, struct err *e)
{
    const struct ack *a = &st->feed.ack;
    char m[PGOUTPUT_STATUS_BYTES];
    uint64_t flush = ack_flush_lsn(a);
    pgoutput_put_status(m, ack_write_lsn(a), flush, flush, clock_wall_us(), false);
    int rc = pgconn_send(st->pg, (struct str){m, sizeof m}, e);
    if (rc < 0) {
        return rc;
    }
    st->has_unsent = rc == 1;
    st->told_lsn = flush;
    st->told_us = st->now_us;
    st->progress_us = 0;
    st->status_is_due = false;
    if (st->asked_lsn <= flush) {
        st->asked_lsn = 0;
    }
    return 0;
}

static int
status_if_due(struct stream *st, struct err *e)
{
    uint64_t flush = ack_flush_lsn(&st->feed.ack);
    bool is_due = st->status_is_due || st->now_us - st->told_us >= STATUS_US;
    if (flush > st->told_lsn) {
        if (st->progress_us == 0) {
            st->progress_us = st->now_us;
        }
        is_due = is_due || st->asked_lsn != 0 || flush - st->told_lsn > PROGRESS_BYTES ||
                 st->now_us - st->progress_us >= PROGRESS_US;
    }
    return is_due ? send_status(st, e) : 0;
}

/* ---- to the broker ---- */

static void
submit(struct stream *st)
{
    st->tag = ack_handover(&st->feed.ack);
    sender_submit(st->sender);
    st->handed_us = st->now_us;
}

static int64_t
next_idle_us(const struct stream *st)
{
    return st->idle_us + (st->asked_lsn != 0 ? ASKED_IDLE_US : IDLE_US);
}

/* P1: an idle position is in the ledger before it is sent. */
static int
submit_idle(struct stream *st, struct err *e)
{
    uint64_t lsn;
    if (st->now_us < next_idle_us(st) || !ack_idle_wanted(&st->feed.ack, &lsn)) {
        return 0;
    }
    struct buf *b = sender_batch(st->sender);
    frame_put_idle(b, lsn);
    if (!buf_ok(b)) {
        return err_set(e, ERR_BUG, "an idle position found no room in an empty batch");
    }
    ack_idle_queued(&st->feed.ack, lsn);
    st->idle_us = st->now_us;
    submit(st);
    return 0;
}

static int
submit_if_due(struct stream *st, struct err *e)
{
    if (!sender_is_idle(st->sender)) {
        return 0;
    }
    if (sender_batch_bytes(st->sender) == 0) {
        return st->is_dry && !is_standing(st) ? submit_idle(st, e) : 0;
    }
    bool is_quiet = st->is_dry && !feed_in_transaction(&st->feed) &&
                    st->now_us - st->handed_us >= GATHER_US;
    if (st->held.n > 0 || is_quiet || is_standing(st) ||
        sender_batch_bytes(st->sender) >= API_BATCH_BYTES) {
        submit(st);
    }
    return 0;
}

static void
report_waiting(struct stream *st)
{
    struct err why = {0};
    bool is_waiting = sender_is_waiting(st->sender, &why);
    if (is_waiting) {
        monitor_set_state(st->conf->monitor, API_SOURCE_STREAMING, why.msg);
    } else if (st->was_waiting) {
        monitor_set_state(st->conf->monitor, API_SOURCE_STREAMING, NULL);
        log_info("append_resumed", "lsn=" LSN_FMT, LSN_ARG(ack_flush_lsn(&st->feed.ack)));
    }
    if (is_waiting && !st->was_waiting) {
        log_err(
            LOG_WARN, "append_waits", &why, "nothing is lost: the same append is tried again");
    }
    st->was_waiting = is_waiting;
}

static int
take_durable(struct stream *st, struct err *e)
{
    struct api_appended appended;
    int rc = sender_take(st->sender, &appended, e);
    if (rc <= 0) {
        return rc;
    }
    /* Both sides count the same frames; acknowledging more than the log proves would lose
     * changes, so this is looked at before the flush LSN moves. */
    uint64_t lsn = ack_would_flush(&st->feed.ack, st->tag);
    if (lsn > appended.proven_lsn) {
        return err_set(e, ERR_PROTOCOL,
            "the broker proves only " LSN_FMT " after a batch up to " LSN_FMT,
            LSN_ARG(appended.proven_lsn), LSN_ARG(lsn));
    }
    ack_durable(&st->feed.ack, st->tag);
    st->has_tail = true;
    st->log_tail = appended.tail;
    if (reread_stage(st->reread) == REREAD_APPENDED && st->read_tag == st->tag) {
        reread_answer(st->reread, REREAD_DURABLE, XIDS_VISIBLE);
    }
    return 0;
}

/* ---- a server that stops ---- */

static int64_t
next_watch_us(const struct stream *st)
{
    int64_t since_us = st->watch_us > st->handed_us ? st->watch_us : st->handed_us;
    return since_us + WATCH_US;
}

/* Only a server that takes nobody is one that stops: where it has no connection left for us, or
 * not for this role any more, the stream goes on. */
static int
watch(struct stream *st, struct err *e)
{
    struct pgconn_conf c = *st->conf->plain;
    c.connect_timeout_ms = ASK_CONNECT_MS;
    st->watch_us = st->now_us;
    st->status_is_due = true; /* this may take a while */
    pgconn_close(st->watching);
    st->watching = NULL;
    int rc = pgconn_open(&c, &st->watching, e);
    return rc == ERR_CLOSED || rc == ERR_CONNECT ? rc : 0;
}

/* A server that is told to stop ends ordinary connections first and then waits until all that
 * it has sent is acknowledged (PostgreSQL, walsender.c: WalSndDone), which a full log or a full
 * disk holds up for as long as it lasts. So while an append does not end, an ordinary
 * connection tells when to let go; what was not acknowledged is sent again. */
static int
let_server_stop(struct stream *st, struct err *e)
{
    if (sender_is_idle(st->sender)) {
        pgconn_close(st->watching);
        st->watching = NULL;
        return 0;
    }
    if (st->watching != NULL && !pgconn_is_lost(st->watching)) {
        return 0;
    }
    bool was_lost = st->watching != NULL; /* which may have other reasons: asked once more */
    if (!was_lost && st->now_us < next_watch_us(st)) {
        return 0;
    }
    return watch(st, e);
}

/* ---- rows read from tables ---- */

/* An append that says nothing new; its answer tells where the log ends. */
static int
ask_tail(struct stream *st, struct err *e)
{
    struct buf *b = sender_batch(st->sender);
    frame_put_idle(b, ack_flush_lsn(&st->feed.ack));
    if (!buf_ok(b)) {
        return err_set(e, ERR_BUG, "an idle position found no room in an empty batch");
    }
    submit(st);
    return 0;
}

/* All that was decoded is durable: the stream stands still from here. */
static int
grant_hold(struct stream *st, struct err *e)
{
    bool is_quiet =
        is_standing(st) && sender_is_idle(st->sender) && sender_batch_bytes(st->sender) == 0;
    if (!is_quiet) {
        return 0;
    }
    if (!st->has_tail) {
        return ask_tail(st, e);
    }
    if (reread_hold(st->reread, st->log_tail)) {
        st->held_us = st->now_us;
    }
    return 0;
}

static int
put_rows(struct stream *st, const struct rowread_chunk *c, struct err *e)
{
    struct pgoutput_tuple *rows = rowread_tuples(c);
    int rc = feed_read(
        &st->feed, c->rel, rows, c->nrows, clock_wall_us(), sender_batch(st->sender), e);
    free(rows);
    if (rc == 0) {
        submit(st);
        st->read_tag = st->tag;
    }
    return rc;
}

/* Nothing was appended since the hold, so the batch is empty and the sender idle. */
static int
take_rows(struct stream *st, struct err *e)
{
    const struct rowread_chunk *c = reread_chunk(st->reread);
    enum xids_verdict verdict = xids_check(&st->feed.logged, &c->snapshot);
    if (verdict != XIDS_VISIBLE) {
        reread_answer(st->reread, REREAD_REFUSED, verdict);
        return 0;
    }
    if (c->nrows == 0) {
        reread_answer(st->reread, REREAD_DURABLE, verdict);
        return 0;
    }
    int rc = put_rows(st, c, e);
    if (rc == 0) {
        reread_answer(st->reread, REREAD_APPENDED, verdict);
    }
    return rc;
}

static int
serve_reread(struct stream *st, struct err *e)
{
    int rc = 0;
    enum reread_stage stage = reread_stage(st->reread);
    st->is_paused = reread_pauses(stage);
    switch (stage) {
    case REREAD_WANTED:
        rc = grant_hold(st, e);
        break;
    case REREAD_HELD:
        if (st->now_us - st->held_us > HOLD_US) {
            reread_revoke(st->reread);
        }
        break;
    case REREAD_READ:
        rc = take_rows(st, e);
        break;
    default:
        break;
    }
    st->is_paused = reread_pauses(reread_stage(st->reread));
    return rc;
}

/* ---- from PostgreSQL ---- */

/* False: no room for this message now; it is held back. A message larger than a batch gets one
 * of its own. */
static bool
make_room(struct stream *st, size_t bytes)
{
    size_t used = sender_batch_bytes(st->sender);
    if (used == 0 || used + bytes <= API_BATCH_BYTES) {
        return true;
    }
    if (!sender_is_idle(st->sender)) {
        return false;
    }
    submit(st);
    return true;
}

static int
on_message(struct stream *st, struct str message, struct err *e)
{
    struct pgoutput_copy m;
    int rc = pgoutput_decode_copy(message, &m, e);
    if (rc != 0) {
        return rc;
    }
    if (m.type == PGOUTPUT_KEEPALIVE) {
        ack_keepalive(&st->feed.ack, m.wal_end);
        if (m.wants_reply) {
            st->status_is_due = true;
            st->asked_lsn = m.wal_end;
        }
        return 0;
    }
    if (!make_room(st, message.n)) {
        st->held = message;
        return 0;
    }
    return feed_apply(&st->feed, &m, sender_batch(st->sender), e);
}

/* Takes what has arrived, up to a bound, or until a message is held back. */
static int
drain(struct stream *st, struct err *e)
{
    if (is_standing(st)) {
        return 0;
    }
    if (st->held.n > 0) {
        if (!make_room(st, st->held.n)) {
            return 0;
        }
        struct str held = st->held;
        st->held.n = 0;
        int rc = on_message(st, held, e);
        if (rc != 0) {
            return rc;
        }
    }
    st->is_dry = false;
    for (int i = 0; i < DRAIN_MESSAGES && st->held.n == 0; i++) {
        struct str message;
        int rc = pgconn_receive(st->pg, &message, e);
        if (rc == 0) {
            st->is_dry = true;
            return 0;
        }
        if (rc > 0) {
            st->has_taken = true;
            rc = on_message(st, message, e);
        }
        if (rc != 0 || is_standing(st)) {
            return rc;
        }
    }
    return 0;
}

/* ---- waiting ---- */

static int64_t
until_next_timer_us(const struct stream *st)
{
    uint64_t lsn;
    int64_t at_us = st->told_us + STATUS_US;
    if (st->progress_us != 0 && st->progress_us + PROGRESS_US < at_us) {
        at_us = st->progress_us + PROGRESS_US;
    }
    if (!is_standing(st) && ack_idle_wanted(&st->feed.ack, &lsn) && next_idle_us(st) < at_us) {
        at_us = next_idle_us(st);
    }
    bool will_submit = sender_batch_bytes(st->sender) > 0 && sender_is_idle(st->sender) &&
                       !feed_in_transaction(&st->feed);
    if (will_submit && st->handed_us + GATHER_US < at_us) {
        at_us = st->handed_us + GATHER_US;
    }
    if (reread_stage(st->reread) == REREAD_HELD && st->held_us + HOLD_US < at_us) {
        at_us = st->held_us + HOLD_US + 1;
    }
    bool will_watch = !sender_is_idle(st->sender) && st->watching == NULL;
    if (will_watch && next_watch_us(st) < at_us) {
        at_us = next_watch_us(st);
    }
    return at_us > st->now_us ? at_us - st->now_us : 0;
}

static int
block(struct stream *st, struct err *e)
{
    int64_t us = until_next_timer_us(st);
    struct timespec timeout = {.tv_sec = us / 1000000, .tv_nsec = (us % 1000000) * 1000};
    bool is_held = st->held.n > 0 || is_standing(st);
    short events = (short)((is_held ? 0 : POLLIN) | (st->has_unsent ? POLLOUT : 0));
    /* Without events a closed socket would still wake us, again and again. */
    struct pollfd fds[] = {{.fd = events == 0 ? -1 : pgconn_fd(st->pg), .events = events},
        {.fd = sender_fd(st->sender), .events = POLLIN},
        {.fd = st->conf->stop_fd, .events = POLLIN},
        {.fd = reread_fd(st->reread), .events = POLLIN},
        {.fd = st->watching == NULL ? -1 : pgconn_fd(st->watching), .events = POLLIN}};
    if (ppoll(fds, sizeof fds / sizeof fds[0], &timeout, NULL) < 0 && errno != EINTR) {
        return err_set_sys(e, ERR_IO, errno, "ppoll");
    }
    uint64_t count;
    if (fds[1].revents != 0) {
        (void)!read(fds[1].fd, &count, sizeof count);
        report_waiting(st);
    }
    if (fds[3].revents != 0) {
        (void)!read(fds[3].fd, &count, sizeof count);
    }
    if ((fds[0].revents & (POLLIN | POLLERR | POLLHUP)) != 0 && !is_held) {
        pgconn_consume(st->pg);
    }
    if (st->has_unsent) {
        int rc = pgconn_flush(st->pg, e);
        if (rc < 0) {
            return rc;
        }
        st->has_unsent = rc == 1;
    }
    return 0;
}

static int
wait_for_more(struct stream *st, struct err *e)
{
    if (st->held.n == 0 && !is_standing(st)) {
        if (st->has_taken) {
            /* More has probably come meanwhile, and reading it costs no more than asking. */
            st->has_taken = false;
            pgconn_consume(st->pg);
            return 0;
        }
        struct timespec nap = {.tv_nsec = NAP_NS};
        (void)ppoll(NULL, 0, &nap, NULL);
    }
    return block(st, e);
}

/* ---- the loop ---- */

static int
turn(struct stream *st, struct err *e)
{
    st->now_us = clock_mono_us();
    int rc = take_durable(st, e);
    if (rc == 0) {
        rc = drain(st, e);
    }
    if (rc == 0) {
        rc = serve_reread(st, e);
    }
    if (rc == 0) {
        rc = submit_if_due(st, e);
    }
    if (rc == 0) {
        rc = let_server_stop(st, e);
    }
    if (rc == 0) {
        rc = status_if_due(st, e);
    }
    monitor_set_progress(st->conf->monitor, ack_write_lsn(&st->feed.ack), st->told_lsn);
    return rc;
}

/* Gives back what libpq keeps after a large row, at a moment when nothing has to be sent again.
 */
static int
shed_memory(struct stream *st, struct err *e)
{
    const struct ack *a = &st->feed.ack;
    bool is_quiet =
        st->is_dry && st->held.n == 0 && !a->is_open && st->told_lsn >= ack_write_lsn(a);
    if (pgconn_largest(st->pg) < LARGE_MESSAGE || !is_quiet) {
        return 0;
    }
    st->renews = true;
    log_info("connection_renewed", "largest=%zu msg=\"gives back the memory of a large row\"",
        pgconn_largest(st->pg));
    return err_set(e, ERR_CLOSED, "connecting again to give back memory");
}

/* A stop was asked for: what is whole and has arrived becomes durable, if the broker is quick
 * enough. */
static void
finish(struct stream *st)
{
    struct err e = {0};
    int rc;
    int64_t deadline_ms = clock_mono_ms() + SENDER_GRACE_MS;
    while ((rc = take_durable(st, &e)) == 0) {
        bool has_whole = sender_batch_bytes(st->sender) > 0 && !feed_in_transaction(&st->feed);
        if (sender_is_idle(st->sender)) {
            if (!has_whole) {
                break;
            }
            submit(st);
        }
        int64_t left_ms = deadline_ms - clock_mono_ms();
        struct pollfd fd = {.fd = sender_fd(st->sender), .events = POLLIN};
        if (left_ms <= 0 || poll(&fd, 1, (int)left_ms) <= 0) {
            break;
        }
        uint64_t count;
        (void)!read(fd.fd, &count, sizeof count);
    }
    if (rc == ERR_PROTOCOL) { /* what is proven is in doubt */
        log_err(LOG_WARN, "last_append_unclear", &e, "nothing more is acknowledged");
    } else if (send_status(st, &e) != 0) {
        log_debug("last_status_unsent", "msg=%s", log_quote(e.msg));
    }
}

static int
loop(struct stream *st, struct err *e)
{
    for (;;) {
        if (sig_stop_requested()) {
            finish(st);
            return err_set(e, ERR_STOPPING, "stopping");
        }
        int rc = turn(st, e);
        if (rc == 0) {
            rc = shed_memory(st, e);
        }
        if (rc == 0 && (st->is_dry || st->held.n > 0 || is_standing(st))) {
            rc = wait_for_more(st, e);
        }
        if (rc != 0) {
            return rc;
        }
    }
}

int
stream_run(const struct stream_conf *c, bool *ret_renews, struct err *e)
{
    struct stream st = {.conf = c, .pg = c->replication, .told_lsn = c->session->proven_lsn};
    struct feed_conf cc = {.proven_lsn = c->session->proven_lsn,
        .next_schema = c->session->next_schema,
        .raw_text = pgconn_is_raw_text(c->replication),
        .xmax = c->xmax,
        .find_key = find_key,
        .arg = &st};
    struct reread_conf rc_conf = {.socket = c->broker_socket,
        .plain = c->plain,
        .publication = c->publication,
        .monitor = c->monitor};
    int rc = sender_open(c->append_socket, c->session, &st.sender, e);
    if (rc != 0) {
        return rc;
    }
    rc = reread_open(&rc_conf, &st.reread, e);
    if (rc != 0) {
        sender_close(st.sender);
        return rc;
    }
    feed_init(&st.feed, &cc);
    (void)prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0);
    monitor_set_state(c->monitor, API_SOURCE_STREAMING, NULL);
    log_info("stream_begin", "lsn=" LSN_FMT, LSN_ARG(cc.proven_lsn));
    st.status_is_due = true;
    rc = loop(&st, e);
    log_info("stream_end", "received=" LSN_FMT " acked=" LSN_FMT,
        LSN_ARG(ack_write_lsn(&st.feed.ack)), LSN_ARG(st.told_lsn));
    if (rc != ERR_STOPPING && !sender_is_idle(st.sender)) {
        /* The append under way may hang for a while: neither people nor the server wait. */
        monitor_set_state(c->monitor, API_SOURCE_RETRYING, e->msg);
        (void)shutdown(pgconn_fd(st.pg), SHUT_RDWR);
    }
    reread_close(st.reread);
    sender_close(st.sender);
    feed_fini(&st.feed);
    pgconn_close(st.asking);
    pgconn_close(st.watching);
    *ret_renews = st.renews;
    return rc;
}
