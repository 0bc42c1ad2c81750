#include "sinks/elasticsearch/es_move.h"

#include "proto/record_key.h"
#include "sinks/elasticsearch/es_id.h"
#include "sinks/elasticsearch/es_toast.h"

struct move {
    const struct es_parts *p;
    const struct es_version *v;
    const struct record *r;
    struct str old_id, new_id;
};

static struct es_target
target_of(const struct move *m, struct str id)
{
    return (struct es_target){.alias = m->v->table->alias, .id = id, .version = m->r->offset};
}

/* The new one is there already: an earlier try came that far, or later records did. */
static int
look_at_new(const struct move *m, bool *ret_there, struct err *e)
{
    struct es_place place = {.alias = m->v->table->alias, .id = m->new_id};
    struct es_answer a;
    struct es_doc doc;
    int rc = es_toast_get(m->p->conn, &place, 1, &a, &doc, e);
    if (rc == ERR_TOOBIG) {
        return err_set(e, ERR_CLOSED, "a document is larger than can be read");
    }
    if (rc == 0) {
        *ret_there = doc.is_found && !doc.is_failed && doc.version >= m->r->offset;
    }
    return rc;
}

/* Writes the new document. */
static int
write_new(
    const struct move *m, const struct str *fill, struct sink_verdict *verdict, struct err *e)
{
    struct es_op op = {
        .to = target_of(m, m->new_id), .record = m->r, .shape = m->v->shape, .fill = fill};
    int rc = es_send(m->p, &op, 1, e);
    if (rc == 0) {
        *verdict = es_send_verdict(&op);
    }
    return rc;
}

/* What becomes of the new document; the verdict is the record's once the old one is gone. */
static int
settle_new(const struct move *m, bool is_barred, uint64_t floor, struct sink_verdict *verdict,
    struct err *e)
{
    const size_t former = ES_FOLD_NONE;
    bool is_reread = false, is_there = false;
    size_t settled;
    struct es_toast_batch b = {.records = m->r,
        .former = &former,
        .barred = &is_barred,
        .is_reread = &is_reread,
        .floors = &floor};
    struct es_want w = {.alias = m->v->table->alias, .id = m->old_id, .shape = m->v->shape};
    int rc = es_toast_settle(m->p->conn, &b, &w, 1, &settled, e);
    if (rc == 0 && w.state == ES_TOAST_READY) {
        rc = write_new(m, w.fill, verdict, e);
    } else if (rc == 0 && w.state == ES_TOAST_RETRY) {
        *verdict = (struct sink_verdict){
            .verdict = VERDICT_RETRY, .reason = "the old document could not be read"};
        rc = es_tables_look_again(m->p->tables, m->v->table->alias, e);
    } else if (rc == 0) { /* the old one says nothing */
        rc = look_at_new(m, &is_there, e);
        *verdict = is_there ? (struct sink_verdict){.verdict = VERDICT_DONE}
                            : (struct sink_verdict){.verdict = VERDICT_REREAD,
                                  .reason = "no document proves the unchanged columns' values"};
    }
    es_want_fini(&w);
    return rc;
}

static int
delete_old(const struct move *m, struct sink_verdict *verdict, struct err *e)
{
    struct es_op op = {.to = target_of(m, m->old_id)};
    int rc = es_send(m->p, &op, 1, e);
    if (rc == 0) {
        struct sink_verdict of_old = es_send_verdict(&op);
        if (of_old.verdict != VERDICT_DONE) {
            *verdict = (struct sink_verdict){.verdict = VERDICT_RETRY, .reason = of_old.reason};
        }
    }
    return rc;
}

int
es_move_run(const struct es_parts *p, const struct es_version *v, const struct record *r,
    bool is_barred, uint64_t floor, struct sink_verdict *verdict, struct err *e)
{
    struct buf auto_buf old_id, new_id;
    buf_init(&old_id, SIZE_MAX);
    buf_init(&new_id, SIZE_MAX);
    *verdict =
        (struct sink_verdict){.verdict = VERDICT_REJECT, .reason = "a key column has no value"};
    if (!es_id_put(&old_id, r->schema, record_former_key_row(r))) {
        return 0; /* nor can there be a document of it */
    }
    bool has_new = es_id_put(&new_id, r->schema, record_key_row(r));
    struct move m = {
        .p = p, .v = v, .r = r, .old_id = buf_str(&old_id), .new_id = buf_str(&new_id)};
    int rc = has_new ? settle_new(&m, is_barred, floor, verdict, e) : 0;
    if (rc == 0 && verdict->verdict != VERDICT_RETRY) {
        rc = delete_old(&m, verdict, e);
    }
    return rc;
}
