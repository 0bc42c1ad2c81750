/* es_id: readable where it can be, never two keys with one id, never one that Elasticsearch
 * refuses (which would fail the whole bulk). */
#include "tests/unit/es_support.h"

#include <stdio.h>

#include "proto/base/json.h"
#include "sinks/elasticsearch/es_id.h"

static struct schema *one, *two, *three;

static int
setup(void **state)
{
    (void)state;
    static const struct es_support_col cols[] = {{"note", 25, false, 0, NULL},
        {"a", 25, true, 0, NULL}, {"x", 25, false, 0, NULL}, {"b", 25, true, 0, NULL},
        {"c", 25, true, 0, NULL}, {0}};
    struct es_support_col some[6];
    struct schema **all[] = {&one, &two, &three};
    for (unsigned n = 0; n < 3; n++) {
        memcpy(some, cols, sizeof cols);
        some[3].in_key = n > 0;
        some[4].in_key = n > 1;
        *all[n] = es_support_schema(some, true);
    }
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    schema_unref(one);
    schema_unref(two);
    schema_unref(three);
    return 0;
}

static void
id_of(struct buf *b, const struct schema *s, struct str p1, struct str p2, struct str p3)
{
    struct record_value row[5] = {es_support_text("n"), {.kind = RECORD_TEXT, .text = p1},
        es_support_text(NULL), {.kind = RECORD_TEXT, .text = p2},
        {.kind = RECORD_TEXT, .text = p3}};
    buf_reset(b, SIZE_MAX);
    assert_true(es_id_put(b, s, row));
    assert_true(b->n > 0 && b->n <= ES_ID_MAX && json_is_utf8(buf_str(b)));
}

static void
test_key_of_one_column_is_its_text(void **state)
{
    static const char *const texts[] = {
        "42", "a|b\\c", "Zoë", "_x", " ", "a\nb", "#sha256", "1.00"};
    struct buf auto_buf b;
    (void)state;
    buf_init(&b, SIZE_MAX);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        id_of(&b, one, str_from(texts[i]), STR("ignored"), STR("ignored"));
        assert_string_equal(buf_cstr(&b), texts[i]);
    }
}

static void
test_key_of_several_columns_is_an_escaped_join(void **state)
{
    struct buf auto_buf b;
    (void)state;
    buf_init(&b, SIZE_MAX);
    id_of(&b, three, STR("a-b"), STR("c|d"), STR("e\\"));
    assert_string_equal(buf_cstr(&b), "a-b|c\\|d|e\\\\");
    id_of(&b, two, STR(""), STR(""), STR("ignored"));
    assert_string_equal(buf_cstr(&b), "|");
}

static void
test_key_that_is_no_id_is_hashed(void **state)
{
    char text[ES_ID_MAX + 1];
    struct buf auto_buf b;
    (void)state;
    buf_init(&b, SIZE_MAX);
    memset(text, 'x', sizeof text);
    id_of(&b, one, (struct str){.p = text, .n = ES_ID_MAX}, STR(""), STR(""));
    assert_memory_equal(b.p, text, ES_ID_MAX);
    const struct str unfit[] = {{.p = text, .n = ES_ID_MAX + 1}, STR(""), STR("\xff"),
        STR("#sha256-"), STR("#sha256-abc")};
    for (size_t i = 0; i < sizeof unfit / sizeof *unfit; i++) {
        id_of(&b, one, unfit[i], STR(""), STR(""));
        assert_int_equal(b.n, 8 + 64);
        assert_memory_equal(b.p, "#sha256-", 8);
    }
    /* The empty text: one part of length 0. */
    id_of(&b, one, STR(""), STR(""), STR(""));
    assert_string_equal(buf_cstr(&b),
        "#sha256-df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce8"
        "0524c014b81119");
    /* A join whose escapes make it too long. */
    memset(text, '|', sizeof text);
    id_of(&b, two, (struct str){.p = text, .n = 300}, STR("y"), STR(""));
    assert_memory_equal(b.p, "#sha256-", 8);
}

static void
test_key_without_a_text_has_no_id(void **state)
{
    struct record_value row[5] = {0};
    struct buf auto_buf b;
    (void)state;
    buf_init(&b, SIZE_MAX);
    for (unsigned kind = RECORD_ABSENT; kind <= RECORD_UNCHANGED; kind++) {
        row[1] = es_support_text("a");
        row[3] = (struct record_value){.kind = (enum record_value_kind)kind, .text = STR("b")};
        assert_int_equal(es_id_put(&b, two, row), kind == RECORD_TEXT);
    }
    assert_string_equal(buf_cstr(&b), "a|b");
}

struct pair {
    char *id, *key; /* key: parts with their lengths */
};

static int
compare_pairs(const void *left, const void *right)
{
    return strcmp(((const struct pair *)left)->id, ((const struct pair *)right)->id);
}

/* Short texts over an alphabet of troublemakers meet often; long ones are hashed. */
static size_t
random_text(char *to)
{
    static const char alphabet[] = "ab-|\\#\xc3\xa9\xff";
    size_t n = (size_t)random() % 4;
    if (random() % 50 == 0) {
        n = 250 + (size_t)random() % 20;
    }
    for (size_t i = 0; i < n; i++) {
        to[i] = alphabet[(size_t)random() % (sizeof alphabet - 1)];
    }
    return n;
}

static struct pair
random_pair(struct buf *b, const struct schema *s)
{
    char text[3][300], key[1000];
    size_t n[3];
    int at = 0;
    for (unsigned i = 0; i < 3; i++) {
        n[i] = i < s->nkeys ? random_text(text[i]) : 0;
        at += snprintf(key + at, sizeof key - (size_t)at, "%zu:%.*s", n[i], (int)n[i], text[i]);
    }
    id_of(b, s, (struct str){text[0], n[0]}, (struct str){text[1], n[1]},
        (struct str){text[2], n[2]});
    return (struct pair){.id = strdup(buf_cstr(b)), .key = strdup(key)};
}

static void
test_no_two_keys_have_one_id(void **state)
{
    enum { N = 20000 };
    struct schema *const all[] = {one, two, three};
    struct buf auto_buf b;
    (void)state;
    buf_init(&b, SIZE_MAX);
    srandom(7);
    for (unsigned k = 0; k < 3; k++) {
        struct pair *pairs = calloc(N, sizeof *pairs);
        size_t repeated = 0;
        for (size_t i = 0; i < N; i++) {
            pairs[i] = random_pair(&b, all[k]);
        }
        qsort(pairs, N, sizeof *pairs, compare_pairs);
        for (size_t i = 0; i + 1 < N; i++) {
            if (strcmp(pairs[i].id, pairs[i + 1].id) == 0) {
                assert_string_equal(pairs[i].key, pairs[i + 1].key);
                repeated++;
            }
        }
        assert_true(repeated > 0); /* the alphabet is small enough to have tried it */
        for (size_t i = 0; i < N; i++) {
            free(pairs[i].id);
            free(pairs[i].key);
        }
        free(pairs);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_of_one_column_is_its_text),
        cmocka_unit_test(test_key_of_several_columns_is_an_escaped_join),
        cmocka_unit_test(test_key_that_is_no_id_is_hashed),
        cmocka_unit_test(test_key_without_a_text_has_no_id),
        cmocka_unit_test(test_no_two_keys_have_one_id),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
