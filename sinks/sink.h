/* sink: what a kind of target has to be. One page: a kind is a const struct sink_ops in a
 * folder of its own and a line in sinks.def; it includes this header and proto/, never the
 * client, the offsets or the worker.
 *
 * A kind is plain code: the worker calls open, then write one batch at a time, then close, all
 * on one thread. The kind says what became of each record; the worker alone turns that into
 * backoff and the offset. */
#ifndef ONESLOT_SINKS_SINK_H
#define ONESLOT_SINKS_SINK_H

#include "proto/base/conf.h"
#include "proto/base/err.h"
#include "proto/record.h"

/* What became of a record. */
enum verdict {
    VERDICT_UNSET = 0, /* the kind forgot it: as RETRY */
    VERDICT_DONE, /* the target has it, durably, and would have exactly it if it were sent again
                   */
    VERDICT_RETRY,  /* not now: sent again, with what follows it */
    VERDICT_REJECT, /* can never be accepted: `reason` says why */
    VERDICT_REREAD  /* lacks a column whose value cannot be proven: the row has to be read again
                     */
};

struct sink_verdict {
    enum verdict verdict;
    const char
        *reason; /* a sentence without row values, borrowed until the next call; NULL: none */
};

/* Records in log order, already filtered by the sink's `tables`; never empty. All of it is
 * borrowed until write returns. */
struct sink_batch {
    const struct record *records;
    size_t n;
    uint64_t next; /* everything below it is settled for good */
    uint64_t tail; /* the first offset that is not yet visible: no record of this log is at or
                      beyond it */
};

struct sink_setup {
    const char *name;    /* of the sink in the configuration */
    const void *options; /* the kind's struct, filled by its table; both borrowed until close */
    uint64_t next;       /* as in struct sink_batch, at this moment */
};

/* An open target. A kind embeds it as its first member. */
struct sink {
    const struct sink_ops *ops;
};

struct sink_ops {
    const char *name; /* `kind:` in the configuration */
    const char *help; /* one line */
    const struct conf_field *options;
    size_t options_size;
    size_t batch_bytes; /* bytes of a fetched batch that suit it */

    /* Checks that the target is there and can take records; sends none. May block. Returns an
     * owned *ret. The error's class decides: RETRY opens again soon, STOP waits for a person,
     * FATAL ends the process. */
    int (*open)(const struct sink_setup *setup, struct sink **ret, struct err *e) MUST_CHECK;
    /* Sends the batch and fills verdicts[0..n): they are UNSET before. Returns 0; or an error
     * when nothing can be said of any record (verdicts are then ignored), its class deciding as
     * above for the whole batch. Being sent again what the target already has is the kind's
     * business. */
    int (*write)(struct sink *s, const struct sink_batch *b, struct sink_verdict *verdicts,
        struct err *e) MUST_CHECK;
    void (*close)(struct sink *s); /* accepts NULL */
};

#endif
