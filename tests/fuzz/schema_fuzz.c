/* schema_fuzz: any bytes as a schema. What is accepted is written again and must decode to the
 * same. */
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
compare(const struct schema *a, const struct schema *b)
{
    CHECK(a->relid == b->relid && a->replident == b->replident && a->raw_text == b->raw_text);
    CHECK(
        a->ncols == b->ncols && a->nkeys == b->nkeys && a->json_keys_size == b->json_keys_size);
    CHECK(str_eq(a->ns, b->ns) && str_eq(a->name, b->name) &&
          str_eq(a->json_table, b->json_table));
    for (uint32_t i = 0; i < a->ncols; i++) {
        const struct schema_col *x = &a->cols[i], *y = &b->cols[i];
        CHECK(str_eq(x->name, y->name) && str_eq(x->type_name, y->type_name));
        CHECK(str_eq(x->json_key, y->json_key) && x->json == y->json && x->in_key == y->in_key);
        CHECK(x->typoid == y->typoid && x->typmod == y->typmod);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    struct schema *s, *again;
    if (schema_decode(1, (struct str){.p = (const char *)data, .n = size}, &s, &e) != 0) {
        return 0;
    }
    struct buf b;
    buf_init(&b, SIZE_MAX);
    schema_encode(&b, s);
    CHECK(schema_decode(1, buf_str(&b), &again, &e) == 0);
    compare(s, again);
    schema_unref(s);
    schema_unref(again);
    buf_fini(&b);
    return 0;
}
