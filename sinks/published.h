/* published: the tables that the source publishes now, and whether the sink's kind can take
 * those that the sink selects. Asks the broker; knows nothing of records and offsets. */
#ifndef ONESLOT_SINKS_PUBLISHED_H
#define ONESLOT_SINKS_PUBLISHED_H

#include "broker/client/client.h"
#include "sinks/worker.h"

struct published {
    uint32_t seen;      /* api_tables_sum of what was last looked at; 0: nothing yet */
    struct err refusal; /* code 0: the kind can take them all */
};

/* Looks where `tables`, of the session, says that the list is another one. A refusal is not an
 * error of this call: those are client_tables'. */
int published_look(struct published *p, const struct worker_conf *c, struct client *broker,
    uint32_t tables, struct err *e) MUST_CHECK;

#endif
