/* inspect: what `oneslot check` asks of a sink: is its target there, and can it take these
 * tables?
 *
 * Standard input: the source's tables, one JSON object per line,
 *
 *   {"schema":"fabric","table":"user_data","key":true}
 *
 * to its end. Standard output: one line per finding, "ok: ...", "warning: ..." or "fault: ...".
 * Changes nothing, at the target or in the log. */
#ifndef ONESLOT_SINKS_INSPECT_H
#define ONESLOT_SINKS_INSPECT_H

#include "sinks/sink.h"

struct inspect_conf {
    const char *name; /* of the sink */
    const struct sink_ops *ops;
    const void *options;
    const struct str *tables; /* the sink's patterns; none: all */
    size_t ntables;
};

/* Reads lines from fd until its end, writes to `lines`. *ret_faults: how many. An error: the
 * input cannot be understood. */
int inspect_run(const struct inspect_conf *c, int fd, struct buf *lines, unsigned *ret_faults,
    struct err *e) MUST_CHECK;

#endif
