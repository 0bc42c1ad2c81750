/* source: see source.h. */
#include "replicator/source.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/client/client.h"
#include "proto/base/backoff.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/fs.h"
#include "proto/base/log.h"
#include "proto/base/sig.h"
#include "proto/lsn.h"
#include "replicator/announce.h"
#include "replicator/catalog.h"
#include "replicator/identity.h"
#include "replicator/monitor.h"
#include "replicator/publication.h"
#include "replicator/stream.h"

enum {
    BACKOFF_MIN_MS = 100,
    BACKOFF_MAX_MS = 10 * 1000,
    REFUSED_MS = 10 * 1000,
    SETTLED_MS =
        10 * 1000, /* a stream that lasted this long begins with a short backoff again */
    REPEAT_LOG_MS = 60 * 1000 /* the same failure is logged again after this, with a count */
};

struct source {
    const struct config_source *conf;
    const char *append_socket, *broker_socket;
    struct pgconn_conf plain, replication;
    struct client *client;
    struct monitor *monitor;
    struct backoff backoff;
    struct err last_failure;
    int64_t last_logged_ms;
    unsigned repeated;
    bool renews;            /* the stream ended in order to begin again at once */
    uint64_t logged_tables; /* digest of what was last logged about each table */
};

/* One try: what is learned on the way to streaming. */
struct session {
    struct pgconn *plain, *replication;
    struct catalog_server server;
    struct catalog_system system;
    struct catalog_slot slot;
    struct identity_decision decision;
};

static void
session_fini(struct session *ss)
{
    pgconn_close(ss->plain);
    pgconn_close(ss->replication);
}
#define auto_session __attribute__((cleanup(session_fini)))

/* ---- identity ---- */

static void
decide(struct session *ss, const char *slot, const struct api_source *log)
{
    struct identity_log l = {.has_identity = log->has_identity,
        .system_id = log->system_id,
        .timeline = log->timeline,
        .database = log->database,
        .slot = log->slot,
        .slot_state = log->slot_state,
        .proven_lsn = log->proven_lsn,
        .is_empty = log->is_empty};
    struct identity_server s = {.system_id = ss->system.system_id,
        .timeline = ss->system.timeline,
        .database = str_from(ss->server.database),
        .wal_level = str_from(ss->server.wal_level),
        .in_recovery = ss->server.in_recovery,
        .wal_lsn = ss->server.in_recovery ? 0 : ss->slot.server_lsn,
        .slot = str_from(slot),
        .has_slot = ss->slot.exists,
        .plugin = str_from(ss->slot.plugin),
        .slot_database = str_from(ss->slot.database),
        .confirmed_flush_lsn = ss->slot.has_confirmed ? ss->slot.confirmed_lsn : 0,
        .wal_status = str_from(ss->slot.wal_status),
        .invalidation_reason = str_from(ss->slot.invalidation),
        .active_pid = (int32_t)ss->slot.active_pid,
        .is_temporary = ss->slot.is_temporary,
        .is_two_phase = ss->slot.two_phase};
    identity_decide(&l, &s, &ss->decision);
}

/* All on the connection that will stream: of several hosts in the dsn another could answer
 * another connection. The slot is asked before the log, so that what the log proves can only
 * have grown since (C <= A, P3). */
static int
check_identity(struct source *s, struct session *ss, struct err *e)
{
    struct api_source log;
    int rc = pgconn_open(&s->replication, &ss->replication, e);
    if (rc == 0) {
        rc = catalog_server(ss->replication, &ss->server, e);
    }
    if (rc == 0) {
        rc = catalog_system(ss->replication, &ss->system, e);
    }
    if (rc == 0) {
        rc = catalog_slot(ss->replication, s->conf->slot, &ss->slot, e);
    }
    if (rc == 0) {
        rc = client_source_get(s->client, &log, e);
    }
    if (rc != 0) {
        return rc;
    }
    decide(ss, s->conf->slot, &log);
    const struct identity_decision *d = &ss->decision;
    if (d->action == IDENTITY_WAIT || d->action == IDENTITY_REFUSE) {
        return err_set(
            e, d->action == IDENTITY_WAIT ? ERR_BUSY : ERR_REFUSED, "%s", d->message);
    }
    return 0;
}

/* ---- publication ---- */

/* FNV-1a over what log_table says: tries that find the same say it once. */
static uint64_t
digest_tables(const struct publication_plan *p)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < p->ntables; i++) {
        const struct publication_table *t = &p->tables[i];
        uint64_t flags = (t->is_added || t->is_published ? 1u : 0u) |
                         (t->is_selected ? 2u : 0u) | (t->has_identity ? 4u : 0u);
        h = (h ^ t->oid) * UINT64_C(0x100000001b3);
        h = (h ^ flags) * UINT64_C(0x100000001b3);
    }
    return h;
}

static bool
is_other(const struct publication_table *t)
{
    return t->is_published && !t->is_selected;
}

static void
log_table(const struct publication_plan *p, const struct publication_table *t, bool has_slot,
    bool has_patterns)
{
    const char *schema = log_quote_str(t->schema), *name = log_quote_str(t->name);
    if (t->is_added && has_slot) {
        log_warn("table_published",
            "schema=%s table=%s msg=\"added beside an existing slot: what was changed in it "
            "before now is not in the log\"",
            schema, name);
    } else if (t->is_added) {
        log_info("table_published", "schema=%s table=%s", schema, name);
    } else if (is_other(t) && has_patterns) {
        log_info("table_found",
            "schema=%s table=%s msg=\"published already, not named in source.tables\"", schema,
            name);
    }
    if (t->is_published && !t->is_partitioned && !t->has_identity &&
        (p->has_update || p->has_delete)) {
        log_warn("table_without_identity",
            "schema=%s table=%s msg=\"its UPDATE and DELETE fail on the server\"", schema,
            name);
    }
}

static void
log_publication(struct source *s, const struct publication_plan *p, bool has_slot)
{
    const char *name = s->conf->publication;
    uint64_t digest = digest_tables(p);
    bool is_news = p->nadded > 0 || digest != s->logged_tables;
    size_t others = 0;
    for (size_t i = 0; i < p->ntables; i++) {
        others += is_other(&p->tables[i]);
        if (is_news) {
            log_table(p, &p->tables[i], has_slot, s->conf->tables.n > 0);
        }
    }
    s->logged_tables = digest;
    if (p->exists && !(p->has_insert && p->has_update && p->has_delete && p->has_truncate)) {
        log_warn("publication_incomplete",
            "publication=%s insert=%d update=%d delete=%d truncate=%d", log_quote(name),
            p->has_insert, p->has_update, p->has_delete, p->has_truncate);
    }
    log_info("publication", "name=%s published=%zu added=%zu others=%zu", log_quote(name),
        p->npublished, p->nadded, others);
    if (p->npublished + p->nadded == 0) {
        log_warn("publication_empty",
            "name=%s msg=\"no table is published: nothing will be logged\"", log_quote(name));
    }
}

static int
carry_out(struct source *s, struct session *ss, const struct publication_plan *p, struct err *e)
{
    int rc = publication_check(p, s->conf->publication, e);
    if (rc != 0) {
        return rc;
    }
    /* Changes from before a publication cannot be decoded with it: up to 17 the slot would
     * stand still for good, from 18 they would be dropped. */
    if (!p->exists && ss->slot.exists) {
        return err_set(e, ERR_REFUSED,
            "publication %s does not exist, but slot %s does and its changes need it; what was "
            "changed since the "
            "publication was dropped cannot be read. Run `oneslot uninstall` and start a new "
            "log in an empty data_dir",
            s->conf->publication, s->conf->slot);
    }
    bool has_changed = false;
    rc = publication_apply(ss->replication, p, s->conf->publication, &has_changed, e);
    if (rc == 0) {
        log_publication(s, p, ss->slot.exists);
    }
    return rc;
}

static int
announce(struct source *s, const struct publication_plan *p, struct err *e)
{
    int rc = announce_tables(s->client, p, true, e);
    if (rc == ERR_TOOBIG) {
        log_err(LOG_WARN, "tables_not_announced", e,
            "a sink that cannot take one of them stops at its first change");
        rc = 0;
    }
    return rc;
}

static int
prepare_publication(struct source *s, struct session *ss, struct err *e)
{
    struct publication_plan p = {0};
    int rc = publication_plan(ss->replication, s->conf->publication, &s->conf->tables, &p, e);
    if (rc == 0) {
        rc = carry_out(s, ss, &p, e);
        if (rc == 0) {
            rc = announce(s, &p, e);
        }
        publication_plan_fini(&p);
    }
    return rc;
}

/* ---- slot ---- */

static int
put_progress(struct source *s, const struct session *ss, enum api_slot_state state,
    uint64_t start_lsn, struct err *e)
{
    struct api_source_update u = {.system_id = ss->system.system_id,
        .timeline = ss->system.timeline,
        .database = str_from(ss->server.database),
        .slot = str_from(s->conf->slot),
        .slot_state = (uint8_t)state,
        .start_lsn = start_lsn};
    return client_source_put(s->client, &u, e);
}

/* Intent first, so that a slot found without a record of its creation is known to be ours (P3).
 */
static int
create_slot(struct source *s, struct session *ss, struct err *e)
{
    int rc = put_progress(s, ss, API_SLOT_INTENDED, 0, e);
    if (rc != 0) {
        return rc;
    }
    uint64_t start_lsn = 0;
    log_info("slot_creating", "slot=%s", log_quote(s->conf->slot));
    monitor_set_creating(s->monitor, true);
    rc = catalog_create_slot(ss->replication, s->conf->slot, &start_lsn, e);
    monitor_set_creating(s->monitor, false);
    if (rc != 0) {
        return err_prefix(e, "slot %s cannot be created", s->conf->slot);
    }
    log_info(
        "slot_created", "slot=%s lsn=" LSN_FMT, log_quote(s->conf->slot), LSN_ARG(start_lsn));
    return put_progress(s, ss, API_SLOT_CREATED, start_lsn, e);
}

/* The intent is in the ledger already, or it would not be adopted. */
static int
adopt_slot(struct source *s, struct session *ss, struct err *e)
{
    uint64_t lsn = ss->decision.lsn;
    int rc = put_progress(s, ss, API_SLOT_CREATED, lsn, e);
    if (rc == 0) {
        log_info(
            "slot_adopted", "slot=%s lsn=" LSN_FMT, log_quote(s->conf->slot), LSN_ARG(lsn));
    }
    return rc;
}

static int
prepare_slot(struct source *s, struct session *ss, struct err *e)
{
    switch (ss->decision.action) {
    case IDENTITY_CREATE_SLOT:
        return create_slot(s, ss, e);
    case IDENTITY_ADOPT_SLOT:
        return adopt_slot(s, ss, e);
    default:
        return 0;
    }
}

/* ---- stream ---- */

/* Once we hold the slot nobody else can move it; what happened since it was looked at first
 * shows here. */
static int
check_not_moved(struct source *s, struct session *ss, uint64_t proven_lsn, struct err *e)
{
    struct catalog_slot now;
    int rc = pgconn_open(&s->plain, &ss->plain, e);
    if (rc == 0) {
        rc = catalog_slot(ss->plain, s->conf->slot, &now, e);
    }
    if (rc == 0 && now.active_pid == 0) {
        return err_set(e, ERR_BUSY,
            "slot %s is not being read where a second connection leads, though we read it: do "
            "the hosts of source.dsn lead to different servers?",
            s->conf->slot);
    }
    if (rc == 0 && now.has_confirmed && now.confirmed_lsn > proven_lsn) {
        return err_set(e, ERR_REFUSED,
            "slot %s was moved to " LSN_FMT " while the log proves only " LSN_FMT
            ": the changes between are lost; start a new log in an empty data_dir",
            s->conf->slot, LSN_ARG(now.confirmed_lsn), LSN_ARG(proven_lsn));
    }
    return rc;
}

static int
stream(struct source *s, struct session *ss, struct err *e)
{
    struct api_session session;
    int rc = client_session_open(s->client, &session, e);
    if (rc == 0) {
        rc = pgconn_start(
            ss->replication, s->conf->slot, s->conf->publication, session.proven_lsn, e);
    }
    uint64_t xmax = 0;
    if (rc == 0) {
        rc = check_not_moved(s, ss, session.proven_lsn, e);
    }
    if (rc == 0) {
        rc = catalog_xmax(ss->plain, &xmax, e);
    }
    if (rc != 0) {
        return rc;
    }
    pgconn_close(ss->plain);
    ss->plain = NULL;
    struct stream_conf c = {.replication = ss->replication,
        .plain = &s->plain,
        .append_socket = s->append_socket,
        .broker_socket = s->broker_socket,
        .publication = s->conf->publication,
        .session = &session,
        .xmax = xmax,
        .monitor = s->monitor,
        .stop_fd = s->plain.stop_fd};
    int64_t began_ms = clock_mono_ms();
    rc = stream_run(&c, &s->renews, e);
    if (clock_mono_ms() - began_ms >= SETTLED_MS) {
        backoff_reset(&s->backoff);
    }
    return rc;
}

/* A snapshot of the tables will have its place between slot and stream. */
static int
run_session(struct source *s, struct err *e)
{
    auto_session struct session ss = {0};
    int rc = check_identity(s, &ss, e);
    if (rc == 0) {
        rc = prepare_publication(s, &ss, e);
    }
    if (rc == 0) {
        rc = prepare_slot(s, &ss, e);
    }
    if (rc == 0) {
        rc = stream(s, &ss, e);
    }
    return rc;
}

/* ---- again and again ---- */

static void
log_failure(struct source *s, const struct err *e, bool is_refused, int64_t wait_ms)
{
    int64_t now_ms = clock_mono_ms();
    bool is_same = e->code == s->last_failure.code && strcmp(e->msg, s->last_failure.msg) == 0;
    if (is_same && now_ms - s->last_logged_ms < REPEAT_LOG_MS) {
        s->repeated++;
        return;
    }
    log_write(is_refused ? LOG_ERROR : LOG_WARN, is_refused ? "source_refused" : "source_retry",
        "code=%s msg=%s retry_ms=%" PRId64 " repeated=%u", err_name(e->code), log_quote(e->msg),
        wait_ms, s->repeated);
    s->last_failure = *e;
    s->last_logged_ms = now_ms;
    s->repeated = 0;
}

static void
pause_after(struct source *s, const struct err *e)
{
    enum err_class class = err_class(e->code);
    bool is_refused = class == ERR_CLASS_STOP || class == ERR_CLASS_REJECT;
    int64_t wait_ms = is_refused ? REFUSED_MS : backoff_next_ms(&s->backoff);
    monitor_set_state(
        s->monitor, is_refused ? API_SOURCE_REFUSED : API_SOURCE_RETRYING, e->msg);
    log_failure(s, e, is_refused, wait_ms);
    struct pollfd stop = {.fd = s->plain.stop_fd, .events = POLLIN};
    (void)poll(&stop, 1, (int)wait_ms);
}

static int
run_until_stop(struct source *s, struct err *e)
{
    while (!sig_stop_requested()) {
        struct err failure = {0};
        int rc = run_session(s, &failure);
        enum err_class class = err_class(rc);
        if (class == ERR_CLASS_FATAL || class == ERR_CLASS_BUG) {
            *e = failure;
            return rc;
        }
        bool renews = s->renews;
        s->renews = false;
        if (!renews && (rc != ERR_STOPPING || !sig_stop_requested())) {
            pause_after(s, &failure);
        }
    }
    return 0;
}

int
source_run(const struct config *c, struct err *e)
{
    auto_free char *socket = fs_join(c->data_dir, API_APPEND_SOCKET);
    auto_free char *broker_socket = fs_join(c->data_dir, API_SOCKET);
    struct source s = {
        .conf = &c->source, .append_socket = socket, .broker_socket = broker_socket};
    s.plain = (struct pgconn_conf){.dsn = c->source.dsn,
        .password_file = c->source.password_file,
        .stop_fd = sig_stop_fd()};
    s.replication = s.plain;
    s.replication.is_replication = true;
    struct monitor_conf mc = {.append_socket = socket,
        .dsn = c->source.dsn,
        .password_file = c->source.password_file,
        .slot = c->source.slot,
        .publication = c->source.publication,
        .tables = &c->source.tables,
        .stop_fd = sig_stop_fd()};
    struct client_conf cc = {.unix_path = socket, .should_stop = sig_stop_requested};
    backoff_init(&s.backoff, BACKOFF_MIN_MS, BACKOFF_MAX_MS,
        (uint64_t)clock_mono_us() ^ (uint64_t)getpid());
    int rc = monitor_open(&mc, &s.monitor, e);
    if (rc != 0) {
        return rc;
    }
    s.client = client_new(&cc);
    rc = run_until_stop(&s, e);
    monitor_close(s.monitor);
    client_free(s.client);
    return rc;
}
