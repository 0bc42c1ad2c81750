/* identity: may this log go on with this slot of this server (P3)? A pure decision before any
 * streaming, from what the log knows and what PostgreSQL says. What it does not refuse misses
 * nothing. */
#ifndef ONESLOT_REPLICATOR_IDENTITY_H
#define ONESLOT_REPLICATOR_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/str.h"

/* What the log says; the members of struct api_source by the same names. */
enum identity_slot_state {
    IDENTITY_SLOT_NONE = 0,
    IDENTITY_SLOT_INTENDED = 1, /* in the ledger before the slot was to be created */
    IDENTITY_SLOT_CREATED = 2
};

struct identity_log {
    bool has_identity; /* the four below are known */
    uint64_t system_id;
    uint32_t timeline;
    struct str database, slot;
    uint8_t slot_state; /* enum identity_slot_state */
    uint64_t proven_lsn;
    bool is_empty; /* no record was ever logged */
};

struct identity_server {
    uint64_t system_id;
    uint32_t timeline;
    struct str database;
    struct str wal_level;
    bool in_recovery;
    uint64_t wal_lsn; /* pg_current_wal_lsn(); 0 where it cannot be asked (in recovery) */
    struct str slot;  /* the configured name */
    bool has_slot;    /* the rest: its row in pg_replication_slots, views empty where NULL */
    struct str plugin;
    struct str slot_database;
    uint64_t confirmed_flush_lsn; /* 0: NULL */
    struct str wal_status;
    struct str invalidation_reason; /* from 17 */
    int32_t active_pid;             /* 0: nobody */
    bool is_temporary, is_two_phase;
};

enum identity_action {
    IDENTITY_CREATE_SLOT, /* record the intent, then create it */
    IDENTITY_ADOPT_SLOT, /* ours, for it was intended: record it as created, beginning at lsn */
    IDENTITY_STREAM,     /* from lsn */
    IDENTITY_WAIT,       /* may pass by itself: try again later */
    IDENTITY_REFUSE      /* a person must look */
};

struct identity_decision {
    enum identity_action action;
    uint64_t lsn; /* ADOPT: where the log begins; STREAM: what the log proves */
    uint64_t missing_from,
        missing_to;    /* REFUSE: the range that may be lost; both 0 where that is not it */
    char message[480]; /* what, and what to do; empty when there is nothing to say */
};

void identity_decide(const struct identity_log *l, const struct identity_server *s,
    struct identity_decision *ret);

const char *identity_action_name(enum identity_action action);

#endif
