/* es_json: JSON values made fit for Elasticsearch. Pure. */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_JSON_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_JSON_H

#include <stdbool.h>

#include "proto/base/buf.h"

/* Appends a JSON value on one line, without insignificant white space, as jsonb would have it
 * where Elasticsearch refuses what `json` allows: of repeated keys (compared unescaped) the
 * last counts, and a surrogate without its other half becomes U+FFFD. Numbers keep their text,
 * the order of keys stays. No recursion; memory in proportion to the text. False, and nothing
 * appended: not JSON (or b is full: then b has failed). */
bool es_json_put(struct buf *b, struct str text);

#endif
