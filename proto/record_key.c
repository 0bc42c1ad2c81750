#include "proto/record_key.h"

#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/base/digest.h"
#include "proto/frame.h"

static bool
is_row_op(uint8_t op)
{
    return op == FRAME_INSERT || op == FRAME_UPDATE || op == FRAME_DELETE || op == FRAME_READ;
}

bool
record_has_key(const struct record *r)
{
    return is_row_op(r->op) && r->schema != NULL && r->schema->nkeys > 0;
}

static bool
is_same(const struct record_value *a, const struct record_value *b)
{
    return a->kind == b->kind && (a->kind != RECORD_TEXT || str_eq(a->text, b->text));
}

bool
record_is_key_change(const struct record *r)
{
    if (r->op != FRAME_UPDATE || r->old_row == NULL || !record_has_key(r)) {
        return false;
    }
    for (uint32_t i = 0; i < r->schema->ncols; i++) {
        if (r->schema->cols[i].in_key && !is_same(&r->new_row[i], &r->old_row[i])) {
            return true;
        }
    }
    return false;
}

bool
record_has_unchanged(const struct record *r)
{
    if (r->new_row == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < r->schema->ncols; i++) {
        if (r->new_row[i].kind == RECORD_UNCHANGED) {
            return true;
        }
    }
    return false;
}

const struct record_value *
record_key_row(const struct record *r)
{
    CHECK(record_has_key(r));
    return r->op == FRAME_DELETE ? r->old_row : r->new_row;
}

const struct record_value *
record_former_key_row(const struct record *r)
{
    CHECK(record_has_key(r));
    return record_is_key_change(r) ? r->old_row : record_key_row(r);
}

static void
put_sized(struct buf *b, struct str s)
{
    char size[4];
    put_le32(size, (uint32_t)s.n);
    buf_put(b, size, sizeof size);
    buf_put_str(b, s);
}

void
record_key_put_table(struct buf *b, const struct schema *s)
{
    put_sized(b, s->ns);
    put_sized(b, s->name);
}

/* What stands from there on becomes its digest. */
static void
put_digest_instead(struct buf *b, size_t from)
{
    uint8_t digest[DIGEST_SHA256_SIZE];
    if (!buf_ok(b)) {
        return;
    }
    digest_sha256((struct str){b->p + from, b->n - from}, digest);
    b->n = from;
    buf_put(b, "\xfe\xff\xff\xff", 4);
    buf_put(b, digest, sizeof digest);
}

void
record_key_put(struct buf *b, const struct schema *s, const struct record_value *row)
{
    record_key_put_table(b, s);
    size_t from = b->n;
    for (uint32_t i = 0; i < s->ncols; i++) {
        if (!s->cols[i].in_key) {
            continue;
        }
        if (row[i].kind == RECORD_TEXT) {
            put_sized(b, row[i].text);
        } else {
            buf_put(b, "\xff\xff\xff\xff", 4);
        }
    }
    if (b->n - from > RECORD_KEY_COLUMNS_MAX) {
        put_digest_instead(b, from);
    }
}

uint64_t
record_key_hash(struct str key)
{
    uint64_t hash = frame_hash(key);
    return hash == 0 ? 1 : hash;
}
