/* reaper: ends sockets whose peer takes too long. A deadline per socket; a thread of its own
 * shuts down the ones that are late, whoever is serving them then sees the end. It never closes
 * a descriptor. */
#ifndef ONESLOT_BASE_REAPER_H
#define ONESLOT_BASE_REAPER_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

struct reaper;

/* One socket; lives in the caller's storage, its fields are the reaper's. */
struct reaper_entry {
    struct reaper_entry *prev, *next;
    int fd;
    _Atomic int64_t deadline_ms;
};

/* Looks at the deadlines every tick_ms while there is any socket; a deadline is met within
 * that. */
int reaper_new(int64_t tick_ms, struct reaper **ret, struct err *e) MUST_CHECK;
/* All sockets must have been removed. Accepts NULL. */
void reaper_free(struct reaper *r);
/* fd must be open from here until reaper_remove has returned. No deadline yet. */
void reaper_add(struct reaper *r, struct reaper_entry *en, int fd);
void reaper_remove(struct reaper *r, struct reaper_entry *en);
/* Monotonic ms (clock_mono_ms); 0: none. Any thread, no lock. */
void reaper_set(struct reaper_entry *en, int64_t deadline_ms);

#endif
