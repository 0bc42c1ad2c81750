/* digest: SHA-256 and HMAC-SHA-256 (over OpenSSL's libcrypto, which only digest.c includes).
 * Pure; any thread. */
#ifndef ONESLOT_BASE_DIGEST_H
#define ONESLOT_BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/str.h"

enum { DIGEST_SHA256_SIZE = 32 };

void digest_sha256(struct str text, uint8_t ret[DIGEST_SHA256_SIZE]);
/* A key of any length, an empty one included. */
void digest_hmac_sha256(struct str key, struct str text, uint8_t ret[DIGEST_SHA256_SIZE]);
/* Appends n bytes as 2 * n lower-case hex digits. */
void digest_put_hex(struct buf *b, const uint8_t *p, size_t n);

#endif
