/* The cache follows every Relation message, and says when a table needs a new schema version.
 */
#include "replicator/relcache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define S(literal)                                                                             \
    {                                                                                          \
        .p = (literal), .n = sizeof(literal) - 1                                               \
    }

static const struct pgoutput_column two_cols[] = {
    {.name = S("id"), .typoid = 23, .typmod = -1, .is_key = true},
    {.name = S("name"), .typoid = 20000, .typmod = -1},
};
static const struct pgoutput_relation table = {.relid = 16385,
    .ns = S("public"),
    .name = S("t"),
    .replident = 'd',
    .ncols = 2,
    .cols = two_cols};

static struct relation *
put(struct relcache *c, const struct pgoutput_relation *r)
{
    struct err e = {0};
    struct relation *rel = NULL;
    if (relcache_put(c, r, &rel, &e) != 0) {
        fail_msg("%s", e.msg);
    }
    return rel;
}

static void
put_type(struct relcache *c, uint32_t oid, const char *ns, const char *name)
{
    struct err e = {0};
    struct pgoutput_typ t = {.oid = oid, .ns = str_from(ns), .name = str_from(name)};
    assert_int_equal(relcache_put_type(c, &t, &e), 0);
}

#define assert_str(s, cstr) assert_true(str_is((s), (cstr)))

static void
test_keeps_what_was_said(void **state)
{
    (void)state;
    struct relcache c;
    relcache_init(&c, 1 << 20, true);
    assert_null(relcache_find(&c, 16385));
    put_type(&c, 20000, "my", "mood");
    struct relation *rel = put(&c, &table);
    assert_ptr_equal(relcache_find(&c, 16385), rel);
    assert_null(relcache_find(&c, 16386));
    const struct schema *s = &rel->schema;
    assert_true(s->id == 0 && s->relid == 16385 && s->replident == 'd' && s->raw_text);
    assert_true(s->ncols == 2 && s->nkeys == 1 && !rel->needs_key);
    assert_str(s->ns, "public");
    assert_str(s->name, "t");
    assert_str(s->cols[0].name, "id");
    assert_true(s->cols[0].typoid == 23 && s->cols[0].typmod == -1 && s->cols[0].in_key);
    assert_str(s->cols[0].type_name, "");
    assert_str(s->cols[1].name, "name");
    assert_true(!s->cols[1].in_key);
    assert_str(s->cols[1].type_name, "my.mood");
    relcache_fini(&c);
}

static void
test_empty_namespace_is_pg_catalog(void **state)
{
    (void)state;
    struct relcache c;
    relcache_init(&c, 1 << 20, false);
    put_type(&c, 20000, "", "int4");
    struct pgoutput_relation r = table;
    r.ns = (struct str){.p = "", .n = 0};
    struct relation *rel = put(&c, &r);
    assert_str(rel->schema.ns, "pg_catalog");
    assert_str(rel->schema.cols[1].type_name, "pg_catalog.int4");
    relcache_fini(&c);
}

/* Each way in which a table can differ from what it was. */
static void
test_version_ends_with_any_difference(void **state)
{
    (void)state;
    static const struct pgoutput_column renamed[] = {
        {.name = S("id"), .typoid = 23, .typmod = -1, .is_key = true},
        {.name = S("nom"), .typoid = 20000, .typmod = -1}};
    static const struct pgoutput_column retyped[] = {
        {.name = S("id"), .typoid = 20, .typmod = -1, .is_key = true},
        {.name = S("name"), .typoid = 20000, .typmod = -1}};
    static const struct pgoutput_column resized[] = {
        {.name = S("id"), .typoid = 23, .typmod = -1, .is_key = true},
        {.name = S("name"), .typoid = 20000, .typmod = 24}};
    static const struct pgoutput_column rekeyed[] = {
        {.name = S("id"), .typoid = 23, .typmod = -1},
        {.name = S("name"), .typoid = 20000, .typmod = -1, .is_key = true}};
    static const struct pgoutput_column swapped[] = {
        {.name = S("name"), .typoid = 20000, .typmod = -1},
        {.name = S("id"), .typoid = 23, .typmod = -1, .is_key = true}};
    const struct pgoutput_column *const cols[] = {renamed, retyped, resized, rekeyed, swapped};
    struct pgoutput_relation others[9];
    size_t n = 0;
    for (; n < sizeof cols / sizeof cols[0]; n++) {
        others[n] = table;
        others[n].cols = cols[n];
    }
    others[n] = table;
    others[n++].ncols = 1;
    others[n] = table;
    others[n++].name = (struct str)S("u");
    others[n] = table;
    others[n++].ns = (struct str)S("private");
    others[n] = table;
    others[n++].replident = 'i';
    for (size_t i = 0; i < n; i++) {
        struct relcache c;
        relcache_init(&c, 1 << 20, false);
        put(&c, &table)->schema.id = 7;
        assert_int_equal(put(&c, &table)->schema.id, 7);
        struct relation *rel = put(&c, &others[i]);
        assert_int_equal(rel->schema.id, 0);
        assert_ptr_equal(relcache_find(&c, table.relid), rel);
        assert_int_equal(c.relations.n, 1);
        relcache_fini(&c);
    }
}

static void
test_renamed_type_is_a_difference(void **state)
{
    (void)state;
    struct relcache c;
    relcache_init(&c, 1 << 20, false);
    put_type(&c, 20000, "my", "mood");
    put(&c, &table)->schema.id = 7;
    put_type(&c, 20000, "my", "mood");
    assert_int_equal(put(&c, &table)->schema.id, 7);
    put_type(&c, 20000, "my", "feeling");
    assert_int_equal(put(&c, &table)->schema.id, 0);
    assert_int_equal(c.types.n, 1);
    relcache_fini(&c);
}

static void
test_key_under_full_is_told(void **state)
{
    (void)state;
    static const struct pgoutput_column all[] = {
        {.name = S("id"), .typoid = 23, .typmod = -1, .is_key = true},
        {.name = S("name"), .typoid = 25, .typmod = -1, .is_key = true}};
    struct pgoutput_relation full = table;
    full.replident = 'f';
    full.cols = all;
    static const struct str id[] = {S("id")}, more[] = {S("id"), S("gone")};
    struct relcache c;
    relcache_init(&c, 1 << 20, false);
    struct relation *rel = put(&c, &full);
    assert_true(rel->needs_key && rel->schema.nkeys == 0);
    assert_true(relcache_set_key(rel, id, 1));
    assert_true(!rel->needs_key && rel->schema.nkeys == 1);
    assert_true(rel->schema.cols[0].in_key && !rel->schema.cols[1].in_key);
    rel->schema.id = 7;

    rel = put(&c, &full); /* said again: ask again, but nothing changed */
    assert_true(rel->needs_key && rel->schema.id == 7);
    assert_true(relcache_set_key(rel, id, 1));
    assert_int_equal(rel->schema.id, 7);

    rel = put(&c, &full);
    assert_false(relcache_set_key(rel, more, 2)); /* half a key is none */
    assert_true(rel->schema.nkeys == 0 && !rel->schema.cols[0].in_key && rel->schema.id == 0);
    rel->schema.id = 8;
    rel = put(&c, &full);
    assert_true(relcache_set_key(rel, NULL, 0)); /* no primary key */
    assert_true(rel->schema.nkeys == 0 && rel->schema.id == 8);
    relcache_fini(&c);
}

static void
test_many_tables(void **state)
{
    (void)state;
    struct relcache c;
    relcache_init(&c, 1 << 24, false);
    for (uint32_t i = 1; i <= 5000; i++) {
        char name[16];
        struct pgoutput_relation r = table;
        r.relid = i * 64;
        r.name = (struct str){.p = name, .n = (size_t)snprintf(name, sizeof name, "t%u", i)};
        (void)put(&c, &r);
        put_type(&c, 20000 + i, "my", name);
    }
    for (uint32_t i = 1; i <= 5000; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "t%u", i);
        assert_str(relcache_find(&c, i * 64)->schema.name, name);
        assert_null(relcache_find(&c, i * 64 + 1));
    }
    assert_true(c.relations.n == 5000 && c.types.n == 5000);
    relcache_reset(&c);
    assert_true(c.bytes == 0 && relcache_find(&c, 64) == NULL);
    assert_non_null(put(&c, &table));
    relcache_fini(&c);
}

static void
test_is_bounded(void **state)
{
    (void)state;
    struct relcache c;
    relcache_init(&c, 4096, false);
    struct err e = {0};
    struct relation *rel = NULL;
    for (int i = 0; i < 1000; i++) { /* the same one again takes nothing */
        (void)put(&c, &table);
        put_type(&c, 20000, "my", "mood");
    }
    struct pgoutput_relation r = table;
    int rc = 0;
    for (r.relid = 1; rc == 0 && r.relid < 1000; r.relid++) {
        rc = relcache_put(&c, &r, &rel, &e);
    }
    assert_int_equal(rc, ERR_BUSY);
    assert_true(c.bytes <= 4096 && r.relid > 5);
    assert_null(relcache_find(&c, r.relid - 1));
    assert_non_null(relcache_find(&c, table.relid));
    char longest[5000];
    memset(longest, 'x', sizeof longest);
    struct pgoutput_typ t = {
        .oid = 1, .ns = {.p = longest, .n = sizeof longest}, .name = S("n")};
    assert_int_equal(relcache_put_type(&c, &t, &e), ERR_BUSY);
    relcache_fini(&c);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_what_was_said),
        cmocka_unit_test(test_empty_namespace_is_pg_catalog),
        cmocka_unit_test(test_version_ends_with_any_difference),
        cmocka_unit_test(test_renamed_type_is_a_difference),
        cmocka_unit_test(test_key_under_full_is_told),
        cmocka_unit_test(test_many_tables),
        cmocka_unit_test(test_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
