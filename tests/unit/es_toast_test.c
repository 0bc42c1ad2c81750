/* es_toast: which document may be trusted for the columns that an update leaves out. */
#include "es_support.h"

#include "sinks/elasticsearch/es_toast.h"

enum { NCOLS = 3 };

static const struct es_support_col cols[] = {
    {"id", 23, true, 0, NULL}, {"name", 25, false, 0, NULL}, {"note", 25, false, 0, NULL}, {0}};

#define U support_unchanged

static struct schema *schema;
static struct es_shape *shape;
static struct record_value rows[2][NCOLS];
static struct record records[2];
static const size_t former[2] = {ES_FOLD_NONE, 0};
static bool is_reread[2], is_barred[2];
static uint64_t floors[2];
static struct es_toast_batch batch = {.records = records,
    .former = former,
    .barred = is_barred,
    .floors = floors,
    .is_reread = is_reread};

static void
put_update(size_t i, uint64_t offset, const char *name, const char *note)
{
    const char *const texts[NCOLS] = {"1", name, note};
    for (size_t c = 0; c < NCOLS; c++) {
        rows[i][c] = texts[c] == U ? (struct record_value){.kind = RECORD_UNCHANGED}
                                   : es_support_text(texts[c]);
    }
    records[i] = (struct record){
        .offset = offset, .schema = schema, .op = FRAME_UPDATE, .new_row = rows[i]};
}

/* At 20 an update that leaves `note` out, at 21 one that leaves `name` and `note` out. */
static int
setup(void **state)
{
    (void)state;
    schema = es_support_schema(cols, false);
    shape = es_shape_new(schema, NULL);
    memset(is_reread, 0, sizeof is_reread);
    memset(is_barred, 0, sizeof is_barred);
    memset(floors, 0, sizeof floors);
    put_update(0, 20, "n\"20", U);
    put_update(1, 21, U, U);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    es_shape_free(shape);
    schema_unref(schema);
    return 0;
}

static struct es_want
want_of(size_t last)
{
    return (struct es_want){.last = last, .id = STR("1"), .shape = shape};
}

static struct es_doc
doc_at(uint64_t version, const char *source)
{
    return (struct es_doc){.is_found = true, .version = version, .source = str_from(source)};
}

#define SOURCE "{\"id\":1,\"name\":\"old\",\"note\":\"no\\nte\"}"

/* From what was asked for: `name` of the batch, `note` of the document. */
static void
test_batch_and_document_together(void **state)
{
    (void)state;
    struct es_want w = want_of(1);
    struct es_doc doc = doc_at(19, SOURCE);
    es_toast_step(&batch, &w, NULL);
    assert_int_equal(w.state, ES_TOAST_ASK);
    es_toast_step(&batch, &w, &doc);
    assert_int_equal(w.state, ES_TOAST_READY);
    assert_true(str_is(w.fill[1], "\"n\\\"20\""));
    assert_true(str_is(w.fill[2], "\"no\\nte\""));
    assert_false(is_reread[0] || is_reread[1]);
    es_want_fini(&w);
}

static void
check_with(struct es_doc doc, enum es_toast_state state, bool rereads)
{
    struct es_want w = want_of(0);
    es_toast_step(&batch, &w, NULL);
    if (w.state == ES_TOAST_ASK) {
        es_toast_step(&batch, &w, &doc);
    }
    assert_int_equal(w.state, state);
    assert_int_equal(is_reread[0], rereads);
    es_want_fini(&w);
    memset(is_reread, 0, sizeof is_reread);
}

static void
test_which_document_is_trusted(void **state)
{
    (void)state;
    check_with(doc_at(19, SOURCE), ES_TOAST_READY, false);
    check_with(doc_at(20, SOURCE), ES_TOAST_STALE, false); /* it is there already */
    check_with(doc_at(21, SOURCE), ES_TOAST_STALE, false);
    check_with((struct es_doc){0}, ES_TOAST_NOTHING, true);
    check_with((struct es_doc){.is_failed = true}, ES_TOAST_RETRY, false);
    check_with(doc_at(19, "{\"id\":1,\"name\":\"old\"}"), ES_TOAST_NOTHING, true);
    check_with(doc_at(19, "{\"id\":1,\"note\":null}"), ES_TOAST_READY, false);
    check_with(doc_at(19, "not an object"), ES_TOAST_NOTHING, true);
    floors[0] = 19;
    check_with(doc_at(19, SOURCE), ES_TOAST_READY, false);
    floors[0] = 20;
    check_with(doc_at(19, SOURCE), ES_TOAST_NOTHING, true);
    floors[0] = 0;
    is_barred[0] = true;
    check_with(doc_at(19, SOURCE), ES_TOAST_NOTHING, true);
}

/* What cannot be proven is read again; the record before it is written as it is. */
static void
test_the_record_before_is_written(void **state)
{
    (void)state;
    struct es_want w = want_of(1);
    put_update(0, 20, "n", "whole");
    is_barred[1] = true;
    es_toast_step(&batch, &w, NULL);
    assert_int_equal(w.state, ES_TOAST_READY);
    assert_int_equal(w.last, 0);
    assert_null(w.fill);
    assert_true(is_reread[1] && !is_reread[0]);
    es_want_fini(&w);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_batch_and_document_together),
        TEST(test_which_document_is_trusted),
        TEST(test_the_record_before_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
