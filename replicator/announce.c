/* announce: see announce.h. */
#include "replicator/announce.h"

#include "proto/base/cleanup.h"
#include "proto/base/xmalloc.h"

int
announce_tables(
    struct client *broker, const struct publication_plan *p, bool will_be, struct err *e)
{
    auto_free struct api_table *tables = xcalloc(p->ntables + 1, sizeof *tables);
    size_t n = 0;
    for (size_t i = 0; i < p->ntables; i++) {
        const struct publication_table *t = &p->tables[i];
        if (publication_has_changes(p, t, will_be)) {
            tables[n++] =
                (struct api_table){.ns = t->schema, .name = t->name, .has_key = t->has_key};
        }
    }
    int rc = n > API_TABLES_MAX
                 ? err_set(e, ERR_TOOBIG, "%zu tables are more than can be announced", n)
                 : client_source_tables(broker, tables, n, e);
    if (rc == ERR_TOOBIG) { /* better none than those of some time ago */
        struct err why = {0};
        int told = client_source_tables(broker, NULL, 0, &why);
        if (told != 0) {
            *e = why;
            return told;
        }
    }
    return rc;
}
