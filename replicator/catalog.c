/* catalog: see catalog.h. */
#include "replicator/catalog.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "replicator/sql.h"

#define UNKNOWN "'unknown (GRANT pg_monitor shows it)'"

/* Truncates never: PostgreSQL's names fit. */
static void
copy_text(char *to, size_t size, const struct pgrows *r, unsigned column)
{
    const char *v = pgrows_get(r, 0, column);
    (void)snprintf(to, size, "%s", v == NULL ? "" : v);
}

static int
query_one(struct pgconn *c, const char *sql, struct pgrows **ret, struct err *e)
{
    int rc = pgconn_query(c, sql, CATALOG_QUERY_MS, ret, e);
    if (rc == 0 && pgrows_count(*ret) != 1) {
        return err_set(e, ERR_PROTOCOL,
            "PostgreSQL answered %zu rows to a question about itself", pgrows_count(*ret));
    }
    return rc;
}

int
catalog_server(struct pgconn *c, struct catalog_server *ret, struct err *e)
{
    static const char sql[] =
        "SELECT current_user, pg_catalog.current_database(), "
        "pg_catalog.current_setting('wal_level'),"
        " (SELECT rolsuper OR rolreplication FROM pg_catalog.pg_roles WHERE rolname = "
        "current_user),"
        " pg_catalog.pg_is_in_recovery(),"
        " (SELECT count(*) FROM pg_catalog.pg_replication_slots),"
        " pg_catalog.current_setting('max_replication_slots'),"
        " (SELECT count(*) FROM pg_catalog.pg_stat_replication),"
        " pg_catalog.current_setting('max_wal_senders'),"
        " (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size'),"
        " (SELECT setting FROM pg_catalog.pg_settings WHERE name = "
        "'idle_replication_slot_timeout')";
    auto_pgrows struct pgrows *r = NULL;
    int rc = query_one(c, sql, &r, e);
    if (rc != 0) {
        return rc;
    }
    struct catalog_server s = {
        .can_replicate = pgrows_bool(r, 0, 3), .in_recovery = pgrows_bool(r, 0, 4)};
    copy_text(s.role, sizeof s.role, r, 0);
    copy_text(s.database, sizeof s.database, r, 1);
    copy_text(s.wal_level, sizeof s.wal_level, r, 2);
    bool is_complete = pgrows_i64(r, 0, 5, &s.slots) && pgrows_i64(r, 0, 6, &s.max_slots) &&
                       pgrows_i64(r, 0, 7, &s.senders) && pgrows_i64(r, 0, 8, &s.max_senders) &&
                       pgrows_i64(r, 0, 9, &s.max_slot_wal_keep_mb);
    if (!is_complete) {
        return err_set(e, ERR_PROTOCOL, "PostgreSQL does not show its settings");
    }
    (void)pgrows_i64(r, 0, 10, &s.idle_slot_timeout_s); /* before 18 there is none */
    *ret = s;
    return 0;
}

int
catalog_system(struct pgconn *c, struct catalog_system *ret, struct err *e)
{
    auto_pgrows struct pgrows *r = NULL;
    int rc = query_one(c, "IDENTIFY_SYSTEM", &r, e);
    if (rc != 0) {
        return rc;
    }
    struct catalog_system s = {0};
    uint64_t timeline;
    if (!pgrows_u64(r, 0, 0, &s.system_id) || !pgrows_u64(r, 0, 1, &timeline) ||
        timeline > UINT32_MAX) {
        return err_set(e, ERR_PROTOCOL, "IDENTIFY_SYSTEM gave no system id and timeline");
    }
    s.timeline = (uint32_t)timeline;
    copy_text(s.database, sizeof s.database, r, 3);
    *ret = s;
    return 0;
}

static void
read_slot(const struct pgrows *r, struct catalog_slot *s)
{
    s->exists = pgrows_get(r, 0, 1) != NULL;
    copy_text(s->plugin, sizeof s->plugin, r, 2);
    copy_text(s->database, sizeof s->database, r, 3);
    s->is_logical = pgrows_bool(r, 0, 4);
    s->is_temporary = pgrows_bool(r, 0, 5);
    (void)pgrows_i64(r, 0, 6, &s->active_pid);
    s->has_restart = pgrows_lsn(r, 0, 7, &s->restart_lsn);
    s->has_confirmed = pgrows_lsn(r, 0, 8, &s->confirmed_lsn);
    copy_text(s->wal_status, sizeof s->wal_status, r, 9);
    s->has_safe = pgrows_i64(r, 0, 10, &s->safe_wal_bytes);
    s->has_retained = pgrows_i64(r, 0, 11, &s->retained_wal_bytes);
    s->two_phase = pgrows_bool(r, 0, 12);
    copy_text(s->invalidation, sizeof s->invalidation, r, 13);
}

int
catalog_slot(struct pgconn *c, const char *name, struct catalog_slot *ret, struct err *e)
{
    int version = pgconn_version(c);
    auto_buf struct buf sql;
    buf_init(&sql, 8192);
    buf_printf(&sql,
        "SELECT w.lsn, s.slot_name, s.plugin, s.database, s.slot_type = 'logical', s.temporary,"
        " s.active_pid, s.restart_lsn, s.confirmed_flush_lsn, s.wal_status, s.safe_wal_size,"
        " pg_catalog.pg_wal_lsn_diff(w.lsn, s.restart_lsn), %s, %s"
        " FROM (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN "
        "pg_catalog.pg_last_wal_replay_lsn()"
        " ELSE pg_catalog.pg_current_wal_lsn() END AS lsn) w"
        " LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = ",
        version >= 140000 ? "s.two_phase" : "false",
        version >= 170000 ? "s.invalidation_reason" : "NULL::text");
    sql_put_literal(&sql, str_from(name));
    if (!buf_ok(&sql)) {
        return err_set(e, ERR_CONFIG, "source.slot is not a name");
    }
    auto_pgrows struct pgrows *r = NULL;
    int rc = query_one(c, buf_cstr(&sql), &r, e);
    if (rc != 0) {
        return rc;
    }
    struct catalog_slot s = {0};
    if (!pgrows_lsn(r, 0, 0, &s.server_lsn)) {
        return err_set(e, ERR_PROTOCOL, "PostgreSQL does not say where its WAL ends");
    }
    read_slot(r, &s);
    *ret = s;
    return 0;
}

int
catalog_create_slot(
    struct pgconn *c, const char *name, uint64_t *ret_consistent_lsn, struct err *e)
{
    auto_buf struct buf sql;
    buf_init(&sql, 1024);
    buf_puts(&sql, "CREATE_REPLICATION_SLOT ");
    sql_put_ident(&sql, str_from(name));
    buf_puts(&sql, " LOGICAL pgoutput ");
    buf_puts(&sql, pgconn_version(c) >= 150000 ? "(SNAPSHOT 'nothing')" : "NOEXPORT_SNAPSHOT");
    if (!buf_ok(&sql)) {
        return err_set(e, ERR_CONFIG, "source.slot is not a name");
    }
    auto_pgrows struct pgrows *r = NULL;
    int rc = pgconn_query(c, buf_cstr(&sql), 0, &r, e);
    if (rc == ERR_STOPPING) {
        pgconn_cancel(c); /* or the server would go on waiting, and then keep the slot */
    }
    if (rc != 0) {
        return rc;
    }
    uint64_t lsn;
    if (!pgrows_lsn(r, 0, 1, &lsn)) {
        return err_set(e, ERR_PROTOCOL, "CREATE_REPLICATION_SLOT gave no consistent point");
    }
    *ret_consistent_lsn = lsn;
    return 0;
}

int
catalog_drop_slot(struct pgconn *c, const char *name, struct err *e)
{
    auto_buf struct buf sql;
    buf_init(&sql, 1024);
    buf_puts(&sql, "SELECT pg_catalog.pg_drop_replication_slot(");
    sql_put_literal(&sql, str_from(name));
    buf_puts(&sql, ")");
    return pgconn_query(c, buf_cstr(&sql), CATALOG_QUERY_MS, NULL, e);
}

int
catalog_xmax(struct pgconn *c, uint64_t *ret, struct err *e)
{
    /* A snapshot's xmax lies behind the last id that is completed, not the last one given: who
     * still runs holds the lock on its id, beyond xmax too. Ids there have 32 bits. */
    static const char sql[] =
        "SELECT s.xmax + greatest(0, max((l.transactionid::text::int8 - s.xmax % 4294967296"
        " + 6442450944) % 4294967296 - 2147483648 + 1))"
        " FROM (SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())"
        "::text::int8 AS xmax) s LEFT JOIN pg_catalog.pg_locks l ON l.locktype ="
        " 'transactionid' GROUP BY s.xmax";
    auto_pgrows struct pgrows *r = NULL;
    int rc = query_one(c, sql, &r, e);
    if (rc == 0 && !pgrows_u64(r, 0, 0, ret)) {
        return err_set(e, ERR_PROTOCOL, "PostgreSQL gave a snapshot that cannot be read");
    }
    return rc;
}

int
catalog_oldest_writer(struct pgconn *c, struct buf *text, struct err *e)
{
    /* Who may not see a transaction's start gets NULL there. */
    static const char sql[] =
        "SELECT w.text FROM ((SELECT xact_start AS began, pg_catalog.format("
        "'pid %s, role %s, open for %s', pid, coalesce(usename, " UNKNOWN "),"
        " coalesce(extract(epoch FROM pg_catalog.now() - xact_start)::bigint || ' s', " UNKNOWN
        ")) AS text FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL"
        " AND pid <> pg_catalog.pg_backend_pid() ORDER BY xact_start NULLS LAST LIMIT 1)"
        " UNION ALL (SELECT prepared, pg_catalog.format("
        "'prepared transaction %L, since %s', gid, prepared)"
        " FROM pg_catalog.pg_prepared_xacts ORDER BY prepared NULLS LAST LIMIT 1)) w"
        " ORDER BY w.began NULLS LAST LIMIT 1";
    auto_pgrows struct pgrows *r = NULL;
    int rc = pgconn_query(c, sql, CATALOG_QUERY_MS, &r, e);
    if (rc == 0) {
        buf_put_str(text, pgrows_str(r, 0, 0));
    }
    return rc;
}

int
catalog_key(struct pgconn *c, uint32_t relid, struct catalog_key *ret, struct err *e)
{
    char sql[512];
    (void)snprintf(sql, sizeof sql,
        "SELECT a.attname FROM pg_catalog.pg_index i"
        " CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, "
        "ord)"
        " JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum"
        " WHERE i.indrelid = %" PRIu32
        " AND i.indisprimary AND i.indimmediate AND k.ord <= i.indnkeyatts ORDER BY k.ord",
        relid);
    auto_pgrows struct pgrows *r = NULL;
    int rc = pgconn_query(c, sql, CATALOG_KEY_MS, &r, e);
    if (rc != 0) {
        return rc;
    }
    size_t n = pgrows_count(r);
    if (n > CATALOG_KEYS_MAX) { /* INDEX_MAX_KEYS is 32 */
        return err_set(e, ERR_PROTOCOL, "a primary key of %zu columns", n);
    }
    ret->n = (unsigned)n;
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(ret->column[i], CATALOG_NAME, "%s", pgrows_get(r, i, 0));
    }
    return 0;
}
