/* announced: see announced.h. */
#include "broker/announced.h"

#include <inttypes.h>
#include <stdlib.h>

#include "proto/base/xmalloc.h"
#include "proto/schema.h"

enum { BYTES_MAX = 256 * 1024 * 1024 };

void
announced_reset(struct announced *a)
{
    for (size_t i = 0; i < a->n; i++) {
        free(a->schema[i].encoded);
    }
    free(a->schema);
    *a = (struct announced){0};
}

int
announced_add(struct announced *a, uint32_t id, struct str encoded, struct err *e)
{
    struct schema *s;
    if (id == 0 || encoded.n > BYTES_MAX - a->bytes) {
        return err_set(e, ERR_PARSE, "a schema that is out of bounds (id %" PRIu32 ")", id);
    }
    int rc = schema_decode(id, encoded, &s, e);
    if (rc != 0) {
        return rc;
    }
    schema_unref(s);
    a->schema = xreallocarray(a->schema, a->n + 1, sizeof *a->schema);
    a->schema[a->n++] = (struct announced_schema){
        .id = id, .encoded = xstrndup(encoded.p, encoded.n), .n = encoded.n};
    a->bytes += encoded.n;
    return 0;
}

int
announced_find(const struct announced *a, uint32_t id, struct str *ret, struct err *e)
{
    for (size_t i = a->n; i > 0; i--) {
        const struct announced_schema *s = &a->schema[i - 1];
        if (s->id == id) {
            *ret = (struct str){s->encoded, s->n};
            return 0;
        }
    }
    return err_set(e, ERR_PARSE,
        "a record uses schema %" PRIu32 ", which this session has not announced", id);
}
