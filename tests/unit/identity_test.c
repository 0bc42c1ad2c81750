/* P3 as a whole: every combination of what log and server may say, against a list of reasons
 * not to go on that knows no order; then the stories a person meets, with their sentences. */
#include "replicator/identity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define S(literal) ((struct str){.p = (literal), .n = sizeof(literal) - 1})
#define PROVEN     UINT64_C(0x1000)

static struct identity_log
good_log(void)
{
    return (struct identity_log){.has_identity = true,
        .system_id = 7001,
        .timeline = 3,
        .database = S("app"),
        .slot = S("oneslot"),
        .slot_state = IDENTITY_SLOT_CREATED,
        .proven_lsn = PROVEN};
}

static struct identity_server
good_server(void)
{
    return (struct identity_server){.system_id = 7001,
        .timeline = 3,
        .database = S("app"),
        .wal_level = S("logical"),
        .wal_lsn = 0x3000,
        .slot = S("oneslot"),
        .has_slot = true,
        .plugin = S("pgoutput"),
        .slot_database = S("app"),
        .confirmed_flush_lsn = PROVEN,
        .wal_status = S("reserved")};
}

/* ---- every combination ---- */

enum slot_kind { FINE, PHYSICAL, OTHER_PLUGIN, OTHER_DATABASE, TEMPORARY, TWO_PHASE, NKINDS };

/* The combination number n; false once there are no more. */
static bool
combine(uint32_t n, struct identity_log *l, struct identity_server *s)
{
    *l = good_log();
    *s = good_server();
#define PICK(count) (pick = n % (count), n /= (count), pick)
    uint32_t pick;
    l->has_identity = PICK(2) == 0;
    l->system_id += PICK(2);
    s->timeline = 2 + PICK(3);
    l->database = PICK(2) ? S("other") : l->database;
    l->slot = PICK(2) ? S("other") : l->slot;
    l->slot_state = (uint8_t)PICK(3);
    l->is_empty = PICK(2);
    s->in_recovery = PICK(2);
    s->wal_level = PICK(2) ? S("replica") : s->wal_level;
    s->wal_lsn = PICK(3) * 0x0fff; /* unknown, behind the log, ahead of it */
    s->active_pid = PICK(2) ? 4711 : 0;
    s->confirmed_flush_lsn = (const uint64_t[]){0, PROVEN - 1, PROVEN, PROVEN + 1}[PICK(4)];
    switch (PICK(3)) {
    case 1:
        s->wal_status = S("lost");
        break;
    case 2:
        s->invalidation_reason = S("idle_timeout");
        break;
    default:
        break;
    }
    switch ((enum slot_kind)PICK(NKINDS)) {
    case PHYSICAL:
        s->plugin = S("");
        s->slot_database = S("");
        break;
    case OTHER_PLUGIN:
        s->plugin = S("test_decoding");
        break;
    case OTHER_DATABASE:
        s->slot_database = S("other");
        break;
    case TEMPORARY:
        s->is_temporary = true;
        break;
    case TWO_PHASE:
        s->is_two_phase = true;
        break;
    default:
        break;
    }
    s->has_slot = PICK(2) == 0;
#undef PICK
    return n == 0;
}

/* Whether a person must look, in no order. */
static bool
must_refuse(const struct identity_log *l, const struct identity_server *s)
{
    bool is_created = l->slot_state == IDENTITY_SLOT_CREATED;
    bool foreign =
        l->has_identity && (l->system_id != s->system_id || l->timeline != s->timeline ||
                               !str_eq(l->database, s->database) || !str_eq(l->slot, s->slot));
    bool torn = (!l->is_empty && !is_created) ||
                (!l->has_identity && l->slot_state != IDENTITY_SLOT_NONE);
    bool bad_server =
        !str_is(s->wal_level, "logical") || (s->wal_lsn != 0 && s->wal_lsn < l->proven_lsn);
    bool gone = is_created && !s->has_slot;
    bool bad_slot = s->has_slot &&
                    (!str_is(s->plugin, "pgoutput") || !str_eq(s->slot_database, s->database) ||
                        s->is_temporary || s->is_two_phase || str_is(s->wal_status, "lost") ||
                        s->invalidation_reason.n > 0);
    bool moved = s->has_slot && is_created && s->confirmed_flush_lsn > l->proven_lsn;
    bool not_ours = s->has_slot && l->slot_state == IDENTITY_SLOT_NONE;
    return foreign || torn || bad_server || gone || bad_slot || not_ours || moved;
}

static bool
may_wait(const struct identity_server *s)
{
    return s->in_recovery ||
           (s->has_slot && (s->active_pid != 0 || s->confirmed_flush_lsn == 0));
}

static void
check_combination(
    const struct identity_log *l, const struct identity_server *s, uint64_t seen[5])
{
    struct identity_decision d;
    identity_decide(l, s, &d);
    seen[d.action]++;
    if (must_refuse(l, s)) {
        assert_true(d.action == IDENTITY_REFUSE || (d.action == IDENTITY_WAIT && may_wait(s)));
    } else if (may_wait(s)) {
        assert_int_equal(d.action, IDENTITY_WAIT);
    } else if (!s->has_slot) {
        assert_int_equal(d.action, IDENTITY_CREATE_SLOT);
    } else if (l->slot_state == IDENTITY_SLOT_CREATED) {
        assert_true(d.action == IDENTITY_STREAM && d.lsn == l->proven_lsn);
    } else {
        assert_true(d.action == IDENTITY_ADOPT_SLOT && d.lsn == s->confirmed_flush_lsn);
        assert_int_equal(l->slot_state, IDENTITY_SLOT_INTENDED);
    }
    bool is_stuck = d.action == IDENTITY_REFUSE || d.action == IDENTITY_WAIT;
    assert_true(is_stuck == (d.message[0] != 0));
    assert_true(strlen(d.message) + 1 < sizeof d.message);
    assert_true(d.missing_to == 0 || (d.action == IDENTITY_REFUSE && d.missing_from == PROVEN));
}

static void
test_every_combination(void **state)
{
    (void)state;
    uint64_t seen[5] = {0};
    struct identity_log l;
    struct identity_server s;
    for (uint32_t n = 0; combine(n, &l, &s); n++) {
        check_combination(&l, &s, seen);
    }
    for (int i = 0; i < 5; i++) {
        assert_true(seen[i] > 0);
    }
}

/* ---- stories ---- */

static void
expect(const struct identity_log *l, const struct identity_server *s,
    enum identity_action action, const char *text)
{
    struct identity_decision d;
    identity_decide(l, s, &d);
    if (d.action != action || strstr(d.message, text) == NULL) {
        fail_msg("%s: \"%s\" (wanted %s: \"%s\")", identity_action_name(d.action), d.message,
            identity_action_name(action), text);
    }
}

static void
test_first_start_creates_the_slot(void **state)
{
    (void)state;
    struct identity_log l = {.is_empty = true};
    struct identity_server s = good_server();
    s.has_slot = false;
    expect(&l, &s, IDENTITY_CREATE_SLOT, "");
    l = good_log(); /* died after the intent, before the slot */
    l.is_empty = true;
    l.proven_lsn = 0;
    l.slot_state = IDENTITY_SLOT_INTENDED;
    expect(&l, &s, IDENTITY_CREATE_SLOT, "");
    s.has_slot = true; /* died after the slot, before its record */
    struct identity_decision d;
    identity_decide(&l, &s, &d);
    assert_true(d.action == IDENTITY_ADOPT_SLOT && d.lsn == PROVEN);
}

static void
test_slot_of_another_log_is_not_taken(void **state)
{
    (void)state;
    struct identity_log l = {.is_empty = true};
    struct identity_server s = good_server();
    expect(&l, &s, IDENTITY_REFUSE,
        "the slot \"oneslot\" exists, but this log has never used it: it belongs to another "
        "log "
        "or another reader; point data_dir at the log that owns it, or drop it first (`oneslot "
        "uninstall`, or SELECT pg_drop_replication_slot('oneslot'))");
    s.active_pid = 4711; /* its owner reads it: waiting would never end well */
    expect(&l, &s, IDENTITY_REFUSE, "belongs to another log");
    s.confirmed_flush_lsn = 0; /* its owner creates it */
    expect(&l, &s, IDENTITY_REFUSE, "belongs to another log");
}

static void
test_moved_slot_names_the_range(void **state)
{
    (void)state;
    struct identity_log l = good_log();
    struct identity_server s = good_server();
    s.confirmed_flush_lsn = 0x2F00;
    expect(&l, &s, IDENTITY_REFUSE,
        "the slot \"oneslot\" stands at 0/2F00, but this log holds changes only up to 0/1000");
    struct identity_decision d;
    identity_decide(&l, &s, &d);
    assert_true(d.missing_from == PROVEN && d.missing_to == 0x2F00);
    assert_non_null(strstr(d.message, "7936 bytes of WAL"));
    s.confirmed_flush_lsn = PROVEN - 1; /* a crashed server goes back, and sends again */
    expect(&l, &s, IDENTITY_STREAM, "");
    l.is_empty = true; /* created, nothing logged yet, moved all the same */
    s.confirmed_flush_lsn = PROVEN + 1;
    expect(&l, &s, IDENTITY_REFUSE, "stands at 0/1001");
}

static void
test_dropped_and_lost_slots_name_the_range(void **state)
{
    (void)state;
    struct identity_log l = good_log();
    struct identity_server s = good_server();
    s.has_slot = false;
    expect(&l, &s, IDENTITY_REFUSE,
        "the slot \"oneslot\" no longer exists; changes after 0/1000 up to a new slot's start "
        "(now 0/3000");
    s = good_server();
    s.wal_status = S("lost");
    expect(&l, &s, IDENTITY_REFUSE,
        "invalidated the slot \"oneslot\" (lost): changes after 0/1000");
    s.invalidation_reason = S("wal_removed");
    expect(&l, &s, IDENTITY_REFUSE, "(wal_removed)");
}

static void
test_other_sources(void **state)
{
    (void)state;
    struct identity_log l = good_log();
    struct identity_server s = good_server();
    s.system_id = 7002;
    expect(&l, &s, IDENTITY_REFUSE, "system identifier 7001, but source.dsn leads to 7002");
    s = good_server();
    s.database = s.slot_database = S("test");
    expect(&l, &s, IDENTITY_REFUSE, "the database \"app\", but source.dsn leads to \"test\"");
    s = good_server();
    s.slot = S("second");
    expect(&l, &s, IDENTITY_REFUSE, "the slot \"oneslot\", but source.slot is \"second\"");
    s = good_server();
    s.timeline = 2;
    expect(&l, &s, IDENTITY_REFUSE, "timeline 2, older than timeline 3");
    s.timeline = 4;
    expect(&l, &s, IDENTITY_REFUSE, "following a failover is not in this version");
    s = good_server();
    s.wal_lsn = PROVEN - 1;
    expect(&l, &s, IDENTITY_REFUSE, "the server's WAL ends at 0/FFF: it was restored");
    s = good_server();
    s.in_recovery = true;
    s.wal_lsn = 0;
    expect(&l, &s, IDENTITY_WAIT, "standby");
}

static void
test_other_slots(void **state)
{
    (void)state;
    struct identity_log l = good_log();
    struct identity_server s = good_server();
    s.plugin = S("test_decoding");
    expect(&l, &s, IDENTITY_REFUSE, "of the plugin test_decoding");
    s.plugin = S("");
    expect(&l, &s, IDENTITY_REFUSE, "a physical one");
    s = good_server();
    s.slot_database = S("test");
    expect(&l, &s, IDENTITY_REFUSE, "belongs to the database \"test\"");
    s = good_server();
    s.is_temporary = true;
    expect(&l, &s, IDENTITY_REFUSE, "temporary");
    s = good_server();
    s.is_two_phase = true;
    expect(&l, &s, IDENTITY_REFUSE, "two_phase");
    s = good_server();
    s.active_pid = 4711;
    expect(&l, &s, IDENTITY_WAIT, "process 4711");
    s = good_server();
    s.confirmed_flush_lsn = 0;
    expect(&l, &s, IDENTITY_WAIT, "still being created");
    s = good_server();
    s.wal_level = S("replica");
    expect(&l, &s, IDENTITY_REFUSE, "ALTER SYSTEM SET wal_level");
}

static void
test_log_without_its_slot(void **state)
{
    (void)state;
    struct identity_log l = good_log();
    struct identity_server s = good_server();
    l.slot_state = IDENTITY_SLOT_NONE;
    expect(&l, &s, IDENTITY_REFUSE, "does not know which slot");
    s.has_slot = false;
    expect(&l, &s, IDENTITY_REFUSE, "does not know which slot");
    l.slot_state = IDENTITY_SLOT_INTENDED;
    expect(&l, &s, IDENTITY_REFUSE, "does not know which slot");
}

/* Names at PostgreSQL's limit do not cut the sentence's end off. */
static void
test_longest_names(void **state)
{
    (void)state;
    static const char name[] =
        "a23456789b23456789c23456789d23456789e23456789f23456789g23456789";
    struct identity_log l = good_log();
    struct identity_server s = good_server();
    l.slot = s.slot = l.database = s.database = S(name);
    s.slot_database = S(name);
    l.proven_lsn = UINT64_MAX - 1;
    s.wal_lsn = s.confirmed_flush_lsn = UINT64_MAX;
    expect(&l, &s, IDENTITY_REFUSE, "in an empty data_dir");
    s.wal_status = S("lost");
    expect(&l, &s, IDENTITY_REFUSE, "in an empty data_dir");
    s.has_slot = false;
    expect(&l, &s, IDENTITY_REFUSE, "in an empty data_dir");
    s = good_server();
    s.slot = s.slot_database = S(name);
    expect(&l, &s, IDENTITY_REFUSE, "in an empty data_dir");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_combination),
        cmocka_unit_test(test_first_start_creates_the_slot),
        cmocka_unit_test(test_slot_of_another_log_is_not_taken),
        cmocka_unit_test(test_moved_slot_names_the_range),
        cmocka_unit_test(test_dropped_and_lost_slots_name_the_range),
        cmocka_unit_test(test_other_sources),
        cmocka_unit_test(test_other_slots),
        cmocka_unit_test(test_log_without_its_slot),
        cmocka_unit_test(test_longest_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
