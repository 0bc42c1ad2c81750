#include "broker/broker.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/internal.h"
#include "broker/routes.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/fs.h"
#include "proto/base/listen.h"
#include "proto/base/log.h"
#include "proto/base/sig.h"
#include "proto/base/xmalloc.h"

enum {
    LOCK_WAIT_MS = 10 * 1000, /* a restart waits for the former process to be gone */
    APPEND_CONNECTIONS = 16,
    APPEND_BUFFER = 256 * 1024,
    READ_CONNECTIONS = 256,
    READ_THREADS = 2,
    READ_BUFFER = 256 * 1024,
    IDLE_TIMEOUT_S = 60
};

/* ---- opening ---- */

static int
check_file_system(const struct config *conf, struct err *e)
{
    enum fs_kind kind;
    const char *name;
    int rc = fs_kind(conf->data_dir, &kind, &name, e);
    if (rc == ERR_NOTFOUND) {
        return 0; /* making the folder says it better */
    }
    if (rc != 0 || kind == FS_LOCAL) {
        return rc;
    }
    if (kind == FS_UNSAFE && !conf->allow_unsafe_filesystem) {
        return err_set(e, ERR_UNSAFE,
            "data_dir %s lies on %s, where neither locks nor syncs can be trusted; use a local "
            "disk (or set "
            "allow_unsafe_filesystem: true and accept losing the log)",
            conf->data_dir, name);
    }
    log_warn("file_system", "data_dir=%s kind=%s msg=%s", log_quote(conf->data_dir), name,
        log_quote("not a durable local disk: fine for trying out, not for data that matters"));
    return 0;
}

/* A log in a folder whose own entry a power cut takes is lost whole. Synced also when it is
 * there already: whoever made it may have been killed before. Where we may not read the folder
 * above, we have not made it either. */
static int
make_folder(const char *path, struct err *e)
{
    int rc = fs_mkdir(path, 0700, e);
    if (rc == 0) {
        rc = fs_sync_parent(path, e);
        rc = rc == ERR_REFUSED ? 0 : rc;
    }
    return rc;
}

static int
prepare_folder(const struct config *conf, int *ret_lock, struct err *e)
{
    int rc = check_file_system(conf, e);
    if (rc == 0) {
        rc = make_folder(conf->data_dir, e);
    }
    if (rc != 0) {
        return rc;
    }
    auto_free char *path = fs_join(conf->data_dir, "LOCK");
    char text[64];
    int n = snprintf(text, sizeof text, "broker pid %ld\n", (long)getpid());
    rc = fs_lock(path, (struct str){text, (size_t)n}, LOCK_WAIT_MS, ret_lock, e);
    return rc == ERR_LOCKED ? err_prefix(e, "another broker uses %s", conf->data_dir) : rc;
}

/* On the writer thread, behind every commit that made something visible. */
static void
tail_moved(void *arg)
{
    struct broker *bk = arg;
    watch_tail(bk->watch, journal_tail(bk->journal));
    size_t segments = journal_segments(bk->journal, NULL, 0);
    if (segments != bk->segments_seen) {
        bk->segments_seen = segments;
        keeper_nudge(bk->keeper); /* one waits to be sealed, and perhaps the oldest may go */
    }
}

/* P6: a configured sink is one that retention waits for, also before its worker was ever there
 * (or while it is disabled). Where its start cannot be had its worker says so. */
static int
register_sinks(struct broker *bk, struct err *e)
{
    const struct config *conf = bk->conf;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < conf->nsinks; i++) {
        struct sink_row row;
        struct journal_place place;
        struct err why;
        if (state_sink(bk->state, conf->sinks[i].name, &row, &why) == 0 ||
            journal_find(bk->journal, &conf->sinks[i].start, &place, &why) != 0) {
            continue;
        }
        state_first_row(&row, conf->sinks[i].name, place.offset);
        (void)snprintf(row.kind, sizeof row.kind, "%s", config_kind_name(conf->sinks[i].kind));
        rc = state_set_sink(bk->state, &row, e);
    }
    return rc;
}

/* Made once. One that is gone held letters. */
static int
open_dead_folder(struct broker *bk, struct err *e)
{
    const char *data_dir = bk->conf->data_dir;
    bool is_known = false;
    bool exists = false;
    int rc = state_knows_dead(bk->state, &is_known, e);
    if (rc == 0) {
        rc = beside_exists(data_dir, DEAD_FOLDER, &exists, e);
    }
    if (rc == 0 && is_known && !exists) {
        return err_set(e, ERR_FOREIGN,
            "the dead letters of the sinks are missing; put back the folder %s/" DEAD_FOLDER,
            data_dir);
    }
    if (rc == 0) {
        rc = dead_folder_open(data_dir, journal_uuid(bk->journal), &bk->dead_folder, e);
    }
    return rc == 0 && !is_known ? state_set_knows_dead(bk->state, e) : rc;
}

static int
open_dead(struct broker *bk, struct err *e)
{
    int rc = open_dead_folder(bk, e);
    if (rc == 0) {
        rc = dead_open(&bk->dead_folder, &bk->dead, e);
    }
    return rc == 0 ? rereads_open(&bk->dead_folder, &bk->rereads, e) : rc;
}

static int
open_stores(struct broker *bk, struct err *e)
{
    const struct config *conf = bk->conf;
    bool has_state = false;
    int rc = state_exists(conf->data_dir, &has_state, e);
    if (rc == 0) {
        struct journal_conf c = {
            .data_dir = conf->data_dir, .segment_bytes = conf->log.segment_bytes};
        rc = journal_open(&c, !has_state, &bk->journal, e);
    }
    if (rc == 0) {
        struct journal_info info;
        journal_info(bk->journal, &info);
        rc = state_open(
            conf->data_dir, journal_uuid(bk->journal), !info.has_last, &bk->state, e);
    }
    if (rc == 0) {
        rc = open_dead(bk, e);
    }
    if (rc == 0) {
        struct writer_conf c = {
            .journal = bk->journal,
            .state = bk->state,
            .data_dir = conf->data_dir,
            .is_packed = conf->log.compression == CONFIG_COMPRESSION_ZSTD,
        };
        rc = writer_new(&c, &bk->writer, e);
    }
    return rc == 0 ? register_sinks(bk, e) : rc;
}

static void
start_threads(struct broker *bk)
{
    bk->watch = watch_new();
    watch_tail(bk->watch, journal_tail(bk->journal));
    struct keeper_conf c = {
        .journal = bk->journal,
        .state = bk->state,
        .writer = bk->writer,
        .retain_lock = &bk->retain_lock,
        .retention = {.retain_age_ms = bk->conf->log.retain_age_ms,
            .retain_bytes = bk->conf->log.retain_bytes,
            .may_evict = bk->conf->log.when_full == CONFIG_EVICT},
    };
    bk->keeper = keeper_start(&c);
    journal_on_tail(bk->journal, tail_moved, bk);
}

/* Takes lock_fd. */
static int
open_locked(const struct config *conf, int lock_fd, struct broker **ret, struct err *e)
{
    struct broker *bk = xcalloc(1, sizeof *bk);
    bk->conf = conf;
    bk->lock_fd = lock_fd;
    bk->started_ms = clock_mono_ms();
    (void)pthread_mutex_init(&bk->retain_lock, NULL);
    (void)pthread_mutex_init(&bk->report_lock, NULL);
    buf_init(&bk->tables.body, API_TABLES_BYTES);
    int rc = open_stores(bk, e);
    if (rc != 0) {
        broker_close(bk);
        return rc;
    }
    start_threads(bk);
    *ret = bk;
    return 0;
}

int
broker_open(const struct config *conf, struct broker **ret, struct err *e)
{
    int lock_fd;
    int rc = prepare_folder(conf, &lock_fd, e);
    return rc == 0 ? open_locked(conf, lock_fd, ret, e) : rc;
}

void
broker_end_on_fatal(int rc, const struct err *e)
{
    if (err_class(rc) == ERR_CLASS_FATAL) {
        log_err(LOG_ERROR, "write_failed", e, "ending; a restart recovers");
        _Exit(1);
    }
}

void
broker_close(struct broker *bk)
{
    if (bk == NULL) {
        return;
    }
    keeper_stop(bk->keeper);
    watch_free(bk->watch);
    writer_free(bk->writer);
    rereads_close(bk->rereads);
    dead_close(bk->dead);
    beside_close(&bk->dead_folder);
    state_close(bk->state);
    journal_close(bk->journal);
    (void)pthread_mutex_destroy(&bk->retain_lock);
    (void)pthread_mutex_destroy(&bk->report_lock);
    buf_fini(&bk->tables.body);
    free(bk->sink);
    if (bk->lock_fd >= 0) {
        (void)close(bk->lock_fd); /* closing it lets the next broker in */
    }
    free(bk);
}

/* ---- serving ---- */

/* The one name that `listen` may hold; no resolver decides where we listen. */
static const char *
numeric_host(const struct config *conf)
{
    return strcmp(conf->listen_host, "localhost") == 0 ? "127.0.0.1" : conf->listen_host;
}

/* Three listeners: the writer's, the local one, TCP. */
struct servers {
    struct httpd *append, *local, *tcp;
};

static int
listen_all(struct broker *bk, struct servers *s, struct err *e)
{
    const struct config *conf = bk->conf;
    auto_free char *append_path = fs_join(conf->data_dir, API_APPEND_SOCKET);
    auto_free char *local_path = fs_join(conf->data_dir, API_SOCKET);
    struct httpd_conf append = {
        .unix_path = append_path,
        .max_connections = APPEND_CONNECTIONS,
        .threads = 1,
        .idle_timeout_s = IDLE_TIMEOUT_S,
        .buffer_bytes = APPEND_BUFFER,
        .handler = internal_append_handle,
        .body_limit = internal_append_body_limit,
        .arg = bk,
    };
    struct httpd_conf local = {
        .unix_path = local_path,
        .max_connections = READ_CONNECTIONS,
        .threads = READ_THREADS,
        .idle_timeout_s = IDLE_TIMEOUT_S,
        .buffer_bytes = READ_BUFFER,
        .handler = routes_handle,
        .body_limit = routes_body_limit,
        .arg = bk,
    };
    struct httpd_conf tcp = local;
    tcp.unix_path = NULL;
    tcp.host = numeric_host(conf);
    tcp.port = conf->listen_port;
    tcp.loopback_hosts_only = true;
    int rc = httpd_listen(&tcp, &s->tcp, e);
    if (rc == 0) {
        rc = httpd_listen(&append, &s->append, e);
    }
    return rc == 0 ? httpd_listen(&local, &s->local, e) : rc;
}

/* Who is answered by one of them finds the others too. */
static int
open_servers(struct broker *bk, struct servers *s, struct err *e)
{
    int rc = listen_all(bk, s, e);
    struct httpd *const all[] = {s->tcp, s->append, s->local};
    for (size_t i = 0; rc == 0 && i < sizeof all / sizeof all[0]; i++) {
        rc = httpd_serve(all[i], e);
    }
    return rc;
}

static void
close_servers(struct broker *bk, struct servers *s)
{
    httpd_close(s->append); /* first: nothing is written any more */
    watch_stop(bk->watch);  /* resumes who waits, so that the others can end */
    httpd_close(s->local);
    httpd_close(s->tcp);
}

static void
wait_for_stop(void)
{
    while (!sig_stop_requested()) {
        struct pollfd p = {.fd = sig_stop_fd(), .events = POLLIN};
        (void)poll(&p, 1, -1);
    }
}

/* A port that is taken is told before a log is made. With the lock held: a former broker has
 * let go of both. */
static int
open_to_serve(const struct config *conf, struct broker **ret, struct err *e)
{
    auto_close int lock_fd = -1;
    auto_close int fd = -1;
    uint16_t port;
    int rc = prepare_folder(conf, &lock_fd, e);
    if (rc == 0) {
        rc = listen_tcp(numeric_host(conf), conf->listen_port, &fd, &port, e);
    }
    if (rc != 0) {
        return rc;
    }
    int locked = lock_fd;
    lock_fd = -1;
    return open_locked(conf, locked, ret, e);
}

int
broker_run(const struct config *conf, struct err *e)
{
    struct broker *bk;
    int rc = open_to_serve(conf, &bk, e);
    if (rc != 0) {
        return rc;
    }
    struct servers s = {0};
    rc = open_servers(bk, &s, e);
    if (rc == 0) {
        struct journal_info info;
        journal_info(bk->journal, &info);
        log_info("serving", "listen=%s port=%u data_dir=%s segments=%zu next=%" PRIu64,
            log_quote(conf->listen_host), httpd_port(s.tcp), log_quote(conf->data_dir),
            info.segments, info.next);
        wait_for_stop();
        log_info("stopping", "reason=signal");
    }
    close_servers(bk, &s);
    broker_close(bk);
    return rc;
}
