/* frame_fuzz: any bytes as a run of frames. What is accepted without its checksum is built
 * again and must come out the same; control payloads that are understood must be written back
 * with the same meaning. */
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
rebuild(const struct frame *f)
{
    struct err e;
    struct frame again;
    size_t at = 0;
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    size_t start = frame_begin(&b, f->op, f->flags, f->schema_id);
    buf_put_str(&b, f->payload);
    frame_end(&b, start);
    CHECK(frame_next(buf_str(&b), &at, true, &again, &e) == 0 && at == b.n);
    CHECK(again.op == f->op && again.flags == f->flags && again.schema_id == f->schema_id);
    CHECK(str_eq(again.payload, f->payload));
}

static void
control(const struct frame *f)
{
    struct err e;
    struct frame again;
    struct frame_begin_txn begin, begin2;
    struct frame_commit commit, commit2;
    uint64_t lsn, lsn2;
    size_t at = 0;
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    if (f->op == FRAME_BEGIN && frame_get_begin(f, &begin, &e) == 0) {
        frame_put_begin(&b, &begin);
        CHECK(frame_next(buf_str(&b), &at, true, &again, &e) == 0);
        CHECK(frame_get_begin(&again, &begin2, &e) == 0);
        CHECK(begin.kind == begin2.kind && begin.xid == begin2.xid && begin.lsn == begin2.lsn);
    } else if (f->op == FRAME_COMMIT && frame_get_commit(f, &commit, &e) == 0) {
        frame_put_commit(&b, &commit);
        CHECK(frame_next(buf_str(&b), &at, true, &again, &e) == 0);
        CHECK(frame_get_commit(&again, &commit2, &e) == 0);
        CHECK(commit.xid == commit2.xid && commit.end_lsn == commit2.end_lsn &&
              commit.ts_us == commit2.ts_us && str_eq(commit.origin, commit2.origin));
    } else if (f->op == FRAME_IDLE && frame_get_idle(f, &lsn, &e) == 0) {
        frame_put_idle(&b, lsn);
        CHECK(frame_next(buf_str(&b), &at, true, &again, &e) == 0);
        CHECK(frame_get_idle(&again, &lsn2, &e) == 0 && lsn == lsn2);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    struct frame f;
    struct str bytes = {.p = (const char *)data, .n = size};
    for (size_t at = 0; frame_next(bytes, &at, false, &f, &e) == 0;) {
        rebuild(&f);
        control(&f);
    }
    for (size_t at = 0; frame_next(bytes, &at, true, &f, &e) == 0;) {
        rebuild(&f);
    }
    return 0;
}
