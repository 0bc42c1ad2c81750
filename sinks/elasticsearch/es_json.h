/* es_json: JSON values made fit for Elasticsearch. Pure. */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_JSON_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_JSON_H

#include <stdbool.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"

/* Brackets within brackets that a value may have: what Elasticsearch 8 takes (its own limit is
 * 1000, the document's included). 7.17 dies of 3000: such a value must never be sent. */
enum { ES_JSON_DEPTH_MAX = 999 };

/* Appends a JSON value on one line, without insignificant white space, as jsonb would have it
 * where Elasticsearch refuses what `json` allows: of repeated keys (compared unescaped) the
 * last counts, and a surrogate without its other half becomes U+FFFD. Numbers keep their text,
 * the order of keys stays. No recursion; memory in proportion to the text. False, and nothing
 * appended: nested too deep, or not JSON (or b is full: then b has failed). */
bool es_json_put(struct buf *b, struct str text) MUST_CHECK;
/* True when brackets are nested deeper than that. The text is JSON, and nothing else is
 * checked. */
bool es_json_is_too_deep(struct str text);

#endif
