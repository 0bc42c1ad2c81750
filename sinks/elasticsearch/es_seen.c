#include "sinks/elasticsearch/es_seen.h"

#include <pthread.h>

#include "proto/base/check.h"
#include "proto/base/xmalloc.h"

struct seen {
    uint8_t uuid[16];
    struct str alias;
    uint64_t next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct seen *all; /* as many as the sink has tables */
static size_t n_all;

/* With the lock held. */
static struct seen *
find(const uint8_t uuid[16], struct str alias)
{
    for (size_t i = 0; i < n_all; i++) {
        if (memcmp(all[i].uuid, uuid, sizeof all[i].uuid) == 0 && str_eq(all[i].alias, alias)) {
            return &all[i];
        }
    }
    return NULL;
}

void
es_seen_put(const uint8_t uuid[16], struct str alias, uint64_t next)
{
    CHECK(pthread_mutex_lock(&lock) == 0);
    struct seen *s = find(uuid, alias);
    if (s == NULL) {
        all = xreallocarray(all, n_all + 1, sizeof *all);
        s = &all[n_all++];
        *s = (struct seen){
            .alias = {.p = xstrndup(alias.p, alias.n), .n = alias.n}, .next = next};
        memcpy(s->uuid, uuid, sizeof s->uuid);
    }
    if (next < s->next) {
        s->next = next;
    }
    CHECK(pthread_mutex_unlock(&lock) == 0);
}

bool
es_seen_before(const uint8_t uuid[16], struct str alias, uint64_t next)
{
    CHECK(pthread_mutex_lock(&lock) == 0);
    const struct seen *s = find(uuid, alias);
    bool is_before = s != NULL && s->next < next;
    CHECK(pthread_mutex_unlock(&lock) == 0);
    return is_before;
}
