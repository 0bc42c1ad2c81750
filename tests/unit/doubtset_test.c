/* doubtset (a sink worker's): against a plain array, and what happens once it is full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sinks/doubtset.h"

enum { KEYS = 200, STEPS = 20000 };

static struct {
    uint64_t offset; /* 0: none */
    uint32_t table;
} model[KEYS];

/* Keys that lie side by side, and one more that would stand where another one is at home. */
static uint64_t
key_of(unsigned i)
{
    return i % 2 == 0 ? 1 + i / 2 : ((uint64_t)i << 32) + i / 2;
}

static void
check_all(const struct doubtset *t)
{
    size_t n = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        assert_true(
            doubtset_floor(t, key_of(i)) == (model[i].offset == 0 ? 0 : model[i].offset + 1));
        n += model[i].offset != 0;
    }
    assert_int_equal(t->n, n);
}

static void
raise_one(struct doubtset *t, unsigned i, uint64_t offset)
{
    struct api_doubt d = {.key = key_of(i), .table = i % 3, .offset = offset};
    struct api_doubt fit = doubtset_fit(t, &d);
    assert_true(fit.key == d.key);
    doubtset_add(t, &d);
    model[i].table = i % 3;
    model[i].offset = offset > model[i].offset ? offset : model[i].offset;
}

static void
end_table(struct doubtset *t, uint32_t table, uint64_t offset)
{
    doubtset_end_table(t, table, offset);
    for (unsigned i = 0; i < KEYS; i++) {
        if (model[i].offset <= offset && model[i].table == table) {
            model[i].offset = 0;
        }
    }
}

static void
it_is_what_an_array_would_be(void **state)
{
    (void)state;
    struct doubtset t;
    unsigned seed = 1;
    doubtset_init(&t);
    for (unsigned step = 0; step < STEPS; step++) {
        seed = seed * 1103515245u + 12345u;
        unsigned i = (seed >> 8) % KEYS;
        uint64_t offset = 1 + (seed >> 16) % 50;
        if (seed >> 28 < 8) {
            raise_one(&t, i, offset);
        } else if (seed >> 28 < 15) {
            doubtset_end(&t, key_of(i), offset);
            model[i].offset = model[i].offset <= offset ? 0 : model[i].offset;
        } else {
            end_table(&t, i % 3, offset);
        }
        doubtset_told(&t, t.nproven);
        check_all(&t);
    }
    doubtset_fini(&t);
}

static void
what_is_over_is_told_once(void **state)
{
    (void)state;
    struct doubtset t;
    doubtset_init(&t);
    for (uint64_t i = 1; i <= API_PROVEN_MAX + 1; i++) {
        doubtset_add(&t, &(struct api_doubt){.key = i, .offset = i});
        doubtset_end(&t, i, i - 1); /* too early */
        doubtset_end(&t, i, i);
    }
    assert_int_equal(t.nproven, API_PROVEN_MAX);
    assert_int_equal(t.n, 1); /* no room: it stays */
    assert_true(doubtset_floor(&t, API_PROVEN_MAX + 1) == API_PROVEN_MAX + 2);
    doubtset_told(&t, 2);
    assert_true(t.proven[0].key == 3 && t.nproven == API_PROVEN_MAX - 2);
    doubtset_reset(&t);
    assert_true(t.n == 0 && t.nproven == API_PROVEN_MAX - 2);
    assert_true(doubtset_floor(&t, API_PROVEN_MAX + 1) == 0);
    doubtset_fini(&t);
}

static void
once_it_is_full_every_key_is_doubted(void **state)
{
    (void)state;
    struct doubtset t;
    doubtset_init(&t);
    for (uint64_t i = 1; i <= API_DOUBTS_MAX; i++) {
        doubtset_add(&t, &(struct api_doubt){.key = i, .offset = 5});
    }
    struct api_doubt d = {.key = 7, .table = 1, .offset = 8};
    assert_true(doubtset_fit(&t, &d).key == 7);
    d.key = API_DOUBTS_MAX + 1;
    d = doubtset_fit(&t, &d);
    assert_true(d.key == 0 && d.table == 0 && d.offset == 8);
    doubtset_add(&t, &d);
    assert_int_equal(t.n, API_DOUBTS_MAX);
    assert_true(doubtset_floor(&t, 12345678) == 9 && doubtset_floor(&t, 7) == 9);
    doubtset_end(&t, 7, 100);
    assert_true(doubtset_floor(&t, 7) == 9);
    doubtset_fini(&t);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_what_an_array_would_be),
        cmocka_unit_test(what_is_over_is_told_once),
        cmocka_unit_test(once_it_is_full_every_key_is_doubted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
