/* monitor: what /lag says about the source. A thread with connections of its own (one to
 * PostgreSQL, one to the broker), so that it goes on while the stream is busy, blocked or gone.
 * Others tell it states and positions; it asks the server for the rest every 2 s and posts
 * both, and looks every 15 seconds whether every selected table is still published. Nothing
 * depends on it. */
#ifndef ONESLOT_REPLICATOR_MONITOR_H
#define ONESLOT_REPLICATOR_MONITOR_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/api.h"
#include "proto/base/conf.h"
#include "proto/base/err.h"

struct monitor_conf { /* borrowed as long as the monitor lives */
    const char *append_socket;
    const char *dsn, *password_file, *slot, *publication;
    const struct conf_list *tables; /* patterns of what should be published */
    int stop_fd;
};

struct monitor;
int monitor_open(const struct monitor_conf *c, struct monitor **ret, struct err *e) MUST_CHECK;
void monitor_close(struct monitor *m); /* accepts NULL */

/* All of these may be called from any thread and never wait. */
/* error: a sentence for last_error, or NULL. Posted at once when it is news. */
void monitor_set_state(struct monitor *m, enum api_source_state state, const char *error);
void monitor_set_progress(struct monitor *m, uint64_t received_lsn, uint64_t acked_lsn);
/* Why rows that a sink asked for cannot be read again, or NULL; for last_error while streaming.
 */
void monitor_set_reread(struct monitor *m, const char *error);
/* While a slot is being created last_error says which open transaction that waits for. */
void monitor_set_creating(struct monitor *m, bool is_creating);

#endif
