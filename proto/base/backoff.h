/* backoff: jittered exponential delays. Pure but for the seed. */
#ifndef ONESLOT_BASE_BACKOFF_H
#define ONESLOT_BASE_BACKOFF_H

#include <stdint.h>

struct backoff {
    int64_t min_ms, max_ms;
    int64_t next_ms;
    uint64_t rng;
};

void backoff_init(struct backoff *b, int64_t min_ms, int64_t max_ms, uint64_t seed);
/* The delay before the next try: between half of and the whole current step; the step then
 * doubles. */
int64_t backoff_next_ms(struct backoff *b);
void backoff_reset(struct backoff *b); /* after success */

#endif
