/* verdict: what the verdicts of one write mean, decided once and nowhere else. Pure.
 *
 *   DONE              settled; but sent again when an earlier record of its key in this write
 * is, so that a key's last state is written last RETRY, UNSET      sent again REJECT buried as
 * a dead letter, then settled REREAD            its row asked for again, then settled
 *
 * Several different keys rejected in a row, over all lanes, with nothing accepted between them,
 * is a wrong mapping and not so many dead letters: those of this write are not buried, and the
 * sink stops. One poisoned record alone, or one key again and again, is one dead letter. */
#ifndef ONESLOT_SINKS_VERDICT_H
#define ONESLOT_SINKS_VERDICT_H

#include "sinks/sink.h"

enum verdict_action {
    VERDICT_GO_ON, /* every effect but AGAIN is to be carried out; the rest at once or, */
    VERDICT_AGAIN, /* where something is sent again, after a pause */
    VERDICT_STOP,  /* a person must act; look again at long intervals */
    VERDICT_EXIT   /* end the process without moving the offset (P9) */
};

enum verdict_effect {
    VERDICT_KEEP = 0, /* not settled: sent again */
    VERDICT_SETTLE,
    VERDICT_BURY, /* then settle */
    VERDICT_ASK   /* for the row, then settle */
};

enum { VERDICT_RUN_MAX = 64 };

/* Rejections in a row. Shared by the lanes, in the order of their writes. */
struct verdict_run {
    unsigned limit; /* different keys, at most VERDICT_RUN_MAX; 0: never stop */
    unsigned n;
    uint32_t keys[VERDICT_RUN_MAX]; /* hashes */
};

/* rc: what write returned; keys: a hash of each record's key. Fills effects[0..n). With
 * VERDICT_AGAIN or _STOP because of a verdict, *e (not touched otherwise) is given the
 * sentence; an rc of the kind's own keeps the kind's. */
enum verdict_action verdict_decide(int rc, const struct sink_verdict *v,
    const struct record *records, const uint32_t *keys, size_t n, struct verdict_run *run,
    uint8_t *effects, struct err *e);
/* What an error means for the worker: its class, and nothing else, decides. */
enum verdict_action verdict_of_error(int rc);
/* What the kind said, or that it said nothing. */
const char *verdict_reason(const struct sink_verdict *v);

#endif
