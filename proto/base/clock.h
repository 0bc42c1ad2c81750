/* clock: one monotonic clock in ms for timeouts, wall time in us since 1970 for people and
 * indexes. */
#ifndef ONESLOT_BASE_CLOCK_H
#define ONESLOT_BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/str.h"

int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);
int64_t clock_wall_us(void);
void clock_sleep_ms(int64_t ms);

/* RFC 3339 in UTC with six fractional digits, "2026-11-22T10:00:00.123456Z". CLOCK_TEXT_MAX
 * covers years -290000..294276 (PostgreSQL's range); years beyond 9999 or before 0 are written
 * with a sign. */
enum { CLOCK_TEXT_MAX = 40 };
size_t clock_format_us(int64_t wall_us, char to[CLOCK_TEXT_MAX]);
/* Parses RFC 3339 with `Z` or an offset, fraction optional; false when it is not one. */
bool clock_parse_us(struct str text, int64_t *ret_wall_us);

#endif
