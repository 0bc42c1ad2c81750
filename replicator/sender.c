/* sender: see sender.h. One lock for the handover; `stage` alone is also read without it, by
 * the stream's loop. */
#include "replicator/sender.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "broker/client/client.h"
#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "proto/base/cond.h"
#include "proto/base/sig.h"
#include "proto/base/xmalloc.h"

/* A batch of usual size, and room for the last row beyond API_BATCH_BYTES. A larger one is
 * given back. */
enum { BATCH_CAP = API_BATCH_BYTES + 64 * 1024 };

/* IDLE -submit-> SENDING -thread-> DONE or FAILED; DONE -take-> IDLE. */
enum stage { STAGE_IDLE, STAGE_SENDING, STAGE_DONE, STAGE_FAILED };

struct sender {
    struct client *client;
    struct api_append head;
    struct buf batch[2];
    unsigned filling; /* index; the other one is in flight */
    int event_fd;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    atomic_int stage;
    bool stops, is_waiting;
    struct err waiting, failure;
    struct api_appended appended;
};

/* The client asks this while a call runs: after a stop the append has some time to end well, so
 * that what is durable can still be acknowledged. */
static bool
grace_is_over(void)
{
    static _Atomic int64_t since_ms;
    if (!sig_stop_requested()) {
        return false;
    }
    int64_t now_ms = clock_mono_ms(), none = 0;
    (void)atomic_compare_exchange_strong(&since_ms, &none, now_ms);
    return now_ms - atomic_load(&since_ms) > SENDER_GRACE_MS;
}

static void
reset_batch(struct buf *b)
{
    static const char room_for_head[API_APPEND_HEAD];
    buf_reset(b, 2 * BATCH_CAP);
    (void)buf_room(b, BATCH_CAP);
    buf_put(b, room_for_head, sizeof room_for_head);
}

static void
wake(struct sender *s)
{
    uint64_t one = 1;
    ssize_t n = write(s->event_fd, &one, sizeof one);
    CHECK(n == (ssize_t)sizeof one || errno == EAGAIN || errno == EINTR);
}

/* ---- the thread ---- */

/* False when the sender was closed meanwhile. Called with the lock. */
static bool
wait_before_retry(struct sender *s, int64_t ms)
{
    int64_t until_ms = clock_mono_ms() + ms;
    while (!s->stops && cond_wait_until(&s->changed, &s->lock, until_ms)) {}
    return !s->stops;
}

/* Called with the lock, which it gives up while the call runs. */
static void
send_batch(struct sender *s)
{
    struct buf *b = &s->batch[1 - s->filling];
    for (;;) {
        struct api_appended appended;
        struct err e = {0};
        (void)pthread_mutex_unlock(&s->lock);
        int rc = client_append(s->client, &s->head, b, &appended, &e);
        (void)pthread_mutex_lock(&s->lock);
        s->is_waiting = rc == ERR_NOSPACE || rc == ERR_BUSY;
        if (rc == 0) {
            s->head.sequence++;
            s->appended = appended;
            reset_batch(b);
            atomic_store(&s->stage, STAGE_DONE);
            return;
        }
        s->waiting = e;
        if (s->is_waiting) {
            wake(s); /* the stream reports it */
        }
        if (!s->is_waiting || !wait_before_retry(s, client_retry_after_ms(s->client))) {
            s->failure = e;
            atomic_store(&s->stage, STAGE_FAILED);
            return;
        }
    }
}

static void *
run(void *arg)
{
    struct sender *s = arg;
    (void)pthread_mutex_lock(&s->lock);
    while (!s->stops) {
        if (atomic_load(&s->stage) == STAGE_SENDING) {
            send_batch(s);
            wake(s);
        } else {
            (void)pthread_cond_wait(&s->changed, &s->lock);
        }
    }
    (void)pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- the stream's side ---- */

static void
init_sync(struct sender *s)
{
    CHECK(pthread_mutex_init(&s->lock, NULL) == 0);
    cond_init(&s->changed);
}

static void
free_sender(struct sender *s)
{
    client_free(s->client);
    buf_fini(&s->batch[0]);
    buf_fini(&s->batch[1]);
    (void)pthread_mutex_destroy(&s->lock);
    (void)pthread_cond_destroy(&s->changed);
    if (s->event_fd >= 0) {
        (void)close(s->event_fd);
    }
    free(s);
}

int
sender_open(
    const char *socket, const struct api_session *session, struct sender **ret, struct err *e)
{
    struct sender *s = xcalloc(1, sizeof *s);
    struct client_conf conf = {.unix_path = socket, .should_stop = grace_is_over};
    s->client = client_new(&conf);
    memcpy(s->head.uuid, session->uuid, sizeof s->head.uuid);
    s->head.generation = session->generation;
    s->head.sequence = 1;
    for (int i = 0; i < 2; i++) {
        buf_init(&s->batch[i], API_APPEND_BODY_MAX);
        reset_batch(&s->batch[i]);
    }
    init_sync(s);
    s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int sys = s->event_fd < 0 ? errno : pthread_create(&s->thread, NULL, run, s);
    if (sys != 0) {
        free_sender(s);
        return err_set_sys(e, ERR_IO, sys, "cannot start the thread that sends to the broker");
    }
    *ret = s;
    return 0;
}

void
sender_close(struct sender *s)
{
    if (s == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&s->lock);
    s->stops = true;
    (void)pthread_cond_broadcast(&s->changed);
    (void)pthread_mutex_unlock(&s->lock);
    (void)pthread_join(s->thread, NULL);
    free_sender(s);
}

struct buf *
sender_batch(struct sender *s)
{
    return &s->batch[s->filling];
}

size_t
sender_batch_bytes(const struct sender *s)
{
    return s->batch[s->filling].n - API_APPEND_HEAD;
}

bool
sender_is_idle(const struct sender *s)
{
    return atomic_load_explicit(&s->stage, memory_order_relaxed) == STAGE_IDLE;
}

void
sender_submit(struct sender *s)
{
    CHECK(sender_is_idle(s) && sender_batch_bytes(s) > 0);
    (void)pthread_mutex_lock(&s->lock);
    s->filling = 1 - s->filling;
    atomic_store(&s->stage, STAGE_SENDING);
    (void)pthread_cond_broadcast(&s->changed);
    (void)pthread_mutex_unlock(&s->lock);
}

int
sender_fd(const struct sender *s)
{
    return s->event_fd;
}

int
sender_take(struct sender *s, struct api_appended *ret, struct err *e)
{
    int stage = atomic_load(&s->stage);
    if (stage != STAGE_DONE && stage != STAGE_FAILED) {
        return 0;
    }
    int rc = 1;
    (void)pthread_mutex_lock(&s->lock);
    if (stage == STAGE_FAILED) {
        rc = s->failure.code;
        if (e != NULL) {
            *e = s->failure;
        }
    } else {
        *ret = s->appended;
        atomic_store(&s->stage, STAGE_IDLE);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return rc;
}

bool
sender_is_waiting(struct sender *s, struct err *ret)
{
    (void)pthread_mutex_lock(&s->lock);
    bool is_waiting = s->is_waiting;
    if (is_waiting) {
        *ret = s->waiting;
    }
    (void)pthread_mutex_unlock(&s->lock);
    return is_waiting;
}
