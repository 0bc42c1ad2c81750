/* P1, exhaustively: every order of the stream's and the broker's events up to a length, against
 * a model that remembers each transaction by itself. The server here is harsher than a real
 * one: while a transaction is open its keepalives lie beyond that transaction's end, and so do
 * those sent while a batch is in flight. Each weakened rule at the end must be caught, so the
 * walk itself cannot be blind. */
#include "replicator/ack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { START = 100, MAX_TXNS = 12, IN_FLIGHT = 2 };

/* What the server sent and what of it is where. */
enum where { OPEN, QUEUED, SENT, DURABLE };
struct txn {
    uint64_t end;
    enum where where;
    uint64_t tag;
    bool is_idle; /* a position for the ledger */
};

struct model {
    uint64_t wal; /* the server's clock: grows with everything */
    bool is_open;
    struct txn open;
    struct txn txns[MAX_TXNS];
    size_t ntxns;
    uint64_t idle; /* latest keepalive outside of a transaction */
    uint64_t handed, durable;
    uint64_t flush; /* what ack said last */
};

/* ---- the rule, and ways to weaken it ---- */

enum weakness {
    NONE,
    KEEPALIVE_WHILE_OPEN,      /* takes a keepalive inside a transaction for true */
    KEEPALIVE_WHILE_QUEUED,    /* ledgers one while a decoded transaction waits */
    KEEPALIVE_WHILE_IN_FLIGHT, /* ledgers one while a batch is in flight */
    KEEPALIVE_AT_ONCE,         /* acknowledges it without the ledger */
    COMMIT_AT_ONCE,            /* acknowledges a commit when it was decoded */
    COMMIT_AT_HANDOVER,        /* acknowledges a batch when it was sent */
    DURABLE_MEANS_ALL,         /* a durable batch acknowledges what was decoded since */
    GOES_BACK,                 /* acknowledges an older batch again */
    NEVER_IDLE,                /* forgets keepalives */
    EMPTY_FORGOTTEN,           /* an empty transaction counts for nothing */
    NWEAKNESSES
};

static void
keepalive(struct ack *a, enum weakness w, uint64_t lsn)
{
    bool was_open = a->is_open;
    if (w == KEEPALIVE_WHILE_OPEN) {
        a->is_open = false;
    }
    if (w != NEVER_IDLE) {
        ack_keepalive(a, lsn);
    }
    a->is_open = was_open;
    if (w == KEEPALIVE_AT_ONCE && !a->is_open && lsn > a->flush_lsn) {
        a->flush_lsn = lsn;
    }
}

static bool
idle_wanted(struct ack *a, enum weakness w, uint64_t *ret_lsn)
{
    struct ack weak = *a;
    if (w == KEEPALIVE_WHILE_QUEUED) {
        weak.has_queued = false;
    } else if (w == KEEPALIVE_WHILE_IN_FLIGHT) {
        weak.durable = weak.handed;
    } else if (w == KEEPALIVE_WHILE_OPEN) {
        weak.is_open = false;
    }
    return ack_idle_wanted(&weak, ret_lsn);
}

static void
commit(struct ack *a, enum weakness w, uint64_t end, bool has_records)
{
    if (w == EMPTY_FORGOTTEN && !has_records) {
        a->is_open = false;
        return;
    }
    ack_commit(a, end, has_records);
    if (w == COMMIT_AT_ONCE && has_records) {
        a->flush_lsn = end;
    }
}

static uint64_t
handover(struct ack *a, enum weakness w)
{
    uint64_t tag = ack_handover(a);
    if (w == COMMIT_AT_HANDOVER) {
        a->flush_lsn = a->decoded_lsn;
    }
    return tag;
}

static void
durable(struct ack *a, enum weakness w, uint64_t tag)
{
    ack_durable(a, tag);
    if (w == DURABLE_MEANS_ALL) {
        a->flush_lsn = a->decoded_lsn;
    } else if (w == GOES_BACK && tag > 1) {
        a->flush_lsn = a->proves[(tag - 1) % ACK_BATCHES];
    }
}

/* ---- the model ---- */

static uint64_t
provable(const struct model *m)
{
    uint64_t lsn = START;
    for (size_t i = 0; i < m->ntxns; i++) {
        if (m->txns[i].where == DURABLE && m->txns[i].end > lsn) {
            lsn = m->txns[i].end;
        }
    }
    return lsn;
}

/* Something decoded is not durable. */
static bool
is_pending(const struct model *m)
{
    for (size_t i = 0; i < m->ntxns; i++) {
        if (m->txns[i].where != DURABLE) {
            return true;
        }
    }
    return m->is_open || m->handed != m->durable;
}

/* NULL, or what is wrong. */
static const char *
verdict(struct model *m, struct ack *a, enum weakness w)
{
    uint64_t flush = ack_flush_lsn(a), lsn = 0;
    if (flush < m->flush) {
        return "the flush LSN went back";
    }
    m->flush = flush;
    if (m->is_open && m->open.end <= flush) {
        return "an open transaction is acknowledged";
    }
    for (size_t i = 0; i < m->ntxns; i++) {
        if (m->txns[i].end <= flush && m->txns[i].where != DURABLE) {
            return "a transaction is acknowledged before it is durable";
        }
    }
    if (flush != provable(m)) {
        return "the flush LSN is not the end of what is proven";
    }
    if (ack_write_lsn(a) < flush) {
        return "the write LSN is behind the flush LSN";
    }
    bool is_wanted = idle_wanted(a, w, &lsn);
    bool should = !is_pending(m) && m->idle > flush;
    if (is_wanted != should || (should && lsn != m->idle)) {
        return "an idle position is wanted though something is pending, or is not though "
               "nothing is";
    }
    return NULL;
}

enum event {
    BEGIN,
    COMMIT,
    COMMIT_EMPTY,
    MESSAGE,
    KEEPALIVE,
    KEEPALIVE_OLD, /* from before: it says nothing new */
    IDLE,
    HANDOVER,
    DURABLE_NEXT,
    DURABLE_ALL,
    NEVENTS
};
static const char *const event_names[] = {"begin", "commit", "empty commit", "message",
    "keepalive", "old keepalive", "idle", "handover", "durable", "all durable"};

static bool
is_possible(const struct model *m, const struct ack *a, enum event ev)
{
    uint64_t lsn = 0;
    switch (ev) {
    case BEGIN:
    case MESSAGE:
        return !m->is_open && m->ntxns < MAX_TXNS - 1;
    case COMMIT:
    case COMMIT_EMPTY:
        return m->is_open;
    case KEEPALIVE:
    case KEEPALIVE_OLD:
        return true;
    case IDLE:
        return ack_idle_wanted(a, &lsn) && m->ntxns < MAX_TXNS - 1;
    case HANDOVER:
        return m->handed - m->durable < IN_FLIGHT;
    case DURABLE_NEXT:
        return m->handed != m->durable;
    case DURABLE_ALL:
        return m->handed - m->durable > 1;
    default:
        return false;
    }
}

static void
add(struct model *m, uint64_t end, bool is_idle)
{
    m->txns[m->ntxns++] = (struct txn){.end = end, .where = QUEUED, .is_idle = is_idle};
}

static void
become_durable(struct model *m, uint64_t tag)
{
    m->durable = tag;
    for (size_t i = 0; i < m->ntxns; i++) {
        if (m->txns[i].where == SENT && m->txns[i].tag <= tag) {
            m->txns[i].where = DURABLE;
        }
    }
}

static void
do_commit(struct model *m, struct ack *a, enum weakness w, bool has_records)
{
    m->is_open = false;
    if (has_records) {
        add(m, m->open.end, false);
    } else if (m->open.end > m->idle) {
        m->idle = m->open.end;
    }
    commit(a, w, m->open.end, has_records);
}

static void
do_handover(struct model *m, struct ack *a, enum weakness w)
{
    m->handed++;
    for (size_t i = 0; i < m->ntxns; i++) {
        if (m->txns[i].where == QUEUED) {
            m->txns[i].where = SENT;
            m->txns[i].tag = m->handed;
        }
    }
    assert_true(handover(a, w) == m->handed);
}

static void
step(struct model *m, struct ack *a, enum weakness w, enum event ev)
{
    uint64_t lsn = 0;
    m->wal += 10;
    switch (ev) {
    case BEGIN: /* the end is settled by now, though we hear of it later */
        m->is_open = true;
        m->open = (struct txn){.end = m->wal};
        ack_begin(a);
        break;
    case COMMIT:
    case COMMIT_EMPTY:
        do_commit(m, a, w, ev == COMMIT);
        break;
    case MESSAGE:
        add(m, m->wal, false);
        ack_message(a, m->wal);
        break;
    case KEEPALIVE:
        if (!m->is_open) {
            m->idle = m->wal;
        }
        keepalive(a, w, m->wal);
        break;
    case KEEPALIVE_OLD:
        keepalive(a, w, START - 1);
        break;
    case IDLE:
        assert_true(ack_idle_wanted(a, &lsn));
        add(m, lsn, true);
        ack_idle_queued(a, lsn);
        break;
    case HANDOVER:
        do_handover(m, a, w);
        break;
    case DURABLE_NEXT:
    case DURABLE_ALL:
        become_durable(m, ev == DURABLE_NEXT ? m->durable + 1 : m->handed);
        durable(a, w, m->durable);
        break;
    default:
        break;
    }
}

/* From any state, once nothing is open: everything becomes durable, then the latest keepalive
 * does. */
static const char *
settle(struct model m, struct ack a, enum weakness w)
{
    uint64_t lsn = 0;
    if (m.is_open) {
        return NULL;
    }
    for (int round = 0; round < 2; round++) {
        if (m.handed - m.durable < IN_FLIGHT) {
            step(&m, &a, w, HANDOVER);
        }
        while (m.handed != m.durable) {
            step(&m, &a, w, DURABLE_NEXT);
        }
        if (ack_idle_wanted(&a, &lsn)) {
            step(&m, &a, w, IDLE);
        }
    }
    if (a.has_queued) {
        step(&m, &a, w, HANDOVER);
        step(&m, &a, w, DURABLE_NEXT);
    }
    return ack_flush_lsn(&a) < m.idle ? "an idle stream does not advance to its keepalive"
                                      : NULL;
}

struct walk {
    enum weakness weakness;
    int depth;
    uint64_t nodes;
    const char *wrong;
    enum event path[16];
    int at;
};

static void
explore(struct walk *walk, const struct model *m, const struct ack *a)
{
    for (enum event ev = 0; walk->wrong == NULL && walk->at < walk->depth && ev < NEVENTS;
         ev++) {
        if (!is_possible(m, a, ev)) {
            continue;
        }
        struct model m2 = *m;
        struct ack a2 = *a;
        step(&m2, &a2, walk->weakness, ev);
        walk->nodes++;
        walk->path[walk->at++] = ev;
        walk->wrong = verdict(&m2, &a2, walk->weakness);
        if (walk->wrong == NULL) {
            walk->wrong = settle(m2, a2, walk->weakness);
        }
        if (walk->wrong != NULL) {
            return; /* the path stays for the message */
        }
        explore(walk, &m2, &a2);
        walk->at--;
    }
}

static struct walk
explore_all(enum weakness weakness, int depth)
{
    struct walk walk = {.weakness = weakness, .depth = depth};
    struct model m = {.wal = START, .flush = START};
    struct ack a;
    ack_init(&a, START);
    explore(&walk, &m, &a);
    return walk;
}

static void
test_all_orders(void **state)
{
    (void)state;
    const char *soak = getenv("ONESLOT_SOAK");
    struct walk walk = explore_all(NONE, soak == NULL ? 9 : 11);
    for (int i = 0; walk.wrong != NULL && i < walk.at; i++) {
        print_error("%s, ", event_names[walk.path[i]]);
    }
    if (walk.wrong != NULL) {
        fail_msg("%s", walk.wrong);
    }
    assert_true(walk.nodes > 100000);
}

static void
test_weakened_rules_are_caught(void **state)
{
    (void)state;
    for (enum weakness w = NONE + 1; w < NWEAKNESSES; w++) {
        struct walk walk = explore_all(w, 7);
        if (walk.wrong == NULL) {
            fail_msg(
                "weakness %d went unnoticed in %lu orders", (int)w, (unsigned long)walk.nodes);
        }
    }
}

/* The story of a fast shutdown: the server waits until the flush LSN is its own position. */
static void
test_idle_position_reaches_the_ledger_first(void **state)
{
    (void)state;
    struct ack a;
    uint64_t lsn = 0;
    ack_init(&a, 100);
    assert_true(ack_flush_lsn(&a) == 100 && ack_write_lsn(&a) == 100);
    ack_begin(&a);
    ack_commit(&a, 200, true);
    uint64_t tag = ack_handover(&a);
    ack_keepalive(&a, 300);
    assert_false(ack_idle_wanted(&a, &lsn));
    assert_true(ack_flush_lsn(&a) == 100 && ack_write_lsn(&a) == 300);
    ack_durable(&a, tag);
    assert_true(ack_flush_lsn(&a) == 200);
    assert_true(ack_idle_wanted(&a, &lsn) && lsn == 300);
    ack_idle_queued(&a, lsn);
    assert_false(ack_idle_wanted(&a, &lsn));
    tag = ack_handover(&a);
    assert_true(ack_flush_lsn(&a) == 200);
    ack_durable(&a, tag);
    assert_true(ack_flush_lsn(&a) == 300 && !ack_idle_wanted(&a, &lsn));
}

/* A giant transaction goes in parts: its parts prove nothing. */
static void
test_part_of_a_transaction_proves_nothing(void **state)
{
    (void)state;
    struct ack a;
    ack_init(&a, 100);
    ack_begin(&a);
    ack_durable(&a, ack_handover(&a));
    ack_durable(&a, ack_handover(&a));
    assert_true(ack_flush_lsn(&a) == 100);
    ack_commit(&a, 200, true);
    assert_true(ack_flush_lsn(&a) == 100);
    ack_durable(&a, ack_handover(&a));
    assert_true(ack_flush_lsn(&a) == 200);
}

/* A server that crashed sends again what the log has: nothing goes back meanwhile. */
static void
test_sent_again(void **state)
{
    (void)state;
    struct ack a;
    uint64_t lsn = 0;
    ack_init(&a, 100);
    ack_begin(&a);
    ack_commit(&a, 50, true);
    ack_keepalive(&a, 60);
    ack_durable(&a, ack_handover(&a));
    assert_true(
        ack_flush_lsn(&a) == 100 && ack_write_lsn(&a) == 100 && !ack_idle_wanted(&a, &lsn));
    ack_message(&a, 110);
    ack_begin(&a);
    ack_commit(&a, 70, true);
    ack_durable(&a, ack_handover(&a));
    assert_true(ack_flush_lsn(&a) == 110);
}

static void
test_as_many_batches_as_it_remembers(void **state)
{
    (void)state;
    struct ack a;
    uint64_t tag[ACK_BATCHES];
    ack_init(&a, 100);
    for (int round = 0; round < 3; round++) {
        uint64_t from = ack_flush_lsn(&a);
        for (unsigned i = 0; i < ACK_BATCHES; i++) {
            assert_true(ack_can_handover(&a));
            ack_message(&a, from + i + 1);
            tag[i] = ack_handover(&a);
        }
        assert_false(ack_can_handover(&a));
        for (unsigned i = 0; i < ACK_BATCHES; i++) {
            ack_durable(&a, tag[i]);
            assert_true(ack_flush_lsn(&a) == from + i + 1);
        }
    }
}

/* What a durable batch would let us acknowledge is known before anything is. */
static void
test_would_flush_changes_nothing(void **state)
{
    (void)state;
    struct ack a;
    ack_init(&a, START);
    ack_message(&a, START + 5);
    uint64_t first = ack_handover(&a);
    ack_message(&a, START + 9);
    uint64_t second = ack_handover(&a);
    assert_int_equal(ack_would_flush(&a, first), START + 5);
    assert_int_equal(ack_would_flush(&a, second), START + 9);
    assert_int_equal(ack_flush_lsn(&a), START);
    ack_durable(&a, second);
    assert_int_equal(ack_flush_lsn(&a), START + 9);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_orders),
        cmocka_unit_test(test_weakened_rules_are_caught),
        cmocka_unit_test(test_idle_position_reaches_the_ledger_first),
        cmocka_unit_test(test_part_of_a_transaction_proves_nothing),
        cmocka_unit_test(test_sent_again),
        cmocka_unit_test(test_would_flush_changes_nothing),
        cmocka_unit_test(test_as_many_batches_as_it_remembers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
