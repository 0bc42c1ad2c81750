/* source: the state machine of the replicator: identity -> publication and slot -> (snapshot)
 * -> stream, again and again. It never ends because of PostgreSQL, the broker or the
 * configuration of either: what may pass is tried again with jittered backoff, what needs a
 * person is state `refused` and looked at again every 10 s. */
#ifndef ONESLOT_REPLICATOR_SOURCE_H
#define ONESLOT_REPLICATOR_SOURCE_H

#include "proto/config.h"

/* Until the process is asked to stop: 0. ERR_* of class FATAL or BUG otherwise: the process
 * must end. */
int source_run(const struct config *c, struct err *e) MUST_CHECK;

#endif
