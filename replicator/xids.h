/* xids: is everything that the log holds visible in an MVCC snapshot? A commit record is sent
 * before its transaction becomes visible to others (it may wait long between, for a synchronous
 * standby), so rows that are read may be older than changes already logged. Keeps which
 * transactions this session has logged, one bit each in a window over the youngest ids, and
 * decides. Pure. */
#ifndef ONESLOT_REPLICATOR_XIDS_H
#define ONESLOT_REPLICATOR_XIDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/str.h"

enum {
    XIDS_WINDOW = 1 << 22,     /* ids that are told apart; 512 KiB */
    SNAPSHOT_XIP_MAX = 1 << 20 /* in progress; bounded by max_connections and prepared ones */
};

/* pg_current_snapshot(): below xmax all ids are visible but those in xip; from xmax on none. */
struct snapshot {
    uint64_t xmin, xmax;
    uint64_t *xip; /* owned, growing */
    size_t n;
};
/* Its text "xmin:xmax:xip,xip". ERR_PROTOCOL. */
int snapshot_parse(struct str text, struct snapshot *ret, struct err *e) MUST_CHECK;
void snapshot_fini(struct snapshot *s); /* accepts a zeroed one */

struct xids {
    uint64_t from;   /* a logged id at or above it was logged by this session */
    uint64_t newest; /* the highest id seen, from - 1 at first */
    uint64_t *bits;  /* of the XIDS_WINDOW ids up to newest; allocated with the first */
};
/* from: catalog_xmax, asked once the append session was open (the ids that an earlier session
 * has logged are below it). */
void xids_init(struct xids *x, uint64_t from);
void xids_fini(struct xids *x); /* accepts a zeroed one */
/* A transaction with records goes to the log; its id as pgoutput has it (the low half). */
void xids_add(struct xids *x, uint32_t xid);

enum xids_verdict {
    XIDS_VISIBLE, /* all that is logged is visible */
    XIDS_HIDDEN,  /* a logged transaction is not */
    XIDS_UNKNOWN  /* one in progress may be a logged one: it is older than this session, or than
                     the window */
};
enum xids_verdict xids_check(const struct xids *x, const struct snapshot *s);

#endif
