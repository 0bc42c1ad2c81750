/* doubtset: of which keys this sink's target may lack a change, because a row was asked for
 * again and has not come yet (proto/api.h, struct api_doubt): the worker's side of what the
 * broker keeps. Bounded: once it is full, every key is doubted instead of the next one. Not
 * thread-safe: the lanes' lock guards it. Pure. */
#ifndef ONESLOT_SINKS_DOUBTSET_H
#define ONESLOT_SINKS_DOUBTSET_H

#include "proto/api.h"

struct doubtset {
    struct api_doubt *slots; /* open addressing, key 0: free */
    size_t nslots, n;
    uint64_t all; /* offset of the doubt of every key; 0: none */
    struct api_doubt proven[API_PROVEN_MAX];
    size_t nproven; /* over, and the broker was not told */
};

void doubtset_init(struct doubtset *t);
void doubtset_fini(struct doubtset *t);
void doubtset_reset(struct doubtset *t); /* `proven` stays: it is true for good */

/* The doubt that is to stand for this one: itself, or that of every key. */
struct api_doubt doubtset_fit(const struct doubtset *t, const struct api_doubt *d);
/* One that doubtset_fit gave, or the broker. */
void doubtset_add(struct doubtset *t, const struct api_doubt *d);
/* The lowest version that is proven of what the target holds of the key; 0: any is. */
uint64_t doubtset_floor(const struct doubtset *t, uint64_t key);
/* The target has a whole row of the key, or knows that there is none, as of that offset: a
 * doubt up to it is over. While `proven` is full it stays, which does no harm. */
void doubtset_end(struct doubtset *t, uint64_t key, uint64_t offset);
/* Likewise for all keys of a table. */
void doubtset_end_table(struct doubtset *t, uint32_t table, uint64_t offset);
/* The broker was told of the first n proven. */
void doubtset_told(struct doubtset *t, size_t n);

#endif
