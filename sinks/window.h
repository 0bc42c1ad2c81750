/* window: the fetched batches that are not settled wholly, in log order, and how far the
 * longest settled prefix reaches: that is the offset, and nothing else is (P4). Records settle
 * in any order. Also holds letters that are sent once more, which no offset waits for. Bounded
 * by the bytes of what was fetched. Not thread-safe: the worker's lock guards it. Pure. */
#ifndef ONESLOT_SINKS_WINDOW_H
#define ONESLOT_SINKS_WINDOW_H

#include "sinks/intake.h"

struct window_batch;

/* A record on its way through a lane. */
struct window_item {
    const struct record *r;
    struct window_batch *batch; /* with r's bytes: both valid until the item is settled */
    uint32_t hash;              /* of its key; of its table, where it has none */
    uint16_t lanes;             /* mask of those that it touches */
    uint16_t arrived;           /* mask of those at whose head it stands */
    bool is_barrier, is_letter, is_settled;
};

struct window_batch {
    struct window_batch *next;
    struct buf bytes; /* owned: what was fetched */
    struct intake intake;
    struct window_item *items; /* intake.n of them */
    size_t items_cap;
    size_t at;   /* items[0..at) are settled */
    size_t left; /* items that are not settled */
};

struct window {
    const struct str *tables; /* patterns, borrowed; none: all tables */
    size_t ntables;
    struct window_batch *head, *tail; /* in log order */
    struct window_batch *free;        /* their memory is used again */
    size_t bytes;                     /* of the batches in it */
    struct window_batch *letters;     /* outside, one letter each */
    uint64_t passed;                  /* everything below it is settled */
    uint64_t fetched;                 /* where the next batch begins */
};

void window_init(struct window *w, const struct str *tables, size_t ntables);
void window_fini(struct window *w);
/* Forgets everything that is under way, letters too: nobody may hold an item any more. Goes on
 * at `next`. */
void window_reset(struct window *w, uint64_t next);

/* Takes a copy of the fetched bytes as the next batch; it has to begin at w->fetched and end
 * within its own tail, else ERR_CORRUPT. *ret: its items, for the caller to fill in and to send
 * on their way; NULL when nothing of it was selected. On failure nothing has changed. */
int window_add(
    struct window *w, struct str bytes, struct window_batch **ret, struct err *e) MUST_CHECK;
/* The same for a letter: a batch of one record that has no part in the order. */
int window_add_letter(
    struct window *w, struct str bytes, struct window_batch **ret, struct err *e) MUST_CHECK;
/* The item and what its batch holds may be gone afterwards. */
void window_settle(struct window *w, struct window_item *item);
static inline bool
window_is_empty(const struct window *w)
{
    return w->head == NULL && w->letters == NULL;
}

#endif
