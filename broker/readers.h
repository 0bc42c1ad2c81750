/* readers: what the streams of /changes count: how many are open, and for /metrics. Part of
 * struct broker, zeroed; atomic. */
#ifndef ONESLOT_BROKER_READERS_H
#define ONESLOT_BROKER_READERS_H

#include <stdatomic.h>
#include <stdint.h>

enum { READERS_MAX = 64 }; /* one more is answered 429 */

struct readers {
    atomic_uint open;
    atomic_uint_fast64_t served; /* streams begun */
    atomic_uint_fast64_t refused;
    atomic_uint_fast64_t broken; /* streams broken off by an error of ours (P7) */
    atomic_uint_fast64_t records, bytes;
};

#endif
