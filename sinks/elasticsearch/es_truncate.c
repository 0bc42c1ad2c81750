#include "sinks/elasticsearch/es_truncate.h"

#include <stdlib.h>

#include "proto/base/httpc.h"
#include "proto/base/json.h"
#include "proto/base/xmalloc.h"
#include "sinks/elasticsearch/es_scan.h"

enum { PAGE_DOCS = 1000, PASSES_MAX = 100, SCROLL_ID_MAX = 64 * 1024 };

/* One scan over all documents. */
struct scan {
    const struct es_parts *p;
    struct str alias;
    uint64_t offset;
    struct buf path, scroll_id; /* scroll_id: raw contents of a JSON string */
    struct es_hit hits[PAGE_DOCS];
    struct es_op ops[PAGE_DOCS];
    size_t ids_at[PAGE_DOCS + 1];
    struct buf ids;
    size_t n_below;              /* seen below the offset */
    struct sink_verdict verdict; /* of the last page: DONE goes on */
};

static int
post(struct scan *sc, const char *suffix, struct str body, struct es_answer *a, struct err *e)
{
    buf_reset(&sc->path, SIZE_MAX);
    buf_putc(&sc->path, '/');
    httpc_put_escaped(&sc->path, sc->alias);
    buf_puts(&sc->path, suffix);
    return es_conn_call(sc->p->conn,
        &(struct es_request){.method = "POST", .path = buf_cstr(&sc->path), .body = body}, a,
        e);
}

/* So that a search sees all that was written. */
static int
refresh(struct scan *sc, struct err *e)
{
    struct es_answer a;
    int rc = post(sc, "/_refresh", (struct str){0}, &a, e);
    return rc != 0 || a.status == 200
               ? rc
               : es_conn_refused(sc->p->conn, &a, "cannot refresh the index of a TRUNCATE", e);
}

static int
first_page(struct scan *sc, struct es_answer *a, struct err *e)
{
    int rc = post(sc, "/_search?scroll=5m",
        STR("{\"size\":1000,\"sort\":[\"_doc\"],\"version\":true,\"_source\":false,"
            "\"query\":{\"match_all\":{}}}"),
        a, e);
    return rc != 0 || a->status == 200
               ? rc
               : es_conn_refused(sc->p->conn, a, "cannot read the ids for a TRUNCATE", e);
}

/* {"scroll_id":"..."} of what the server has sent; it is not unescaped in between. */
static void
put_scroll(const struct scan *sc, struct buf *body, const char *more)
{
    buf_puts(body, "{\"scroll_id\":\"");
    buf_put_str(body, buf_str(&sc->scroll_id));
    buf_puts(body, "\"");
    buf_puts(body, more);
    buf_puts(body, "}");
}

static int
next_page(struct scan *sc, struct es_answer *a, struct err *e)
{
    struct buf auto_buf body;
    buf_init(&body, SIZE_MAX);
    put_scroll(sc, &body, ",\"scroll\":\"5m\"");
    int rc = es_conn_call(sc->p->conn,
        &(struct es_request){
            .method = "POST", .path = "/_search/scroll", .body = buf_str(&body)},
        a, e);
    if (rc == 0 && a->status == 404) {
        return err_set(e, ERR_CLOSED, "the scan for a TRUNCATE was dropped by the server");
    }
    return rc != 0 || a->status == 200
               ? rc
               : es_conn_refused(sc->p->conn, a, "cannot read the ids for a TRUNCATE", e);
}

/* The server would drop it by itself after minutes. */
static void
end_scroll(struct scan *sc)
{
    struct buf auto_buf body;
    struct es_answer a;
    struct err e;
    buf_init(&body, SIZE_MAX);
    put_scroll(sc, &body, "");
    if (sc->scroll_id.n > 0) {
        (void)!es_conn_call(sc->p->conn,
            &(struct es_request){
                .method = "DELETE", .path = "/_search/scroll", .body = buf_str(&body)},
            &a, &e);
    }
}

/* The ids below the offset, as deletes; they no longer need the answer. */
static size_t
take_ids(struct scan *sc, size_t n_hits)
{
    size_t n = 0;
    buf_reset(&sc->ids, SIZE_MAX);
    for (size_t i = 0; i < n_hits; i++) {
        if (sc->hits[i].version < sc->offset) {
            sc->ids_at[n++] = sc->ids.n;
            es_scan_put_unescaped(&sc->ids, sc->hits[i].id);
        }
    }
    sc->ids_at[n] = sc->ids.n;
    for (size_t i = 0; i < n; i++) {
        struct str id = {
            .p = sc->ids.p + sc->ids_at[i], .n = sc->ids_at[i + 1] - sc->ids_at[i]};
        sc->ops[i] =
            (struct es_op){.to = {.alias = sc->alias, .id = id, .version = sc->offset}};
    }
    return n;
}

static int
delete_ids(struct scan *sc, size_t n, struct err *e)
{
    int rc = n == 0 ? 0 : es_send(sc->p, sc->ops, n, e);
    for (size_t i = 0; rc == 0 && i < n && sc->verdict.verdict == VERDICT_DONE; i++) {
        sc->verdict = es_send_verdict(&sc->ops[i]);
        if (sc->verdict.verdict == VERDICT_REJECT) { /* of an id that the index has? */
            sc->verdict.verdict = VERDICT_RETRY;
        }
    }
    sc->n_below += n;
    return rc;
}

static int
take_page(struct scan *sc, const struct es_answer *a, size_t *ret_hits, struct err *e)
{
    struct es_page page;
    int rc = es_reply_page(a->body, sc->hits, PAGE_DOCS, &page, e);
    if (rc == 0 && page.is_partial) {
        rc = err_set(e, ERR_CLOSED, "the scan for a TRUNCATE did not reach all shards");
    }
    if (rc != 0) {
        return rc;
    }
    buf_reset(&sc->scroll_id, SIZE_MAX);
    buf_put_str(&sc->scroll_id, page.scroll_id);
    if (!buf_ok(&sc->scroll_id)) {
        return err_set(e, ERR_PROTOCOL, "a scroll id is longer than %d bytes", SCROLL_ID_MAX);
    }
    *ret_hits = page.n;
    return delete_ids(sc, take_ids(sc, page.n), e);
}

static int
scan_once(struct scan *sc, struct err *e)
{
    struct es_answer a;
    size_t n_hits = 0;
    sc->n_below = 0;
    sc->verdict = (struct sink_verdict){.verdict = VERDICT_DONE};
    buf_reset(&sc->scroll_id, SIZE_MAX);
    int rc = refresh(sc, e);
    if (rc == 0) {
        rc = first_page(sc, &a, e);
    }
    if (rc == 0) {
        rc = take_page(sc, &a, &n_hits, e);
    }
    while (rc == 0 && n_hits > 0 && sc->verdict.verdict == VERDICT_DONE) {
        rc = next_page(sc, &a, e);
        if (rc == 0) {
            rc = take_page(sc, &a, &n_hits, e);
        }
    }
    end_scroll(sc);
    return rc;
}

static struct scan *
scan_new(const struct es_parts *p, struct str alias, uint64_t offset)
{
    struct scan *sc = xcalloc(1, sizeof *sc);
    sc->p = p;
    sc->alias = alias;
    sc->offset = offset;
    buf_init(&sc->path, SIZE_MAX);
    buf_init(&sc->scroll_id, SCROLL_ID_MAX);
    buf_init(&sc->ids, SIZE_MAX);
    return sc;
}

static void
scan_free(struct scan *sc)
{
    buf_fini(&sc->path);
    buf_fini(&sc->scroll_id);
    buf_fini(&sc->ids);
    free(sc);
}

int
es_truncate_run(const struct es_parts *p, struct str alias, uint64_t offset,
    struct sink_verdict *verdict, struct err *e)
{
    struct scan *sc = scan_new(p, alias, offset);
    int rc = 0;
    for (unsigned i = 0; i < PASSES_MAX; i++) {
        rc = scan_once(sc, e);
        if (rc != 0 || sc->verdict.verdict != VERDICT_DONE || sc->n_below == 0) {
            break;
        }
    }
    if (rc == 0) {
        *verdict = sc->verdict;
    }
    if (rc == 0 && verdict->verdict == VERDICT_DONE && sc->n_below > 0) {
        *verdict = (struct sink_verdict){.verdict = VERDICT_RETRY,
            .reason = "documents come back while a TRUNCATE deletes them: does another "
                      "program write into this index?"};
    }
    scan_free(sc);
    return rc;
}
