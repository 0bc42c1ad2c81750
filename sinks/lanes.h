/* lanes: the threads that write. A record goes to the lane of its key's hash; each lane has an
 * instance of the kind, a queue in log order and one write at a time, so the order of a key
 * survives concurrency and retries. What touches more than one key (a key change, a TRUNCATE,
 * the first record of another schema version of a table) is a barrier: it stands in the queue
 * of every lane it touches, and once it is at the head of all of them the last one to get there
 * writes it alone while the others wait.
 *
 * A lane also carries out what a verdict asks for (dead letters, rereads, raising letters)
 * before the record counts as settled (P4). It knows neither fetching nor commits nor the
 * session's opening: the worker's main thread does those and calls from one thread only. */
#ifndef ONESLOT_SINKS_LANES_H
#define ONESLOT_SINKS_LANES_H

#include "sinks/pace.h"
#include "sinks/sink.h"

struct lanes_conf {
    const char *name; /* of the sink */
    const struct sink_ops *ops;
    const void *options;
    const struct str *tables; /* patterns; none: all tables */
    size_t ntables;
    const char *unix_path; /* the broker's socket */
    const char *seen_path; /* of struct sink_setup */
    unsigned lanes;        /* 1 to LANES_MAX; SINK_ONE_LANE kinds get one whatever it says */
    unsigned reject_limit; /* different keys rejected in a row; 0: no limit */
    bool (*should_stop)(void);
};

enum { LANES_MAX = 16, LANES_WINDOW_BYTES = 8 * 1024 * 1024 };

struct lanes;
struct lanes *lanes_open(const struct lanes_conf *c);
/* Waits for writes under way. Accepts NULL. */
void lanes_close(struct lanes *ls);

/* What a session says; nothing may be under way (lanes_halt). Letters and doubts
 * are forgotten. */
struct lanes_session {
    uint8_t uuid[16];
    uint64_t generation, epoch, next, floor;
    int64_t good_until_ms; /* as of lanes_confirm */
};
void lanes_begin(struct lanes *ls, const struct lanes_session *s);
void lanes_add_letter(struct lanes *ls, const struct api_letter *letter);
void lanes_add_doubt(struct lanes *ls, const struct api_doubt *doubt);
/* Doubts that are over, into ret (API_PROVEN_MAX); returns how many: lanes_told once the broker
 * knows. */
size_t lanes_proven(struct lanes *ls, struct api_doubt *ret);
void lanes_told(struct lanes *ls, size_t n);
/* The next letter that a person wants to be sent once more, from that offset on. */
bool lanes_next_retry(struct lanes *ls, uint64_t from, uint64_t *ret_offset);
/* Lets them work. */
void lanes_run(struct lanes *ls);
/* The session is known to be good: until that moment (clock_mono_ms) a lane may begin writes,
 * then it holds what it has until the next call. A process that was stopped and is continued
 * would otherwise write what it has queued before it hears that another one has the sink. */
void lanes_confirm(struct lanes *ls, int64_t until_ms);
/* Takes no more work and waits for what is under way: writes end, their verdicts are carried
 * out and settled; the rest stays queued, for lanes_begin to forget. */
void lanes_halt(struct lanes *ls);

/* A fetched batch (proto/batch.h), which has to continue where the last one ended: copied.
 * ERR_CORRUPT. */
int lanes_feed(struct lanes *ls, struct str batch, struct err *e) MUST_CHECK;
int lanes_feed_letter(struct lanes *ls, struct str batch, struct err *e) MUST_CHECK;

struct lanes_view {
    uint64_t passed;  /* everything below it is settled */
    uint64_t fetched; /* where the next batch begins */
    bool is_idle;     /* nothing is queued or under way */
    bool has_room;    /* for another batch */
    bool has_letter;  /* one is under way */
    uint64_t settled; /* records, since the beginning */
    int64_t last_success_us;
    uint64_t retries, rereads;
    size_t proven; /* as lanes_proven */
    struct sink_counts counts;
    uint32_t lanes; /* in use at most */
    uint8_t state;  /* STARTING, RUNNING, RETRYING or STOPPED */
    struct err error;
    bool is_over;      /* a call to the broker says that the session is not good any more: */
    struct err over;   /* why */
    bool is_fatal;     /* the process must end: error */
    int64_t delay_ms;  /* with RETRYING or STOPPED: how long from the failure on */
    uint64_t failures; /* grows with each: so that each is logged once */
};
void lanes_look(struct lanes *ls, struct lanes_view *ret);
/* Readable when something of that may have changed since the last look. */
int lanes_fd(const struct lanes *ls);

#endif
