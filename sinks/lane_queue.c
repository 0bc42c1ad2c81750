/* lane_queue: which lanes a record goes to. */
#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/xmalloc.h"
#include "proto/record_key.h"
#include "sinks/lanes_internal.h"

enum { FIRST_CAP = 1024 };

static void
push(struct lane *l, struct window_item *item)
{
    if (l->n == l->cap) {
        size_t cap = l->cap == 0 ? FIRST_CAP : 2 * l->cap;
        struct window_item **queue = xcalloc(cap, sizeof *queue);
        for (size_t i = 0; i < l->n; i++) {
            queue[i] = l->queue[(l->head + i) & (l->cap - 1)];
        }
        free(l->queue);
        l->queue = queue;
        l->cap = cap;
        l->head = 0;
    }
    l->queue[(l->head + l->n++) & (l->cap - 1)] = item;
}

struct window_item *
lane_queue_head(const struct lane *l)
{
    return l->n == 0 ? NULL : l->queue[l->head];
}

void
lane_queue_pop(struct lane *l)
{
    CHECK(l->n > 0);
    l->head = (l->head + 1) & (l->cap - 1);
    l->n--;
}

void
lane_queue_forget_shapes(struct lanes *ls)
{
    free(ls->shapes);
    ls->shapes = NULL;
    ls->nshapes = ls->shapes_cap = 0;
}

/* True when id was not there. */
static bool
add_shape(uint32_t *shapes, size_t cap, uint32_t id)
{
    size_t at = id & (cap - 1);
    while (shapes[at] != 0 && shapes[at] != id) {
        at = (at + 1) & (cap - 1);
    }
    bool is_new = shapes[at] == 0;
    shapes[at] = id;
    return is_new;
}

/* Whether this is the first record in this schema version: a table's later version never goes
 * back to an earlier one within a session. */
static bool
is_new_shape(struct lanes *ls, const struct schema *s)
{
    if (2 * ls->nshapes >= ls->shapes_cap) {
        size_t cap = ls->shapes_cap == 0 ? 64 : 2 * ls->shapes_cap;
        uint32_t *grown = xcalloc(cap, sizeof *grown);
        for (size_t i = 0; i < ls->shapes_cap; i++) {
            if (ls->shapes[i] != 0) {
                (void)add_shape(grown, cap, ls->shapes[i]);
            }
        }
        free(ls->shapes);
        ls->shapes = grown;
        ls->shapes_cap = cap;
    }
    bool is_new = add_shape(ls->shapes, ls->shapes_cap, s->id);
    ls->nshapes += is_new;
    return is_new;
}

static uint16_t
mask_of(const struct lanes *ls, uint32_t hash)
{
    return (uint16_t)(1u << (hash % ls->n));
}

static uint32_t
key_hash(struct buf *key, const struct record *r, const struct record_value *row)
{
    buf_reset(key, key->cap);
    record_key_put(key, r->schema, row);
    return frame_sum(0, buf_str(key));
}

static void
assign(struct lanes *ls, struct window_item *item, struct buf *key)
{
    const struct record *r = item->r;
    uint16_t all = (uint16_t)((1u << ls->n) - 1);
    if (r->schema == NULL) {
        item->lanes = mask_of(ls, 0);
        item->is_barrier = item->is_letter;
        return;
    }
    if (record_has_key(r)) {
        item->hash = key_hash(key, r, record_key_row(r));
    } else {
        buf_reset(key, key->cap);
        record_key_put_table(key, r->schema);
        item->hash = frame_sum(0, buf_str(key));
    }
    item->lanes = mask_of(ls, item->hash);
    bool is_new = is_new_shape(ls, r->schema);
    item->is_barrier =
        item->is_letter; /* older than what stands beside it: never in one write */
    if ((ls->c.ops->flags & SINK_ONE_LANE) != 0) {
        return;
    }
    if (is_new || r->op == FRAME_TRUNCATE) {
        item->is_barrier = true;
        item->lanes = all;
    } else if (record_is_key_change(r)) {
        item->is_barrier = true;
        item->lanes |= mask_of(ls, key_hash(key, r, record_former_key_row(r)));
    }
}

void
lane_queue_spread(struct lanes *ls, struct window_batch *b)
{
    struct buf auto_buf key;
    buf_init(&key, SIZE_MAX);
    for (size_t i = 0; i < b->intake.n; i++) {
        struct window_item *item = &b->items[i];
        assign(ls, item, &key);
        for (unsigned k = 0; k < ls->n; k++) {
            if ((item->lanes >> k & 1) != 0) {
                push(&ls->lane[k], item);
            }
        }
    }
}
