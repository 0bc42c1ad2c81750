/* preflight: see preflight.h. */
#include "replicator/preflight.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/json.h"
#include "proto/base/sig.h"
#include "proto/lsn.h"
#include "replicator/catalog.h"
#include "replicator/publication.h"
#include "replicator/sql.h"

enum { OUT_MAX = 16 * 1024 * 1024, PUBLICATION_LINES = 20 };

enum level { LEVEL_OK, LEVEL_WARN, LEVEL_FAIL };

struct report {
    struct buf out;
    struct jsonw json;
    bool as_json;
    unsigned failed, warned;
};

static void line(struct report *r, enum level level, const char *name, const char *mend,
    const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* mend: SQL or NULL. */
static void
line(struct report *r, enum level level, const char *name, const char *mend, const char *fmt,
    ...)
{
    static const char *const words[] = {"ok", "warn", "FAIL"};
    auto_buf struct buf text;
    char sentence[1024];
    buf_init(&text, sizeof sentence);
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(sentence, sizeof sentence, fmt, args);
    va_end(args);
    r->failed += level == LEVEL_FAIL;
    r->warned += level == LEVEL_WARN;
    if (r->as_json) {
        jsonw_object(&r->json, NULL);
        jsonw_cstr(&r->json, "result", words[level]);
        jsonw_cstr(&r->json, "what", name);
        jsonw_cstr(&r->json, "detail", sentence);
        jsonw_cstr(&r->json, "sql", mend);
        jsonw_end_object(&r->json);
        return;
    }
    buf_printf(&r->out, "%-4s  %-12s %s\n", words[level], name, sentence);
    if (mend != NULL) {
        buf_printf(&r->out, "                   %s\n", mend);
    }
}

/* ---- server and role ---- */

static void
check_server(struct report *r, struct pgconn *c, const struct catalog_server *s)
{
    line(r, LEVEL_OK, "server", NULL, "PostgreSQL %s, database %s", pgconn_version_text(c),
        s->database);
    if (s->in_recovery) {
        line(r, LEVEL_FAIL, "server", NULL,
            "it is a standby; source.dsn must lead to the primary");
    }
    if (strcmp(s->wal_level, "logical") == 0) {
        line(r, LEVEL_OK, "wal_level", NULL, "logical");
    } else {
        line(r, LEVEL_FAIL, "wal_level", "ALTER SYSTEM SET wal_level = 'logical';",
            "it is %s and must be logical; PostgreSQL has to be restarted after that",
            s->wal_level);
    }
    if (pgconn_is_raw_text(c)) {
        line(r, LEVEL_WARN, "encoding", NULL,
            "a SQL_ASCII database: text that is not UTF-8 appears as base64");
    }
    if (s->max_slot_wal_keep_mb < 0) {
        line(r, LEVEL_WARN, "wal_keep", "ALTER SYSTEM SET max_slot_wal_keep_size = '64GB';",
            "max_slot_wal_keep_size is unlimited: while oneslot is down PostgreSQL keeps WAL "
            "until its disk is full");
    }
    if (s->idle_slot_timeout_s > 0) {
        line(r, LEVEL_WARN, "idle_slot", NULL,
            "idle_replication_slot_timeout is %" PRId64
            " s: a slot that is not read for so long is lost",
            s->idle_slot_timeout_s);
    }
}

static void
check_room(struct report *r, const struct catalog_server *s, bool has_slot, bool is_active)
{
    bool slot_fits = has_slot || s->slots < s->max_slots;
    line(r, slot_fits ? LEVEL_OK : LEVEL_FAIL, "slots",
        slot_fits ? NULL : "ALTER SYSTEM SET max_replication_slots = 20;",
        "%" PRId64 " of max_replication_slots = %" PRId64 " in use%s", s->slots, s->max_slots,
        slot_fits ? "" : "; raise it (needs a restart) or drop a slot that nobody needs");
    bool sender_fits = is_active || s->senders < s->max_senders;
    line(r, sender_fits ? LEVEL_OK : LEVEL_FAIL, "senders",
        sender_fits ? NULL : "ALTER SYSTEM SET max_wal_senders = 20;",
        "%" PRId64 " of max_wal_senders = %" PRId64 " in use%s", s->senders, s->max_senders,
        sender_fits ? "" : "; raise it (needs a restart)");
}

/* The attribute alone does not decide (managed services grant it by a role): the connection
 * does. */
static int
check_role(struct report *r, const struct config_source *c, const struct catalog_server *s,
    struct err *e)
{
    struct pgconn_conf conf = {.dsn = c->dsn,
        .password_file = c->password_file,
        .is_replication = true,
        .stop_fd = sig_stop_fd()};
    auto_pgconn struct pgconn *replication = NULL;
    struct err why = {0};
    int rc = pgconn_open(&conf, &replication, &why);
    if (rc == ERR_STOPPING) {
        return err_set(e, rc, "stopped");
    }
    if (rc == 0) {
        line(r, LEVEL_OK, "role", NULL, "%s may replicate", s->role);
        return 0;
    }
    auto_buf struct buf mend;
    buf_init(&mend, 1024);
    if (!s->can_replicate) {
        buf_puts(&mend, "ALTER ROLE ");
        sql_put_ident(&mend, str_from(s->role));
        buf_puts(&mend, " REPLICATION;");
    }
    line(r, LEVEL_FAIL, "role", s->can_replicate ? NULL : buf_cstr(&mend),
        "%s has no replication connection: %s", s->role, why.msg);
    return 0;
}

/* ---- slot ---- */

static void
check_slot_kind(
    struct report *r, const char *name, const struct catalog_slot *s, const char *database)
{
    if (!s->is_logical || strcmp(s->plugin, "pgoutput") != 0) {
        line(r, LEVEL_FAIL, "slot", NULL,
            "%s exists, but is not a pgoutput slot; choose another source.slot", name);
    } else if (strcmp(s->database, database) != 0) {
        line(r, LEVEL_FAIL, "slot", NULL,
            "%s exists, but belongs to database %s; choose another source.slot", name,
            s->database);
    } else if (s->two_phase) {
        line(r, LEVEL_FAIL, "slot", NULL,
            "%s decodes prepared transactions (two_phase): not in this version", name);
    } else if (s->is_temporary) {
        line(r, LEVEL_FAIL, "slot", NULL, "%s is temporary; choose another source.slot", name);
    } else {
        line(r, LEVEL_OK, "slot", NULL, "%s exists, confirmed up to " LSN_FMT "%s", name,
            LSN_ARG(s->confirmed_lsn), s->active_pid != 0 ? ", and is being read" : "");
    }
}

static void
check_slot(
    struct report *r, const char *name, const struct catalog_slot *s, const char *database)
{
    if (!s->exists) {
        line(r, LEVEL_OK, "slot", NULL, "%s does not exist and will be created", name);
        return;
    }
    check_slot_kind(r, name, s, database);
    bool is_lost = strcmp(s->wal_status, "lost") == 0 || s->invalidation[0] != '\0';
    if (is_lost) {
        auto_buf struct buf mend;
        buf_init(&mend, 1024);
        buf_puts(&mend, "SELECT pg_drop_replication_slot(");
        sql_put_literal(&mend, str_from(name));
        buf_puts(&mend, ");");
        line(r, LEVEL_FAIL, "slot", buf_cstr(&mend),
            "%s is lost (%s): the changes it had not delivered are gone; drop it and start a "
            "new log",
            name, s->invalidation[0] != '\0' ? s->invalidation : s->wal_status);
    } else if (strcmp(s->wal_status, "unreserved") == 0) {
        line(r, LEVEL_WARN, "slot", NULL,
            "%s is beyond max_slot_wal_keep_size and lost at the next checkpoint", name);
    }
    if (s->has_retained) {
        line(r, LEVEL_OK, "slot", NULL, "it keeps %" PRId64 " bytes of WAL",
            s->retained_wal_bytes);
    }
}

/* ---- publication ---- */

static void
check_tables(struct report *r, const struct publication_plan *p)
{
    unsigned shown = 0;
    for (size_t i = 0; i < p->ntables && shown < PUBLICATION_LINES; i++) {
        const struct publication_table *t = &p->tables[i];
        bool is_broken = t->is_published && !t->is_partitioned && !t->has_identity &&
                         (p->has_update || p->has_delete);
        if (!t->is_hazard && !is_broken) {
            continue;
        }
        auto_buf struct buf mend;
        buf_init(&mend, 1024);
        publication_put_mend(&mend, t);
        line(r, t->is_hazard ? LEVEL_FAIL : LEVEL_WARN, "table", buf_cstr(&mend),
            t->is_hazard
                ? "%.*s.%.*s has no replica identity: once published, its UPDATE and DELETE "
                  "would fail (a "
                  "primary key is better than FULL)"
                : "%.*s.%.*s is published without replica identity: its UPDATE and DELETE fail",
            (int)t->schema.n, t->schema.p, (int)t->name.n, t->name.p);
        shown++;
    }
}

static void
check_plan(struct report *r, const char *name, const struct publication_plan *p)
{
    struct err e = {0};
    if (p->nhazards == 0 && publication_check(p, name, &e) != 0) {
        line(r, LEVEL_FAIL, "publication", NULL, "%s", e.msg);
        return;
    }
    auto_buf struct buf sql;
    buf_init(&sql, OUT_MAX);
    publication_put_sql(&sql, p, name);
    if (p->exists && p->nadded == 0) {
        line(
            r, LEVEL_OK, "publication", NULL, "%s exists with %zu tables", name, p->npublished);
    } else if (p->may_apply) {
        line(r, LEVEL_OK, "publication", buf_cstr(&sql),
            "%s will be %s with %zu more tables, by this statement", name,
            p->exists ? "extended" : "created", p->nadded);
    } else {
        line(r, LEVEL_FAIL, "publication", buf_cstr(&sql),
            "%s must be %s, which needs CREATE on the database and the ownership of each "
            "table: run this statement as a superuser",
            name, p->exists ? "extended" : "created");
    }
    if (p->exists && !(p->has_insert && p->has_update && p->has_delete && p->has_truncate)) {
        line(r, LEVEL_WARN, "publication", NULL, "%s does not publish%s%s%s%s", name,
            p->has_insert ? "" : " insert", p->has_update ? "" : " update",
            p->has_delete ? "" : " delete", p->has_truncate ? "" : " truncate");
    }
    if (p->npublished + p->nadded == 0) {
        line(r, LEVEL_WARN, "publication", NULL,
            "no table is published: nothing would be logged");
    }
    check_tables(r, p);
}

static int
check_publication(struct report *r, struct pgconn *c, const struct config_source *conf,
    const struct catalog_slot *s, struct err *e)
{
    struct publication_plan p = {0};
    struct err why = {0};
    int rc = publication_plan(c, conf->publication, &conf->tables, &p, &why);
    if (rc == ERR_STOPPING) {
        return err_set(e, rc, "stopped");
    }
    if (rc != 0) {
        line(r, LEVEL_FAIL, "publication", NULL, "%s", why.msg);
        return 0;
    }
    if (s->exists && !p.exists) {
        line(r, LEVEL_FAIL, "publication", NULL,
            "%s does not exist, but slot %s does and its changes need it", conf->publication,
            conf->slot);
    }
    check_plan(r, conf->publication, &p);
    publication_plan_fini(&p);
    return 0;
}

/* ---- all of it ---- */

static int
check_connected(
    struct report *r, struct pgconn *c, const struct config_source *conf, struct err *e)
{
    struct catalog_server server;
    struct catalog_slot slot;
    int rc = catalog_server(c, &server, e);
    if (rc == 0) {
        rc = catalog_slot(c, conf->slot, &slot, e);
    }
    if (rc != 0) {
        return rc;
    }
    check_server(r, c, &server);
    check_room(r, &server, slot.exists, slot.active_pid != 0);
    rc = check_role(r, conf, &server, e);
    if (rc == 0) {
        rc = check_publication(r, c, conf, &slot, e);
    }
    if (rc == 0) {
        check_slot(r, conf->slot, &slot, server.database);
    }
    return rc;
}

static void
report_open(struct report *r, bool as_json)
{
    *r = (struct report){.as_json = as_json};
    buf_init(&r->out, OUT_MAX);
    if (as_json) {
        jsonw_init(&r->json, &r->out);
        jsonw_object(&r->json, NULL);
        jsonw_array(&r->json, "checks");
    }
}

static void
report_close(struct report *r)
{
    if (r->as_json) {
        jsonw_end_array(&r->json);
        jsonw_u64(&r->json, "failed", r->failed);
        jsonw_end_object(&r->json);
        buf_putc(&r->out, '\n');
    } else if (r->failed > 0) {
        buf_printf(&r->out, "%u must be mended, %u warnings; nothing was changed\n", r->failed,
            r->warned);
    } else {
        buf_printf(&r->out, "ready, %u warnings; nothing was changed\n", r->warned);
    }
    (void)fwrite(r->out.p, 1, r->out.n, stdout);
    (void)fflush(stdout);
    buf_fini(&r->out);
}

int
preflight_run(
    const struct config_source *conf, bool as_json, unsigned *ret_failed, struct err *e)
{
    struct report r;
    struct err why = {0};
    auto_pgconn struct pgconn *c = NULL;
    struct pgconn_conf pc = {
        .dsn = conf->dsn, .password_file = conf->password_file, .stop_fd = sig_stop_fd()};
    report_open(&r, as_json);
    int rc = pgconn_open(&pc, &c, &why);
    if (rc == 0) {
        rc = check_connected(&r, c, conf, &why);
    }
    if (rc != 0 && rc != ERR_STOPPING) {
        line(&r, LEVEL_FAIL, "server", NULL, "%s", why.msg);
    }
    report_close(&r);
    *ret_failed = r.failed;
    return rc == ERR_STOPPING ? err_set(e, rc, "stopped before everything was checked") : 0;
}

/* ---- tables ---- */

static void
put_tables(struct buf *out, const struct publication_plan *p)
{
    for (size_t i = 0; i < p->ntables; i++) {
        const struct publication_table *t = &p->tables[i];
        struct jsonw w;
        if (!publication_has_changes(p, t, true)) {
            continue;
        }
        jsonw_init(&w, out);
        jsonw_object(&w, NULL);
        jsonw_str(&w, "schema", t->schema);
        jsonw_str(&w, "table", t->name);
        jsonw_bool(&w, "key", t->has_key);
        jsonw_end_object(&w);
        buf_putc(out, '\n');
    }
}

int
preflight_tables(const struct config_source *conf, struct err *e)
{
    auto_pgconn struct pgconn *c = NULL;
    struct publication_plan p = {0};
    struct pgconn_conf pc = {
        .dsn = conf->dsn, .password_file = conf->password_file, .stop_fd = sig_stop_fd()};
    int rc = pgconn_open(&pc, &c, e);
    if (rc == 0) {
        rc = publication_plan(c, conf->publication, &conf->tables, &p, e);
    }
    if (rc != 0) {
        return rc;
    }
    auto_buf struct buf out;
    buf_init(&out, OUT_MAX);
    put_tables(&out, &p);
    publication_plan_fini(&p);
    (void)fwrite(out.p, 1, out.n, stdout);
    (void)fflush(stdout);
    return buf_ok(&out) ? 0 : err_set(e, ERR_TOOBIG, "too many tables to name them all");
}

/* ---- drop ---- */

static int
drop_slot(struct pgconn *c, const char *name, bool *ret_existed, struct err *e)
{
    struct catalog_server server;
    struct catalog_slot s;
    int rc = catalog_server(c, &server, e);
    if (rc == 0) {
        rc = catalog_slot(c, name, &s, e);
    }
    if (rc != 0) {
        return rc;
    }
    if (s.exists &&
        (strcmp(s.plugin, "pgoutput") != 0 || strcmp(s.database, server.database) != 0)) {
        return err_set(e, ERR_REFUSED,
            "slot %s is not a pgoutput slot of database %s, so it is not ours; not dropped",
            name, server.database);
    }
    if (s.exists && s.active_pid != 0) {
        return err_set(e, ERR_BUSY,
            "slot %s is being read by server process %" PRId64
            "; stop oneslot first, nothing was dropped",
            name, s.active_pid);
    }
    *ret_existed = s.exists;
    return s.exists ? catalog_drop_slot(c, name, e) : 0;
}

static void
say_drop(bool as_json, const char *what, const char *name, bool existed)
{
    auto_buf struct buf out;
    buf_init(&out, 4096);
    if (as_json) {
        struct jsonw w;
        jsonw_init(&w, &out);
        jsonw_object(&w, NULL);
        jsonw_cstr(&w, "what", what);
        jsonw_cstr(&w, "name", name);
        jsonw_bool(&w, "dropped", existed);
        jsonw_end_object(&w);
        buf_putc(&out, '\n');
    } else {
        buf_printf(&out, "%s %s: %s\n", what, name, existed ? "dropped" : "did not exist");
    }
    (void)fwrite(out.p, 1, out.n, stdout);
    (void)fflush(stdout);
}

int
preflight_drop(const struct config_source *conf, bool as_json, struct err *e)
{
    auto_pgconn struct pgconn *c = NULL;
    struct pgconn_conf pc = {
        .dsn = conf->dsn, .password_file = conf->password_file, .stop_fd = sig_stop_fd()};
    int rc = pgconn_open(&pc, &c, e);
    bool existed = false;
    if (rc == 0) {
        rc = drop_slot(c, conf->slot, &existed, e);
    }
    if (rc != 0) {
        return rc;
    }
    say_drop(as_json, "slot", conf->slot, existed);
    rc = publication_drop(c, conf->publication, &existed, e);
    if (rc != 0 && strcmp(pgconn_sqlstate(c), "42501") == 0) {
        auto_buf struct buf name;
        buf_init(&name, 1024);
        sql_put_ident(&name, str_from(conf->publication));
        return err_set(e, rc,
            "slot %s is gone, but publication %s stays because our role does not own it; run "
            "as its owner: DROP PUBLICATION %s;",
            conf->slot, conf->publication, buf_cstr(&name));
    }
    if (rc == 0) {
        say_drop(as_json, "publication", conf->publication, existed);
    }
    return rc;
}
