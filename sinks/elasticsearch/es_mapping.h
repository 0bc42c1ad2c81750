/* es_mapping: bodies of index creation and mapping extension, from a table's schema: settings,
 * `_meta`, and one property per column, none of which ever refuses a value that PostgreSQL can
 * hold. Pure.
 *
 * Defaults (README.md has the table): numbers, dates and ip with ignore_malformed, text and
 * keywords with ignore_above, json and jsonb as objects that are kept and not indexed. Fields
 * take what record_json writes: PostgreSQL's texts.
 *
 * The option `mapping` overrides single columns:
 *
 *   mapping:
 *     fabric.user_data.timezone: keyword              a type; what it needs so that it refuses
 *                                                     nothing is added where it exists
 *     "shop.*.attributes": flattened                  `*` is any run of characters, `?` one
 *     shop.item.place: '{"type":"geo_point"}'         a property as it is: the user's own risk
 *     shop.item.secret: none                          in `_source`, not in the mapping
 *
 * The last pattern that matches SCHEMA.TABLE.COLUMN (as PostgreSQL has the names) counts.
 * `flattened` (OpenSearch: flat_object) refuses scalars, arrays and deep nesting: the one type
 * that is the user's risk without being spelled out. */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_MAPPING_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_MAPPING_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/conf.h"
#include "proto/base/err.h"
#include "proto/schema.h"

enum {
    ES_MAPPING_META_VERSION = 1,
    ES_MAPPING_KEYWORD_MAX = 8191 /* ignore_above, in UTF-16 units: * 4 bytes is what Lucene
                                     takes for a term */
};

struct es_dialect {
    bool is_opensearch;
    unsigned major, minor; /* of its own version */
};

/* Whose documents an index holds: `_meta.oneslot`. */
struct es_meta {
    uint8_t uuid[16]; /* of the log */
    uint64_t epoch;
    uint64_t generation;
};

/* The option `mapping`: a CONF_NODE. NULL or null: no overrides. ERR_CONFIG with file and line:
 * not a mapping of scalars, a pattern without two dots, a value that is neither a type's name
 * nor a JSON object. */
int es_mapping_check(const struct conf_node *overrides, struct err *e) MUST_CHECK;

/* What es_mapping_ignores has to know of a column. Where an override decides nothing is known:
 * such a column's values are never counted. */
uint8_t es_mapping_rule(
    const struct schema *s, const struct schema_col *c, const struct conf_node *overrides);
/* True when the value is kept in `_source` only, or is missing from one of the column's fields:
 * what Elasticsearch lists under `_ignored`. */
bool es_mapping_ignores(uint8_t rule, struct str text);

/* Appends the body of PUT /INDEX: settings, mappings, and the alias. overrides passed
 * es_mapping_check. */
void es_mapping_put_create(struct buf *b, const struct es_dialect *d, const struct schema *s,
    const struct conf_node *overrides, const struct es_meta *meta, struct str alias);

/* Appends the body of PUT /INDEX/_mapping that says anew whose documents it holds. */
void es_mapping_put_owner(struct buf *b, const struct schema *s, const struct es_meta *meta);

/* Marks in is_new[0..s->ncols) the columns that have no field in `properties` (raw JSON object,
 * or empty: the member `properties` of an existing mapping) though they should have one;
 * returns how many, or a negative ERR_CORRUPT when properties cannot be read. */
int es_mapping_find_new(const struct schema *s, const struct conf_node *overrides,
    struct str properties, bool *is_new, struct err *e) MUST_CHECK;
/* Appends the body of PUT /INDEX/_mapping: those columns' properties. */
void es_mapping_put_extension(struct buf *b, const struct es_dialect *d, const struct schema *s,
    const struct conf_node *overrides, const bool *is_new);
/* Appends the body of PUT /INDEX/_settings that makes room for them, to be sent before. fields:
 * how many the mapping has (es_live). */
void es_mapping_put_limit(struct buf *b, const struct schema *s, size_t fields);

#endif
