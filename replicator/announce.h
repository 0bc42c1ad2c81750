/* announce: tells the broker which tables are published, so that a sink that could not take one
 * of them need not wait for its first change to say so. Knows the plan and the call, nothing of
 * when. */
#ifndef ONESLOT_REPLICATOR_ANNOUNCE_H
#define ONESLOT_REPLICATOR_ANNOUNCE_H

#include "broker/client/client.h"
#include "replicator/publication.h"

/* will_be: as the plan says once it is carried out. Errors are the client's; ERR_TOOBIG: more
 * tables than a call takes; the broker then knows of none, and a sink stops at a first change.
 */
int announce_tables(struct client *broker, const struct publication_plan *p, bool will_be,
    struct err *e) MUST_CHECK;

#endif
