/* doubts: of which keys a sink's target may lack a change, because a row was asked for again
 * and has not come yet (proto/api.h, struct api_doubt). On disk only, in DATA_DIR/dead
 * (broker/dead.h), whose lock they share. It knows neither what a key stands for nor sinks. */
#ifndef ONESLOT_BROKER_DOUBTS_H
#define ONESLOT_BROKER_DOUBTS_H

#include "broker/beside.h"

/* Raises the key's to that offset, within the caller's transaction, under its lock. */
int doubts_raise(const struct beside *bs, struct store_txn *t, const char *sink,
    const struct api_doubt *d, struct err *e) MUST_CHECK;
/* All of a sink's in *ret, owned by the caller; returns how many, at most API_DOUBTS_MAX. Where
 * there are more (the worker goes by what it knows, which may be less than there is here), the
 * first one is of every key and stands for the rest. */
int doubts_list(
    struct beside *bs, const char *sink, struct api_doubt **ret, struct err *e) MUST_CHECK;
/* Those keys' go, but for one beyond the offset named. */
int doubts_end(struct beside *bs, const char *sink, const struct api_doubt *d, size_t n,
    struct err *e) MUST_CHECK;
/* All of a sink's go; nothing is written where there is none. */
int doubts_forget(struct beside *bs, const char *sink, struct err *e) MUST_CHECK;

#endif
