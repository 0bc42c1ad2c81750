/* pace: what the worker does after something went wrong: the state it shows, whether its
 * session is still good, and how long it waits. By the class of the error and where it came
 * from. Pure but for the seed. */
#ifndef ONESLOT_SINKS_PACE_H
#define ONESLOT_SINKS_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/api.h"
#include "proto/base/backoff.h"

enum pace_from {
    PACE_BROKER, /* session, fetch or commit */
    PACE_TARGET  /* open or write */
};

enum {
    PACE_BROKER_MIN_MS = 100,
    PACE_BROKER_MAX_MS = 5000, /* it is near, and starts within seconds */
    PACE_TARGET_MIN_MS = 250,
    PACE_TARGET_MAX_MS = 60000,
    PACE_FENCED_MIN_MS =
        1000, /* two workers of one name: neither may starve the other's batches */
    PACE_FENCED_MAX_MS = 60000,
    PACE_LASTED_MS = 3000, /* a session of this length was a good one */
    PACE_ASKED_MAX_MS = 3600000,
    PACE_STOPPED_MS = 60000 /* a person must act; the worker looks again by itself */
};

struct pace {
    struct backoff broker, target, fenced;
    int64_t session_ms; /* when the session was opened (monotonic) */
};

struct pace_step {
    uint8_t state;     /* enum api_sink_state */
    bool drop_session; /* open another one before anything else */
    bool close_target; /* open it again: what was wrong may be in how it was opened */
    bool exit;         /* end the process without settling anything (P9) */
    int64_t delay_ms;
};

void pace_init(struct pace *p, uint64_t seed);
void pace_session_opened(struct pace *p, int64_t now_ms);
/* Something of `from` went well: its next failure is a first one. */
void pace_ok(struct pace *p, enum pace_from from);
/* rc < 0; retry_after_ms: what the other side asked for, -1: nothing. */
struct pace_step pace_failed(
    struct pace *p, enum pace_from from, int rc, int64_t retry_after_ms, int64_t now_ms);

#endif
