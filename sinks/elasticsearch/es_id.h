/* es_id: the `_id` of a row: 1 to ES_ID_MAX bytes of UTF-8, and never the same for two keys of
 * a table. Pure.
 *
 *   one key column        its PostgreSQL text
 *   several               their texts joined by `|`, with `|` and `\` in them behind a `\`
 *   what these cannot be  #sha256-HEX of the key's bytes: longer than ES_ID_MAX, empty, not
 *                         UTF-8, or beginning with `#sha256-` themselves */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_ID_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_ID_H

#include <stdbool.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/record.h"

enum { ES_ID_MAX = 512 };

/* Appends the id, bare: what goes into JSON passes json_put_string. row: ncols values of a
 * table that has a key (record_key_row, record_former_key_row). False, and nothing appended: a
 * key column has no text (no table that PostgreSQL lets us follow has such rows). */
bool es_id_put(
    struct buf *b, const struct schema *s, const struct record_value *row) MUST_CHECK;

#endif
