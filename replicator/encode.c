/* encode: see encode.h. The hot path is encode_row: one reservation for the whole payload, then
 * msgpack written inline; a value never takes more room in msgpack than in pgoutput (a length
 * of 4 bytes and a kind there, at most 5 bytes before it here), so the size of the tuples on
 * the wire bounds the payload. Must not know transactions or acknowledgement. */
#include "replicator/encode.h"

#include <string.h>

#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/base/mp.h"
#include "proto/frame.h"

/* https://github.com/msgpack/msgpack/blob/master/spec.md */
enum {
    MP_FIXSTR = 0xa0,
    MP_STR8 = 0xd9,
    MP_STR16 = 0xda,
    MP_STR32 = 0xdb,
    MP_FIXARRAY = 0x90,
    MP_ARRAY16 = 0xdc,
    MP_BYTE_NIL = 0xc0,
    MP_BYTE_FALSE = 0xc2
};

enum {
    STRIDE = 32
}; /* short values are copied this wide where source and target have the room */

/* A whole frame is in b: turns b's failure into an error, and takes what there is of it away.
 */
static int
finish(struct buf *b, size_t start, struct err *e)
{
    if (buf_ok(b)) {
        return 0;
    }
    b->n = start;
    return err_set(
        e, ERR_TOOBIG, "a change does not fit into an append of at most %zu bytes", b->max);
}

static int
finish_row(struct buf *b, size_t start, const struct schema *s, struct err *e)
{
    int rc = finish(b, start, e);
    return rc == 0 ? 0
                   : err_set(e, rc,
                         "a change of the table %.*s.%.*s does not fit into an append of at "
                         "most %zu bytes; take the column out of the publication",
                         (int)s->ns.n, s->ns.p, (int)s->name.n, s->name.p, b->max);
}

/* ---- rows ---- */

static inline char *
put_array(char *to, uint32_t n)
{
    if (n < 16) {
        *to = (char)(MP_FIXARRAY | n);
        return to + 1;
    }
    *to = (char)MP_ARRAY16; /* ncols is at most PGOUTPUT_MAX_COLS */
    put_be16(to + 1, (uint16_t)n);
    return to + 3;
}

/* Not the usual case: 32 bytes and more. */
static char *
put_long_text(char *to, const char *p, uint32_t n)
{
    if (n <= UINT8_MAX) {
        *to++ = (char)MP_STR8;
        *to++ = (char)n;
    } else if (n <= UINT16_MAX) {
        *to++ = (char)MP_STR16;
        put_be16(to, (uint16_t)n);
        to += 2;
    } else {
        *to++ = (char)MP_STR32;
        put_be32(to, n);
        to += 4;
    }
    memcpy(to, p, n);
    return to + n;
}

/* end: up to here bytes may be read. */
static inline char *
put_text(char *to, const struct pgoutput_value *v, const char *end)
{
    if (v->n >= 32) {
        return put_long_text(to, v->p, v->n);
    }
    *to = (char)(MP_FIXSTR | v->n);
    if (end - v->p >= STRIDE) {
        memcpy(to + 1, v->p, STRIDE);
    } else {
        memcpy(to + 1, v->p, v->n);
    }
    return to + 1 + v->n;
}

/* Where the bytes of a tuple's last value end; NULL when it has none. */
static const char *
end_of(const struct pgoutput_tuple *t)
{
    for (uint32_t i = t->ncols; i > 0; i--) {
        const struct pgoutput_value *v = &t->v[i - 1];
        if (v->p != NULL) {
            return v->p + v->n;
        }
    }
    return NULL;
}

static char *
put_bare(char *to, char kind)
{
    *to = (char)(kind == PGOUTPUT_NULL ? MP_BYTE_NIL : MP_BYTE_FALSE);
    return to + 1;
}

static char *
put_tuple(char *to, const struct pgoutput_tuple *t)
{
    const char *bytes_end = end_of(t);
    to = put_array(to, t->ncols);
    for (const struct pgoutput_value *v = t->v, *end = v + t->ncols; v < end; v++) {
        to = __builtin_expect(v->p != NULL, 1) ? put_text(to, v, bytes_end)
                                               : put_bare(to, v->kind);
    }
    return to;
}

static char *
put_value(char *to, const struct pgoutput_value *v)
{
    return v->p != NULL ? put_text(to, v, v->p) : put_bare(to, v->kind);
}

/* An unchanged value is one that is stored out of line, so never NULL: where the old row has
 * none (a partition whose identity is not its root's), it does not know it. A key column may be
 * such a value: PostgreSQL sends the old key beside it, and the record has to say its row. */
static char *
put_filled(char *to, const struct schema *s, const struct pgoutput_row *row)
{
    const struct pgoutput_tuple *t = &row->new_row, *old = &row->old_row;
    bool is_full = row->old_tag == 'O';
    to = put_array(to, t->ncols);
    for (uint32_t i = 0; i < t->ncols; i++) {
        bool is_old = t->v[i].kind == PGOUTPUT_UNCHANGED && old->v[i].kind == PGOUTPUT_TEXT &&
                      (is_full || s->cols[i].in_key);
        to = put_value(to, is_old ? &old->v[i] : &t->v[i]);
    }
    return to;
}

static char *
put_key(char *to, const struct pgoutput_tuple *t, const struct schema *s)
{
    to = put_array(to, t->ncols);
    for (uint32_t i = 0; i < t->ncols; i++) {
        to = s->cols[i].in_key ? put_value(to, &t->v[i]) : put_bare(to, PGOUTPUT_NULL);
    }
    return to;
}

static int
check_tuple(const struct schema *s, const struct pgoutput_tuple *t, struct err *e)
{
    if (t->ncols != s->ncols) {
        return err_set(e, ERR_PROTOCOL,
            "PostgreSQL sent a row of %u columns for the table %.*s.%.*s, which it had "
            "described with %u",
            t->ncols, (int)s->ns.n, s->ns.p, (int)s->name.n, s->name.p, s->ncols);
    }
    unsigned is_binary = 0;
    for (uint32_t i = 0; i < t->ncols; i++) {
        is_binary |= t->v[i].kind == PGOUTPUT_BINARY;
    }
    for (uint32_t i = 0; is_binary && i < t->ncols; i++) {
        if (t->v[i].kind == PGOUTPUT_BINARY) {
            return err_set(e, ERR_UNSUPPORTED,
                "PostgreSQL sent a binary value in column %.*s of the table %.*s.%.*s; this "
                "version reads "
                "text only and must not ask for `binary`",
                (int)s->cols[i].name.n, s->cols[i].name.p, (int)s->ns.n, s->ns.p,
                (int)s->name.n, s->name.p);
        }
    }
    return 0;
}

static int
check_row(const struct schema *s, const struct pgoutput_row *row, struct err *e)
{
    int rc = row->new_row.v == NULL ? 0 : check_tuple(s, &row->new_row, e);
    return rc != 0 || row->old_row.v == NULL ? rc : check_tuple(s, &row->old_row, e);
}

static uint8_t
op_of(enum pgoutput_type type)
{
    CHECK(type == PGOUTPUT_INSERT || type == PGOUTPUT_UPDATE || type == PGOUTPUT_DELETE);
    return type == PGOUTPUT_INSERT   ? FRAME_INSERT
           : type == PGOUTPUT_UPDATE ? FRAME_UPDATE
                                     : FRAME_DELETE;
}

static uint8_t
old_flag_of(const struct pgoutput_row *row)
{
    return row->old_row.v == NULL ? 0 : row->old_tag == 'O' ? FRAME_OLD_FULL : FRAME_OLD_KEY;
}

static char *
put_row(char *to, const struct schema *s, const struct pgoutput_row *row)
{
    bool has_old = row->old_row.v != NULL;
    if (row->new_row.v != NULL) {
        to = has_old ? put_filled(to, s, row) : put_tuple(to, &row->new_row);
    }
    if (has_old) {
        to = row->old_tag == 'O' ? put_tuple(to, &row->old_row) : put_key(to, &row->old_row, s);
    }
    return to;
}

int
encode_row(struct buf *b, const struct relation *rel, enum pgoutput_type type,
    const struct pgoutput_row *row, struct err *e)
{
    const struct schema *s = &rel->schema;
    CHECK(s->id != 0 && !rel->needs_key);
    int rc = check_row(s, row, e);
    if (rc != 0) {
        return rc;
    }
    /* An array's head takes at most a byte more than on the wire; filling takes from the old
     * row. */
    size_t room = row->new_row.wire_bytes + 2 + 2 * row->old_row.wire_bytes + STRIDE;
    size_t start = b->n;
    (void)buf_room(b, FRAME_HEADER + room); /* so that nothing moves after this */
    (void)frame_begin(b, op_of(type), old_flag_of(row), s->id);
    char *to = buf_room(b, room);
    if (to != NULL) {
        b->n += (size_t)(put_row(to, s, row) - to);
        frame_end(b, start);
    }
    return finish_row(b, start, s, e);
}

/* ---- rows read from a table ---- */

static char *
put_scattered(char *to, const struct pgoutput_tuple *t)
{
    to = put_array(to, t->ncols);
    for (uint32_t i = 0; i < t->ncols; i++) {
        to = put_value(to, &t->v[i]);
    }
    return to;
}

int
encode_read(
    struct buf *b, const struct relation *rel, const struct pgoutput_tuple *row, struct err *e)
{
    const struct schema *s = &rel->schema;
    CHECK(s->id != 0 && !rel->needs_key);
    int rc = check_tuple(s, row, e);
    if (rc != 0) {
        return rc;
    }
    size_t room = 3; /* of the array's head */
    for (uint32_t i = 0; i < row->ncols; i++) {
        room += 5 + (size_t)row->v[i].n;
    }
    size_t start = b->n;
    (void)buf_room(b, FRAME_HEADER + room);
    (void)frame_begin(b, FRAME_READ, 0, s->id);
    char *to = buf_room(b, room);
    if (to != NULL) {
        b->n += (size_t)(put_scattered(to, row) - to);
        frame_end(b, start);
    }
    return finish_row(b, start, s, e);
}

int
encode_read_begin(struct buf *b, uint64_t lsn, struct err *e)
{
    size_t start = b->n;
    frame_put_begin(b, &(struct frame_begin_txn){.kind = FRAME_TXN_READ, .lsn = lsn});
    return finish(b, start, e);
}

int
encode_read_commit(struct buf *b, uint64_t lsn, int64_t ts_us, struct err *e)
{
    size_t start = b->n;
    frame_put_commit(
        b, &(struct frame_commit){
               .kind = FRAME_TXN_READ, .lsn = lsn, .end_lsn = lsn, .ts_us = ts_us});
    return finish(b, start, e);
}

/* ---- everything else ---- */

int
encode_schema(struct buf *b, struct relation *rel, uint32_t *next_id, struct err *e)
{
    CHECK(!rel->needs_key);
    if (rel->schema.id != 0) {
        return 0;
    }
    if (*next_id == 0 || *next_id == UINT32_MAX) {
        return err_set(e, ERR_REFUSED,
            "all 4294967294 schema versions of this log are used; start a new log in an empty "
            "data_dir");
    }
    size_t start = frame_begin(b, FRAME_SCHEMA, 0, *next_id);
    schema_encode(b, &rel->schema);
    frame_end(b, start);
    int rc = finish(b, start, e);
    if (rc == 0) {
        rel->schema.id = (*next_id)++;
    }
    return rc;
}

int
encode_begin(struct buf *b, const struct pgoutput_begin *m, struct err *e)
{
    size_t start = b->n;
    frame_put_begin(b,
        &(struct frame_begin_txn){.kind = FRAME_TXN_XACT, .xid = m->xid, .lsn = m->commit_lsn});
    return finish(b, start, e);
}

int
encode_commit(struct buf *b, const struct pgoutput_commit *m, uint32_t xid, struct str origin,
    struct err *e)
{
    size_t start = b->n;
    frame_put_commit(b, &(struct frame_commit){.kind = FRAME_TXN_XACT,
                            .xid = xid,
                            .lsn = m->commit_lsn,
                            .end_lsn = m->end_lsn,
                            .ts_us = m->ts_us,
                            .origin = origin});
    return finish(b, start, e);
}

int
encode_truncate(
    struct buf *b, const struct relation *rel, const struct pgoutput_truncate *m, struct err *e)
{
    CHECK(rel->schema.id != 0);
    unsigned flags = (m->is_cascade ? FRAME_CASCADE : 0u) |
                     (m->restarts_identity ? FRAME_RESTART_IDENTITY : 0u);
    size_t start = frame_begin(b, FRAME_TRUNCATE, (uint8_t)flags, rel->schema.id);
    frame_end(b, start);
    return finish(b, start, e);
}

static void
put_message(struct buf *b, const struct pgoutput_message *m)
{
    size_t start =
        frame_begin(b, FRAME_MESSAGE, m->is_transactional ? FRAME_TRANSACTIONAL : 0, 0);
    mp_put_array(b, 2);
    mp_put_str(b, m->prefix);
    mp_put_bin(b, m->content);
    frame_end(b, start);
}

int
encode_message(struct buf *b, const struct pgoutput_message *m, int64_t ts_us, struct err *e)
{
    size_t start = b->n;
    if (m->is_transactional) {
        put_message(b, m);
        return finish(b, start, e);
    }
    frame_put_begin(b, &(struct frame_begin_txn){.kind = FRAME_TXN_MESSAGE, .lsn = m->lsn});
    put_message(b, m);
    frame_put_commit(
        b, &(struct frame_commit){
               .kind = FRAME_TXN_MESSAGE, .lsn = m->lsn, .end_lsn = m->lsn, .ts_us = ts_us});
    return finish(b, start, e);
}
