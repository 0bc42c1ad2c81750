/* journal: the whole log: its segments in order, the visible tail, positions. One thread writes
 * (writer), any number read, a housekeeper (keeper) seals and removes. The folder listing is
 * the registry of segments.
 *
 * It knows segments; nothing of sessions, sinks, HTTP or PostgreSQL. */
#ifndef ONESLOT_BROKER_JOURNAL_H
#define ONESLOT_BROKER_JOURNAL_H

#include "broker/pack.h"
#include "broker/segment.h"
#include "proto/position.h"

struct journal;

struct journal_conf {
    const char *data_dir; /* holds log/ and trash/ */
    uint64_t segment_bytes;
};

/* Opens what is there, removes what a crash left half-made, cuts the newest segment back to its
 * tail. With no segment at all a first one is made, beginning at unix seconds << 20, with a new
 * identity; unless may_create is false (the state folder knows a log: its segments were taken
 * away): ERR_NOTFOUND. */
int journal_open(const struct journal_conf *c, bool may_create, struct journal **ret,
    struct err *e) MUST_CHECK;
void journal_close(struct journal *j);                /* no reader may be left; accepts NULL */
const uint8_t *journal_uuid(const struct journal *j); /* API_UUID bytes */
struct schemas *journal_schemas(struct journal *j);
/* fn is called on the writer thread whenever something became visible. Set once, before the
 * first append. */
void journal_on_tail(struct journal *j, void (*fn)(void *arg), void *arg);

/* ---- what it holds ---- */

struct journal_place {
    uint64_t offset;
    bool has_txn; /* lsn and ts_us are of the transaction that holds it; otherwise nothing is
                     there (yet) */
    uint64_t lsn;
    int64_t ts_us;
};

struct journal_info {
    uint64_t epoch;
    struct journal_place earliest; /* without has_txn: nothing is there */
    uint64_t next;                 /* visible tail: the first offset not yet there */
    bool has_last;                 /* some transaction was ever logged: */
    uint64_t last_lsn, last_end_lsn;
    int64_t last_ts_us;
    uint64_t records, bytes; /* bytes: of files */
    uint64_t frame_bytes;    /* of visible frames, summed over segments */
    size_t segments;
};
void journal_info(struct journal *j, struct journal_info *ret);
uint64_t journal_tail(struct journal *j);     /* info.next alone */
uint64_t journal_earliest(struct journal *j); /* info.earliest.offset alone */

/* ---- reading ---- */

/* Hands records from *from up to until (exclusive, capped at the visible tail) to fn, within
 * one segment: call again while *from moves. ERR_GONE below the earliest record, ERR_BEYOND
 * above the tail. See segment_scan. */
int journal_read(struct journal *j, uint64_t *from, uint64_t until, segment_record_f *fn,
    void *arg, struct err *e) MUST_CHECK;
/* Resolves a position by interface.md's rules. ERR_GONE, ERR_BEYOND; ERR_CONFLICT: an epoch
 * that is not here. */
int journal_find(struct journal *j, const struct position *p, struct journal_place *ret,
    struct err *e) MUST_CHECK;
/* The transaction that holds offset: 1, 0 none (at or above the tail, or gone), < 0. */
int journal_txn_at(
    struct journal *j, uint64_t offset, struct segment_place *ret, struct err *e) MUST_CHECK;
/* Bytes of frames from offset to the tail (to the transaction, not to the record). */
int journal_bytes_from(
    struct journal *j, uint64_t offset, uint64_t *ret_bytes, struct err *e) MUST_CHECK;

/* ---- writing: the writer thread only ---- */

struct segment *journal_newest(struct journal *j);
/* Makes everything up to t visible: t has just been committed in the newest segment. first: the
 * first transaction of that commit (NULL: none). */
void journal_publish(
    struct journal *j, const struct segment_tail *t, const struct pack_entry *first);
bool journal_wants_roll(
    struct journal *j, uint64_t pending_bytes); /* the newest segment has reached its size */
/* Begins a new segment at the tail. The old one is sealed by the keeper later. */
int journal_roll(struct journal *j, struct err *e) MUST_CHECK;

/* ---- keeping: the keeper thread only ---- */

/* Seals one segment that waits for it; *ret_done is false when there was none. */
int journal_seal_one(struct journal *j, bool *ret_done, struct err *e) MUST_CHECK;
struct journal_segment {
    uint64_t base, next, file_bytes;
    int64_t sealed_us; /* 0: not sealed */
    bool is_damaged;   /* it cannot be sealed: a checksum failed */
};
/* Copies up to max descriptions, oldest first; returns how many there are. */
size_t journal_segments(struct journal *j, struct journal_segment *to, size_t max);
/* Takes the oldest segment out of the log: into trash/, durably. It must be sealed and not the
 * newest. What lies in trash/ is deleted by journal_empty_trash, which may take its time. */
int journal_remove_oldest(struct journal *j, struct err *e) MUST_CHECK;
int journal_empty_trash(struct journal *j, struct err *e) MUST_CHECK;

#endif
