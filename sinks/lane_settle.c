/* lane_settle: dead letters and rereads around a write, and settling. Called with the lock,
 * lets go of it for each call to the broker: the lane is busy, so its items stay. */
#include <inttypes.h>
#include <stdio.h>

#include "proto/base/clock.h"
#include "proto/record_key.h"
#include "sinks/lanes_internal.h"

static struct str
frame_of(const struct window_item *item)
{
    return item->batch->intake.frames[item->r - item->batch->intake.records];
}

/* A barrier stands at the head of the queue of every lane that it touches. */
static void
settle(struct lane *l, struct window_item *item)
{
    struct lanes *ls = l->ls;
    for (unsigned k = 0; item->is_barrier && k < ls->n; k++) {
        if ((item->lanes >> k & 1) != 0) {
            lane_queue_pop(&ls->lane[k]);
        }
    }
    ls->view.settled += !item->is_letter;
    window_settle(&ls->window, item);
    lanes_news(ls);
}

static bool
needs_values(const struct lanes *ls)
{
    return (ls->c.ops->flags & SINK_NEEDS_VALUES) != 0;
}

/* The lowest key change below the record that touches a key of its and that the target was not
 * told; 0: none. A target that knows an order and no versions must not see the record before
 * it: whichever came second would undo the first. (Of the other kinds the target has been told
 * already that the former key is gone.) */
static uint64_t
move_before(struct lane *l, const struct record *r)
{
    struct deadset *t = &l->ls->letters;
    if (t->n_moves == 0 || needs_values(l->ls) || !record_has_key(r)) {
        return 0;
    }
    uint64_t of_key = deadset_move_before(t, effects_key(&l->x, r), r->offset);
    uint64_t of_former = deadset_move_before(t, effects_former_key(&l->x, r), r->offset);
    return of_key == 0 || (of_former != 0 && of_former < of_key) ? of_former : of_key;
}

/* ---- calls ---- */

static int
bury(struct lane *l, const struct window_item *item, uint8_t state, const char *reason,
    struct err *e)
{
    struct lanes *ls = l->ls;
    const struct record *r = item->r;
    bool is_whole = record_has_key(r) && !record_has_unchanged(r) && move_before(l, r) == 0;
    (void)pthread_mutex_unlock(&ls->lock);
    int rc = effects_bury(&l->x, r, frame_of(item), state, is_whole, reason, e);
    (void)pthread_mutex_lock(&ls->lock);
    if (rc != 0) {
        return rc;
    }
    struct api_letter letter = {.offset = r->offset,
        .state = state,
        .key = effects_key(&l->x, r),
        .former = effects_former_key(&l->x, r)};
    if (is_whole) {
        deadset_remove(&ls->letters, letter.key, r->offset);
    }
    deadset_add(&ls->letters, &letter);
    return 0;
}

static int
raise_key(struct lane *l, struct str key, bool is_prefix, uint64_t offset, struct err *e)
{
    struct lanes *ls = l->ls;
    (void)pthread_mutex_unlock(&ls->lock);
    int rc = effects_raise(&l->x, key, is_prefix, offset, e);
    (void)pthread_mutex_lock(&ls->lock);
    if (rc != 0) {
        return rc;
    }
    if (is_prefix) {
        deadset_remove_prefix(&ls->letters, key, offset);
    } else {
        deadset_remove(&ls->letters, key, offset);
    }
    return 0;
}

static int
raise_if_any(struct lane *l, struct str key, uint64_t offset, struct err *e)
{
    if (!deadset_has(&l->ls->letters, key, offset, NULL)) {
        return 0;
    }
    return raise_key(l, key, false, offset, e);
}

/* The target knows that the row of the former key is gone. */
static int
raise_former(struct lane *l, const struct record *r, struct err *e)
{
    return record_is_key_change(r) ? raise_if_any(l, effects_former_key(&l->x, r), r->offset, e)
                                   : 0;
}

/* The target has this record: letters of its key up to it have nothing more to say. Where the
 * target was given only the columns that changed, they still have. */
static int
raise_for(struct lane *l, const struct window_item *item, struct err *e)
{
    struct lanes *ls = l->ls;
    const struct record *r = item->r;
    if (ls->letters.n == 0) {
        return 0;
    }
    if (r->op == FRAME_TRUNCATE) {
        struct str table = effects_table_key(&l->x, r);
        bool has = deadset_has_prefix(&ls->letters, table, r->offset);
        return has ? raise_key(l, table, true, r->offset, e) : 0;
    }
    if (record_has_unchanged(r) && !needs_values(ls) && !item->is_letter) {
        return 0;
    }
    int rc = raise_if_any(l, effects_key(&l->x, r), r->offset, e);
    return rc == 0 ? raise_former(l, r, e) : rc;
}

static int
reject(struct lane *l, const struct window_item *item, const char *reason, struct err *e)
{
    int rc = bury(l, item, API_LETTER_DEAD, reason, e);
    return rc == 0 && needs_values(l->ls) ? raise_former(l, item->r, e) : rc;
}

static uint64_t
key_of(struct lane *l, const struct record *r)
{
    return record_key_hash(effects_key(&l->x, r));
}

static uint64_t
former_key_of(struct lane *l, const struct record *r)
{
    return record_key_hash(effects_former_key(&l->x, r));
}

static uint32_t
table_of(struct lane *l, const struct record *r)
{
    return frame_sum(0, effects_table_key(&l->x, r));
}

static int
ask(struct lane *l, const struct window_item *item, struct err *e)
{
    struct lanes *ls = l->ls;
    const struct record *r = item->r;
    struct api_doubt doubt = {
        .key = key_of(l, r), .table = table_of(l, r), .offset = r->offset};
    doubt = doubtset_fit(&ls->doubts, &doubt);
    (void)pthread_mutex_unlock(&ls->lock);
    int rc = effects_ask(&l->x, r, needs_values(ls) ? &doubt : NULL, e);
    (void)pthread_mutex_lock(&ls->lock);
    if (rc == ERR_TOOBIG) {
        return reject(l, item,
            "its row cannot be read again: its key is longer than a request for it may be", e);
    }
    if (rc == 0) { /* of the row that will be read: not the former one */
        ls->view.rereads++;
        if (needs_values(ls)) {
            doubtset_add(&ls->doubts, &doubt);
        }
        rc = raise_former(l, r, e);
    }
    if (rc == 0 && item->is_letter) {
        rc = bury(l, item, API_LETTER_REREAD, "its row is being read again", e);
    }
    return rc;
}

/* ---- before a write ---- */

/* The lowest letter below the record that its key, or the one it had, has; 0: none. */
static uint64_t
letter_before(struct lane *l, const struct record *r)
{
    uint64_t first = 0;
    struct deadset *t = &l->ls->letters;
    if (!record_has_key(r) || deadset_has(t, effects_key(&l->x, r), r->offset - 1, &first)) {
        return first;
    }
    if (record_is_key_change(r)) {
        (void)deadset_has(t, effects_former_key(&l->x, r), r->offset - 1, &first);
    }
    return first;
}

/* Below which version what the target holds of the record's key, or of the one it had, is no
 * proof of a value. */
static uint64_t
floor_of(struct lane *l, const struct record *r)
{
    const struct doubtset *t = &l->ls->doubts;
    uint64_t floor = l->ls->session.floor;
    if ((t->n == 0 && t->all == 0) || !record_has_key(r)) {
        return floor;
    }
    uint64_t of_key = doubtset_floor(t, key_of(l, r));
    uint64_t of_former = record_is_key_change(r) ? doubtset_floor(t, former_key_of(l, r)) : 0;
    floor = of_key > floor ? of_key : floor;
    return of_former > floor ? of_former : floor;
}

/* Settles the record as a letter that only makes sense behind the one at that offset. */
static int
join(struct lane *l, struct window_item *item, const char *why, uint64_t offset, struct err *e)
{
    char reason[120];
    (void)snprintf(reason, sizeof reason, "%s the dead letter at offset %" PRIu64, why, offset);
    int rc = bury(l, item, API_LETTER_DEAD, reason, e);
    if (rc == 0) {
        settle(l, item);
    }
    return rc;
}

/* Whether the item still has to be written: 1, and in *ret_barred how; 0: it was settled. */
static int
prepare_one(struct lane *l, struct window_item *item, bool *ret_barred, struct err *e)
{
    struct lanes *ls = l->ls;
    const struct record *r = item->r;
    *ret_barred = false;
    if (item->is_letter &&
        !deadset_is(&ls->letters, effects_key(&l->x, r), r->offset, API_LETTER_RETRY)) {
        settle(l, item); /* something newer of its key has arrived meanwhile */
        return 0;
    }
    uint64_t first = move_before(l, r);
    if (first != 0) {
        return join(l, item, "it follows the key change in", first, e);
    }
    if (ls->letters.n == 0 || !record_has_unchanged(r)) {
        return 1;
    }
    first = letter_before(l, r);
    if (needs_values(ls)) {
        *ret_barred = first != 0 || item->is_letter;
        return 1;
    }
    return first == 0 ? 1 : join(l, item, "it leaves out columns whose value is in", first, e);
}

int
lane_prepare(struct lane *l, struct err *e)
{
    size_t kept = 0, i = 0;
    int rc = 0;
    for (; i < l->ncur; i++) {
        struct window_item *item = l->cur[i];
        bool is_barred;
        rc = prepare_one(l, item, &is_barred, e);
        if (rc < 0) {
            break;
        }
        if (rc == 1) {
            l->records[kept] = *item->r;
            l->keys[kept] = item->hash;
            l->barred[kept] = is_barred;
            l->floors[kept] = floor_of(l, item->r);
            l->cur[kept++] = item;
        }
    }
    for (; i < l->ncur; i++) {
        l->cur[kept++] = l->cur[i];
    }
    l->ncur = kept;
    return rc < 0 ? rc : 0;
}

/* ---- after it ---- */

/* The target was given only what changed, and what did not was rejected in this same write
 * (else it would have joined that letter): only the whole row can mend it. */
static bool
lacks_rejected(struct lane *l, const struct window_item *item)
{
    return l->ls->letters.n > 0 && !needs_values(l->ls) && !item->is_letter &&
           record_has_unchanged(item->r) && letter_before(l, item->r) != 0;
}

/* The target has taken the record: it holds whole rows only, so nothing of these keys is
 * doubted up to here. */
static void
end_doubts(struct lane *l, const struct record *r)
{
    struct doubtset *t = &l->ls->doubts;
    if (t->n == 0) {
        return;
    }
    if (r->op == FRAME_TRUNCATE) {
        doubtset_end_table(t, table_of(l, r), r->offset);
    } else if (record_has_key(r)) {
        doubtset_end(t, key_of(l, r), r->offset);
    }
    if (record_is_key_change(r)) {
        doubtset_end(t, former_key_of(l, r), r->offset);
    }
}

static int
carry_out(struct lane *l, struct window_item *item, enum verdict_effect effect,
    const char *reason, struct err *e)
{
    switch (effect) {
    case VERDICT_SETTLE:
        l->ls->view.last_success_us = clock_wall_us();
        end_doubts(l, item->r);
        return lacks_rejected(l, item) ? ask(l, item, e) : raise_for(l, item, e);
    case VERDICT_BURY:
        return reject(l, item, reason, e);
    case VERDICT_ASK:
        return ask(l, item, e);
    case VERDICT_KEEP:
        break;
    }
    return 0;
}

int
lane_settle(struct lane *l, size_t n, struct err *e)
{
    size_t kept = 0, i = 0;
    int rc = 0;
    for (; i < n && rc == 0; i++) {
        struct window_item *item = l->cur[i];
        if (l->effects[i] != VERDICT_KEEP) {
            rc = carry_out(l, item, l->effects[i], verdict_reason(&l->verdicts[i]), e);
        }
        if (rc == 0 && l->effects[i] != VERDICT_KEEP) {
            settle(l, item);
        } else {
            l->cur[kept++] = item;
        }
    }
    for (; i < l->ncur; i++) {
        l->cur[kept++] = l->cur[i];
    }
    l->ncur = kept;
    return rc;
}
