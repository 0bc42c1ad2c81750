/* schemas: the decoded schema versions that the readers of this broker share, by id. Ids are
 * never reused in a log, so an entry is right for good; it is a cache, loaded from the segments
 * on demand. Thread-safe. */
#ifndef ONESLOT_BROKER_SCHEMAS_H
#define ONESLOT_BROKER_SCHEMAS_H

#include "proto/schema.h"

struct schemas;
struct schemas *schemas_new(void);
void schemas_free(struct schemas *sc);
/* A reference that the caller gives back with schema_unref; NULL when it is not there. */
struct schema *schemas_get(struct schemas *sc, uint32_t id);
/* Decodes and keeps. Returns a reference. */
int schemas_put(struct schemas *sc, uint32_t id, struct str encoded, struct schema **ret,
    struct err *e) MUST_CHECK;

#endif
