/* es_fold: one operation per document, and where the value of a column that an update leaves
 * out is found. */
#include "es_support.h"

#include <stdio.h>

#include "sinks/elasticsearch/es_fold.h"

enum { NCOLS = 3, MANY = 3000 };

static const struct es_support_col cols[] = {
    {"id", 23, true, 0, NULL}, {"name", 25, false, 0, NULL}, {"note", 25, false, 0, NULL}, {0}};
static const int table_a, table_b; /* known by their addresses */

static struct schema *schema;

static int
setup(void **state)
{
    (void)state;
    schema = es_support_schema(cols, false);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    schema_unref(schema);
    return 0;
}

static struct es_fold_key
key(const void *table, const char *id)
{
    return (struct es_fold_key){.table = table, .id = str_from(id)};
}

static void
test_one_chain_per_table_and_id(void **state)
{
    (void)state;
    const struct es_fold_key keys[] = {key(&table_a, "1"), key(&table_b, "1"), key(NULL, "1"),
        key(&table_a, "1"), key(&table_a, "2"), key(&table_a, "1")};
    struct es_fold f = {0};
    es_fold_make(&f, keys, 6);
    assert_int_equal(f.n, 3);
    assert_int_equal(f.last[0], 5);
    assert_int_equal(f.last[1], 1);
    assert_int_equal(f.last[2], 4);
    assert_int_equal(f.former[5], 3);
    assert_int_equal(f.former[3], 0);
    assert_true(f.former[0] == ES_FOLD_NONE && f.former[1] == ES_FOLD_NONE &&
                f.former[2] == ES_FOLD_NONE && f.former[4] == ES_FOLD_NONE);
    es_fold_make(&f, keys, 0);
    assert_int_equal(f.n, 0);
    es_fold_fini(&f);
}

/* Every id twice, then again in a smaller batch: nothing of the former call is left. */
static void
test_many_ids_and_reuse(void **state)
{
    (void)state;
    static struct es_fold_key keys[MANY];
    static char ids[MANY][8];
    struct es_fold f = {0};
    for (size_t i = 0; i < MANY; i++) {
        (void)snprintf(ids[i], sizeof ids[i], "%zu", i % (MANY / 2));
        keys[i] = key(&table_a, ids[i]);
    }
    es_fold_make(&f, keys, MANY);
    assert_int_equal(f.n, MANY / 2);
    for (size_t d = 0; d < MANY / 2; d++) {
        assert_int_equal(f.last[d], d + MANY / 2);
        assert_int_equal(f.former[f.last[d]], d);
    }
    es_fold_make(&f, keys, 10);
    assert_int_equal(f.n, 10);
    assert_true(f.former[9] == ES_FOLD_NONE);
    es_fold_fini(&f);
}

/* ---- columns left out: a chain of three updates, the newest leaves `note` out ---- */

struct link {
    uint8_t op, flags;
    const char *note, *old_note; /* support_unchanged; NULL: SQL NULL */
};

static struct record_value cell_memory[3][2][NCOLS];
static struct record chain[3];
static const size_t former[3] = {ES_FOLD_NONE, 0, 1};

static void
make_row(struct record_value *row, const char *note)
{
    row[0] = es_support_text("1");
    row[1] = es_support_text("n");
    row[2] = note == support_unchanged ? (struct record_value){.kind = RECORD_UNCHANGED}
                                       : es_support_text(note);
}

static void
make_chain(const struct link *links, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool is_delete = links[i].op == FRAME_DELETE;
        make_row(cell_memory[i][0], links[i].note);
        make_row(cell_memory[i][1], links[i].old_note);
        chain[i] = (struct record){.offset = 10 + i,
            .schema = schema,
            .op = links[i].op,
            .flags = links[i].flags,
            .new_row = is_delete ? NULL : cell_memory[i][0],
            .old_row = links[i].flags == 0 ? NULL : cell_memory[i][1]};
    }
}

#define U support_unchanged

static void
test_value_from_the_chain(void **state)
{
    (void)state;
    static const struct {
        struct link links[3];
        bool is_barred;
        enum es_fold_source want;
        const char *text;
    } cases[] = {
        /* nothing in the batch says it */
        {{{FRAME_UPDATE, 0, U, NULL}, {FRAME_UPDATE, 0, U, NULL}, {FRAME_UPDATE, 0, U, NULL}},
            false, ES_FOLD_DOCUMENT, NULL},
        /* the first of the chain does, through one that leaves it out too */
        {{{FRAME_INSERT, 0, "v", NULL}, {FRAME_UPDATE, 0, U, NULL}, {FRAME_UPDATE, 0, U, NULL}},
            false, ES_FOLD_VALUE, "v"},
        /* the newer of two */
        {{{FRAME_INSERT, 0, "v", NULL}, {FRAME_UPDATE, 0, "w", NULL},
             {FRAME_UPDATE, 0, U, NULL}},
            false, ES_FOLD_VALUE, "w"},
        /* SQL NULL is a value */
        {{{FRAME_INSERT, 0, "v", NULL}, {FRAME_UPDATE, 0, NULL, NULL},
             {FRAME_UPDATE, 0, U, NULL}},
            false, ES_FOLD_VALUE, NULL},
        /* its own whole old row, barred or not */
        {{{FRAME_INSERT, 0, "v", NULL}, {FRAME_UPDATE, 0, "w", NULL},
             {FRAME_UPDATE, FRAME_OLD_FULL, U, "old"}},
            true, ES_FOLD_VALUE, "old"},
        /* an old key says nothing of other columns */
        {{{FRAME_UPDATE, 0, U, NULL}, {FRAME_UPDATE, 0, U, NULL},
             {FRAME_UPDATE, FRAME_OLD_KEY, U, NULL}},
            false, ES_FOLD_DOCUMENT, NULL},
        /* barred: neither the chain nor the document */
        {{{FRAME_INSERT, 0, "v", NULL}, {FRAME_UPDATE, 0, "w", NULL},
             {FRAME_UPDATE, 0, U, NULL}},
            true, ES_FOLD_NOWHERE, NULL},
        /* deleted in between */
        {{{FRAME_INSERT, 0, "v", NULL}, {FRAME_DELETE, FRAME_OLD_KEY, NULL, NULL},
             {FRAME_UPDATE, 0, U, NULL}},
            false, ES_FOLD_NOWHERE, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct record_value *v = NULL;
        make_chain(cases[i].links, 3);
        enum es_fold_source got = es_fold_find(chain, former, 2, 2, cases[i].is_barred, &v);
        if (got != cases[i].want) {
            print_error("case %zu\n", i);
        }
        assert_int_equal(got, cases[i].want);
        if (got == ES_FOLD_VALUE && cases[i].text == NULL) {
            assert_int_equal(v->kind, RECORD_NULL);
        } else if (got == ES_FOLD_VALUE) {
            assert_true(str_is(v->text, cases[i].text));
        } else {
            assert_null(v);
        }
    }
}

static void
test_another_schema_version_proves_nothing(void **state)
{
    (void)state;
    static const struct link links[] = {
        {FRAME_INSERT, 0, "v", NULL}, {FRAME_UPDATE, 0, U, NULL}, {FRAME_UPDATE, 0, U, NULL}};
    const struct record_value *v = NULL;
    struct schema other = *schema;
    other.id++;
    make_chain(links, 3);
    chain[0].schema = &other;
    assert_int_equal(es_fold_find(chain, former, 2, 2, false, &v), ES_FOLD_NOWHERE);
    assert_int_equal(es_fold_find(chain, former, 1, 2, false, &v), ES_FOLD_NOWHERE);
    assert_null(v);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_chain_per_table_and_id),
        cmocka_unit_test(test_many_ids_and_reuse),
        cmocka_unit_test(test_value_from_the_chain),
        cmocka_unit_test(test_another_schema_version_proves_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
