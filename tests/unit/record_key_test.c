/* record_key: two rows have the same key bytes exactly when table and key columns are the same.
 */
#include "proto/record_key.h"

#include "record_support.h"

static const char *const values[] = {"", "a", "b", "ab", "a\0b", "\xff\xff\xff\xff"};
enum { NVALUES = sizeof values / sizeof values[0] };

static struct record_value
text(struct str s)
{
    return (struct record_value){.kind = RECORD_TEXT, .text = s};
}

/* shop.item with a key of two columns. */
static struct schema *
pair(struct str ns, struct str name)
{
    struct schema_col cols[3] = {{.name = STR("a"), .typoid = 25, .in_key = true},
        {.name = STR("b"), .typoid = 25, .in_key = true}, {.name = STR("c"), .typoid = 25}};
    return support_reread(
        1, &(struct schema){
               .relid = 1, .ns = ns, .name = name, .replident = 'd', .ncols = 3, .cols = cols});
}

static void
keys_are_equal_only_for_the_same_row(void **state)
{
    (void)state;
    struct schema *s = pair(STR("shop"), STR("item"));
    for (size_t i = 0; i < NVALUES * NVALUES; i++) {
        for (size_t j = 0; j < NVALUES * NVALUES; j++) {
            struct buf auto_buf a, auto_buf b;
            buf_init(&a, 1024);
            buf_init(&b, 1024);
            struct record_value x[3] = {text(str_from(values[i / NVALUES])),
                text(str_from(values[i % NVALUES])), text(STR("x"))};
            struct record_value y[3] = {text(str_from(values[j / NVALUES])),
                text(str_from(values[j % NVALUES])), text(STR("y"))};
            record_key_put(&a, s, x);
            record_key_put(&b, s, y);
            bool is_same = str_eq(x[0].text, y[0].text) && str_eq(x[1].text, y[1].text);
            assert_int_equal(str_eq(buf_str(&a), buf_str(&b)), is_same);
        }
    }
    schema_unref(s);
}

static void
tables_do_not_share_keys(void **state)
{
    (void)state;
    struct schema *one = pair(STR("a"), STR("bc")), *two = pair(STR("ab"), STR("c"));
    struct record_value row[3] = {text(STR("1")), text(STR("2")), text(STR("3"))};
    struct buf auto_buf a, auto_buf b, auto_buf t;
    buf_init(&a, 1024);
    buf_init(&b, 1024);
    buf_init(&t, 1024);
    record_key_put(&a, one, row);
    record_key_put(&b, two, row);
    record_key_put_table(&t, one);
    assert_false(str_eq(buf_str(&a), buf_str(&b)));
    assert_true(a.n > t.n);
    assert_memory_equal(a.p, t.p, t.n);
    assert_memory_not_equal(b.p, t.p, t.n);
    schema_unref(one);
    schema_unref(two);
}

static void
null_is_not_empty(void **state)
{
    (void)state;
    struct schema *s = pair(STR("shop"), STR("item"));
    struct record_value with[3] = {text(STR("")), text(STR("1")), text(STR(""))};
    struct record_value without[3] = {{.kind = RECORD_NULL}, text(STR("1")), text(STR(""))};
    struct buf auto_buf a, auto_buf b;
    buf_init(&a, 1024);
    buf_init(&b, 1024);
    record_key_put(&a, s, with);
    record_key_put(&b, s, without);
    assert_false(str_eq(buf_str(&a), buf_str(&b)));
    schema_unref(s);
}

/* ---- long keys ---- */

enum { LONG = 1000 * 1000 };

static void
put_long(struct buf *b, const struct schema *s, char *memory, size_t n_a, size_t n_b)
{
    struct record_value row[3] = {
        text((struct str){memory, n_a}), text((struct str){memory, n_b}), text(STR(""))};
    buf_init(b, 4 * LONG);
    record_key_put(b, s, row);
}

/* Around the limit and far beyond it, one letter repeated: texts of which one is the other's
 * beginning, and pairs that are the same bytes one after the other. */
static void
long_keys_are_short_and_equal_only_for_the_same_row(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 500, RECORD_KEY_COLUMNS_MAX - 9,
        RECORD_KEY_COLUMNS_MAX - 8, RECORD_KEY_COLUMNS_MAX - 7, LONG - 1, LONG};
    enum { NSIZES = sizeof sizes / sizeof sizes[0], NKEYS = NSIZES * NSIZES };
    struct schema *s = pair(STR("shop"), STR("item"));
    char *memory = malloc(LONG);
    assert_non_null(memory);
    memset(memory, 'x', LONG);
    struct buf key[NKEYS], auto_buf table;
    buf_init(&table, 1024);
    record_key_put_table(&table, s);
    for (size_t i = 0; i < NKEYS; i++) {
        put_long(&key[i], s, memory, sizes[i / NSIZES], sizes[i % NSIZES]);
        assert_true(buf_ok(&key[i]));
        assert_true(key[i].n <= table.n + RECORD_KEY_COLUMNS_MAX);
        assert_memory_equal(key[i].p, table.p, table.n);
        struct buf auto_buf again;
        put_long(&again, s, memory, sizes[i / NSIZES], sizes[i % NSIZES]);
        assert_true(str_eq(buf_str(&key[i]), buf_str(&again)));
        for (size_t k = 0; k < i; k++) {
            assert_false(str_eq(buf_str(&key[i]), buf_str(&key[k])));
        }
    }
    for (size_t i = 0; i < NKEYS; i++) {
        buf_fini(&key[i]);
    }
    free(memory);
    schema_unref(s);
}

/* A row cannot be made to look like another one's digest. */
static void
a_text_that_looks_like_a_digest_is_another_key(void **state)
{
    (void)state;
    struct schema *s = pair(STR("shop"), STR("item"));
    char *memory = calloc(LONG, 1);
    assert_non_null(memory);
    struct buf auto_buf digest, auto_buf other, auto_buf table;
    put_long(&digest, s, memory, LONG, 0);
    buf_init(&table, 1024);
    buf_init(&other, 4096);
    record_key_put_table(&table, s);
    struct str columns = {digest.p + table.n, digest.n - table.n};
    assert_int_equal(columns.n, 4 + 32);
    assert_memory_equal(columns.p, "\xfe\xff\xff\xff", 4);
    struct record_value row[3] = {
        text(columns), text((struct str){columns.p + 4, columns.n - 4}), text(STR(""))};
    record_key_put(&other, s, row);
    assert_false(str_eq(buf_str(&digest), buf_str(&other)));
    free(memory);
    schema_unref(s);
}

static void
long_keys_of_two_tables_differ(void **state)
{
    (void)state;
    struct schema *one = pair(STR("a"), STR("bc")), *two = pair(STR("a"), STR("bd"));
    char *memory = calloc(LONG, 1);
    assert_non_null(memory);
    struct buf auto_buf a, auto_buf b;
    put_long(&a, one, memory, LONG, 0);
    put_long(&b, two, memory, LONG, 0);
    assert_int_equal(a.n, b.n);
    assert_false(str_eq(buf_str(&a), buf_str(&b)));
    free(memory);
    schema_unref(one);
    schema_unref(two);
}

static void
which_row_it_is(void **state)
{
    (void)state;
    struct schema *s = pair(STR("shop"), STR("item"));
    struct record_value was[3] = {text(STR("1")), text(STR("2")), {.kind = RECORD_NULL}};
    struct record_value is[3] = {text(STR("1")), text(STR("3")), {.kind = RECORD_UNCHANGED}};
    struct record r = {.schema = s, .op = FRAME_UPDATE, .new_row = is, .old_row = was};
    assert_true(record_has_key(&r));
    assert_true(record_is_key_change(&r));
    assert_true(record_has_unchanged(&r));
    assert_ptr_equal(record_key_row(&r), is);
    assert_ptr_equal(record_former_key_row(&r), was);

    is[1] = was[1];
    is[2] = text(STR("x"));
    assert_false(record_is_key_change(&r));
    assert_false(record_has_unchanged(&r));
    assert_ptr_equal(record_former_key_row(&r), is);
    r.old_row = NULL;
    assert_false(record_is_key_change(&r));

    struct record gone = {.schema = s, .op = FRAME_DELETE, .old_row = was};
    assert_true(record_has_key(&gone));
    assert_false(record_is_key_change(&gone));
    assert_false(record_has_unchanged(&gone));
    assert_ptr_equal(record_key_row(&gone), was);

    struct record truncate = {.schema = s, .op = FRAME_TRUNCATE};
    struct record message = {.op = FRAME_MESSAGE};
    assert_false(record_has_key(&truncate));
    assert_false(record_has_key(&message));
    schema_unref(s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_equal_only_for_the_same_row),
        cmocka_unit_test(tables_do_not_share_keys),
        cmocka_unit_test(null_is_not_empty),
        cmocka_unit_test(long_keys_are_short_and_equal_only_for_the_same_row),
        cmocka_unit_test(a_text_that_looks_like_a_digest_is_another_key),
        cmocka_unit_test(long_keys_of_two_tables_differ),
        cmocka_unit_test(which_row_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
