/* es_seen: see es_seen.h. */
#include "sinks/elasticsearch/es_seen.h"

#include <pthread.h>
#include <stdlib.h>

#include "proto/base/xmalloc.h"

struct seen {
    char *alias;
    size_t n;
    uint64_t first; /* the lowest offset */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct seen *all; /* of every table, until the process ends */
static size_t count;

static struct seen *
find(struct str alias)
{
    for (size_t i = 0; i < count; i++) {
        if (str_eq(alias, (struct str){all[i].alias, all[i].n})) {
            return &all[i];
        }
    }
    return NULL;
}

void
es_seen_put(struct str alias, uint64_t offset)
{
    (void)pthread_mutex_lock(&lock);
    struct seen *s = find(alias);
    if (s == NULL) {
        all = xreallocarray(all, count + 1, sizeof *all);
        s = &all[count++];
        *s = (struct seen){xstrndup(alias.p, alias.n), alias.n, offset};
    } else if (offset < s->first) {
        s->first = offset;
    }
    (void)pthread_mutex_unlock(&lock);
}

bool
es_seen_before(struct str alias, uint64_t offset)
{
    (void)pthread_mutex_lock(&lock);
    const struct seen *s = find(alias);
    bool is_seen = s != NULL && s->first < offset;
    (void)pthread_mutex_unlock(&lock);
    return is_seen;
}

void
es_seen_again(uint64_t next)
{
    (void)pthread_mutex_lock(&lock);
    for (size_t i = count; i-- > 0;) {
        if (all[i].first >= next) {
            free(all[i].alias);
            all[i] = all[--count];
        }
    }
    (void)pthread_mutex_unlock(&lock);
}
