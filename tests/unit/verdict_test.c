/* verdict: every combination of verdicts and keys in writes of 1 to 3 records, every error, and
 * rejections in a row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "record_support.h"
#include "sinks/verdict.h"

enum { KINDS = VERDICT_REREAD + 1, MAX_N = 3, NKEYS = 3 };

static struct schema *item;
static struct record_value partial[SUPPORT_NCOLS] = {
    {.kind = RECORD_TEXT, .text = S("1")}, {.kind = RECORD_UNCHANGED}, {.kind = RECORD_NULL}};

/* Updates that leave a column out: they may be asked for again. */
static struct record
record_at(uint64_t offset)
{
    return (struct record){
        .offset = offset, .op = FRAME_UPDATE, .schema = item, .new_row = partial};
}

/* What a verdict means by itself, written down apart from the code. */
static const uint8_t meaning[KINDS] = {[VERDICT_UNSET] = VERDICT_KEEP,
    [VERDICT_DONE] = VERDICT_SETTLE,
    [VERDICT_RETRY] = VERDICT_KEEP,
    [VERDICT_REJECT] = VERDICT_BURY,
    [VERDICT_REREAD] = VERDICT_ASK};

static bool
is_kept_before(const struct sink_verdict *v, const uint32_t *keys, size_t i)
{
    for (size_t k = 0; k < i; k++) {
        if (keys[k] == keys[i] &&
            (v[k].verdict == VERDICT_UNSET || v[k].verdict == VERDICT_RETRY)) {
            return true;
        }
    }
    return false;
}

static void
check_write(const struct sink_verdict *v, const uint32_t *keys, size_t n)
{
    struct record records[MAX_N] = {record_at(100), record_at(101), record_at(110)};
    struct verdict_run run = {0}; /* no limit */
    uint8_t effects[MAX_N];
    struct err e = {0};
    enum verdict_action action = verdict_decide(0, v, records, keys, n, &run, effects, &e);
    size_t first = n;
    for (size_t i = n; i-- > 0;) {
        uint8_t want = meaning[v[i].verdict];
        if (want == VERDICT_KEEP) {
            first = i;
        }
        if (want == VERDICT_SETTLE && is_kept_before(v, keys, i)) {
            want = VERDICT_KEEP;
        }
        assert_int_equal(effects[i], want);
    }
    assert_int_equal(action, first == n ? VERDICT_GO_ON : VERDICT_AGAIN);
    if (first == n) {
        assert_int_equal(e.code, 0);
        return;
    }
    char offset[24];
    (void)snprintf(offset, sizeof offset, "offset %d", (int)records[first].offset);
    assert_non_null(strstr(e.msg, offset));
    assert_non_null(strstr(e.msg, verdict_reason(&v[first])));
    assert_int_equal(verdict_of_error(e.code), VERDICT_AGAIN);
}

static size_t
power(size_t base, size_t n)
{
    size_t p = 1;
    while (n-- > 0) {
        p *= base;
    }
    return p;
}

static void
P4_only_what_was_accepted_buried_or_asked_for_is_settled(void **state)
{
    (void)state;
    size_t checked = 0;
    for (size_t n = 1; n <= MAX_N; n++) {
        for (size_t c = 0; c < power(KINDS, n); c++) {
            for (size_t k = 0; k < power(NKEYS, n); k++, checked++) {
                struct sink_verdict v[MAX_N] = {{0}};
                uint32_t keys[MAX_N] = {0};
                size_t rest_c = c, rest_k = k;
                for (size_t i = 0; i < n; i++, rest_c /= KINDS, rest_k /= NKEYS) {
                    v[i].verdict = (enum verdict)(rest_c % KINDS);
                    v[i].reason = i % 2 == 0 ? "it is odd" : NULL;
                    keys[i] = (uint32_t)(rest_k % NKEYS);
                }
                check_write(v, keys, n);
            }
        }
    }
    assert_int_equal(checked, 15 + 225 + 3375);
}

static void
an_error_of_the_whole_write_settles_nothing(void **state)
{
    (void)state;
    static const struct {
        int rc;
        enum verdict_action action;
    } cases[] = {{ERR_BUSY, VERDICT_AGAIN}, {ERR_CONNECT, VERDICT_AGAIN},
        {ERR_TIMEOUT, VERDICT_AGAIN}, {ERR_NOSPACE, VERDICT_AGAIN}, {ERR_AUTH, VERDICT_STOP},
        {ERR_CONFIG, VERDICT_STOP}, {ERR_FOREIGN, VERDICT_STOP}, {ERR_PARSE, VERDICT_STOP},
        {ERR_IO, VERDICT_EXIT}, {ERR_NOMEM, VERDICT_EXIT}, {ERR_BUG, VERDICT_EXIT}};
    struct record records[2] = {record_at(1), record_at(2)};
    struct sink_verdict v[2] = {{VERDICT_DONE, NULL}, {VERDICT_DONE, NULL}};
    uint32_t keys[2] = {1, 2};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct verdict_run run = {.limit = 2};
        uint8_t effects[2] = {9, 9};
        struct err e;
        (void)err_set(&e, cases[i].rc, "the kind's own words");
        assert_int_equal(verdict_decide(cases[i].rc, v, records, keys, 2, &run, effects, &e),
            cases[i].action);
        assert_int_equal(effects[0], VERDICT_KEEP);
        assert_int_equal(effects[1], VERDICT_KEEP);
        assert_string_equal(e.msg, "the kind's own words");
    }
}

/* Writes of one record each: 'd' accepted, a digit: rejected with that key. Returns after how
 * many it stopped, 0: it did not. */
static size_t
stops_after(const char *script, unsigned limit, struct err *e)
{
    struct verdict_run run = {.limit = limit};
    for (size_t i = 0; script[i] != '\0'; i++) {
        struct record r = record_at(100 + i);
        struct sink_verdict v = {script[i] == 'd' ? VERDICT_DONE : VERDICT_REJECT, "too odd"};
        uint32_t key = (uint32_t)script[i];
        uint8_t effect;
        enum verdict_action action = verdict_decide(0, &v, &r, &key, 1, &run, &effect, e);
        if (action == VERDICT_STOP) {
            assert_int_equal(effect, VERDICT_KEEP);
            return i + 1;
        }
        assert_int_equal(effect, script[i] == 'd' ? VERDICT_SETTLE : VERDICT_BURY);
    }
    return 0;
}

static void
different_keys_rejected_in_a_row_stop_the_sink(void **state)
{
    (void)state;
    struct err e;
    assert_int_equal(stops_after("12345", 5, &e), 5);
    assert_non_null(strstr(e.msg, "5 different keys"));
    assert_non_null(strstr(e.msg, "offset 104"));
    assert_non_null(strstr(e.msg, "too odd"));
    assert_int_equal(e.code, ERR_REFUSED);
    assert_int_equal(stops_after("1234d1234d1", 5, &e), 0);
    assert_int_equal(stops_after("11111111111", 5, &e), 0); /* one poisoned key */
    assert_int_equal(stops_after("1212121212345", 5, &e), 13);
    assert_int_equal(stops_after("1", 1, &e), 1);
    assert_int_equal(stops_after("123456789", 0, &e), 0);
    assert_int_equal(stops_after("1234d12345", 5, &e), 10);
}

static void
a_stop_buries_nothing_of_the_run_in_its_write(void **state)
{
    (void)state;
    struct record records[5];
    struct sink_verdict v[5];
    uint32_t keys[5];
    uint8_t effects[5];
    for (size_t i = 0; i < 5; i++) {
        records[i] = record_at(100 + i);
        v[i] = (struct sink_verdict){VERDICT_REJECT, "no"};
        keys[i] = (uint32_t)i;
    }
    v[1].verdict = VERDICT_DONE; /* what was rejected before it is one alone */
    struct verdict_run run = {.limit = 3};
    struct err e;
    assert_int_equal(verdict_decide(0, v, records, keys, 5, &run, effects, &e), VERDICT_STOP);
    static const uint8_t want[5] = {
        VERDICT_BURY, VERDICT_SETTLE, VERDICT_KEEP, VERDICT_KEEP, VERDICT_KEEP};
    assert_memory_equal(effects, want, sizeof want);
    /* it stays stopped as long as the target says the same */
    assert_int_equal(
        verdict_decide(0, v + 2, records + 2, keys + 2, 1, &run, effects, &e), VERDICT_STOP);
    v[2].verdict = VERDICT_DONE;
    assert_int_equal(
        verdict_decide(0, v + 2, records + 2, keys + 2, 1, &run, effects, &e), VERDICT_GO_ON);
    assert_int_equal(run.n, 0);
}

static void
what_a_stop_keeps_keeps_later_records_of_its_key(void **state)
{
    (void)state;
    struct record records[5];
    struct sink_verdict v[5];
    uint32_t keys[5] = {1, 2, 3, 1, 4};
    uint8_t effects[5];
    for (size_t i = 0; i < 5; i++) {
        records[i] = record_at(100 + i);
        v[i] = (struct sink_verdict){i < 3 ? VERDICT_REJECT : VERDICT_DONE, "no"};
    }
    struct verdict_run run = {.limit = 3};
    struct err e;
    assert_int_equal(verdict_decide(0, v, records, keys, 5, &run, effects, &e), VERDICT_STOP);
    static const uint8_t want[5] = {
        VERDICT_KEEP, VERDICT_KEEP, VERDICT_KEEP, VERDICT_KEEP, VERDICT_SETTLE};
    assert_memory_equal(effects, want, sizeof want);
}

static void
only_what_can_be_read_again_may_be_asked_for(void **state)
{
    (void)state;
    struct record whole = record_at(7);
    struct record_value row[SUPPORT_NCOLS] = {
        partial[0], {.kind = RECORD_NULL}, {.kind = RECORD_NULL}};
    whole.new_row = row;
    struct record message = {.offset = 7, .op = FRAME_MESSAGE};
    struct sink_verdict v = {VERDICT_REREAD, NULL};
    uint32_t key = 1;
    struct verdict_run run = {0};
    uint8_t effect;
    struct err e;
    assert_int_equal(verdict_decide(0, &v, &whole, &key, 1, &run, &effect, &e), VERDICT_EXIT);
    assert_int_equal(e.code, ERR_BUG);
    assert_int_equal(verdict_decide(0, &v, &message, &key, 1, &run, &effect, &e), VERDICT_EXIT);
    assert_int_equal(effect, VERDICT_KEEP);
}

static void
no_error_is_taken_for_success(void **state)
{
    (void)state;
    for (int i = 1; i < ERR_INDEX_END; i++) {
        assert_int_not_equal(verdict_of_error(-i), VERDICT_GO_ON);
    }
    assert_int_equal(verdict_of_error(0), VERDICT_GO_ON);
}

static int
make_item(void **state)
{
    (void)state;
    item = support_item(1);
    return 0;
}

static int
drop_item(void **state)
{
    (void)state;
    schema_unref(item);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(P4_only_what_was_accepted_buried_or_asked_for_is_settled),
        cmocka_unit_test(an_error_of_the_whole_write_settles_nothing),
        cmocka_unit_test(different_keys_rejected_in_a_row_stop_the_sink),
        cmocka_unit_test(a_stop_buries_nothing_of_the_run_in_its_write),
        cmocka_unit_test(what_a_stop_keeps_keeps_later_records_of_its_key),
        cmocka_unit_test(only_what_can_be_read_again_may_be_asked_for),
        cmocka_unit_test(no_error_is_taken_for_success),
    };
    return cmocka_run_group_tests(tests, make_item, drop_item);
}
