/* http_reply_fuzz: any bytes as a receiver's answer. Either nothing is said of any record, or
 * each has a verdict; reasons are short and printable; reading it twice says the same. */
#include <stdint.h>
#include <stdlib.h>

#include "proto/base/check.h"
#include "sinks/http/http_reply.h"

enum { N = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_verdict(const struct sink_verdict *v)
{
    CHECK(v->verdict == VERDICT_DONE || v->verdict == VERDICT_RETRY ||
          v->verdict == VERDICT_REJECT);
    CHECK((v->verdict == VERDICT_DONE) == (v->reason == NULL));
    for (size_t i = 0; v->reason != NULL && v->reason[i] != '\0'; i++) {
        CHECK(i < HTTP_REPLY_REASON_MAX && v->reason[i] >= ' ' && v->reason[i] < 0x7f);
    }
}

static int
read_once(struct str body, struct sink_verdict *verdicts, struct buf *reasons)
{
    static const struct record records[N] = {
        {.offset = 1}, {.offset = 2}, {.offset = 7}, {.offset = UINT64_MAX}};
    struct err e = {0};
    memset(verdicts, 0, N * sizeof *verdicts);
    CHECK(buf_room(reasons, (size_t)N * HTTP_REPLY_REASON_MAX) != NULL);
    const char *p = reasons->p;
    int rc = http_reply_read(body, records, N, verdicts, reasons, &e);
    CHECK(rc == 0 || (rc == ERR_PROTOCOL && e.code == rc && e.msg[0] != '\0'));
    CHECK(reasons->p == p);
    for (size_t i = 0; i < N; i++) {
        if (rc == 0) {
            check_verdict(&verdicts[i]);
        } else {
            CHECK(verdicts[i].verdict == VERDICT_UNSET);
        }
    }
    return rc;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str body = {.p = (const char *)data, .n = size};
    struct sink_verdict one[N], two[N];
    struct buf auto_buf a, auto_buf b;
    buf_init(&a, SIZE_MAX);
    buf_init(&b, SIZE_MAX);
    CHECK(read_once(body, one, &a) == read_once(body, two, &b));
    for (size_t i = 0; i < N; i++) {
        CHECK(one[i].verdict == two[i].verdict);
    }
    return 0;
}
