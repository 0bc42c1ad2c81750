/* ack: see ack.h. Owns P1's arithmetic and nothing else: no clock, no connection. */
#include "replicator/ack.h"

#include "proto/base/check.h"

static void
raise_to(uint64_t *lsn, uint64_t to)
{
    if (to > *lsn) {
        *lsn = to;
    }
}

void
ack_init(struct ack *a, uint64_t start_lsn)
{
    *a = (struct ack){.decoded_lsn = start_lsn,
        .idle_lsn = start_lsn,
        .received_lsn = start_lsn,
        .flush_lsn = start_lsn};
}

void
ack_begin(struct ack *a)
{
    CHECK(!a->is_open);
    a->is_open = true;
}

static void
queue(struct ack *a, uint64_t end_lsn)
{
    raise_to(&a->decoded_lsn, end_lsn);
    raise_to(&a->received_lsn, end_lsn);
    a->has_queued = true;
}

void
ack_commit(struct ack *a, uint64_t end_lsn, bool has_records)
{
    CHECK(a->is_open);
    a->is_open = false;
    if (has_records) {
        queue(a, end_lsn);
    } else {
        ack_keepalive(a, end_lsn);
    }
}

void
ack_message(struct ack *a, uint64_t lsn)
{
    CHECK(!a->is_open);
    queue(a, lsn);
}

/* While a transaction is open its LSN proves nothing: the rest of that transaction is still to
 * come. */
void
ack_keepalive(struct ack *a, uint64_t lsn)
{
    raise_to(&a->received_lsn, lsn);
    if (!a->is_open) {
        raise_to(&a->idle_lsn, lsn);
    }
}

bool
ack_idle_wanted(const struct ack *a, uint64_t *ret_lsn)
{
    if (a->is_open || a->has_queued || ack_in_flight(a) || a->idle_lsn <= a->flush_lsn) {
        return false;
    }
    *ret_lsn = a->idle_lsn;
    return true;
}

void
ack_idle_queued(struct ack *a, uint64_t lsn)
{
    uint64_t wanted = 0;
    CHECK(ack_idle_wanted(a, &wanted) && lsn == wanted);
    queue(a, lsn);
}

bool
ack_can_handover(const struct ack *a)
{
    return a->handed - a->durable < ACK_BATCHES;
}

uint64_t
ack_handover(struct ack *a)
{
    CHECK(ack_can_handover(a));
    a->has_queued = false;
    a->handed++;
    a->proves[a->handed % ACK_BATCHES] = a->decoded_lsn;
    return a->handed;
}

uint64_t
ack_would_flush(const struct ack *a, uint64_t tag)
{
    CHECK(tag > a->durable && tag <= a->handed);
    uint64_t lsn = a->flush_lsn;
    raise_to(&lsn, a->proves[tag % ACK_BATCHES]);
    return lsn;
}

void
ack_durable(struct ack *a, uint64_t tag)
{
    CHECK(tag > a->durable && tag <= a->handed);
    a->durable = tag;
    raise_to(&a->flush_lsn, a->proves[tag % ACK_BATCHES]);
}
