#include "sinks/elasticsearch/es_toast.h"

#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/json.h"
#include "proto/base/xmalloc.h"
#include "proto/record_key.h"

/* Documents asked for at once, and the largest answer: no document that a server takes by
 * default is larger. */
enum { GET_DOCS = 100, GET_BYTES = 128 * 1024 * 1024 };

void
es_want_fini(struct es_want *w)
{
    if (w->fill != NULL) {
        free((void *)(uintptr_t)w->fill[0].p);
        free(w->fill);
        w->fill = NULL;
        w->fill_bytes = 0;
    }
}

/* ---- one record ---- */

/* Where the unchanged columns' texts are put together: in one block, addressed by offsets
 * until it stands still. */
struct filling {
    struct buf text;
    size_t *at; /* ncols + 1 */
};

/* False: not proven. source: of the document, empty when there is none. */
static bool
put_value(const struct es_toast_batch *b, const struct es_want *w, uint32_t c,
    const struct str *doc_values, struct buf *text, bool *ret_asks)
{
    const struct record *r = &b->records[w->last];
    const struct record_value *v = NULL;
    bool is_barred = b->barred != NULL && b->barred[w->last];
    switch (es_fold_find(b->records, b->former, w->last, c, is_barred, &v)) {
    case ES_FOLD_VALUE:
        if (v->kind == RECORD_NULL) {
            buf_puts(text, "null");
            return true;
        }
        return es_render_put_value(text, r->schema, &r->schema->cols[c], v->text);
    case ES_FOLD_DOCUMENT:
        *ret_asks = doc_values == NULL;
        if (doc_values != NULL && doc_values[c].p != NULL) {
            buf_put_str(text, doc_values[c]);
            return true;
        }
        return false;
    case ES_FOLD_NOWHERE:
        break;
    }
    return false;
}

/* The views into the one block, which the first of them owns. */
static struct str *
take_fill(struct filling *f, uint32_t ncols)
{
    struct str *fill = xcalloc(ncols, sizeof *fill);
    char *block = xstrndup(f->text.p == NULL ? "" : f->text.p, f->text.n);
    for (uint32_t c = 0; c < ncols; c++) {
        fill[c] = (struct str){.p = block + f->at[c], .n = f->at[c + 1] - f->at[c]};
    }
    return fill;
}

enum found { FOUND, FOUND_NOT, FOUND_ASKS };

static enum found
fill_record(const struct es_toast_batch *b, struct es_want *w, const struct str *doc_values)
{
    const struct record *r = &b->records[w->last];
    uint32_t ncols = r->schema->ncols;
    struct filling f = {.at = xcalloc((size_t)ncols + 1, sizeof *f.at)};
    enum found found = FOUND;
    bool asks = false;
    buf_init(&f.text, SIZE_MAX);
    for (uint32_t c = 0; c < ncols; c++) {
        if (r->new_row[c].kind == RECORD_UNCHANGED &&
            !put_value(b, w, c, doc_values, &f.text, &asks)) {
            found = asks ? FOUND_ASKS : FOUND_NOT;
            if (!asks) {
                break;
            }
            asks = false;
        }
        f.at[c + 1] = f.text.n;
    }
    if (found == FOUND) {
        w->fill = take_fill(&f, ncols);
        w->fill_bytes = f.text.n;
    }
    buf_fini(&f.text);
    free(f.at);
    return found;
}

/* ---- one document ---- */

/* Values of a document that may be trusted; NULL otherwise. *ret is owned. */
static struct str *
values_of(const struct es_toast_batch *b, const struct es_want *w, const struct es_doc *doc)
{
    struct err e;
    if (!doc->is_found || doc->version < b->floors[w->last]) {
        return xcalloc(w->shape->ncols + (size_t)1, sizeof(struct str));
    }
    struct str *values = xcalloc(w->shape->ncols + (size_t)1, sizeof *values);
    if (es_reply_source(doc->source, w->shape, values, &e) != 0) {
        memset(values, 0, w->shape->ncols * sizeof *values);
    }
    return values;
}

static void
step_with(const struct es_toast_batch *b, struct es_want *w, const struct str *doc_values)
{
    while (w->last != ES_FOLD_NONE) {
        if (!record_has_unchanged(&b->records[w->last])) {
            w->state = ES_TOAST_READY;
            return;
        }
        enum found found = fill_record(b, w, doc_values);
        if (found != FOUND_NOT) {
            w->state = found == FOUND ? ES_TOAST_READY : ES_TOAST_ASK;
            return;
        }
        b->is_reread[w->last] = true;
        w->last = b->former[w->last];
    }
    w->state = ES_TOAST_NOTHING;
}

void
es_toast_step(const struct es_toast_batch *b, struct es_want *w, const struct es_doc *doc)
{
    CHECK(w->state == ES_TOAST_OPEN || w->state == ES_TOAST_ASK);
    if (doc == NULL) {
        step_with(b, w, NULL);
        return;
    }
    if (doc->is_failed) {
        w->state = ES_TOAST_RETRY;
        return;
    }
    if (doc->is_found && doc->version >= b->records[w->last].offset) {
        w->state = ES_TOAST_STALE;
        return;
    }
    struct str *values = values_of(b, w, doc);
    step_with(b, w, values);
    free(values);
}

/* ---- documents ---- */

static void
put_places(struct buf *body, const struct es_place *places, size_t n)
{
    buf_puts(body, "{\"docs\":[");
    for (size_t i = 0; i < n; i++) {
        buf_puts(body, i == 0 ? "{\"_index\":" : ",{\"_index\":");
        json_put_string(body, places[i].alias);
        buf_puts(body, ",\"_id\":");
        json_put_string(body, places[i].id);
        buf_putc(body, '}');
    }
    buf_puts(body, "]}");
}

int
es_toast_get(struct es_conn *c, const struct es_place *places, size_t n,
    struct es_answer *answer, struct es_doc *docs, struct err *e)
{
    struct buf auto_buf body;
    buf_init(&body, SIZE_MAX);
    put_places(&body, places, n);
    int rc = es_conn_call(c,
        &(struct es_request){.method = "POST",
            .path = "/_mget",
            .body = buf_str(&body),
            .max_answer = GET_BYTES},
        answer, e);
    if (rc != 0) {
        return rc;
    }
    return answer->status == 200 ? es_reply_mget(answer->body, n, docs, e)
                                 : es_conn_refused(c, answer, "cannot read documents", e);
}

/* wants[0..n) need their documents; settles the first *ret_n of them. */
static int
settle_some(struct es_conn *c, const struct es_toast_batch *b, struct es_want *const *wants,
    size_t n, size_t *ret_n, struct err *e)
{
    struct es_place places[GET_DOCS];
    struct es_doc docs[GET_DOCS];
    struct es_answer a;
    CHECK(n > 0 && n <= GET_DOCS);
    for (size_t i = 0; i < n; i++) {
        places[i] = (struct es_place){.alias = wants[i]->alias, .id = wants[i]->id};
    }
    int rc = es_toast_get(c, places, n, &a, docs, e);
    while (rc == ERR_TOOBIG && n > 1) {
        n /= 2;
        rc = es_toast_get(c, places, n, &a, docs, e);
    }
    if (rc == ERR_TOOBIG) { /* larger than we can read: as if it were not there */
        docs[0] = (struct es_doc){0};
        rc = 0;
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        es_toast_step(b, wants[i], &docs[i]);
    }
    *ret_n = n;
    return rc;
}

/* What one _mget is enough for. */
static int
settle_group(struct es_conn *c, const struct es_toast_batch *b, struct es_want *wants, size_t n,
    size_t *ret_n, struct err *e)
{
    struct es_want *asking[GET_DOCS];
    size_t n_asking = 0, got = 0, i = 0;
    for (; i < n && n_asking < GET_DOCS; i++) {
        if (wants[i].state == ES_TOAST_OPEN) {
            es_toast_step(b, &wants[i], NULL);
        }
        if (wants[i].state == ES_TOAST_ASK) {
            asking[n_asking++] = &wants[i];
        }
    }
    int rc = n_asking == 0 ? 0 : settle_some(c, b, asking, n_asking, &got, e);
    *ret_n = got < n_asking ? (size_t)(asking[got] - wants) : i;
    return rc;
}

int
es_toast_settle(struct es_conn *c, const struct es_toast_batch *b, struct es_want *wants,
    size_t n, size_t *ret_n, struct err *e)
{
    size_t at = 0, bytes = 0;
    int rc = 0;
    while (rc == 0 && at < n && bytes < ES_BULK_BYTES) {
        size_t got = 0;
        rc = settle_group(c, b, wants + at, n - at, &got, e);
        for (size_t i = 0; rc == 0 && i < got; i++) {
            bytes += wants[at + i].fill_bytes;
        }
        at += got;
    }
    *ret_n = at;
    return rc;
}
