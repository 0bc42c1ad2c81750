/* schema: one version of a table's shape, as the records of a segment use it. Encoded as a
 * msgpack array; immutable once decoded, reference-counted so that readers on several threads
 * may share it. */
#ifndef ONESLOT_PROTO_SCHEMA_H
#define ONESLOT_PROTO_SCHEMA_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/str.h"

enum { SCHEMA_MAX_COLS = 1664 /* PostgreSQL's MaxTupleAttributeNumber */ };

/* How a column's PostgreSQL text becomes JSON (design/interface.md, Types): by the oid of a
 * built-in type, else by a type_name of "pg_catalog.NAME". */
enum schema_json {
    SCHEMA_JSON_STRING,
    SCHEMA_JSON_BOOL,
    SCHEMA_JSON_INT,   /* int2/4/8 */
    SCHEMA_JSON_FLOAT, /* NaN and infinities become strings */
    SCHEMA_JSON_JSON,
    SCHEMA_JSON_JSONB
};

struct schema_col {
    struct str name;
    uint32_t typoid;
    int32_t typmod;
    /* "SCHEMA.NAME" of the Type message, with "pg_catalog" where it sends an empty schema;
     * empty when unknown. PostgreSQL names a domain's base type there, so a domain over int4
     * says "pg_catalog.int4". */
    struct str type_name;
    bool in_key; /* part of the replica identity, or of the primary key under FULL */
    /* derived on decoding: */
    enum schema_json json;
    struct str json_key; /* `"name":` rendered once, escaped; `"base64:...":` for a name that is
                            not UTF-8 */
};

struct schema {
    uint32_t id;    /* log-wide; assigned by the append session, never reused */
    uint32_t relid; /* pg_class oid */
    struct str ns, name;
    char replident; /* 'd' 'n' 'f' 'i' */
    bool raw_text;  /* the server's encoding is SQL_ASCII: values may not be UTF-8 */
    uint32_t ncols, nkeys;
    struct schema_col *cols;
    struct str json_table; /* `"schema":"fabric","table":"user_data"` rendered once */
    size_t json_keys_size; /* bytes of all json_key together */
};
/* json_key and json_table have SCHEMA_JSON_SLACK readable bytes behind them, for copies in
 * fixed strides. */
enum { SCHEMA_JSON_SLACK = 32 };

/* Appends the encoding: [relid, ns, name, replident, raw_text, [[name, typoid, typmod,
 * type_name, in_key]...]]. */
void schema_encode(struct buf *b, const struct schema *s);
/* Returns an owned reference; it copies all it needs. ERR_CORRUPT for anything malformed. */
int schema_decode(
    uint32_t id, struct str encoded, struct schema **ret, struct err *e) MUST_CHECK;
struct schema *schema_ref(struct schema *s);
void schema_unref(struct schema *s); /* accepts NULL */

#endif
