/* verdict: every combination of verdicts in batches of 1 to 4, and every error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "sinks/verdict.h"

enum { KINDS = VERDICT_REREAD + 1, MAX_N = 4 };

/* What a verdict means when it is the first that is not DONE, written down apart from the code.
 */
static const enum verdict_action meaning[KINDS] = {[VERDICT_UNSET] = VERDICT_AGAIN,
    [VERDICT_DONE] = VERDICT_GO_ON,
    [VERDICT_RETRY] = VERDICT_AGAIN,
    [VERDICT_REJECT] = VERDICT_STOP,
    [VERDICT_REREAD] = VERDICT_STOP};

static void
check_batch(const struct sink_verdict *v, size_t n)
{
    struct record records[MAX_N] = {
        {.offset = 100}, {.offset = 101}, {.offset = 110}, {.offset = 111}};
    struct err e = {0};
    struct verdict_outcome o = verdict_settle(0, v, records, n, &e);
    size_t first = n;
    for (size_t i = n; i-- > 0;) {
        first = v[i].verdict != VERDICT_DONE ? i : first;
    }
    assert_int_equal(o.settled, first);
    assert_int_equal(o.action, first == n ? VERDICT_GO_ON : meaning[v[first].verdict]);
    if (first == n) {
        assert_int_equal(e.code, 0);
        return;
    }
    /* the sentence names the record, and its code leads to the same action */
    char offset[24];
    (void)snprintf(offset, sizeof offset, "offset %d", (int)records[first].offset);
    assert_non_null(strstr(e.msg, offset));
    assert_non_null(
        strstr(e.msg, v[first].reason == NULL ? "gave no reason" : v[first].reason));
    assert_int_equal(verdict_of_error(e.code), o.action);
}

static void
P4_offset_moves_over_the_settled_prefix_only(void **state)
{
    (void)state;
    size_t checked = 0;
    for (size_t n = 1; n <= MAX_N; n++) {
        size_t combinations = 1;
        for (size_t i = 0; i < n; i++) {
            combinations *= KINDS;
        }
        for (size_t c = 0; c < combinations; c++, checked++) {
            struct sink_verdict v[MAX_N] = {{0}};
            size_t rest = c;
            for (size_t i = 0; i < n; i++, rest /= KINDS) {
                v[i].verdict = (enum verdict)(rest % KINDS);
                v[i].reason = c % 2 == 0 ? "because" : NULL;
            }
            check_batch(v, n);
        }
    }
    assert_int_equal(checked, 5 + 25 + 125 + 625);
}

static void
an_error_of_write_settles_nothing(void **state)
{
    (void)state;
    static const struct {
        int rc;
        enum verdict_action action;
    } rows[] = {
        {ERR_NOSPACE, VERDICT_AGAIN},
        {ERR_CONNECT, VERDICT_AGAIN},
        {ERR_TIMEOUT, VERDICT_AGAIN},
        {ERR_BUSY, VERDICT_AGAIN},
        {ERR_AUTH, VERDICT_STOP},
        {ERR_CONFIG, VERDICT_STOP},
        {ERR_FOREIGN, VERDICT_STOP},
        {ERR_TOOBIG, VERDICT_STOP},
        {ERR_PARSE, VERDICT_STOP},
        {ERR_IO, VERDICT_EXIT}, /* P9 */
        {ERR_NOMEM, VERDICT_EXIT},
        {ERR_BUG, VERDICT_EXIT},
    };
    struct sink_verdict done[2] = {{VERDICT_DONE, NULL}, {VERDICT_DONE, NULL}};
    struct record records[2] = {{.offset = 1}, {.offset = 2}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err e = {.code = rows[i].rc, .msg = "the kind's own"};
        struct verdict_outcome o = verdict_settle(rows[i].rc, done, records, 2, &e);
        assert_int_equal(o.settled, 0);
        assert_int_equal(o.action, rows[i].action);
        assert_string_equal(e.msg, "the kind's own");
    }
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(P4_offset_moves_over_the_settled_prefix_only),
        cmocka_unit_test(an_error_of_write_settles_nothing),
        cmocka_unit_test(no_error_is_taken_for_success),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
