/* es_reply: shapes recorded from Elasticsearch 7.17.9, 8.19.8 and OpenSearch 2.19.1, what each
 * means, and bodies that are cut, wrong or hostile. */
#include "tests/unit/es_support.h"

#include "sinks/elasticsearch/es_mapping.h"
#include "sinks/elasticsearch/es_reply.h"

enum { MAX = 16 };

/* ---- items ---- */

#define ITEMS(list) "{\"errors\":true,\"items\":[" list "]}"
#define FAILED(action, status, error)                                                          \
    "{\"" action "\":{\"status\":" status ",\"error\":{" error "}}}"
#define TYPE(type) "\"type\":\"" type "\""

static void
test_outcome_of_every_item(void **state)
{
    static const struct {
        const char *item;
        bool is_delete;
        enum es_outcome want;
    } cases[] = {
        {"{\"index\":{\"status\":200}}", false, ES_DONE},
        {"{\"index\":{\"status\":201}}", false, ES_DONE},
        {"{\"delete\":{\"status\":200}}", true, ES_DONE},
        {"{\"delete\":{\"status\":404}}", true, ES_MISSING},
        {"{\"delete\":{\"_index\":\"t-000001\",\"status\":404}}", true, ES_MISSING},
        /* unfiltered, 7.17 */
        {"{\"index\":{\"_index\":\"t\",\"_type\":\"_doc\",\"_id\":\"1\",\"_version\":5,"
         "\"result\":\"created\",\"_shards\":{\"total\":2,\"successful\":1,\"failed\":0},"
         "\"_seq_no\":0,\"_primary_term\":1,\"status\":201}}",
            false, ES_DONE},
        {FAILED("index", "409", TYPE("version_conflict_engine_exception")), false, ES_STALE},
        {FAILED("delete", "409", TYPE("version_conflict_engine_exception")), true, ES_STALE},
        {FAILED("index", "409", TYPE("something_else")), false, ES_RETRY},
        {FAILED("index", "429", TYPE("es_rejected_execution_exception")), false, ES_PUSHED},
        {FAILED("index", "429", TYPE("circuit_breaking_exception")), false, ES_PUSHED},
        {FAILED("index", "429", TYPE("rejected_execution_exception")), false, ES_PUSHED},
        {FAILED("index", "503", TYPE("unavailable_shards_exception")), false, ES_PUSHED},
        {FAILED("index", "503", TYPE("cluster_block_exception")), false, ES_PUSHED},
        {FAILED("index", "500", TYPE("null_pointer_exception")), false, ES_RETRY},
        {FAILED("index", "404", TYPE("shard_not_found_exception")), false, ES_RETRY},
        /* flood stage: 429 since 7.?, 403 before; a person's block */
        {FAILED("index", "429", TYPE("cluster_block_exception")), false, ES_BLOCKED},
        {FAILED("index", "403", TYPE("cluster_block_exception")), false, ES_BLOCKED},
        {FAILED("delete", "403", TYPE("cluster_block_exception")), true, ES_BLOCKED},
        {FAILED("index", "400", TYPE("mapper_parsing_exception")), false, ES_REJECT},
        {FAILED("index", "400", TYPE("document_parsing_exception")), false, ES_REJECT},
        {FAILED("index", "400", TYPE("strict_dynamic_mapping_exception")), false, ES_REJECT},
        {FAILED("index", "400", TYPE("illegal_argument_exception")), false, ES_REJECT},
        {FAILED("index", "413", TYPE("whatever")), false, ES_REJECT},
        {FAILED("index", "400",
             TYPE("illegal_argument_exception") ",\"reason\":\"no write index is defined for "
                                                "alias [t]. The write index\""),
            false, ES_STOP},
        {FAILED("index", "400", TYPE("index_closed_exception")), false, ES_STOP},
        {FAILED("index", "404", TYPE("index_not_found_exception")), false, ES_STOP},
        {FAILED("delete", "404", TYPE("index_not_found_exception")), true, ES_STOP},
        {"{\"index\":{\"status\":404}}", false, ES_STOP},
        {FAILED("index", "403", TYPE("security_exception")), false, ES_STOP},
        {FAILED("index", "401", TYPE("security_exception")), false, ES_STOP},
        {"{\"index\":{\"status\":403,\"error\":\"denied\"}}", false, ES_STOP},
        {"{\"index\":{\"status\":99999999999999999999}}", false, ES_RETRY},
        {"{\"index\":{\"status\":\"200\"}}", false, ES_RETRY},
        {"{\"index\":{}}", false, ES_RETRY},
        {"{\"index\":{\"status\":302}}", false, ES_RETRY},
        {FAILED("index", "200", TYPE("odd")), false, ES_RETRY},
    };
    struct buf auto_buf body;
    (void)state;
    buf_init(&body, SIZE_MAX);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct es_item item;
        struct err e;
        buf_reset(&body, SIZE_MAX);
        buf_printf(&body, ITEMS("%s"), cases[i].item);
        assert_int_equal(es_reply_bulk(buf_str(&body), &cases[i].is_delete, 1, &item, &e), 0);
        assert_int_equal(item.outcome, cases[i].want);
    }
}

/* G1, G2: 200 with errors is not success, and only the failed ones are. */
static void
test_one_accepted_item_does_not_hide_a_failed_one(void **state)
{
    static const bool is_delete[4] = {false, false, true, false};
    const struct str body = STR(
        "{\"took\":3,\"errors\":true,\"items\":[{\"index\":{\"status\":201}},"
        "{\"index\":{\"status\":429,\"error\":{\"type\":\"es_rejected_execution_exception\","
        "\"reason\":\"rejected execution of coordinating operation\"}}},"
        "{\"delete\":{\"_index\":\"shop.item-000001\",\"status\":200}},"
        "{\"index\":{\"status\":400,\"error\":{\"reason\":\"failed to parse field [age] of "
        "type "
        "[long] in document with id '7'\",\"type\":\"mapper_parsing_exception\","
        "\"caused_by\":{\"type\":\"a\",\"caused_by\":{\"type\":\"number_format\",\"reason\":"
        "\"x\"}}}}}]}\n");
    static const enum es_outcome want[4] = {ES_DONE, ES_PUSHED, ES_DONE, ES_REJECT};
    struct es_item items[4];
    struct err e;
    (void)state;
    assert_int_equal(es_reply_bulk(body, is_delete, 4, items, &e), 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(items[i].outcome, want[i]);
    }
    assert_true(str_is(items[2].index, "shop.item-000001"));
    assert_true(str_is(items[3].cause, "number_format"));
}

static void
test_bulk_answers_that_say_nothing_are_retried_whole(void **state)
{
    static const struct {
        const char *body;
        size_t n;
    } cases[] = {
        {"", 1},
        {"{", 1},
        {"<html><body>502 Bad Gateway</body></html>", 1},
        {"null", 1},
        {"[]", 0},
        {"{\"errors\":false}", 1},
        {"{\"errors\":false,\"items\":[]}", 1},
        {"{\"errors\":false,\"items\":[{\"index\":{\"status\":200}}]}", 2},
        {"{\"errors\":false,\"items\":[{\"index\":{\"status\":200}},{\"index\":{\"status\":200}"
         "}]}",
            1},
        {"{\"errors\":false,\"items\":[{\"index\":{\"status\":200}}]", 1},
        {"{\"errors\":false,\"items\":[{\"index\":{\"status\":200}}]} x", 1},
        {"{\"errors\":false,\"items\":[{\"index\":{\"status\":200}},]}", 1},
        {"{\"errors\":false,\"items\":[{\"index\":{\"status\":200},\"delete\":{}}]}", 1},
        {"{\"errors\":false,\"items\":[{}]}", 1},
        {"{\"errors\":false,\"items\":[7]}", 1},
        {"{\"errors\":false,\"items\":{\"index\":{\"status\":200}}}", 1},
        /* two that disagree */
        {"{\"errors\":false,\"items\":[{\"index\":{\"status\":429}}]}", 1},
        {"{\"items\":[{\"index\":{\"status\":200}}],\"items\":[{\"index\":{\"status\":200}},1]"
         "}",
            2},
    };
    static const bool is_delete[MAX];
    struct es_item items[MAX];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        assert_int_equal(
            es_reply_bulk(str_from(cases[i].body), is_delete, cases[i].n, items, &e),
            ERR_CLOSED);
        assert_int_equal(err_class(e.code), ERR_CLASS_RETRY);
        assert_null(strstr(e.msg, "<html>"));
    }
}

static void
test_every_cut_of_an_answer_is_an_error(void **state)
{
    static const char body[] =
        "{\"took\":3,\"errors\":true,\"items\":[{\"index\":{\"status\":201}},{\"index\":{"
        "\"status\":400,\"error\":{\"type\":\"a\",\"reason\":\"b \\\"c\\\" \\u00e4\"}}}]}";
    static const bool is_delete[2];
    struct es_item items[2];
    struct err e;
    (void)state;
    for (size_t n = 0; n < sizeof body; n++) {
        char *cut = support_exact(body, n);
        int rc = es_reply_bulk((struct str){.p = cut, .n = n}, is_delete, 2, items, &e);
        assert_int_equal(rc, n == sizeof body - 1 ? 0 : ERR_CLOSED);
        free(cut);
    }
}

static void
test_deep_and_huge_answers_are_bounded(void **state)
{
    static const bool is_delete[1];
    struct es_item item;
    struct buf auto_buf body;
    struct err e;
    (void)state;
    buf_init(&body, SIZE_MAX);
    buf_puts(&body, "{\"items\":[{\"index\":{\"status\":400,\"error\":");
    for (int i = 0; i < 200000; i++) {
        buf_puts(&body, "{\"caused_by\":");
    }
    assert_int_equal(es_reply_bulk(buf_str(&body), is_delete, 1, &item, &e), ERR_CLOSED);
    buf_reset(&body, SIZE_MAX);
    buf_puts(&body, "{\"took\":");
    for (int i = 0; i < 100000; i++) {
        buf_puts(&body, "9");
    }
    buf_puts(&body, "e+99999,\"errors\":false,\"items\":[{\"index\":{\"status\":200}}]}");
    assert_int_equal(es_reply_bulk(buf_str(&body), is_delete, 1, &item, &e), 0);
    assert_int_equal(item.outcome, ES_DONE);
}

static void
test_reasons_hold_no_values(void **state)
{
    static const struct {
        struct es_item item;
        const char *want;
    } cases[] = {
        {{.outcome = ES_REJECT,
             .status = 400,
             .type = S("mapper_parsing_exception"),
             .cause = S("illegal_argument_exception"),
             .reason = S("failed to parse field [age] of type [long] in document with id "
                         "'secret'. Preview of field's value: 'secret'")},
            "Elasticsearch answered 400 mapper_parsing_exception because of "
            "illegal_argument_exception at field age"},
        {{.outcome = ES_REJECT,
             .status = 400,
             .type = S("illegal_argument_exception"),
             .reason = S("Document contains at least one immense term in field=\\\"name\\\" "
                         "(whose UTF8 encoding is longer). The prefix is: '[115, 101]'")},
            "Elasticsearch answered 400 illegal_argument_exception at field name"},
        {{.outcome = ES_REJECT,
             .status = 400,
             .type = S("x"),
             .reason = S("Duplicate field 'secret field [secret]'")},
            "Elasticsearch answered 400 x"},
        {{.outcome = ES_REJECT, .status = 400, .reason = S("field [no end")},
            "Elasticsearch answered 400"},
        {{.outcome = ES_STOP,
             .status = 404,
             .type = S("index_not_found_exception"),
             .reason = S("no such index [t] and [require_alias] request flag is [true]")},
            "Elasticsearch answered 404 index_not_found_exception: no such index [t] and "
            "[require_alias] request flag is [true]"},
        {{.outcome = ES_PUSHED, .status = 429, .type = S("a\nb\xff")},
            "Elasticsearch answered 429 a?b?"},
    };
    struct buf auto_buf b;
    (void)state;
    buf_init(&b, SIZE_MAX);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf_reset(&b, SIZE_MAX);
        es_reply_put_reason(&b, &cases[i].item);
        assert_string_equal(buf_cstr(&b), cases[i].want);
    }
}

/* ---- whole answers ---- */

#define ERROR_BODY(type)                                                                       \
    "{\"error\":{\"root_cause\":[{\"type\":\"" type "\",\"reason\":\"r\"}],\"type\":\"" type   \
    "\",\"reason\":\"r\"},\"status\":400}"

static void
test_what_a_whole_answer_means(void **state)
{
    static const struct {
        unsigned status;
        const char *body;
        enum es_whole want;
    } cases[] = {
        {200, "", ES_WHOLE_OK},
        {413, "<html>", ES_WHOLE_HALVE},
        {400, ERROR_BODY("illegal_argument_exception"), ES_WHOLE_HALVE},
        {400, "<html>The plain HTTP request was sent to HTTPS port", ES_WHOLE_STOP},
        {401, ERROR_BODY("security_exception"), ES_WHOLE_STOP},
        {403, ERROR_BODY("security_exception"), ES_WHOLE_STOP},
        {403, "", ES_WHOLE_STOP},
        {403, ERROR_BODY("cluster_block_exception"), ES_WHOLE_BLOCKED},
        {429, ERROR_BODY("cluster_block_exception"), ES_WHOLE_BLOCKED},
        {404, ERROR_BODY("index_not_found_exception"), ES_WHOLE_STOP},
        {405, "", ES_WHOLE_STOP},
        {302, "", ES_WHOLE_STOP},
        {408, "", ES_WHOLE_PUSHED},
        {429, ERROR_BODY("circuit_breaking_exception"), ES_WHOLE_PUSHED},
        {502, "<html>", ES_WHOLE_PUSHED},
        {503, ERROR_BODY("master_not_discovered_exception"), ES_WHOLE_PUSHED},
        {503, ERROR_BODY("cluster_block_exception"), ES_WHOLE_PUSHED},
        {504, "", ES_WHOLE_PUSHED},
        {500, ERROR_BODY("x"), ES_WHOLE_RETRY},
        {0, "", ES_WHOLE_RETRY},
        {100, "", ES_WHOLE_RETRY},
        {999, "", ES_WHOLE_RETRY},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(
            es_reply_whole(cases[i].status, str_from(cases[i].body)), cases[i].want);
    }
}

static void
test_sentences_about_whole_answers(void **state)
{
    struct buf auto_buf b;
    (void)state;
    buf_init(&b, SIZE_MAX);
    es_reply_put_error(&b, 400, STR(ERROR_BODY("parsing_exception")), true);
    assert_string_equal(buf_cstr(&b), "answered 400 parsing_exception: r");
    buf_reset(&b, SIZE_MAX);
    es_reply_put_error(&b, 400, STR(ERROR_BODY("parsing_exception")), false);
    assert_string_equal(buf_cstr(&b), "answered 400 parsing_exception");
    buf_reset(&b, SIZE_MAX);
    es_reply_put_error(&b, 502, STR("<html>secret"), true);
    assert_string_equal(buf_cstr(&b), "answered 502, with a body that is not Elasticsearch's");
    assert_true(es_reply_is_error(STR(ERROR_BODY("resource_already_exists_exception")),
        "resource_already_exists_exception"));
    assert_false(es_reply_is_error(STR(ERROR_BODY("a")), "b"));
    assert_false(es_reply_is_error(STR("a"), "a"));
}

/* ---- GET / ---- */

static void
test_what_kind_of_server_it_is(void **state)
{
    static const struct {
        const char *body;
        struct es_info want;
    } cases[] = {
        {"{\n  \"name\" : \"n\",\n  \"cluster_uuid\" : \"x\",\n  \"version\" : {\n    "
         "\"number\" : \"7.17.9\",\n    \"build_flavor\" : \"default\"\n  },\n  \"tagline\" : "
         "\"You Know, for Search\"\n}\n",
            {.major = 7, .minor = 17, .patch = 9, .number = "7.17.9"}},
        {"{\"version\":{\"number\":\"8.0.0-SNAPSHOT\"}}",
            {.major = 8, .number = "8.0.0-SNAPSHOT"}},
        {"{\"version\":{\"distribution\":\"opensearch\",\"number\":\"2.19.1\"},\"tagline\":"
         "\"The "
         "OpenSearch Project: https://opensearch.org/\"}",
            {.is_opensearch = true, .major = 2, .minor = 19, .patch = 1, .number = "2.19.1"}},
    };
    static const char *const bad[] = {"", "{}", "<html>", "{\"version\":\"7\"}",
        "{\"version\":{\"number\":\"x\"}}", "{\"version\":{\"number\":\"7.17\"}}",
        "{\"version\":{\"number\":7}}", "{\"version\":{\"number\":\"7.17.9\"}",
        "{\"version\":{\"number\":\"99999.1.1\"}}",
        "{\"version\":{\"number\":\"1.1.1-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}}"};
    struct es_info info;
    struct err e;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(es_reply_info(str_from(cases[i].body), &info, &e), 0);
        assert_int_equal(info.is_opensearch, cases[i].want.is_opensearch);
        assert_int_equal(info.major, cases[i].want.major);
        assert_int_equal(info.minor, cases[i].want.minor);
        assert_int_equal(info.patch, cases[i].want.patch);
        assert_string_equal(info.number, cases[i].want.number);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(es_reply_info(str_from(bad[i]), &info, &e), ERR_PROTOCOL);
    }
}

/* ---- _mget ---- */

static void
test_documents_of_an_mget(void **state)
{
    const struct str body = STR(
        "{\"docs\":[{\"_index\":\"t-000001\",\"_type\":\"_doc\",\"_id\":\"1\",\"_version\":5,"
        "\"_seq_no\":0,\"_primary_term\":1,\"found\":true,\"_source\":{\"a\": 1.10}},"
        "{\"_index\":\"t-000001\",\"_type\":\"_doc\",\"_id\":\"2\",\"found\":false},"
        "{\"_index\":\"t\",\"_id\":\"3\",\"error\":{\"type\":\"index_not_found_exception\"}},"
        "{\"_id\":\"4\",\"found\":true,\"_version\":5},"
        "{\"_id\":\"5\",\"found\":true,\"_source\":{}},"
        "{\"_id\":\"6\",\"found\":true,\"_version\":-1,\"_source\":{}}]}");
    struct es_doc docs[7];
    struct err e;
    (void)state;
    assert_int_equal(es_reply_mget(body, 6, docs, &e), 0);
    assert_true(docs[0].is_found && docs[0].version == 5);
    assert_true(str_is(docs[0].source, "{\"a\": 1.10}"));
    assert_true(!docs[1].is_found && !docs[1].is_failed);
    for (unsigned i = 2; i < 6; i++) {
        assert_true(docs[i].is_failed && !docs[i].is_found);
    }
    assert_int_equal(es_reply_mget(body, 5, docs, &e), ERR_CLOSED);
    assert_int_equal(es_reply_mget(body, 7, docs, &e), ERR_CLOSED);
    for (size_t n = 0; n < body.n; n++) {
        assert_int_equal(
            es_reply_mget((struct str){.p = body.p, .n = n}, 6, docs, &e), ERR_CLOSED);
    }
}

static void
test_values_of_a_source(void **state)
{
    static const struct es_support_col cols[] = {{"id", 23, true, 0, NULL},
        {"na\"me", 25, false, 0, NULL}, {"j", 3802, false, 0, NULL},
        {"_id", 25, false, 0, NULL}, {0}};
    static const char *const bad[] = {"", "[]", "{\"id\":}", "{\"id\":1", "{} x"};
    struct schema *s = es_support_schema(cols, false);
    struct es_shape *shape = es_shape_new(s, NULL);
    struct str values[4];
    struct err e;
    (void)state;
    assert_int_equal(
        es_reply_source(STR("{\"%5Fid\":\"v\",\"j\":{\"id\": 9, \"a\":[1.10]},\"old\":[],"
                            "\"na\\\"me\":null,\"j\":{\"last\":1}}"),
            shape, values, &e),
        0);
    assert_null(values[0].p);
    assert_true(str_is(values[1], "null"));
    assert_true(str_is(values[2], "{\"last\":1}"));
    assert_true(str_is(values[3], "\"v\""));
    assert_int_equal(
        es_reply_source(STR("{\"i\\u0064\":1,\"na\\u0022me\":2}"), shape, values, &e), 0);
    assert_true(str_is(values[0], "1") && str_is(values[1], "2"));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(es_reply_source(str_from(bad[i]), shape, values, &e), ERR_CORRUPT);
    }
    es_shape_free(shape);
    schema_unref(s);
}

/* What was rendered is found again, and renders the same. */
static void
test_source_round_trip(void **state)
{
    static const struct es_support_col cols[] = {{"id", 23, true, 0, NULL},
        {"a.\"b\\\n", 25, false, 0, NULL}, {"j", 114, false, 0, NULL}, {0}};
    struct schema *s = es_support_schema(cols, false);
    struct es_shape *shape = es_shape_new(s, NULL);
    struct record_value row[] = {es_support_text("1"), es_support_text("x\n\"y"),
        es_support_text("{ \"k\" : [ 1.50 ] }")};
    struct buf auto_buf first, auto_buf second;
    struct str values[3];
    struct err e;
    (void)state;
    buf_init(&first, SIZE_MAX);
    buf_init(&second, SIZE_MAX);
    assert_true(es_render_put_source(&first, shape, s, row, NULL));
    assert_int_equal(es_reply_source(buf_str(&first), shape, values, &e), 0);
    row[1].kind = row[2].kind = RECORD_UNCHANGED;
    assert_true(es_render_put_source(&second, shape, s, row, values));
    assert_string_equal(buf_cstr(&first), buf_cstr(&second));
    es_shape_free(shape);
    schema_unref(s);
}

/* ---- mappings ---- */

static const struct es_support_col key_cols[] = {{"id", 23, true, 0, NULL},
    {"x", 25, false, 0, NULL}, {"\xc3\xa4\"", 25, true, 0, NULL}, {0}};

static void
test_mapping_that_we_made_is_ours(void **state)
{
    const struct es_dialect d = {.major = 8};
    const struct es_meta meta = {.uuid = {1, 2, 0xfe}, .epoch = 7, .generation = 12};
    struct schema *s = es_support_schema(key_cols, false);
    struct buf auto_buf made, auto_buf body;
    struct es_live live;
    bool is_new[3];
    struct err e;
    (void)state;
    buf_init(&made, SIZE_MAX);
    buf_init(&body, SIZE_MAX);
    es_mapping_put_create(&made, &d, s, NULL, &meta, STR("shop.item"));
    const char *mappings = strstr(buf_cstr(&made), "\"mappings\":");
    buf_printf(&body, "{\"shop.item-000012\":{%s}", mappings); /* its brace ends the index */
    assert_int_equal(es_reply_mapping(buf_str(&body), &live, &e), 0);
    assert_int_equal(live.indices, 1);
    assert_true(str_is(live.index, "shop.item-000012"));
    assert_true(live.has_meta && !live.is_newer);
    assert_memory_equal(live.uuid, meta.uuid, sizeof live.uuid);
    assert_int_equal(live.epoch, 7);
    assert_int_equal(live.generation, 12);
    assert_true(live.fields >= 3 && live.fields <= 10);
    assert_true(es_reply_is_of_table(&live, s));
    assert_int_equal(es_mapping_find_new(s, NULL, live.properties, is_new, &e), 0);
    schema_unref(s);
}

#define META_OF(version, key)                                                                  \
    "{\"t-000001\":{\"mappings\":{\"dynamic\":\"false\",\"_meta\":{\"oneslot\":{"              \
    "\"version\":" version                                                                     \
    ",\"log\":\"000102030405060708090a0b0c0d0e0f\",\"epoch\":1,\"generation\":1,"              \
    "\"schema\":\"shop\",\"table\":\"item\",\"key\":" key "}},\"properties\":{\"id\":{}}}}}"

static void
test_mappings_of_others_are_not_ours(void **state)
{
    static const struct {
        const char *body;
        bool has_meta, is_newer, is_of_table;
        size_t indices;
    } cases[] = {
        {META_OF("1", "[\"id\",\"\\u00e4\\\"\"]"), true, false, true, 1},
        {META_OF("1", "[\"id\"]"), true, false, false, 1},
        {META_OF("1", "[\"\\u00e4\\\"\",\"id\"]"), true, false, false, 1},
        {META_OF("1", "[\"id\",\"\\u00e4\\\"\",\"x\"]"), true, false, false, 1},
        {META_OF("1", "[\"id\",7]"), true, false, false, 1},
        {META_OF("1", "\"id\""), false, false, false, 1},
        {META_OF("2", "[]"), false, true, false, 1},
        {META_OF("\"1\"", "[]"), false, false, false, 1},
        {"{}", false, false, false, 0},
        {"{\"t\":{\"mappings\":{}}}", false, false, false, 1},
        {"{\"a\":{\"mappings\":{\"_meta\":{\"oneslot\":5}}},\"b\":{}}", false, false, false, 2},
        {"{\"a\":{\"mappings\":{\"_meta\":{\"oneslot\":{\"version\":1,\"log\":\"00\"}}}}}",
            false, false, false, 1},
    };
    struct schema *s = es_support_schema(key_cols, false);
    struct es_live live;
    struct err e;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(es_reply_mapping(str_from(cases[i].body), &live, &e), 0);
        assert_int_equal(live.has_meta, cases[i].has_meta);
        assert_int_equal(live.is_newer, cases[i].is_newer);
        assert_int_equal(live.indices, cases[i].indices);
        assert_int_equal(es_reply_is_of_table(&live, s), cases[i].is_of_table);
    }
    const char *whole = cases[0].body;
    for (size_t n = 0; n < strlen(whole); n++) {
        assert_int_equal(
            es_reply_mapping((struct str){.p = whole, .n = n}, &live, &e), ERR_CLOSED);
    }
    schema_unref(s);
}

/* ---- pages ---- */

#define PAGE(timed_out, failed, hits)                                                          \
    "{\"_scroll_id\":\"abc==\",\"pit_id\":\"p\",\"took\":5,\"timed_out\":" timed_out           \
    ",\"_shards\":{\"total\":1,\"successful\":1,\"skipped\":0,\"failed\":" failed              \
    "},\"hits\":{\"total\":{\"value\":2,\"relation\":\"eq\"},\"max_score\":null,\"hits\":"     \
    "[" hits "]}}"
#define HIT(id, version)                                                                       \
    "{\"_index\":\"t-000001\",\"_type\":\"_doc\",\"_id\":\"" id "\",\"_version\":" version     \
    ",\"_score\":null,\"sort\":[" version "]}"

static void
test_pages_of_a_search(void **state)
{
    struct es_hit hits[2];
    struct es_page page;
    struct err e;
    (void)state;
    const struct str body = STR(PAGE("false", "0", HIT("1", "7") "," HIT("a\\\"b", "9")));
    assert_int_equal(es_reply_page(body, hits, 2, &page, &e), 0);
    assert_int_equal(page.n, 2);
    assert_false(page.is_partial);
    assert_true(str_is(page.scroll_id, "abc==") && str_is(page.pit_id, "p"));
    assert_true(str_is(page.sort, "[9]"));
    assert_true(str_is(hits[1].id, "a\\\"b") && hits[1].version == 9 && hits[0].version == 7);
    assert_int_equal(es_reply_page(body, hits, 1, &page, &e), ERR_CLOSED);
    for (size_t n = 0; n < body.n; n++) {
        assert_int_equal(
            es_reply_page((struct str){.p = body.p, .n = n}, hits, 2, &page, &e), ERR_CLOSED);
    }
    assert_int_equal(es_reply_page(STR(PAGE("true", "0", "")), hits, 2, &page, &e), 0);
    assert_true(page.is_partial && page.n == 0);
    assert_int_equal(es_reply_page(STR(PAGE("false", "1", "")), hits, 2, &page, &e), 0);
    assert_true(page.is_partial);
    assert_int_equal(es_reply_page(STR("{\"hits\":{}}"), hits, 2, &page, &e), ERR_CLOSED);
    assert_int_equal(es_reply_page(STR("{\"hits\":{\"hits\":[]},\"hits\":{\"hits\":[]}}"), hits,
                         2, &page, &e),
        ERR_CLOSED);
    assert_int_equal(
        es_reply_page(STR("{\"hits\":{\"hits\":[{\"_id\":\"1\"}]}}"), hits, 2, &page, &e),
        ERR_CLOSED);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outcome_of_every_item),
        cmocka_unit_test(test_one_accepted_item_does_not_hide_a_failed_one),
        cmocka_unit_test(test_bulk_answers_that_say_nothing_are_retried_whole),
        cmocka_unit_test(test_every_cut_of_an_answer_is_an_error),
        cmocka_unit_test(test_deep_and_huge_answers_are_bounded),
        cmocka_unit_test(test_reasons_hold_no_values),
        cmocka_unit_test(test_what_a_whole_answer_means),
        cmocka_unit_test(test_sentences_about_whole_answers),
        cmocka_unit_test(test_what_kind_of_server_it_is),
        cmocka_unit_test(test_documents_of_an_mget),
        cmocka_unit_test(test_values_of_a_source),
        cmocka_unit_test(test_source_round_trip),
        cmocka_unit_test(test_mapping_that_we_made_is_ours),
        cmocka_unit_test(test_mappings_of_others_are_not_ours),
        cmocka_unit_test(test_pages_of_a_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
