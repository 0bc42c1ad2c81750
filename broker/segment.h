/* segment: one part of the log: a folder with one LMDB environment. The newest is written,
 * older ones are sealed and never change. A segment stands alone: records, transactions and the
 * schema versions they use, its layout drawn in README.md. It knows frames with offsets and
 * transactions; nothing of HTTP, PostgreSQL or of other segments. Writing is segwrite's.
 *
 * Threads: any number of readers at a time, each for the length of one call; sealing, growing
 * and closing wait for them and hold them back shortly (P10: no read transaction outlives a
 * call). */
#ifndef ONESLOT_BROKER_SEGMENT_H
#define ONESLOT_BROKER_SEGMENT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "broker/schemas.h"
#include "broker/store.h"
#include "proto/api.h"
#include "proto/record.h"

enum { SEGMENT_FORMAT = 1, SEGMENT_NAME_DIGITS = 20 };
enum segment_table { SEGMENT_META, SEGMENT_RECORDS, SEGMENT_TXNS, SEGMENT_SCHEMAS };

/* A record larger than this is stored in parts. */
enum { SEGMENT_PART_BYTES = 1024 * 1024 };

struct segment_head {       /* written once, at creation */
    uint8_t uuid[API_UUID]; /* of the log */
    uint64_t base;          /* its first offset; keys are relative to it */
    uint64_t epoch;
    uint64_t
        prior_lsn; /* of the last transaction before this segment; 0: the log begins here */
    int64_t prior_ts_us; /* the largest commit time before it */
};

enum segment_seen { SEGMENT_SEEN_XACT = 1, SEGMENT_SEEN_MESSAGE = 2 };

/* Written with every commit that makes something visible. The LSN, time and identities are
 * those of the last transaction of the log, in this segment or before it. */
struct segment_tail {
    uint64_t next;         /* the first offset not visible yet */
    uint64_t lsn, end_lsn; /* 0: no transaction yet */
    int64_t ts_us;
    int64_t max_ts_us; /* the largest ts_us so far: commit times go back now and then */
    uint32_t xid;
    uint8_t seen;   /* enum segment_seen: which identities stand at `lsn` (P2) */
    uint64_t bytes; /* of visible frames, in this segment */
    uint64_t txns;  /* in this segment */
};

struct segment {
    char *path;
    struct segment_head head;
    struct segment_tail
        tail;           /* sealed: for good; the newest: maintained by the log under its lock */
    uint64_t first_lsn; /* of its first transaction; 0: none yet */
    int64_t first_ts_us;
    uint64_t file_bytes;
    int64_t sealed_us; /* our wall clock at sealing: what ages (the source's clock may be
                          wrong); 0: not sealed */
    bool is_sealed;
    struct store *st; /* NULL: not open at the moment */
    pthread_rwlock_t lock;
    unsigned refs;   /* this and the rest: under the log's lock */
    uint64_t used;   /* the larger, the later */
    bool is_damaged; /* sealing found a damaged record */
};

/* Creates the folder LOG_DIR/BASE with an empty environment, everything synced: it is made as
 * LOG_DIR/.new and renamed, so that a half-made one is never taken for a segment. Returns it
 * open for writing. */
int segment_create(const char *log_dir, const struct segment_head *h,
    const struct segment_tail *t, uint64_t map_bytes, struct segment **ret,
    struct err *e) MUST_CHECK;
/* Loads LOG_DIR/NAME. With a MANIFEST it is sealed and its environment is opened when first
 * needed; without one it is opened for writing and its tail read. */
int segment_load(const char *log_dir, const char *name, uint64_t map_bytes,
    struct segment **ret, struct err *e) MUST_CHECK;
void segment_free(struct segment *sg); /* closes it; accepts NULL */
/* Closes the environment of a sealed segment; the next read opens it again. */
void segment_unload(struct segment *sg);
/* Removes whatever lies above the tail: what a former session left of an unfinished
 * transaction. */
int segment_discard(struct segment *sg, struct err *e) MUST_CHECK;

/* Reads everything, checksums included, writes the MANIFEST and closes the environment (the
 * next read opens it read-only). Off the writer thread, when nothing will be written any more;
 * redone after a crash in the middle. The caller sets is_sealed. */
int segment_seal(struct segment *sg, struct schemas *sc, struct err *e) MUST_CHECK;

/* Called for every record in order. whole is the frame with its header (verified); all pointers
 * are valid only during the call. Returns 0 to go on, SEGMENT_STOP to end before this record,
 * or an error. s is NULL for messages. */
enum { SEGMENT_STOP = 1 };
typedef int segment_record_f(void *arg, const struct record_txn *t, const struct schema *s,
    uint64_t offset, struct str whole, struct err *e);

/* Hands the records from *from up to (not including) until to fn; *from ends behind the last
 * one that was taken. until must not be above the visible tail. ERR_CORRUPT names segment and
 * offset. */
int segment_scan(struct segment *sg, struct schemas *sc, uint64_t *from, uint64_t until,
    segment_record_f *fn, void *arg, struct err *e) MUST_CHECK;

/* A transaction as indexes know it: without origin. */
struct segment_place {
    uint64_t first_offset, count;
    uint64_t lsn, end_lsn;
    int64_t ts_us;
    uint64_t bytes_before; /* bytes of frames in the segment before its first record */
};
/* The transaction that holds offset (below next): 1 found, 0 none. */
int segment_txn_at(struct segment *sg, uint64_t next, uint64_t offset,
    struct segment_place *ret, struct err *e) MUST_CHECK;
/* The first transaction with lsn >= given / committed at or after ts_us: 1 found, 0 none below
 * next. */
int segment_find_lsn(struct segment *sg, uint64_t next, uint64_t lsn, struct segment_place *ret,
    struct err *e) MUST_CHECK;
int segment_find_ts(struct segment *sg, uint64_t next, int64_t ts_us, struct segment_place *ret,
    struct err *e) MUST_CHECK;

/* ---- shared with segread and segwrite ---- */

/* Whether the environment that was just opened is the one that the sealed segment's MANIFEST
 * speaks of: files may have been swapped. ERR_CORRUPT, ERR_FOREIGN, ERR_NEWER. */
int segment_check_opened(const struct segment *sg, struct store *st, struct err *e) MUST_CHECK;

/* Head of a value in SEGMENT_RECORDS:
 *   count u32 | raw u32 | codec u8 | kind u8 | zero u16 | check u32
 * count: records that begin here; raw: bytes of frames once unpacked; check: XXH3 over the 12
 * bytes before it, and over the stored bytes where these are packed (a frame has a checksum of
 * its own), seeded with the low half of the relative offset. The key is the relative offset of
 * its first record (u64 be); the parts of a large record after the first have a u32 be part
 * number behind it. */
enum { SEGMENT_BLOCK_HEAD = 16 };
enum segment_codec { SEGMENT_RAW = 0, SEGMENT_ZSTD = 1 };
enum segment_block_kind { SEGMENT_FRAMES = 0, SEGMENT_PART = 1 };
struct segment_block {
    uint32_t count, raw;
    uint8_t codec, kind;
    struct str stored;
};
void segment_put_block_head(
    char to[SEGMENT_BLOCK_HEAD], uint64_t rel, const struct segment_block *b);

/* Values in SEGMENT_TXNS are packs (broker/pack.h). A value in SEGMENT_SCHEMAS: check u32
 * (seeded with the id) | schema_encode's bytes; the key is the id (u32 be). */
void segment_key(char to[8], uint64_t rel);
enum { SEGMENT_TAIL_BYTES = 80 };
void segment_put_tail(char to[SEGMENT_TAIL_BYTES], const struct segment_tail *t);

#endif
