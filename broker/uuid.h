/* uuid: the identity of a log: 16 random bytes, as text "8-4-4-4-12". */
#ifndef ONESLOT_BROKER_UUID_H
#define ONESLOT_BROKER_UUID_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/str.h"

enum { UUID_BYTES = 16, UUID_TEXT_MAX = 37 };

int uuid_make(uint8_t to[UUID_BYTES], struct err *e) MUST_CHECK; /* random (version 4) */
void uuid_format(const uint8_t uuid[UUID_BYTES], char to[UUID_TEXT_MAX]);
bool uuid_parse(struct str text, uint8_t to[UUID_BYTES]);

#endif
