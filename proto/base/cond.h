/* cond: condition variables that wait until a moment of the monotonic clock, so that nobody
 * waits longer or shorter because the wall clock was set. */
#ifndef ONESLOT_BASE_COND_H
#define ONESLOT_BASE_COND_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* For cond_wait_until, and for everything of pthread that takes no time. */
void cond_init(pthread_cond_t *c);
/* until_ms: as clock_mono_ms. False when that has come; wake-ups without a reason are
 * possible, as with pthread_cond_wait. */
bool cond_wait_until(pthread_cond_t *c, pthread_mutex_t *lock, int64_t until_ms);

#endif
