/* record_json: a record as the JSON of design/interface.md ("A change"). The hot path of
 * replay: one pass, no tree, appended to a buffer. Pure. */
#ifndef ONESLOT_PROTO_RECORD_JSON_H
#define ONESLOT_PROTO_RECORD_JSON_H

#include "proto/base/buf.h"
#include "proto/record.h"

/* Appends one object without a line break. When b has no room b is `failed` and its content is
 * undefined from its former end on: the caller cuts back to it. */
void record_json_put(struct buf *b, const struct record *r);
/* A row's values as an object {"col":value,...}: unchanged and absent ones left out. */
void record_json_put_row(struct buf *b, const struct schema *s, const struct record_value *row);
/* The key object: identity columns of new, or of old when there is no new (or new's was not
 * sent). False, and nothing written, where the table has no key or the op no row. */
bool record_json_put_key(struct buf *b, const struct record *r);
/* One value by its column's JSON type. */
void record_json_put_value(
    struct buf *b, const struct schema *s, const struct schema_col *c, struct str text);

/* The same fields as a msgpack map (format=msgpack). Differences: content, and text that is not
 * UTF-8, are bin; floats are doubles, NaN and infinities too; json and jsonb are str holding
 * the JSON text. */
void record_msgpack_put(struct buf *b, const struct record *r);

#endif
