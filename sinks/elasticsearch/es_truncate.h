/* es_truncate: a TRUNCATE: every document of the table below its offset deleted, at its offset:
 * what a replay or a late request brings back is older than that. Comes alone, nothing else
 * under way. Holds one page of ids in memory. */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_TRUNCATE_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_TRUNCATE_H

#include "sinks/elasticsearch/es_send.h"

int es_truncate_run(const struct es_parts *p, struct str alias, uint64_t offset,
    struct sink_verdict *verdict, struct err *e) MUST_CHECK;

#endif
