/* announce: see announce.h. */
#include "replicator/announce.h"

#include "proto/base/cleanup.h"
#include "proto/base/log.h"
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
    int rc = n > API_TABLES_MAX ? err_set(e, ERR_TOOBIG, "%zu tables are published", n)
                                : client_source_tables(broker, tables, n, e);
    if (rc == ERR_TOOBIG) {
        log_err(LOG_WARN, "tables_not_announced", e,
            "a sink that cannot take one of them stops at its first change only");
        rc = 0;
    }
    return rc;
}
