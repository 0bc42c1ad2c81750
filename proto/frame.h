/* frame: the bytes of one record, the same in an append batch, in the log and in a fetched
 * batch.
 *
 *      0        4        8    9    10      12        16
 *      +--------+--------+----+----+-------+---------+------------------------+
 *      | length | check  | op |flags| zero | schema  | payload (msgpack)      |
 *      +--------+--------+----+----+-------+---------+------------------------+
 *
 *      length   u32 le, bytes of the payload (at most FRAME_MAX_PAYLOAD)
 *
 *      check    u32 le, low half of XXH3-64 over all behind it (XXH3 mixes the length in)
 *
 *      schema   u32 le, the schema version of the row; 0 where there is none
 *
 * Nothing in a frame is absolute (no offset, LSN, time or epoch): a transaction staged while
 * still open can become part of the log as it is. Pure; XXH3 comes from xxhash.h, which only
 * frame.c includes. */
#ifndef ONESLOT_PROTO_FRAME_H
#define ONESLOT_PROTO_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/str.h"

enum { FRAME_HEADER = 16 };
#define FRAME_MAX_PAYLOAD 0x7fffff00u

enum frame_op {
    /* records: they take an offset and are stored */
    FRAME_INSERT = 1,   /* new */
    FRAME_UPDATE = 2,   /* new, then old when flags say so */
    FRAME_DELETE = 3,   /* old */
    FRAME_TRUNCATE = 4, /* no payload */
    FRAME_READ = 5,     /* new */
    FRAME_MESSAGE = 6,  /* [prefix str, content bin] */
    /* control: only in append batches */
    FRAME_SCHEMA = 0x80, /* schema id in the header; schema_encode; before its first use */
    FRAME_BEGIN = 0x81,  /* struct frame_begin_txn: records up to COMMIT are one transaction */
    FRAME_COMMIT = 0x82, /* struct frame_commit */
    FRAME_IDLE = 0x83    /* [lsn]: nothing is pending below it; for the ack ledger */
};

enum frame_flags {
    FRAME_OLD_KEY = 1,  /* update, delete: old holds the key columns ('K') */
    FRAME_OLD_FULL = 2, /* update, delete: old holds the whole row ('O') */
    FRAME_CASCADE = 1,  /* truncate */
    FRAME_RESTART_IDENTITY = 2,
    FRAME_TRANSACTIONAL = 1 /* message */
};

/* A tuple is a msgpack array with one element per column of the schema version: str =
 * PostgreSQL's text, nil = NULL, false = TOASTed value that did not change and was not sent.
 * Under FRAME_OLD_KEY everything outside the key is nil. Row ops, truncate and FRAME_SCHEMA
 * name a schema (not 0), all others name 0. */

struct frame {
    uint8_t op, flags;
    uint32_t schema_id;
    struct str payload;
};

enum frame_txn_kind {
    FRAME_TXN_XACT = 0,
    FRAME_TXN_MESSAGE = 1, /* outside a transaction */
    FRAME_TXN_READ = 2
};

/* [kind, xid, lsn]: what a COMMIT will say again, known at the start so that a transaction that
 * was sent before can be recognised at its begin. */
struct frame_begin_txn {
    uint8_t kind; /* enum frame_txn_kind */
    uint32_t xid; /* 0 unless XACT */
    uint64_t lsn; /* commit LSN (message: its own; read: end LSN of the last transaction) */
};

/* [kind, xid, lsn, end_lsn, ts_us, origin|nil] */
struct frame_commit {
    uint8_t kind;     /* enum frame_txn_kind */
    uint32_t xid;     /* 0 unless XACT */
    uint64_t lsn;     /* commit LSN (message: its own; read: end LSN of the last transaction) */
    uint64_t end_lsn; /* what may be acknowledged once this is durable */
    int64_t ts_us;    /* commit time, us since 1970 */
    struct str origin; /* replication origin, usually empty */
};

/* Starts a frame at b's end, to be filled with payload bytes; returns its start. frame_end sets
 * length and check (FRAME_HEADER bytes are part of the frame). A payload beyond
 * FRAME_MAX_PAYLOAD makes b `failed`. */
size_t frame_begin(struct buf *b, uint8_t op, uint8_t flags, uint32_t schema_id);
void frame_end(struct buf *b, size_t start);

/* Whole control frames, and what they say: frames from frame_next, of that op. ERR_CORRUPT. */
void frame_put_begin(struct buf *b, const struct frame_begin_txn *t);
int frame_get_begin(
    const struct frame *f, struct frame_begin_txn *ret, struct err *e) MUST_CHECK;
void frame_put_commit(struct buf *b, const struct frame_commit *c);
int frame_get_commit(const struct frame *f, struct frame_commit *ret, struct err *e) MUST_CHECK;
void frame_put_idle(struct buf *b, uint64_t lsn);
int frame_get_idle(const struct frame *f, uint64_t *ret_lsn, struct err *e) MUST_CHECK;

/* Next frame of bytes[*at..]: header checked for sense (known op, flags that it may have, a
 * schema where it needs one), whole frame within bytes, *at moved behind it. The checksum is
 * verified unless verify is false. ERR_CORRUPT otherwise. At the end: ERR_SHORT. */
int frame_next(
    struct str bytes, size_t *at, bool verify, struct frame *ret, struct err *e) MUST_CHECK;
bool frame_is_record(uint8_t op);
/* XXH3 of other things that the log keeps (transaction packs, tail): low 32 bits. */
uint32_t frame_sum(uint32_t seed, struct str bytes);
uint64_t frame_hash(struct str bytes); /* XXH3-64, whole */

#endif
