/* record: a change as a reader sees it: a decoded frame with its schema and its place. All
 * strings are views into the frame's bytes. Pure. */
#ifndef ONESLOT_PROTO_RECORD_H
#define ONESLOT_PROTO_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/frame.h"
#include "proto/schema.h"

enum record_value_kind { RECORD_ABSENT = 0, RECORD_NULL, RECORD_TEXT, RECORD_UNCHANGED };

struct record_value {
    enum record_value_kind kind;
    struct str text;
};

struct record_txn { /* the entry of a record's transaction */
    uint64_t first_offset;
    uint64_t count;
    uint64_t epoch;
    uint64_t lsn, end_lsn;
    int64_t ts_us;
    uint32_t xid;
    uint8_t kind; /* enum frame_txn_kind */
    struct str origin;
};

struct record {
    uint64_t offset;
    uint64_t seq; /* offset - txn->first_offset */
    const struct record_txn *txn;
    const struct schema *schema; /* NULL for messages */
    uint8_t op, flags;           /* enum frame_op, enum frame_flags */
    /* schema->ncols values each, in `values` of the decoder; NULL where the op has none: */
    const struct record_value *new_row;
    const struct record_value *old_row;
    struct str prefix, content; /* messages */
};

/* Reusable storage for one decoded record. */
struct record_decoder {
    struct record_value *values; /* 2 * SCHEMA_MAX_COLS, allocated on first use */
};
void record_decoder_fini(struct record_decoder *d);

/* Fills ret; views stay valid as long as the frame's bytes, values until the next call with the
 * same d. schema must be the frame's (NULL only for messages). ERR_CORRUPT when payload and
 * schema do not fit. */
int record_decode(struct record_decoder *d, const struct frame *f, const struct schema *schema,
    const struct record_txn *txn, uint64_t offset, struct record *ret,
    struct err *e) MUST_CHECK;

const char *record_op_name(uint8_t op); /* "insert", ... */
bool record_op_parse(struct str name, uint8_t *ret_op);

#endif
