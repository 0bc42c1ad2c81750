#include "sinks/deadset.h"

#include <stdlib.h>

#include "proto/base/xmalloc.h"
#include "proto/frame.h"

struct letter {
    struct letter *next, *next_former; /* in both tables; the second one of key changes only */
    uint64_t offset;
    uint8_t state;
    size_t n, nformer;
    char key[]; /* n bytes, and nformer of the former key */
};

enum { FIRST_SLOTS = 64 };

void
deadset_init(struct deadset *l)
{
    *l = (struct deadset){0};
}

void
deadset_reset(struct deadset *l)
{
    for (size_t i = 0; i < l->nslots; i++) {
        while (l->slots[i] != NULL) {
            struct letter *next = l->slots[i]->next;
            free(l->slots[i]);
            l->slots[i] = next;
        }
        l->formers[i] = NULL;
    }
    l->n = l->n_moves = 0;
}

void
deadset_fini(struct deadset *l)
{
    deadset_reset(l);
    free(l->slots);
    free(l->formers);
    *l = (struct deadset){0};
}

static size_t
slot_of(const struct deadset *l, struct str key)
{
    return frame_sum(0, key) & (l->nslots - 1);
}

static struct str
key_of(const struct letter *t)
{
    return (struct str){t->key, t->n};
}

static struct str
former_of(const struct letter *t)
{
    return (struct str){t->key + t->n, t->nformer};
}

static void
put(struct deadset *l, struct letter *t)
{
    struct letter **slot = &l->slots[slot_of(l, key_of(t))];
    t->next = *slot;
    *slot = t;
    if (t->nformer > 0) {
        slot = &l->formers[slot_of(l, former_of(t))];
        t->next_former = *slot;
        *slot = t;
        l->n_moves++;
    }
}

/* Takes out the letter that a link of `slots` leads to. */
static void
drop(struct deadset *l, struct letter **link)
{
    struct letter *t = *link;
    *link = t->next;
    if (t->nformer > 0) {
        struct letter **at = &l->formers[slot_of(l, former_of(t))];
        while (*at != t) {
            at = &(*at)->next_former;
        }
        *at = t->next_former;
        l->n_moves--;
    }
    free(t);
    l->n--;
}

static void
grow(struct deadset *l)
{
    struct deadset old = *l;
    l->nslots = old.nslots == 0 ? FIRST_SLOTS : 2 * old.nslots;
    l->slots = xcalloc(l->nslots, sizeof *l->slots);
    l->formers = xcalloc(l->nslots, sizeof *l->formers);
    for (size_t i = 0; i < old.nslots; i++) {
        while (old.slots[i] != NULL) {
            struct letter *t = old.slots[i];
            old.slots[i] = t->next;
            put(l, t);
        }
    }
    free(old.slots);
    free(old.formers);
}

/* The link that leads to it, or NULL. */
static struct letter **
find(const struct deadset *l, struct str key, uint64_t offset)
{
    struct letter **link = l->n == 0 ? NULL : &l->slots[slot_of(l, key)];
    while (link != NULL && *link != NULL) {
        if ((*link)->offset == offset && str_eq(key_of(*link), key)) {
            return link;
        }
        link = &(*link)->next;
    }
    return NULL;
}

void
deadset_add(struct deadset *l, const struct api_letter *letter)
{
    struct str key = letter->key, former = letter->former;
    struct letter **there = find(l, key, letter->offset);
    if (there != NULL) {
        drop(l, there);
    }
    if (l->n >= l->nslots) {
        grow(l);
    }
    struct letter *t = xmalloc(sizeof *t + key.n + former.n);
    *t = (struct letter){
        .offset = letter->offset, .state = letter->state, .n = key.n, .nformer = former.n};
    if (key.n > 0) {
        memcpy(t->key, key.p, key.n);
    }
    if (former.n > 0) {
        memcpy(t->key + key.n, former.p, former.n);
    }
    put(l, t);
    l->n++;
}

static bool
has_prefix(struct str key, struct str prefix)
{
    return key.n >= prefix.n && memcmp(key.p, prefix.p, prefix.n) == 0;
}

/* Records without a key have nothing to do with each other: only the very offset counts. */
static bool
is_due(const struct letter *t, struct str key, uint64_t offset)
{
    if (!str_eq(key_of(t), key)) {
        return false;
    }
    return key.n == 0 ? t->offset == offset : t->offset <= offset;
}

/* Takes out of one chain what matches. */
static void
prune(struct deadset *l, struct letter **link, struct str key, bool is_prefix, uint64_t offset)
{
    while (*link != NULL) {
        struct letter *t = *link;
        bool is_match = is_prefix ? has_prefix(key_of(t), key) && t->offset <= offset
                                  : is_due(t, key, offset);
        if (is_match) {
            drop(l, link);
        } else {
            link = &t->next;
        }
    }
}

void
deadset_remove(struct deadset *l, struct str key, uint64_t offset)
{
    if (l->n > 0) {
        prune(l, &l->slots[slot_of(l, key)], key, false, offset);
    }
}

void
deadset_remove_prefix(struct deadset *l, struct str prefix, uint64_t offset)
{
    for (size_t i = 0; i < l->nslots; i++) {
        prune(l, &l->slots[i], prefix, true, offset);
    }
}

bool
deadset_has(const struct deadset *l, struct str key, uint64_t offset, uint64_t *ret_first)
{
    bool found = false;
    for (struct letter *t = l->n == 0 ? NULL : l->slots[slot_of(l, key)]; t != NULL;
         t = t->next) {
        if (!is_due(t, key, offset)) {
            continue;
        }
        if (ret_first != NULL && (!found || t->offset < *ret_first)) {
            *ret_first = t->offset;
        }
        found = true;
    }
    return found;
}

bool
deadset_has_prefix(const struct deadset *l, struct str prefix, uint64_t offset)
{
    for (size_t i = 0; l->n > 0 && i < l->nslots; i++) {
        for (struct letter *t = l->slots[i]; t != NULL; t = t->next) {
            if (t->offset <= offset && has_prefix(key_of(t), prefix)) {
                return true;
            }
        }
    }
    return false;
}

/* Its offset when it is an open key change below that, else that. */
static uint64_t
lower_move(const struct letter *t, uint64_t below)
{
    bool is_open = t->state == API_LETTER_DEAD || t->state == API_LETTER_RETRY;
    return t->nformer > 0 && is_open && t->offset < below ? t->offset : below;
}

uint64_t
deadset_move_before(const struct deadset *l, struct str key, uint64_t offset)
{
    uint64_t first = offset;
    if (l->n_moves == 0 || key.n == 0) {
        return 0;
    }
    size_t slot = slot_of(l, key);
    for (struct letter *t = l->slots[slot]; t != NULL; t = t->next) {
        first = str_eq(key_of(t), key) ? lower_move(t, first) : first;
    }
    for (struct letter *t = l->formers[slot]; t != NULL; t = t->next_former) {
        first = str_eq(former_of(t), key) ? lower_move(t, first) : first;
    }
    return first < offset ? first : 0;
}

bool
deadset_is(const struct deadset *l, struct str key, uint64_t offset, uint8_t state)
{
    struct letter **link = find(l, key, offset);
    return link != NULL && (*link)->state == state;
}

bool
deadset_next_retry(const struct deadset *l, uint64_t from, uint64_t *ret_offset)
{
    bool found = false;
    for (size_t i = 0; l->n > 0 && i < l->nslots; i++) {
        for (struct letter *t = l->slots[i]; t != NULL; t = t->next) {
            if (t->state == API_LETTER_RETRY && t->offset >= from &&
                (!found || t->offset < *ret_offset)) {
                *ret_offset = t->offset;
                found = true;
            }
        }
    }
    return found;
}
