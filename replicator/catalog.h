/* catalog: what we ask PostgreSQL about itself: the server, the role, the slot, the cluster's
 * identity, a table's primary key; and the commands that create and drop a slot. It reads and
 * reports; what follows from it is decided elsewhere (identity, publication, source).
 * Publications have a file of their own. */
#ifndef ONESLOT_REPLICATOR_CATALOG_H
#define ONESLOT_REPLICATOR_CATALOG_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "replicator/pgconn.h"

enum {
    CATALOG_NAME = 64 /* NAMEDATALEN */,
    CATALOG_QUERY_MS = 30 * 1000,
    CATALOG_KEY_MS = 5 * 1000, /* the stream stands still meanwhile */
    CATALOG_KEYS_MAX = 32
};

struct catalog_server {
    char role[CATALOG_NAME], database[CATALOG_NAME];
    char wal_level[16];
    bool can_replicate; /* superuser or REPLICATION */
    bool in_recovery;
    int64_t slots, max_slots;     /* in use */
    int64_t senders, max_senders; /* in use */
    int64_t max_slot_wal_keep_mb; /* -1: no limit */
    int64_t idle_slot_timeout_s;  /* 0: none (PostgreSQL 18) */
};
int catalog_server(struct pgconn *c, struct catalog_server *ret, struct err *e) MUST_CHECK;

/* IDENTIFY_SYSTEM: c is a replication connection. */
struct catalog_system {
    uint64_t system_id;
    uint32_t timeline;
    char database[CATALOG_NAME];
};
int catalog_system(struct pgconn *c, struct catalog_system *ret, struct err *e) MUST_CHECK;

struct catalog_slot {
    bool exists;
    char plugin[CATALOG_NAME], database[CATALOG_NAME];
    bool is_logical, is_temporary, two_phase;
    int64_t active_pid; /* 0: nobody reads it */
    bool has_restart, has_confirmed;
    uint64_t restart_lsn, confirmed_lsn;
    char wal_status[16];         /* reserved, extended, unreserved, lost; empty: unknown */
    char invalidation[32];       /* PostgreSQL 17: why it is lost; empty: it is not */
    bool has_safe, has_retained; /* unknown without a limit; on a lost slot */
    int64_t safe_wal_bytes, retained_wal_bytes;
    uint64_t server_lsn; /* end of WAL (a standby's: of replay) */
};
int catalog_slot(
    struct pgconn *c, const char *name, struct catalog_slot *ret, struct err *e) MUST_CHECK;

/* c is a replication connection. Waits for every transaction that is writing now, however long
 * that takes; a stop cancels it. No snapshot is exported. */
int catalog_create_slot(
    struct pgconn *c, const char *name, uint64_t *ret_consistent_lsn, struct err *e) MUST_CHECK;
int catalog_drop_slot(struct pgconn *c, const char *name, struct err *e) MUST_CHECK;

/* No transaction whose id is at or above *ret has committed yet, visible to others or not. c is
 * a plain connection. */
int catalog_xmax(struct pgconn *c, uint64_t *ret, struct err *e) MUST_CHECK;

/* What a slot creation probably waits for: "pid 4711, role app, open for 360 s"; empty when
 * there is nothing. */
int catalog_oldest_writer(struct pgconn *c, struct buf *text, struct err *e) MUST_CHECK;

/* Primary key columns of a table as it is now, in index order; n 0: it has none, is gone, or is
 * deferrable: a key that two rows share for a moment does not name a row. */
struct catalog_key {
    unsigned n;
    char column[CATALOG_KEYS_MAX][CATALOG_NAME];
};
int catalog_key(
    struct pgconn *c, uint32_t relid, struct catalog_key *ret, struct err *e) MUST_CHECK;

#endif
