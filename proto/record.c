/* record: see record.h. The tuple reader is a loop of its own beside proto/base/mp.h because it
 * runs once for every column of every record read; it knows only what frame.h says a tuple
 * holds. */
#include "proto/record.h"

#include <stdlib.h>

#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/base/mp.h"
#include "proto/base/xmalloc.h"

static const char *const op_names[] = {
    [FRAME_INSERT] = "insert",
    [FRAME_UPDATE] = "update",
    [FRAME_DELETE] = "delete",
    [FRAME_TRUNCATE] = "truncate",
    [FRAME_READ] = "read",
    [FRAME_MESSAGE] = "message",
};
enum { NOPS = sizeof op_names / sizeof op_names[0] };

const char *
record_op_name(uint8_t op)
{
    CHECK(frame_is_record(op));
    return op_names[op];
}

bool
record_op_parse(struct str name, uint8_t *ret_op)
{
    for (uint8_t op = FRAME_INSERT; op < NOPS; op++) {
        if (str_is(name, op_names[op])) {
            *ret_op = op;
            return true;
        }
    }
    return false;
}

void
record_decoder_fini(struct record_decoder *d)
{
    free(d->values);
    d->values = NULL;
}

/* msgpack's first bytes that a tuple may hold */
enum {
    TAG_NIL = 0xc0,
    TAG_FALSE = 0xc2,
    TAG_STR8 = 0xd9,
    TAG_STR16 = 0xda,
    TAG_STR32 = 0xdb,
    TAG_FIXSTR = 0xa0,
    TAG_FIXARRAY = 0x90,
    TAG_ARRAY16 = 0xdc,
    TAG_ARRAY32 = 0xdd
};

struct cursor {
    const unsigned char *p, *end;
};

/* Reads a big-endian number of n bytes; false when there are fewer. */
static inline bool
get_number(struct cursor *c, size_t n, uint32_t *ret)
{
    if ((size_t)(c->end - c->p) < n) {
        return false;
    }
    *ret = n == 1 ? *c->p : n == 2 ? get_be16(c->p) : get_be32(c->p);
    c->p += n;
    return true;
}

static bool
get_count(struct cursor *c, uint32_t *ret)
{
    if (c->p == c->end) {
        return false;
    }
    unsigned char tag = *c->p++;
    if ((tag & 0xf0) == TAG_FIXARRAY) {
        *ret = tag & 0x0f;
        return true;
    }
    return (tag == TAG_ARRAY16 && get_number(c, 2, ret)) ||
           (tag == TAG_ARRAY32 && get_number(c, 4, ret));
}

/* The tags of a value that are not the usual short string. */
static bool
get_other(struct cursor *c, unsigned char tag, struct record_value *v, uint32_t *ret_length)
{
    *ret_length = 0;
    switch (tag) {
    case TAG_NIL:
        v->kind = RECORD_NULL;
        return true;
    case TAG_FALSE:
        v->kind = RECORD_UNCHANGED;
        return true;
    case TAG_STR16:
        return get_number(c, 2, ret_length);
    case TAG_STR32:
        return get_number(c, 4, ret_length);
    default:
        return false;
    }
}

static inline bool
get_value(struct cursor *c, struct record_value *v)
{
    if (c->p == c->end) {
        return false;
    }
    unsigned char tag = *c->p++;
    uint32_t length;
    v->kind = RECORD_TEXT;
    if ((tag & 0xe0) == TAG_FIXSTR) {
        length = tag & 0x1f;
    } else if (tag == TAG_STR8) {
        if (!get_number(c, 1, &length)) {
            return false;
        }
    } else if (!get_other(c, tag, v, &length)) {
        return false;
    }
    if ((size_t)(c->end - c->p) < length) {
        return false;
    }
    v->text = (struct str){.p = (const char *)c->p, .n = length};
    c->p += length;
    return true;
}

static bool
get_tuple(struct cursor *c, uint32_t ncols, struct record_value *values)
{
    uint32_t n;
    if (!get_count(c, &n) || n != ncols) {
        return false;
    }
    struct cursor at = *c; /* in registers */
    for (uint32_t i = 0; i < ncols; i++) {
        if (!get_value(&at, &values[i])) {
            return false;
        }
    }
    *c = at;
    return true;
}

/* Under FRAME_OLD_KEY only key columns were sent: the others are not NULL but absent. */
static bool
keep_key(const struct schema *s, struct record_value *values)
{
    for (uint32_t i = 0; i < s->ncols; i++) {
        if (!s->cols[i].in_key) {
            if (values[i].kind != RECORD_NULL) {
                return false;
            }
            values[i].kind = RECORD_ABSENT;
        }
    }
    return true;
}

static bool
decode_row_op(struct record_decoder *d, const struct frame *f, struct record *r)
{
    const struct schema *s = r->schema;
    const unsigned char *from = (const unsigned char *)f->payload.p;
    struct cursor c = {.p = from, .end = from + f->payload.n};
    if (f->op != FRAME_DELETE) {
        if (!get_tuple(&c, s->ncols, d->values)) {
            return false;
        }
        r->new_row = d->values;
    }
    if (f->flags != 0) {
        struct record_value *old = d->values + SCHEMA_MAX_COLS;
        if (!get_tuple(&c, s->ncols, old) || (f->flags == FRAME_OLD_KEY && !keep_key(s, old))) {
            return false;
        }
        r->old_row = old;
    }
    return c.p == c.end;
}

static bool
decode_message(const struct frame *f, struct record *r)
{
    struct mp m;
    mp_init(&m, f->payload);
    uint32_t fields = mp_array(&m);
    r->prefix = mp_str(&m);
    r->content = mp_str(&m);
    return fields == 2 && mp_done(&m);
}

static bool
decode_payload(struct record_decoder *d, const struct frame *f, struct record *r)
{
    switch (f->op) {
    case FRAME_INSERT:
    case FRAME_UPDATE:
    case FRAME_DELETE:
    case FRAME_READ:
        return decode_row_op(d, f, r);
    case FRAME_TRUNCATE:
        return f->payload.n == 0;
    case FRAME_MESSAGE:
        return decode_message(f, r);
    default:
        return false;
    }
}

static inline uint32_t
schema_id(const struct schema *s)
{
    return s == NULL ? 0 : s->id;
}

int
record_decode(struct record_decoder *d, const struct frame *f, const struct schema *schema,
    const struct record_txn *txn, uint64_t offset, struct record *ret, struct err *e)
{
    if (d->values == NULL) {
        d->values = xcalloc(2 * (size_t)SCHEMA_MAX_COLS, sizeof *d->values);
    }
    struct record r = {.offset = offset,
        .seq = offset - txn->first_offset,
        .txn = txn,
        .schema = schema,
        .op = f->op,
        .flags = f->flags};
    if (schema_id(schema) != f->schema_id || (schema == NULL) != (f->op == FRAME_MESSAGE)) {
        return err_set(e, ERR_CORRUPT,
            "the record at offset %llu (operation %u) names table version %u where %u was "
            "expected",
            (unsigned long long)offset, f->op, f->schema_id, schema_id(schema));
    }
    if (!decode_payload(d, f, &r)) {
        return err_set(e, ERR_CORRUPT, "the record at offset %llu (operation %u) is damaged",
            (unsigned long long)offset, f->op);
    }
    *ret = r;
    return 0;
}
