/* batch: see batch.h. Frames pass through as they are; a reader trusts nothing: sizes, order,
 * transaction bounds, schemas and checksums are verified before a record is handed out. */
#include "proto/batch.h"

#include <stdlib.h>

#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/base/xmalloc.h"

enum { HEADER_FIELDS = 4, HEADER_SIZE = 2 + 3 * 9, END_SIZE = 1, TXN_FIELDS = 9 };
_Static_assert(HEADER_SIZE + END_SIZE == BATCH_EMPTY, "what an empty batch takes");

/* ---- writing ---- */

void
batch_begin(struct batch_writer *w, struct buf *b)
{
    *w = (struct batch_writer){.b = b, .header_at = b->n, .txn_first = UINT64_MAX};
    buf_init(&w->seen, SIZE_MAX);
    char *to = buf_room(b, HEADER_SIZE);
    if (to != NULL) {
        memset(to, 0, HEADER_SIZE);
        b->n += HEADER_SIZE;
    }
}

/* Where id stands, or would, among the sorted ids written; *ret_found says which. */
static size_t
seen_at(const struct batch_writer *w, uint32_t id, bool *ret_found)
{
    size_t low = 0, high = w->seen.n / sizeof id;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        uint32_t there = get_le32(w->seen.p + middle * sizeof id);
        if (there == id) {
            *ret_found = true;
            return middle;
        }
        if (there < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *ret_found = false;
    return low;
}

static void
seen_insert(struct batch_writer *w, size_t at, uint32_t id)
{
    buf_put(&w->seen, &id, sizeof id);
    char *to = w->seen.p + at * sizeof id;
    memmove(to + sizeof id, to, w->seen.n - (at + 1) * sizeof id);
    put_le32(to, id);
}

static void
put_schema(struct buf *b, const struct schema *s)
{
    struct buf auto_buf encoding;
    buf_init(&encoding, SIZE_MAX);
    schema_encode(&encoding, s);
    mp_put_array(b, 3);
    mp_put_str(b, STR("s"));
    mp_put_u64(b, s->id);
    mp_put_bin(b, buf_str(&encoding));
}

static void
put_txn(struct buf *b, const struct record_txn *t)
{
    mp_put_array(b, 2);
    mp_put_str(b, STR("t"));
    mp_put_array(b, TXN_FIELDS);
    mp_put_u64(b, t->kind);
    mp_put_u64(b, t->xid);
    mp_put_u64(b, t->lsn);
    mp_put_u64(b, t->end_lsn);
    mp_put_i64(b, t->ts_us);
    mp_put_u64(b, t->first_offset);
    mp_put_u64(b, t->count);
    mp_put_u64(b, t->epoch);
    if (t->origin.n == 0) {
        mp_put_nil(b);
    } else {
        mp_put_str(b, t->origin);
    }
}

bool
batch_add(struct batch_writer *w, const struct record_txn *t, const struct schema *s,
    uint64_t offset, struct str whole_frame)
{
    struct buf *b = w->b;
    size_t from = b->n, at = 0;
    bool is_new_txn = t->first_offset != w->txn_first, is_seen = true;
    if (b->failed) {
        return false;
    }
    if (s != NULL && s->id != w->schema_last) {
        at = seen_at(w, s->id, &is_seen);
    }
    if (!is_seen) {
        put_schema(b, s);
    }
    if (is_new_txn) {
        put_txn(b, t);
    }
    mp_put_array(b, 3);
    mp_put_str(b, STR("r"));
    mp_put_u64(b, offset);
    mp_put_bin(b, whole_frame);
    if (b->failed || b->max - b->n < END_SIZE) { /* as if it had not been */
        b->failed = false;
        b->n = from;
        return false;
    }
    if (!is_seen) {
        seen_insert(w, at, s->id);
    }
    w->schema_last = s != NULL ? s->id : w->schema_last;
    w->txn_first = t->first_offset;
    return true;
}

static char *
put_wide(char *to, uint64_t v)
{
    *to = (char)0xcf; /* uint 64, also where less would do: the header's size is fixed */
    put_be64(to + 1, v);
    return to + 9;
}

void
batch_end(struct batch_writer *w, const struct batch_header *h)
{
    buf_putc(w->b, (char)0xc0); /* nil, in the byte kept for it */
    if (!w->b->failed) {
        char *to = w->b->p + w->header_at;
        *to++ = (char)(0x90 | HEADER_FIELDS);
        *to++ = BATCH_VERSION;
        to = put_wide(to, h->next_offset);
        to = put_wide(to, h->tail_offset);
        put_wide(to, h->epoch);
    }
    buf_fini(&w->seen);
    w->b = NULL;
}

/* ---- reading ---- */

int
batch_open(struct batch_reader *r, struct str bytes, struct err *e)
{
    struct batch_reader n = {0};
    mp_init(&n.m, bytes);
    uint32_t fields = mp_array(&n.m);
    uint64_t version = mp_u64(&n.m);
    if (!n.m.failed && version > BATCH_VERSION) {
        return err_set(e, ERR_NEWER,
            "the broker sends batches of version %llu, this program understands %d: update it",
            (unsigned long long)version, BATCH_VERSION);
    }
    n.header.next_offset = mp_u64(&n.m);
    n.header.tail_offset = mp_u64(&n.m);
    n.header.epoch = mp_u64(&n.m);
    if (n.m.failed || fields != HEADER_FIELDS || version != BATCH_VERSION) {
        return err_set(e, ERR_CORRUPT, "what the broker sent does not begin like a batch");
    }
    *r = n;
    return 0;
}

/* Where id stands, or would, among the sorted schemas. */
static size_t
schema_at(const struct batch_reader *r, uint32_t id)
{
    size_t low = 0, high = r->nschemas;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (r->schemas[middle]->id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static const struct schema *
find_schema(const struct batch_reader *r, uint32_t id)
{
    size_t at = schema_at(r, id);
    return at < r->nschemas && r->schemas[at]->id == id ? r->schemas[at] : NULL;
}

static void
insert_schema(struct batch_reader *r, struct schema *s)
{
    if ((r->nschemas & (r->nschemas - 1)) == 0) { /* full at each power of two */
        r->schemas = xreallocarray(
            r->schemas, r->nschemas == 0 ? 1 : 2 * r->nschemas, sizeof *r->schemas);
    }
    size_t at = schema_at(r, s->id);
    memmove(&r->schemas[at + 1], &r->schemas[at], (r->nschemas - at) * sizeof *r->schemas);
    r->schemas[at] = s;
    r->nschemas++;
}

static int
damaged(struct err *e, const char *what)
{
    return err_set(e, ERR_CORRUPT, "a batch from the broker is damaged: %s", what);
}

static int
read_schema(struct batch_reader *r, struct err *e)
{
    uint64_t id = mp_u64(&r->m);
    struct str encoded = mp_str(&r->m);
    if (r->m.failed || id == 0 || id > UINT32_MAX) {
        return damaged(e, "a table version cannot be read");
    }
    if (find_schema(r, (uint32_t)id) != NULL) {
        return damaged(e, "a table version comes twice");
    }
    struct schema *s = NULL;
    int rc = schema_decode((uint32_t)id, encoded, &s, e);
    if (rc == 0) {
        insert_schema(r, s);
    }
    return rc;
}

static int
read_txn(struct batch_reader *r, struct err *e)
{
    struct mp *m = &r->m;
    struct record_txn t = {0};
    uint32_t fields = mp_array(m);
    uint64_t kind = mp_u64(m), xid = mp_u64(m);
    t.lsn = mp_u64(m);
    t.end_lsn = mp_u64(m);
    t.ts_us = mp_i64(m);
    t.first_offset = mp_u64(m);
    t.count = mp_u64(m);
    t.epoch = mp_u64(m);
    if (!mp_nil(m)) {
        t.origin = mp_str(m);
    }
    if (m->failed || fields != TXN_FIELDS || kind > FRAME_TXN_READ ||
        xid > (kind == FRAME_TXN_XACT ? UINT32_MAX : 0) || t.count == 0 ||
        t.count > UINT64_MAX - t.first_offset) {
        return damaged(e, "a transaction cannot be read");
    }
    t.kind = (uint8_t)kind;
    t.xid = (uint32_t)xid;
    r->txn = t;
    return 0;
}

static int
read_record(struct batch_reader *r, struct record *ret, struct err *e)
{
    uint64_t offset = mp_u64(&r->m);
    struct str bytes = mp_str(&r->m);
    if (r->m.failed) {
        return damaged(e, "a record cannot be read");
    }
    if (offset < r->next_offset || offset < r->txn.first_offset ||
        offset - r->txn.first_offset >= r->txn.count) {
        return damaged(e, "a record stands outside its transaction, or out of order");
    }
    struct frame f;
    size_t at = 0;
    if (bytes.n == 0) {
        return damaged(e, "a record is empty");
    }
    int rc = frame_next(bytes, &at, true, &f, e);
    if (rc != 0) {
        return rc;
    }
    if (at != bytes.n || !frame_is_record(f.op)) {
        return damaged(e, "a record is not one record");
    }
    const struct schema *s = f.schema_id == 0 ? NULL : find_schema(r, f.schema_id);
    rc = record_decode(&r->decoder, &f, s, &r->txn, offset, ret, e);
    if (rc == 0) {
        r->next_offset = offset + 1;
        r->frame = bytes;
    }
    return rc;
}

static int
read_end(struct batch_reader *r, struct err *e)
{
    if (!mp_nil(&r->m) || !mp_done(&r->m)) {
        return damaged(e, "something stands behind its end");
    }
    r->is_end = true;
    return 0;
}

/* Reads one item: 1 a record, 0 something else or the end. */
static int
read_item(struct batch_reader *r, struct record *ret, struct err *e)
{
    if (mp_peek(&r->m) == MP_NIL) {
        return read_end(r, e);
    }
    uint32_t fields = mp_array(&r->m);
    struct str type = mp_str(&r->m);
    if (r->m.failed) {
        return damaged(e, "it ends too early, or is not msgpack");
    }
    if (fields == 3 && str_is(type, "r")) {
        int rc = read_record(r, ret, e);
        return rc == 0 ? 1 : rc;
    }
    if (fields == 2 && str_is(type, "t")) {
        return read_txn(r, e);
    }
    if (fields == 3 && str_is(type, "s")) {
        return read_schema(r, e);
    }
    return damaged(e, "it has an item of unknown type");
}

int
batch_next(struct batch_reader *r, struct record *ret, struct err *e)
{
    int rc = 0;
    while (rc == 0 && !r->is_end) {
        rc = read_item(r, ret, e);
    }
    if (rc < 0) {
        r->m.failed =
            true; /* also where the bytes could be read: nothing behind it is trusted */
    }
    return rc;
}

void
batch_close(struct batch_reader *r)
{
    for (size_t i = 0; i < r->nschemas; i++) {
        schema_unref(r->schemas[i]);
    }
    free(r->schemas);
    r->schemas = NULL;
    r->nschemas = 0;
    record_decoder_fini(&r->decoder);
}
