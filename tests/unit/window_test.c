/* window: records settle in any order; the offset is the end of the longest settled prefix. */
#include "sinks/window.h"

#include "sink_support.h"

/* Offsets first, first + step, ... in a batch that reaches to next. */
static void
make_batch(struct buf *b, uint64_t first, uint64_t step, size_t n, uint64_t next)
{
    struct schema *s = support_item(1);
    struct batch_writer w;
    buf_init(b, SIZE_MAX);
    batch_begin(&w, b);
    for (size_t i = 0; i < n; i++) {
        support_batch_add(&w, s, first + i * step, "x");
    }
    batch_end(&w,
        &(struct batch_header){.next_offset = next, .tail_offset = next + 1000, .epoch = 1});
    schema_unref(s);
}

static struct window_batch *
add(struct window *w, uint64_t first, uint64_t step, size_t n, uint64_t next)
{
    struct buf auto_buf b;
    struct window_batch *got = NULL;
    struct err e;
    make_batch(&b, first, step, n, next);
    assert_int_equal(window_add(w, buf_str(&b), &got, &e), 0);
    return got;
}

/* All orders of four records in two batches, with what `tables` left out between them. */
static void
P4_offset_is_the_longest_settled_prefix(void **state)
{
    (void)state;
    static const uint64_t offsets[4] = {110, 120, 210, 211};
    unsigned orders = 0;
    for (unsigned code = 0; code < 256; code++) {
        unsigned order[4] = {code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6 & 3};
        if ((1u << order[0] | 1u << order[1] | 1u << order[2] | 1u << order[3]) != 15) {
            continue;
        }
        orders++;
        struct window w;
        window_init(&w, NULL, 0);
        window_reset(&w, 100);
        struct window_batch *one = add(&w, 110, 10, 2, 200), *two = add(&w, 210, 1, 2, 300);
        struct window_item *items[4] = {
            &one->items[0], &one->items[1], &two->items[0], &two->items[1]};
        bool done[4] = {false};
        assert_int_equal(w.passed, 100); /* nothing yet */
        for (unsigned i = 0; i < 4; i++) {
            done[order[i]] = true;
            window_settle(&w, items[order[i]]);
            unsigned first = 0;
            while (first < 4 && done[first]) {
                first++;
            }
            uint64_t want = first == 4 ? 300 : first == 0 ? w.passed : offsets[first];
            assert_int_equal(w.passed, want);
            assert_true(first > 0 || w.passed <= 110);
        }
        assert_true(window_is_empty(&w));
        assert_int_equal(w.bytes, 0);
        window_fini(&w);
    }
    assert_int_equal(orders, 24);
}

static void
a_batch_without_records_is_passed_when_what_is_before_it_is(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, NULL, 0);
    window_reset(&w, 100);
    assert_null(add(&w, 100, 1, 0, 150));
    assert_int_equal(w.passed, 150);
    struct window_batch *b = add(&w, 150, 1, 1, 160);
    assert_null(add(&w, 160, 1, 0, 200));
    assert_int_equal(w.passed, 150);
    assert_int_equal(w.fetched, 200);
    assert_ptr_equal(w.head, w.tail); /* a stuck target, asked for news for days: no memory */
    window_settle(&w, &b->items[0]);
    assert_int_equal(w.passed, 200);
    assert_true(window_is_empty(&w));
    window_fini(&w);
}

static void
a_batch_that_does_not_continue_is_refused(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, NULL, 0);
    window_reset(&w, 100);
    static const struct {
        uint64_t first, next;
    } bad[] = {{99, 110}, {110, 105}, {110, 110}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct buf auto_buf b;
        struct window_batch *got = NULL;
        struct err e;
        make_batch(&b, bad[i].first, 1, 1, bad[i].next);
        assert_int_equal(window_add(&w, buf_str(&b), &got, &e), ERR_CORRUPT);
        assert_int_equal(w.fetched, 100);
        assert_int_equal(w.bytes, 0);
    }
    window_fini(&w);
}

static void
letters_have_no_part_in_the_order(void **state)
{
    (void)state;
    struct window w;
    struct buf auto_buf bytes;
    struct window_batch *one = NULL, *two = NULL;
    struct err e;
    window_init(&w, NULL, 0);
    window_reset(&w, 100);
    make_batch(&bytes, 7, 1, 1, 8);
    assert_int_equal(window_add_letter(&w, buf_str(&bytes), &one, &e), 0);
    assert_int_equal(window_add_letter(&w, buf_str(&bytes), &two, &e), 0);
    assert_true(one->items[0].is_letter);
    assert_int_equal(one->items[0].r->offset, 7);
    assert_false(window_is_empty(&w));
    struct window_batch *b = add(&w, 100, 1, 1, 101);
    window_settle(&w, &one->items[0]);
    assert_int_equal(w.passed, 100);
    window_settle(&w, &b->items[0]);
    assert_int_equal(w.passed, 101);
    assert_false(window_is_empty(&w));
    window_reset(&w, 50); /* forgets the second one */
    assert_true(window_is_empty(&w));
    assert_int_equal(w.passed, 50);
    struct buf auto_buf two_records;
    make_batch(&two_records, 7, 1, 2, 9);
    assert_int_equal(window_add_letter(&w, buf_str(&two_records), &one, &e), ERR_CORRUPT);
    window_fini(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(P4_offset_is_the_longest_settled_prefix),
        cmocka_unit_test(a_batch_without_records_is_passed_when_what_is_before_it_is),
        cmocka_unit_test(a_batch_that_does_not_continue_is_refused),
        cmocka_unit_test(letters_have_no_part_in_the_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
