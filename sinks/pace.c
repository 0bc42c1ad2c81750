#include "sinks/pace.h"

#include "sinks/verdict.h"

void
pace_init(struct pace *p, uint64_t seed)
{
    *p = (struct pace){0};
    backoff_init(&p->broker, PACE_BROKER_MIN_MS, PACE_BROKER_MAX_MS, seed);
    backoff_init(&p->target, PACE_TARGET_MIN_MS, PACE_TARGET_MAX_MS, seed + 1);
    backoff_init(&p->fenced, PACE_FENCED_MIN_MS, PACE_FENCED_MAX_MS, seed + 2);
}

void
pace_session_opened(struct pace *p, int64_t now_ms)
{
    p->session_ms = now_ms;
}

void
pace_ok(struct pace *p, enum pace_from from)
{
    backoff_reset(from == PACE_BROKER ? &p->broker : &p->target);
}

/* A session that lasted was ended by one worker that took over: no reason to wait. Of two
 * workers that take turns the one whose sessions are short waits longer and longer. */
static int64_t
fenced_ms(struct pace *p, int64_t now_ms)
{
    if (now_ms - p->session_ms >= PACE_LASTED_MS) {
        backoff_reset(&p->fenced);
        return 0;
    }
    return backoff_next_ms(&p->fenced);
}

/* What the other side asked for, but never beyond an hour. */
static int64_t
longer(int64_t delay_ms, int64_t asked_ms)
{
    asked_ms = asked_ms < PACE_ASKED_MAX_MS ? asked_ms : PACE_ASKED_MAX_MS;
    return asked_ms > delay_ms ? asked_ms : delay_ms;
}

/* BUSY and NOSPACE say that nothing was done: the session is as it was. After anything else it
 * may not be. */
static struct pace_step
broker_again(struct pace *p, int rc, int64_t retry_after_ms, int64_t now_ms)
{
    struct pace_step s = {.state = API_SINK_RETRYING, .drop_session = true};
    if (rc == ERR_STEERED) {
        return s;
    }
    if (rc == ERR_FENCED) {
        s.delay_ms = fenced_ms(p, now_ms);
        return s;
    }
    s.delay_ms = backoff_next_ms(&p->broker);
    if (rc == ERR_BUSY || rc == ERR_NOSPACE) {
        s.drop_session = false;
        s.delay_ms = longer(s.delay_ms, retry_after_ms);
    }
    return s;
}

struct pace_step
pace_failed(struct pace *p, enum pace_from from, int rc, int64_t retry_after_ms, int64_t now_ms)
{
    switch (verdict_of_error(rc)) {
    case VERDICT_EXIT:
        return (struct pace_step){.state = API_SINK_STOPPED, .exit = true};
    case VERDICT_AGAIN:
        if (from == PACE_BROKER) {
            return broker_again(p, rc, retry_after_ms, now_ms);
        }
        return (struct pace_step){.state = API_SINK_RETRYING,
            .delay_ms = longer(backoff_next_ms(&p->target), retry_after_ms)};
    case VERDICT_GO_ON:
    case VERDICT_STOP:
        break;
    }
    /* the session stays: without it nobody would see the state */
    return (struct pace_step){.state = API_SINK_STOPPED,
        .close_target = from == PACE_TARGET,
        .delay_ms = PACE_STOPPED_MS};
}
