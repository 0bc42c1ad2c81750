/* verdict: what the verdicts of a batch mean, decided once and nowhere else. The offset moves
 * over the longest prefix that is settled (P4), and the first record behind it says what
 * happens next. Pure.
 *
 * A rejected record cannot be kept as a dead letter, nor a row read again, in this version:
 * both stop the sink where they stand, and nothing is skipped (P8). */
#ifndef ONESLOT_SINKS_VERDICT_H
#define ONESLOT_SINKS_VERDICT_H

#include "sinks/sink.h"

enum verdict_action {
    VERDICT_GO_ON, /* all of it is settled */
    VERDICT_AGAIN, /* send the rest again after a pause */
    VERDICT_STOP,  /* a person must act; look again at long intervals */
    VERDICT_EXIT   /* end the process without moving the offset (P9) */
};

struct verdict_outcome {
    size_t settled; /* records at the start of the batch that the offset may pass */
    enum verdict_action action;
};

/* rc: what write returned. With VERDICT_AGAIN or _STOP because of a verdict, *e (not touched
 * otherwise) is given the sentence; an rc of the kind's own keeps the kind's. */
struct verdict_outcome verdict_settle(int rc, const struct sink_verdict *v,
    const struct record *records, size_t n, struct err *e);
/* What an error means for the worker: its class, and nothing else, decides. */
enum verdict_action verdict_of_error(int rc);

#endif
