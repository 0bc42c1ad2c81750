/* worker: the main thread of a sink: session, fetch, commit, status; the writing is the lanes'.
 * Owns the offset's movement (P4) and what /lag shows of the sink; asks the broker only through
 * client.h.
 *
 * A target that is down, full or wrong never ends it: it retries, or stands `stopped` and looks
 * again every minute. It ends when asked to (proto/base/sig.h), after the writes under way, or
 * when a promise can no longer be kept (an error of class FATAL): restart is the recovery. */
#ifndef ONESLOT_SINKS_WORKER_H
#define ONESLOT_SINKS_WORKER_H

#include "sinks/sink.h"

struct worker_conf {
    const char *name; /* of the sink */
    const struct sink_ops *ops;
    const void *options; /* the kind's */
    const char *start;   /* a position, used when the broker sees the sink for the first time */
    const struct str *tables; /* patterns; none: all tables */
    size_t ntables;
    const char *unix_path; /* the broker's socket */
    const char *seen_path; /* of struct sink_setup */
    unsigned lanes;        /* 1 to LANES_MAX */
    unsigned reject_limit; /* different keys rejected in a row; 0: no limit */
};

/* Returns 0 after a requested stop, or the error that ends the process. Call sig_init before.
 */
int worker_run(const struct worker_conf *c, struct err *e) MUST_CHECK;

#endif
