#include "broker/watch.h"

#include <pthread.h>
#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "proto/base/cond.h"
#include "proto/base/xmalloc.h"

enum { TICK_MS = 100 }; /* how late a waiter with a time limit may be woken */

struct watch {
    pthread_mutex_t lock;
    pthread_cond_t stopping;
    pthread_t timer;
    struct watcher *first;
    uint64_t tail;
    bool is_stopping;
};

static void
unlink_watcher(struct watcher *me)
{
    *me->at = me->next;
    if (me->next != NULL) {
        me->next->at = me->at;
    }
    me->next = NULL;
    me->at = NULL;
}

static void
push(struct watcher **list, struct watcher *me)
{
    me->next = *list;
    me->at = list;
    if (me->next != NULL) {
        me->next->at = &me->next;
    }
    *list = me;
}

/* Takes out those whose time is over; INT64_MAX: everyone. The list is the caller's alone: its
 * members are out of the watch, so watch_remove answers false and the request is not ended
 * before it is resumed. */
static struct watcher *
take_due(struct watch *w, int64_t now_ms)
{
    struct watcher *due = NULL;
    struct watcher *me = w->first;
    while (me != NULL) {
        struct watcher *next = me->next;
        if (now_ms == INT64_MAX || me->until_ms <= now_ms) {
            unlink_watcher(me);
            me->next = due;
            due = me;
        }
        me = next;
    }
    return due;
}

static void
wake_list(struct watcher *list)
{
    while (list != NULL) {
        struct watcher *next = list->next;
        list->next = NULL;
        list->wake(list);
        list = next;
    }
}

static void *
timer_main(void *arg)
{
    struct watch *w = arg;
    (void)pthread_mutex_lock(&w->lock);
    while (!w->is_stopping) {
        (void)cond_wait_until(&w->stopping, &w->lock, clock_mono_ms() + TICK_MS);
        struct watcher *due = take_due(w, clock_mono_ms());
        if (due != NULL) {
            (void)pthread_mutex_unlock(&w->lock);
            wake_list(due);
            (void)pthread_mutex_lock(&w->lock);
        }
    }
    (void)pthread_mutex_unlock(&w->lock);
    return NULL;
}

struct watch *
watch_new(void)
{
    struct watch *w = xcalloc(1, sizeof *w);
    (void)pthread_mutex_init(&w->lock, NULL);
    cond_init(&w->stopping);
    CHECK(pthread_create(&w->timer, NULL, timer_main, w) == 0);
    return w;
}

void
watch_stop(struct watch *w)
{
    (void)pthread_mutex_lock(&w->lock);
    bool is_first = !w->is_stopping;
    w->is_stopping = true;
    struct watcher *all = take_due(w, INT64_MAX);
    (void)pthread_cond_signal(&w->stopping);
    (void)pthread_mutex_unlock(&w->lock);
    wake_list(all);
    if (is_first) {
        (void)pthread_join(w->timer, NULL);
    }
}

void
watch_free(struct watch *w)
{
    if (w == NULL) {
        return;
    }
    watch_stop(w);
    (void)pthread_cond_destroy(&w->stopping);
    (void)pthread_mutex_destroy(&w->lock);
    free(w);
}

void
watch_add(struct watch *w, struct watcher *me, uint64_t seen)
{
    (void)pthread_mutex_lock(&w->lock);
    bool has_news = w->is_stopping || w->tail > seen;
    if (!has_news) {
        push(&w->first, me);
    }
    (void)pthread_mutex_unlock(&w->lock);
    if (has_news) {
        me->wake(me);
    }
}

void
watch_tail(struct watch *w, uint64_t tail)
{
    (void)pthread_mutex_lock(&w->lock);
    w->tail = tail > w->tail ? tail : w->tail;
    struct watcher *all = take_due(w, INT64_MAX);
    (void)pthread_mutex_unlock(&w->lock);
    wake_list(all);
}

bool
watch_remove(struct watch *w, struct watcher *me)
{
    (void)pthread_mutex_lock(&w->lock);
    bool was_there = me->at != NULL;
    if (was_there) {
        unlink_watcher(me);
    }
    (void)pthread_mutex_unlock(&w->lock);
    return was_there;
}
