/* publication: see publication.h. */
#include "replicator/publication.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/xmalloc.h"
#include "proto/glob.h"
#include "replicator/catalog.h"
#include "replicator/sql.h"

enum {
    SQL_MAX = 16 * 1024 * 1024,
    PUBLISH_MS = 60 * 1000,
    PARENTS_MAX =
        64 /* levels of partitioning; also the end of any loop in a torn catalogue read */
};

/* ---- reading ---- */

static int
read_publication(struct pgconn *c, const char *name, struct publication_plan *p,
    uint64_t *ret_oid, struct err *e)
{
    auto_buf struct buf sql;
    buf_init(&sql, 4096);
    buf_puts(&sql,
        "SELECT p.oid, puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot,"
        " CASE WHEN p.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE')"
        " ELSE pg_has_role(p.pubowner, 'USAGE') END"
        " FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_publication p ON p.pubname = ");
    sql_put_literal(&sql, str_from(name));
    auto_pgrows struct pgrows *r = NULL;
    int rc = pgconn_query(c, buf_cstr(&sql), CATALOG_QUERY_MS, &r, e);
    if (rc != 0) {
        return rc;
    }
    *ret_oid = 0;
    p->exists = pgrows_u64(r, 0, 0, ret_oid);
    p->has_all_tables = pgrows_bool(r, 0, 1);
    p->has_insert = pgrows_bool(r, 0, 2);
    p->has_update = pgrows_bool(r, 0, 3);
    p->has_delete = pgrows_bool(r, 0, 4);
    p->has_truncate = pgrows_bool(r, 0, 5);
    p->via_root = pgrows_bool(r, 0, 6);
    p->may_apply = pgrows_bool(r, 0, 7);
    return 0;
}

/* A deferrable or invalid index identifies nothing (RelationGetIndexList). */
static void
put_has_index(struct buf *sql, const char *which)
{
    buf_printf(sql,
        " EXISTS (SELECT 1 FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisvalid"
        " AND i.indimmediate AND (%s OR c.relreplident = 'i' AND i.indisreplident))",
        which);
}

static int
query_tables(struct pgconn *c, uint64_t publication_oid, struct pgrows **ret, struct err *e)
{
    bool has_schemas = pgconn_version(c) >= 150000;
    auto_buf struct buf sql;
    buf_init(&sql, 8192);
    buf_printf(&sql,
        "SELECT c.oid, n.nspname, c.relname, c.relkind = 'p', h.inhparent,"
        " r.prrelid IS NOT NULL%s, c.relreplident = 'f' OR",
        has_schemas ? " OR s.pnnspid IS NOT NULL" : "");
    put_has_index(&sql, "c.relreplident = 'd' AND i.indisprimary");
    buf_puts(&sql, ", pg_has_role(c.relowner, 'USAGE'),");
    put_has_index(&sql, "c.relreplident IN ('d', 'f') AND i.indisprimary");
    buf_printf(&sql,
        " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = c.oid AND c.relispartition"
        " LEFT JOIN pg_catalog.pg_publication_rel r ON r.prrelid = c.oid AND r.prpubid = "
        "%" PRIu64,
        publication_oid);
    if (has_schemas) {
        buf_printf(&sql,
            " LEFT JOIN pg_catalog.pg_publication_namespace s ON s.pnnspid = n.oid AND "
            "s.pnpubid = %" PRIu64,
            publication_oid);
    }
    buf_puts(&sql, " WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND n.nspname <> "
                   "'information_schema'"
                   " AND left(n.nspname, 3) <> 'pg_' ORDER BY c.oid");
    return pgconn_query(c, buf_cstr(&sql), CATALOG_QUERY_MS, ret, e);
}

static int
read_tables(struct publication_plan *p, struct err *e)
{
    p->ntables = pgrows_count(p->rows);
    p->tables = xcalloc(p->ntables + 1, sizeof *p->tables);
    for (size_t i = 0; i < p->ntables; i++) {
        uint64_t oid, parent = 0;
        if (!pgrows_u64(p->rows, i, 0, &oid)) {
            return err_set(e, ERR_PROTOCOL, "a table without an oid in pg_class");
        }
        (void)pgrows_u64(p->rows, i, 4, &parent);
        p->tables[i] = (struct publication_table){
            .oid = (uint32_t)oid,
            .parent = (uint32_t)parent,
            .schema = pgrows_str(p->rows, i, 1),
            .name = pgrows_str(p->rows, i, 2),
            .is_partitioned = pgrows_bool(p->rows, i, 3),
            .is_published = p->has_all_tables || pgrows_bool(p->rows, i, 5),
            .has_identity = pgrows_bool(p->rows, i, 6),
            .is_owned = pgrows_bool(p->rows, i, 7),
            .has_key = pgrows_bool(p->rows, i, 8),
        };
    }
    return 0;
}

/* ---- deciding ---- */

static int
compare_oid(const void *key, const void *element)
{
    uint32_t a = *(const uint32_t *)key, b = ((const struct publication_table *)element)->oid;
    return a < b ? -1 : a > b;
}

static struct publication_table *
find_parent(const struct publication_plan *p, const struct publication_table *t)
{
    if (t->parent == 0) {
        return NULL;
    }
    return bsearch(&t->parent, p->tables, p->ntables, sizeof *p->tables, compare_oid);
}

static int
select_tables(struct publication_plan *p, const struct conf_list *patterns, struct err *e)
{
    for (size_t i = 0; i < patterns->n; i++) {
        struct str pattern = str_from(patterns->v[i]);
        int rc = glob_check(pattern, e);
        if (rc != 0) {
            return err_set(e, ERR_CONFIG,
                "source.tables: '%s' is not a table pattern; write schema.table, * and ? "
                "allowed",
                patterns->v[i]);
        }
        bool is_found = false;
        for (size_t j = 0; j < p->ntables; j++) {
            if (glob_match_table(pattern, p->tables[j].schema, p->tables[j].name)) {
                p->tables[j].is_selected = is_found = true;
            }
        }
        if (!is_found && !glob_has_wildcard(pattern) && p->missing.n == 0) {
            p->missing = pattern;
        }
    }
    return 0;
}

/* A partition is published with its parent; publishing it by itself as well would change
 * nothing. */
static void
inherit(struct publication_plan *p)
{
    for (size_t i = 0; i < p->ntables; i++) {
        struct publication_table *t = &p->tables[i], *up = t;
        bool parent_added = false;
        for (int level = 0; level < PARENTS_MAX && (up = find_parent(p, up)) != NULL; level++) {
            t->is_published = t->is_published || up->is_published;
            parent_added = parent_added || (up->is_selected && !up->is_published);
        }
        t->is_added = t->is_selected && !t->is_published && !parent_added;
        bool becomes_published = !t->is_published && (t->is_selected || parent_added);
        bool publishes_old = !p->exists || p->has_update || p->has_delete;
        t->is_hazard =
            becomes_published && publishes_old && !t->is_partitioned && !t->has_identity;
        p->nadded += t->is_added;
        p->may_apply = p->may_apply && (!t->is_added || t->is_owned);
        p->nhazards += t->is_hazard;
        p->npublished += t->is_published;
    }
}

int
publication_plan(struct pgconn *c, const char *name, const struct conf_list *patterns,
    struct publication_plan *ret, struct err *e)
{
    struct publication_plan p = {0};
    uint64_t oid;
    int rc = read_publication(c, name, &p, &oid, e);
    if (rc == 0) {
        rc = query_tables(c, oid, &p.rows, e);
    }
    if (rc == 0) {
        rc = read_tables(&p, e);
    }
    if (rc == 0) {
        rc = select_tables(&p, patterns, e);
    }
    if (rc != 0) {
        publication_plan_fini(&p);
        return rc;
    }
    inherit(&p);
    p.is_unnamed = !p.exists && patterns->n == 0;
    *ret = p;
    return 0;
}

static bool
is_in(const struct publication_table *t, bool will_be)
{
    return t->is_published || (will_be && t->is_added);
}

bool
publication_has_changes(
    const struct publication_plan *p, const struct publication_table *t, bool will_be)
{
    bool is_inherited = false;
    const struct publication_table *up = t;
    for (int level = 0; level < PARENTS_MAX && (up = find_parent(p, up)) != NULL; level++) {
        is_inherited = is_inherited || is_in(up, will_be);
    }
    if (p->via_root) {
        return is_in(t, will_be) && !is_inherited;
    }
    return !t->is_partitioned && (is_in(t, will_be) || is_inherited);
}

void
publication_plan_fini(struct publication_plan *p)
{
    pgrows_free(p->rows);
    free(p->tables);
    *p = (struct publication_plan){0};
}

/* ---- saying and doing ---- */

int
publication_check(const struct publication_plan *p, const char *name, struct err *e)
{
    if (p->is_unnamed) {
        return err_set(e, ERR_CONFIG,
            "publication %s does not exist, and source.tables names no table to make it from",
            name);
    }
    if (p->missing.n > 0) {
        return err_set(e, ERR_CONFIG,
            "source.tables: there is no ordinary or partitioned table %.*s in this database; "
            "case and schema count",
            (int)p->missing.n, p->missing.p);
    }
    for (size_t i = 0; i < p->ntables && p->nhazards > 0; i++) {
        if (p->tables[i].is_hazard) {
            auto_buf struct buf mend;
            buf_init(&mend, 1024);
            publication_put_mend(&mend, &p->tables[i]);
            return err_set(e, ERR_REFUSED,
                "%zu table(s) have no replica identity: once published their UPDATE and DELETE "
                "would fail. Give "
                "each a primary key or run: %s (or take it out of source.tables); nothing was "
                "changed",
                p->nhazards, buf_cstr(&mend));
        }
    }
    return 0;
}

void
publication_put_mend(struct buf *sql, const struct publication_table *t)
{
    buf_puts(sql, "ALTER TABLE ");
    sql_put_table(sql, t->schema, t->name);
    buf_puts(sql, " REPLICA IDENTITY FULL;");
}

/* ONLY: exactly the tables that the patterns name, not what inherits from them later. */
static void
put_added(struct buf *sql, const struct publication_plan *p)
{
    const char *separator = "";
    for (size_t i = 0; i < p->ntables; i++) {
        if (p->tables[i].is_added) {
            buf_puts(sql, separator);
            buf_puts(sql, "ONLY ");
            sql_put_table(sql, p->tables[i].schema, p->tables[i].name);
            separator = ", ";
        }
    }
}

void
publication_put_sql(struct buf *sql, const struct publication_plan *p, const char *name)
{
    if (p->exists && p->nadded == 0) {
        return;
    }
    buf_puts(sql, p->exists ? "ALTER PUBLICATION " : "CREATE PUBLICATION ");
    sql_put_ident(sql, str_from(name));
    if (p->nadded > 0) {
        buf_puts(sql, p->exists ? " ADD TABLE " : " FOR TABLE ");
        put_added(sql, p);
    }
    if (!p->exists) {
        buf_puts(sql, " WITH (publish = 'insert, update, delete, truncate')");
    }
}

int
publication_apply(struct pgconn *c, const struct publication_plan *p, const char *name,
    bool *ret_changed, struct err *e)
{
    auto_buf struct buf sql;
    buf_init(&sql, SQL_MAX);
    publication_put_sql(&sql, p, name);
    if (!buf_ok(&sql)) {
        return err_set(e, ERR_CONFIG,
            "too many tables for one publication statement; publish them by schema");
    }
    if (sql.n > 0) {
        int rc = pgconn_query(c, buf_cstr(&sql), PUBLISH_MS, NULL, e);
        if (rc != 0) {
            return err_prefix(
                e, "publication %s cannot be %s", name, p->exists ? "changed" : "created");
        }
    }
    *ret_changed = sql.n > 0;
    return 0;
}

int
publication_drop(struct pgconn *c, const char *name, bool *ret_existed, struct err *e)
{
    struct publication_plan p = {0};
    uint64_t oid;
    int rc = read_publication(c, name, &p, &oid, e);
    if (rc != 0) {
        return rc;
    }
    if (p.exists) {
        auto_buf struct buf sql;
        buf_init(&sql, 1024);
        buf_puts(&sql, "DROP PUBLICATION ");
        sql_put_ident(&sql, str_from(name));
        rc = pgconn_query(c, buf_cstr(&sql), PUBLISH_MS, NULL, e);
        if (rc != 0) {
            return err_prefix(e, "publication %s cannot be dropped", name);
        }
    }
    *ret_existed = p.exists;
    return 0;
}
