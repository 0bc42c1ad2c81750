/* record_msgpack: the msgpack rendering of record_json.h: the same fields as record_json.c, in
 * the same order. A map says how many members it has before the first, so each is counted in
 * advance. */
#include <errno.h>
#include <stdlib.h>

#include "proto/base/clock.h"
#include "proto/base/json.h"
#include "proto/base/mp.h"
#include "proto/lsn.h"
#include "proto/record_json.h"

/* ---- values ---- */

static void
put_text(struct buf *b, struct str text)
{
    if (json_is_utf8(text)) {
        mp_put_str(b, text);
    } else {
        mp_put_bin(b, text);
    }
}

/* False when the text is not wholly a number of that kind. */
static bool
put_number(struct buf *b, enum schema_json type, struct str text)
{
    char copy[64], *end; /* PostgreSQL's longest float is 24 bytes */
    if (text.n == 0 || text.n >= sizeof copy) {
        return false;
    }
    memcpy(copy, text.p, text.n);
    copy[text.n] = 0;
    errno = 0;
    long long i = type == SCHEMA_JSON_INT ? strtoll(copy, &end, 10) : 0;
    double d = type == SCHEMA_JSON_INT ? 0 : strtod(copy, &end);
    if (end != copy + text.n || (type == SCHEMA_JSON_INT && errno != 0)) {
        return false;
    }
    if (type == SCHEMA_JSON_INT) {
        mp_put_i64(b, i);
    } else {
        mp_put_double(b, d);
    }
    return true;
}

static void
put_value(struct buf *b, const struct schema *s, const struct schema_col *c, struct str text)
{
    if (c->json == SCHEMA_JSON_BOOL && (str_is(text, "t") || str_is(text, "f"))) {
        mp_put_bool(b, text.p[0] == 't');
        return;
    }
    if ((c->json == SCHEMA_JSON_INT || c->json == SCHEMA_JSON_FLOAT) &&
        put_number(b, c->json, text)) {
        return;
    }
    if (s->raw_text) {
        put_text(b, text);
    } else {
        mp_put_str(b, text);
    }
}

/* ---- maps ---- */

static bool
is_sent(const struct record_value *v)
{
    return v->kind == RECORD_TEXT || v->kind == RECORD_NULL;
}

static void
put_name(struct buf *b, const struct schema *s, struct str name)
{
    if (s->raw_text) {
        put_text(b, name);
    } else {
        mp_put_str(b, name);
    }
}

static void
put_column(struct buf *b, const struct schema *s, uint32_t i, const struct record_value *v)
{
    put_name(b, s, s->cols[i].name);
    if (v->kind == RECORD_NULL) {
        mp_put_nil(b);
    } else {
        put_value(b, s, &s->cols[i], v->text);
    }
}

static void
put_row(struct buf *b, const struct schema *s, const struct record_value *row)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->ncols; i++) {
        n += is_sent(&row[i]);
    }
    mp_put_map(b, n);
    for (uint32_t i = 0; i < s->ncols; i++) {
        if (is_sent(&row[i])) {
            put_column(b, s, i, &row[i]);
        }
    }
}

/* Where a key column's value stands: record_json_put_key says which. */
static const struct record_value *
key_value(const struct record *r, uint32_t i)
{
    if (r->new_row == NULL || (r->new_row[i].kind == RECORD_UNCHANGED && r->old_row != NULL)) {
        return &r->old_row[i];
    }
    return &r->new_row[i];
}

static void
put_key(struct buf *b, const struct record *r)
{
    const struct schema *s = r->schema;
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->ncols; i++) {
        n += s->cols[i].in_key && is_sent(key_value(r, i));
    }
    mp_put_map(b, n);
    for (uint32_t i = 0; i < s->ncols; i++) {
        if (s->cols[i].in_key && is_sent(key_value(r, i))) {
            put_column(b, s, i, key_value(r, i));
        }
    }
}

static uint32_t
count_unchanged(const struct record *r)
{
    uint32_t n = 0;
    for (uint32_t i = 0; r->new_row != NULL && i < r->schema->ncols; i++) {
        n += r->new_row[i].kind == RECORD_UNCHANGED;
    }
    return n;
}

static void
put_unchanged(struct buf *b, const struct record *r, uint32_t n)
{
    mp_put_array(b, n);
    for (uint32_t i = 0; i < r->schema->ncols; i++) {
        if (r->new_row[i].kind == RECORD_UNCHANGED) {
            put_name(b, r->schema, r->schema->cols[i].name);
        }
    }
}

/* ---- the record ---- */

static void
put_head(struct buf *b, const struct record *r, uint32_t members)
{
    const struct record_txn *t = r->txn;
    char text[CLOCK_TEXT_MAX + LSN_TEXT_MAX];
    bool has_xid = t->kind == FRAME_TXN_XACT, has_origin = t->origin.n > 0;
    mp_put_map(b, 6 + (uint32_t)has_xid + (uint32_t)has_origin + members);
    mp_put_str(b, STR("offset"));
    mp_put_u64(b, r->offset);
    mp_put_str(b, STR("lsn"));
    mp_put_str(b, (struct str){.p = text, .n = lsn_format(t->lsn, text)});
    mp_put_str(b, STR("seq"));
    mp_put_u64(b, r->seq);
    if (has_xid) {
        mp_put_str(b, STR("xid"));
        mp_put_u64(b, t->xid);
    }
    mp_put_str(b, STR("ts"));
    mp_put_str(b, (struct str){.p = text, .n = clock_format_us(t->ts_us, text)});
    mp_put_str(b, STR("epoch"));
    mp_put_u64(b, t->epoch);
    if (has_origin) {
        mp_put_str(b, STR("origin"));
        put_text(b, t->origin);
    }
    mp_put_str(b, STR("op"));
    mp_put_cstr(b, record_op_name(r->op));
}

static void
put_table(struct buf *b, const struct schema *s)
{
    mp_put_str(b, STR("schema"));
    put_name(b, s, s->ns);
    mp_put_str(b, STR("table"));
    put_name(b, s, s->name);
}

static void
put_message(struct buf *b, const struct record *r)
{
    put_head(b, r, 3);
    mp_put_str(b, STR("prefix"));
    put_text(b, r->prefix);
    mp_put_str(b, STR("transactional"));
    mp_put_bool(b, (r->flags & FRAME_TRANSACTIONAL) != 0);
    mp_put_str(b, STR("content"));
    mp_put_bin(b, r->content);
}

static void
put_truncate(struct buf *b, const struct record *r)
{
    put_head(b, r, 4);
    put_table(b, r->schema);
    mp_put_str(b, STR("cascade"));
    mp_put_bool(b, (r->flags & FRAME_CASCADE) != 0);
    mp_put_str(b, STR("restart_identity"));
    mp_put_bool(b, (r->flags & FRAME_RESTART_IDENTITY) != 0);
}

static void
put_row_op(struct buf *b, const struct record *r)
{
    const struct schema *s = r->schema;
    bool has_new = r->new_row != NULL, has_old = r->old_row != NULL;
    bool has_key = s->nkeys > 0 && (has_new || has_old);
    uint32_t unchanged = count_unchanged(r);
    put_head(
        b, r, 2 + (uint32_t)has_key + (uint32_t)has_new + (uint32_t)has_old + (unchanged > 0));
    put_table(b, s);
    if (has_key) {
        mp_put_str(b, STR("key"));
        put_key(b, r);
    }
    if (has_new) {
        mp_put_str(b, STR("new"));
        put_row(b, s, r->new_row);
    }
    if (has_old) {
        mp_put_str(b, STR("old"));
        put_row(b, s, r->old_row);
    }
    if (unchanged > 0) {
        mp_put_str(b, STR("unchanged"));
        put_unchanged(b, r, unchanged);
    }
}

void
record_msgpack_put(struct buf *b, const struct record *r)
{
    if (r->op == FRAME_MESSAGE) {
        put_message(b, r);
    } else if (r->op == FRAME_TRUNCATE) {
        put_truncate(b, r);
    } else {
        put_row_op(b, r);
    }
}
