/* digest: the published vectors of FIPS 180-4 and RFC 4231. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/digest.h"

static void
assert_hex(const uint8_t *p, const char *want)
{
    struct buf auto_buf b;
    buf_init(&b, 100);
    digest_put_hex(&b, p, DIGEST_SHA256_SIZE);
    assert_string_equal(buf_cstr(&b), want);
}

static void
test_sha256_of_known_texts(void **state)
{
    uint8_t sum[DIGEST_SHA256_SIZE];
    (void)state;
    digest_sha256(STR("abc"), sum);
    assert_hex(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest_sha256((struct str){0}, sum);
    assert_hex(sum, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void
test_hmac_of_known_texts(void **state)
{
    uint8_t sum[DIGEST_SHA256_SIZE];
    (void)state;
    digest_hmac_sha256(STR("Jefe"), STR("what do ya want for nothing?"), sum);
    assert_hex(sum, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    digest_hmac_sha256((struct str){0}, (struct str){0}, sum);
    assert_hex(sum, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256_of_known_texts),
        cmocka_unit_test(test_hmac_of_known_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
