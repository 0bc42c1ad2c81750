/* batch_fuzz: input = 0 and any bytes as a batch, or 1 and a run of [kind, length (u16 le),
 * bytes]: those become a batch whose frames have right checksums ('r' takes offset, op, flags
 * and schema from its first bytes), so that what lies behind the checksum is reached. Whatever
 * is handed out must render. */
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/batch.h"
#include "proto/record_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
read_all(struct str bytes)
{
    struct err e;
    struct batch_reader r;
    struct record record;
    struct buf auto_buf out;
    uint64_t next = 0;
    int rc;
    buf_init(&out, SIZE_MAX);
    if (batch_open(&r, bytes, &e) != 0) {
        return;
    }
    while ((rc = batch_next(&r, &record, &e)) == 1) {
        CHECK(record.offset >= next && record.txn != NULL && record.seq < record.txn->count);
        next = record.offset + 1;
        buf_reset(&out, SIZE_MAX);
        record_json_put(&out, &record);
        record_msgpack_put(&out, &record);
        CHECK(buf_ok(&out));
    }
    CHECK(rc == 0 || rc == ERR_CORRUPT);
    batch_close(&r);
}

static void
put_item(struct buf *b, uint8_t kind, struct str bytes)
{
    struct buf auto_buf frame;
    buf_init(&frame, SIZE_MAX);
    if (kind == 's') {
        mp_put_array(b, 3);
        mp_put_str(b, STR("s"));
        mp_put_u64(b, bytes.n > 0 ? (uint8_t)bytes.p[0] : 0);
        mp_put_bin(b, (struct str){bytes.p + (bytes.n > 0), bytes.n - (bytes.n > 0)});
    } else if (kind == 'r' && bytes.n >= 4) {
        size_t start =
            frame_begin(&frame, (uint8_t)bytes.p[1], (uint8_t)bytes.p[2], (uint8_t)bytes.p[3]);
        buf_put(&frame, bytes.p + 4, bytes.n - 4);
        frame_end(&frame, start);
        mp_put_array(b, 3);
        mp_put_str(b, STR("r"));
        mp_put_u64(b, (uint8_t)bytes.p[0]);
        mp_put_bin(b, buf_str(&frame));
    } else if (kind == 't') {
        mp_put_array(b, 2);
        mp_put_str(b, STR("t"));
        buf_put_str(b, bytes);
    } else {
        buf_put_str(b, bytes);
    }
}

static void
build(struct str in)
{
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    buf_puts(&b, "\x94\x01\x05\x05\x01");
    while (in.n >= 3) {
        size_t n = get_le16(in.p + 1), left = in.n - 3;
        n = n < left ? n : left;
        put_item(&b, (uint8_t)in.p[0], (struct str){in.p + 3, n});
        in = (struct str){in.p + 3 + n, left - n};
    }
    mp_put_nil(&b);
    read_all(buf_str(&b));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = {.p = (const char *)data + 1, .n = size - 1};
    if (size == 0) {
        return 0;
    }
    if (data[0] == 1) {
        build(rest);
    } else {
        read_all(rest);
    }
    return 0;
}
