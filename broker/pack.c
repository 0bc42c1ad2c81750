#include "broker/pack.h"

#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/frame.h"

void
pack_begin(struct buf *b)
{
    static const char zeros[PACK_HEAD];
    buf_put(b, zeros, sizeof zeros);
}

void
pack_put(struct buf *b, const struct pack_entry *n)
{
    CHECK(n->origin.n <= PACK_ORIGIN_MAX);
    char entry[PACK_ENTRY] = {0};
    put_le32(entry, n->xid);
    entry[4] = (char)n->kind;
    entry[5] = (char)n->origin.n;
    put_le64(entry + 8, n->first);
    put_le64(entry + 16, n->count);
    put_le64(entry + 24, n->lsn);
    put_le64(entry + 32, n->end_lsn);
    put_le64(entry + 40, (uint64_t)n->ts_us);
    put_le64(entry + 48, n->bytes_before);
    buf_put(b, entry, sizeof entry);
    buf_put_str(b, n->origin);
}

static uint32_t
pack_check(uint64_t first, struct str value)
{
    uint32_t head = frame_sum((uint32_t)first, (struct str){value.p, 4});
    return frame_sum(head, (struct str){value.p + 8, value.n - 8});
}

void
pack_end(struct buf *b, uint64_t first, uint32_t count, int64_t max_ts_before)
{
    CHECK(buf_ok(b) && b->n >= PACK_HEAD);
    put_le32(b->p, count);
    put_le64(b->p + 8, (uint64_t)max_ts_before);
    put_le32(b->p + 4, pack_check(first, buf_str(b)));
}

bool
pack_open(struct pack *p, uint64_t first, struct str value)
{
    if (value.n < PACK_HEAD || get_le32(value.p + 4) != pack_check(first, value)) {
        return false;
    }
    *p = (struct pack){
        .first = first,
        .left = get_le32(value.p),
        .max_ts_us = (int64_t)get_le64(value.p + 8),
        .rest = {value.p + PACK_HEAD, value.n - PACK_HEAD},
    };
    return true;
}

bool
pack_next(struct pack *p, struct pack_entry *ret)
{
    if (p->left == 0 || p->is_bad) {
        p->is_bad = p->is_bad || p->rest.n != 0;
        return false;
    }
    const char *at = p->rest.p;
    size_t origin = p->rest.n >= PACK_ENTRY ? (uint8_t)at[5] : 0;
    if (p->rest.n < PACK_ENTRY + origin) {
        p->is_bad = true;
        return false;
    }
    int64_t ts_us = (int64_t)get_le64(at + 40);
    p->max_ts_us = ts_us > p->max_ts_us ? ts_us : p->max_ts_us;
    *ret = (struct pack_entry){
        .first = get_le64(at + 8),
        .count = get_le64(at + 16),
        .lsn = get_le64(at + 24),
        .end_lsn = get_le64(at + 32),
        .ts_us = ts_us,
        .max_ts_us = p->max_ts_us,
        .bytes_before = get_le64(at + 48),
        .xid = get_le32(at),
        .kind = (uint8_t)at[4],
        .origin = {at + PACK_ENTRY, origin},
    };
    p->rest = (struct str){at + PACK_ENTRY + origin, p->rest.n - PACK_ENTRY - origin};
    p->left--;
    return true;
}
