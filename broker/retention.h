/* retention: which of the oldest segments go, and whether the log is full. Pure: facts in,
 * decision out (P6). */
#ifndef ONESLOT_BROKER_RETENTION_H
#define ONESLOT_BROKER_RETENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct retention_conf {
    int64_t retain_age_ms;
    uint64_t retain_bytes;
    bool may_evict; /* when_full: evict */
};

struct retention_segment { /* oldest first; the last one is being written */
    uint64_t next;         /* the offset behind its last record */
    uint64_t bytes;
    int64_t sealed_us; /* wall time; 0: not sealed (yet) */
    bool is_damaged;   /* never will be: it stays where it is until a person has looked */
};

struct retention_plan {
    size_t remove;  /* so many of the oldest */
    size_t evicted; /* of these: segments that a sink still needed */
    bool is_full;   /* retain_bytes is reached and a sink needs the oldest segment: read no more
                       (P5) */
};

/* needed: the lowest offset that any registered sink has not settled; UINT64_MAX: no sink. */
struct retention_plan retention_decide(const struct retention_conf *c,
    const struct retention_segment *seg, size_t n, uint64_t needed, int64_t now_us);

#endif
