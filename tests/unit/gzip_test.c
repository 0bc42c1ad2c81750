/* gzip: what comes out is what zlib's own reader takes in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <zlib.h>

#include "proto/base/gzip.h"

enum { LARGE = 3 * 1000 * 1000 };

static void
check_round_trip(struct str text)
{
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    buf_puts(&b, "before");
    gzip_put(&b, text, GZIP_FASTEST);
    assert_true(buf_ok(&b));
    assert_memory_equal(b.p, "before", 6);
    char *back = malloc(text.n + 1);
    assert_non_null(back);
    z_stream z = {.next_in = (Bytef *)b.p + 6,
        .avail_in = (uInt)(b.n - 6),
        .next_out = (Bytef *)back,
        .avail_out = (uInt)(text.n + 1)};
    assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    assert_int_equal(z.total_out, text.n);
    assert_int_equal(z.avail_in, 0);
    assert_int_equal(inflateEnd(&z), Z_OK);
    if (text.n > 0) {
        assert_memory_equal(back, text.p, text.n);
    }
    free(back);
}

static void
test_round_trips(void **state)
{
    (void)state;
    char *noise = malloc(LARGE);
    uint32_t seed = 1;
    assert_non_null(noise);
    check_round_trip((struct str){0});
    check_round_trip(STR("x"));
    for (size_t i = 0; i < LARGE; i++) {
        seed = seed * 1664525u + 1013904223u;
        noise[i] = (char)(seed >> 24);
    }
    check_round_trip((struct str){.p = noise, .n = LARGE}); /* grows */
    memset(noise, 'a', LARGE);
    check_round_trip((struct str){.p = noise, .n = LARGE});
    free(noise);
}

static void
test_no_room(void **state)
{
    (void)state;
    struct buf auto_buf b;
    buf_init(&b, 10);
    gzip_put(&b, STR("something"), GZIP_SMALLEST);
    assert_false(buf_ok(&b));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
