/* identity: see identity.h. Each check is a function that decides or passes; the order is the
 * order of what a person has to know first: is it this server at all, is it this slot, is
 * anything missing. Must not know how any of it was asked. */
#include "replicator/identity.h"

#include <stdarg.h>
#include <stdio.h>

#include "proto/base/check.h"
#include "proto/lsn.h"

#define STR_ARG(s) (int)(s).n, (s).p

struct question {
    const struct identity_log *l;
    const struct identity_server *s;
    struct identity_decision *d;
};

static bool decide(struct question *q, enum identity_action action, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Returns true: decided. */
static bool
decide(struct question *q, enum identity_action action, const char *fmt, ...)
{
    q->d->action = action;
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(q->d->message, sizeof q->d->message, fmt, args);
    va_end(args);
    return true;
}

static bool
decide_at(struct question *q, enum identity_action action, uint64_t lsn)
{
    q->d->action = action;
    q->d->lsn = lsn;
    return true;
}

static void
missing(struct question *q, uint64_t to)
{
    q->d->missing_from = q->l->proven_lsn;
    q->d->missing_to = to;
}

/* ---- is it this server ---- */

static bool
check_source(struct question *q)
{
    const struct identity_log *l = q->l;
    const struct identity_server *s = q->s;
    if (!l->has_identity) {
        return false;
    }
    if (l->system_id != s->system_id) {
        return decide(q, IDENTITY_REFUSE,
            "this log belongs to the PostgreSQL cluster with system identifier %" PRIu64
            ", but source.dsn leads to %" PRIu64
            "; point source.dsn at the former cluster, or start a new log in an empty data_dir",
            l->system_id, s->system_id);
    }
    if (!str_eq(l->database, s->database)) {
        return decide(q, IDENTITY_REFUSE,
            "this log belongs to the database \"%.*s\", but source.dsn leads to \"%.*s\"; "
            "point "
            "source.dsn at the former, or start a new log in an empty data_dir",
            STR_ARG(l->database), STR_ARG(s->database));
    }
    if (!str_eq(l->slot, s->slot)) {
        return decide(q, IDENTITY_REFUSE,
            "this log was read from the slot \"%.*s\", but source.slot is \"%.*s\"; set "
            "source.slot to "
            "the former, or start a new log in an empty data_dir",
            STR_ARG(l->slot), STR_ARG(s->slot));
    }
    return false;
}

/* The same LSN may name different changes on another timeline. */
static bool
check_timeline(struct question *q)
{
    uint32_t was = q->l->timeline, is = q->s->timeline;
    if (!q->l->has_identity || was == is) {
        return false;
    }
    if (is < was) {
        return decide(q, IDENTITY_REFUSE,
            "the server is on timeline %" PRIu32 ", older than timeline %" PRIu32
            " that this log has read: it is an old primary or was restored from before a "
            "failover; point "
            "source.dsn at the present primary",
            is, was);
    }
    return decide(q, IDENTITY_REFUSE,
        "the server is on timeline %" PRIu32 ", newer than timeline %" PRIu32
        " that this log has read up to " LSN_FMT
        ": it was promoted or restored, and whether changes up to "
        "there still hold is not known; following a failover is not in this version, so start "
        "a new log in "
        "an empty data_dir",
        is, was, LSN_ARG(q->l->proven_lsn));
}

static bool
check_server(struct question *q)
{
    if (q->s->in_recovery) {
        return decide(q, IDENTITY_WAIT,
            "the server is a standby (in recovery); waiting for its promotion, or point "
            "source.dsn at the "
            "primary");
    }
    if (!str_is(q->s->wal_level, "logical")) {
        return decide(q, IDENTITY_REFUSE,
            "the server's wal_level is \"%.*s\"; run ALTER SYSTEM SET wal_level = 'logical' "
            "and restart "
            "PostgreSQL",
            STR_ARG(q->s->wal_level));
    }
    return false;
}

/* A log that is ahead of its server has changes that the server lost. */
static bool
check_ahead(struct question *q)
{
    if (q->s->wal_lsn == 0 || q->l->proven_lsn <= q->s->wal_lsn) {
        return false;
    }
    return decide(q, IDENTITY_REFUSE,
        "this log holds changes up to " LSN_FMT ", but the server's WAL ends at " LSN_FMT
        ": it was restored from an older copy; point source.dsn at the right server, or start "
        "a new log in "
        "an empty data_dir",
        LSN_ARG(q->l->proven_lsn), LSN_ARG(q->s->wal_lsn));
}

/* A log with records knows the slot that they came from. */
static bool
check_log(struct question *q)
{
    const struct identity_log *l = q->l;
    bool is_created = l->slot_state == IDENTITY_SLOT_CREATED;
    if ((l->is_empty || is_created) &&
        (l->slot_state == IDENTITY_SLOT_NONE || l->has_identity)) {
        return false;
    }
    return decide(q, IDENTITY_REFUSE,
        "this log does not know which slot its records came from, so nothing after " LSN_FMT
        " can be proven to be in it; restore data_dir from a whole copy, or start a new log in "
        "an empty "
        "data_dir",
        LSN_ARG(l->proven_lsn));
}

/* ---- is it this slot ---- */

static bool
check_no_slot(struct question *q)
{
    if (q->s->has_slot) {
        return false;
    }
    if (q->l->slot_state != IDENTITY_SLOT_CREATED) {
        q->d->action = IDENTITY_CREATE_SLOT;
        return true;
    }
    missing(q, q->s->wal_lsn);
    return decide(q, IDENTITY_REFUSE,
        "the slot \"%.*s\" no longer exists; changes after " LSN_FMT
        " up to a new slot's start (now " LSN_FMT
        " or later) would be missing from this log; start a new log in an empty data_dir",
        STR_ARG(q->s->slot), LSN_ARG(q->l->proven_lsn), LSN_ARG(q->s->wal_lsn));
}

static bool
check_kind(struct question *q)
{
    const struct identity_server *s = q->s;
    if (!str_is(s->plugin, "pgoutput")) {
        return decide(q, IDENTITY_REFUSE,
            "the slot \"%.*s\" is not a logical slot of the plugin pgoutput but %s%.*s; set "
            "source.slot to "
            "another name",
            STR_ARG(s->slot), s->plugin.n == 0 ? "a physical one" : "of the plugin ",
            STR_ARG(s->plugin));
    }
    if (!str_eq(s->slot_database, s->database)) {
        return decide(q, IDENTITY_REFUSE,
            "the slot \"%.*s\" belongs to the database \"%.*s\", not to \"%.*s\"; set "
            "source.slot to "
            "another name",
            STR_ARG(s->slot), STR_ARG(s->slot_database), STR_ARG(s->database));
    }
    if (s->is_temporary) {
        return decide(q, IDENTITY_REFUSE,
            "the slot \"%.*s\" is temporary and ends with its session; set source.slot to "
            "another name",
            STR_ARG(s->slot));
    }
    if (s->is_two_phase) {
        return decide(q, IDENTITY_REFUSE,
            "the slot \"%.*s\" sends prepared transactions (two_phase), which is not in this "
            "version; set "
            "source.slot to another name",
            STR_ARG(s->slot));
    }
    return false;
}

/* Two logs that take turns at one slot would each miss what the other was sent. */
static bool
check_owner(struct question *q)
{
    if (q->l->slot_state != IDENTITY_SLOT_NONE) {
        return false;
    }
    return decide(q, IDENTITY_REFUSE,
        "the slot \"%.*s\" exists, but this log has never used it: it belongs to another log "
        "or "
        "another reader; point data_dir at the log that owns it, or drop it first (`oneslot "
        "uninstall`, or SELECT pg_drop_replication_slot('%.*s'))",
        STR_ARG(q->s->slot), STR_ARG(q->s->slot));
}

static bool
check_lost(struct question *q)
{
    const struct identity_server *s = q->s;
    if (!str_is(s->wal_status, "lost") && s->invalidation_reason.n == 0) {
        return false;
    }
    missing(q, s->wal_lsn);
    bool has_reason = s->invalidation_reason.n > 0;
    return decide(q, IDENTITY_REFUSE,
        "PostgreSQL has invalidated the slot \"%.*s\" (%.*s): changes after " LSN_FMT
        " up to a new slot's start (now " LSN_FMT
        " or later) are missing from this log; drop the slot, raise "
        "max_slot_wal_keep_size, and start a new log in an empty data_dir",
        STR_ARG(s->slot), (int)(has_reason ? s->invalidation_reason.n : s->wal_status.n),
        has_reason ? s->invalidation_reason.p : s->wal_status.p, LSN_ARG(q->l->proven_lsn),
        LSN_ARG(s->wal_lsn));
}

static bool
check_usable(struct question *q)
{
    if (q->s->confirmed_flush_lsn != 0) {
        return false;
    }
    return decide(q, IDENTITY_WAIT,
        "the slot \"%.*s\" is still being created; if nobody is doing that, drop it with "
        "SELECT "
        "pg_drop_replication_slot('%.*s')",
        STR_ARG(q->s->slot), STR_ARG(q->s->slot));
}

/* ---- is anything missing ---- */

static bool
check_moved(struct question *q)
{
    uint64_t confirmed = q->s->confirmed_flush_lsn;
    if (q->l->slot_state != IDENTITY_SLOT_CREATED || confirmed <= q->l->proven_lsn) {
        return false;
    }
    missing(q, confirmed);
    return decide(q, IDENTITY_REFUSE,
        "the slot \"%.*s\" stands at " LSN_FMT
        ", but this log holds changes only up to " LSN_FMT
        ": somebody advanced or recreated the slot, and the changes between the two (%" PRIu64
        " bytes of WAL) are missing; start a new log in an empty data_dir",
        STR_ARG(q->s->slot), LSN_ARG(confirmed), LSN_ARG(q->l->proven_lsn),
        confirmed - q->l->proven_lsn);
}

static bool
check_active(struct question *q)
{
    if (q->s->active_pid == 0) {
        return false;
    }
    return decide(q, IDENTITY_WAIT,
        "the slot \"%.*s\" is in use by the server process %" PRId32
        "; waiting for it to end (look for it in pg_stat_activity)",
        STR_ARG(q->s->slot), q->s->active_pid);
}

static bool
go_on(struct question *q)
{
    if (q->l->slot_state == IDENTITY_SLOT_CREATED) {
        return decide_at(q, IDENTITY_STREAM, q->l->proven_lsn);
    }
    CHECK(q->l->slot_state == IDENTITY_SLOT_INTENDED);
    return decide_at(q, IDENTITY_ADOPT_SLOT, q->s->confirmed_flush_lsn);
}

void
identity_decide(const struct identity_log *l, const struct identity_server *s,
    struct identity_decision *ret)
{
    static bool (*const checks[])(struct question *) = {check_source, check_timeline,
        check_server, check_log, check_ahead, check_no_slot, check_kind, check_owner,
        check_lost, check_usable, check_moved, check_active, go_on};
    struct identity_decision d = {.action = IDENTITY_REFUSE};
    struct question q = {.l = l, .s = s, .d = &d};
    bool is_decided = false;
    for (size_t i = 0; !is_decided && i < sizeof checks / sizeof checks[0]; i++) {
        is_decided = checks[i](&q);
    }
    CHECK(is_decided);
    *ret = d;
}

const char *
identity_action_name(enum identity_action action)
{
    static const char *const names[] = {[IDENTITY_CREATE_SLOT] = "create slot",
        [IDENTITY_ADOPT_SLOT] = "adopt slot",
        [IDENTITY_STREAM] = "stream",
        [IDENTITY_WAIT] = "wait",
        [IDENTITY_REFUSE] = "refuse"};
    CHECK((size_t)action < sizeof names / sizeof names[0]);
    return names[action];
}
