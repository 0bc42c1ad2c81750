/* batch: what a reader fetches from the broker: schemas, transactions and record frames in log
 * order, one msgpack document. Written by the broker, read by sink workers and `tail`. Pure.
 *
 *   header  [BATCH_VERSION, next_offset, tail_offset, epoch]
 *   items   ["s", schema_id, bin encoding]                 before the first record that uses it
 *           ["t", [kind, xid, lsn, end_lsn, ts_us, first_offset, count, epoch, origin|nil]]
 *           ["r", offset, bin frame]                       of the transaction before it
 *   end     nil    (a batch without it was cut off)
 */
#ifndef ONESLOT_PROTO_BATCH_H
#define ONESLOT_PROTO_BATCH_H

#include "proto/base/buf.h"
#include "proto/base/mp.h"
#include "proto/record.h"

enum { BATCH_VERSION = 1 };

struct batch_header {
    uint64_t next_offset; /* where the next fetch begins (past what the filter left out too) */
    uint64_t tail_offset; /* the first offset not yet visible when this was made */
    uint64_t epoch;
};

/* The header comes last into a place kept for it: begin, items, end. */
struct batch_writer {
    struct buf *b;
    size_t header_at;
    uint64_t txn_first; /* transaction last written, UINT64_MAX none */
    uint32_t schema_last;
    struct buf seen; /* sorted uint32_t: schema ids written */
};
/* b is borrowed until batch_end, and has room for an empty batch (BATCH_EMPTY bytes) below its
 * limit. */
enum { BATCH_EMPTY = 30 };
void batch_begin(struct batch_writer *w, struct buf *b);
/* False when this record would pass b's limit: nothing of it is written; end the batch (if it
 * is the first record, b is too small for it). s is NULL for messages. Offsets increase within
 * a batch. */
bool batch_add(struct batch_writer *w, const struct record_txn *t, const struct schema *s,
    uint64_t offset, struct str whole_frame);
/* Completes the batch and releases what w holds; call it for every batch begun. */
void batch_end(struct batch_writer *w, const struct batch_header *h);

struct batch_reader {
    struct mp m;
    struct batch_header header;
    struct record_txn txn;
    struct schema **schemas; /* decoded, owned */
    size_t nschemas;
    struct record_decoder decoder;
    uint64_t next_offset; /* the least that the next record may have */
    struct str frame;     /* the whole frame of the record that batch_next returned last */
    bool is_end;
};
/* ERR_CORRUPT, ERR_NEWER; on failure nothing needs closing. bytes are borrowed until
 * batch_close. */
int batch_open(struct batch_reader *r, struct str bytes, struct err *e) MUST_CHECK;
/* 1: *ret is the next record (views into bytes; valid until the next call); 0: the end; < 0
 * ERR_CORRUPT, as for a batch that was cut off. Checksums are verified. */
int batch_next(struct batch_reader *r, struct record *ret, struct err *e) MUST_CHECK;
void batch_close(struct batch_reader *r);

#endif
