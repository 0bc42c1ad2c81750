/* mp_fuzz: any bytes through the msgpack cursor. Walking by type and skipping must agree on
 * where the first value ends, and a walked value, written again, must read back as the same
 * bytes. */
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/base/mp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { NESTING_MAX = 32 };

static void
copy_value(struct mp *m, struct buf *to, int depth)
{
    uint32_t n = 0;
    enum mp_type type = mp_peek(m);
    if (depth > NESTING_MAX) {
        m->failed = true;
        return;
    }
    switch (type) {
    case MP_NIL:
        CHECK(mp_nil(m));
        mp_put_nil(to);
        break;
    case MP_BOOL:
        mp_put_bool(to, mp_bool(m));
        break;
    case MP_UINT:
        mp_put_u64(to, mp_u64(m));
        break;
    case MP_INT:
        mp_put_i64(to, mp_i64(m));
        break;
    case MP_DOUBLE:
        mp_put_double(to, mp_double(m));
        break;
    case MP_STR:
        mp_put_str(to, mp_str(m));
        break;
    case MP_BIN:
        mp_put_bin(to, mp_str(m));
        break;
    case MP_ARRAY:
        n = mp_array(m);
        mp_put_array(to, n);
        break;
    case MP_MAP:
        n = mp_map(m) * 2; /* at most the bytes left */
        mp_put_map(to, n / 2);
        break;
    case MP_END:
    case MP_BAD:
        m->failed = true;
        break;
    }
    for (; n > 0 && !m->failed; n--) {
        copy_value(m, to, depth + (type == MP_ARRAY || type == MP_MAP));
    }
}

static void
check_every_reader(struct str input)
{
    for (int reader = 0; reader < 7; reader++) {
        struct mp m;
        mp_init(&m, input);
        for (int i = 0; i < 100 && !m.failed; i++) {
            switch (reader) {
            case 0:
                CHECK(mp_array(&m) <= input.n);
                break;
            case 1:
                CHECK(mp_map(&m) <= input.n / 2);
                break;
            case 2:
                (void)mp_u64(&m);
                break;
            case 3:
                (void)mp_i64(&m);
                break;
            case 4:
                (void)mp_double(&m);
                break;
            case 5:
                (void)mp_bool(&m);
                break;
            default:
                CHECK(mp_str(&m).n < input.n + 1);
                break;
            }
            CHECK(m.p <= m.end);
        }
        CHECK(!m.failed || (mp_peek(&m) == MP_BAD && !mp_done(&m)));
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = {.p = (const char *)data, .n = size};
    struct mp walked, skipped, again;
    struct buf auto_buf copy, auto_buf second;
    buf_init(&copy, SIZE_MAX);
    buf_init(&second, SIZE_MAX);
    mp_init(&walked, input);
    mp_init(&skipped, input);
    copy_value(&walked, &copy, 0);
    mp_skip(&skipped);
    if (!skipped.failed) {
        CHECK(!walked.failed && walked.p == skipped.p);
    }
    if (!walked.failed) {
        mp_init(&again, buf_str(&copy));
        copy_value(&again, &second, 0);
        CHECK(mp_done(&again) && str_eq(buf_str(&copy), buf_str(&second)));
    }
    check_every_reader(input);
    return 0;
}
