/* ack: what may be acknowledged to PostgreSQL (P1). Pure. The flush LSN is the end LSN of the
 * last transaction inside a durable batch, or a keepalive's LSN that is in the acknowledgement
 * ledger; it never goes back. An idle position travels to the ledger inside a batch like a
 * transaction does (FRAME_IDLE), so both become true by the same event: that batch is durable.
 */
#ifndef ONESLOT_REPLICATOR_ACK_H
#define ONESLOT_REPLICATOR_ACK_H

#include <stdbool.h>
#include <stdint.h>

enum { ACK_BATCHES = 4 }; /* handed over and not yet durable, at most */

struct ack {
    bool is_open;          /* between a transaction's begin and its commit */
    bool has_queued;       /* decoded, not handed over */
    uint64_t decoded_lsn;  /* end of what the batch being filled would prove */
    uint64_t idle_lsn;     /* latest keepalive that is true for all decoded so far */
    uint64_t received_lsn; /* for the status update's write field */
    uint64_t flush_lsn;
    uint64_t handed, durable;     /* tags: the last one of each */
    uint64_t proves[ACK_BATCHES]; /* by tag: what is proven once it is durable */
};

/* start_lsn: what log and ledger prove already (the append session's proven_lsn). A new
 * connection or a new session begins here again, for what was in flight is unknown. */
void ack_init(struct ack *a, uint64_t start_lsn);

/* In the order of the stream. A transaction begins when its Begin was decoded and ends with its
 * commit; one without records (servers before 15 send them) leaves nothing in a batch and
 * counts as a keepalive. */
void ack_begin(struct ack *a);
void ack_commit(struct ack *a, uint64_t end_lsn, bool has_records);
/* A transaction of its own: a message outside of any. */
void ack_message(struct ack *a, uint64_t lsn);
void ack_keepalive(struct ack *a, uint64_t lsn);

/* True when *ret_lsn (beyond the flush LSN) should go into the batch being filled as
 * FRAME_IDLE: no transaction is open, and nothing is queued or in flight. */
bool ack_idle_wanted(const struct ack *a, uint64_t *ret_lsn);
/* The FRAME_IDLE for the LSN that ack_idle_wanted gave is in the batch being filled. */
void ack_idle_queued(struct ack *a, uint64_t lsn);

/* The batch with everything decoded so far has gone to the broker; returns its tag. */
uint64_t ack_handover(struct ack *a);
bool ack_can_handover(const struct ack *a); /* fewer than ACK_BATCHES are in flight */
/* The flush LSN that ack_durable(tag) would lead to. */
uint64_t ack_would_flush(const struct ack *a, uint64_t tag);
/* That batch, and so every one before it, is on stable storage in log and ledger. */
void ack_durable(struct ack *a, uint64_t tag);

static inline bool
ack_in_flight(const struct ack *a)
{
    return a->handed != a->durable;
}

static inline uint64_t
ack_flush_lsn(const struct ack *a)
{
    return a->flush_lsn;
}

/* What has arrived, durable or not; never below the flush LSN. */
static inline uint64_t
ack_write_lsn(const struct ack *a)
{
    return a->received_lsn > a->flush_lsn ? a->received_lsn : a->flush_lsn;
}

#endif
