/* pack: a value of a segment's transaction table: the entries of transactions that became
 * visible together. Pure.
 *
 *   count u32 | check u32 | max_ts_before i64 | count times:
 *   xid u32 | kind u8 | origin length u8 | zero u16 | first u64 | records u64 | lsn u64 |
 * end_lsn u64 | ts_us i64 | bytes_before u64 | origin
 *
 * Keyed by `first` of its first entry (u64 be). first is relative to the segment's base; check
 * is XXH3 over all that follows it, seeded with the low half of the key. */
#ifndef ONESLOT_BROKER_PACK_H
#define ONESLOT_BROKER_PACK_H

#include "proto/base/buf.h"
#include "proto/base/str.h"

enum { PACK_HEAD = 16, PACK_ENTRY = 56, PACK_ORIGIN_MAX = 255 };

struct pack_entry {
    uint64_t first, count; /* first record, relative; how many */
    uint64_t lsn, end_lsn;
    int64_t ts_us;
    int64_t max_ts_us;     /* derived: the largest up to and with this one */
    uint64_t bytes_before; /* of frames in the segment before its first record */
    uint32_t xid;
    uint8_t kind;
    struct str origin; /* at most PACK_ORIGIN_MAX bytes */
};

/* Writing: room for the head, entries, then the head. */
void pack_begin(struct buf *b);
void pack_put(struct buf *b, const struct pack_entry *n);
void pack_end(struct buf *b, uint64_t first, uint32_t count, int64_t max_ts_before);

/* Reading: views into value. */
struct pack {
    uint64_t first;
    uint32_t left;
    int64_t max_ts_us;
    struct str rest;
    bool is_bad; /* entries do not fill the value exactly: a bug of the writer, since the check
                    was right */
};
bool pack_open(struct pack *p, uint64_t first,
    struct str value); /* false: too short, or its check fails */
bool pack_next(struct pack *p, struct pack_entry *ret);

#endif
