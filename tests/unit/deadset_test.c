/* deadset: which keys have dead letters, against a list of all that was said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sinks/deadset.h"

static const struct str a = {"a", 1}, ab = {"ab", 2}, b = {"b", 1}, none = {"", 0};

static void
a_key_has_letters_from_its_first_on(void **state)
{
    (void)state;
    struct deadset l;
    uint64_t first = 0;
    deadset_init(&l);
    assert_false(deadset_has(&l, a, UINT64_MAX, NULL));
    deadset_add(&l, a, 20, API_LETTER_DEAD);
    deadset_add(&l, a, 10, API_LETTER_DEAD);
    deadset_add(&l, ab, 5, API_LETTER_DEAD);
    assert_false(deadset_has(&l, a, 9, &first));
    assert_true(deadset_has(&l, a, 10, &first));
    assert_int_equal(first, 10);
    assert_true(deadset_has(&l, a, 100, &first));
    assert_int_equal(first, 10);
    assert_false(deadset_has(&l, b, 100, &first));
    deadset_remove(&l, a, 19);
    assert_true(deadset_has(&l, a, 100, &first));
    assert_int_equal(first, 20);
    deadset_remove(&l, a, 20);
    assert_false(deadset_has(&l, a, 100, &first));
    assert_int_equal(l.n, 1);
    deadset_fini(&l);
}

static void
without_a_key_only_the_offset_counts(void **state)
{
    (void)state;
    struct deadset l;
    deadset_init(&l);
    deadset_add(&l, none, 10, API_LETTER_DEAD);
    deadset_add(&l, none, 20, API_LETTER_DEAD);
    assert_false(deadset_has(&l, none, 15, NULL));
    assert_true(deadset_has(&l, none, 20, NULL));
    deadset_remove(&l, none, 20);
    assert_true(deadset_has(&l, none, 10, NULL));
    assert_int_equal(l.n, 1);
    deadset_fini(&l);
}

static void
a_table_is_a_prefix(void **state)
{
    (void)state;
    struct deadset l;
    deadset_init(&l);
    deadset_add(&l, a, 10, API_LETTER_DEAD);
    deadset_add(&l, ab, 20, API_LETTER_DEAD);
    deadset_add(&l, b, 5, API_LETTER_DEAD);
    assert_true(deadset_has_prefix(&l, a, 10));
    assert_false(deadset_has_prefix(&l, a, 9));
    deadset_remove_prefix(&l, a, 15);
    assert_false(deadset_has(&l, a, 100, NULL));
    assert_true(deadset_has(&l, ab, 100, NULL));
    deadset_remove_prefix(&l, a, 100);
    assert_false(deadset_has_prefix(&l, a, 100));
    assert_true(deadset_has(&l, b, 100, NULL));
    deadset_fini(&l);
}

static void
letters_to_be_sent_again_come_by_offset(void **state)
{
    (void)state;
    struct deadset l;
    uint64_t offset = 0;
    deadset_init(&l);
    deadset_add(&l, a, 30, API_LETTER_RETRY);
    deadset_add(&l, b, 10, API_LETTER_DEAD);
    deadset_add(&l, ab, 20, API_LETTER_RETRY);
    assert_true(deadset_next_retry(&l, 0, &offset));
    assert_int_equal(offset, 20);
    assert_true(deadset_next_retry(&l, 21, &offset));
    assert_int_equal(offset, 30);
    assert_false(deadset_next_retry(&l, 31, &offset));
    assert_true(deadset_is(&l, ab, 20, API_LETTER_RETRY));
    deadset_add(&l, ab, 20, API_LETTER_DEAD); /* rejected again */
    assert_false(deadset_is(&l, ab, 20, API_LETTER_RETRY));
    assert_int_equal(l.n, 3);
    deadset_fini(&l);
}

static void
many_letters_are_found_again(void **state)
{
    (void)state;
    struct deadset l;
    enum { MANY = 5000 };
    deadset_init(&l);
    for (uint64_t i = 0; i < MANY; i++) {
        deadset_add(&l, (struct str){(const char *)&i, sizeof i}, i, API_LETTER_DEAD);
    }
    assert_int_equal(l.n, MANY);
    for (uint64_t i = 0; i < MANY; i += 2) {
        deadset_remove(&l, (struct str){(const char *)&i, sizeof i}, i);
    }
    for (uint64_t i = 0; i < MANY; i++) {
        struct str key = {(const char *)&i, sizeof i};
        assert_int_equal(deadset_has(&l, key, UINT64_MAX, NULL), i % 2 == 1);
    }
    deadset_reset(&l);
    assert_int_equal(l.n, 0);
    assert_false(deadset_has(&l, a, 100, NULL));
    deadset_fini(&l);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_has_letters_from_its_first_on),
        cmocka_unit_test(without_a_key_only_the_offset_counts),
        cmocka_unit_test(a_table_is_a_prefix),
        cmocka_unit_test(letters_to_be_sent_again_come_by_offset),
        cmocka_unit_test(many_letters_are_found_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
