/* elasticsearch: the kind for Elasticsearch and OpenSearch: documents that equal their rows.
 * A document's version is the offset of the record that made it (external_gte), so that
 * whatever comes twice or late changes nothing. Wires the parts: options, connection, tables,
 * folding, values that updates leave out, requests, verdicts. Must not know: offsets of the
 * broker, retries, dead letters. */
#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/xmalloc.h"
#include "proto/record_key.h"
#include "sinks/elasticsearch/es_fold.h"
#include "sinks/elasticsearch/es_id.h"
#include "sinks/elasticsearch/es_index.h"
#include "sinks/elasticsearch/es_move.h"
#include "sinks/elasticsearch/es_send.h"
#include "sinks/elasticsearch/es_toast.h"
#include "sinks/elasticsearch/es_truncate.h"
#include "sinks/sink.h"

enum { ES_MAGIC = 0x45534f53, TIMEOUT_MIN_MS = 1000, TIMEOUT_MAX_MS = 10 * 60 * 1000 };

/* ---- options ---- */

struct es_options {
    struct conf_list urls;
    char *index, *api_key_file, *username, *password_file, *ca_file;
    const struct conf_node *mapping;
    int compression; /* enum es_compression */
    int64_t timeout_ms;
};

static const char *const compression_names[] = {"auto", "none", "gzip", NULL};

#define FIELD(option, kind, member)                                                            \
    .name = option, .type = kind, .offset = offsetof(struct es_options, member)

static const struct conf_field es_fields[] = {
    {FIELD("url", CONF_LIST, urls), .flags = CONF_REQUIRED,
        .help = "of Elasticsearch or OpenSearch; several are nodes of one cluster, the next is "
                "taken when one fails"},
    {FIELD("index", CONF_STRING, index), .deflt = "{schema}.{table}",
        .help = "name of a table's alias, lower-cased; behind it stands an index of its own"},
    {FIELD("api_key_file", CONF_PATH, api_key_file),
        .help = "file with an API key, ID:KEY or encoded"},
    {FIELD("username", CONF_STRING, username), .help = "for basic authentication"},
    {FIELD("password_file", CONF_PATH, password_file), .help = "file with its password"},
    {FIELD("ca_file", CONF_PATH, ca_file),
        .help = "certificates (PEM) that sign the server's; default: the system's"},
    {FIELD("mapping", CONF_NODE, mapping),
        .help = "types of single columns: \"SCHEMA.TABLE.COLUMN\": keyword, flattened, none, a "
                "JSON object, ..."},
    {FIELD("compression", CONF_ENUM, compression), .deflt = "auto", .names = compression_names,
        .help = "of requests; auto: gzip unless the server is on this machine"},
    {FIELD("timeout", CONF_DURATION, timeout_ms), .deflt = "30s", .min = TIMEOUT_MIN_MS,
        .max = TIMEOUT_MAX_MS, .help = "of one request"},
    {0},
};

/* ---- life ---- */

/* Of a batch's records; the arrays have `room`. */
struct es_work {
    size_t room;
    struct es_fold_key *keys;
    const struct es_version **versions;
    size_t *ids_at;
    bool *is_reread;
    struct es_want *wants;
    struct es_op *ops;
    size_t *want_of; /* per operation */
    struct buf ids;
    struct es_fold fold;
};

struct es {
    struct sink sink;
    unsigned magic;
    struct es_parts parts;
    struct es_seen *seen;
    struct es_work work;
};

static struct es *
es_of(struct sink *s)
{
    struct es *es = (struct es *)(void *)s;
    CHECK_MAGIC(es, ES_MAGIC);
    return es;
}

static void
free_work(struct es_work *w)
{
    free(w->keys);
    free(w->versions);
    free(w->ids_at);
    free(w->is_reread);
    free(w->wants);
    free(w->ops);
    free(w->want_of);
    buf_fini(&w->ids);
    es_fold_fini(&w->fold);
    *w = (struct es_work){0};
}

static void
es_close(struct sink *s)
{
    if (s == NULL) {
        return;
    }
    struct es *es = es_of(s);
    es->magic = 0;
    es_tables_free(es->parts.tables);
    es_bulk_free(es->parts.bulk);
    es_conn_close(es->parts.conn);
    es_seen_close(es->seen);
    free_work(&es->work);
    free(es);
}

/* Which of the two it is, and that it knows require_alias. */
static int
ask_version(struct es_conn *c, struct es_dialect *ret, struct err *e)
{
    struct es_answer a;
    struct es_info info;
    int rc = es_conn_call(c, &(struct es_request){.method = "GET", .path = "/"}, &a, e);
    if (rc == 0 && a.status != 200) {
        rc = es_conn_refused(c, &a, "cannot ask the server what it is", e);
    }
    if (rc == 0) {
        rc = es_reply_info(a.body, &info, e);
    }
    if (rc != 0) {
        return rc;
    }
    if (!info.is_opensearch && (info.major < 7 || (info.major == 7 && info.minor < 10))) {
        return err_set(e, ERR_UNSUPPORTED,
            "%s is Elasticsearch %s, and this sink needs 7.10 or newer", es_conn_url(c),
            info.number);
    }
    *ret = (struct es_dialect){
        .is_opensearch = info.is_opensearch, .major = info.major, .minor = info.minor};
    return 0;
}

static int
check_options(const struct es_options *o, struct err *e)
{
    int rc = es_index_check_template(str_from(o->index), e);
    return rc != 0 ? rc : es_mapping_check(o->mapping, e);
}

static int
open_parts(struct es *es, const struct sink_setup *setup, struct err *e)
{
    const struct es_options *o = setup->options;
    struct es_conn_conf conf = {.urls = &o->urls,
        .api_key_file = o->api_key_file,
        .username = o->username,
        .password_file = o->password_file,
        .ca_file = o->ca_file,
        .compression = (enum es_compression)o->compression,
        .timeout_ms = o->timeout_ms,
        .should_stop = setup->should_stop};
    struct es_tables_conf tables = {
        .index = o->index, .overrides = o->mapping, .epoch = setup->epoch};
    memcpy(tables.uuid, setup->uuid, sizeof tables.uuid);
    int rc = check_options(o, e);
    if (rc == 0 && !setup->is_check) {
        rc = es_seen_open(setup->seen_path, &es->seen, e);
    }
    if (rc == 0) {
        rc = es_conn_open(&conf, &es->sink, &es->parts.conn, e);
    }
    if (rc == 0) {
        rc = ask_version(es->parts.conn, &tables.dialect, e);
    }
    if (rc == 0) {
        es->parts.bulk = es_bulk_new(es->parts.conn, &es->sink);
        tables.seen = es->seen;
        es->parts.tables = es_tables_new(es->parts.conn, &tables);
    }
    return rc;
}

extern const struct sink_ops sink_elasticsearch_ops;

static int
es_open(const struct sink_setup *setup, struct sink **ret, struct err *e)
{
    struct es *es = xcalloc(1, sizeof *es);
    es->sink.ops = &sink_elasticsearch_ops;
    es->sink.retry_after_ms = -1;
    es->magic = ES_MAGIC;
    es->parts.sink = &es->sink;
    buf_init(&es->work.ids, SIZE_MAX);
    int rc = open_parts(es, setup, e);
    if (rc != 0) {
        es_close(&es->sink);
        return rc;
    }
    *ret = &es->sink;
    return 0;
}

/* ---- a batch of rows ---- */

#define GROW(w, member, n)                                                                     \
    ((w)->member = xreallocarray((void *)(w)->member, (n), sizeof *(w)->member))

static void
make_room(struct es_work *w, size_t n)
{
    if (n > w->room) {
        GROW(w, keys, n);
        GROW(w, versions, n);
        GROW(w, ids_at, n + 1);
        GROW(w, is_reread, n);
        GROW(w, wants, n);
        GROW(w, ops, n);
        GROW(w, want_of, n);
        w->room = n;
    }
    memset(w->is_reread, 0, n * sizeof *w->is_reread);
    buf_reset(&w->ids, (size_t)1 << 20);
}

/* Table and id of every record; what has none is settled here. */
static int
name_documents(
    struct es *es, const struct sink_batch *b, struct sink_verdict *verdicts, struct err *e)
{
    struct es_work *w = &es->work;
    for (size_t i = 0; i < b->n; i++) {
        const struct record *r = &b->records[i];
        w->ids_at[i] = w->ids.n;
        w->keys[i] = (struct es_fold_key){0};
        w->versions[i] = NULL;
        if (r->schema == NULL) {
            verdicts[i].verdict = VERDICT_DONE; /* a message: no document */
            continue;
        }
        int rc = es_tables_find(es->parts.tables, r, &w->versions[i], e);
        if (rc != 0) {
            return rc;
        }
        if (!es_id_put(&w->ids, r->schema, record_key_row(r))) {
            verdicts[i] = (struct sink_verdict){
                .verdict = VERDICT_REJECT, .reason = "a key column has no value"};
            continue;
        }
        w->keys[i].table = w->versions[i]->table;
    }
    w->ids_at[b->n] = w->ids.n;
    for (size_t i = 0; i < b->n; i++) { /* the buffer stands still now */
        w->keys[i].id =
            (struct str){.p = w->ids.p + w->ids_at[i], .n = w->ids_at[i + 1] - w->ids_at[i]};
    }
    return 0;
}

static void
make_wants(struct es_work *w)
{
    for (size_t d = 0; d < w->fold.n; d++) {
        size_t last = w->fold.last[d];
        w->wants[d] = (struct es_want){.last = last,
            .alias = w->versions[last]->table->alias,
            .id = w->keys[last].id,
            .shape = w->versions[last]->shape};
    }
}

/* Of the documents from lo to hi, as all that follow. */
static size_t
make_ops(struct es_work *w, const struct sink_batch *b, size_t lo, size_t hi)
{
    size_t n = 0;
    for (size_t d = lo; d < hi; d++) {
        const struct es_want *want = &w->wants[d];
        if (want->state != ES_TOAST_READY) {
            continue;
        }
        const struct record *r = &b->records[want->last];
        w->ops[n] =
            (struct es_op){.to = {.alias = want->alias, .id = want->id, .version = r->offset},
                .record = r->op == FRAME_DELETE ? NULL : r,
                .shape = w->versions[want->last]->shape,
                .fill = want->fill};
        w->want_of[n++] = d;
    }
    return n;
}

/* All records of a document from its newest written one back. A rejection is the newest one's:
 * the others are sent again without it. */
static void
judge_chain(const struct es_work *w, size_t last, struct sink_verdict of_last,
    struct sink_verdict *verdicts)
{
    for (size_t i = last; i != ES_FOLD_NONE; i = w->fold.former[i]) {
        if (w->is_reread[i]) {
            continue;
        }
        verdicts[i] = of_last;
        if (of_last.verdict == VERDICT_REJECT && i != last) {
            verdicts[i] = (struct sink_verdict){.verdict = VERDICT_RETRY,
                .reason = "sent again without a later record that was rejected"};
        }
    }
}

static void
judge_unsent(struct es *es, size_t lo, size_t hi, struct sink_verdict *verdicts)
{
    const struct es_work *w = &es->work;
    for (size_t d = lo; d < hi; d++) {
        struct sink_verdict verdict = {.verdict = VERDICT_DONE};
        if (w->wants[d].state == ES_TOAST_STALE) {
            es->sink.counts.stale++;
            judge_chain(w, w->wants[d].last, verdict, verdicts);
        } else if (w->wants[d].state == ES_TOAST_RETRY) {
            verdict = (struct sink_verdict){
                .verdict = VERDICT_RETRY, .reason = "its document could not be read"};
            judge_chain(w, w->wants[d].last, verdict, verdicts);
        }
    }
}

static void
judge_rereads(const struct es_work *w, size_t n, struct sink_verdict *verdicts)
{
    for (size_t i = 0; i < n; i++) {
        if (w->is_reread[i]) {
            verdicts[i] = (struct sink_verdict){.verdict = VERDICT_REREAD,
                .reason = "no document proves the unchanged columns' values"};
        }
    }
}

/* Documents that could not be read: perhaps because their alias is gone. */
static int
look_at_unread(struct es *es, size_t lo, size_t hi, struct err *e)
{
    const struct es_work *w = &es->work;
    for (size_t d = lo; d < hi; d++) {
        if (w->wants[d].state == ES_TOAST_RETRY) {
            return es_tables_look_again(es->parts.tables, w->wants[d].alias, e);
        }
    }
    return 0;
}

/* Their values are known. */
static int
send_documents(struct es *es, const struct sink_batch *b, size_t lo, size_t hi,
    struct sink_verdict *verdicts, struct err *e)
{
    struct es_work *w = &es->work;
    int rc = look_at_unread(es, lo, hi, e);
    size_t n = make_ops(w, b, lo, hi);
    if (rc == 0) {
        rc = es_send(&es->parts, w->ops, n, e);
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        judge_chain(w, w->wants[w->want_of[i]].last, es_send_verdict(&w->ops[i]), verdicts);
    }
    if (rc == 0) {
        judge_unsent(es, lo, hi, verdicts);
    }
    for (size_t d = lo; d < hi; d++) {
        es_want_fini(&w->wants[d]);
    }
    return rc;
}

/* Up to where the server has enough. */
static int
send_rows(
    struct es *es, const struct sink_batch *b, struct sink_verdict *verdicts, struct err *e)
{
    struct es_work *w = &es->work;
    struct es_toast_batch t = {.records = b->records,
        .former = w->fold.former,
        .barred = b->barred,
        .is_reread = w->is_reread,
        .floors = b->floors};
    size_t n = 0;
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < w->fold.n && !es->sink.is_pushed_back; at += n) {
        rc = es_toast_settle(es->parts.conn, &t, w->wants + at, w->fold.n - at, &n, e);
        if (rc == 0) {
            rc = send_documents(es, b, at, at + n, verdicts, e);
        }
    }
    judge_rereads(w, b->n, verdicts);
    return rc;
}

static int
write_rows(
    struct es *es, const struct sink_batch *b, struct sink_verdict *verdicts, struct err *e)
{
    struct es_work *w = &es->work;
    make_room(w, b->n);
    int rc = name_documents(es, b, verdicts, e);
    if (rc != 0) {
        return rc;
    }
    es_fold_make(&w->fold, w->keys, b->n);
    make_wants(w);
    rc = send_rows(es, b, verdicts, e);
    for (size_t d = 0; d < w->fold.n; d++) {
        es_want_fini(&w->wants[d]);
    }
    return rc;
}

/* ---- what comes alone ---- */

static int
write_alone(
    struct es *es, const struct sink_batch *b, struct sink_verdict *verdict, struct err *e)
{
    const struct record *r = &b->records[0];
    const struct es_version *v = NULL;
    int rc = es_tables_find(es->parts.tables, r, &v, e);
    if (rc != 0) {
        return rc;
    }
    if (r->op == FRAME_TRUNCATE) {
        return es_truncate_run(&es->parts, v->table->alias, r->offset, verdict, e);
    }
    bool is_barred = b->barred != NULL && b->barred[0];
    return es_move_run(&es->parts, v, r, is_barred, b->floors[0], verdict, e);
}

static bool
is_alone(const struct record *r)
{
    return r->op == FRAME_TRUNCATE || record_is_key_change(r);
}

static int
es_write(
    struct sink *s, const struct sink_batch *b, struct sink_verdict *verdicts, struct err *e)
{
    struct es *es = es_of(s);
    es_bulk_reset(es->parts.bulk);
    es_tables_begin(es->parts.tables, b->next, b->floor);
    for (size_t i = 0; i < b->n; i++) {
        CHECK(b->n == 1 || !is_alone(&b->records[i])); /* sink.h */
    }
    return is_alone(&b->records[0]) ? write_alone(es, b, verdicts, e)
                                    : write_rows(es, b, verdicts, e);
}

static int
es_accepts(const void *options, const struct sink_table *tables, size_t n, struct err *e)
{
    const struct es_options *o = options;
    return es_tables_accept(o->index, tables, n, e);
}

static int
es_check(
    struct sink *s, const struct sink_table *tables, size_t n, struct buf *lines, struct err *e)
{
    return es_tables_check(es_of(s)->parts.tables, tables, n, lines, e);
}

const struct sink_ops sink_elasticsearch_ops = {
    .name = "elasticsearch",
    .help = "documents in Elasticsearch or OpenSearch that equal their rows",
    .options = es_fields,
    .options_size = sizeof(struct es_options),
    .flags = SINK_NEEDS_VALUES,
    .batch_bytes = ES_BULK_BYTES,
    .batch_records = ES_BULK_OPS,
    .open = es_open,
    .write = es_write,
    .close = es_close,
    .accepts = es_accepts,
    .check = es_check,
};
