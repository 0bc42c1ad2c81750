/* cond: see cond.h. */
#include "proto/base/cond.h"

#include <errno.h>
#include <time.h>

#include "proto/base/check.h"

void
cond_init(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    CHECK(pthread_condattr_init(&attr) == 0);
    CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_cond_init(c, &attr) == 0);
    CHECK(pthread_condattr_destroy(&attr) == 0);
}

bool
cond_wait_until(pthread_cond_t *c, pthread_mutex_t *lock, int64_t until_ms)
{
    struct timespec until = {
        .tv_sec = (time_t)(until_ms / 1000), .tv_nsec = (long)(until_ms % 1000) * 1000000};
    int rc = pthread_cond_timedwait(c, lock, &until);
    CHECK(rc == 0 || rc == ETIMEDOUT);
    return rc == 0;
}
