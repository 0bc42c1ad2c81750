/* announced: the schema versions that an append session has announced. A segment stands alone,
 * so each is put into every segment in which a record uses it; until then they are kept here.
 */
#ifndef ONESLOT_BROKER_ANNOUNCED_H
#define ONESLOT_BROKER_ANNOUNCED_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/str.h"

struct announced_schema {
    uint32_t id;
    char *encoded;
    size_t n;
};

struct announced {
    struct announced_schema *schema;
    size_t n;
    size_t bytes; /* of all of them: what a new segment may need beside the records */
};

void announced_reset(struct announced *a); /* a zeroed one is empty */
/* Takes a copy. ERR_CORRUPT where it is no schema, ERR_PARSE beyond what a session may
 * announce. */
int announced_add(
    struct announced *a, uint32_t id, struct str encoded, struct err *e) MUST_CHECK;
/* The encoding; the later one where an id was announced twice. ERR_PARSE: it was not. */
int announced_find(
    const struct announced *a, uint32_t id, struct str *ret, struct err *e) MUST_CHECK;

#endif
