/* record_json: see record_json.h. Names come rendered from the schema and text goes through
 * json.h's one escaping function; what is left here is the order of the fields. Every put
 * reserves room before it writes, so a full buffer stops it at any point (buf.h). */
#include "proto/record_json.h"

#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "proto/base/json.h"
#include "proto/lsn.h"

/* A literal of this file. */
#define PUT(b, literal) buf_put((b), (literal), sizeof(literal) - 1)

/* ---- values ---- */

static size_t
skip_digits(struct str t, size_t at)
{
    while (at < t.n && t.p[at] >= '0' && t.p[at] <= '9') {
        at++;
    }
    return at;
}

static bool
is_one_of(struct str t, size_t at, char a, char b)
{
    return at < t.n && (t.p[at] == a || t.p[at] == b);
}

/* True for what JSON takes as a number: everything that PostgreSQL prints for an int or a float
 * but NaN and the infinities. */
static bool
is_number(struct str t)
{
    size_t from = is_one_of(t, 0, '-', '-') ? 1 : 0;
    size_t at = skip_digits(t, from);
    if (at == from || (at > from + 1 && t.p[from] == '0')) {
        return false;
    }
    if (is_one_of(t, at, '.', '.')) {
        from = at + 1;
        at = skip_digits(t, from);
        if (at == from) {
            return false;
        }
    }
    if (is_one_of(t, at, 'e', 'E')) {
        from = at + 1 + (is_one_of(t, at + 1, '+', '-') ? 1 : 0);
        at = skip_digits(t, from);
        if (at == from) {
            return false;
        }
    }
    return at == t.n;
}

static void
put_bool(struct buf *b, struct str text)
{
    if (str_is(text, "t")) {
        PUT(b, "true");
    } else if (str_is(text, "f")) {
        PUT(b, "false");
    } else {
        json_put_string(b, text);
    }
}

static void
put_typed(struct buf *b, enum schema_json type, struct str text)
{
    switch (type) {
    case SCHEMA_JSON_STRING:
        json_put_string(b, text);
        break;
    case SCHEMA_JSON_BOOL:
        put_bool(b, text);
        break;
    case SCHEMA_JSON_INT:
    case SCHEMA_JSON_FLOAT:
        if (is_number(text)) {
            buf_put_str(b, text);
        } else {
            json_put_string(b, text);
        }
        break;
    case SCHEMA_JSON_JSON:
        json_put_minified(b, text);
        break;
    case SCHEMA_JSON_JSONB:
        buf_put_str(b, text);
        break;
    }
}

void
record_json_put_value(
    struct buf *b, const struct schema *s, const struct schema_col *c, struct str text)
{
    if (s->raw_text && !json_is_utf8(text)) {
        json_put_base64_object(b, text);
    } else {
        put_typed(b, c->json, text);
    }
}

/* ---- objects ---- */

/* Copies a short literal in strides: no call, and no branch for the usual length. Source and
 * target have SCHEMA_JSON_SLACK bytes more than that. Returns the end in the target. */
static inline char *
copy_literal(char *to, struct str s)
{
    for (size_t i = 0; i < s.n; i += SCHEMA_JSON_SLACK) {
        memcpy(to + i, s.p + i, SCHEMA_JSON_SLACK);
    }
    return to + s.n;
}

/* Appends `,` and a literal of a schema. */
static inline void
put_member(struct buf *b, struct str literal)
{
    char *to = buf_room(b, 1 + literal.n + SCHEMA_JSON_SLACK);
    if (to != NULL) {
        *to++ = ',';
        copy_literal(to, literal);
        b->n += 1 + literal.n;
    }
}

static inline void
put_column(struct buf *b, const struct schema *s, const struct schema_col *c,
    const struct record_value *v)
{
    if (v->kind == RECORD_TEXT) {
        put_member(b, c->json_key);
        if (c->json == SCHEMA_JSON_STRING && !s->raw_text) {
            json_put_string(b, v->text);
        } else {
            record_json_put_value(b, s, c, v->text);
        }
    } else if (v->kind == RECORD_NULL) {
        put_member(b, c->json_key);
        PUT(b, "null");
    }
}

/* Ends an object whose members begin at `from`, each with a comma: the first one becomes the
 * bracket. */
static void
end_object(struct buf *b, size_t from)
{
    if (b->n == from) {
        buf_putc(b, '{');
    } else if (!b->failed) {
        b->p[from] = '{';
    }
    buf_putc(b, '}');
}

void
record_json_put_row(struct buf *b, const struct schema *s, const struct record_value *row)
{
    size_t from = b->n;
    for (uint32_t i = 0; i < s->ncols; i++) {
        put_column(b, s, &s->cols[i], &row[i]);
    }
    end_object(b, from);
}

static bool
has_key(const struct record *r)
{
    return (r->new_row != NULL || r->old_row != NULL) && r->schema->nkeys > 0;
}

static void
put_key(struct buf *b, const struct record *r)
{
    const struct schema *s = r->schema;
    size_t from = b->n;
    uint32_t left = s->nkeys;
    for (uint32_t i = 0; left > 0; i++) {
        const struct schema_col *c = &s->cols[i];
        if (!c->in_key) {
            continue;
        }
        left--;
        const struct record_value *v = r->new_row == NULL ? &r->old_row[i] : &r->new_row[i];
        if (v->kind == RECORD_UNCHANGED && r->old_row != NULL) {
            v = &r->old_row[i];
        }
        put_column(b, s, c, v);
    }
    end_object(b, from);
}

bool
record_json_put_key(struct buf *b, const struct record *r)
{
    if (!has_key(r)) {
        return false;
    }
    put_key(b, r);
    return true;
}

/* ,"unchanged":["name",...] where there are some */
static void
put_unchanged(struct buf *b, const struct record *r)
{
    bool is_first = true;
    for (uint32_t i = 0; i < r->schema->ncols; i++) {
        if (r->new_row[i].kind != RECORD_UNCHANGED) {
            continue;
        }
        buf_puts(b, is_first ? ",\"unchanged\":[" : ",");
        struct str name = r->schema->cols[i].json_key;
        name.n--; /* its colon */
        buf_put_str(b, name);
        is_first = false;
    }
    if (!is_first) {
        buf_putc(b, ']');
    }
}

/* ---- the record ---- */

/* What all records of a transaction begin with, kept from the last one rendered by this thread:
 * it would take half of a short record's time. The result is the same with any content. */
struct head {
    uint64_t lsn, epoch;
    int64_t ts_us;
    uint32_t xid;
    uint8_t kind;
    size_t lsn_n, rest_n;                  /* rest_n 0: empty */
    char lsn_text[3 * SCHEMA_JSON_SLACK];  /* ,"lsn":"0/16B3748","seq": */
    char rest_text[5 * SCHEMA_JSON_SLACK]; /* ,"xid":742,"ts":"...","epoch":1 */
};
static _Thread_local struct head last_head;

static bool
is_head_of(const struct head *h, const struct record_txn *t)
{
    return h->rest_n > 0 && h->lsn == t->lsn && h->ts_us == t->ts_us && h->epoch == t->epoch &&
           h->xid == t->xid && h->kind == t->kind;
}

/* Keeps what was appended since `from`. */
static size_t
keep(const struct buf *b, size_t from, char *to, size_t size)
{
    size_t n = b->n - from;
    CHECK(n + SCHEMA_JSON_SLACK <= size);
    memcpy(to, b->p + from, n);
    return n;
}

static void
put_new_head(struct buf *b, const struct record *r, struct head *h)
{
    const struct record_txn *t = r->txn;
    char lsn[LSN_TEXT_MAX], ts[CLOCK_TEXT_MAX];
    size_t from = b->n;
    *h = (struct head){
        .lsn = t->lsn, .epoch = t->epoch, .ts_us = t->ts_us, .xid = t->xid, .kind = t->kind};
    PUT(b, ",\"lsn\":\"");
    buf_put(b, lsn, lsn_format(t->lsn, lsn));
    PUT(b, "\",\"seq\":");
    h->lsn_n = b->failed ? 0 : keep(b, from, h->lsn_text, sizeof h->lsn_text);
    json_put_u64(b, r->seq);
    from = b->n;
    if (t->kind == FRAME_TXN_XACT) {
        PUT(b, ",\"xid\":");
        json_put_u64(b, t->xid);
    }
    PUT(b, ",\"ts\":\"");
    buf_put(b, ts, clock_format_us(t->ts_us, ts));
    PUT(b, "\",\"epoch\":");
    json_put_u64(b, t->epoch);
    h->rest_n = b->failed ? 0 : keep(b, from, h->rest_text, sizeof h->rest_text);
}

static void
put_literal(struct buf *b, const char *p, size_t n)
{
    char *to = buf_room(b, n + SCHEMA_JSON_SLACK);
    if (to != NULL) {
        copy_literal(to, (struct str){.p = p, .n = n});
        b->n += n;
    }
}

/* Text that usually is UTF-8 but that nobody vouches for. */
static void
put_text(struct buf *b, struct str text)
{
    if (json_is_utf8(text)) {
        json_put_string(b, text);
    } else {
        json_put_base64_object(b, text);
    }
}

static void
put_head(struct buf *b, const struct record *r)
{
    struct head *h = &last_head;
    PUT(b, "{\"offset\":");
    json_put_u64(b, r->offset);
    if (is_head_of(h, r->txn)) {
        put_literal(b, h->lsn_text, h->lsn_n);
        json_put_u64(b, r->seq);
        put_literal(b, h->rest_text, h->rest_n);
    } else {
        put_new_head(b, r, h);
    }
    if (r->txn->origin.n > 0) {
        PUT(b, ",\"origin\":");
        put_text(b, r->txn->origin);
    }
    PUT(b, ",\"op\":\"");
    buf_puts(b, record_op_name(r->op));
    buf_putc(b, '"');
}

static void
put_message(struct buf *b, const struct record *r)
{
    PUT(b, ",\"prefix\":");
    put_text(b, r->prefix);
    PUT(b, ",\"transactional\":");
    buf_puts(b, (r->flags & FRAME_TRANSACTIONAL) != 0 ? "true" : "false");
    PUT(b, ",\"content\":");
    json_put_base64(b, r->content);
}

static void
put_truncate(struct buf *b, const struct record *r)
{
    put_member(b, r->schema->json_table);
    PUT(b, ",\"cascade\":");
    buf_puts(b, (r->flags & FRAME_CASCADE) != 0 ? "true" : "false");
    PUT(b, ",\"restart_identity\":");
    buf_puts(b, (r->flags & FRAME_RESTART_IDENTITY) != 0 ? "true" : "false");
}

static void
put_row_op(struct buf *b, const struct record *r)
{
    put_member(b, r->schema->json_table);
    if (has_key(r)) {
        PUT(b, ",\"key\":");
        put_key(b, r);
    }
    if (r->new_row != NULL) {
        PUT(b, ",\"new\":");
        record_json_put_row(b, r->schema, r->new_row);
    }
    if (r->old_row != NULL) {
        PUT(b, ",\"old\":");
        record_json_put_row(b, r->schema, r->old_row);
    }
    if (r->new_row != NULL) {
        put_unchanged(b, r);
    }
}

void
record_json_put(struct buf *b, const struct record *r)
{
    put_head(b, r);
    if (r->op == FRAME_MESSAGE) {
        put_message(b, r);
    } else if (r->op == FRAME_TRUNCATE) {
        put_truncate(b, r);
    } else {
        put_row_op(b, r);
    }
    buf_putc(b, '}');
}
