/* reaper: see reaper.h. Owns the thread and the list, not the sockets; knows nothing of what is
 * served. */
#include "proto/base/reaper.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "proto/base/cond.h"
#include "proto/base/xmalloc.h"

struct reaper {
    int64_t tick_ms;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    struct reaper_entry *entries; /* under lock, as is_stopping */
    bool is_stopping;
};

static void
lock(struct reaper *r)
{
    CHECK(pthread_mutex_lock(&r->lock) == 0);
}

static void
unlock(struct reaper *r)
{
    CHECK(pthread_mutex_unlock(&r->lock) == 0);
}

static void
end_late(struct reaper *r)
{
    int64_t now = clock_mono_ms();

    for (struct reaper_entry *en = r->entries; en != NULL; en = en->next) {
        int64_t deadline = atomic_load(&en->deadline_ms);

        if (deadline != 0 && now >= deadline) {
            (void)shutdown(en->fd, SHUT_RDWR);
            atomic_store(&en->deadline_ms, 0);
        }
    }
}

static void *
run(void *arg)
{
    struct reaper *r = arg;

    lock(r);
    while (!r->is_stopping) {
        if (r->entries == NULL) {
            CHECK(pthread_cond_wait(&r->wake, &r->lock) == 0);
        } else {
            (void)cond_wait_until(&r->wake, &r->lock, clock_mono_ms() + r->tick_ms);
            end_late(r);
        }
    }
    unlock(r);
    return NULL;
}

int
reaper_new(int64_t tick_ms, struct reaper **ret, struct err *e)
{
    struct reaper *r = xcalloc(1, sizeof *r);
    int rc;

    r->tick_ms = tick_ms;
    CHECK(pthread_mutex_init(&r->lock, NULL) == 0);
    cond_init(&r->wake);
    rc = pthread_create(&r->thread, NULL, run, r);
    if (rc != 0) {
        (void)pthread_cond_destroy(&r->wake);
        (void)pthread_mutex_destroy(&r->lock);
        free(r);
        return err_set_sys(e, ERR_NOMEM, rc, "cannot start a thread");
    }
    *ret = r;
    return 0;
}

void
reaper_free(struct reaper *r)
{
    if (r == NULL) {
        return;
    }
    lock(r);
    CHECK(r->entries == NULL);
    r->is_stopping = true;
    CHECK(pthread_cond_signal(&r->wake) == 0);
    unlock(r);
    CHECK(pthread_join(r->thread, NULL) == 0);
    CHECK(pthread_cond_destroy(&r->wake) == 0);
    CHECK(pthread_mutex_destroy(&r->lock) == 0);
    free(r);
}

void
reaper_add(struct reaper *r, struct reaper_entry *en, int fd)
{
    en->fd = fd;
    en->prev = NULL;
    atomic_store(&en->deadline_ms, 0);
    lock(r);
    en->next = r->entries;
    if (en->next != NULL) {
        en->next->prev = en;
    } else {
        CHECK(pthread_cond_signal(&r->wake) == 0);
    }
    r->entries = en;
    unlock(r);
}

void
reaper_remove(struct reaper *r, struct reaper_entry *en)
{
    lock(r);
    if (en->prev != NULL) {
        en->prev->next = en->next;
    } else {
        r->entries = en->next;
    }
    if (en->next != NULL) {
        en->next->prev = en->prev;
    }
    unlock(r);
}

void
reaper_set(struct reaper_entry *en, int64_t deadline_ms)
{
    atomic_store(&en->deadline_ms, deadline_ms);
}
