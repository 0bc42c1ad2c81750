/* keeper: the housekeeping thread: seals the segments that the writer has left, removes what
 * retention lets go, says when the log is full and when the disk is no longer. It runs on a
 * signal from the writer and every few seconds. */
#ifndef ONESLOT_BROKER_KEEPER_H
#define ONESLOT_BROKER_KEEPER_H

#include <pthread.h>

#include "broker/journal.h"
#include "broker/retention.h"
#include "broker/state.h"
#include "broker/writer.h"

struct keeper;

struct keeper_conf {
    struct journal *journal;
    struct state *state;
    struct writer *writer;
    pthread_mutex_t *retain_lock;
    struct retention_conf retention;
};

struct keeper *keeper_start(const struct keeper_conf *c);
void keeper_nudge(struct keeper *k); /* there may be something to do; any thread, cheap */
void keeper_stop(struct keeper *k);  /* waits for the work under way; accepts NULL */

struct keeper_stats {
    uint64_t sealed, removed, evicted;
    char last_error[480]; /* of sealing or removing; empty: none */
};
void keeper_stats(struct keeper *k, struct keeper_stats *ret);

#endif
