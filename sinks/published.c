#include "sinks/published.h"

#include "proto/base/cleanup.h"
#include "proto/base/xmalloc.h"
#include "proto/glob.h"

static bool
is_selected(const struct worker_conf *c, const struct api_table *t)
{
    return c->ntables == 0 || glob_match_any(c->tables, c->ntables, t->ns, t->name);
}

int
published_look(struct published *p, const struct worker_conf *c, struct client *broker,
    uint32_t tables, struct err *e)
{
    if (tables == p->seen || tables == 0 || c->ops->accepts == NULL) {
        return 0;
    }
    auto_free struct api_table *all = NULL;
    uint32_t sum;
    int n = client_tables(broker, &all, &sum, e);
    if (n < 0) {
        return n;
    }
    auto_free struct sink_table *ours = xcalloc((size_t)n + 1, sizeof *ours);
    size_t n_ours = 0;
    for (int i = 0; i < n; i++) {
        if (is_selected(c, &all[i])) {
            ours[n_ours++] = (struct sink_table){
                .ns = all[i].ns, .name = all[i].name, .has_key = all[i].has_key};
        }
    }
    if (c->ops->accepts(c->options, ours, n_ours, &p->refusal) == 0) {
        p->refusal = (struct err){0};
    }
    p->seen = sum;
    return 0;
}
