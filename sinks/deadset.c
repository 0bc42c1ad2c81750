#include "sinks/deadset.h"

#include <stdlib.h>

#include "proto/base/xmalloc.h"
#include "proto/frame.h"

struct letter {
    struct letter *next;
    uint64_t offset;
    uint8_t state;
    size_t n;
    char key[]; /* n bytes */
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
    }
    l->n = 0;
}

void
deadset_fini(struct deadset *l)
{
    deadset_reset(l);
    free(l->slots);
    *l = (struct deadset){0};
}

static struct letter **
slot_of(const struct deadset *l, struct str key)
{
    return &l->slots[frame_sum(0, key) & (l->nslots - 1)];
}

static struct str
key_of(const struct letter *t)
{
    return (struct str){t->key, t->n};
}

static void
grow(struct deadset *l)
{
    struct deadset old = *l;
    l->nslots = old.nslots == 0 ? FIRST_SLOTS : 2 * old.nslots;
    l->slots = xcalloc(l->nslots, sizeof *l->slots);
    for (size_t i = 0; i < old.nslots; i++) {
        while (old.slots[i] != NULL) {
            struct letter *t = old.slots[i];
            old.slots[i] = t->next;
            struct letter **slot = slot_of(l, key_of(t));
            t->next = *slot;
            *slot = t;
        }
    }
    free(old.slots);
}

static struct letter *
find(const struct deadset *l, struct str key, uint64_t offset)
{
    struct letter *t = l->n == 0 ? NULL : *slot_of(l, key);
    while (t != NULL && !(t->offset == offset && str_eq(key_of(t), key))) {
        t = t->next;
    }
    return t;
}

void
deadset_add(struct deadset *l, struct str key, uint64_t offset, uint8_t state)
{
    struct letter *t = find(l, key, offset);
    if (t != NULL) {
        t->state = state;
        return;
    }
    if (l->n >= l->nslots) {
        grow(l);
    }
    t = xmalloc(sizeof *t + key.n);
    t->offset = offset;
    t->state = state;
    t->n = key.n;
    if (key.n > 0) {
        memcpy(t->key, key.p, key.n);
    }
    struct letter **slot = slot_of(l, key);
    t->next = *slot;
    *slot = t;
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
            *link = t->next;
            free(t);
            l->n--;
        } else {
            link = &t->next;
        }
    }
}

void
deadset_remove(struct deadset *l, struct str key, uint64_t offset)
{
    if (l->n > 0) {
        prune(l, slot_of(l, key), key, false, offset);
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
    for (struct letter *t = l->n == 0 ? NULL : *slot_of(l, key); t != NULL; t = t->next) {
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

bool
deadset_is(const struct deadset *l, struct str key, uint64_t offset, uint8_t state)
{
    const struct letter *t = find(l, key, offset);
    return t != NULL && t->state == state;
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
