/* frame: see frame.h for the layout. Owns the checksum and the sense of a header; knows nothing
 * about rows. The only includer of xxhash.h, inlined: most frames are a few hundred bytes,
 * where the call would show. */
#include "proto/frame.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/base/mp.h"

enum { AT_CHECK = 4, AT_OP = 8, AT_FLAGS = 9, AT_ZERO = 10, AT_SCHEMA = 12 };

/* What a header of each op may say. */
struct op_rule {
    uint8_t flag_sets; /* bit n: flags == n is allowed; 0: no such op */
    bool has_schema;
};

enum {
    NO_FLAGS = 1 << 0,
    ONE_FLAG = 1 << 1,
    OTHER_FLAG = 1 << 2,
    BOTH_FLAGS = 1 << 3,
    FLAG_LIMIT = 4
};

static const struct op_rule record_rules[] = {
    [FRAME_INSERT] = {NO_FLAGS, true},
    [FRAME_UPDATE] = {NO_FLAGS | ONE_FLAG | OTHER_FLAG, true},
    [FRAME_DELETE] = {ONE_FLAG | OTHER_FLAG, true},
    [FRAME_TRUNCATE] = {NO_FLAGS | ONE_FLAG | OTHER_FLAG | BOTH_FLAGS, true},
    [FRAME_READ] = {NO_FLAGS, true},
    [FRAME_MESSAGE] = {NO_FLAGS | ONE_FLAG, false},
};

static const struct op_rule control_rules[] = {
    [FRAME_SCHEMA - FRAME_SCHEMA] = {NO_FLAGS, true},
    [FRAME_BEGIN - FRAME_SCHEMA] = {NO_FLAGS, false},
    [FRAME_COMMIT - FRAME_SCHEMA] = {NO_FLAGS, false},
    [FRAME_IDLE - FRAME_SCHEMA] = {NO_FLAGS, false},
};

static inline struct op_rule
rule_of(uint8_t op)
{
    if (op < sizeof record_rules / sizeof record_rules[0]) {
        return record_rules[op];
    }
    if (op >= FRAME_SCHEMA && op <= FRAME_IDLE) {
        return control_rules[op - FRAME_SCHEMA];
    }
    return (struct op_rule){0, false};
}

bool
frame_is_record(uint8_t op)
{
    return op >= FRAME_INSERT && op <= FRAME_MESSAGE;
}

size_t
frame_begin(struct buf *b, uint8_t op, uint8_t flags, uint32_t schema_id)
{
    size_t start = b->n;
    char *to = buf_room(b, FRAME_HEADER);
    if (to == NULL) {
        return start;
    }
    memset(to, 0, FRAME_HEADER);
    to[AT_OP] = (char)op;
    to[AT_FLAGS] = (char)flags;
    put_le32(to + AT_SCHEMA, schema_id);
    b->n += FRAME_HEADER;
    return start;
}

static inline uint32_t
check_of(const char *frame, size_t payload)
{
    return (uint32_t)XXH3_64bits(frame + AT_OP, FRAME_HEADER - AT_OP + payload);
}

void
frame_end(struct buf *b, size_t start)
{
    if (b->failed) {
        return;
    }
    CHECK(start <= b->n && b->n - start >= FRAME_HEADER);
    size_t payload = b->n - start - FRAME_HEADER;
    if (payload > FRAME_MAX_PAYLOAD) {
        b->failed = true;
        return;
    }
    put_le32(b->p + start, (uint32_t)payload);
    put_le32(b->p + start + AT_CHECK, check_of(b->p + start, payload));
}

/* A whole header at from: the payload's length is within limit and it makes sense. */
static int
check_header(const char *from, size_t limit, struct err *e)
{
    uint8_t op = (uint8_t)from[AT_OP], flags = (uint8_t)from[AT_FLAGS];
    if (get_le32(from) > limit) {
        return err_set(e, ERR_CORRUPT,
            "a record frame ends too early: %u bytes announced, %zu there", get_le32(from),
            limit);
    }
    struct op_rule rule = rule_of(op);
    if (flags >= FLAG_LIMIT || ((unsigned)rule.flag_sets >> flags & 1u) == 0) {
        return err_set(e, ERR_CORRUPT,
            "a record frame has the unknown operation %u with flags %u", op, flags);
    }
    if (get_le16(from + AT_ZERO) != 0 || (get_le32(from + AT_SCHEMA) != 0) != rule.has_schema) {
        return err_set(e, ERR_CORRUPT, "a record frame's header is damaged (operation %u)", op);
    }
    return 0;
}

int
frame_next(struct str bytes, size_t *at, bool verify, struct frame *ret, struct err *e)
{
    CHECK(*at <= bytes.n);
    size_t left = bytes.n - *at;
    if (left == 0) {
        return err_set(e, ERR_SHORT, "no more record frames");
    }
    if (left < FRAME_HEADER) {
        return err_set(
            e, ERR_CORRUPT, "a record frame ends within its header, after %zu bytes", left);
    }
    const char *from = bytes.p + *at;
    size_t limit = left - FRAME_HEADER;
    int rc = check_header(from, limit < FRAME_MAX_PAYLOAD ? limit : FRAME_MAX_PAYLOAD, e);
    if (rc != 0) {
        return rc;
    }
    uint32_t payload = get_le32(from);
    if (verify && check_of(from, payload) != get_le32(from + AT_CHECK)) {
        return err_set(
            e, ERR_CORRUPT, "a record frame of %u bytes does not match its checksum", payload);
    }
    *ret = (struct frame){.op = (uint8_t)from[AT_OP],
        .flags = (uint8_t)from[AT_FLAGS],
        .schema_id = get_le32(from + AT_SCHEMA),
        .payload = {.p = from + FRAME_HEADER, .n = payload}};
    *at += FRAME_HEADER + (size_t)payload;
    return 0;
}

uint32_t
frame_sum(uint32_t seed, struct str bytes)
{
    return (uint32_t)XXH3_64bits_withSeed(bytes.p, bytes.n, seed);
}

uint64_t
frame_hash(struct str bytes)
{
    return XXH3_64bits(bytes.p, bytes.n);
}

/* ---- control frames ---- */

static void
put_head(struct buf *b, uint32_t fields, uint8_t kind, uint32_t xid, uint64_t lsn)
{
    mp_put_array(b, fields);
    mp_put_u64(b, kind);
    mp_put_u64(b, xid);
    mp_put_u64(b, lsn);
}

/* Reads what put_head wrote; false when it makes no sense. */
static bool
get_head(struct mp *m, uint32_t fields, struct frame_begin_txn *to)
{
    if (mp_array(m) != fields) {
        return false;
    }
    uint64_t kind = mp_u64(m), xid = mp_u64(m);
    to->lsn = mp_u64(m);
    if (m->failed || kind > FRAME_TXN_READ || xid > (kind == FRAME_TXN_XACT ? UINT32_MAX : 0)) {
        return false;
    }
    to->kind = (uint8_t)kind;
    to->xid = (uint32_t)xid;
    return true;
}

void
frame_put_begin(struct buf *b, const struct frame_begin_txn *t)
{
    size_t start = frame_begin(b, FRAME_BEGIN, 0, 0);
    put_head(b, 3, t->kind, t->xid, t->lsn);
    frame_end(b, start);
}

int
frame_get_begin(const struct frame *f, struct frame_begin_txn *ret, struct err *e)
{
    CHECK(f->op == FRAME_BEGIN);
    struct mp m;
    struct frame_begin_txn t = {0};
    mp_init(&m, f->payload);
    if (!get_head(&m, 3, &t) || !mp_done(&m)) {
        return err_set(e, ERR_CORRUPT, "the begin of a transaction is damaged");
    }
    *ret = t;
    return 0;
}

void
frame_put_commit(struct buf *b, const struct frame_commit *c)
{
    size_t start = frame_begin(b, FRAME_COMMIT, 0, 0);
    put_head(b, 6, c->kind, c->xid, c->lsn);
    mp_put_u64(b, c->end_lsn);
    mp_put_i64(b, c->ts_us);
    if (c->origin.n == 0) {
        mp_put_nil(b);
    } else {
        mp_put_str(b, c->origin);
    }
    frame_end(b, start);
}

int
frame_get_commit(const struct frame *f, struct frame_commit *ret, struct err *e)
{
    CHECK(f->op == FRAME_COMMIT);
    struct mp m;
    struct frame_begin_txn t = {0};
    mp_init(&m, f->payload);
    bool is_ok = get_head(&m, 6, &t);
    struct frame_commit c = {.kind = t.kind, .xid = t.xid, .lsn = t.lsn};
    c.end_lsn = mp_u64(&m);
    c.ts_us = mp_i64(&m);
    if (!mp_nil(&m)) {
        c.origin = mp_str(&m);
    }
    if (!is_ok || !mp_done(&m)) {
        return err_set(e, ERR_CORRUPT, "the commit of a transaction is damaged");
    }
    *ret = c;
    return 0;
}

void
frame_put_idle(struct buf *b, uint64_t lsn)
{
    size_t start = frame_begin(b, FRAME_IDLE, 0, 0);
    mp_put_array(b, 1);
    mp_put_u64(b, lsn);
    frame_end(b, start);
}

int
frame_get_idle(const struct frame *f, uint64_t *ret_lsn, struct err *e)
{
    CHECK(f->op == FRAME_IDLE);
    struct mp m;
    mp_init(&m, f->payload);
    uint32_t fields = mp_array(&m);
    uint64_t lsn = mp_u64(&m);
    if (fields != 1 || !mp_done(&m)) {
        return err_set(e, ERR_CORRUPT, "a keepalive frame is damaged");
    }
    *ret_lsn = lsn;
    return 0;
}
