/* rowread: see rowread.h. The catalogue is asked inside the snapshot, after the lock: what it
 * says is the shape of the rows that are read. */
#include "replicator/rowread.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "proto/base/xmalloc.h"
#include "proto/schema.h"
#include "replicator/catalog.h"
#include "replicator/sql.h"

enum {
    SQL_MAX = 64 * 1024 * 1024,
    SHAPES_BYTES = 16 * 1024 * 1024,
    ANSWER_MS = ROWREAD_STATEMENT_MS + 500,
    CONNECT_MS = 5000,
    FLUSH_POLL_MS = 20,
    FIRST_BUILTIN_END = 10000, /* FirstGenbkiObjectId: pgoutput names types from here on */
    SHORT_PAGE_HEADER = 24,
    LONG_PAGE_HEADER = 40
};

/* Columns of DESCRIBE. */
enum {
    COL_RELID,
    COL_KIND,
    COL_REPLIDENT,
    COL_NAME,
    COL_TYPOID,
    COL_TYPMOD,
    COL_CAST,
    COL_TYPE_NS,
    COL_TYPE_NAME,
    COL_EQUAL_NS, /* where the type's own = is, or NULL */
    COL_IN_KEY,
    COL_FILTER
};

struct rowread {
    struct rowread_conf conf;
    struct pgconn *pg;
    struct relcache shapes; /* as the catalogue has them, apart from the stream's */
    char role[CATALOG_NAME];
    char sqlstate[6];
    /* of the open transaction */
    struct str ns, table;
    struct pgrows *columns;
};

struct rowread *
rowread_new(const struct rowread_conf *c)
{
    struct rowread *r = xcalloc(1, sizeof *r);
    r->conf = *c;
    return r;
}

static void
disconnect(struct rowread *r)
{
    pgconn_close(r->pg);
    r->pg = NULL;
}

void
rowread_free(struct rowread *r)
{
    if (r == NULL) {
        return;
    }
    pgrows_free(r->columns);
    disconnect(r);
    relcache_fini(&r->shapes);
    free(r);
}

const char *
rowread_sqlstate(const struct rowread *r)
{
    return r->sqlstate;
}

/* ---- statements ---- */

static int
query(struct rowread *r, const char *sql, struct pgrows **ret, struct err *e)
{
    int rc = pgconn_query(r->pg, sql, ANSWER_MS, ret, e);
    (void)snprintf(
        r->sqlstate, sizeof r->sqlstate, "%s", rc == 0 ? "" : pgconn_sqlstate(r->pg));
    return rc;
}

static int
connect_settings(struct rowread *r, struct err *e)
{
    /* row_security: an error instead of rows that are not shown. The idle limit: a replicator
     * that stands still must not hold back VACUUM. */
    static const char *const settings[] = {"SET statement_timeout = 1000",
        "SET lock_timeout = 1000", "SET row_security = off",
        "SET idle_in_transaction_session_timeout = 10000"};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof settings / sizeof settings[0]; i++) {
        rc = query(r, settings[i], NULL, e);
    }
    auto_pgrows struct pgrows *rows = NULL;
    if (rc == 0) {
        rc = query(r, "SELECT current_user", &rows, e);
    }
    if (rc == 0) {
        (void)snprintf(r->role, sizeof r->role, "%s", pgrows_str(rows, 0, 0).p);
    }
    return rc;
}

int
rowread_connect(struct rowread *r, struct err *e)
{
    r->sqlstate[0] = '\0';
    if (r->pg != NULL) {
        return 0;
    }
    struct pgconn_conf c = *r->conf.plain;
    c.stop_fd = r->conf.stop_fd;
    c.connect_timeout_ms = CONNECT_MS;
    int rc = pgconn_open(&c, &r->pg, e);
    if (rc != 0) {
        return rc;
    }
    rc = connect_settings(r, e);
    if (rc != 0) {
        disconnect(r);
        return rc;
    }
    if (r->shapes.max_bytes == 0) {
        relcache_init(&r->shapes, SHAPES_BYTES, pgconn_is_raw_text(r->pg));
    }
    return 0;
}

void
rowread_end(struct rowread *r)
{
    pgrows_free(r->columns);
    r->columns = NULL;
    struct err e = {0};
    if (r->pg != NULL && pgconn_query(r->pg, "ROLLBACK", ANSWER_MS, NULL, &e) != 0) {
        disconnect(r);
    }
}

/* ---- the table's shape ---- */

/* Generated columns: never sent up to 17 (though 15 lists them); from 18 on the list has them
 * where they are sent. The base type of a domain, as pgoutput names it. */
static void
put_describe(const struct rowread *r, struct buf *sql)
{
    bool has_lists = pgconn_version(r->pg) >= 150000;
    buf_puts(sql, "SELECT c.oid, c.relkind, c.relreplident, a.attname, a.atttypid, a.atttypmod,"
                  " pg_catalog.format_type(a.atttypid, a.atttypmod), y.ns, y.name,"
                  " (SELECT q.nspname FROM pg_catalog.pg_operator o JOIN"
                  " pg_catalog.pg_namespace q ON q.oid = o.oprnamespace WHERE o.oprname = '='"
                  " AND o.oprleft = y.oid AND o.oprright = y.oid ORDER BY o.oid LIMIT 1),"
                  " EXISTS (SELECT 1 FROM pg_catalog.pg_index i CROSS JOIN LATERAL"
                  " pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, ord)"
                  " WHERE i.indrelid = c.oid AND k.attnum = a.attnum AND k.ord <= i.indnkeyatts"
                  " AND CASE c.relreplident WHEN 'i' THEN i.indisreplident WHEN 'n' THEN false"
                  " ELSE i.indisprimary AND i.indimmediate END)");
    buf_puts(sql, has_lists ? ", p.rowfilter" : ", NULL::text");
    buf_puts(sql,
        " FROM pg_catalog.pg_publication_tables p"
        " JOIN pg_catalog.pg_namespace n ON n.nspname = p.schemaname"
        " JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename"
        " JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
        " AND NOT a.attisdropped"
        " CROSS JOIN LATERAL (WITH RECURSIVE b AS (SELECT t.oid, t.typtype, t.typbasetype,"
        " t.typnamespace, t.typname FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid"
        " UNION ALL SELECT t.oid, t.typtype, t.typbasetype, t.typnamespace, t.typname FROM b"
        " JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd')"
        " SELECT b.oid, m.nspname AS ns, b.typname AS name FROM b JOIN pg_catalog.pg_namespace "
        "m"
        " ON m.oid = b.typnamespace WHERE b.typtype <> 'd') y WHERE p.pubname = ");
    sql_put_literal(sql, str_from(r->conf.publication));
    buf_puts(sql, " AND p.schemaname = ");
    sql_put_literal(sql, r->ns);
    buf_puts(sql, " AND p.tablename = ");
    sql_put_literal(sql, r->table);
    buf_puts(sql, has_lists ? " AND a.attname = ANY (p.attnames)" : "");
    buf_puts(sql, pgconn_version(r->pg) < 180000 ? " AND a.attgenerated = ''" : "");
    buf_puts(sql, " ORDER BY a.attnum");
}

static int
read_column(const struct pgrows *rows, size_t i, struct pgoutput_column *ret, struct err *e)
{
    uint64_t typoid = 0;
    int64_t typmod = 0;
    if (!pgrows_u64(rows, i, COL_TYPOID, &typoid) || typoid > UINT32_MAX ||
        !pgrows_i64(rows, i, COL_TYPMOD, &typmod) || typmod < INT32_MIN || typmod > INT32_MAX) {
        return err_set(e, ERR_PROTOCOL, "a column without a type in pg_attribute");
    }
    *ret = (struct pgoutput_column){.name = pgrows_str(rows, i, COL_NAME),
        .typoid = (uint32_t)typoid,
        .typmod = (int32_t)typmod,
        .is_key = pgrows_bool(rows, i, COL_IN_KEY)};
    return 0;
}

static int
put_type(struct rowread *r, size_t i, uint32_t typoid, struct err *e)
{
    if (typoid < FIRST_BUILTIN_END) {
        return 0;
    }
    struct pgoutput_typ t = {.oid = typoid,
        .ns = pgrows_str(r->columns, i, COL_TYPE_NS),
        .name = pgrows_str(r->columns, i, COL_TYPE_NAME)};
    return relcache_put_type(&r->shapes, &t, e);
}

static void
set_full_key(struct relation *rel, const struct pgoutput_column *cols, uint32_t n)
{
    struct str names[SCHEMA_MAX_COLS];
    size_t nkeys = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (cols[i].is_key) {
            names[nkeys++] = cols[i].name;
        }
    }
    (void)relcache_set_key(rel, names, nkeys);
}

static int
put_shape(struct rowread *r, struct pgoutput_column *cols, struct relation **ret, struct err *e)
{
    size_t n = pgrows_count(r->columns);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = read_column(r->columns, i, &cols[i], e);
        if (rc == 0) {
            rc = put_type(r, i, cols[i].typoid, e);
        }
    }
    uint64_t relid = 0;
    if (rc == 0 && (!pgrows_u64(r->columns, 0, COL_RELID, &relid) || relid > UINT32_MAX)) {
        return err_set(e, ERR_PROTOCOL, "a table without an oid in pg_class");
    }
    struct pgoutput_relation described = {.relid = (uint32_t)relid,
        .ns = r->ns,
        .name = r->table,
        .replident = pgrows_str(r->columns, 0, COL_REPLIDENT).p[0],
        .ncols = (uint32_t)n,
        .cols = cols};
    struct relation *rel = NULL;
    if (rc == 0) {
        rc = relcache_put(&r->shapes, &described, &rel, e);
    }
    if (rc != 0) {
        return rc;
    }
    if (rel->needs_key) {
        set_full_key(rel, cols, (uint32_t)n);
    }
    *ret = rel;
    return 0;
}

static int
describe(struct rowread *r, struct rowread_chunk *c, struct err *e)
{
    auto_buf struct buf sql;
    buf_init(&sql, SQL_MAX);
    put_describe(r, &sql);
    if (!buf_ok(&sql)) {
        return err_set(e, ERR_PARSE, "a table's name that PostgreSQL cannot have");
    }
    int rc = query(r, buf_cstr(&sql), &r->columns, e);
    if (rc != 0) {
        return rc;
    }
    size_t n = pgrows_count(r->columns);
    c->is_gone = n == 0;
    if (n == 0) {
        return 0;
    }
    if (n > SCHEMA_MAX_COLS) {
        return err_set(e, ERR_PROTOCOL, "a table of %zu columns", n);
    }
    struct pgoutput_column *cols = xcalloc(n, sizeof *cols);
    rc = put_shape(r, cols, &c->rel, e);
    if (rc == ERR_BUSY) { /* too many shapes: begin with none */
        relcache_reset(&r->shapes);
        rc = put_shape(r, cols, &c->rel, e);
    }
    free(cols);
    return rc;
}

/* ---- the transaction ---- */

static int
lock_table(struct rowread *r, struct err *e)
{
    auto_buf struct buf sql;
    buf_init(&sql, SQL_MAX);
    buf_puts(&sql, "LOCK TABLE ONLY ");
    sql_put_table(&sql, r->ns, r->table);
    buf_puts(&sql, " IN ACCESS SHARE MODE NOWAIT");
    if (!buf_ok(&sql)) {
        return err_set(e, ERR_PARSE, "a table's name that PostgreSQL cannot have");
    }
    return query(r, buf_cstr(&sql), NULL, e);
}

static int
take_snapshot(struct rowread *r, struct snapshot *ret, struct err *e)
{
    auto_pgrows struct pgrows *rows = NULL;
    int rc = query(r, "SELECT pg_catalog.pg_current_snapshot()", &rows, e);
    return rc == 0 ? snapshot_parse(pgrows_str(rows, 0, 0), ret, e) : rc;
}

static bool
is_missing(const char *sqlstate)
{
    return strcmp(sqlstate, "42P01") == 0 || strcmp(sqlstate, "3F000") == 0;
}

static int
begin(struct rowread *r, struct err *e)
{
    return query(r, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", NULL, e);
}

/* Whether a table is there is a question to the snapshot too: the lock, which sees more or less
 * than that, only says that it may not be. */
static int
begin_locked(struct rowread *r, struct rowread_chunk *c, struct err *e)
{
    int rc = begin(r, e);
    if (rc == 0) {
        rc = lock_table(r, e);
    }
    bool is_away = rc != 0 && is_missing(r->sqlstate);
    if (is_away) {
        rc = query(r, "ROLLBACK", NULL, e);
        if (rc == 0) {
            rc = begin(r, e);
        }
    }
    if (rc == 0) {
        rc = take_snapshot(r, &c->snapshot, e);
    }
    if (rc == 0) {
        rc = describe(r, c, e);
    }
    if (rc == 0 && is_away && !c->is_gone) {
        return err_set(e, ERR_BUSY, "a table that is being created or renamed; tried again");
    }
    return rc;
}

/* Says what grants the right; the server's words are kept. */
static int
explain_auth(const struct rowread *r, struct err *e)
{
    auto_buf struct buf grant;
    buf_init(&grant, 1024);
    buf_puts(&grant, "GRANT SELECT ON ");
    sql_put_table(&grant, r->ns, r->table);
    buf_puts(&grant, " TO ");
    sql_put_ident(&grant, str_from(r->role));
    buf_puts(&grant, "; GRANT USAGE ON SCHEMA ");
    sql_put_ident(&grant, r->ns);
    buf_puts(&grant, " TO ");
    sql_put_ident(&grant, str_from(r->role));
    char said[160];
    (void)snprintf(said, sizeof said, "%.150s", e->msg);
    return err_set(e, ERR_AUTH,
        "rows of a table have to be read again and the role may not; run: %s (with row level "
        "security also ALTER ROLE ... BYPASSRLS). %s",
        buf_cstr(&grant), said);
}

/* An error ends the transaction; one without SQLSTATE, or a timeout of ours, the connection. */
static int
fail(struct rowread *r, int rc, struct err *e)
{
    char sqlstate[sizeof r->sqlstate];
    memcpy(sqlstate, r->sqlstate, sizeof sqlstate);
    if (sqlstate[0] == '\0') {
        disconnect(r);
    }
    rowread_end(r);
    memcpy(r->sqlstate, sqlstate, sizeof sqlstate);
    return strcmp(sqlstate, "42501") == 0 ? explain_auth(r, e) : rc;
}

int
rowread_begin(struct rowread *r, struct str ns, struct str table, struct rowread_chunk *ret,
    struct err *e)
{
    int rc = rowread_connect(r, e);
    if (rc != 0) {
        return rc;
    }
    struct rowread_chunk c = {0};
    r->ns = ns;
    r->table = table;
    rc = begin_locked(r, &c, e);
    if (rc != 0) {
        rowread_chunk_fini(&c);
        return fail(r, rc, e);
    }
    *ret = c;
    return 0;
}

/* ---- rows ---- */

/* The search path is empty: an extension's = is found by its schema only. */
static void
put_equals(struct buf *sql, const char *ns)
{
    if (ns == NULL || strcmp(ns, "pg_catalog") == 0) {
        buf_putc(sql, '=');
        return;
    }
    buf_puts(sql, " OPERATOR(");
    sql_put_ident(sql, str_from(ns));
    buf_puts(sql, ".=) ");
}

bool
rowread_put_equal(const struct rowread *r, struct buf *sql, struct str column, struct str text)
{
    for (size_t i = 0; i < pgrows_count(r->columns); i++) {
        if (str_eq(pgrows_str(r->columns, i, COL_NAME), column)) {
            const char *ns = pgrows_get(r->columns, i, COL_EQUAL_NS);
            sql_put_ident(sql, column);
            put_equals(sql, ns);
            sql_put_literal(sql, text);
            buf_puts(sql, "::");
            buf_put_str(sql, pgrows_str(r->columns, i, COL_CAST));
            return true;
        }
    }
    return false;
}

static void
put_select(const struct rowread *r, struct str condition, struct buf *sql)
{
    bool is_partitioned = str_is(pgrows_str(r->columns, 0, COL_KIND), "p");
    struct str filter = pgrows_str(r->columns, 0, COL_FILTER);
    buf_puts(sql, "DECLARE oneslot_rows NO SCROLL CURSOR FOR SELECT ");
    for (size_t i = 0; i < pgrows_count(r->columns); i++) {
        buf_puts(sql, i == 0 ? "" : ", ");
        sql_put_ident(sql, pgrows_str(r->columns, i, COL_NAME));
    }
    buf_puts(sql, is_partitioned ? " FROM " : " FROM ONLY ");
    sql_put_table(sql, r->ns, r->table);
    buf_puts(sql, " WHERE (");
    buf_put_str(sql, condition);
    buf_puts(sql, ")");
    if (filter.n > 0) {
        buf_puts(sql, " AND (");
        buf_put_str(sql, filter);
        buf_puts(sql, ")");
    }
}

static size_t
bytes_of(const struct pgrows *rows, unsigned ncols)
{
    size_t bytes = 0;
    for (size_t i = 0; i < pgrows_count(rows); i++) {
        for (unsigned j = 0; j < ncols; j++) {
            bytes += pgrows_str(rows, i, j).n;
        }
    }
    return bytes;
}

/* One row first, then as many as there were: what is read at once is about as large as all
 * before it. */
static int
fetch(struct rowread *r, struct rowread_chunk *c, struct err *e)
{
    size_t want = 1;
    while (c->nparts < ROWREAD_PARTS && c->bytes < ROWREAD_BYTES) {
        char sql[64];
        (void)snprintf(sql, sizeof sql, "FETCH %zu FROM oneslot_rows", want);
        struct pgrows *rows = NULL;
        int rc = query(r, sql, &rows, e);
        if (rc != 0) {
            return rc;
        }
        size_t got = pgrows_count(rows);
        c->part[c->nparts++] = rows;
        c->nrows += got;
        c->bytes += bytes_of(rows, c->rel->schema.ncols);
        if (got < want) {
            c->is_whole = true;
            return 0;
        }
        want = c->nrows;
    }
    return 0;
}

int
rowread_rows(struct rowread *r, struct str condition, struct rowread_chunk *c, struct err *e)
{
    CHECK(c->rel != NULL);
    auto_buf struct buf sql;
    buf_init(&sql, SQL_MAX);
    put_select(r, condition, &sql);
    if (!buf_ok(&sql)) {
        rowread_end(r);
        return err_set(e, ERR_TOOBIG, "a condition of more than %d bytes", SQL_MAX);
    }
    int rc = query(r, buf_cstr(&sql), NULL, e);
    if (rc == 0) {
        rc = fetch(r, c, e);
    }
    return rc == 0 ? 0 : fail(r, rc, e);
}

/* ---- flushed ---- */

struct wal {
    uint64_t insert_lsn, flush_lsn, block, segment;
};

static int
ask_wal(struct rowread *r, struct wal *ret, struct err *e)
{
    auto_pgrows struct pgrows *rows = NULL;
    int rc = query(r,
        "SELECT pg_catalog.pg_current_wal_insert_lsn(),"
        " pg_catalog.pg_current_wal_flush_lsn(), pg_catalog.current_setting('wal_block_size'),"
        " pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))",
        &rows, e);
    if (rc != 0) {
        return rc;
    }
    struct wal w = {0};
    if (!pgrows_lsn(rows, 0, 0, &w.insert_lsn) || !pgrows_lsn(rows, 0, 1, &w.flush_lsn) ||
        !pgrows_u64(rows, 0, 2, &w.block) || w.block == 0 ||
        !pgrows_u64(rows, 0, 3, &w.segment) || w.segment == 0) {
        return err_set(e, ERR_PROTOCOL, "PostgreSQL does not say where its WAL ends");
    }
    /* Nothing but a page's header lies between: the insert position is given behind it, the
     * flush position of a whole page before it. The first page of a segment has a long one. */
    if (w.insert_lsn % w.block == SHORT_PAGE_HEADER) {
        w.insert_lsn -= SHORT_PAGE_HEADER;
    } else if (w.insert_lsn % w.segment == LONG_PAGE_HEADER) {
        w.insert_lsn -= LONG_PAGE_HEADER;
    }
    *ret = w;
    return 0;
}

int
rowread_wait_flushed(struct rowread *r, int64_t wait_ms, struct err *e)
{
    int64_t deadline_ms = clock_mono_ms() + wait_ms;
    struct wal first, now;
    int rc = ask_wal(r, &first, e);
    now = first;
    while (rc == 0 && now.flush_lsn < first.insert_lsn) {
        struct pollfd stop = {.fd = r->conf.stop_fd, .events = POLLIN};
        if (clock_mono_ms() >= deadline_ms || poll(&stop, 1, FLUSH_POLL_MS) > 0) {
            rowread_end(r);
            return err_set(e, ERR_TIMEOUT,
                "the server has not flushed yet what a snapshot shows; tried again");
        }
        rc = ask_wal(r, &now, e);
    }
    return rc == 0 ? 0 : fail(r, rc, e);
}

/* ---- chunks ---- */

void
rowread_chunk_fini(struct rowread_chunk *c)
{
    snapshot_fini(&c->snapshot);
    for (unsigned i = 0; i < c->nparts; i++) {
        pgrows_free(c->part[i]);
    }
    *c = (struct rowread_chunk){0};
}

static struct pgoutput_value
value_of(const struct pgrows *rows, size_t row, unsigned column)
{
    const char *text = pgrows_get(rows, row, column);
    if (text == NULL) {
        return (struct pgoutput_value){.kind = PGOUTPUT_NULL};
    }
    return (struct pgoutput_value){
        .p = text, .n = (uint32_t)strlen(text), .kind = PGOUTPUT_TEXT};
}

struct pgoutput_tuple *
rowread_tuples(const struct rowread_chunk *c)
{
    unsigned ncols = c->rel->schema.ncols;
    size_t values_at = c->nrows * sizeof(struct pgoutput_tuple);
    char *all = xcalloc(1, values_at + c->nrows * ncols * sizeof(struct pgoutput_value) + 1);
    struct pgoutput_tuple *tuple = (struct pgoutput_tuple *)(void *)all;
    struct pgoutput_value *v = (struct pgoutput_value *)(void *)(all + values_at);
    for (unsigned part = 0, at = 0; part < c->nparts; part++) {
        for (size_t i = 0; i < pgrows_count(c->part[part]); i++, at++) {
            tuple[at] = (struct pgoutput_tuple){.v = v, .ncols = ncols};
            for (unsigned j = 0; j < ncols; j++) {
                *v++ = value_of(c->part[part], i, j);
            }
        }
    }
    return tuple;
}
