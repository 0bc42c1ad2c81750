/* es_render: the lines of a `_bulk` body. Pure; the hot path of the kind.
 *
 *   {"index":{"_index":ALIAS,"_id":ID,"version":OFFSET,"version_type":"external_gte",
 *   "require_alias":true}}\n  _source\n          (one line each)
 *   {"delete":{...the same...}}\n
 *
 * `_source` is exactly the change's `new` as record_json writes it, with two differences that
 * Elasticsearch enforces: fields that es_name escapes, and `json` values as es_json has them.
 * No text can end a line or add a member: everything passes json_put_string. */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_RENDER_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_RENDER_H

#include <stdbool.h>

#include "proto/base/buf.h"
#include "proto/base/conf.h"
#include "proto/base/err.h"
#include "proto/record.h"

/* What all documents of a schema version share, found once: the fields' names, and
 * what es_mapping_ignores has to know. Immutable. */
struct es_shape {
    uint8_t *rules;     /* es_mapping_rule of each column */
    uint32_t schema_id; /* log-wide, never reused: the caller's key for keeping shapes */
    uint32_t ncols;
    struct str *fields; /* `,"name":` of each column */
    char *memory;
};
/* Returns owned; copies what it needs. overrides: the option `mapping`, or NULL. */
struct es_shape *es_shape_new(const struct schema *s, const struct conf_node *overrides);
void es_shape_free(struct es_shape *shape); /* accepts NULL */

struct es_target {
    struct str alias;
    struct str id;    /* bare, of es_id_put */
    uint64_t version; /* the record's offset; for a TRUNCATE's deletes the TRUNCATE's */
};

/* Appends action and document. shape: of s. fill: per column the raw JSON text of an unchanged
 * one's value (one value, valid JSON; white space is removed); NULL where none is unchanged.
 * A column that is unchanged and has no fill is a bug. When b has no room it is `failed` and
 * the caller cuts back to where it was. False, and nothing appended: a json value is nested
 * deeper than ES_JSON_DEPTH_MAX, so the row must be rejected and never sent. */
bool es_render_put_index(struct buf *b, const struct es_shape *shape, const struct schema *s,
    const struct record_value *row, const struct str *fill,
    const struct es_target *to) MUST_CHECK;
void es_render_put_delete(struct buf *b, const struct es_target *to);
/* Appends the document alone; false as above. */
bool es_render_put_source(struct buf *b, const struct es_shape *shape, const struct schema *s,
    const struct record_value *row, const struct str *fill) MUST_CHECK;
/* Appends a value of an old row as the raw JSON that `fill` takes; false as above. */
bool es_render_put_value(struct buf *b, const struct schema *s, const struct schema_col *c,
    struct str text) MUST_CHECK;

#endif
