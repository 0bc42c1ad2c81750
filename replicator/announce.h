/* announce: tells the broker which tables are published, so that a sink that could not take one
 * of them says so before its first change comes. Knows the plan and the call, nothing of when.
 */
#ifndef ONESLOT_REPLICATOR_ANNOUNCE_H
#define ONESLOT_REPLICATOR_ANNOUNCE_H

#include "broker/client/client.h"
#include "replicator/publication.h"

/* will_be: as the plan says once it is carried out. Errors are the client's; more tables than a
 * call takes are only warned about, for the sinks see them in their records too. */
int announce_tables(struct client *broker, const struct publication_plan *p, bool will_be,
    struct err *e) MUST_CHECK;

#endif
