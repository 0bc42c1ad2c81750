#include "sinks/doubtset.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/check.h"
#include "proto/base/xmalloc.h"

enum { FIRST_SLOTS = 64 };

void
doubtset_init(struct doubtset *t)
{
    *t = (struct doubtset){0};
}

void
doubtset_fini(struct doubtset *t)
{
    free(t->slots);
    *t = (struct doubtset){0};
}

void
doubtset_reset(struct doubtset *t)
{
    free(t->slots);
    t->slots = NULL;
    t->nslots = t->n = 0;
    t->all = 0;
}

/* Where the key is, or its place is free. */
static size_t
place_of(const struct doubtset *t, uint64_t key)
{
    size_t at = key & (t->nslots - 1);
    while (t->slots[at].key != 0 && t->slots[at].key != key) {
        at = (at + 1) & (t->nslots - 1);
    }
    return at;
}

static struct api_doubt *
find(const struct doubtset *t, uint64_t key)
{
    struct api_doubt *d = t->n == 0 ? NULL : &t->slots[place_of(t, key)];
    return d == NULL || d->key == 0 ? NULL : d;
}

static void
grow(struct doubtset *t)
{
    struct api_doubt *old = t->slots;
    size_t nold = t->nslots;
    t->nslots = nold == 0 ? FIRST_SLOTS : 2 * nold;
    t->slots = xcalloc(t->nslots, sizeof *t->slots);
    for (size_t i = 0; i < nold; i++) {
        if (old[i].key != 0) {
            t->slots[place_of(t, old[i].key)] = old[i];
        }
    }
    free(old);
}

struct api_doubt
doubtset_fit(const struct doubtset *t, const struct api_doubt *d)
{
    bool fits = t->n < API_DOUBTS_MAX || find(t, d->key) != NULL;
    return fits ? *d : (struct api_doubt){.key = 0, .offset = d->offset};
}

void
doubtset_add(struct doubtset *t, const struct api_doubt *d)
{
    if (d->key == 0) {
        t->all = d->offset > t->all ? d->offset : t->all;
        return;
    }
    if (2 * t->n >= t->nslots) {
        grow(t);
    }
    struct api_doubt *to = &t->slots[place_of(t, d->key)];
    t->n += to->key == 0;
    if (to->key == 0 || d->offset > to->offset) {
        *to = *d;
    }
}

uint64_t
doubtset_floor(const struct doubtset *t, uint64_t key)
{
    const struct api_doubt *d = find(t, key);
    uint64_t last = d != NULL && d->offset > t->all ? d->offset : t->all;
    return last == 0 ? 0 : last + 1;
}

/* ---- ending ---- */

/* What stands behind a free place could not be found any more: each moves up where it may. */
static void
close_gap(struct doubtset *t, size_t gap)
{
    size_t mask = t->nslots - 1;
    for (size_t at = (gap + 1) & mask; t->slots[at].key != 0; at = (at + 1) & mask) {
        size_t home = t->slots[at].key & mask;
        if (((at - home) & mask) >= ((at - gap) & mask)) {
            t->slots[gap] = t->slots[at];
            gap = at;
        }
    }
    t->slots[gap] = (struct api_doubt){0};
}

static bool
is_over(const struct doubtset *t, const struct api_doubt *d, uint64_t offset)
{
    return d->key != 0 && d->offset <= offset && t->nproven < API_PROVEN_MAX;
}

static void
end_at(struct doubtset *t, size_t at)
{
    t->proven[t->nproven++] = t->slots[at];
    t->n--;
    close_gap(t, at);
}

void
doubtset_end(struct doubtset *t, uint64_t key, uint64_t offset)
{
    const struct api_doubt *d = find(t, key);
    if (d != NULL && is_over(t, d, offset)) {
        end_at(t, (size_t)(d - t->slots));
    }
}

void
doubtset_end_table(struct doubtset *t, uint32_t table, uint64_t offset)
{
    for (size_t i = 0; t->n > 0 && i < t->nslots;) {
        if (t->slots[i].table == table && is_over(t, &t->slots[i], offset)) {
            end_at(t, i); /* another one may stand there now */
        } else {
            i++;
        }
    }
}

void
doubtset_told(struct doubtset *t, size_t n)
{
    CHECK(n <= t->nproven);
    t->nproven -= n;
    memmove(t->proven, t->proven + n, t->nproven * sizeof *t->proven);
}
