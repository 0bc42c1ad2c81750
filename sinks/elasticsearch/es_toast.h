/* es_toast: the values of columns that updates leave out. Reads them from the batch (es_fold)
 * or from the documents (_mget, realtime), and decides for each record whether it can be
 * written, is outdated, or its row has to be read again. Never null, never dropped: a value
 * that is not proven is not written. One thread. */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_TOAST_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_TOAST_H

#include "sinks/elasticsearch/es_bulk.h"
#include "sinks/elasticsearch/es_conn.h"
#include "sinks/elasticsearch/es_fold.h"

enum es_toast_state {
    ES_TOAST_OPEN = 0, /* not looked at */
    ES_TOAST_READY,    /* may be written, with `fill` */
    ES_TOAST_ASK,      /* needs the document */
    ES_TOAST_STALE,    /* the document is at or beyond it: done */
    ES_TOAST_RETRY,    /* the document could not be read */
    ES_TOAST_NOTHING   /* all of its records are to be read again */
};

/* One document's records and what is to be written. */
struct es_want {
    size_t last; /* newest record that is not to be read again; ES_FOLD_NONE */
    struct str alias, id;
    const struct es_shape *shape;
    enum es_toast_state state;
    struct str *fill; /* owned; NULL: nothing is unchanged */
    size_t fill_bytes;
};
void es_want_fini(struct es_want *w);

struct es_toast_batch {
    const struct record *records;
    const size_t *former;   /* of es_fold */
    const bool *barred;     /* NULL: none */
    bool *is_reread;        /* set: to be read again */
    const uint64_t *floors; /* sinks/sink.h */
};

/* Settles the first *ret_n wants, at least one: none of them is OPEN or ASK afterwards. Small
 * records may stand for large documents, so it takes only about as many as fit into a request;
 * the rest is for the next call. An error when the documents cannot be asked for. */
int es_toast_settle(struct es_conn *c, const struct es_toast_batch *b, struct es_want *wants,
    size_t n, size_t *ret_n, struct err *e) MUST_CHECK;

/* The step without the server. doc: NULL: not asked for yet. Pure. */
void es_toast_step(const struct es_toast_batch *b, struct es_want *w, const struct es_doc *doc);

/* Asks for documents by alias and id. docs: in order; their sources are views into *answer. */
struct es_place {
    struct str alias, id;
};
int es_toast_get(struct es_conn *c, const struct es_place *places, size_t n,
    struct es_answer *answer, struct es_doc *docs, struct err *e) MUST_CHECK;

#endif
