/* doubts: of which keys a sink's target may lack a change, because a row was asked for again
 * and has not come yet (proto/api.h, struct api_doubt). At most API_DOUBTS_MAX slots per sink,
 * on disk only; they are never taken back one by one. They stand in DATA_DIR/dead
 * (broker/dead.h) and share its lock. It knows neither what a slot stands for nor sinks. */
#ifndef ONESLOT_BROKER_DOUBTS_H
#define ONESLOT_BROKER_DOUBTS_H

#include "broker/beside.h"

/* Raises the slot to that offset, within the caller's transaction, under its lock. */
int doubts_raise(
    struct store_txn *t, const char *sink, const struct api_doubt *d, struct err *e) MUST_CHECK;
/* All of a sink's, by slot, into ret, which has room for API_DOUBTS_MAX; returns how many. */
int doubts_list(
    struct beside *bs, const char *sink, struct api_doubt *ret, struct err *e) MUST_CHECK;
/* All of a sink's go. */
int doubts_forget(struct beside *bs, const char *sink, struct err *e) MUST_CHECK;

#endif
