/* feed: see feed.h. */
#include "replicator/feed.h"

#include <inttypes.h>

#include "proto/base/check.h"
#include "proto/lsn.h"
#include "replicator/encode.h"

enum { RELATIONS_BYTES = 64 * 1024 * 1024, ORIGIN_BYTES = 64 * 1024 };

void
feed_init(struct feed *c, const struct feed_conf *conf)
{
    *c = (struct feed){
        .next_schema = conf->next_schema, .find_key = conf->find_key, .arg = conf->arg};
    ack_init(&c->ack, conf->proven_lsn);
    pgoutput_init(&c->decoder, false);
    relcache_init(&c->relations, RELATIONS_BYTES, conf->raw_text);
    xids_init(&c->logged, conf->xmax);
    c->last_lsn = conf->proven_lsn;
    buf_init(&c->origin, ORIGIN_BYTES);
}

void
feed_fini(struct feed *c)
{
    pgoutput_fini(&c->decoder);
    relcache_fini(&c->relations);
    xids_fini(&c->logged);
    buf_fini(&c->origin);
}

static int
out_of_place(const struct pgoutput_msg *m, struct err *e)
{
    return err_set(e, ERR_PROTOCOL, "PostgreSQL sent a %s message where none belongs",
        pgoutput_type_name((int)m->type));
}

/* ---- transactions ---- */

static int
on_begin(struct feed *c, const struct pgoutput_msg *m, struct err *e)
{
    if (c->ack.is_open) {
        return out_of_place(m, e);
    }
    ack_begin(&c->ack);
    c->begin = m->begin;
    c->has_records = false;
    buf_reset(&c->origin, ORIGIN_BYTES);
    return 0;
}

static void
note_logged(struct feed *c, uint64_t end_lsn)
{
    c->last_lsn = end_lsn > c->last_lsn ? end_lsn : c->last_lsn;
}

/* The begin is written with the first record, so that an empty transaction leaves nothing. */
static int
need_begin(struct feed *c, const struct pgoutput_msg *m, struct buf *b, struct err *e)
{
    if (!c->ack.is_open) {
        return out_of_place(m, e);
    }
    if (c->has_records) {
        return 0;
    }
    c->has_records = true;
    return encode_begin(b, &c->begin, e);
}

static int
on_commit(struct feed *c, const struct pgoutput_msg *m, struct buf *b, struct err *e)
{
    if (!c->ack.is_open) {
        return out_of_place(m, e);
    }
    const struct pgoutput_commit *commit = &m->commit;
    if (commit->commit_lsn != c->begin.commit_lsn || commit->end_lsn < commit->commit_lsn) {
        return err_set(e, ERR_PROTOCOL,
            "PostgreSQL began a transaction at " LSN_FMT " and committed it at " LSN_FMT
            " to " LSN_FMT,
            LSN_ARG(c->begin.commit_lsn), LSN_ARG(commit->commit_lsn),
            LSN_ARG(commit->end_lsn));
    }
    if (c->has_records) {
        int rc = encode_commit(b, commit, c->begin.xid, buf_str(&c->origin), e);
        if (rc != 0) {
            return rc;
        }
        xids_add(&c->logged, c->begin.xid);
        note_logged(c, commit->end_lsn);
    }
    ack_commit(&c->ack, commit->end_lsn, c->has_records);
    return 0;
}

static int
on_origin(struct feed *c, const struct pgoutput_msg *m, struct err *e)
{
    if (!c->ack.is_open) {
        return out_of_place(m, e);
    }
    buf_reset(&c->origin, ORIGIN_BYTES);
    buf_put_str(&c->origin, m->origin.name);
    return buf_ok(&c->origin)
               ? 0
               : err_set(e, ERR_PROTOCOL, "a replication origin with a name of %zu bytes",
                     m->origin.name.n);
}

/* ---- tables and rows ---- */

static int
on_relation(struct feed *c, const struct pgoutput_msg *m, struct err *e)
{
    struct relation *rel = NULL;
    int rc = relcache_put(&c->relations, &m->relation, &rel, e);
    if (rc == 0 && rel->needs_key) {
        rc = c->find_key(c->arg, rel, e);
    }
    return rc;
}

/* A table with its schema version in the log. */
static int
need_relation(struct feed *c, const struct pgoutput_msg *m, uint32_t relid, struct buf *b,
    struct relation **ret, struct err *e)
{
    struct relation *rel = relcache_find(&c->relations, relid);
    if (rel == NULL) {
        return err_set(e, ERR_PROTOCOL,
            "PostgreSQL sent a %s of table %" PRIu32 " without having described it",
            pgoutput_type_name((int)m->type), relid);
    }
    *ret = rel;
    return encode_schema(b, rel, &c->next_schema, e);
}

static int
on_row(struct feed *c, const struct pgoutput_msg *m, struct buf *b, struct err *e)
{
    struct relation *rel = NULL;
    int rc = need_begin(c, m, b, e);
    if (rc == 0) {
        rc = need_relation(c, m, m->row.relid, b, &rel, e);
    }
    return rc == 0 ? encode_row(b, rel, m->type, &m->row, e) : rc;
}

static int
on_truncate(struct feed *c, const struct pgoutput_msg *m, struct buf *b, struct err *e)
{
    int rc = need_begin(c, m, b, e);
    for (uint32_t i = 0; rc == 0 && i < m->truncate.n; i++) {
        struct relation *rel = NULL;
        rc = need_relation(c, m, pgoutput_truncated(&m->truncate, i), b, &rel, e);
        if (rc == 0) {
            rc = encode_truncate(b, rel, &m->truncate, e);
        }
    }
    return rc;
}

static int
on_message(
    struct feed *c, const struct pgoutput_msg *m, int64_t sent_us, struct buf *b, struct err *e)
{
    if (m->message.is_transactional) {
        int rc = need_begin(c, m, b, e);
        return rc == 0 ? encode_message(b, &m->message, sent_us, e) : rc;
    }
    if (c->ack.is_open) {
        return out_of_place(m, e);
    }
    int rc = encode_message(b, &m->message, sent_us, e);
    if (rc == 0) {
        ack_message(&c->ack, m->message.lsn);
        note_logged(c, m->message.lsn);
    }
    return rc;
}

/* ---- rows read from a table ---- */

static int
put_read(struct feed *c, struct relation *rel, const struct pgoutput_tuple *rows, size_t n,
    int64_t ts_us, struct buf *b, struct err *e)
{
    int rc = encode_schema(b, rel, &c->next_schema, e);
    if (rc == 0) {
        rc = encode_read_begin(b, c->last_lsn, e);
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = encode_read(b, rel, &rows[i], e);
    }
    return rc == 0 ? encode_read_commit(b, c->last_lsn, ts_us, e) : rc;
}

int
feed_read(struct feed *c, struct relation *rel, const struct pgoutput_tuple *rows, size_t n,
    int64_t ts_us, struct buf *b, struct err *e)
{
    CHECK(!c->ack.is_open && n > 0);
    struct relation *known = relcache_find(&c->relations, rel->schema.relid);
    if (known != NULL && relcache_is_same(known, rel)) {
        rel = known;
    }
    size_t start = b->n;
    uint32_t id = rel->schema.id, next_schema = c->next_schema;
    int rc = put_read(c, rel, rows, n, ts_us, b, e);
    if (rc != 0) {
        b->n = start;
        rel->schema.id = id;
        c->next_schema = next_schema;
    }
    return rc;
}

int
feed_apply(struct feed *c, const struct pgoutput_copy *copy, struct buf *b, struct err *e)
{
    const struct pgoutput_msg *m = NULL;
    int rc = pgoutput_decode(&c->decoder, copy->data, false, &m, e);
    if (rc != 0) {
        return rc;
    }
    switch (m->type) {
    case PGOUTPUT_INSERT:
    case PGOUTPUT_UPDATE:
    case PGOUTPUT_DELETE:
        return on_row(c, m, b, e);
    case PGOUTPUT_BEGIN:
        return on_begin(c, m, e);
    case PGOUTPUT_COMMIT:
        return on_commit(c, m, b, e);
    case PGOUTPUT_ORIGIN:
        return on_origin(c, m, e);
    case PGOUTPUT_RELATION:
        return on_relation(c, m, e);
    case PGOUTPUT_TYPE:
        return relcache_put_type(&c->relations, &m->typ, e);
    case PGOUTPUT_TRUNCATE:
        return on_truncate(c, m, b, e);
    case PGOUTPUT_MESSAGE:
        return on_message(c, m, copy->sent_us, b, e);
    default:
        return err_set(e, ERR_UNSUPPORTED,
            "PostgreSQL sent a %s message, which protocol 1 does not have",
            pgoutput_type_name((int)m->type));
    }
}
