/* watch: HTTP requests that are suspended until the visible tail moves or their time is over.
 * Thread-safe: pool threads add, the writer thread and a timer wake. A waiter is woken exactly
 * once. It knows requests only as something to resume. */
#ifndef ONESLOT_BROKER_WATCH_H
#define ONESLOT_BROKER_WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct watch;

/* Embedded in the request's state; belongs to the watch from watch_add to the call of wake. */
struct watcher {
    void (*wake)(struct watcher
            *me);     /* called once, on any thread, with no lock held; resumes the request */
    int64_t until_ms; /* monotonic; INT64_MAX: no limit */
    struct watcher *next, **at; /* the watch's */
};

/* Starts the timer thread. */
struct watch *watch_new(void);
/* Wakes everyone, ends the timer thread. Later adds are woken at once. */
void watch_stop(struct watch *w);
void watch_free(struct watch *w); /* stops it first; accepts NULL */

/* The tail as the watch knows it; a reader that has seen all below `seen` waits only when this
 * is not above it. */
void watch_add(struct watch *w, struct watcher *me, uint64_t seen);
/* The tail has moved: wakes every waiter. */
void watch_tail(struct watch *w, uint64_t tail);
/* Takes a waiter back whose request has ended. False: it is being woken or was not there. */
bool watch_remove(struct watch *w, struct watcher *me);

#endif
