/* pgoutput: see pgoutput.h. Owns the wire layout, and promises that nothing it did not find in
 * the bytes comes out as a value. Must not know what a transaction, a table's history or the
 * log is: whether a message may come at this place (other than in or out of a stream block) is
 * the caller's business.
 *
 * All integers in network order; str ends with a NUL; lsn u64; ts i64, us since 2000; xid, oid
 * u32.
 *
 *   CopyData, from the server
 *     w  start lsn, end lsn, clock ts, one message below          XLogData
 *     k  end lsn, clock ts, reply u8 (0, 1)                       keepalive
 *   CopyData, to the server
 *     r  write lsn, flush lsn, apply lsn, clock ts, reply u8      standby status update
 *
 *   B  commit lsn, ts, xid                                        Begin
 *   C  flags u8 = 0, commit lsn, end lsn, ts                      Commit
 *   O  lsn (may be 0), name str                                   Origin
 *   R  [xid] oid, namespace str, name str, identity d|n|f|i,      Relation
 *      n i16, n * {flags u8 (1 key), name str, type oid, typmod i32}
 *   Y  [xid] oid, namespace str, name str                         Type
 *   I  [xid] oid, N tuple                                         Insert
 *   U  [xid] oid, (K tuple | O tuple)?, N tuple                   Update
 *   D  [xid] oid, (K tuple | O tuple)                             Delete
 *   T  [xid] n i32, options u8 (1 cascade, 2 restart), n * oid    Truncate
 *   M  [xid] flags u8 (1 transactional), lsn, prefix str,         Message
 *      n i32, n bytes
 *   tuple = n i16, n * (n | u | t len i32 bytes | b len i32 bytes)
 *
 *   from protocol 2; [xid] above stands only inside a block S .. E
 *   S  xid, first u8 (0, 1)                                       Stream Start
 *   E                                                             Stream Stop
 *   c  xid, flags u8 = 0, commit lsn, end lsn, ts                 Stream Commit
 *   A  xid, subxid; protocol 4 parallel: abort lsn, ts            Stream Abort
 *   from protocol 3
 *   b  prepare lsn, end lsn, ts, xid, gid str                     Begin Prepare
 *   P  flags u8 = 0, prepare lsn, end lsn, ts, xid, gid str       Prepare
 *   K  flags u8 = 0, commit lsn, end lsn, ts, xid, gid str        Commit Prepared
 *   r  flags u8 = 0, prepare end lsn, rollback end lsn,           Rollback Prepared
 *      prepare ts, rollback ts, xid, gid str
 *   p  flags u8 = 0, prepare lsn, end lsn, ts, xid, gid str       Stream Prepare
 */
#include "replicator/pgoutput.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/base/xmalloc.h"

#define EPOCH_2000_US INT64_C(946684800000000)

/* ---- a cursor that fails once and for all ---- */

struct cursor {
    const char *start, *p, *end;
    const char *wrong; /* NULL: nothing yet; a static phrase */
    size_t wrong_at;
};

static void
fail_at(struct cursor *c, const char *where, const char *wrong)
{
    if (c->wrong == NULL) {
        c->wrong = wrong;
        c->wrong_at = (size_t)(where - c->start);
    }
    c->p = c->end; /* so that nothing more can be read */
}

/* n bytes, or NULL after a failure. */
static inline const char *
take(struct cursor *c, size_t n)
{
    if (__builtin_expect(n > (size_t)(c->end - c->p), 0)) {
        fail_at(c, c->p, "it ends too early");
        return NULL;
    }
    const char *p = c->p;
    c->p += n;
    return p;
}

static inline uint8_t
get_u8(struct cursor *c)
{
    const char *p = take(c, 1);
    return p == NULL ? 0 : (uint8_t)*p;
}

static inline uint16_t
get_u16(struct cursor *c)
{
    const char *p = take(c, 2);
    return p == NULL ? 0 : get_be16(p);
}

static inline uint32_t
get_u32(struct cursor *c)
{
    const char *p = take(c, 4);
    return p == NULL ? 0 : get_be32(p);
}

static uint64_t
get_u64(struct cursor *c)
{
    const char *p = take(c, 8);
    return p == NULL ? 0 : get_be64(p);
}

/* us since 1970 */
static int64_t
get_ts(struct cursor *c)
{
    const char *at = c->p;
    int64_t us = (int64_t)get_u64(c);
    if (us > INT64_MAX - EPOCH_2000_US) {
        fail_at(c, at, "a time is out of range");
        return 0;
    }
    return c->wrong != NULL ? 0 : us + EPOCH_2000_US;
}

static uint64_t
get_lsn(struct cursor *c)
{
    const char *at = c->p;
    uint64_t lsn = get_u64(c);
    if (lsn == 0) {
        fail_at(c, at, "an LSN is 0");
    }
    return lsn;
}

/* An oid or a transaction id. */
static inline uint32_t
get_id(struct cursor *c)
{
    const char *at = c->p;
    uint32_t id = get_u32(c);
    if (__builtin_expect(id == 0, 0)) {
        fail_at(c, at, "an oid or transaction id is 0");
    }
    return id;
}

/* A byte that may be 0..max. */
static uint8_t
get_flags(struct cursor *c, uint8_t max)
{
    const char *at = c->p;
    uint8_t flags = get_u8(c);
    if (flags > max) {
        fail_at(c, at, "it has unknown flags");
        return 0;
    }
    return flags;
}

static struct str
get_cstr(struct cursor *c)
{
    const char *p = c->p;
    const char *nul = p == c->end ? NULL : memchr(p, 0, (size_t)(c->end - p));
    if (nul == NULL) {
        fail_at(c, p, "a text does not end");
        return (struct str){.p = "", .n = 0};
    }
    c->p = nul + 1;
    return (struct str){.p = p, .n = (size_t)(nul - p)};
}

static struct str
get_name(struct cursor *c)
{
    const char *at = c->p;
    struct str name = get_cstr(c);
    if (name.n == 0) {
        fail_at(c, at, "a name is empty");
    }
    return name;
}

/* ---- tuples ---- */

/* One value with bytes; false after a failure. Apart from its loop so that the usual case stays
 * small. */
static inline bool
get_bytes(struct cursor *c, struct pgoutput_value *v)
{
    const char *p = c->p;
    size_t left = (size_t)(c->end - p);
    if (left < 4) {
        fail_at(c, p, "it ends too early");
        return false;
    }
    uint32_t n = get_be32(p);
    if (n > left - 4) {
        fail_at(c, p, "a value is longer than the message");
        return false;
    }
    v->p = p + 4;
    v->n = n;
    c->p = p + 4 + n;
    return true;
}

static bool
get_values(struct cursor *c, struct pgoutput_value *v, uint32_t ncols)
{
    for (const struct pgoutput_value *end = v + ncols; v < end; v++) {
        if (__builtin_expect(c->p == c->end, 0)) {
            fail_at(c, c->p, "it ends too early");
            return false;
        }
        v->kind = *c->p++;
        if (__builtin_expect(v->kind == PGOUTPUT_TEXT || v->kind == PGOUTPUT_BINARY, 1)) {
            if (!get_bytes(c, v)) {
                return false;
            }
        } else if (v->kind == PGOUTPUT_NULL || v->kind == PGOUTPUT_UNCHANGED) {
            v->p = NULL;
            v->n = 0;
        } else {
            fail_at(c, c->p - 1, "a value is of an unknown kind");
            return false;
        }
    }
    return true;
}

static void
get_tuple(struct cursor *c, struct pgoutput_value *v, struct pgoutput_tuple *ret)
{
    const char *at = c->p;
    uint32_t ncols = get_u16(c);
    if (ncols > PGOUTPUT_MAX_COLS) {
        fail_at(c, at, "a row has more than 1664 columns");
        return;
    }
    if (c->wrong == NULL && get_values(c, v, ncols)) {
        /* A message is at most 1 GiB (MaxAllocSize); pgoutput_decode refuses what does not fit.
         */
        *ret = (struct pgoutput_tuple){
            .v = v, .ncols = ncols, .wire_bytes = (uint32_t)(c->p - at)};
    }
}

static void
get_tag(struct cursor *c, uint8_t wanted)
{
    const char *at = c->p;
    if (get_u8(c) != wanted) {
        fail_at(c, at, "a row is marked as something unexpected");
    }
}

/* 'K' or 'O' and its tuple. */
static void
get_old(struct pgoutput_decoder *d, struct cursor *c, struct pgoutput_row *row)
{
    const char *at = c->p;
    row->old_tag = (char)get_u8(c);
    if (row->old_tag != 'K' && row->old_tag != 'O') {
        fail_at(c, at, "a row is marked as something unexpected");
        return;
    }
    get_tuple(c, d->values + PGOUTPUT_MAX_COLS, &row->old_row);
}

static void
get_new(struct pgoutput_decoder *d, struct cursor *c, struct pgoutput_row *row)
{
    get_tag(c, 'N');
    get_tuple(c, d->values, &row->new_row);
}

static void
get_row(struct pgoutput_decoder *d, struct cursor *c, struct pgoutput_msg *m)
{
    struct pgoutput_row *row = &m->row;
    *row = (struct pgoutput_row){.relid = get_id(c)};
    bool has_old = m->type == PGOUTPUT_DELETE ||
                   (m->type == PGOUTPUT_UPDATE && c->p < c->end && *c->p != 'N');
    if (has_old) {
        get_old(d, c, row);
    }
    if (m->type != PGOUTPUT_DELETE) {
        get_new(d, c, row);
    }
}

/* ---- what describes rows ---- */

static bool
get_column(struct cursor *c, struct pgoutput_column *col)
{
    col->is_key = get_flags(c, 1) != 0;
    col->name = get_name(c);
    col->typoid = get_id(c);
    col->typmod = (int32_t)get_u32(c);
    return c->wrong == NULL;
}

static void
get_relation(struct pgoutput_decoder *d, struct cursor *c, struct pgoutput_relation *r)
{
    r->relid = get_id(c);
    r->ns = get_cstr(c);
    r->name = get_name(c);
    const char *at = c->p;
    r->replident = (char)get_u8(c);
    if (memchr("dnfi", r->replident, 4) == NULL) {
        fail_at(c, at, "its replica identity is unknown");
    }
    at = c->p;
    r->ncols = get_u16(c);
    if (r->ncols > PGOUTPUT_MAX_COLS) {
        fail_at(c, at, "a table has more than 1664 columns");
    }
    r->cols = d->cols;
    for (uint32_t i = 0; c->wrong == NULL && i < r->ncols; i++) {
        if (!get_column(c, &d->cols[i])) {
            return;
        }
    }
}

static void
get_typ(struct cursor *c, struct pgoutput_typ *t)
{
    t->oid = get_id(c);
    t->ns = get_cstr(c);
    t->name = get_name(c);
}

static void
get_truncate(struct cursor *c, struct pgoutput_truncate *t)
{
    const char *at = c->p;
    t->n = get_u32(c);
    uint8_t options = get_flags(c, 3);
    if (t->n == 0 || t->n > (size_t)(c->end - c->p) / 4) {
        fail_at(c, at, "its number of tables is wrong");
        return;
    }
    t->is_cascade = (options & 1) != 0;
    t->restarts_identity = (options & 2) != 0;
    t->relids = c->p;
    for (uint32_t i = 0; i < t->n; i++) {
        (void)get_id(c);
    }
}

uint32_t
pgoutput_truncated(const struct pgoutput_truncate *t, uint32_t i)
{
    CHECK(i < t->n);
    return get_be32(t->relids + 4 * (size_t)i);
}

static void
get_message(struct cursor *c, struct pgoutput_message *m)
{
    m->is_transactional = get_flags(c, 1) != 0;
    m->lsn = get_lsn(c);
    m->prefix = get_cstr(c);
    uint32_t n = get_u32(c);
    const char *p = take(c, n);
    m->content = (struct str){.p = p, .n = p == NULL ? 0 : n};
}

/* ---- transactions ---- */

static void
get_begin(struct cursor *c, struct pgoutput_begin *b)
{
    b->commit_lsn = get_lsn(c);
    b->ts_us = get_ts(c);
    b->xid = get_id(c);
}

static void
get_commit(struct cursor *c, struct pgoutput_commit *m, bool has_xid)
{
    m->xid = has_xid ? get_id(c) : 0;
    (void)get_flags(c, 0);
    m->commit_lsn = get_lsn(c);
    m->end_lsn = get_lsn(c);
    m->ts_us = get_ts(c);
}

static void
get_origin(struct cursor *c, struct pgoutput_origin *o)
{
    o->lsn = get_u64(c);
    o->name = get_cstr(c);
}

static void
get_stream_start(struct cursor *c, struct pgoutput_stream_start *s)
{
    s->xid = get_id(c);
    s->is_first = get_flags(c, 1) != 0;
}

static void
get_stream_abort(struct cursor *c, struct pgoutput_stream_abort *a, bool has_lsn)
{
    *a = (struct pgoutput_stream_abort){.xid = get_id(c)};
    a->subxid = get_id(c);
    if (has_lsn) {
        a->lsn = get_lsn(c);
        a->ts_us = get_ts(c);
    }
}

static void
get_prepared(struct cursor *c, struct pgoutput_prepared *p, enum pgoutput_type type)
{
    if (type != PGOUTPUT_BEGIN_PREPARE) {
        (void)get_flags(c, 0);
    }
    p->lsn = get_lsn(c);
    p->end_lsn = get_lsn(c);
    p->ts_us = get_ts(c);
    p->rollback_ts_us = type == PGOUTPUT_ROLLBACK_PREPARED ? get_ts(c) : 0;
    p->xid = get_id(c);
    p->gid = get_cstr(c);
}

/* ---- messages ---- */

enum place { BAD = 0, OUTSIDE, INSIDE /* of a stream block */, ANYWHERE };

/* What may come, where, by which name. */
static const struct type_rule {
    const char *name;
    uint8_t place;  /* enum place */
    bool is_change; /* has an xid of its own in a stream block */
} rules[128] = {
    [PGOUTPUT_BEGIN] = {"Begin", OUTSIDE, false},
    [PGOUTPUT_COMMIT] = {"Commit", OUTSIDE, false},
    [PGOUTPUT_ORIGIN] = {"Origin", ANYWHERE, false},
    [PGOUTPUT_RELATION] = {"Relation", ANYWHERE, true},
    [PGOUTPUT_TYPE] = {"Type", ANYWHERE, true},
    [PGOUTPUT_INSERT] = {"Insert", ANYWHERE, true},
    [PGOUTPUT_UPDATE] = {"Update", ANYWHERE, true},
    [PGOUTPUT_DELETE] = {"Delete", ANYWHERE, true},
    [PGOUTPUT_TRUNCATE] = {"Truncate", ANYWHERE, true},
    [PGOUTPUT_MESSAGE] = {"Message", ANYWHERE, true},
    [PGOUTPUT_STREAM_START] = {"Stream Start", OUTSIDE, false},
    [PGOUTPUT_STREAM_STOP] = {"Stream Stop", INSIDE, false},
    [PGOUTPUT_STREAM_COMMIT] = {"Stream Commit", OUTSIDE, false},
    [PGOUTPUT_STREAM_ABORT] = {"Stream Abort", OUTSIDE, false},
    [PGOUTPUT_BEGIN_PREPARE] = {"Begin Prepare", OUTSIDE, false},
    [PGOUTPUT_PREPARE] = {"Prepare", OUTSIDE, false},
    [PGOUTPUT_COMMIT_PREPARED] = {"Commit Prepared", OUTSIDE, false},
    [PGOUTPUT_ROLLBACK_PREPARED] = {"Rollback Prepared", OUTSIDE, false},
    [PGOUTPUT_STREAM_PREPARE] = {"Stream Prepare", OUTSIDE, false},
};

static inline const struct type_rule *
rule_of(int type)
{
    return &rules[type >= 0 && type < 128 ? type : 0];
}

const char *
pgoutput_type_name(int type)
{
    const char *name = rule_of(type)->name;
    return name == NULL ? "unknown" : name;
}

/* The body of a message whose type and place are known. */
static void
get_body(struct pgoutput_decoder *d, struct cursor *c, struct pgoutput_msg *m)
{
    switch (m->type) {
    case PGOUTPUT_INSERT:
    case PGOUTPUT_UPDATE:
    case PGOUTPUT_DELETE:
        get_row(d, c, m);
        return;
    case PGOUTPUT_BEGIN:
        get_begin(c, &m->begin);
        return;
    case PGOUTPUT_COMMIT:
    case PGOUTPUT_STREAM_COMMIT:
        get_commit(c, &m->commit, m->type == PGOUTPUT_STREAM_COMMIT);
        return;
    case PGOUTPUT_ORIGIN:
        get_origin(c, &m->origin);
        return;
    case PGOUTPUT_RELATION:
        get_relation(d, c, &m->relation);
        return;
    case PGOUTPUT_TYPE:
        get_typ(c, &m->typ);
        return;
    case PGOUTPUT_TRUNCATE:
        get_truncate(c, &m->truncate);
        return;
    case PGOUTPUT_MESSAGE:
        get_message(c, &m->message);
        return;
    case PGOUTPUT_STREAM_START:
        get_stream_start(c, &m->stream_start);
        return;
    case PGOUTPUT_STREAM_STOP:
        return;
    case PGOUTPUT_STREAM_ABORT:
        get_stream_abort(c, &m->stream_abort, d->aborts_carry_lsn);
        return;
    case PGOUTPUT_BEGIN_PREPARE:
    case PGOUTPUT_PREPARE:
    case PGOUTPUT_COMMIT_PREPARED:
    case PGOUTPUT_ROLLBACK_PREPARED:
    case PGOUTPUT_STREAM_PREPARE:
        get_prepared(c, &m->prepared, m->type);
        return;
    }
    fail_at(c, c->start, "it is of an unknown type"); /* not reached: the place was checked */
}

static struct cursor
cursor_over(struct str bytes)
{
    return (struct cursor){.start = bytes.p, .p = bytes.p, .end = bytes.p + bytes.n};
}

/* The end of every decoding: all was right, and nothing is left. */
static int
finish(struct cursor *c, const char *name, struct err *e)
{
    if (__builtin_expect(c->wrong == NULL && c->p == c->end, 1)) {
        return 0;
    }
    if (c->wrong == NULL) {
        fail_at(c, c->p, "bytes follow its end");
    }
    return err_set(e, ERR_PROTOCOL,
        "PostgreSQL sent a %s message that cannot be understood: %s (at byte %zu of %zu)", name,
        c->wrong, c->wrong_at, (size_t)(c->end - c->start));
}

static int
refuse_place(int type, const struct type_rule *rule, bool in_stream, struct err *e)
{
    if (rule->place == BAD) {
        return err_set(e, ERR_PROTOCOL,
            "PostgreSQL sent a message of the unknown type 0x%02x (at byte 0); this version "
            "knows the "
            "pgoutput protocols 1 to 4",
            (unsigned)type);
    }
    return err_set(e, ERR_PROTOCOL,
        "PostgreSQL sent a %s message (at byte 0) %s a stream block", rule->name,
        in_stream ? "inside" : "outside of");
}

int
pgoutput_decode(struct pgoutput_decoder *d, struct str bytes, bool in_stream,
    const struct pgoutput_msg **ret, struct err *e)
{
    if (bytes.n == 0 || bytes.n > INT32_MAX) {
        return err_set(e, ERR_PROTOCOL, "PostgreSQL sent a message of %zu bytes", bytes.n);
    }
    struct cursor c = cursor_over(bytes);
    int type = get_u8(&c);
    const struct type_rule *rule = rule_of(type);
    if (((unsigned)rule->place & (in_stream ? INSIDE : OUTSIDE)) == 0) {
        return refuse_place(type, rule, in_stream, e);
    }
    struct pgoutput_msg *m = &d->msg;
    m->type = (enum pgoutput_type)type;
    m->stream_xid = in_stream && rule->is_change ? get_id(&c) : 0;
    get_body(d, &c, m);
    int rc = finish(&c, rule->name, e);
    if (rc == 0) {
        *ret = m;
    }
    return rc;
}

void
pgoutput_init(struct pgoutput_decoder *d, bool aborts_carry_lsn)
{
    memset(d, 0, sizeof *d);
    d->aborts_carry_lsn = aborts_carry_lsn;
    d->values = xcalloc(2 * (size_t)PGOUTPUT_MAX_COLS, sizeof *d->values);
    d->cols = xcalloc(PGOUTPUT_MAX_COLS, sizeof *d->cols);
}

void
pgoutput_fini(struct pgoutput_decoder *d)
{
    free(d->values);
    free(d->cols);
    memset(d, 0, sizeof *d);
}

/* ---- CopyData ---- */

int
pgoutput_decode_copy(struct str bytes, struct pgoutput_copy *ret, struct err *e)
{
    struct cursor c = cursor_over(bytes);
    uint8_t type = bytes.n == 0 ? 0 : get_u8(&c);
    struct pgoutput_copy m = {.type = (enum pgoutput_copy_type)type};
    const char *name = "keepalive";
    if (type == PGOUTPUT_XLOG_DATA) {
        name = "XLogData";
        (void)get_u64(&c); /* start: the same as the end for a logical stream */
        m.wal_end = get_u64(&c);
        m.sent_us = get_ts(&c);
        m.data = (struct str){.p = c.p, .n = (size_t)(c.end - c.p)};
        c.p = c.end;
    } else if (type == PGOUTPUT_KEEPALIVE) {
        m.wal_end = get_u64(&c);
        m.sent_us = get_ts(&c);
        m.wants_reply = get_flags(&c, 1) != 0;
    } else {
        return err_set(e, ERR_PROTOCOL,
            "PostgreSQL sent CopyData of the unknown type 0x%02x (at byte 0 of %zu)", type,
            bytes.n);
    }
    int rc = finish(&c, name, e);
    if (rc == 0) {
        *ret = m;
    }
    return rc;
}

void
pgoutput_put_status(char to[PGOUTPUT_STATUS_BYTES], uint64_t write_lsn, uint64_t flush_lsn,
    uint64_t apply_lsn, int64_t now_us, bool wants_reply)
{
    to[0] = 'r';
    put_be64(to + 1, write_lsn);
    put_be64(to + 9, flush_lsn);
    put_be64(to + 17, apply_lsn);
    put_be64(to + 25, (uint64_t)(now_us - EPOCH_2000_US));
    to[33] = wants_reply ? 1 : 0;
}
