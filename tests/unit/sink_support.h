/* Batches of shop.item rows for the tests of the sinks: offset N is the row {id: N % 1000,
 * name: "n<N>", note}, each its own transaction. */
#ifndef ONESLOT_TESTS_SINK_SUPPORT_H
#define ONESLOT_TESTS_SINK_SUPPORT_H

#include <stdio.h>

#include "proto/batch.h"
#include "record_support.h"
#include "sinks/intake.h"

static inline void
support_batch_add(struct batch_writer *w, struct schema *s, uint64_t offset, const char *note)
{
    char id[24], name[24];
    (void)snprintf(id, sizeof id, "%d", (int)(offset % 1000));
    (void)snprintf(name, sizeof name, "n%llu", (unsigned long long)offset);
    const char *row[SUPPORT_NCOLS] = {id, name, note};
    struct buf auto_buf frame;
    buf_init(&frame, SIZE_MAX);
    support_put_frame(&frame, FRAME_INSERT, 0, s->id, row, NULL, SUPPORT_NCOLS);
    struct record_txn t = {.first_offset = offset,
        .count = 1,
        .epoch = 1,
        .lsn = offset,
        .end_lsn = offset + 1,
        .xid = (uint32_t)offset};
    assert_true(batch_add(w, &t, s, offset, buf_str(&frame)));
}

/* The records first, first + step, ... (n of them) of a log that goes on to `tail`, in *in. b
 * holds the bytes. */
static inline void
support_load(struct intake *in, struct buf *b, uint64_t first, uint64_t step, size_t n,
    uint64_t tail, const char *note)
{
    struct schema *s = support_item(1);
    struct batch_writer w;
    struct err e;
    buf_init(b, SIZE_MAX);
    batch_begin(&w, b);
    for (size_t i = 0; i < n; i++) {
        support_batch_add(&w, s, first + i * step, note);
    }
    batch_end(
        &w, &(struct batch_header){.next_offset = n == 0 ? first : first + (n - 1) * step + 1,
                .tail_offset = tail,
                .epoch = 1});
    schema_unref(s);
    assert_int_equal(intake_load(in, buf_str(b), &e), 0);
}

#endif
