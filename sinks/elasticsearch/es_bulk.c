#include "sinks/elasticsearch/es_bulk.h"

#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/xmalloc.h"

enum {
    ANSWER_MAX = 64 * 1024 * 1024,
    LIMIT_MIN_BYTES = 64 * 1024,
    KEEP_BYTES = 4 * 1024 * 1024,
    REASON_MAX = 512
};

struct es_bulk {
    struct es_conn *conn;
    struct sink *sink;
    struct buf body;
    size_t limit;                   /* bytes of a body that holds more than one operation */
    size_t starts[ES_BULK_OPS + 1]; /* of the operations in the body, and its end */
    bool is_delete[ES_BULK_OPS];
    struct es_item items[ES_BULK_OPS];
    bool is_halted;     /* the rest is not sent */
    unsigned n_answers; /* of this call */
    char **kept;
    size_t n_kept, kept_room;
};

#define BULK_PATH "/_bulk?filter_path=" ES_REPLY_BULK_FILTER

/* ---- life, texts ---- */

struct es_bulk *
es_bulk_new(struct es_conn *c, struct sink *sink)
{
    struct es_bulk *k = xcalloc(1, sizeof *k);
    k->conn = c;
    k->sink = sink;
    k->limit = ES_BULK_BYTES;
    buf_init(&k->body, ES_BULK_BYTES + ES_BULK_DOCUMENT_MAX);
    return k;
}

void
es_bulk_reset(struct es_bulk *k)
{
    for (size_t i = 0; i < k->n_kept; i++) {
        free(k->kept[i]);
    }
    k->n_kept = 0;
}

void
es_bulk_free(struct es_bulk *k)
{
    if (k == NULL) {
        return;
    }
    es_bulk_reset(k);
    free(k->kept);
    buf_fini(&k->body);
    free(k);
}

const char *
es_bulk_keep(struct es_bulk *k, const char *text)
{
    if (k->n_kept > 0 && strcmp(k->kept[k->n_kept - 1], text) == 0) {
        return k->kept[k->n_kept - 1]; /* thousands say the same */
    }
    if (k->n_kept == k->kept_room) {
        k->kept_room = k->kept_room == 0 ? 16 : 2 * k->kept_room;
        k->kept = xreallocarray(k->kept, k->kept_room, sizeof *k->kept);
    }
    k->kept[k->n_kept] = xstrdup(text);
    return k->kept[k->n_kept++];
}

/* ---- the body ---- */

/* NULL; or why it can never be sent, and the body as before. */
static const char *
put_op(struct es_bulk *k, const struct es_op *op)
{
    size_t from = k->body.n;
    const char *why = NULL;
    if (op->record == NULL) {
        es_render_put_delete(&k->body, &op->to);
    } else if (!es_render_put_index(&k->body, op->shape, op->record->schema,
                   op->record->new_row, op->fill, &op->to)) {
        why = "a json value is nested deeper than 999 levels, which Elasticsearch refuses";
    }
    if (!buf_ok(&k->body) || k->body.n - from > ES_BULK_DOCUMENT_MAX) {
        why = "the document is larger than 512 MiB, which no request takes";
    }
    if (why != NULL) {
        k->body.n = from;
        k->body.failed = false;
    }
    return why;
}

/* Fills the body with the operations from ops on; returns how many. None: the first one can
 * never be sent, and *ret_why says why. */
static size_t
fill_body(struct es_bulk *k, const struct es_op *ops, size_t n, const char **ret_why)
{
    size_t i = 0;
    buf_reset(&k->body, KEEP_BYTES);
    while (i < n && i < ES_BULK_OPS) {
        k->starts[i] = k->body.n;
        *ret_why = put_op(k, &ops[i]);
        if (*ret_why != NULL) {
            break;
        }
        if (i > 0 && k->body.n > k->limit) { /* one too many */
            k->body.n = k->starts[i];
            break;
        }
        k->is_delete[i] = ops[i].record == NULL;
        i++;
    }
    k->starts[i] = k->body.n;
    return i;
}

/* ---- the answer ---- */

static void
take_item(struct es_bulk *k, struct es_op *op, const struct es_item *item)
{
    op->outcome = item->outcome;
    op->status = item->status;
    op->is_alias_gone =
        item->outcome == ES_STOP && str_is(item->type, "index_not_found_exception");
    if (op->record == NULL && str_eq(item->index, op->to.alias)) {
        op->is_alias_gone = true; /* es_reply.h: the delete has made an index in its place */
        op->outcome = ES_STOP;
        op->reason = es_bulk_keep(k, "there is no alias");
        k->is_halted = true;
        return;
    }
    if (item->outcome == ES_PUSHED || item->outcome == ES_BLOCKED) {
        k->sink->is_pushed_back = true;
        k->is_halted = true;
    } else if (item->outcome == ES_STOP) {
        k->is_halted = true;
    }
    if (item->outcome != ES_DONE && item->outcome != ES_STALE && item->outcome != ES_MISSING) {
        struct buf auto_buf text;
        buf_init(&text, REASON_MAX);
        es_reply_put_reason(&text, item);
        op->reason = es_bulk_keep(k, buf_cstr(&text));
    }
}

/* All of [lo, hi) may come again. */
static void
mark(struct es_bulk *k, struct es_op *ops, size_t lo, size_t hi, enum es_outcome outcome,
    const char *reason)
{
    for (size_t i = lo; i < hi; i++) {
        ops[i].outcome = outcome;
        ops[i].reason = es_bulk_keep(k, reason);
    }
}

/* Nothing is known of [lo, hi). The first request's error is the call's. */
static int
give_up(struct es_bulk *k, struct es_op *ops, size_t lo, size_t hi, int rc, const struct err *e)
{
    k->is_halted = true;
    if (k->n_answers == 0 || rc == ERR_STOPPING) {
        return rc;
    }
    mark(k, ops, lo, hi, ES_RETRY, e->msg);
    return 0;
}

static int
take_items(struct es_bulk *k, struct es_op *ops, size_t base, size_t lo, size_t hi,
    const struct es_answer *a, struct err *e)
{
    size_t n = hi - lo;
    int rc = es_reply_bulk(a->body, &k->is_delete[lo - base], n, k->items, e);
    if (rc != 0) {
        return give_up(k, ops, lo, hi, rc, e);
    }
    k->n_answers++;
    for (size_t i = 0; i < n; i++) {
        take_item(k, &ops[lo + i], &k->items[i]);
    }
    return 0;
}

/* An answer without items that is no reason to halve. */
static int
take_whole(struct es_bulk *k, struct es_op *ops, size_t lo, size_t hi, enum es_whole whole,
    const struct es_answer *a, struct err *e)
{
    struct buf auto_buf text;
    buf_init(&text, REASON_MAX);
    es_reply_put_error(&text, a->status, a->body, false);
    k->is_halted = true;
    if (whole == ES_WHOLE_STOP) {
        int code = a->status == 401 || a->status == 403 ? ERR_AUTH : ERR_REFUSED;
        return err_set(e, code, "_bulk: %s %.300s", es_conn_url(k->conn), buf_cstr(&text));
    }
    k->sink->is_pushed_back |= whole != ES_WHOLE_RETRY;
    mark(k, ops, lo, hi, whole == ES_WHOLE_BLOCKED ? ES_BLOCKED : ES_RETRY, buf_cstr(&text));
    return 0;
}

/* ---- sending ---- */

static int send_range(struct es_bulk *k, struct es_op *ops, size_t base, size_t lo, size_t hi,
    struct err *e) MUST_CHECK;

static int
halve(struct es_bulk *k, struct es_op *ops, size_t base, size_t lo, size_t hi, struct err *e)
{
    size_t mid = lo + (hi - lo) / 2;
    int rc = send_range(k, ops, base, lo, mid, e);
    if (rc == 0 && !k->is_halted) {
        rc = send_range(k, ops, base, mid, hi, e);
    }
    return rc;
}

/* The one operation that the server refuses as a request of its own. */
static void
reject_one(struct es_bulk *k, struct es_op *op, const struct es_answer *a)
{
    struct buf auto_buf text;
    buf_init(&text, REASON_MAX);
    es_reply_put_error(&text, a->status, a->body, false);
    op->outcome = ES_REJECT;
    op->status = (uint16_t)a->status;
    op->reason = es_bulk_keep(k, buf_cstr(&text));
}

static void
lower_limit(struct es_bulk *k, size_t refused)
{
    size_t half = refused / 2;
    if (half < k->limit) {
        k->limit = half > LIMIT_MIN_BYTES ? half : LIMIT_MIN_BYTES;
    }
}

static int
take_answer(struct es_bulk *k, struct es_op *ops, size_t base, size_t lo, size_t hi,
    const struct es_answer *a, struct err *e)
{
    enum es_whole whole = es_reply_whole(a->status, a->body);
    if (whole == ES_WHOLE_OK) {
        return take_items(k, ops, base, lo, hi, a, e);
    }
    if (whole != ES_WHOLE_HALVE) {
        return take_whole(k, ops, lo, hi, whole, a, e);
    }
    k->n_answers++;
    if (a->status == 413) {
        lower_limit(k, k->starts[hi - base] - k->starts[lo - base]);
    }
    if (hi - lo > 1) {
        return halve(k, ops, base, lo, hi, e);
    }
    reject_one(k, &ops[lo], a);
    return 0;
}

/* ops[lo, hi) stand in the body, which begins with ops[base]. */
static int
send_range(
    struct es_bulk *k, struct es_op *ops, size_t base, size_t lo, size_t hi, struct err *e)
{
    size_t from = k->starts[lo - base];
    struct es_answer a;
    int rc = es_conn_call(k->conn,
        &(struct es_request){.method = "POST",
            .path = BULK_PATH,
            .body = {.p = k->body.p + from, .n = k->starts[hi - base] - from},
            .is_ndjson = true,
            .max_answer = ANSWER_MAX},
        &a, e);
    if (rc == ERR_TOOBIG && hi - lo > 1) {
        return halve(k, ops, base, lo, hi, e);
    }
    if (rc == ERR_TOOBIG) { /* class REJECT, but that says nothing of the document */
        rc = err_set(
            e, ERR_CLOSED, "the answer to one operation is larger than %d bytes", ANSWER_MAX);
    }
    return rc != 0 ? give_up(k, ops, lo, hi, rc, e) : take_answer(k, ops, base, lo, hi, &a, e);
}

int
es_bulk_send(struct es_bulk *k, struct es_op *ops, size_t n, struct err *e)
{
    k->is_halted = false;
    k->n_answers = 0;
    for (size_t i = 0; i < n; i++) {
        ops[i].outcome = ES_RETRY;
        ops[i].status = 0;
        ops[i].is_alias_gone = false;
        ops[i].reason = NULL;
    }
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < n && !k->is_halted;) {
        const char *why = NULL;
        size_t got = fill_body(k, ops + at, n - at, &why);
        if (got == 0) {
            ops[at].outcome = ES_REJECT;
            ops[at].reason = es_bulk_keep(k, why);
            at++;
            continue;
        }
        rc = send_range(k, ops, at, at, at + got, e);
        at += got;
    }
    return rc;
}
