/* es_send: what the ways of writing share: operations sent, counted, and an error where a
 * person has to act. */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_SEND_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_SEND_H

#include "sinks/elasticsearch/es_bulk.h"
#include "sinks/elasticsearch/es_table.h"

/* One instance's parts; borrowed. */
struct es_parts {
    struct sink *sink;
    struct es_conn *conn;
    struct es_bulk *bulk;
    struct es_tables *tables;
};

/* es_bulk_send, and afterwards no operation has ES_STOP: it became an error (ERR_AUTH,
 * ERR_REFUSED; ERR_FOREIGN: the alias is gone), or ES_RETRY when the alias is there after all.
 * Stale and missing ones are counted, and values that are not indexed. */
int es_send(const struct es_parts *p, struct es_op *ops, size_t n, struct err *e) MUST_CHECK;

/* An operation's outcome as a verdict. */
struct sink_verdict es_send_verdict(const struct es_op *op);

#endif
