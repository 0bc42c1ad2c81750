/* es_bulk: sends operations by _bulk and says what became of each. Owns the request's body and
 * its limits: 8 MiB or 5,000 operations, less once the server has said that it is too much.
 * What the server refuses as a whole is halved, down to the operation that is at fault. Knows
 * no records but to render them, no verdicts. One thread. */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_BULK_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_BULK_H

#include "sinks/elasticsearch/es_conn.h"
#include "sinks/elasticsearch/es_render.h"
#include "sinks/elasticsearch/es_reply.h"

enum { ES_BULK_BYTES = 8 * 1024 * 1024, ES_BULK_OPS = 5000 };
/* No document is larger: Elasticsearch takes 100 MiB in one request unless told otherwise. */
#define ES_BULK_DOCUMENT_MAX ((size_t)512 * 1024 * 1024)

struct es_op {
    struct es_target to;
    const struct record *record;  /* whose new row is the document; NULL: a delete */
    const struct es_shape *shape; /* of the record's schema */
    const struct str *fill;       /* as es_render has it */
    /* filled in: */
    enum es_outcome outcome; /* ES_RETRY: also what was not sent any more */
    uint16_t status;         /* of its item, 0: none */
    bool is_alias_gone;      /* with ES_STOP */
    const char *reason;      /* until es_bulk_reset; NULL: none */
};

struct es_bulk;
struct es_bulk *es_bulk_new(struct es_conn *c, struct sink *sink);
void es_bulk_free(struct es_bulk *k); /* accepts NULL */
void es_bulk_reset(struct es_bulk *k);

/* ops: no two of one document. Ends early, with 0, once the server wants no more or somebody
 * has to act (ES_PUSHED, ES_BLOCKED, ES_STOP). An error when nothing can be said of any. */
int es_bulk_send(struct es_bulk *k, struct es_op *ops, size_t n, struct err *e) MUST_CHECK;

/* Copies a sentence; the copy is valid until es_bulk_reset. */
const char *es_bulk_keep(struct es_bulk *k, const char *text);

#endif
