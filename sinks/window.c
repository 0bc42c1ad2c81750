#include "sinks/window.h"

#include <inttypes.h>
#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/xmalloc.h"

enum { KEEP_BYTES = 2 * 1024 * 1024, FREE_MAX = 8 };

void
window_init(struct window *w, const struct str *tables, size_t ntables)
{
    *w = (struct window){.tables = tables, .ntables = ntables};
}

static void
batch_free(struct window_batch *b)
{
    intake_fini(&b->intake);
    buf_fini(&b->bytes);
    free(b->items);
    free(b);
}

static void
free_list(struct window_batch **list)
{
    while (*list != NULL) {
        struct window_batch *next = (*list)->next;
        batch_free(*list);
        *list = next;
    }
}

void
window_fini(struct window *w)
{
    free_list(&w->head);
    free_list(&w->letters);
    free_list(&w->free);
    *w = (struct window){0};
}

void
window_reset(struct window *w, uint64_t next)
{
    free_list(&w->head);
    free_list(&w->letters);
    w->tail = NULL;
    w->bytes = 0;
    w->passed = w->fetched = next;
}

static struct window_batch *
take_free(struct window *w)
{
    struct window_batch *b = w->free;
    if (b != NULL) {
        w->free = b->next;
        b->next = NULL;
        return b;
    }
    b = xcalloc(1, sizeof *b);
    buf_init(&b->bytes, SIZE_MAX);
    intake_init(&b->intake, w->tables, w->ntables);
    return b;
}

static void
give_back(struct window *w, struct window_batch *b)
{
    size_t kept = 0;
    for (struct window_batch *f = w->free; f != NULL; f = f->next) {
        kept++;
    }
    if (kept >= FREE_MAX || b->bytes.cap > KEEP_BYTES) {
        batch_free(b);
        return;
    }
    intake_reset(&b->intake);
    buf_reset(&b->bytes, KEEP_BYTES);
    b->next = w->free;
    w->free = b;
}

static int
load(struct window_batch *b, struct str bytes, struct err *e)
{
    buf_put_str(&b->bytes, bytes);
    int rc = intake_load(&b->intake, buf_str(&b->bytes), e);
    if (rc != 0) {
        return rc;
    }
    size_t n = b->intake.n;
    if (n > b->items_cap) {
        b->items = xreallocarray(b->items, n, sizeof *b->items);
        b->items_cap = n;
    }
    for (size_t i = 0; i < n; i++) {
        b->items[i] = (struct window_item){.r = &b->intake.records[i], .batch = b};
    }
    b->at = 0;
    b->left = n;
    return 0;
}

/* A batch has to carry on where the last one ended. */
static int
check_order(const struct window *w, const struct intake *in, struct err *e)
{
    uint64_t next = in->header.next_offset;
    bool is_sound = next >= w->fetched && next <= in->header.tail_offset;
    if (in->n > 0) {
        is_sound = is_sound && in->records[0].offset >= w->fetched &&
                   in->records[in->n - 1].offset < next;
    }
    if (!is_sound) {
        return err_set(e, ERR_CORRUPT,
            "the broker sent a batch up to %" PRIu64 " of %" PRIu64
            " that does not continue at %" PRIu64,
            next, in->header.tail_offset, w->fetched);
    }
    return 0;
}

static void
append(struct window *w, struct window_batch *b)
{
    if (w->tail == NULL) {
        w->head = b;
    } else {
        w->tail->next = b;
    }
    w->tail = b;
    w->bytes += b->bytes.n;
}

int
window_add(struct window *w, struct str bytes, struct window_batch **ret, struct err *e)
{
    struct window_batch *b = take_free(w);
    int rc = load(b, bytes, e);
    if (rc == 0) {
        rc = check_order(w, &b->intake, e);
    }
    if (rc != 0) {
        give_back(w, b);
        return rc;
    }
    w->fetched = b->intake.header.next_offset;
    if (b->left > 0) {
        append(w, b);
        *ret = b;
        return 0;
    }
    if (w->head == NULL) {
        w->passed = w->fetched;
    } else { /* passed with what is before it: a target that is down for days costs nothing */
        w->tail->intake.header.next_offset = w->fetched;
    }
    give_back(w, b);
    *ret = NULL;
    return 0;
}

int
window_add_letter(struct window *w, struct str bytes, struct window_batch **ret, struct err *e)
{
    struct window_batch *b = take_free(w);
    int rc = load(b, bytes, e);
    if (rc == 0 && b->left > 1) {
        rc = err_set(e, ERR_CORRUPT, "a dead letter holds %zu records", b->left);
    }
    if (rc != 0) {
        give_back(w, b);
        return rc;
    }
    if (b->left == 0) { /* `tables` no longer selects it */
        give_back(w, b);
        *ret = NULL;
        return 0;
    }
    b->items[0].is_letter = true;
    b->next = w->letters;
    w->letters = b;
    *ret = b;
    return 0;
}

/* Moves the offset over what is settled from the beginning on. */
static void
advance(struct window *w)
{
    while (w->head != NULL) {
        struct window_batch *b = w->head;
        while (b->at < b->intake.n && b->items[b->at].is_settled) {
            b->at++;
        }
        if (b->at < b->intake.n) {
            w->passed = b->items[b->at].r->offset;
            return;
        }
        w->passed = b->intake.header.next_offset;
        w->head = b->next;
        if (w->head == NULL) {
            w->tail = NULL;
        }
        w->bytes -= b->bytes.n;
        give_back(w, b);
    }
}

void
window_settle(struct window *w, struct window_item *item)
{
    CHECK(!item->is_settled);
    item->is_settled = true;
    struct window_batch *b = item->batch;
    b->left--;
    if (item->is_letter) {
        struct window_batch **link = &w->letters;
        while (*link != b) {
            link = &(*link)->next;
        }
        *link = b->next;
        give_back(w, b);
        return;
    }
    if (b == w->head) {
        advance(w);
    }
}
