/* sink: what a kind of target has to be. One page: a kind is a const struct sink_ops in a
 * folder of its own and a line in sinks.def; it includes this header and proto/, never the
 * client, the offsets or the worker.
 *
 * A kind is plain code: the worker opens one instance per lane, each in a thread of its own,
 * and calls write one batch at a time. Instances of one sink share nothing but what the kind
 * locks itself. The kind says what became of each record; the worker alone turns that into
 * backoff, dead letters and the offset.
 *
 * What a kind may rely on:
 *   - Records of one key (table and key columns) come to one lane, in log order, but for those
 *     sent again: a record may come again, also one older than what the target has (a retry, a
 *     restart, a replay, a redriven dead letter). Being sent again what the target already has
 *     is the kind's business.
 *   - A key change, a TRUNCATE and the first record of another schema version of a table come
 *     alone in a batch of their own, and nothing that it touches is under way meanwhile: all
 *     earlier records of those keys are settled, no later one was sent.
 *   - With SINK_ONE_LANE there is one instance and all records come to it in log order. */
#ifndef ONESLOT_SINKS_SINK_H
#define ONESLOT_SINKS_SINK_H

#include "proto/base/buf.h"
#include "proto/base/conf.h"
#include "proto/base/err.h"
#include "proto/record.h"

/* What became of a record. */
enum verdict {
    VERDICT_UNSET = 0, /* the kind forgot it: as RETRY */
    VERDICT_DONE,      /* the target has it, durably, and would have exactly it if sent again */
    VERDICT_RETRY,     /* not now: sent again, with later records of its key */
    VERDICT_REJECT,    /* can never be accepted: `reason` says why. Of a key change: with
                          SINK_NEEDS_VALUES the row of the former key is gone from the target
                          all the same; without, nothing has changed there, and later records of
                          either key are not sent before it */
    VERDICT_REREAD     /* lacks a column whose value cannot be proven: the row has to be read
                          again. Only a record with unchanged columns and a key. Of a key
                          change: the row of the former key is gone from the target. */
};

struct sink_verdict {
    enum verdict verdict;
    const char *reason; /* a sentence without row values, borrowed until the next call on the
                           instance; NULL: none */
};

/* Records of one lane in log order, already filtered by the sink's `tables`; never empty. All
 * of it is borrowed until write returns. */
struct sink_batch {
    const struct record *records;
    size_t n;
    /* Per record; NULL: none is. An unchanged column of a barred record may not be taken from
     * what the target holds: an earlier record of its key never arrived there. REREAD it. */
    const bool *barred;
    /* Per record, never below `floor`: an unchanged column is not taken from what the target
     * holds with a version below this. A record of its key before that was to be read again and
     * may not have come yet. */
    const uint64_t *floors;
    uint64_t next; /* everything below it is settled for good */
    uint64_t tail; /* the first offset that is not yet visible: no record of this log is at or
                      beyond it */
    /* Where this sink's unbroken history begins: what the target holds with a version below it
     * may have missed changes (a skip, an eviction), so an unchanged column is not taken from
     * it. */
    uint64_t floor;
};

struct sink_setup {
    const char *name;    /* of the sink in the configuration */
    const void *options; /* the kind's struct, filled by its table; both borrowed until close */
    uint64_t next;       /* as in struct sink_batch, at this moment */
    uint8_t uuid[16];    /* of the log; with epoch: who feeds the target */
    uint64_t epoch;
    /* A file of this sink's in data_dir in which the kind may keep what it has to know of its
     * target over restarts; made by the kind, if ever. Removing it while the worker is
     * stopped is a person's way to say that nothing is known. */
    const char *seen_path;
    unsigned lane, lanes; /* this instance's, from 0, and how many there are */
    bool is_check; /* only for check: nothing may be changed; no uuid, no epoch, no seen_path */
    bool (*should_stop)(void); /* a call that waits gives up (ERR_STOPPING) once it is true */
};

/* What the worker shows of a kind's work, summed over the lanes. */
struct sink_counts {
    uint64_t requests, bytes; /* to the target */
    uint64_t stale;           /* the target already had something newer: DONE */
    uint64_t missing;         /* a delete of what was not there: DONE */
    uint64_t lossy; /* values that the target holds, but does not index or not exactly */
};

/* An open target. A kind embeds it as its first member. */
struct sink {
    const struct sink_ops *ops;
    struct sink_counts counts;
    /* Of the last write, reset by the worker before it: */
    int64_t retry_after_ms; /* what the target asked for; -1: nothing */
    bool is_pushed_back;    /* the target has too much to do (429, 503, timeout): fewer lanes,
                               smaller batches */
};

enum sink_flags {
    SINK_ONE_LANE = 1,    /* the target's order is the log's: one lane, no barriers (so that
                             what follows a key change may be in one write with it: such a kind
                             rejects none) */
    SINK_NEEDS_VALUES = 2 /* what leaves out columns cannot be passed on as it is: the kind
                             finds their values or says REREAD */
};

/* A table as the source has it now. */
struct sink_table {
    struct str ns, name;
    bool has_key;
};

struct sink_ops {
    const char *name; /* `kind:` in the configuration */
    const char *help; /* one line */
    const struct conf_field *options;
    size_t options_size;
    unsigned flags;     /* enum sink_flags */
    size_t batch_bytes; /* of records in one write, at most (one record may be larger) */
    size_t batch_records;

    /* Checks that the target is there and can take records; sends none. May block. Returns an
     * owned *ret. The error's class decides: RETRY opens again soon, STOP waits for a person,
     * FATAL ends the process. */
    int (*open)(const struct sink_setup *setup, struct sink **ret, struct err *e) MUST_CHECK;
    /* Sends the batch and fills verdicts[0..n): they are UNSET before. Returns 0; or an error
     * when nothing can be said of any record (verdicts are then ignored), its class deciding as
     * above for the whole batch. */
    int (*write)(struct sink *s, const struct sink_batch *b, struct sink_verdict *verdicts,
        struct err *e) MUST_CHECK;
    void (*close)(struct sink *s); /* accepts NULL */
    /* Can a target with these options take all of these tables, however they look there now?
     * ERR_CONFIG with a sentence for the first that it cannot. Asked at the start and whenever
     * other tables are published, which may be after their first records: write has to refuse
     * those too. Pure. NULL: any. */
    int (*accepts)(const void *options, const struct sink_table *tables, size_t n,
        struct err *e) MUST_CHECK;
    /* For `oneslot check`, on an open instance: appends a line "fault: SENTENCE\n" or
     * "warning: SENTENCE\n" for everything about these tables that this target cannot take.
     * NULL: nothing to say. Changes nothing. */
    int (*check)(struct sink *s, const struct sink_table *tables, size_t n, struct buf *lines,
        struct err *e) MUST_CHECK;
};

#endif
