/* es_name: the field of a column. Pure.
 *
 * A field is called as its column. What Elasticsearch would refuse or take for something else
 * is percent-encoded, so that two columns never share a field: `%` (always), `.` (it would make
 * an object), bytes that are not UTF-8, control characters, the first character of a name that
 * is one of Elasticsearch's own fields (`_id` is `%5Fid`) or is nothing but blanks. */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_NAME_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_NAME_H

#include "proto/base/buf.h"

/* Appends the field's name, bare (not JSON): never empty for a column that has a name. */
void es_name_put(struct buf *b, struct str column);
/* The same as a JSON string. */
void es_name_put_json(struct buf *b, struct str column);

#endif
