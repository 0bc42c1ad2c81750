/* es_seen: which aliases this sink has found or made, and from which record on: in a file, so
 * that it outlives the process. An alias that is gone later held what is settled: it must not
 * be made anew, empty, by a lane that has not met the table yet, when a stopped sink is opened
 * again, or by the next process. Only a replay from that record or before may make it.
 *
 * The file, written whole and atomically before anything is written to a new index:
 *
 *     oneslot-seen 1
 *     LOG FLOOR FROM ALIAS          per alias; log: 32 hex digits
 *     end CHECK                     frame_sum of all before this line, 8 hex digits
 *
 * Only a missing file is empty; what is damaged is never taken for it. One file per process,
 * shared by its lanes. Thread-safe. */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_SEEN_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_SEEN_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/str.h"

enum { ES_SEEN_BYTES_MAX = 4 * 1024 * 1024 }; /* of the file */

struct es_seen;

/* Which history is meant: what was seen in another one (of another log; from before a skip, or
 * before the sink was forgotten) says nothing in this. */
struct es_seen_history {
    uint8_t uuid[16]; /* of the log */
    uint64_t floor;   /* sinks/sink.h: raised, it begins another history */
};

/* Returns an owned *ret: what the file says, or what other lanes have it open with. ERR_CORRUPT
 * (damaged), ERR_NEWER, others as fs. */
int es_seen_open(const char *path, struct es_seen **ret, struct err *e) MUST_CHECK;
void es_seen_close(struct es_seen *s); /* accepts NULL */

/* The alias is there, and the record `offset` is the first that will be written to it: of
 * several the lowest counts. What was seen of other logs is forgotten. Durable when 0 is
 * returned; after a failure, it is tried again by the next call. ERR_TOOBIG: more aliases than
 * the file may hold; others as fs. */
int es_seen_put(struct es_seen *s, const struct es_seen_history *h, struct str alias,
    uint64_t offset, struct err *e) MUST_CHECK;
/* True when the alias was there in this history; *ret_from: its first record, as put. */
bool es_seen_get(
    struct es_seen *s, const struct es_seen_history *h, struct str alias, uint64_t *ret_from);

#endif
