/* backoff: owns the arithmetic of delays between tries. Pure; must not sleep or look at a
 * clock. */
#include "proto/base/backoff.h"

#include "proto/base/check.h"

/* splitmix64: any seed is good, 0 too. */
static uint64_t
next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

void
backoff_init(struct backoff *b, int64_t min_ms, int64_t max_ms, uint64_t seed)
{
    CHECK(min_ms > 0 && min_ms <= max_ms);
    *b = (struct backoff){.min_ms = min_ms, .max_ms = max_ms, .next_ms = min_ms, .rng = seed};
}

int64_t
backoff_next_ms(struct backoff *b)
{
    int64_t step = b->next_ms, half = step / 2;
    b->next_ms = step > b->max_ms / 2 ? b->max_ms : step * 2;
    return step - half + (int64_t)(next_random(&b->rng) % (uint64_t)(half + 1));
}

void
backoff_reset(struct backoff *b)
{
    b->next_ms = b->min_ms;
}
