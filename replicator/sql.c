/* sql: see sql.h. */
#include "replicator/sql.h"

#include <string.h>

#include "proto/base/err.h"

static void
put_quoted(struct buf *b, struct str text, char quote)
{
    if (text.n > 0 && memchr(text.p, '\0', text.n) != NULL) {
        b->failed = true;
        return;
    }
    buf_putc(b, quote);
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == quote) {
            buf_putc(b, quote);
        }
        buf_putc(b, text.p[i]);
    }
    buf_putc(b, quote);
}

void
sql_put_ident(struct buf *b, struct str name)
{
    put_quoted(b, name, '"');
}

void
sql_put_table(struct buf *b, struct str schema, struct str table)
{
    sql_put_ident(b, schema);
    buf_putc(b, '.');
    sql_put_ident(b, table);
}

void
sql_put_literal(struct buf *b, struct str text)
{
    put_quoted(b, text, '\'');
}

/* https://www.postgresql.org/docs/current/errcodes-appendix.html */
static const struct sql_state states[] = {
    {"08", ERR_CLOSED, "the connection is tried again"},
    {"0A", ERR_UNSUPPORTED, "this server cannot do it; is it a standby or an older version?"},
    {"22", ERR_REFUSED, "PostgreSQL cannot send this value; look into its log for the table"},
    {"22023", ERR_REFUSED,
        "a setting that this server does not take: look at `options` of source.dsn"},
    {"25", ERR_CLOSED, "tried again"},
    {"28", ERR_AUTH, "check user and password of source.dsn, and pg_hba.conf"},
    {"3D000", ERR_CONFIG, "check dbname of source.dsn"},
    {"40", ERR_BUSY, "tried again"},
    {"42501", ERR_AUTH,
        "the role lacks a privilege (REPLICATION, CREATE on the database, or the ownership of "
        "a "
        "table to publish): `oneslot check` prints the SQL that grants it"},
    {"42704", ERR_REFUSED, "the slot or publication is gone: `oneslot check` says which"},
    {"42710", ERR_BUSY, "somebody made it at the same moment; looked at again"},
    {"53", ERR_BUSY, "the server is short of a resource; tried again"},
    {"53300", ERR_BUSY, "tried again; raise max_connections or max_wal_senders when it stays"},
    {"53400", ERR_REFUSED, "raise max_replication_slots, or drop a slot that nobody needs"},
    {"54000", ERR_REFUSED,
        "a row is too large to be sent as text (1 GiB a row, 512 MiB a bytea); take the column "
        "or table "
        "out of the publication before such rows are written"},
    {"55000", ERR_REFUSED, "`oneslot check` shows the state of the slot"},
    {"55006", ERR_BUSY, "another process reads the slot; it is waited for"},
    {"55P03", ERR_BUSY, "tried again"},
    {"57", ERR_CLOSED, "tried again"},
    {"57014", ERR_TIMEOUT, "tried again"},
    {"58", ERR_BUSY, "a system error on the server, look into its log; tried again"},
    {"58P01", ERR_REFUSED,
        "a file that the server needs is gone, usually WAL of the slot: `oneslot check`"},
    {"XX", ERR_CLOSED, "an internal error of the server, look into its log; tried again"},
    {"XX001", ERR_REFUSED, "the server reports corrupt data"},
    {"XX002", ERR_REFUSED, "the server reports a corrupt index"},
};

static const struct sql_state no_state = {"", ERR_CLOSED, "the connection is tried again"};
static const struct sql_state unknown_state = {"", ERR_REFUSED, "look up this SQLSTATE"};

const struct sql_state *
sql_state_find(const char *sqlstate)
{
    if (sqlstate[0] == '\0') {
        return &no_state;
    }
    const struct sql_state *best = &unknown_state;
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        size_t n = strlen(states[i].prefix);
        if (strncmp(sqlstate, states[i].prefix, n) == 0 && n > strlen(best->prefix)) {
            best = &states[i];
        }
    }
    return best;
}
