/* config: see config.h. The tables at the top are the documentation of oneslot.yaml (--help
 * prints them); what a table cannot say is checked by the functions behind them. */
#include "proto/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/listen.h"
#include "proto/base/log.h"
#include "proto/base/xmalloc.h"
#include "proto/dsn.h"
#include "proto/glob.h"

enum { CONFIG_NAME_MAX = 63 }; /* PostgreSQL's names, and sinks' */

#define MIB    INT64_C(1048576)
#define GIB    (1024 * MIB)
#define DAY_MS INT64_C(86400000)

static const char *const snapshot_names[] = {"never", "!initial", NULL};
static const char *const when_full_names[] = {
    [CONFIG_BLOCK] = "block", [CONFIG_EVICT] = "evict", NULL};
static const char *const compression_names[] = {
    [CONFIG_COMPRESSION_NONE] = "none", [CONFIG_COMPRESSION_ZSTD] = "zstd", NULL};
static const char *const kind_names[] = {[CONFIG_KIND_FILE] = "file",
    [CONFIG_KIND_ELASTICSEARCH] = "elasticsearch",
    [CONFIG_KIND_HTTP] = "http",
    [CONFIG_KIND_NULL] = "null",
    [CONFIG_KIND_FLAKY] = "flaky",
    "!fabric",
    "!rag",
    "!kafka",
    NULL};

static const struct conf_field source_fields[] = {
    {.name = "dsn",
        .type = CONF_STRING,
        .offset = offsetof(struct config, source.dsn),
        .flags = CONF_REQUIRED,
        .help = "libpq connection string or URI of the database"},
    {.name = "password_file",
        .type = CONF_PATH,
        .offset = offsetof(struct config, source.password_file),
        .help = "file with the password; else the dsn's, or ~/.pgpass"},
    {.name = "slot",
        .type = CONF_STRING,
        .offset = offsetof(struct config, source.slot),
        .deflt = "oneslot",
        .help = "replication slot, created when missing"},
    {.name = "publication",
        .type = CONF_STRING,
        .offset = offsetof(struct config, source.publication),
        .deflt = "oneslot",
        .help = "publication, created when missing"},
    {.name = "tables",
        .type = CONF_LIST,
        .offset = offsetof(struct config, source.tables),
        .help = "to publish when missing: schema.table with * and ?"},
    {.name = "snapshot",
        .type = CONF_ENUM,
        .offset = offsetof(struct config, source.snapshot),
        .deflt = "never",
        .names = snapshot_names,
        .help = "whether rows from before the slot are read at first"},
    {0}};

static const struct conf_field log_fields[] = {
    {.name = "segment_bytes",
        .type = CONF_SIZE,
        .offset = offsetof(struct config, log.segment_bytes),
        .deflt = "512MiB",
        .min = MIB,
        .max = 64 * GIB,
        .help = "sealed at the first transaction boundary beyond this"},
    {.name = "retain_age",
        .type = CONF_DURATION,
        .offset = offsetof(struct config, log.retain_age_ms),
        .deflt = "7d",
        .min = 1000,
        .max = 36500 * DAY_MS,
        .help = "segments older than this go"},
    {.name = "retain_bytes",
        .type = CONF_SIZE,
        .offset = offsetof(struct config, log.retain_bytes),
        .deflt = "50GiB",
        .help = "the oldest go beyond this; at least 2 x segment_bytes"},
    {.name = "when_full",
        .type = CONF_ENUM,
        .offset = offsetof(struct config, log.when_full),
        .deflt = "block",
        .names = when_full_names,
        .help = "a sink is behind: stop reading, or give it a gap"},
    {.name = "compression",
        .type = CONF_ENUM,
        .offset = offsetof(struct config, log.compression),
        .deflt = "none",
        .names = compression_names,
        .help = "of the records in the log"},
    {0}};

static const struct conf_field fields[] = {
    {.name = "data_dir",
        .type = CONF_PATH,
        .offset = offsetof(struct config, data_dir),
        .deflt = "./data",
        .help = "folder of the log, on a local file system"},
    {.name = "allow_unsafe_filesystem",
        .type = CONF_BOOL,
        .offset = offsetof(struct config, allow_unsafe_filesystem),
        .deflt = "false",
        .help = "network and FUSE file systems too, at your risk"},
    {.name = "log_level",
        .type = CONF_ENUM,
        .offset = offsetof(struct config, log_level),
        .deflt = "info",
        .names = log_level_names,
        .help = "what is written to stderr"},
    {.name = "listen",
        .type = CONF_STRING,
        .offset = offsetof(struct config, listen),
        .deflt = "127.0.0.1:7432",
        .help = "loopback HOST:PORT of the HTTP API"},
    {.name = "tls",
        .type = CONF_NODE,
        .flags = CONF_NOT_YET,
        .help = "certificate and key of the HTTP API"},
    {.name = "tokens_file",
        .type = CONF_PATH,
        .flags = CONF_NOT_YET,
        .help = "who may use the HTTP API"},
    {.name = "source",
        .type = CONF_TABLE,
        .sub = source_fields,
        .flags = CONF_REQUIRED,
        .help = "the PostgreSQL database to follow"},
    {.name = "log", .type = CONF_TABLE, .sub = log_fields, .help = "the durable log"},
    {.name = "sinks",
        .type = CONF_NODE,
        .offset = offsetof(struct config, sinks_node),
        .help = "NAME: and under it these keys and those of its kind"},
    {0}};

static const struct conf_field sink_fields[] = {
    {.name = "kind",
        .type = CONF_ENUM,
        .offset = offsetof(struct config_sink, kind),
        .names = kind_names,
        .flags = CONF_REQUIRED,
        .help = "what it writes to"},
    {.name = "tables",
        .type = CONF_LIST,
        .offset = offsetof(struct config_sink, tables),
        .help = "schema.table with * and ?; left out: all tables"},
    {.name = "start",
        .type = CONF_STRING,
        .offset = offsetof(struct config_sink, start_text),
        .deflt = "earliest",
        .help = "position used once, when the sink is first seen"},
    {.name = "enabled",
        .type = CONF_BOOL,
        .offset = offsetof(struct config_sink, enabled),
        .deflt = "true",
        .help = "whether it runs; it keeps its place in the log"},
    {.name = "lanes",
        .type = CONF_INT,
        .offset = offsetof(struct config_sink, lanes),
        .deflt = "4",
        .min = 1,
        .max = 16,
        .help = "writes at a time; a key keeps its order"},
    {.name = "reject_limit",
        .type = CONF_INT,
        .offset = offsetof(struct config_sink, reject_limit),
        .deflt = "5",
        .min = 0,
        .max = 64,
        .help = "different keys rejected in a row stop it; 0: never"},
    {0}};

/* ---- checks ---- */

/* The value under section/key, or what stands nearest to where it would be. */
static const struct conf_node *
find(const struct conf_node *root, const char *section, const char *key)
{
    const struct conf_node *map = section == NULL ? root : conf_child(root, section);
    const struct conf_node *n;

    if (map == NULL) {
        return root;
    }
    n = conf_child(map, key);
    return n == NULL ? map : n;
}

static bool
is_name(const char *text, const char *allowed)
{
    size_t n = strlen(text);

    return n >= 1 && n <= CONFIG_NAME_MAX && strspn(text, allowed) == n;
}

static bool
parse_port(const char *text, uint16_t *ret)
{
    size_t n = strlen(text);
    unsigned long port;

    if (n == 0 || n > 5 || strspn(text, "0123456789") != n) {
        return false;
    }
    port = strtoul(text, NULL, 10);
    if (port == 0 || port > UINT16_MAX) {
        return false;
    }
    *ret = (uint16_t)port;
    return true;
}

/* HOST:PORT, the host in brackets when it holds colons. */
static int
check_listen(const struct conf_node *root, struct config *c, struct err *e)
{
    const struct conf_node *at = find(root, NULL, "listen");
    const char *host = c->listen;
    const char *colon = strrchr(c->listen, ':');
    size_t n = colon == NULL ? 0 : (size_t)(colon - host);

    if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
        host++;
        n -= 2;
    } else if (n > 0 && memchr(host, ':', n) != NULL) {
        n = 0;
    }
    if (n == 0 || !parse_port(colon + 1, &c->listen_port)) {
        return conf_error(at, e,
            "`listen` must be HOST:PORT with a port from 1 to 65535, such as 127.0.0.1:7432 or "
            "[::1]:7432");
    }
    c->listen_host = xstrndup(host, n);
    if (!listen_is_loopback(str_from(c->listen_host))) {
        return conf_error(at, e,
            "`listen` beyond this machine is not in this version, since access control comes "
            "later; use 127.0.0.1, [::1] or localhost");
    }
    return 0;
}

/* node: what the list was read from, so that the message can name the pattern's place. */
static int
check_tables(const struct conf_node *node, const struct conf_list *tables, struct err *e)
{
    struct err why = {0};

    for (size_t i = 0; i < tables->n; i++) {
        if (glob_check(str_from(tables->v[i]), &why) < 0) {
            const struct conf_node *at = node->kind == CONF_SEQUENCE ? node->child[i] : node;
            return conf_error(at, e, "%s", why.msg);
        }
    }
    return 0;
}

/* A secret that is missing is told before anything is touched, not at the first connection. */
static int
check_readable(const struct conf_node *at, const char *path, struct err *e)
{
    auto_close int fd = -1;

    if (path == NULL) {
        return 0;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        /* lint:allow strerror: read before any thread is started */
        const char *why = strerror(errno);
        return conf_error(
            at, e, "`%s` cannot be read (%s); create the file or remove the key", at->key, why);
    }
    return 0;
}

static int
check_dsn(const struct conf_node *at, const char *dsn, struct err *e)
{
    auto_buf struct buf masked = {0};

    buf_init(&masked, 6 * strlen(dsn) + 64);
    if (dsn_mask(&masked, str_from(dsn))) {
        return 0;
    }
    return conf_error(at, e,
        "`dsn` must be a libpq connection string (host=127.0.0.1 dbname=app user=oneslot) or a "
        "URI "
        "(postgresql://oneslot@127.0.0.1/app)");
}

static int
check_source(const struct conf_node *root, const struct config_source *s, struct err *e)
{
    size_t n = strlen(s->publication);
    int rc = check_dsn(find(root, "source", "dsn"), s->dsn, e);

    if (rc == 0) {
        rc = check_readable(find(root, "source", "password_file"), s->password_file, e);
    }
    if (rc == 0) {
        rc = check_tables(find(root, "source", "tables"), &s->tables, e);
    }
    if (rc < 0) {
        return rc;
    }
    if (!is_name(s->slot, "abcdefghijklmnopqrstuvwxyz0123456789_")) {
        return conf_error(find(root, "source", "slot"), e,
            "`slot` must be 1 to %d lower-case letters, digits and underscores",
            CONFIG_NAME_MAX);
    }
    if (n == 0 || n > CONFIG_NAME_MAX) {
        return conf_error(find(root, "source", "publication"), e,
            "`publication` must be a name of 1 to %d bytes", CONFIG_NAME_MAX);
    }
    return 0;
}

static int
check_log(const struct conf_node *root, const struct config_log *l, struct err *e)
{
    const struct conf_node *map = find(root, NULL, "log");
    const struct conf_node *at = conf_child(map, "retain_bytes");

    if (l->retain_bytes / 2 >= l->segment_bytes) {
        return 0;
    }
    if (at == NULL) {
        at = find(root, "log", "segment_bytes");
    }
    return conf_error(at, e,
        "`retain_bytes` must be at least twice `segment_bytes`, since only whole sealed "
        "segments "
        "can go");
}

/* ---- sinks ---- */

static bool
is_common(const char *key)
{
    for (const struct conf_field *f = sink_fields; f->name != NULL; f++) {
        if (strcmp(f->name, key) == 0) {
            return true;
        }
    }
    return false;
}

/* n with only its common, or only its other children: borrowed, but for the array, which the
 * caller frees. */
static struct conf_node
part_of(const struct conf_node *n, bool is_common_part)
{
    struct conf_node part = *n;

    part.n = 0;
    part.child = xcalloc(n->n + 1, sizeof(struct conf_node *));
    for (size_t i = 0; i < n->n; i++) {
        if (is_common(n->child[i]->key) == is_common_part) {
            part.child[part.n++] = n->child[i];
        }
    }
    return part;
}

static int
apply_part(const struct conf_node *n, bool is_common_part, const struct conf_field *table,
    void *into, struct err *e)
{
    struct conf_node part = part_of(n, is_common_part);
    int rc = conf_apply(&part, table, into, e);

    free(part.child);
    return rc;
}

int
config_sink_apply(const struct config_sink *s, const struct conf_field *kind_fields, void *into,
    struct err *e)
{
    return apply_part(s->node, false, kind_fields, into, e);
}

static int
read_sink(const struct conf_node *n, struct config_sink *s, struct err *e)
{
    struct err why = {0};
    int rc;

    s->name = n->key;
    s->node = n;
    if (!is_name(n->key, "abcdefghijklmnopqrstuvwxyz0123456789_-")) {
        return conf_key_error(n, e,
            "`%s` cannot be a sink's name: 1 to %d lower-case letters, digits, _ and -", n->key,
            CONFIG_NAME_MAX);
    }
    if (n->kind != CONF_MAPPING) {
        return conf_error(n, e, "`%s` must be a mapping with at least `kind`", n->key);
    }
    rc = apply_part(n, true, sink_fields, s, e);
    if (rc == 0) {
        rc = check_tables(find(n, NULL, "tables"), &s->tables, e);
    }
    if (rc == 0 && position_parse(str_from(s->start_text), &s->start, &why) < 0) {
        rc = conf_error(find(n, NULL, "start"), e, "`start`: %s", why.msg);
    }
    return rc;
}

static int
read_sinks(struct config *c, struct err *e)
{
    const struct conf_node *map = c->sinks_node;
    int rc = 0;

    if (map == NULL || conf_is_null(map)) {
        return 0;
    }
    if (map->kind != CONF_MAPPING) {
        return conf_error(map, e, "`sinks` must be a mapping: a name, and under it `kind`");
    }
    c->sinks = xcalloc(map->n + 1, sizeof *c->sinks);
    for (size_t i = 0; rc == 0 && i < map->n; i++) {
        rc = read_sink(map->child[i], &c->sinks[c->nsinks++], e);
    }
    return rc;
}

const struct config_sink *
config_sink_find(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->nsinks; i++) {
        if (strcmp(c->sinks[i].name, name) == 0) {
            return &c->sinks[i];
        }
    }
    return NULL;
}

const char *
config_kind_name(int kind)
{
    return kind_names[kind];
}

/* ---- all of it ---- */

static int
read_config(struct config *c, struct err *e)
{
    const struct conf_node *root = conf_root(c->doc);
    int rc = conf_apply(root, fields, c, e);

    if (rc == 0) {
        rc = check_listen(root, c, e);
    }
    if (rc == 0) {
        rc = check_source(root, &c->source, e);
    }
    if (rc == 0) {
        rc = check_log(root, &c->log, e);
    }
    return rc < 0 ? rc : read_sinks(c, e);
}

static int
from_doc(struct conf_doc *doc, struct config **ret, struct err *e)
{
    struct config *c = xcalloc(1, sizeof *c);
    int rc;

    c->doc = doc;
    rc = read_config(c, e);
    if (rc < 0) {
        config_free(c);
        return rc;
    }
    *ret = c;
    return 0;
}

int
config_load_text(const char *name, struct str text, struct config **ret, struct err *e)
{
    struct conf_doc *doc;
    int rc = conf_load_text(name, text, &doc, e);

    return rc < 0 ? rc : from_doc(doc, ret, e);
}

int
config_load(const char *path, struct config **ret, struct err *e)
{
    struct conf_doc *doc;
    int rc = conf_load(path, &doc, e);

    if (rc == ERR_NOTFOUND) {
        return err_set(e, ERR_CONFIG,
            "%s: there is no such file; name one with -c FILE, or create it: the least it "
            "needs is "
            "`source: {dsn: \"host=127.0.0.1 dbname=app user=oneslot\"}`, and `oneslot config "
            "--help` lists every key",
            path);
    }
    return rc < 0 ? rc : from_doc(doc, ret, e);
}

void
config_free(struct config *c)
{
    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < c->nsinks; i++) {
        conf_release(sink_fields, &c->sinks[i]);
    }
    free(c->sinks);
    free(c->listen_host);
    conf_release(fields, c);
    conf_free(c->doc);
    free(c);
}

static void
print_sink(struct buf *b, const struct config_sink *s)
{
    struct conf_node own = part_of(s->node, false);

    conf_print_key(b, s->name, 2);
    buf_putc(b, '\n');
    conf_print(b, sink_fields, s, 4);
    for (size_t i = 0; i < own.n; i++) {
        conf_print_node(b, own.child[i], 4);
    }
    free(own.child);
}

/* c with its dsn masked, which stands in `masked` and lives as long. */
static struct config
shown_of(const struct config *c, struct buf *masked)
{
    struct config shown = *c;

    buf_init(masked, 6 * strlen(c->source.dsn) + 64);
    (void)dsn_mask(masked, str_from(c->source.dsn)); /* it was asked when the file was read */
    shown.source.dsn = (char *)buf_cstr(masked);
    return shown;
}

void
config_print_json(struct jsonw *w, const struct config *c)
{
    auto_buf struct buf masked = {0};
    struct config shown = shown_of(c, &masked);

    shown.sinks_node = NULL;
    conf_print_json(w, fields, &shown);
}

void
config_sink_print_json(struct jsonw *w, const struct config_sink *s)
{
    conf_print_json(w, sink_fields, s);
}

void
config_print(struct buf *b, const struct config *c)
{
    auto_buf struct buf masked = {0};
    struct config shown = shown_of(c, &masked);

    conf_print(b, fields, &shown, 0);
    if (c->nsinks > 0) {
        buf_puts(b, "sinks:\n");
    }
    for (size_t i = 0; i < c->nsinks; i++) {
        print_sink(b, &c->sinks[i]);
    }
}

void
config_help(struct buf *b)
{
    conf_help(b, fields, 0);
    conf_help(b, sink_fields, 4);
}
