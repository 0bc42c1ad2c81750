/* es_move: a key change: the new document accepted, then the old one deleted. Comes alone: all
 * earlier records of both keys are settled. */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_MOVE_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_MOVE_H

#include "sinks/elasticsearch/es_send.h"

int es_move_run(const struct es_parts *p, const struct es_version *v, const struct record *r,
    bool is_barred, uint64_t floor, struct sink_verdict *verdict, struct err *e) MUST_CHECK;

#endif
