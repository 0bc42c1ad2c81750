#include "broker/keeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "proto/base/cond.h"
#include "proto/base/log.h"
#include "proto/base/sig.h"
#include "proto/base/xmalloc.h"

enum { ROUND_MS = 5000, RETRY_MS = 10000, SAY_AGAIN_MS = 60 * 1000 };

struct keeper {
    struct keeper_conf conf;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t nudged;
    bool is_nudged, is_stopping;
    struct keeper_stats stats;
    struct journal_segment *seg; /* reused */
    struct retention_segment *facts;
    size_t cap, nfacts;
    int64_t full_said_ms; /* 0: never */
};

/* A damaged segment, a full disk: said once per cause, tried again at the next round; sealing
 * is what waits, not anybody's data. An input/output error ends the process (P9). */
static void
report(struct keeper *k, const struct err *why)
{
    if (err_class(why->code) == ERR_CLASS_FATAL) {
        log_err(LOG_ERROR, "keeper_failed", why, "ending; a restart recovers");
        _Exit(1);
    }
    (void)pthread_mutex_lock(&k->lock);
    bool is_news = strcmp(k->stats.last_error, why->msg) != 0;
    (void)snprintf(k->stats.last_error, sizeof k->stats.last_error, "%s", why->msg);
    (void)pthread_mutex_unlock(&k->lock);
    if (is_news) {
        log_err(LOG_ERROR, "keeper_failed", why, "will retry");
    }
}

/* All went well, and no damaged segment still waits for a person. */
static void
report_well(struct keeper *k)
{
    bool is_damaged = false;
    for (size_t i = 0; i < k->nfacts; i++) {
        is_damaged = is_damaged || k->facts[i].is_damaged;
    }
    (void)pthread_mutex_lock(&k->lock);
    if (!is_damaged) {
        k->stats.last_error[0] = '\0';
    }
    (void)pthread_mutex_unlock(&k->lock);
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
            .is_damaged = k->seg[i].is_damaged,
        };
    }
    k->nfacts = n;
    uint64_t needed = state_needed_offset(k->conf.state);
    return retention_decide(&k->conf.retention, k->facts, n, needed, clock_wall_us());
}

/* A log that stands at its limit fills and empties all the time: said once in a while. */
static void
set_full(struct keeper *k, bool is_full)
{
    if (is_full == writer_is_full(k->conf.writer)) {
        return;
    }
    writer_set_full(k->conf.writer, is_full);
    int64_t now_ms = clock_mono_ms();
    if (k->full_said_ms == 0 || now_ms - k->full_said_ms >= SAY_AGAIN_MS) {
        k->full_said_ms = now_ms;
        log_warn(is_full ? "log_full" : "log_has_room", "retain_bytes=%llu",
            (unsigned long long)k->conf.retention.retain_bytes);
    }
}

/* P6: a sink that is being registered or moved back holds retain_lock as we do here. */
static int
remove_some(struct keeper *k, struct err *e)
{
    (void)pthread_mutex_lock(k->conf.retain_lock);
    struct retention_plan plan = decide(k);
    int rc = 0;
    size_t removed = 0;
    for (; rc == 0 && removed < plan.remove; removed += rc == 0) {
        rc = journal_remove_oldest(k->conf.journal, e);
    }
    (void)pthread_mutex_unlock(k->conf.retain_lock);
    set_full(k, plan.is_full || rc != 0);
    if (removed > 0) {
        log_info("segments_removed", "removed=%zu evicted=%zu", removed, plan.evicted);
        (void)pthread_mutex_lock(&k->lock);
        k->stats.removed += removed;
        k->stats.evicted += plan.evicted;
        (void)pthread_mutex_unlock(&k->lock);
    }
    return rc == 0 ? journal_empty_trash(k->conf.journal, e) : rc;
}

/* False: it is time to end. */
static bool
wait_for_work(struct keeper *k, int64_t ms)
{
    int64_t until_ms = clock_mono_ms() + ms;
    bool is_early = true;
    (void)pthread_mutex_lock(&k->lock);
    while (!k->is_nudged && !k->is_stopping && is_early) {
        is_early = cond_wait_until(&k->nudged, &k->lock, until_ms);
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
        bool is_well = true;
        writer_recheck_space(k->conf.writer);
        if (seal_all(k, &why) != 0) {
            report(k, &why);
            is_well = false;
        }
        if (remove_some(k, &why) != 0) {
            report(k, &why);
            is_well = false;
        }
        if (is_well) {
            report_well(k);
        }
        ms = is_well ? ROUND_MS : RETRY_MS;
    }
    return NULL;
}

struct keeper *
keeper_start(const struct keeper_conf *c)
{
    struct keeper *k = xcalloc(1, sizeof *k);
    k->conf = *c;
    (void)pthread_mutex_init(&k->lock, NULL);
    cond_init(&k->nudged);
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
