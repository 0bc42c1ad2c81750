/* segwrite: writing the newest segment, one LMDB commit at a time: frames packed into blocks,
 * the entries of finished transactions into packs, schema versions, and the tail. Used by the
 * one writer thread only. An aborted commit leaves no trace in memory or on disk. */
#ifndef ONESLOT_BROKER_SEGWRITE_H
#define ONESLOT_BROKER_SEGWRITE_H

#include "broker/pack.h"
#include "broker/segment.h"
#include "broker/squeeze.h"

struct segwrite {
    struct segment *sg;
    struct squeeze *squeeze; /* NULL: stored as they are */
    struct store_txn *txn;
    struct buf block; /* frames of the block being filled */
    uint64_t block_rel;
    uint32_t block_count;
    struct buf pack; /* entries of the pack being filled */
    uint64_t pack_first;
    uint32_t pack_count;
    int64_t pack_max_ts_before, max_ts_us;
    struct buf squeezed;      /* a compressed block */
    struct buf schemas;       /* bitmap: schema ids that the segment holds */
    struct buf added_schemas; /* ids (u32) of this commit, to be unmarked when it is aborted */
};

void segwrite_init(struct segwrite *w, bool is_packed);
void segwrite_fini(struct segwrite *w); /* aborts what is open */
/* Turns to another segment: what it holds of schemas is read. */
int segwrite_use(struct segwrite *w, struct segment *sg, struct err *e) MUST_CHECK;

/* Begins a commit that will add at most about `bytes` of frames; grows the map when they would
 * not fit. */
int segwrite_begin(struct segwrite *w, uint64_t bytes, struct err *e) MUST_CHECK;
bool segwrite_has_schema(const struct segwrite *w, uint32_t id);
int segwrite_schema(
    struct segwrite *w, uint32_t id, struct str encoded, struct err *e) MUST_CHECK;
/* One record; offsets must be dense. whole: the frame with its header. */
int segwrite_record(
    struct segwrite *w, uint64_t offset, struct str whole, struct err *e) MUST_CHECK;
/* The next record begins a block of its own: what lies behind here can be discarded without
 * what lies before. */
int segwrite_cut(struct segwrite *w, struct err *e) MUST_CHECK;
/* The entry of a finished transaction; n->first is relative to the segment. */
int segwrite_txn(struct segwrite *w, const struct pack_entry *n, struct err *e) MUST_CHECK;
/* Commits, with t as the segment's tail. After a failure of the commit itself (ERR_IO) the
 * process must end (P9). */
int segwrite_commit(struct segwrite *w, const struct segment_tail *t, struct err *e) MUST_CHECK;
void segwrite_abort(struct segwrite *w);

#endif
