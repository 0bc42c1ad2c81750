/* position_fuzz: any bytes as a position. What is accepted must come out of its own text
 * unchanged. */
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/position.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct position p = {0}, again = {0};
    struct err e;
    auto_buf struct buf b;

    buf_init(&b, 128);
    if (position_parse((struct str){.p = (const char *)data, .n = size}, &p, &e) < 0) {
        CHECK(e.code == ERR_PARSE);
        return 0;
    }
    position_format(&b, &p);
    CHECK(buf_ok(&b) && position_parse(buf_str(&b), &again, &e) == 0);
    CHECK(again.kind == p.kind && again.offset == p.offset && again.lsn == p.lsn);
    CHECK(
        again.has_epoch == p.has_epoch && again.epoch == p.epoch && again.time_us == p.time_us);
    return 0;
}
