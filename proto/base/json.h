/* json: writing JSON (our own streaming writer, the one escaping function) and reading
 * control-plane JSON (over jansson, which only json.c includes). Rendering of records builds on
 * json_put_*. */
#ifndef ONESLOT_BASE_JSON_H
#define ONESLOT_BASE_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/str.h"

/* ---- writing ---- */

/* Appends s as a JSON string with its quotes. Bytes must be UTF-8 (json_is_utf8); NUL..0x1f,
 * '"', '\\' and DEL are escaped; U+2028/2029 pass. THE escaping function: nothing else writes
 * text into JSON. */
void json_put_string(struct buf *b, struct str s);
/* Appends {"base64":"..."}: bytes that are not UTF-8. */
void json_put_base64_object(struct buf *b, struct str bytes);
void json_put_base64(struct buf *b, struct str bytes); /* the quoted base64 text alone */
void json_put_u64(struct buf *b, uint64_t v);
void json_put_i64(struct buf *b, int64_t v);
bool json_is_utf8(struct str s);
/* Appends JSON text (type json may hold line breaks) without insignificant white space, so that
 * it stays on one NDJSON line. The text was valid JSON to PostgreSQL; it is not checked again.
 */
void json_put_minified(struct buf *b, struct str json_text);

/* A document writer: commas and nesting are its business. `key` is NULL inside arrays. */
struct jsonw {
    struct buf *b;
    bool need_comma;
};
void jsonw_init(struct jsonw *w, struct buf *b);
void jsonw_object(struct jsonw *w, const char *key); /* { */
void jsonw_end_object(struct jsonw *w);
void jsonw_array(struct jsonw *w, const char *key); /* [ */
void jsonw_end_array(struct jsonw *w);
void jsonw_cstr(
    struct jsonw *w, const char *key, const char *v); /* NULL writes null; made valid UTF-8 */
void jsonw_str(struct jsonw *w, const char *key, struct str v); /* made valid UTF-8 */
void jsonw_u64(struct jsonw *w, const char *key, uint64_t v);
void jsonw_i64(struct jsonw *w, const char *key, int64_t v);
void jsonw_double(
    struct jsonw *w, const char *key, double v, int decimals); /* NaN, infinity: null */
void jsonw_bool(struct jsonw *w, const char *key, bool v);
void jsonw_null(struct jsonw *w, const char *key);
void jsonw_raw(struct jsonw *w, const char *key, struct str json); /* a value as it stands */

/* ---- reading (control plane only: bounded, a tree in memory) ---- */

struct json; /* a node; valid until its root is freed */

enum { JSON_TEXT_MAX = 16 << 20 };

/* Root: owned. Repeated keys, \u0000, and integers beyond 64 bits are ERR_PARSE; text beyond
 * JSON_TEXT_MAX is ERR_TOOBIG. */
int json_parse(struct str text, struct json **ret_root, struct err *e) MUST_CHECK;
void json_free(struct json *root);
/* NULL when absent, or when j is NULL or of another kind: lookups chain. */
const struct json *json_get(const struct json *j, const char *key);
const struct json *json_at(const struct json *j, size_t i);
size_t json_size(const struct json *j); /* elements or members; 0 for anything else */
/* The i-th member of an object: its value, and its key in *ret_key. Walks the members: small
 * objects only. */
const struct json *json_member(const struct json *j, size_t i, const char **ret_key);
bool json_is_null(const struct json *j); /* true for absent too */
bool json_is_object(const struct json *j);
bool json_is_array(const struct json *j);
bool json_str(const struct json *j, struct str *ret);
bool json_i64(const struct json *j, int64_t *ret);
bool json_num(const struct json *j, double *ret); /* integers too */
bool json_bool(const struct json *j, bool *ret);

#endif
