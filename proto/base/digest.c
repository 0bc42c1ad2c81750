/* digest: see digest.h. */
#include "proto/base/digest.h"

#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include "proto/base/check.h"

/* libcrypto wants an address even for nothing. */
static const unsigned char *
bytes_of(struct str s)
{
    return (const unsigned char *)(s.p == NULL ? "" : s.p);
}

void
digest_sha256(struct str text, uint8_t ret[DIGEST_SHA256_SIZE])
{
    CHECK(SHA256(bytes_of(text), text.n, ret) != NULL);
}

void
digest_hmac_sha256(struct str key, struct str text, uint8_t ret[DIGEST_SHA256_SIZE])
{
    unsigned n = 0;
    CHECK(key.n <= INT_MAX);
    CHECK(
        HMAC(EVP_sha256(), bytes_of(key), (int)key.n, bytes_of(text), text.n, ret, &n) != NULL);
    CHECK(n == DIGEST_SHA256_SIZE);
}

void
digest_put_hex(struct buf *b, const uint8_t *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        char pair[2] = {digits[p[i] >> 4], digits[p[i] & 15]};
        buf_put(b, pair, sizeof pair);
    }
}
