/* cond: a wait ends at its moment of the monotonic clock, or when it is signalled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/clock.h"
#include "proto/base/cond.h"

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool is_set;
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void *
set(void *arg)
{
    (void)arg;
    (void)pthread_mutex_lock(&shared.lock);
    shared.is_set = true;
    (void)pthread_cond_signal(&shared.wake);
    (void)pthread_mutex_unlock(&shared.lock);
    return NULL;
}

static void
a_wait_ends_at_its_moment_and_not_before(void **state)
{
    (void)state;
    static const int64_t waits_ms[] = {-5000, 0, 1, 30};
    (void)pthread_mutex_lock(&shared.lock);
    for (size_t i = 0; i < sizeof waits_ms / sizeof *waits_ms; i++) {
        int64_t until_ms = clock_mono_ms() + waits_ms[i];
        while (cond_wait_until(&shared.wake, &shared.lock, until_ms)) {}
        assert_true(clock_mono_ms() >= until_ms);
    }
    (void)pthread_mutex_unlock(&shared.lock);
}

static void
a_signal_ends_it_early(void **state)
{
    (void)state;
    pthread_t thread;
    int64_t until_ms = clock_mono_ms() + 60000;
    bool is_early = true;
    (void)pthread_mutex_lock(&shared.lock);
    assert_int_equal(pthread_create(&thread, NULL, set, NULL), 0);
    while (!shared.is_set && is_early) {
        is_early = cond_wait_until(&shared.wake, &shared.lock, until_ms);
    }
    (void)pthread_mutex_unlock(&shared.lock);
    assert_true(shared.is_set && is_early);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wait_ends_at_its_moment_and_not_before),
        cmocka_unit_test(a_signal_ends_it_early),
    };
    cond_init(&shared.wake);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
