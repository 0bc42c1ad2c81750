#include "sinks/elasticsearch/es_fold.h"

#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/xmalloc.h"

/* ---- one operation per document ---- */

static void
make_room(struct es_fold *f, size_t n)
{
    if (n <= f->room) {
        return;
    }
    es_fold_fini(f);
    f->last = xreallocarray(NULL, n, sizeof *f->last);
    f->former = xreallocarray(NULL, n, sizeof *f->former);
    f->slots = xreallocarray(NULL, n, 4 * sizeof *f->slots);
    f->room = n;
}

void
es_fold_fini(struct es_fold *f)
{
    free(f->last);
    free(f->former);
    free(f->slots);
    *f = (struct es_fold){0};
}

static size_t
slots_for(size_t n)
{
    size_t slots = 1;
    while (slots < 2 * n) {
        slots *= 2;
    }
    return slots; /* less than 4 * n */
}

static bool
is_same(const struct es_fold_key *a, const struct es_fold_key *b)
{
    return a->table == b->table && str_eq(a->id, b->id);
}

/* The slot of the document of keys[i]: that document's number, or ES_FOLD_NONE. */
static size_t *
slot_of(struct es_fold *f, const struct es_fold_key *keys, size_t i, size_t mask)
{
    uint32_t seed = (uint32_t)((uintptr_t)keys[i].table >> 4);
    size_t at = frame_sum(seed, keys[i].id) & mask;
    while (f->slots[at] != ES_FOLD_NONE && !is_same(&keys[f->last[f->slots[at]]], &keys[i])) {
        at = (at + 1) & mask;
    }
    return &f->slots[at];
}

void
es_fold_make(struct es_fold *f, const struct es_fold_key *keys, size_t n)
{
    make_room(f, n);
    f->n = 0;
    size_t slots = slots_for(n);
    for (size_t i = 0; n > 0 && i < slots; i++) {
        f->slots[i] = ES_FOLD_NONE;
    }
    for (size_t i = 0; i < n; i++) {
        f->former[i] = ES_FOLD_NONE;
        if (keys[i].table == NULL) {
            continue;
        }
        size_t *slot = slot_of(f, keys, i, slots - 1);
        if (*slot == ES_FOLD_NONE) {
            *slot = f->n++;
        } else {
            f->former[i] = f->last[*slot];
        }
        f->last[*slot] = i;
    }
}

/* ---- unchanged columns ---- */

static bool
is_known(const struct record_value *v)
{
    return v->kind == RECORD_TEXT || v->kind == RECORD_NULL;
}

/* What one record says of its column afterwards. */
static const struct record_value *
value_in(const struct record *r, uint32_t c)
{
    if (is_known(&r->new_row[c])) {
        return &r->new_row[c];
    }
    bool has_old = r->op == FRAME_UPDATE && (r->flags & FRAME_OLD_FULL) != 0 &&
                   r->new_row[c].kind == RECORD_UNCHANGED && r->old_row != NULL &&
                   is_known(&r->old_row[c]);
    return has_old ? &r->old_row[c] : NULL;
}

enum es_fold_source
es_fold_find(const struct record *records, const size_t *former, size_t i, uint32_t c,
    bool is_barred, const struct record_value **ret)
{
    const struct schema *s = records[i].schema;
    CHECK(records[i].new_row != NULL && c < s->ncols);
    for (size_t at = i; at != ES_FOLD_NONE; at = former[at]) {
        const struct record *r = &records[at];
        if (r->new_row == NULL || r->schema->id != s->id) {
            return ES_FOLD_NOWHERE; /* deleted before; or columns stand elsewhere */
        }
        const struct record_value *v = value_in(r, c);
        if (v != NULL) {
            *ret = v;
            return ES_FOLD_VALUE;
        }
        if (is_barred || r->new_row[c].kind != RECORD_UNCHANGED) {
            return ES_FOLD_NOWHERE;
        }
    }
    return ES_FOLD_DOCUMENT;
}
