/* es_index: names. A table's documents are found under an alias made from the option `index`;
 * behind it stands an index of a generation, "ALIAS-000001". Pure. */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_INDEX_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_INDEX_H

#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/str.h"

enum {
    ES_INDEX_NAME_MAX = 255, /* bytes, of a generation's index */
    ES_INDEX_ALIAS_MAX = 240,
    ES_INDEX_FIRST_GENERATION = 1
};

/* ERR_CONFIG: empty, a brace that opens neither {schema} nor {table}, or characters that no
 * name can have. Upper case is taken as lower case. */
int es_index_check_template(struct str tmpl, struct err *e) MUST_CHECK;
/* Appends the alias of a table: schema and table in lower case, what Elasticsearch refuses in a
 * name percent-encoded (`%2f`), and so is the dash of what would look like a generation. Tables
 * whose names differ in case only, or all of them where tmpl lacks {table}, get one alias: the
 * caller compares. ERR_CONFIG (nothing appended): longer than ES_INDEX_ALIAS_MAX. */
int es_index_put_alias(struct buf *b, struct str tmpl, struct str schema, struct str table,
    struct err *e) MUST_CHECK;
/* Appends ALIAS-NNNNNN (six digits or more). */
void es_index_put_generation(struct buf *b, struct str alias, uint64_t generation);
/* The generation of an index that es_index_put_generation named for this alias; 0: not one. */
uint64_t es_index_generation(struct str alias, struct str index);

#endif
