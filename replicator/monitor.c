/* monitor: see monitor.h. */
#include "replicator/monitor.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/client/client.h"
#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "proto/base/cond.h"
#include "proto/base/log.h"
#include "proto/base/sig.h"
#include "proto/base/xmalloc.h"
#include "replicator/announce.h"
#include "replicator/catalog.h"
#include "replicator/publication.h"

enum { PERIOD_MS = 2000, RECONNECT_MS = 5000, CONNECT_MS = 5000, PUBLICATION_MS = 15 * 1000 };

struct monitor {
    const struct monitor_conf *conf;
    struct client *client;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stops, has_news, is_creating; /* these and the next two under the lock */
    enum api_source_state state;
    char error[API_TEXT_MAX], reread_error[API_TEXT_MAX]; /* under the lock too */
    _Atomic uint64_t received_lsn, acked_lsn;
    /* of the thread alone */
    struct pgconn *pg;
    int64_t connect_after_ms;
    struct catalog_slot slot; /* as last seen */
    char blocker[API_TEXT_MAX];
    int64_t look_at_ms;             /* at the publication, next */
    char unpublished[API_TEXT_MAX]; /* a sentence, or empty */
};

/* ---- the thread ---- */

/* A connection is only tried where the source has one too: otherwise a dead server would delay
 * every post. */
static bool
connect_if_due(struct monitor *m, enum api_source_state state, bool is_creating)
{
    if (m->pg != NULL) {
        return true;
    }
    bool is_reachable = state == API_SOURCE_STREAMING || state == API_SOURCE_SNAPSHOT ||
                        is_creating || state == API_SOURCE_REFUSED;
    if (!is_reachable || clock_mono_ms() < m->connect_after_ms) {
        return false;
    }
    struct pgconn_conf c = {.dsn = m->conf->dsn,
        .password_file = m->conf->password_file,
        .stop_fd = m->conf->stop_fd,
        .connect_timeout_ms = CONNECT_MS};
    struct err e = {0};
    if (pgconn_open(&c, &m->pg, &e) != 0) {
        m->slot = (struct catalog_slot){0};
        log_debug("monitor_connect_failed", "msg=%s", log_quote(e.msg));
        m->connect_after_ms = clock_mono_ms() + RECONNECT_MS;
        return false;
    }
    return true;
}

static int
ask_blocker(struct monitor *m, struct err *e)
{
    auto_buf struct buf text;
    buf_init(&text, API_TEXT_MAX / 2);
    int rc = catalog_oldest_writer(m->pg, &text, e);
    if (rc == 0 && text.n > 0) {
        (void)snprintf(m->blocker, sizeof m->blocker,
            "creating slot %s waits for transactions that were open before it: %s",
            m->conf->slot, buf_cstr(&text));
    }
    return rc;
}

/* Its changes are missing from the log from then on, without any other sign. */
static void
note_unpublished(struct monitor *m, const struct publication_plan *p)
{
    char was[API_TEXT_MAX];
    memcpy(was, m->unpublished, sizeof was);
    m->unpublished[0] = '\0';
    for (size_t i = 0; i < p->ntables && m->unpublished[0] == '\0'; i++) {
        const struct publication_table *t = &p->tables[i];
        if (t->is_selected && !t->is_published) {
            (void)snprintf(m->unpublished, sizeof m->unpublished,
                "source.tables selects the table %.*s.%.*s, but the publication %s does not "
                "hold it: its changes are missing from the log until it does; a restart of the "
                "replicator adds it",
                (int)t->schema.n, t->schema.p, (int)t->name.n, t->name.p, m->conf->publication);
        }
    }
    if (m->unpublished[0] != '\0' && strcmp(was, m->unpublished) != 0) {
        log_warn("table_not_published", "msg=%s", log_quote(m->unpublished));
    }
}

/* Not worth a failure: tried again. */
static bool
announce(struct monitor *m, const struct publication_plan *p)
{
    struct err e = {0};
    int rc = announce_tables(m->client, p, false, &e);
    if (rc != 0) {
        log_debug("monitor_announce_failed", "msg=%s", log_quote(e.msg));
    }
    return rc == 0 || rc == ERR_TOOBIG;
}

static int
look_at_publication(struct monitor *m, struct err *e)
{
    struct publication_plan p = {0};
    int rc = publication_plan(m->pg, m->conf->publication, m->conf->tables, &p, e);
    if (rc == 0) {
        note_unpublished(m, &p);
        if (announce(m, &p)) {
            m->look_at_ms = clock_mono_ms() + PUBLICATION_MS;
        }
        publication_plan_fini(&p);
    }
    return rc;
}

static void
ask_server(struct monitor *m, enum api_source_state state, bool is_creating)
{
    m->blocker[0] = '\0';
    if (state != API_SOURCE_STREAMING) {
        m->look_at_ms = 0; /* the way to streaming may add tables */
    }
    if (!connect_if_due(m, state, is_creating)) {
        return;
    }
    struct err e = {0};
    int rc = catalog_slot(m->pg, m->conf->slot, &m->slot, &e);
    if (rc == 0 && is_creating) {
        rc = ask_blocker(m, &e);
    }
    if (rc == 0 && state == API_SOURCE_STREAMING && clock_mono_ms() >= m->look_at_ms) {
        rc = look_at_publication(m, &e);
    }
    if (rc != 0) {
        log_debug("monitor_query_failed", "msg=%s", log_quote(e.msg));
        m->slot = (struct catalog_slot){0};
        pgconn_close(m->pg);
        m->pg = NULL;
        m->connect_after_ms = clock_mono_ms() + RECONNECT_MS;
    }
}

/* Called with the lock. */
static void
fill_error(const struct monitor *m, char error[API_TEXT_MAX])
{
    const char *text = m->error;
    if (m->is_creating && m->blocker[0] != '\0') {
        text = m->blocker;
    } else if (m->is_creating) {
        (void)snprintf(error, API_TEXT_MAX,
            "creating slot %s, which waits for every transaction that was open before it",
            m->conf->slot);
        return;
    } else if (m->state == API_SOURCE_STREAMING && text[0] == '\0') {
        text = m->unpublished[0] != '\0' ? m->unpublished : m->reread_error;
    }
    (void)snprintf(error, API_TEXT_MAX, "%s", text);
}

/* Called with the lock; what is posted is a copy. */
static void
fill(struct monitor *m, struct api_source_status *s, char error[API_TEXT_MAX])
{
    fill_error(m, error);
    *s = (struct api_source_status){
        .state = (uint8_t)m->state,
        .slot = str_from(m->conf->slot),
        .server_lsn = m->slot.server_lsn,
        .received_lsn = atomic_load(&m->received_lsn),
        .acked_lsn = atomic_load(&m->acked_lsn),
        .has_retained = m->slot.has_retained,
        .retained_wal_bytes = m->slot.retained_wal_bytes,
        .wal_status = str_from(m->slot.wal_status),
        .has_safe = m->slot.has_safe,
        .safe_wal_bytes = m->slot.safe_wal_bytes,
        .last_error = str_from(error),
    };
    if (s->server_lsn != 0 &&
        s->server_lsn < s->received_lsn) { /* asked before that was received */
        s->server_lsn = s->received_lsn;
    }
}

static void
post(struct monitor *m)
{
    struct api_source_status s;
    char error[API_TEXT_MAX];
    struct err e = {0};
    (void)pthread_mutex_lock(&m->lock);
    m->has_news = false;
    fill(m, &s, error);
    (void)pthread_mutex_unlock(&m->lock);
    if (client_source_status(m->client, &s, &e) != 0) {
        log_debug("monitor_post_failed", "msg=%s", log_quote(e.msg));
    }
}

/* False once closed. */
static bool
wait_for_news(struct monitor *m, int64_t until_ms)
{
    (void)pthread_mutex_lock(&m->lock);
    while (!m->stops && !m->has_news && cond_wait_until(&m->changed, &m->lock, until_ms)) {}
    bool goes_on = !m->stops;
    (void)pthread_mutex_unlock(&m->lock);
    return goes_on;
}

static void
snapshot(struct monitor *m, enum api_source_state *state, bool *is_creating, bool *has_news)
{
    (void)pthread_mutex_lock(&m->lock);
    *state = m->state;
    *is_creating = m->is_creating;
    *has_news = m->has_news;
    (void)pthread_mutex_unlock(&m->lock);
}

/* News go out before the server is asked, which may take a while. */
static void *
run(void *arg)
{
    struct monitor *m = arg;
    int64_t ask_at_ms = 0;
    do {
        enum api_source_state state;
        bool is_creating, has_news;
        snapshot(m, &state, &is_creating, &has_news);
        if (has_news) {
            post(m);
        }
        if (clock_mono_ms() >= ask_at_ms) {
            ask_server(m, state, is_creating);
            post(m);
            ask_at_ms = clock_mono_ms() + PERIOD_MS;
        }
    } while (wait_for_news(m, ask_at_ms));
    return NULL;
}

/* ---- the others' side ---- */

static void
init_sync(struct monitor *m)
{
    CHECK(pthread_mutex_init(&m->lock, NULL) == 0);
    cond_init(&m->changed);
}

static void
free_monitor(struct monitor *m)
{
    client_free(m->client);
    pgconn_close(m->pg);
    (void)pthread_mutex_destroy(&m->lock);
    (void)pthread_cond_destroy(&m->changed);
    free(m);
}

int
monitor_open(const struct monitor_conf *c, struct monitor **ret, struct err *e)
{
    struct monitor *m = xcalloc(1, sizeof *m);
    struct client_conf conf = {
        .unix_path = c->append_socket, .should_stop = sig_stop_requested};
    m->conf = c;
    m->client = client_new(&conf);
    init_sync(m);
    int sys = pthread_create(&m->thread, NULL, run, m);
    if (sys != 0) {
        free_monitor(m);
        return err_set_sys(e, ERR_IO, sys, "cannot start the monitoring thread");
    }
    *ret = m;
    return 0;
}

void
monitor_close(struct monitor *m)
{
    if (m == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&m->lock);
    m->stops = true;
    (void)pthread_cond_broadcast(&m->changed);
    (void)pthread_mutex_unlock(&m->lock);
    (void)pthread_join(m->thread, NULL);
    free_monitor(m);
}

void
monitor_set_state(struct monitor *m, enum api_source_state state, const char *error)
{
    const char *text = error == NULL ? "" : error;
    (void)pthread_mutex_lock(&m->lock);
    if (state != m->state || strncmp(text, m->error, sizeof m->error - 1) != 0) {
        m->state = state;
        (void)snprintf(m->error, sizeof m->error, "%s", text);
        m->has_news = true;
        (void)pthread_cond_broadcast(&m->changed);
    }
    (void)pthread_mutex_unlock(&m->lock);
}

void
monitor_set_reread(struct monitor *m, const char *error)
{
    const char *text = error == NULL ? "" : error;
    (void)pthread_mutex_lock(&m->lock);
    if (strncmp(text, m->reread_error, sizeof m->reread_error - 1) != 0) {
        (void)snprintf(m->reread_error, sizeof m->reread_error, "%s", text);
        m->has_news = true;
        (void)pthread_cond_broadcast(&m->changed);
    }
    (void)pthread_mutex_unlock(&m->lock);
}

void
monitor_set_progress(struct monitor *m, uint64_t received_lsn, uint64_t acked_lsn)
{
    atomic_store_explicit(&m->received_lsn, received_lsn, memory_order_relaxed);
    atomic_store_explicit(&m->acked_lsn, acked_lsn, memory_order_relaxed);
}

void
monitor_set_creating(struct monitor *m, bool is_creating)
{
    (void)pthread_mutex_lock(&m->lock);
    m->is_creating = is_creating;
    m->has_news = true;
    (void)pthread_cond_broadcast(&m->changed);
    (void)pthread_mutex_unlock(&m->lock);
}
