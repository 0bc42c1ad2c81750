/* lsn: PostgreSQL's log sequence numbers as text, "16/B374D848". */
#ifndef ONESLOT_PROTO_LSN_H
#define ONESLOT_PROTO_LSN_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/str.h"

#define LSN_FMT      "%" PRIX32 "/%" PRIX32
#define LSN_ARG(lsn) (uint32_t)((lsn) >> 32), (uint32_t)(lsn)

enum { LSN_TEXT_MAX = 18 };
size_t lsn_format(uint64_t lsn, char to[LSN_TEXT_MAX]);
bool lsn_parse(struct str text, uint64_t *ret_lsn);

#endif
