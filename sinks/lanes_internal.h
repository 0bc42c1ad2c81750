/* lanes_internal: what the files of the lanes share: lanes.c (the outside), lane.c (a thread's
 * work), lane_settle.c (what follows from verdicts), lane_queue.c (who gets what). Everything
 * is under `lock` but what is marked. */
#ifndef ONESLOT_SINKS_LANES_INTERNAL_H
#define ONESLOT_SINKS_LANES_INTERNAL_H

#include <pthread.h>

#include "sinks/deadset.h"
#include "sinks/doubtset.h"
#include "sinks/effects.h"
#include "sinks/lanes.h"
#include "sinks/verdict.h"
#include "sinks/window.h"

struct lane {
    struct lanes *ls;
    unsigned index;
    pthread_t thread;
    /* the queue: a ring */
    struct window_item **queue;
    size_t head, n, cap; /* cap: a power of two */
    bool is_busy;        /* outside the lock: neither queue nor items may go */
    /* the lane's own, while it is busy: */
    struct sink *sink;        /* NULL: not open */
    uint64_t opened;          /* ls->openings when it was */
    struct window_item **cur; /* taken and not settled, in log order */
    size_t ncur, cur_cap;
    struct record *records; /* of cur, side by side for the kind */
    bool *barred;
    uint64_t *floors;
    uint32_t *keys;
    struct sink_verdict *verdicts;
    uint8_t *effects;
    struct client *client;
    struct effects x;
    struct pace pace;
    /* after a failure */
    int64_t until_ms; /* no work before it */
    bool is_failing;
    struct sink_counts shown; /* of the instance, last added to the sum */
};

struct lanes {
    struct lanes_conf c;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* anything */
    struct lane lane[LANES_MAX];
    unsigned n;
    bool is_quitting, is_halted;
    int news_fd; /* an eventfd; counts while has_news */
    bool has_news;
    struct lanes_session session;
    uint64_t tail; /* of the log, as of the last batch */
    struct window window;
    struct deadset letters;
    struct doubtset doubts;
    struct verdict_run run;
    uint32_t
        *shapes; /* ids of the schema versions seen in this session: open addressing, 0 free */
    size_t nshapes, shapes_cap;
    /* how much at once: grows with success, halved when the target pushes back */
    unsigned use_lanes, running, good_writes;
    size_t use_records;
    int64_t cut_ms;
    /* what is shown */
    bool is_stopped;   /* a person must act; until something goes well */
    bool has_opened;   /* an instance, once: the target is there */
    uint64_t openings; /* instances opened before it grew are closed */
    int64_t stopped_until_ms;
    struct lanes_view view;
};

/* lane_queue.c */
void lane_queue_put(struct lanes *ls, struct window_item *item);
void lane_queue_spread(struct lanes *ls, struct window_batch *b);
struct window_item *lane_queue_head(const struct lane *l);
void lane_queue_pop(struct lane *l);
void lane_queue_forget_shapes(struct lanes *ls);

/* lane.c */
void *lane_main(void *arg);

/* lane_settle.c: with the lock; they let go of it for calls. */
/* Before a write: settles what need not be written, marks what is barred or doubted, and fills
 * records, keys, barred and floors of the first n of l->cur. May leave fewer. */
int lane_prepare(struct lane *l, struct err *e) MUST_CHECK;
/* After it: carries out the effects of cur[0..n) and settles. An error is the broker's; what
 * was not carried out stays in cur. */
int lane_settle(struct lane *l, size_t n, struct err *e) MUST_CHECK;

/* lanes.c: tells main thread and lanes that something has changed. */
void lanes_news(struct lanes *ls);

#endif
