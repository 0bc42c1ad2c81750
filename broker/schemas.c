#include "broker/schemas.h"

#include <pthread.h>
#include <stdlib.h>

#include "proto/base/xmalloc.h"

/* Open addressing by id; emptied as a whole when it grows beyond any use (a version per table
 * and reconnect). */
enum { SLOTS_FIRST = 64, ENTRIES_MAX = 16 * 1024 };

struct schemas {
    pthread_mutex_t lock;
    struct schema **slot;
    size_t nslots, n;
};

struct schemas *
schemas_new(void)
{
    struct schemas *sc = xcalloc(1, sizeof *sc);
    (void)pthread_mutex_init(&sc->lock, NULL);
    sc->nslots = SLOTS_FIRST;
    sc->slot = xcalloc(sc->nslots, sizeof *sc->slot);
    return sc;
}

static void
drop_all(struct schemas *sc)
{
    for (size_t i = 0; i < sc->nslots; i++) {
        schema_unref(sc->slot[i]);
        sc->slot[i] = NULL;
    }
    sc->n = 0;
}

void
schemas_free(struct schemas *sc)
{
    if (sc == NULL) {
        return;
    }
    drop_all(sc);
    free(sc->slot);
    (void)pthread_mutex_destroy(&sc->lock);
    free(sc);
}

/* The slot that holds id, or the empty one where it belongs. */
static struct schema **
find_slot(struct schema **slot, size_t nslots, uint32_t id)
{
    size_t i = (id * 2654435761u) & (nslots - 1);
    while (slot[i] != NULL && slot[i]->id != id) {
        i = (i + 1) & (nslots - 1);
    }
    return &slot[i];
}

static void
make_room(struct schemas *sc)
{
    if (sc->n >= ENTRIES_MAX) {
        drop_all(sc);
    }
    if (sc->n * 2 < sc->nslots) {
        return;
    }
    size_t nslots = sc->nslots * 2;
    struct schema **slot = xcalloc(nslots, sizeof *slot);
    for (size_t i = 0; i < sc->nslots; i++) {
        if (sc->slot[i] != NULL) {
            *find_slot(slot, nslots, sc->slot[i]->id) = sc->slot[i];
        }
    }
    free(sc->slot);
    sc->slot = slot;
    sc->nslots = nslots;
}

struct schema *
schemas_get(struct schemas *sc, uint32_t id)
{
    (void)pthread_mutex_lock(&sc->lock);
    struct schema *s = *find_slot(sc->slot, sc->nslots, id);
    if (s != NULL) {
        (void)schema_ref(s);
    }
    (void)pthread_mutex_unlock(&sc->lock);
    return s;
}

int
schemas_put(
    struct schemas *sc, uint32_t id, struct str encoded, struct schema **ret, struct err *e)
{
    struct schema *s;
    int rc = schema_decode(id, encoded, &s, e);
    if (rc != 0) {
        return rc;
    }
    (void)pthread_mutex_lock(&sc->lock);
    make_room(sc);
    struct schema **slot = find_slot(sc->slot, sc->nslots, id);
    if (*slot == NULL) {
        *slot = schema_ref(s);
        sc->n++;
    }
    (void)pthread_mutex_unlock(&sc->lock);
    *ret = s;
    return 0;
}
