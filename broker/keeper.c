#include "broker/keeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/sig.h"
#include "proto/base/xmalloc.h"

enum { ROUND_MS = 5000, RETRY_MS = 10000 };

struct keeper {
    struct keeper_conf conf;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t nudged;
    bool is_nudged, is_stopping;
    struct keeper_stats stats;
    struct journal_segment *seg; /* reused */
    struct retention_segment *facts;
    size_t cap;
};

/* A damaged segment, a full disk: said once per cause, tried again at the next round; sealing
 * is what waits, not anybody's data. An input/output error ends the process (P9). */
static void
report(struct keeper *k, const struct err *why)
{
    (void)pthread_mutex_lock(&k->lock);
    bool is_news = strcmp(k->stats.last_error, why == NULL ? "" : why->msg) != 0;
    (void)snprintf(
        k->stats.last_error, sizeof k->stats.last_error, "%s", why == NULL ? "" : why->msg);
    (void)pthread_mutex_unlock(&k->lock);
    if (why == NULL || !is_news) {
        return;
    }
    log_err(LOG_ERROR, "keeper_failed", why, "will retry");
    if (err_class(why->code) == ERR_CLASS_FATAL) {
        log_error(
            "ending", "reason=%s", log_quote("an input/output error; a restart recovers"));
        _Exit(1);
    }
}

static int
seal_all(struct keeper *k, struct err *e)
{
    for (;;) {
        bool done = false;
        int rc = journal_seal_one(k->conf.journal, &done, e);
        if (rc != 0 || !done) {
            return rc;
        }
        (void)pthread_mutex_lock(&k->lock);
        k->stats.sealed++;
        (void)pthread_mutex_unlock(&k->lock);
        log_info("segment_sealed", "segments=%zu", journal_segments(k->conf.journal, NULL, 0));
    }
}

static size_t
gather(struct keeper *k)
{
    for (;;) {
        size_t n = journal_segments(k->conf.journal, k->seg, k->cap);
        if (n <= k->cap) {
            return n;
        }
        k->cap = 2 * n;
        k->seg = xreallocarray(k->seg, k->cap, sizeof *k->seg);
        k->facts = xreallocarray(k->facts, k->cap, sizeof *k->facts);
    }
}

static struct retention_plan
decide(struct keeper *k)
{
    size_t n = gather(k);
    for (size_t i = 0; i < n; i++) {
        k->facts[i] = (struct retention_segment){
            .next = k->seg[i].next,
            .bytes = k->seg[i].file_bytes,
            .sealed_us = k->seg[i].sealed_us,
        };
    }
    uint64_t needed = UINT64_MAX;
    char name[STATE_NAME_MAX];
    (void)state_needed_offset(k->conf.state, &needed, name);
    return retention_decide(&k->conf.retention, k->facts, n, needed, clock_wall_us());
}

/* P6: a sink that is being registered or moved back holds retain_lock as we do here. */
static int
remove_some(struct keeper *k, struct err *e)
{
    (void)pthread_mutex_lock(k->conf.retain_lock);
    struct retention_plan plan = decide(k);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < plan.remove; i++) {
        rc = journal_remove_oldest(k->conf.journal, e);
    }
    (void)pthread_mutex_unlock(k->conf.retain_lock);
    if (rc == 0 && plan.remove > 0) {
        log_info("segments_removed", "removed=%zu evicted=%zu", plan.remove, plan.evicted);
        (void)pthread_mutex_lock(&k->lock);
        k->stats.removed += plan.remove;
        k->stats.evicted += plan.evicted;
        (void)pthread_mutex_unlock(&k->lock);
    }
    if (rc == 0 && plan.is_full != writer_is_full(k->conf.writer)) {
        log_warn(plan.is_full ? "log_full" : "log_has_room", "retain_bytes=%llu",
            (unsigned long long)k->conf.retention.retain_bytes);
        writer_set_full(k->conf.writer, plan.is_full);
    }
    return rc;
}

/* False: it is time to end. */
static bool
wait_for_work(struct keeper *k, int64_t ms)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    (void)pthread_mutex_lock(&k->lock);
    int rc = 0;
    while (!k->is_nudged && !k->is_stopping && rc == 0) {
        rc = pthread_cond_timedwait(&k->nudged, &k->lock, &until);
    }
    k->is_nudged = false;
    bool go_on = !k->is_stopping;
    (void)pthread_mutex_unlock(&k->lock);
    return go_on;
}

static void *
keeper_main(void *arg)
{
    struct keeper *k = arg;
    int64_t ms = 0;
    while (wait_for_work(k, ms)) {
        struct err why;
        err_clear(&why);
        int rc = seal_all(k, &why);
        struct err why_remove;
        int rc_remove = remove_some(k, &why_remove);
        report(k, rc != 0 ? &why : rc_remove != 0 ? &why_remove : NULL);
        ms = rc != 0 || rc_remove != 0 ? RETRY_MS : ROUND_MS;
    }
    return NULL;
}

struct keeper *
keeper_start(const struct keeper_conf *c)
{
    struct keeper *k = xcalloc(1, sizeof *k);
    k->conf = *c;
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&k->lock, NULL);
    (void)pthread_cond_init(&k->nudged, &attr);
    (void)pthread_condattr_destroy(&attr);
    CHECK(pthread_create(&k->thread, NULL, keeper_main, k) == 0);
    return k;
}

void
keeper_nudge(struct keeper *k)
{
    (void)pthread_mutex_lock(&k->lock);
    k->is_nudged = true;
    (void)pthread_cond_signal(&k->nudged);
    (void)pthread_mutex_unlock(&k->lock);
}

void
keeper_stop(struct keeper *k)
{
    if (k == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&k->lock);
    k->is_stopping = true;
    (void)pthread_cond_signal(&k->nudged);
    (void)pthread_mutex_unlock(&k->lock);
    (void)pthread_join(k->thread, NULL);
    (void)pthread_cond_destroy(&k->nudged);
    (void)pthread_mutex_destroy(&k->lock);
    free(k->seg);
    free(k->facts);
    free(k);
}

void
keeper_stats(struct keeper *k, struct keeper_stats *ret)
{
    (void)pthread_mutex_lock(&k->lock);
    *ret = k->stats;
    (void)pthread_mutex_unlock(&k->lock);
}
