#include "sinks/lanes.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "proto/base/cond.h"
#include "proto/base/xmalloc.h"
#include "sinks/lanes_internal.h"

/* ---- opening ---- */

static void
lane_init(struct lanes *ls, unsigned index)
{
    struct lane *l = &ls->lane[index];
    struct client_conf cc = {.unix_path = ls->c.unix_path, .should_stop = ls->c.should_stop};
    l->ls = ls;
    l->index = index;
    l->client = client_new(&cc);
    effects_init(&l->x, l->client, ls->c.name);
    pace_init(&l->pace, (uint64_t)getpid() ^ (uint64_t)clock_mono_us() ^ (index + 1) * 0x9e37u);
}

static void
lane_fini(struct lane *l)
{
    effects_fini(&l->x);
    client_free(l->client);
    free(l->queue);
    free(l->cur);
    free(l->records);
    free(l->barred);
    free(l->floors);
    free(l->keys);
    free(l->verdicts);
    free(l->effects);
}

struct lanes *
lanes_open(const struct lanes_conf *c)
{
    struct lanes *ls = xcalloc(1, sizeof *ls);
    ls->c = *c;
    ls->n = (c->ops->flags & SINK_ONE_LANE) != 0 ? 1 : c->lanes;
    CHECK(ls->n >= 1 && ls->n <= LANES_MAX && c->ops->batch_records > 0);
    ls->use_lanes = ls->n;
    ls->use_records = c->ops->batch_records;
    ls->run.limit = c->reject_limit;
    ls->is_halted = true;
    ls->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(ls->news_fd >= 0);
    (void)pthread_mutex_init(&ls->lock, NULL);
    cond_init(&ls->changed);
    window_init(&ls->window, c->tables, c->ntables);
    deadset_init(&ls->letters);
    doubtset_init(&ls->doubts);
    for (unsigned i = 0; i < ls->n; i++) {
        lane_init(ls, i);
    }
    for (unsigned i = 0; i < ls->n; i++) {
        CHECK(pthread_create(&ls->lane[i].thread, NULL, lane_main, &ls->lane[i]) == 0);
    }
    return ls;
}

/* Nothing is under way: what is queued is forgotten. */
static void
forget(struct lanes *ls)
{
    for (unsigned i = 0; i < ls->n; i++) {
        struct lane *l = &ls->lane[i];
        CHECK(!l->is_busy);
        l->head = l->n = 0;
        l->ncur = 0;
        l->until_ms = 0;
    }
    window_reset(&ls->window, ls->session.next);
    deadset_reset(&ls->letters);
    doubtset_reset(&ls->doubts);
    lane_queue_forget_shapes(ls);
}

void
lanes_close(struct lanes *ls)
{
    if (ls == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&ls->lock);
    ls->is_quitting = true;
    (void)pthread_cond_broadcast(&ls->changed);
    (void)pthread_mutex_unlock(&ls->lock);
    for (unsigned i = 0; i < ls->n; i++) {
        (void)pthread_join(ls->lane[i].thread, NULL);
    }
    forget(ls);
    for (unsigned i = 0; i < ls->n; i++) {
        lane_fini(&ls->lane[i]);
    }
    window_fini(&ls->window);
    deadset_fini(&ls->letters);
    doubtset_fini(&ls->doubts);
    (void)close(ls->news_fd);
    (void)pthread_cond_destroy(&ls->changed);
    (void)pthread_mutex_destroy(&ls->lock);
    free(ls);
}

/* ---- sessions ---- */

void
lanes_begin(struct lanes *ls, const struct lanes_session *s)
{
    (void)pthread_mutex_lock(&ls->lock);
    CHECK(ls->is_halted);
    bool is_other =
        memcmp(ls->session.uuid, s->uuid, sizeof s->uuid) != 0 || ls->session.epoch != s->epoch;
    ls->session = *s;
    forget(ls);
    if (is_other) { /* what was proven was so of that log's records */
        doubtset_told(&ls->doubts, ls->doubts.nproven);
    }
    ls->openings += is_other;
    ls->run.n = 0;
    ls->is_stopped = false;
    ls->stopped_until_ms = 0;
    ls->view.is_over = false;
    for (unsigned i = 0; i < ls->n; i++) {
        ls->lane[i].x.generation = s->generation;
        ls->lane[i].is_failing = false;
    }
    (void)pthread_mutex_unlock(&ls->lock);
}

void
lanes_add_letter(struct lanes *ls, const struct api_letter *letter)
{
    (void)pthread_mutex_lock(&ls->lock);
    deadset_add(&ls->letters, letter);
    (void)pthread_mutex_unlock(&ls->lock);
}

void
lanes_add_doubt(struct lanes *ls, const struct api_doubt *doubt)
{
    (void)pthread_mutex_lock(&ls->lock);
    doubtset_add(&ls->doubts, doubt);
    (void)pthread_mutex_unlock(&ls->lock);
}

size_t
lanes_proven(struct lanes *ls, struct api_doubt *ret)
{
    (void)pthread_mutex_lock(&ls->lock);
    size_t n = ls->doubts.nproven;
    memcpy(ret, ls->doubts.proven, n * sizeof *ret);
    (void)pthread_mutex_unlock(&ls->lock);
    return n;
}

void
lanes_told(struct lanes *ls, size_t n)
{
    (void)pthread_mutex_lock(&ls->lock);
    doubtset_told(&ls->doubts, n);
    (void)pthread_mutex_unlock(&ls->lock);
}

bool
lanes_next_retry(struct lanes *ls, uint64_t from, uint64_t *ret_offset)
{
    (void)pthread_mutex_lock(&ls->lock);
    bool has = deadset_next_retry(&ls->letters, from, ret_offset);
    (void)pthread_mutex_unlock(&ls->lock);
    return has;
}

void
lanes_run(struct lanes *ls)
{
    (void)pthread_mutex_lock(&ls->lock);
    ls->is_halted = false;
    (void)pthread_cond_broadcast(&ls->changed);
    (void)pthread_mutex_unlock(&ls->lock);
}

void
lanes_confirm(struct lanes *ls, int64_t until_ms)
{
    (void)pthread_mutex_lock(&ls->lock);
    bool had_lapsed = clock_mono_ms() >= ls->session.good_until_ms;
    ls->session.good_until_ms = until_ms;
    if (had_lapsed) {
        (void)pthread_cond_broadcast(&ls->changed);
    }
    (void)pthread_mutex_unlock(&ls->lock);
}

static bool
is_any_busy(const struct lanes *ls)
{
    for (unsigned i = 0; i < ls->n; i++) {
        if (ls->lane[i].is_busy) {
            return true;
        }
    }
    return false;
}

void
lanes_halt(struct lanes *ls)
{
    (void)pthread_mutex_lock(&ls->lock);
    ls->is_halted = true;
    while (is_any_busy(ls)) {
        (void)pthread_cond_wait(&ls->changed, &ls->lock);
    }
    (void)pthread_mutex_unlock(&ls->lock);
}

/* ---- feeding ---- */

int
lanes_feed(struct lanes *ls, struct str batch, struct err *e)
{
    (void)pthread_mutex_lock(&ls->lock);
    struct window_batch *b = NULL;
    int rc = window_add(&ls->window, batch, &b, e);
    if (rc == 0 && b != NULL) {
        ls->tail = b->intake.header.tail_offset;
        lane_queue_spread(ls, b);
        (void)pthread_cond_broadcast(&ls->changed);
    }
    (void)pthread_mutex_unlock(&ls->lock);
    return rc;
}

int
lanes_feed_letter(struct lanes *ls, struct str batch, struct err *e)
{
    (void)pthread_mutex_lock(&ls->lock);
    struct window_batch *b = NULL;
    int rc = window_add_letter(&ls->window, batch, &b, e);
    if (rc == 0 && b != NULL) {
        lane_queue_spread(ls, b);
        (void)pthread_cond_broadcast(&ls->changed);
    }
    (void)pthread_mutex_unlock(&ls->lock);
    return rc;
}

/* ---- looking ---- */

static uint8_t
state_of(const struct lanes *ls)
{
    if (ls->is_stopped) {
        return API_SINK_STOPPED;
    }
    for (unsigned i = 0; i < ls->n; i++) {
        if (ls->lane[i].is_failing) {
            return API_SINK_RETRYING;
        }
    }
    return ls->has_opened ? API_SINK_RUNNING : API_SINK_STARTING;
}

void
lanes_look(struct lanes *ls, struct lanes_view *ret)
{
    (void)pthread_mutex_lock(&ls->lock);
    if (ls->has_news) {
        uint64_t count;
        ls->has_news = false;
        (void)!read(ls->news_fd, &count, sizeof count);
    }
    *ret = ls->view;
    ret->passed = ls->window.passed;
    ret->fetched = ls->window.fetched;
    ret->is_idle = window_is_empty(&ls->window);
    ret->has_letter = ls->window.letters != NULL;
    ret->has_room = ls->window.bytes < LANES_WINDOW_BYTES;
    ret->lanes = ls->use_lanes;
    ret->proven = ls->doubts.nproven;
    ret->state = state_of(ls);
    (void)pthread_mutex_unlock(&ls->lock);
}

int
lanes_fd(const struct lanes *ls)
{
    return ls->news_fd;
}

void
lanes_news(struct lanes *ls)
{
    if (!ls->has_news) {
        uint64_t one = 1;
        ls->has_news = true;
        (void)!write(ls->news_fd, &one, sizeof one);
    }
    (void)pthread_cond_broadcast(&ls->changed);
}
