/* pgconn: see pgconn.h. */
#include "replicator/pgconn.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "proto/base/buf.h"
#include "proto/base/check.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/fs.h"
#include "proto/base/xmalloc.h"
#include "proto/lsn.h"
#include "replicator/sql.h"

/* What decides how a value becomes text, what could end a session at work, and what would hide
 * the warning that on_notice waits for, whatever role or database set. The last setting of a
 * name counts, so these follow the options of the dsn. */
#define PINNED_OPTIONS                                                                         \
    "-c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=3 -c timezone=UTC"       \
    " -c bytea_output=hex -c lc_monetary=C -c search_path= -c quote_all_identifiers=off"       \
    " -c standard_conforming_strings=on -c statement_timeout=0 -c lock_timeout=0"              \
    " -c idle_in_transaction_session_timeout=0 -c wal_sender_timeout=60000"                    \
    " -c client_min_messages=warning"

enum {
    DEFAULT_CONNECT_MS = 10 * 1000,
    END_OF_STREAM_MS = 5 * 1000,
    PASSWORD_MAX = 64 * 1024 /* tokens are long */
};

struct pgconn {
    PGconn *pg;
    int stop_fd;
    char sqlstate[6];
    bool is_broken; /* nothing more can be read */
    char *message;  /* CopyData last given out */
    size_t largest; /* of the messages given out */
    struct err fatal_notice;
};

struct pgrows {
    PGresult *result;
};

/* ---- errors ---- */

static void
set_sqlstate(struct pgconn *c, const char *sqlstate)
{
    c->sqlstate[0] = '\0';
    if (sqlstate != NULL && strlen(sqlstate) == 5) {
        memcpy(c->sqlstate, sqlstate, 6);
    }
}

/* The server's own words about a failed statement: primary message and hint, no DETAIL (it may
 * hold values). */
static int
fail_result(struct pgconn *c, const PGresult *res, struct err *e)
{
    set_sqlstate(c, PQresultErrorField(res, PG_DIAG_SQLSTATE));
    const struct sql_state *s = sql_state_find(c->sqlstate);
    const char *primary = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    const char *hint = PQresultErrorField(res, PG_DIAG_MESSAGE_HINT);
    if (c->sqlstate[0] == '\0') {
        return err_set(e, ERR_CLOSED, "connection to PostgreSQL lost");
    }
    return err_set(e, s->code, "PostgreSQL: %s%s%s (SQLSTATE %s); %s",
        primary == NULL ? "?" : primary, hint == NULL ? "" : ". ", hint == NULL ? "" : hint,
        c->sqlstate, s->advice);
}

static int
fail_lost(struct pgconn *c, struct err *e)
{
    set_sqlstate(c, NULL);
    const char *text = PQerrorMessage(c->pg);
    size_t n = strcspn(text, "\n");
    return err_set(
        e, ERR_CLOSED, "connection to PostgreSQL lost%s%.*s", n > 0 ? ": " : "", (int)n, text);
}

/* Where libpq's verbose text "...FATAL:  28P01: sentence" of a failed connect holds a SQLSTATE:
 * the place of its five characters, the last one when several addresses were tried. There is no
 * other way to it before PQgetResult works, and verbosity SQLSTATE alone would hide the
 * sentence. */
static const char *
find_sqlstate(const char *text)
{
    const char *found = NULL;
    for (const char *p = text; (p = strstr(p, ":  ")) != NULL; p += 3) {
        size_t n = strspn(p + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        if (n == 5 && strncmp(p + 8, ": ", 2) == 0) {
            found = p + 3;
        }
    }
    return found;
}

static int
fail_connect(struct pgconn *c, struct err *e)
{
    const char *text = PQerrorMessage(c->pg);
    const char *found = find_sqlstate(text);
    if (found != NULL) {
        char sqlstate[6] = {0};
        memcpy(sqlstate, found, 5);
        set_sqlstate(c, sqlstate);
        const struct sql_state *s = sql_state_find(sqlstate);
        const char *sentence = found + 7;
        return err_set(e, s->code, "PostgreSQL refuses the connection: %.*s (SQLSTATE %s); %s",
            (int)strcspn(sentence, "\n"), sentence, sqlstate, s->advice);
    }
    if (PQconnectionNeedsPassword(c->pg) != 0) {
        return err_set(e, ERR_AUTH,
            "PostgreSQL asks for a password; set source.password_file, or put one in "
            "~/.pgpass");
    }
    return err_set(e, ERR_CONNECT,
        "cannot connect to PostgreSQL: %.*s; is it running, and is source.dsn right?",
        (int)strcspn(text, "\n"), text);
}

/* pgoutput of PostgreSQL 18 only warns (55000) when the publication did not exist at a place in
 * the WAL, and drops the changes. Told by SQLSTATE; nothing else warns with it while streaming.
 */
static void
on_notice(void *arg, const PGresult *res)
{
    struct pgconn *c = arg;
    const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    if (severity == NULL || sqlstate == NULL || strcmp(severity, "WARNING") != 0 ||
        strcmp(sqlstate, "55000") != 0) {
        return;
    }
    const char *primary = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    (void)err_set(&c->fatal_notice, ERR_REFUSED,
        "PostgreSQL skips changes: %s; was the publication dropped or created after the slot?",
        primary == NULL ? "?" : primary);
}

/* ---- waiting ---- */

/* deadline_ms 0: none. */
static int
wait_socket(struct pgconn *c, short events, int64_t deadline_ms, struct err *e)
{
    struct pollfd fds[2] = {
        {.fd = PQsocket(c->pg), .events = events}, {.fd = c->stop_fd, .events = POLLIN}};
    for (;;) {
        int64_t left_ms = -1;
        if (deadline_ms > 0) {
            left_ms = deadline_ms - clock_mono_ms();
            if (left_ms <= 0) {
                return err_set(e, ERR_TIMEOUT, "PostgreSQL did not answer in time");
            }
        }
        int n =
            poll(fds, c->stop_fd >= 0 ? 2 : 1, (int)(left_ms > 3600000 ? 3600000 : left_ms));
        if (n < 0 && errno != EINTR) {
            return err_set_sys(e, ERR_IO, errno, "poll of the connection to PostgreSQL");
        }
        if (n > 0 && c->stop_fd >= 0 && fds[1].revents != 0) {
            return err_set(e, ERR_STOPPING, "stopping");
        }
        if (n > 0 && fds[0].revents != 0) {
            return 0;
        }
    }
}

/* ---- connecting ---- */

enum { KEYS_MAX = 16 };
struct keywords {
    const char *key[KEYS_MAX + 1], *value[KEYS_MAX + 1];
    unsigned n;
};

static void
add_key(struct keywords *k, const char *key, const char *value)
{
    CHECK(k->n < KEYS_MAX);
    k->key[k->n] = key;
    k->value[k->n++] = value;
    k->key[k->n] = k->value[k->n] = NULL;
}

/* What we must know of the dsn itself. */
struct dsn {
    char *options; /* ours behind the user's; owned */
    int64_t connect_timeout_ms;
};

/* libpq's connect_timeout: whole seconds; 0 and less would be for ever, which we never wait. */
static int64_t
timeout_ms(const char *text)
{
    char *end;
    long s = strtol(text, &end, 10);
    return *end == '\0' && s > 0 && s <= 3600 ? 1000 * (int64_t)s : DEFAULT_CONNECT_MS;
}

static int
read_dsn(const char *text, struct dsn *ret, struct err *e)
{
    PQconninfoOption *list = PQconninfoParse(text, NULL);
    if (list == NULL) { /* libpq's own message could repeat a part of the password */
        return err_set(e, ERR_CONFIG,
            "source.dsn is neither `key=value ...` nor a postgresql:// URI; quote values that "
            "hold spaces");
    }
    ret->connect_timeout_ms = DEFAULT_CONNECT_MS;
    const char *options = "";
    for (PQconninfoOption *o = list; o->keyword != NULL; o++) {
        if (o->val != NULL && strcmp(o->keyword, "options") == 0) {
            options = o->val;
        } else if (o->val != NULL && strcmp(o->keyword, "connect_timeout") == 0) {
            ret->connect_timeout_ms = timeout_ms(o->val);
        }
    }
    ret->options = xasprintf("%s %s", options, PINNED_OPTIONS);
    PQconninfoFree(list);
    return 0;
}

static int
read_password(const char *path, struct buf *password, struct err *e)
{
    int rc = fs_read_file(path, password, PASSWORD_MAX, e);
    if (rc != 0) {
        return err_set(e, ERR_CONFIG, "source.password_file %s cannot be read: %s", path,
            rc == ERR_NOTFOUND ? "it does not exist" : err_text(rc));
    }
    while (password->n > 0 &&
           (password->p[password->n - 1] == '\n' || password->p[password->n - 1] == '\r')) {
        password->n--;
    }
    return 0;
}

static int
poll_connect(struct pgconn *c, int64_t deadline_ms, struct err *e)
{
    for (PostgresPollingStatusType s = PGRES_POLLING_WRITING; s != PGRES_POLLING_OK;
         s = PQconnectPoll(c->pg)) {
        if (s == PGRES_POLLING_FAILED) {
            return fail_connect(c, e);
        }
        int rc = wait_socket(c, s == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline_ms, e);
        if (rc == ERR_TIMEOUT) {
            return err_set(e, ERR_CONNECT,
                "cannot connect to PostgreSQL at %s port %s: no answer in time", PQhost(c->pg),
                PQport(c->pg));
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int
start_connect(struct pgconn *c, const struct pgconn_conf *conf, const struct dsn *d,
    const char *password, struct err *e)
{
    struct keywords k = {0};
    /* Before the dsn: defaults that it may replace. */
    add_key(&k, "fallback_application_name", "oneslot");
    add_key(&k, "keepalives", "1");
    add_key(&k, "keepalives_idle", "10");
    add_key(&k, "keepalives_interval", "5");
    add_key(&k, "keepalives_count", "3");
    add_key(&k, "tcp_user_timeout", "30000");
    add_key(&k, "dbname", conf->dsn);
    /* Behind it: what it may not. */
    add_key(&k, "options", d->options);
    add_key(&k, "client_encoding", "UTF8");
    if (conf->is_replication) {
        add_key(&k, "replication", "database");
    }
    if (password != NULL) {
        add_key(&k, "password", password);
    }
    c->pg = PQconnectStartParams(k.key, k.value, 1);
    if (c->pg == NULL) {
        return err_set(e, ERR_NOMEM, "no memory for a connection to PostgreSQL");
    }
    (void)PQsetErrorVerbosity(c->pg, PQERRORS_VERBOSE); /* for find_sqlstate */
    (void)PQsetNoticeReceiver(c->pg, on_notice, c);
    if (PQstatus(c->pg) == CONNECTION_BAD) {
        return fail_connect(c, e);
    }
    int64_t limit_ms =
        conf->connect_timeout_ms > 0 ? conf->connect_timeout_ms : d->connect_timeout_ms;
    return poll_connect(c, clock_mono_ms() + limit_ms, e);
}

static int
check_connected(struct pgconn *c, struct err *e)
{
    int version = PQserverVersion(c->pg);
    if (version < PGCONN_MIN_VERSION || version > PGCONN_MAX_VERSION) {
        return err_set(e, ERR_UNSUPPORTED,
            "PostgreSQL %s is not supported; oneslot reads from 13 to 18",
            pgconn_version_text(c));
    }
    /* A server that cannot convert would refuse bytes that are not UTF-8, and stop the slot for
     * good. */
    if (pgconn_is_raw_text(c)) {
        return pgconn_query(
            c, "SET client_encoding = 'SQL_ASCII'", DEFAULT_CONNECT_MS, NULL, e);
    }
    return 0;
}

int
pgconn_open(const struct pgconn_conf *conf, struct pgconn **ret, struct err *e)
{
    struct dsn d = {0};
    int rc = read_dsn(conf->dsn, &d, e);
    if (rc != 0) {
        return rc;
    }
    struct pgconn *c = xcalloc(1, sizeof *c);
    c->stop_fd = conf->stop_fd;
    struct buf password;
    buf_init(&password, PASSWORD_MAX + 1);
    if (conf->password_file != NULL) {
        rc = read_password(conf->password_file, &password, e);
    }
    if (rc == 0) {
        rc = start_connect(
            c, conf, &d, conf->password_file == NULL ? NULL : buf_cstr(&password), e);
    }
    if (rc == 0) {
        rc = check_connected(c, e);
    }
    free(d.options);
    buf_fini(&password);
    if (rc != 0) {
        pgconn_close(c);
        return rc;
    }
    *ret = c;
    return 0;
}

void
pgconn_close(struct pgconn *c)
{
    if (c == NULL) {
        return;
    }
    if (c->message != NULL) {
        PQfreemem(c->message);
    }
    PQfinish(c->pg);
    free(c);
}

int
pgconn_version(const struct pgconn *c)
{
    return PQserverVersion(c->pg);
}

const char *
pgconn_version_text(const struct pgconn *c)
{
    const char *text = PQparameterStatus(c->pg, "server_version");
    return text == NULL ? "?" : text;
}

bool
pgconn_is_raw_text(const struct pgconn *c)
{
    const char *encoding = PQparameterStatus(c->pg, "server_encoding");
    return encoding != NULL && strcmp(encoding, "SQL_ASCII") == 0;
}

const char *
pgconn_sqlstate(const struct pgconn *c)
{
    return c->sqlstate;
}

/* ---- statements ---- */

static int
flush_all(struct pgconn *c, int64_t deadline_ms, struct err *e)
{
    int n;
    while ((n = PQflush(c->pg)) != 0) {
        if (n < 0) {
            return fail_lost(c, e);
        }
        int rc = wait_socket(c, POLLIN | POLLOUT, deadline_ms, e);
        if (rc != 0) {
            return rc;
        }
        if (PQconsumeInput(c->pg) == 0) {
            return fail_lost(c, e);
        }
    }
    return 0;
}

static int
wait_result(struct pgconn *c, int64_t deadline_ms, struct err *e)
{
    while (PQisBusy(c->pg) != 0) {
        int rc = wait_socket(c, POLLIN, deadline_ms, e);
        if (rc != 0) {
            return rc;
        }
        if (PQconsumeInput(c->pg) == 0) {
            return fail_lost(c, e);
        }
    }
    return 0;
}

static bool
is_success(const PGresult *res)
{
    switch (PQresultStatus(res)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
    case PGRES_COPY_BOTH:
        return true;
    default:
        return false;
    }
}

/* Every result up to the end of the statement; the first is kept, and an error in any of them
 * counts. */
static int
collect(struct pgconn *c, int64_t deadline_ms, PGresult **first, struct err *e)
{
    int failed = 0;
    for (;;) {
        int rc = wait_result(c, deadline_ms, e);
        if (rc != 0) {
            return rc;
        }
        PGresult *res = PQgetResult(c->pg);
        if (res == NULL) {
            return failed;
        }
        if (!is_success(res)) {
            failed = fail_result(c, res, e);
        }
        bool is_stream = PQresultStatus(res) == PGRES_COPY_BOTH;
        if (*first == NULL) {
            *first = res;
        } else {
            PQclear(res);
        }
        if (is_stream) {
            return failed;
        }
    }
}

int
pgconn_query(
    struct pgconn *c, const char *sql, int64_t timeout_ms, struct pgrows **ret, struct err *e)
{
    int64_t deadline_ms = timeout_ms > 0 ? clock_mono_ms() + timeout_ms : 0;
    set_sqlstate(c, NULL);
    if (PQsendQuery(c->pg, sql) == 0) {
        return fail_lost(c, e);
    }
    PGresult *first = NULL;
    int rc = flush_all(c, deadline_ms, e);
    if (rc == 0) {
        rc = collect(c, deadline_ms, &first, e);
    }
    if (rc != 0 || ret == NULL) {
        PQclear(first);
        return rc;
    }
    struct pgrows *r = xcalloc(1, sizeof *r);
    r->result = first;
    *ret = r;
    return 0;
}

void
pgconn_cancel(struct pgconn *c)
{
    PGcancel *cancel = PQgetCancel(c->pg);
    char why[64];
    if (cancel != NULL) {
        (void)PQcancel(
            cancel, why, sizeof why); /* best effort: the connection is closed next */
        PQfreeCancel(cancel);
    }
}

size_t
pgrows_count(const struct pgrows *r)
{
    return (size_t)PQntuples(r->result);
}

const char *
pgrows_get(const struct pgrows *r, size_t row, unsigned column)
{
    if (row >= pgrows_count(r) || column >= (unsigned)PQnfields(r->result) ||
        PQgetisnull(r->result, (int)row, (int)column) != 0) {
        return NULL;
    }
    return PQgetvalue(r->result, (int)row, (int)column);
}

void
pgrows_free(struct pgrows *r)
{
    if (r != NULL) {
        PQclear(r->result);
        free(r);
    }
}

/* ---- streaming ---- */

/* libpq reads at most what its input buffer has room for: 16 KiB at first, enlarged for good by
 * a larger message only. One large row before the stream begins lets every later read take all
 * that the socket holds, a tenth of the system calls. */
static int
widen_input(struct pgconn *c, struct err *e)
{
    auto_pgrows struct pgrows *r = NULL;
    return pgconn_query(c, "SELECT pg_catalog.repeat('x', 250000)", DEFAULT_CONNECT_MS, &r, e);
}

int
pgconn_start(
    struct pgconn *c, const char *slot, const char *publication, uint64_t lsn, struct err *e)
{
    auto_buf struct buf names, sql;
    buf_init(&names, 4096);
    buf_init(&sql, 8192);
    sql_put_ident(&names,
        str_from(publication)); /* the option is a list of identifiers, inside a literal */
    buf_puts(&sql, "START_REPLICATION SLOT ");
    sql_put_ident(&sql, str_from(slot));
    buf_printf(
        &sql, " LOGICAL " LSN_FMT " (proto_version '1', publication_names ", LSN_ARG(lsn));
    sql_put_literal(&sql, buf_str(&names));
    if (pgconn_version(c) >= 140000) {
        buf_puts(&sql, ", messages 'true'");
    }
    buf_puts(&sql, ")");
    if (!buf_ok(&names) || !buf_ok(&sql)) {
        return err_set(e, ERR_CONFIG, "the name of slot or publication is too long");
    }
    auto_pgrows struct pgrows *r = NULL;
    int rc = widen_input(c, e);
    if (rc == 0) {
        rc = pgconn_query(c, buf_cstr(&sql), DEFAULT_CONNECT_MS * 6, &r, e);
    }
    if (rc != 0) {
        return rc;
    }
    if (PQresultStatus(r->result) != PGRES_COPY_BOTH) {
        return err_set(
            e, ERR_PROTOCOL, "PostgreSQL did not begin to stream after START_REPLICATION");
    }
    if (PQsetnonblocking(c->pg, 1) != 0) {
        return fail_lost(c, e);
    }
    return 0;
}

/* What ended the stream, in the server's words where it sent some. */
static int
end_of_stream(struct pgconn *c, struct err *e)
{
    int rc = wait_result(c, clock_mono_ms() + END_OF_STREAM_MS, e);
    if (rc != 0) {
        return rc;
    }
    PGresult *res = PQgetResult(c->pg);
    if (res != NULL && !is_success(res) && PQresultErrorField(res, PG_DIAG_SQLSTATE) != NULL) {
        rc = fail_result(c, res, e);
    } else if (PQstatus(c->pg) == CONNECTION_BAD) {
        rc = fail_lost(c, e);
    } else {
        rc =
            err_set(e, ERR_CLOSED, "PostgreSQL ended the stream; it is probably shutting down");
    }
    PQclear(res);
    return rc;
}

int
pgconn_receive(struct pgconn *c, struct str *ret, struct err *e)
{
    if (c->message != NULL) {
        PQfreemem(c->message);
        c->message = NULL;
    }
    int n = PQgetCopyData(c->pg, &c->message, 1);
    if (c->fatal_notice.code != 0) {
        if (e != NULL) {
            *e = c->fatal_notice;
        }
        return c->fatal_notice.code;
    }
    if (n > 0) {
        c->largest = (size_t)n > c->largest ? (size_t)n : c->largest;
        *ret = (struct str){c->message, (size_t)n};
        return 1;
    }
    if (n == 0 && !c->is_broken) {
        return 0;
    }
    return n == -1 ? end_of_stream(c, e) : fail_lost(c, e);
}

size_t
pgconn_largest(const struct pgconn *c)
{
    return c->largest;
}

void
pgconn_consume(struct pgconn *c)
{
    if (PQconsumeInput(c->pg) == 0) {
        c->is_broken = true;
    }
}

bool
pgconn_is_lost(struct pgconn *c)
{
    pgconn_consume(c);
    return c->is_broken;
}

int
pgconn_fd(const struct pgconn *c)
{
    return PQsocket(c->pg);
}

int
pgconn_send(struct pgconn *c, struct str message, struct err *e)
{
    if (PQputCopyData(c->pg, message.p, (int)message.n) < 0) {
        return fail_lost(c, e);
    }
    return pgconn_flush(c, e);
}

int
pgconn_flush(struct pgconn *c, struct err *e)
{
    int n = PQflush(c->pg);
    return n < 0 ? fail_lost(c, e) : n;
}
