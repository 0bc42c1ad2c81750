/* Schemas and rows for the tests of sinks/elasticsearch. */
#ifndef ONESLOT_TESTS_ES_SUPPORT_H
#define ONESLOT_TESTS_ES_SUPPORT_H

#include "tests/unit/record_support.h"

#include "proto/record.h"

enum { ES_SUPPORT_MAX = 64 };

struct es_support_col {
    const char *name;
    uint32_t typoid;
    bool in_key;
    int32_t typmod; /* 0: none */
    const char *type_name;
};

/* shop.item with the columns up to one without a name. */
static inline struct schema *
es_support_schema(const struct es_support_col *defs, bool raw_text)
{
    struct schema_col cols[ES_SUPPORT_MAX];
    uint32_t n = 0;
    for (; defs[n].name != NULL; n++) {
        cols[n] = (struct schema_col){.name = str_from(defs[n].name),
            .typoid = defs[n].typoid,
            .typmod = defs[n].typmod == 0 ? -1 : defs[n].typmod,
            .type_name = str_from(defs[n].type_name == NULL ? "" : defs[n].type_name),
            .in_key = defs[n].in_key};
    }
    return support_reread(7, &(struct schema){.relid = 16400,
                                 .ns = STR("shop"),
                                 .name = STR("item"),
                                 .replident = 'd',
                                 .raw_text = raw_text,
                                 .ncols = n,
                                 .cols = cols});
}

static inline struct record_value
es_support_text(const char *text)
{
    return text == NULL ? (struct record_value){.kind = RECORD_NULL}
                        : (struct record_value){.kind = RECORD_TEXT, .text = str_from(text)};
}

#endif
