/* dead: dead letters: records that a sink's target can never accept, kept durably with a reason
 * until they are no longer needed (proto/api.h says what each call means). Records stand on
 * disk only; what there is to know of a letter is kept in memory too. A quota per sink: a full
 * one stops that sink and nobody else.
 *
 * DATA_DIR/dead, through broker/beside, shared with the rows to be read again (rereads).
 * Thread-safe; a call that returns 0 is on stable storage. Whether the caller's session is the
 * newest one is checked by the caller, under retain_lock. It knows nothing of HTTP, tables or
 * what a record holds. */
#ifndef ONESLOT_BROKER_DEAD_H
#define ONESLOT_BROKER_DEAD_H

#include "broker/beside.h"

enum { DEAD_LETTERS_MAX = 100000 };                  /* of one sink, with their records */
#define DEAD_BYTES_MAX (UINT64_C(256) * 1024 * 1024) /* of one sink: records, keys, texts */
#define DEAD_FOLDER    "dead"

/* The tables of the environment. */
enum {
    DEAD_TABLE_META,
    DEAD_TABLE_LETTERS,
    DEAD_TABLE_RECORDS,
    DEAD_TABLE_REREADS,
    DEAD_TABLE_DOUBTS
};
/* A key in those of them that are of a sink: its name, 0, a number, so that they stand in its
 * order. */
enum { DEAD_SINK_MAX = 64 }; /* a name and its 0 */
struct dead_key {
    char p[DEAD_SINK_MAX + 8];
    size_t n;
};
struct dead_key dead_key_of(const char *sink, uint64_t number);
static inline struct str
dead_key_str(const struct dead_key *k)
{
    return (struct str){k->p, k->n};
}
/* Opens DATA_DIR/dead for a log; see beside_open. */
int dead_folder_open(const char *data_dir, const uint8_t uuid[API_UUID], struct beside *ret,
    struct err *e) MUST_CHECK;

struct dead;
/* Loads what there is. bs is borrowed until dead_close. */
int dead_open(struct beside *bs, struct dead **ret, struct err *e) MUST_CHECK;
void dead_close(struct dead *d); /* accepts NULL */

struct dead_letter {
    uint64_t offset;
    uint8_t state;             /* enum api_letter_state */
    uint32_t attempts;         /* how often it was buried */
    int64_t first_us, last_us; /* wall time of the first and the last of them */
    uint64_t record_bytes;     /* 0: a mark without its record */
    struct str key, ns, table, op, reason;
    struct str former; /* the other key of a key change */
};

/* What api_bury asks. ERR_REFUSED: the quota is used up; nothing was changed. */
int dead_bury(struct dead *d, const char *sink, const struct api_bury *b, int64_t now_us,
    struct err *e) MUST_CHECK;
/* What api_raise asks; *ret_n letters went. */
int dead_raise(struct dead *d, const char *sink, const struct api_raise *r, size_t *ret_n,
    struct err *e) MUST_CHECK;

/* A person's word on some letters (ids: their offsets; n 0: on all that it can be said of).
 * All or nothing: ERR_NOTFOUND for one that is not there, ERR_CONFLICT for a mark. *ret_n:
 * those that changed. */
int dead_retry(struct dead *d, const char *sink, const uint64_t *ids, size_t n, size_t *ret_n,
    struct err *e) MUST_CHECK;
/* Whether either of them would be refused; changes nothing. */
int dead_check(
    struct dead *d, const char *sink, const uint64_t *ids, size_t n, struct err *e) MUST_CHECK;
/* Gives the record up. The mark stays where there is a key; without one the letter goes. */
int dead_discard(struct dead *d, const char *sink, const uint64_t *ids, size_t n, size_t *ret_n,
    struct err *e) MUST_CHECK;
/* Everything of a sink goes. */
int dead_forget(struct dead *d, const char *sink, struct err *e) MUST_CHECK;

struct dead_counts {
    size_t letters; /* of any state */
    size_t by_state[API_LETTER_REREAD + 1];
    uint64_t bytes;
};
void dead_counts(struct dead *d, const char *sink, struct dead_counts *ret);
/* The n of them that a person may still have to look at: dead and to be sent again. */
size_t dead_counts_open(const struct dead_counts *c);

/* Hands the letters behind `after`, by offset, to fn until it returns false; views are valid
 * during the call, which must not call back in here. */
typedef bool dead_letter_f(void *arg, const struct dead_letter *l);
void dead_walk(struct dead *d, const char *sink, uint64_t after, dead_letter_f *fn, void *arg);
/* Appends the letter's record, a batch (proto/batch.h). ERR_NOTFOUND: there is none. */
int dead_record(struct dead *d, const char *sink, uint64_t offset, struct buf *to,
    struct err *e) MUST_CHECK;

#endif
