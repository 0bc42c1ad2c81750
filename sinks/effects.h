/* effects: what has to be durable in the broker before a record may count as settled: a dead
 * letter, letters that are no longer needed, a request to read a row again. One call each.
 * Knows the broker through client.h; nothing of lanes or targets. */
#ifndef ONESLOT_SINKS_EFFECTS_H
#define ONESLOT_SINKS_EFFECTS_H

#include "broker/client/client.h"
#include "proto/record.h"

struct effects {
    struct client *client; /* borrowed */
    const char *name;      /* of the sink */
    uint64_t generation;   /* of the session */
    struct buf key;        /* of the record last asked about */
    struct buf former;     /* likewise */
    struct buf record;     /* a batch of one */
};

void effects_init(struct effects *x, struct client *client, const char *name);
void effects_fini(struct effects *x);

/* The bytes of proto/record_key.h; empty where the record has no key, or is no key change and
 * so has no former one. Each is valid until x is asked for the like again. */
struct str effects_key(struct effects *x, const struct record *r);
struct str effects_former_key(struct effects *x, const struct record *r);
struct str effects_table_key(struct effects *x, const struct record *r);

/* state: DEAD with the record's frame, or REREAD. is_whole: as in struct api_bury. reason:
 * without row values. */
int effects_bury(struct effects *x, const struct record *r, struct str frame, uint8_t state,
    bool is_whole, const char *reason, struct err *e) MUST_CHECK;
int effects_raise(struct effects *x, struct str key, bool is_prefix, uint64_t offset,
    struct err *e) MUST_CHECK;
/* For the row of a record that has a key; doubt: as in client_reread. */
int effects_ask(struct effects *x, const struct record *r, const struct api_doubt *doubt,
    struct err *e) MUST_CHECK;

#endif
