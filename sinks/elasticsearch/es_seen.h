/* es_seen: the aliases that this process has written through, over all lanes and sessions: one
 * process is one sink. So an index that is missing now though it was there is told from one
 * that a new table needs: the lane that looks may never have seen it, and a session that
 * stopped for it is opened again. What was before the process began it does not know. Any
 * thread. */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_SEEN_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_SEEN_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/str.h"

/* The alias stood for the right index when the record of that offset was to be written. */
void es_seen_put(struct str alias, uint64_t offset);
/* True when it did so for a record before this offset: documents were written, and a new index
 * would lack them. */
bool es_seen_before(struct str alias, uint64_t offset);
/* The sink stands at next (a session was opened): what was seen from there on comes again. */
void es_seen_again(uint64_t next);

#endif
