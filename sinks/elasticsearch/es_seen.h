/* es_seen: the aliases that any lane of this process has found or made, and where the sink
 * stood then. An alias that is gone later held what is settled: it must not be made anew,
 * empty, by a lane that has not met the table yet, or when a stopped sink is opened again. Only
 * a replay from before that place may make it. Shared by all threads; lives as long as the
 * process. */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_SEEN_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_SEEN_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/str.h"

/* next: everything below it is settled. The lowest one counts. */
void es_seen_put(const uint8_t uuid[16], struct str alias, uint64_t next);
/* True when the alias was there while the sink stood below next. */
bool es_seen_before(const uint8_t uuid[16], struct str alias, uint64_t next);

#endif
