/* Rows for the tests of frames, records and batches. */
#ifndef ONESLOT_TESTS_RECORD_SUPPORT_H
#define ONESLOT_TESTS_RECORD_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base/mp.h"
#include "proto/frame.h"
#include "proto/schema.h"

/* STR for static initializers. */
#define S(literal)                                                                             \
    {                                                                                          \
        .p = (literal), .n = sizeof(literal) - 1                                               \
    }

/* A cell that stands for a TOASTed value that was not sent. */
static const char support_unchanged[] = "(unchanged)";

static inline struct schema *
support_reread(uint32_t id, const struct schema *s)
{
    struct err e;
    struct schema *ret = NULL;
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    schema_encode(&b, s);
    assert_int_equal(schema_decode(id, buf_str(&b), &ret, &e), 0);
    return ret;
}

enum { SUPPORT_NCOLS = 3 };

/* shop.item: id int4 (key), name text, note text. */
static inline struct schema *
support_item(uint32_t id)
{
    struct schema_col cols[SUPPORT_NCOLS] = {
        {.name = STR("id"),
            .typoid = 23,
            .typmod = -1,
            .type_name = STR("pg_catalog.int4"),
            .in_key = true},
        {.name = STR("name"), .typoid = 25, .typmod = -1},
        {.name = STR("note"), .typoid = 25, .typmod = -1},
    };
    return support_reread(id, &(struct schema){.relid = 16400,
                                  .ns = STR("shop"),
                                  .name = STR("item"),
                                  .replident = 'd',
                                  .ncols = SUPPORT_NCOLS,
                                  .cols = cols});
}

static inline void
support_put_tuple(struct buf *b, const char *const *cells, uint32_t n)
{
    mp_put_array(b, n);
    for (uint32_t i = 0; i < n; i++) {
        if (cells[i] == support_unchanged) {
            mp_put_bool(b, false);
        } else if (cells[i] == NULL) {
            mp_put_nil(b);
        } else {
            mp_put_str(b, str_from(cells[i]));
        }
    }
}

/* A whole frame of n columns at b's end; new_row and old_row may be NULL. */
static inline void
support_put_frame(struct buf *b, uint8_t op, uint8_t flags, uint32_t schema_id,
    const char *const *new_row, const char *const *old_row, uint32_t n)
{
    size_t start = frame_begin(b, op, flags, schema_id);
    if (new_row != NULL) {
        support_put_tuple(b, new_row, n);
    }
    if (old_row != NULL) {
        support_put_tuple(b, old_row, n);
    }
    frame_end(b, start);
}

/* A copy without a byte to spare, so that the sanitizer sees any read behind its end. Free it.
 */
static inline char *
support_exact(const char *p, size_t n)
{
    char *copy = malloc(n == 0 ? 1 : n);
    assert_non_null(copy);
    if (n > 0) {
        memcpy(copy, p, n);
    }
    return copy;
}

#endif
