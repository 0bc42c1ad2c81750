/* state, beside: what is known of sinks survives a reopening, what a former version wrote is
 * read, and what a later one wrote is refused. */
#include "log_support.h"

#include "broker/beside.h"

static const uint8_t uuid[API_UUID] = {1, 2, 3};

static void
new_folder(char dir[64])
{
    (void)snprintf(dir, 64, "/tmp/oneslot-unit-XXXXXX");
    assert_non_null(mkdtemp(dir));
}

static void
remove_folder(const char *dir)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0); /* lint:allow system: a test's own folder */
}

static void
test_a_sink_is_kept_whole(void **state)
{
    (void)state;
    char dir[64];
    struct state *st;
    struct err e;
    struct sink_row got;
    struct sink_row row = {.name = "s",
        .kind = "file",
        .next = 100,
        .generation = 7,
        .tables = "a.*,b.*",
        .is_paused = true,
        .floor = 50};
    new_folder(dir);
    support_ok(state_open(dir, uuid, true, &st, &e), &e);
    support_ok(state_set_sink(st, &row, &e), &e);
    state_close(st);
    support_ok(state_open(dir, uuid, false, &st, &e), &e);
    support_ok(state_sink(st, "s", &got, &e), &e);
    assert_memory_equal(&got, &row, sizeof row);
    state_close(st);
    remove_folder(dir);
}

/* Writes a sink as bytes into the state's folder. */
static void
write_sink(const char *dir, struct str value)
{
    struct beside bs;
    struct err e;
    struct store_txn *t;
    struct beside_conf c = {.data_dir = dir,
        .name = "state",
        .tables = {"m", "k"},
        .map_bytes = 1 << 24,
        .disk_bytes = 1 << 20};
    support_ok(beside_open(&c, uuid, &bs, &e), &e);
    support_ok(beside_begin(&bs, value.n, &t, &e), &e);
    support_ok(store_put(t, 1, STR("s"), value, &e), &e);
    support_ok(store_commit(t, &e), &e);
    beside_close(&bs);
}

static void
test_a_sink_of_the_former_version_is_read(void **state)
{
    (void)state;
    char dir[64];
    struct state *st;
    struct err e;
    struct sink_row got;
    new_folder(dir);
    support_ok(state_open(dir, uuid, true, &st, &e), &e);
    state_close(st);
    write_sink(dir, STR("\x95\x01\xa4"
                        "file\x64\x07\xa1"
                        "t"));
    support_ok(state_open(dir, uuid, false, &st, &e), &e);
    support_ok(state_sink(st, "s", &got, &e), &e);
    assert_int_equal(got.next, 100);
    assert_int_equal(got.generation, 7);
    assert_string_equal(got.tables, "t");
    assert_int_equal(got.floor, 100); /* its history begins where it stands */
    assert_false(got.is_paused);
    support_ok(state_set_sink(st, &got, &e), &e);
    state_close(st);
    support_ok(state_open(dir, uuid, false, &st, &e), &e);
    support_ok(state_sink(st, "s", &got, &e), &e);
    assert_int_equal(got.floor, 100);
    state_close(st);
    remove_folder(dir);
}

static void
test_what_is_not_understood_is_refused(void **state)
{
    (void)state;
    static const struct {
        struct str value;
        int code;
    } values[] = {
        {{"\x95\x03\xa1k\x64\x07\xa0", 7}, ERR_NEWER},
        {{"\x95\x02\xa1k\x64\x07\xa0", 7}, ERR_CORRUPT}, /* too few fields for version 2 */
        {{"\x95\x00\xa1k\x64\x07\xa0", 7}, ERR_CORRUPT},
        {{"\x95\x01\xa1k\x64\x07", 6}, ERR_CORRUPT},
        {{"\x95\x01\xa1k\x64\xa1x\xa0", 8}, ERR_CORRUPT},
    };
    char dir[64];
    struct state *st;
    struct err e;
    new_folder(dir);
    support_ok(state_open(dir, uuid, true, &st, &e), &e);
    state_close(st);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        write_sink(dir, values[i].value);
        assert_int_equal(state_open(dir, uuid, false, &st, &e), values[i].code);
    }
    remove_folder(dir);
}

static void
test_a_half_made_folder_is_made_anew(void **state)
{
    (void)state;
    char dir[64];
    char path[128];
    struct state *st;
    struct err e;
    new_folder(dir);
    (void)snprintf(path, sizeof path, "%s/state.new", dir);
    support_ok(fs_mkdir(path, 0700, &e), &e);
    (void)snprintf(path, sizeof path, "%s/state.new/data.mdb", dir);
    support_ok(fs_write_atomic(path, STR("torn"), 0600, &e), &e);
    (void)snprintf(path, sizeof path, "%s/state", dir);
    support_ok(fs_mkdir(path, 0700, &e), &e); /* without a data.mdb */
    support_ok(state_open(dir, uuid, true, &st, &e), &e);
    state_close(st);
    remove_folder(dir);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_sink_is_kept_whole),
        cmocka_unit_test(test_a_sink_of_the_former_version_is_read),
        cmocka_unit_test(test_what_is_not_understood_is_refused),
        cmocka_unit_test(test_a_half_made_folder_is_made_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
