/* watch: a waiter is woken exactly once: by the tail, by its time, by the stop, or not at all
 * when it was taken back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "broker/watch.h"
#include "proto/base/clock.h"

struct waiter {
    struct watcher watcher; /* first: wake gets its address */
    atomic_int woken;
};

static void
wake(struct watcher *me)
{
    struct waiter *w = (struct waiter *)(void *)me;
    (void)atomic_fetch_add(&w->woken, 1);
}

static void
init(struct waiter *w, int64_t until_ms)
{
    *w = (struct waiter){.watcher = {.wake = wake, .until_ms = until_ms}};
}

static void
wait_woken(struct waiter *w)
{
    int64_t deadline_ms = clock_mono_ms() + 10 * 1000;
    while (atomic_load(&w->woken) == 0) {
        assert_true(clock_mono_ms() < deadline_ms);
        clock_sleep_ms(1);
    }
}

static void
test_tail_wakes_everyone_once(void **state)
{
    (void)state;
    struct watch *watch = watch_new();
    struct waiter w[3];
    watch_tail(watch, 10);
    for (int i = 0; i < 3; i++) {
        init(&w[i], INT64_MAX);
        watch_add(watch, &w[i].watcher, 10);
        assert_int_equal(atomic_load(&w[i].woken), 0);
    }
    watch_tail(watch, 11);
    watch_tail(watch, 12);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(atomic_load(&w[i].woken), 1);
        assert_false(watch_remove(watch, &w[i].watcher));
    }
    watch_stop(watch);
    watch_free(watch);
}

/* What came between the reader's last look and its wait must not be missed. */
static void
test_news_since_the_last_look(void **state)
{
    (void)state;
    struct watch *watch = watch_new();
    struct waiter w;
    watch_tail(watch, 11);
    init(&w, INT64_MAX);
    watch_add(watch, &w.watcher, 10);
    assert_int_equal(atomic_load(&w.woken), 1);
    watch_stop(watch);
    watch_free(watch);
}

static void
test_time_wakes(void **state)
{
    (void)state;
    struct watch *watch = watch_new();
    struct waiter soon, later;
    init(&soon, clock_mono_ms() + 20);
    init(&later, INT64_MAX);
    watch_add(watch, &soon.watcher, 0);
    watch_add(watch, &later.watcher, 0);
    wait_woken(&soon);
    assert_int_equal(atomic_load(&later.woken), 0);
    assert_true(watch_remove(watch, &later.watcher));
    watch_tail(watch, 1);
    assert_int_equal(atomic_load(&later.woken), 0);
    watch_stop(watch);
    watch_free(watch);
}

static void
test_stop_wakes_and_later_adds_too(void **state)
{
    (void)state;
    struct watch *watch = watch_new();
    struct waiter before, after;
    init(&before, INT64_MAX);
    watch_add(watch, &before.watcher, 0);
    watch_stop(watch);
    assert_int_equal(atomic_load(&before.woken), 1);
    init(&after, INT64_MAX);
    watch_add(watch, &after.watcher, 0);
    assert_int_equal(atomic_load(&after.woken), 1);
    watch_free(watch);
}

enum { ROUNDS = 2000 };

struct race {
    struct watch *watch;
    struct waiter w[ROUNDS];
};

static void *
push_tail(void *arg)
{
    struct race *r = arg;
    for (uint64_t i = 1; i <= ROUNDS; i++) {
        watch_tail(r->watch, i);
    }
    return NULL;
}

/* Adding against a moving tail: nobody is forgotten, nobody is woken twice. */
static void
test_adding_against_a_moving_tail(void **state)
{
    (void)state;
    static struct race r;
    r.watch = watch_new();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, push_tail, &r), 0);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        init(&r.w[i], INT64_MAX);
        watch_add(r.watch, &r.w[i].watcher, i);
    }
    (void)pthread_join(thread, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        assert_int_equal(atomic_load(&r.w[i].woken), 1);
    }
    watch_stop(r.watch);
    watch_free(r.watch);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tail_wakes_everyone_once),
        cmocka_unit_test(test_news_since_the_last_look),
        cmocka_unit_test(test_time_wakes),
        cmocka_unit_test(test_stop_wakes_and_later_adds_too),
        cmocka_unit_test(test_adding_against_a_moving_tail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
