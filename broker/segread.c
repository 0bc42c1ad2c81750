/* segread: reading a segment: records in order, and transactions by offset, LSN and time.
 * Everything that comes from the file is checked before it is believed; what does not fit is
 * ERR_CORRUPT with segment and offset (P7, P8). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "broker/pack.h"
#include "broker/segment.h"
#include "broker/squeeze.h"
#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/base/cleanup.h"
#include "proto/base/xmalloc.h"

static int
corrupt(const struct segment *sg, uint64_t offset, const char *what, struct err *e)
{
    return err_set(e, ERR_CORRUPT,
        "segment %s is damaged at offset %" PRIu64
        ": %s; restore this segment from a backup (nothing was skipped)",
        sg->path, offset, what);
}

static int
open_checked(struct segment *sg, const struct store_conf *c, struct err *e)
{
    struct store *st;
    int rc = store_open(c, &st, e);
    if (rc != 0) {
        return rc;
    }
    rc = segment_check_opened(sg, st, e);
    if (rc != 0) {
        store_close(st);
        return rc;
    }
    sg->st = st;
    return 0;
}

/* Opens the environment of a sealed segment when it is not open; leaves sg->lock held for
 * reading on success. */
static int
read_lock(struct segment *sg, struct err *e)
{
    for (;;) {
        (void)pthread_rwlock_rdlock(&sg->lock);
        if (sg->st != NULL) {
            return 0;
        }
        (void)pthread_rwlock_unlock(&sg->lock);
        (void)pthread_rwlock_wrlock(&sg->lock);
        int rc = 0;
        if (sg->st == NULL) {
            struct store_conf c = {
                .path = sg->path, .is_sealed = true, .tables = {"m", "r", "t", "s"}};
            rc = open_checked(sg, &c, e);
        }
        (void)pthread_rwlock_unlock(&sg->lock);
        if (rc != 0) {
            return rc;
        }
    }
}

static void
read_unlock(struct segment *sg)
{
    (void)pthread_rwlock_unlock(&sg->lock);
}

/* ---- transactions ---- */

/* The pack at the cursor's answer; 1, or an error. */
static int
open_pack(struct segment *sg, struct str key, struct str value, struct pack *ret, struct err *e)
{
    if (key.n != 8) {
        return corrupt(sg, sg->head.base, "a transaction key of a wrong size", e);
    }
    uint64_t rel = get_be64(key.p);
    if (!pack_open(ret, rel, value)) {
        return corrupt(sg, sg->head.base + rel, "its transaction entry fails its checksum", e);
    }
    return 1;
}

static int
seek_pack(
    struct segment *sg, struct store_cursor *c, uint64_t rel, struct pack *ret, struct err *e)
{
    char key[8];
    segment_key(key, rel);
    struct str k;
    struct str v;
    int rc = store_cursor_seek(c, STORE_AT_OR_BEFORE, (struct str){key, sizeof key}, &k, &v, e);
    return rc == 1 ? open_pack(sg, k, v, ret, e) : rc;
}

static void
place_of(const struct segment *sg, const struct pack_entry *n, struct segment_place *ret)
{
    *ret = (struct segment_place){
        .first_offset = sg->head.base + n->first,
        .count = n->count,
        .lsn = n->lsn,
        .end_lsn = n->end_lsn,
        .ts_us = n->ts_us,
        .bytes_before = n->bytes_before,
    };
}

/* A question to the transactions, monotone in log order: false for a first stretch, true behind
 * it. */
struct question {
    bool by_time;
    uint64_t lsn;
    int64_t ts_us;
};

static bool
answers(const struct question *q, const struct pack_entry *n)
{
    return q->by_time ? n->max_ts_us >= q->ts_us : n->lsn >= q->lsn;
}

/* Binary search over offsets (which are dense) for the first transaction that answers.
 * Invariant: every transaction before lo answers no; *ret, once found, is the first known to
 * answer yes, at hi. */
static int
find_first(struct segment *sg, struct store_cursor *c, uint64_t end_rel,
    const struct question *q, struct segment_place *ret, struct err *e)
{
    uint64_t lo = 0;
    uint64_t hi = end_rel;
    int found = 0;
    while (lo < hi) {
        struct pack p;
        int rc = seek_pack(sg, c, lo + (hi - lo) / 2, &p, e);
        if (rc < 0) {
            return rc;
        }
        if (rc == 0) {
            return corrupt(sg, sg->head.base + lo, "its transaction is missing", e);
        }
        uint64_t pack_first = p.first;
        struct pack_entry n = {0};
        bool yes = false;
        while (!yes && pack_next(&p, &n)) {
            yes = answers(q, &n);
        }
        if (p.is_bad || n.first + n.count <= lo) {
            return corrupt(
                sg, sg->head.base + pack_first, "its transaction entry is malformed", e);
        }
        if (!yes) {
            lo = n.first + n.count;
            continue;
        }
        /* Inside the pack: an earlier entry said no, so this is the first. At its start: look
         * further left. */
        place_of(sg, &n, ret);
        found = 1;
        if (n.first != pack_first) {
            return found;
        }
        hi = n.first;
    }
    return found;
}

typedef int with_txns_f(struct segment *sg, struct store_cursor *c, const void *arg,
    struct segment_place *ret, struct err *e);

static int
with_txns(struct segment *sg, with_txns_f *fn, const void *arg, struct segment_place *ret,
    struct err *e)
{
    int rc = read_lock(sg, e);
    if (rc != 0) {
        return rc;
    }
    {
        auto_store_txn struct store_txn *txn = NULL;
        auto_store_cursor struct store_cursor *c = NULL;
        rc = store_begin(sg->st, false, &txn, e);
        if (rc == 0) {
            rc = store_cursor_open(txn, SEGMENT_TXNS, &c, e);
        }
        if (rc == 0) {
            rc = fn(sg, c, arg, ret, e);
        }
    }
    read_unlock(sg);
    return rc;
}

struct find_arg {
    uint64_t end_rel;
    struct question question;
};

static int
run_find(struct segment *sg, struct store_cursor *c, const void *arg, struct segment_place *ret,
    struct err *e)
{
    const struct find_arg *a = arg;
    return find_first(sg, c, a->end_rel, &a->question, ret, e);
}

int
segment_find_lsn(
    struct segment *sg, uint64_t next, uint64_t lsn, struct segment_place *ret, struct err *e)
{
    struct find_arg a = {.end_rel = next - sg->head.base, .question = {.lsn = lsn}};
    return with_txns(sg, run_find, &a, ret, e);
}

int
segment_find_ts(
    struct segment *sg, uint64_t next, int64_t ts_us, struct segment_place *ret, struct err *e)
{
    struct find_arg a = {
        .end_rel = next - sg->head.base, .question = {.by_time = true, .ts_us = ts_us}};
    return with_txns(sg, run_find, &a, ret, e);
}

static int
run_txn_at(struct segment *sg, struct store_cursor *c, const void *arg,
    struct segment_place *ret, struct err *e)
{
    uint64_t rel = *(const uint64_t *)arg;
    struct pack p;
    int rc = seek_pack(sg, c, rel, &p, e);
    if (rc != 1) {
        return rc;
    }
    struct pack_entry n;
    while (pack_next(&p, &n)) {
        if (rel - n.first < n.count) {
            place_of(sg, &n, ret);
            return 1;
        }
    }
    return p.is_bad ? corrupt(sg, sg->head.base + rel, "its transaction entry is malformed", e)
                    : 0;
}

int
segment_txn_at(struct segment *sg, uint64_t next, uint64_t offset, struct segment_place *ret,
    struct err *e)
{
    if (offset < sg->head.base || offset >= next) {
        return 0;
    }
    uint64_t rel = offset - sg->head.base;
    return with_txns(sg, run_txn_at, &rel, ret, e);
}

/* ---- records ---- */

/* One call of segment_scan: two cursors walking in step, and what they stand on. */
struct scan {
    struct segment *sg;
    struct schemas *sc;
    struct store_txn *txn;
    struct store_cursor *records, *txns;
    uint64_t at;    /* the next offset to hand out */
    uint64_t until; /* the first one not to */
    struct pack pack;
    struct record_txn t; /* of `at`, once found */
    bool has_txn;
    struct schema *schema; /* last used, referenced */
    struct buf unpacked;   /* a decompressed block, or a large record put together */
    segment_record_f *fn;
    void *arg;
};

static void
fill_txn(struct scan *s, const struct pack_entry *n)
{
    s->t = (struct record_txn){
        .first_offset = s->sg->head.base + n->first,
        .count = n->count,
        .epoch = s->sg->head.epoch,
        .lsn = n->lsn,
        .end_lsn = n->end_lsn,
        .ts_us = n->ts_us,
        .xid = n->xid,
        .kind = n->kind,
        .origin = n->origin,
    };
    s->has_txn = true;
}

/* Moves s->t on to the transaction of s->at. */
static int
find_txn(struct scan *s, struct err *e)
{
    if (s->has_txn && s->at - s->t.first_offset < s->t.count) {
        return 0;
    }
    uint64_t rel = s->at - s->sg->head.base;
    bool is_fresh = !s->has_txn;
    int rc = is_fresh ? seek_pack(s->sg, s->txns, rel, &s->pack, e) : 1;
    while (rc == 1) {
        struct pack_entry n;
        while (pack_next(&s->pack, &n)) {
            if (rel - n.first < n.count) {
                fill_txn(s, &n);
                return 0;
            }
        }
        if (s->pack.is_bad) {
            break;
        }
        struct str k;
        struct str v;
        rc = store_cursor_next(s->txns, &k, &v, e);
        if (rc == 1) {
            rc = open_pack(s->sg, k, v, &s->pack, e);
        }
        if (rc == 1 && s->pack.first > rel) {
            break;
        }
    }
    return rc < 0 ? rc : corrupt(s->sg, s->at, "its transaction is missing", e);
}

/* A schema as stored: check u32 | encoding. */
static int
load_schema(struct scan *s, uint32_t id, struct err *e)
{
    s->schema = schemas_get(s->sc, id);
    if (s->schema != NULL) {
        return 0;
    }
    char key[4];
    put_be32(key, id);
    struct str v;
    int rc = store_get(s->txn, SEGMENT_SCHEMAS, (struct str){key, sizeof key}, &v, e);
    if (rc == ERR_NOTFOUND) {
        return corrupt(s->sg, s->at, "its table's schema is missing", e);
    }
    if (rc != 0) {
        return rc;
    }
    if (v.n < 4 || get_le32(v.p) != frame_sum(id, (struct str){v.p + 4, v.n - 4})) {
        return corrupt(s->sg, s->at, "its table's schema fails its checksum", e);
    }
    return schemas_put(s->sc, id, (struct str){v.p + 4, v.n - 4}, &s->schema, e);
}

static int
find_schema(struct scan *s, uint32_t id, struct err *e)
{
    if (s->schema != NULL && s->schema->id == id) {
        return 0;
    }
    schema_unref(s->schema);
    s->schema = NULL;
    return id == 0 ? 0 : load_schema(s, id, e);
}

static int
hand_out(struct scan *s, struct str whole, const struct frame *f, struct err *e)
{
    int rc = find_txn(s, e);
    if (rc == 0) {
        rc = find_schema(s, f->schema_id, e);
    }
    if (rc == 0) {
        rc = s->fn(s->arg, &s->t, s->schema, s->at, whole, e);
    }
    if (rc == 0) {
        s->at++;
    }
    return rc;
}

/* The frames of one block whose first record has the offset `first`; those below s->at are
 * passed over. */
static int
scan_frames(struct scan *s, uint64_t first, uint32_t count, struct str bytes, struct err *e)
{
    size_t at = 0;
    for (uint64_t offset = first; offset - first < count; offset++) {
        if (offset == s->until) {
            return SEGMENT_STOP;
        }
        size_t start = at;
        struct frame f;
        bool is_wanted = offset >= s->at;
        struct err why;
        int rc = frame_next(bytes, &at, is_wanted, &f, &why);
        if (rc != 0) {
            return corrupt(s->sg, offset, "the record fails its checksum", e);
        }
        if (!is_wanted) {
            continue;
        }
        rc = hand_out(s, (struct str){bytes.p + start, at - start}, &f, e);
        if (rc != 0) {
            return rc;
        }
    }
    return at == bytes.n ? 0
                         : corrupt(s->sg, first + count,
                               "its block has bytes that belong to no record", e);
}

/* Reads a block's head; the check covers what `codec` says. */
static int
open_block(
    struct scan *s, uint64_t rel, struct str value, struct segment_block *ret, struct err *e)
{
    if (value.n >= SEGMENT_BLOCK_HEAD) {
        *ret = (struct segment_block){
            .count = get_le32(value.p),
            .raw = get_le32(value.p + 4),
            .codec = (uint8_t)value.p[8],
            .kind = (uint8_t)value.p[9],
            .stored = {value.p + SEGMENT_BLOCK_HEAD, value.n - SEGMENT_BLOCK_HEAD},
        };
        char head[SEGMENT_BLOCK_HEAD];
        segment_put_block_head(head, rel, ret);
        if (memcmp(head, value.p, SEGMENT_BLOCK_HEAD) == 0) {
            return 0;
        }
    }
    return corrupt(s->sg, s->sg->head.base + rel, "its block fails its checksum", e);
}

/* Appends the frames of a block, unpacked, to s->unpacked. */
static int
unpack(struct scan *s, uint64_t rel, const struct segment_block *b, struct err *e)
{
    if (b->codec == SEGMENT_RAW) {
        buf_put_str(&s->unpacked, b->stored);
        return 0;
    }
    char *to = buf_room(&s->unpacked, b->raw);
    if (b->codec != SEGMENT_ZSTD || to == NULL || !squeeze_unpack(to, b->raw, b->stored)) {
        return corrupt(s->sg, s->sg->head.base + rel, "its block cannot be unpacked", e);
    }
    s->unpacked.n += b->raw;
    return 0;
}

/* A record in parts: the first is at the cursor; the others follow under keys of 12 bytes. */
static int
scan_parts(struct scan *s, uint64_t rel, struct segment_block *b, struct err *e)
{
    int rc = unpack(s, rel, b, e);
    if (rc != 0) {
        return rc;
    }
    if (s->unpacked.n < FRAME_HEADER) {
        return corrupt(s->sg, s->sg->head.base + rel, "its first part is too short", e);
    }
    size_t whole = FRAME_HEADER + (size_t)get_le32(s->unpacked.p);
    for (uint32_t part = 1; s->unpacked.n < whole; part++) {
        struct str k;
        struct str v;
        rc = store_cursor_next(s->records, &k, &v, e);
        if (rc < 0) {
            return rc;
        }
        if (rc == 0 || k.n != 12 || get_be64(k.p) != rel || get_be32(k.p + 8) != part) {
            return corrupt(s->sg, s->sg->head.base + rel, "a part of it is missing", e);
        }
        rc = open_block(s, rel + part, v, b, e);
        if (rc == 0) {
            rc = unpack(s, rel, b, e);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return scan_frames(s, s->sg->head.base + rel, 1, buf_str(&s->unpacked), e);
}

static int
scan_block(struct scan *s, uint64_t rel, struct str value, struct err *e)
{
    struct segment_block b;
    int rc = open_block(s, rel, value, &b, e);
    if (rc != 0) {
        return rc;
    }
    buf_reset(&s->unpacked, SIZE_MAX);
    if (b.kind == SEGMENT_PART) {
        return scan_parts(s, rel, &b, e);
    }
    struct str frames = b.stored;
    if (b.codec != SEGMENT_RAW) {
        rc = unpack(s, rel, &b, e);
        frames = buf_str(&s->unpacked);
    }
    return rc == 0 ? scan_frames(s, s->sg->head.base + rel, b.count, frames, e) : rc;
}

static int
scan_blocks(struct scan *s, struct err *e)
{
    char key[8];
    segment_key(key, s->at - s->sg->head.base);
    struct str k;
    struct str v;
    int rc = store_cursor_seek(
        s->records, STORE_AT_OR_BEFORE, (struct str){key, sizeof key}, &k, &v, e);
    bool is_first = true;
    while (rc == 1) {
        /* The block found may begin before `at`; every later one begins exactly there. */
        uint64_t rel = k.n == 8 ? get_be64(k.p) : UINT64_MAX;
        uint64_t at_rel = s->at - s->sg->head.base;
        if (k.n != 8 || (is_first ? rel > at_rel : rel != at_rel)) {
            return corrupt(s->sg, s->at, "its block is missing", e);
        }
        is_first = false;
        rc = scan_block(s, rel, v, e);
        if (rc != 0 || s->at == s->until) {
            return rc;
        }
        rc = store_cursor_next(s->records, &k, &v, e);
    }
    return rc < 0 ? rc : corrupt(s->sg, s->at, "its block is missing", e);
}

int
segment_scan(struct segment *sg, struct schemas *sc, uint64_t *from, uint64_t until,
    segment_record_f *fn, void *arg, struct err *e)
{
    CHECK(*from >= sg->head.base);
    if (*from >= until) {
        return 0;
    }
    int rc = read_lock(sg, e);
    if (rc != 0) {
        return rc;
    }
    struct scan s = {.sg = sg, .sc = sc, .at = *from, .until = until, .fn = fn, .arg = arg};
    buf_init(&s.unpacked, (size_t)FRAME_HEADER + FRAME_MAX_PAYLOAD + SEGMENT_PART_BYTES);
    rc = store_begin(sg->st, false, &s.txn, e);
    if (rc == 0) {
        rc = store_cursor_open(s.txn, SEGMENT_RECORDS, &s.records, e);
    }
    if (rc == 0) {
        rc = store_cursor_open(s.txn, SEGMENT_TXNS, &s.txns, e);
    }
    if (rc == 0) {
        rc = scan_blocks(&s, e);
    }
    store_cursor_close(s.records);
    store_cursor_close(s.txns);
    store_abort(s.txn);
    read_unlock(sg);
    schema_unref(s.schema);
    buf_fini(&s.unpacked);
    *from = s.at;
    return rc == SEGMENT_STOP ? 0 : rc;
}

void
segment_put_block_head(char to[SEGMENT_BLOCK_HEAD], uint64_t rel, const struct segment_block *b)
{
    memset(to, 0, SEGMENT_BLOCK_HEAD);
    put_le32(to, b->count);
    put_le32(to + 4, b->raw);
    to[8] = (char)b->codec;
    to[9] = (char)b->kind;
    uint32_t check = frame_sum((uint32_t)rel, (struct str){to, 12});
    if (b->codec != SEGMENT_RAW) {
        check = frame_sum(check, b->stored);
    }
    put_le32(to + 12, check);
}
