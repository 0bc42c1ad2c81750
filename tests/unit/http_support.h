/* Records for the tests of the http kind: record i is an insert of shop.item {id: i} at offset
 * 100 + i. */
#ifndef ONESLOT_TESTS_HTTP_SUPPORT_H
#define ONESLOT_TESTS_HTTP_SUPPORT_H

#include <stdio.h>

#include "record_support.h"
#include "sinks/sink.h"

enum { HTTP_MANY = 64 };

static struct {
    struct schema *schema;
    struct record_txn txn;
    struct record records[HTTP_MANY];
    struct record_value rows[HTTP_MANY][SUPPORT_NCOLS];
    char ids[HTTP_MANY][16];
    struct sink_verdict verdicts[HTTP_MANY];
} made;

static inline void
http_support_init(void)
{
    memset(&made, 0, sizeof made);
    made.schema = support_item(1);
    made.txn = (struct record_txn){.first_offset = 100, .count = HTTP_MANY, .epoch = 1};
    for (size_t i = 0; i < HTTP_MANY; i++) {
        (void)snprintf(made.ids[i], sizeof made.ids[i], "%zu", i);
        made.rows[i][0] = (struct record_value){RECORD_TEXT, str_from(made.ids[i])};
        made.rows[i][1] = (struct record_value){RECORD_TEXT, STR("a\nb")};
        made.rows[i][2] = (struct record_value){RECORD_UNCHANGED, {0}};
        made.records[i] = (struct record){.offset = 100 + i,
            .seq = i,
            .txn = &made.txn,
            .schema = made.schema,
            .op = FRAME_INSERT,
            .new_row = made.rows[i]};
    }
}

static inline void
http_support_fini(void)
{
    schema_unref(made.schema);
}

#endif
