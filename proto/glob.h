/* glob: table patterns of configuration and queries: "schema.table" with `*` (any run) and `?`
 * (one character) in either part; a pattern without a dot is "public.PATTERN". Case-sensitive.
 * Pure. */
#ifndef ONESLOT_PROTO_GLOB_H
#define ONESLOT_PROTO_GLOB_H

#include <stdbool.h>

#include "proto/base/err.h"
#include "proto/base/str.h"

bool glob_has_wildcard(struct str pattern);
/* One name against one pattern without parts: dots are characters. */
bool glob_match(struct str pattern, struct str name);
bool glob_match_table(struct str pattern, struct str schema, struct str table);
/* Does one of them match? */
bool glob_match_any(const struct str *patterns, size_t n, struct str schema, struct str table);
int glob_check(
    struct str pattern, struct err *e) MUST_CHECK; /* ERR_PARSE: empty, two dots, ... */

#endif
