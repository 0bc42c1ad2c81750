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
add(struct deadset *l, struct str key, uint64_t offset, uint8_t state)
{
    deadset_add(l, &(struct api_letter){.offset = offset, .state = state, .key = key});
}

static void
a_key_has_letters_from_its_first_on(void **state)
{
    (void)state;
    struct deadset l;
    uint64_t first = 0;
    deadset_init(&l);
    assert_false(deadset_has(&l, a, UINT64_MAX, NULL));
    add(&l, a, 20, API_LETTER_DEAD);
    add(&l, a, 10, API_LETTER_DEAD);
    add(&l, ab, 5, API_LETTER_DEAD);
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
    add(&l, none, 10, API_LETTER_DEAD);
    add(&l, none, 20, API_LETTER_DEAD);
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
    add(&l, a, 10, API_LETTER_DEAD);
    add(&l, ab, 20, API_LETTER_DEAD);
    add(&l, b, 5, API_LETTER_DEAD);
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
    add(&l, a, 30, API_LETTER_RETRY);
    add(&l, b, 10, API_LETTER_DEAD);
    add(&l, ab, 20, API_LETTER_RETRY);
    assert_true(deadset_next_retry(&l, 0, &offset));
    assert_int_equal(offset, 20);
    assert_true(deadset_next_retry(&l, 21, &offset));
    assert_int_equal(offset, 30);
    assert_false(deadset_next_retry(&l, 31, &offset));
    assert_true(deadset_is(&l, ab, 20, API_LETTER_RETRY));
    add(&l, ab, 20, API_LETTER_DEAD); /* rejected again */
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
        add(&l, (struct str){(const char *)&i, sizeof i}, i, API_LETTER_DEAD);
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

static void
add_move(struct deadset *l, struct str from, struct str to, uint64_t offset, uint8_t state)
{
    deadset_add(
        l, &(struct api_letter){.offset = offset, .state = state, .key = to, .former = from});
}

static void
an_open_key_change_is_found_by_both_its_keys(void **state)
{
    (void)state;
    struct deadset l;
    deadset_init(&l);
    assert_int_equal(deadset_move_before(&l, a, 100), 0);
    add(&l, a, 5, API_LETTER_DEAD); /* no key change */
    add_move(&l, a, b, 10, API_LETTER_DEAD);
    add_move(&l, b, ab, 20, API_LETTER_RETRY);
    assert_int_equal(deadset_move_before(&l, a, 100), 10);
    assert_int_equal(deadset_move_before(&l, b, 100), 10);
    assert_int_equal(deadset_move_before(&l, b, 11), 10);
    assert_int_equal(deadset_move_before(&l, b, 10), 0); /* not by itself */
    assert_int_equal(deadset_move_before(&l, ab, 100), 20);
    assert_int_equal(deadset_move_before(&l, none, 100), 0);
    assert_true(deadset_has(&l, a, 100, NULL)); /* the letter at 5 */
    deadset_remove(&l, a, 100);
    assert_false(deadset_has(&l, a, 100, NULL));
    assert_int_equal(deadset_move_before(&l, a, 100), 10);
    deadset_remove(&l, b, 10);
    assert_int_equal(deadset_move_before(&l, a, 100), 0);
    assert_int_equal(deadset_move_before(&l, b, 100), 20);
    assert_int_equal(l.n, 1);
    deadset_remove_prefix(&l, a, 100);
    assert_int_equal(deadset_move_before(&l, b, 100), 0);
    deadset_fini(&l);
}

static void
a_mark_of_a_key_change_is_not_open(void **state)
{
    (void)state;
    struct deadset l;
    deadset_init(&l);
    add_move(&l, a, b, 10, API_LETTER_DEAD);
    add_move(&l, a, b, 10, API_LETTER_DISCARDED);
    assert_int_equal(l.n, 1);
    assert_int_equal(deadset_move_before(&l, a, 100), 0);
    assert_int_equal(deadset_move_before(&l, b, 100), 0);
    add_move(&l, a, b, 10, API_LETTER_REREAD);
    assert_int_equal(deadset_move_before(&l, a, 100), 0);
    assert_true(deadset_is(&l, b, 10, API_LETTER_REREAD));
    deadset_fini(&l);
}

static void
many_key_changes_are_found_and_forgotten(void **state)
{
    (void)state;
    struct deadset l;
    enum { MANY = 3000 };
    deadset_init(&l);
    for (uint64_t i = 1; i <= MANY; i++) {
        uint64_t from = 2 * i, to = 2 * i + 1;
        add_move(&l, (struct str){(const char *)&from, sizeof from},
            (struct str){(const char *)&to, sizeof to}, i, API_LETTER_DEAD);
    }
    for (uint64_t i = 1; i <= MANY; i += 2) {
        uint64_t to = 2 * i + 1;
        deadset_remove(&l, (struct str){(const char *)&to, sizeof to}, i);
    }
    for (uint64_t key = 2; key <= 2 * MANY + 1; key++) {
        uint64_t i = key / 2, want = i % 2 == 0 ? i : 0;
        struct str bytes = {(const char *)&key, sizeof key};
        assert_int_equal(deadset_move_before(&l, bytes, UINT64_MAX), want);
    }
    assert_int_equal(l.n, MANY / 2);
    deadset_reset(&l);
    uint64_t key = 4;
    struct str bytes = {(const char *)&key, sizeof key};
    assert_int_equal(deadset_move_before(&l, bytes, UINT64_MAX), 0);
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
        cmocka_unit_test(an_open_key_change_is_found_by_both_its_keys),
        cmocka_unit_test(a_mark_of_a_key_change_is_not_open),
        cmocka_unit_test(many_key_changes_are_found_and_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
