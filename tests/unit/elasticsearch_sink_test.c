/* The elasticsearch kind against a peer that answers as told: what becomes of each record, how
 * requests are split, who is asked, with which credentials. Real servers are in tests/e2e. */
#include "es_peer.h"

#include "proto/base/conf.h"
#include "proto/base/fs.h"
#include "proto/base/xmalloc.h"
#include "sinks/registry.h"

enum { NCOLS = 3, MANY = 300, LARGE_TEXT = 20000 };

static const struct es_support_col cols[] = {
    {"id", 23, true, 0, NULL}, {"name", 25, false, 0, NULL}, {"note", 25, false, 0, NULL}, {0}};

/* One sink of one configuration. */
static struct {
    struct schema *schema;
    const struct sink_ops *ops;
    struct conf_doc *doc;
    void *options;
    struct sink *sink;
    struct record records[MANY];
    struct record_value rows[MANY][NCOLS];
    char ids[MANY][24];
    struct sink_verdict verdicts[MANY];
    char folder[64], file[96], seen[96];
    uint64_t next, floor; /* of a batch */
    uint64_t epoch;       /* of the log */
} t;

static int
setup(void **state)
{
    (void)state;
    memset(&t, 0, sizeof t);
    t.schema = es_support_schema(cols, false);
    t.ops = registry_find("elasticsearch");
    (void)snprintf(t.folder, sizeof t.folder, "/tmp/es_sink_XXXXXX");
    assert_non_null(mkdtemp(t.folder));
    (void)snprintf(t.file, sizeof t.file, "%s/secret", t.folder);
    (void)snprintf(t.seen, sizeof t.seen, "%s/sink-search.seen", t.folder);
    t.next = t.epoch = 1;
    return 0;
}

static void
close_sink(void)
{
    t.ops->close(t.sink);
    t.sink = NULL;
    if (t.options != NULL) {
        conf_release(t.ops->options, t.options);
    }
    free(t.options);
    conf_free(t.doc);
    t.options = NULL;
    t.doc = NULL;
}

static int
teardown(void **state)
{
    struct err e;
    (void)state;
    close_sink();
    schema_unref(t.schema);
    return fs_remove_tree(t.folder, &e);
}

/* yaml: the options, with the peer's URL for %s. */
static int
open_as(const char *yaml, bool is_check, struct err *e)
{
    char *text = NULL;
    size_t n = (size_t)asprintf(&text, "url: %s\n%s", peer.url, yaml);
    assert_int_equal(conf_load_text("t.yaml", (struct str){.p = text, .n = n}, &t.doc, e), 0);
    free(text);
    t.options = xcalloc(1, t.ops->options_size);
    int rc = conf_apply(conf_root(t.doc), t.ops->options, t.options, e);
    assert_int_equal(rc, 0);
    struct sink_setup s = {.name = "search",
        .options = t.options,
        .next = 1,
        .epoch = is_check ? 0 : t.epoch,
        .seen_path = is_check ? NULL : t.seen,
        .lanes = 1,
        .is_check = is_check};
    return t.ops->open(&s, &t.sink, e);
}

static int
open_with(const char *yaml, struct err *e)
{
    return open_as(yaml, false, e);
}

static void
open_ok(const char *yaml)
{
    struct err e = {0};
    int rc = open_with(yaml, &e);
    if (rc != 0) {
        print_error("%s\n", e.msg);
    }
    assert_int_equal(rc, 0);
}

/* Record i: an insert at offset 100 + i of the row `id`. */
static void
put_insert(size_t i, const char *id, const char *note)
{
    (void)snprintf(t.ids[i], sizeof t.ids[i], "%s", id);
    t.rows[i][0] = es_support_text(t.ids[i]);
    t.rows[i][1] = es_support_text("n");
    t.rows[i][2] = es_support_text(note);
    t.records[i] = (struct record){
        .offset = 100 + i, .schema = t.schema, .op = FRAME_INSERT, .new_row = t.rows[i]};
}

static void
put_inserts(size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char id[24];
        (void)snprintf(id, sizeof id, "id%zu", i);
        put_insert(i, id, "x");
    }
}

static int
write_some(size_t n, struct err *e)
{
    memset(t.verdicts, 0, sizeof t.verdicts);
    t.sink->is_pushed_back = false;
    t.sink->retry_after_ms = -1;
    uint64_t *floors = xcalloc(n, sizeof *floors);
    for (size_t i = 0; i < n; i++) {
        floors[i] = t.floor;
    }
    struct sink_batch b = {.records = t.records,
        .n = n,
        .floors = floors,
        .next = t.next,
        .tail = 100000,
        .floor = t.floor};
    int rc = t.ops->write(t.sink, &b, t.verdicts, e);
    free(floors);
    return rc;
}

static void
write_ok(size_t n)
{
    struct err e = {0};
    int rc = write_some(n, &e);
    if (rc != 0) {
        print_error("%s\n", e.msg);
    }
    assert_int_equal(rc, 0);
}

static void
check_all(size_t n, enum verdict want)
{
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(t.verdicts[i].verdict, want);
    }
}

#define ITEM_OK "{\"index\":{\"status\":201}}"
#define ITEM_429                                                                               \
    "{\"index\":{\"status\":429,\"error\":{\"type\":\"es_rejected_execution_exception\","      \
    "\"reason\":\"rejected execution of x\"}}}"
#define ITEM_400                                                                               \
    "{\"index\":{\"status\":400,\"error\":{\"type\":\"mapper_parsing_exception\",\"reason\":"  \
    "\"failed to parse field [name] of type [integer] in document with id 'id2'. Preview of "  \
    "field's value: 'hush'\"}}}"
#define ITEM_409                                                                               \
    "{\"index\":{\"status\":409,\"error\":{\"type\":\"version_conflict_engine_exception\","    \
    "\"reason\":\"v\"}}}"
#define ITEM_BLOCK                                                                             \
    "{\"index\":{\"status\":429,\"error\":{\"type\":\"cluster_block_exception\",\"reason\":"   \
    "\"index [x] blocked by: [flood]\"}}}"
#define ITEM_403                                                                               \
    "{\"index\":{\"status\":403,\"error\":{\"type\":\"security_exception\",\"reason\":"        \
    "\"unauthorized\"}}}"
#define ITEMS(...) "{\"errors\":true,\"items\":[" __VA_ARGS__ "]}"

/* A 200 that hides failures: each record has its own end. */
static void
test_partial_failure(void **state)
{
    (void)state;
    static const struct peer_step steps[] = {
        {.status = 200, .body = ITEMS(ITEM_OK "," ITEM_429 "," ITEM_400 "," ITEM_409)}};
    es_peer_open(steps, 1);
    open_ok("");
    put_inserts(4);
    write_ok(4);
    assert_int_equal(t.verdicts[0].verdict, VERDICT_DONE);
    assert_int_equal(t.verdicts[1].verdict, VERDICT_RETRY);
    assert_int_equal(t.verdicts[2].verdict, VERDICT_REJECT);
    assert_int_equal(t.verdicts[3].verdict, VERDICT_DONE);
    assert_non_null(strstr(t.verdicts[2].reason, "mapper_parsing_exception"));
    assert_null(strstr(t.verdicts[2].reason, "hush"));
    assert_true(t.sink->is_pushed_back);
    assert_int_equal(t.sink->counts.stale, 1);
    peer_close();
}

static void
test_rejected_fold_rejects_its_last_record(void **state)
{
    (void)state;
    static const struct peer_step steps[] = {
        {.status = 200, .body = ITEMS(ITEM_400 "," ITEM_OK)}};
    es_peer_open(steps, 1);
    open_ok("");
    put_insert(0, "1", "a");
    put_insert(1, "2", "b");
    put_insert(2, "1", "c");
    write_ok(3);
    assert_int_equal(t.verdicts[0].verdict, VERDICT_RETRY);
    assert_int_equal(t.verdicts[1].verdict, VERDICT_DONE);
    assert_int_equal(t.verdicts[2].verdict, VERDICT_REJECT);
    peer_close();
}

static void
test_wrong_number_of_items(void **state)
{
    (void)state;
    static const struct peer_step steps[] = {{.status = 200, .body = ITEMS(ITEM_OK)},
        {.status = 200, .body = ITEMS(ITEM_OK "," ITEM_OK "," ITEM_OK)},
        {.status = 200, .body = "{\"errors\":false,\"items\":[" ITEM_OK}};
    struct err e;
    es_peer_open(steps, 3);
    open_ok("");
    put_inserts(2);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(err_class(write_some(2, &e)), ERR_CLASS_RETRY);
    }
    write_ok(2);
    check_all(2, VERDICT_DONE);
    peer_close();
}

static void
test_too_many_requests(void **state)
{
    (void)state;
    static const struct peer_step steps[] = {
        {.status = 429, .body = "{}", .header = "Retry-After: 7\r\n"},
        {.status = 503, .body = ""}};
    es_peer_open(steps, 2);
    open_ok("");
    put_inserts(3);
    write_ok(3);
    check_all(3, VERDICT_RETRY);
    assert_true(t.sink->is_pushed_back);
    assert_int_equal(t.sink->retry_after_ms, 7000);
    write_ok(3);
    check_all(3, VERDICT_RETRY);
    assert_true(t.sink->is_pushed_back);
    peer_close();
}

static void
test_blocked_index_is_a_pause(void **state)
{
    (void)state;
    static const struct peer_step steps[] = {
        {.status = 200, .body = ITEMS(ITEM_BLOCK "," ITEM_OK)}};
    es_peer_open(steps, 1);
    open_ok("");
    put_inserts(2);
    write_ok(2);
    assert_int_equal(t.verdicts[0].verdict, VERDICT_RETRY);
    assert_int_equal(t.verdicts[1].verdict, VERDICT_DONE);
    assert_non_null(strstr(t.verdicts[0].reason, "block"));
    assert_true(t.sink->is_pushed_back);
    peer_close();
}

/* All of it arrives, whatever the server's limit, but for what is alone beyond it. */
static void
test_413_halves_down_to_one_record(void **state)
{
    (void)state;
    char large[LARGE_TEXT + 1];
    memset(large, 'x', LARGE_TEXT);
    large[LARGE_TEXT] = '\0';
    es_peer_open(NULL, 0);
    peer.max_body = 4096;
    open_ok("");
    put_inserts(MANY);
    put_insert(77, "large", large);
    write_ok(MANY);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(t.verdicts[i].verdict, i == 77 ? VERDICT_REJECT : VERDICT_DONE);
    }
    assert_non_null(strstr(t.verdicts[77].reason, "413"));
    const char *got = buf_cstr(&peer.accepted);
    for (size_t i = 0; i < MANY; i++) {
        char id[40];
        (void)snprintf(id, sizeof id, "\"_id\":\"%s\"", t.ids[i]);
        assert_true((strstr(got, id) != NULL) == (i != 77));
    }
    peer_close();
}

/* It was applied, but what became of each is not known: smaller requests say it. */
static void
test_too_long_an_answer_halves(void **state)
{
    (void)state;
    es_peer_open(NULL, 0);
    es_peer.too_many_ops = 2;
    open_ok("");
    put_inserts(2);
    write_ok(2);
    check_all(2, VERDICT_DONE);
    assert_int_equal(peer.n_writes, 3);
    peer_close();
}

/* Nothing is known of the document: neither rejected nor done. */
static void
test_too_long_an_answer_to_one_record_is_a_failure(void **state)
{
    (void)state;
    struct err e = {0};
    es_peer_open(NULL, 0);
    es_peer.too_many_ops = 1;
    open_ok("");
    put_inserts(1);
    int rc = write_some(1, &e);
    assert_int_equal(rc, ERR_CLOSED);
    assert_int_equal(err_class(rc), ERR_CLASS_RETRY);
    assert_non_null(strstr(e.msg, "the answer to one operation is larger"));
    es_peer.too_many_ops = 0;
    write_ok(1);
    check_all(1, VERDICT_DONE);
    peer_close();
}

static void
test_whole_400_finds_the_one_at_fault(void **state)
{
    (void)state;
    es_peer_open(NULL, 0);
    peer.poison = "\"_id\":\"id123\"";
    open_ok("");
    put_inserts(MANY);
    write_ok(MANY);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(t.verdicts[i].verdict, i == 123 ? VERDICT_REJECT : VERDICT_DONE);
    }
    peer_close();
}

/* Small updates of large documents: what they leave out is never in memory for all of them. */
static void
test_large_documents_are_read_and_sent_in_pieces(void **state)
{
    (void)state;
    es_peer_open(NULL, 0);
    es_peer.doc_bytes = 120000;
    open_ok("");
    put_inserts(MANY);
    for (size_t i = 0; i < MANY; i++) {
        t.records[i].op = FRAME_UPDATE;
        t.rows[i][2] = (struct record_value){.kind = RECORD_UNCHANGED};
    }
    write_ok(MANY);
    check_all(MANY, VERDICT_DONE);
    assert_int_equal(es_peer.n_gets, 3);
    assert_int_equal(es_peer.most_in_hand, 100);
    assert_true(peer.accepted.n > MANY * es_peer.doc_bytes);
    peer_close();
}

static void
test_no_rights_stop(void **state)
{
    (void)state;
    static const struct peer_step steps[] = {
        {.status = 401, .body = "{\"error\":{\"type\":\"security_exception\"},\"status\":401}"},
        {.status = 200, .body = ITEMS(ITEM_OK "," ITEM_403)}};
    struct err e;
    es_peer_open(steps, 2);
    open_ok("");
    put_inserts(2);
    assert_int_equal(write_some(2, &e), ERR_AUTH);
    assert_int_equal(write_some(2, &e), ERR_AUTH);
    assert_non_null(strstr(e.msg, "security_exception"));
    peer_close();
}

static void
test_lost_and_late_answers(void **state)
{
    (void)state;
    static const struct peer_step steps[] = {{.drops = true}, {.stalls = true}};
    struct err e;
    es_peer_open(steps, 2);
    open_ok("timeout: 1s");
    put_inserts(2);
    assert_int_equal(write_some(2, &e), ERR_CLOSED);
    assert_int_equal(write_some(2, &e), ERR_TIMEOUT);
    assert_true(t.sink->is_pushed_back);
    write_ok(2);
    check_all(2, VERDICT_DONE);
    peer_close();
}

static void
test_next_node_when_one_is_gone(void **state)
{
    (void)state;
    char live[64];
    es_peer_open(NULL, 0);
    (void)snprintf(live, sizeof live, "%.60s", peer.url);
    (void)snprintf(peer.url, sizeof peer.url, "[\"http://127.0.0.1:1/\", \"%.40s/\"]", live);
    open_ok("");
    put_inserts(2);
    write_ok(2);
    check_all(2, VERDICT_DONE);
    peer_close();
}

static void
check_authorization(const char *options, const char *secret, const char *want)
{
    char *text = NULL;
    struct err e;
    assert_int_equal(fs_write_atomic(t.file, str_from(secret), 0600, &e), 0);
    assert_true(asprintf(&text, "%s: %s", options, t.file) > 0);
    open_ok(text);
    free(text);
    assert_non_null(strstr(buf_cstr(&peer.last), want));
    close_sink();
}

static void
test_credentials(void **state)
{
    (void)state;
    es_peer_open(NULL, 0);
    check_authorization(
        "username: u\npassword_file", "pa:ss\n", "\r\nAuthorization: Basic dTpwYTpzcw==\r\n");
    check_authorization("api_key_file", "id:key\n", "\r\nAuthorization: ApiKey aWQ6a2V5\r\n");
    check_authorization("api_key_file", "aWQ6a2V5", "\r\nAuthorization: ApiKey aWQ6a2V5\r\n");
    peer_close();
}

static void
check_refused(const char *yaml, const char *text)
{
    struct err e = {0};
    assert_int_equal(open_with(yaml, &e), ERR_CONFIG);
    assert_non_null(strstr(e.msg, text));
    assert_null(strstr(e.msg, "hush"));
    close_sink();
}

static void
test_bad_options(void **state)
{
    (void)state;
    es_peer_open(NULL, 0);
    check_refused("username: u", "password_file");
    check_refused("api_key_file: /nonexistent/key", "/nonexistent/key");
    check_refused("index: 'no/slash'", "index");
    check_refused("mapping: [1]", "mapping");
    (void)snprintf(peer.url, sizeof peer.url, "http://u:hush@127.0.0.1:1");
    check_refused("", "password_file");
    (void)snprintf(peer.url, sizeof peer.url, "ftp://h");
    check_refused("", "http://");
    peer_close();
}

static void
test_compressed(void **state)
{
    (void)state;
    static const struct peer_step steps[] = {{.status = 429, .body = "{}"}};
    es_peer_open(steps, 1);
    open_ok("compression: gzip");
    put_inserts(MANY);
    write_ok(MANY);
    assert_non_null(strstr(buf_cstr(&peer.last), "\r\nContent-Encoding: gzip\r\n"));
    assert_memory_equal(peer_body().p, "\x1f\x8b", 2);
    assert_true(peer_body().n < 10000);
    peer_close();
}

static void
test_foreign_index_stops(void **state)
{
    (void)state;
    struct err e;
    es_peer_open(NULL, 0);
    es_peer.mapping = "{\"shop.item-000001\":{\"mappings\":{\"properties\":{}}}}";
    open_ok("");
    put_inserts(1);
    assert_int_equal(write_some(1, &e), ERR_FOREIGN);
    es_peer.mapping = "{\"shop.item\":{\"mappings\":{\"properties\":{}}}}";
    assert_int_equal(write_some(1, &e), ERR_FOREIGN);
    assert_int_equal(peer.n_writes, 0);
    es_peer.mapping = NULL;
    write_ok(1); /* looked at again each time */
    peer_close();
}

static const char other_mapping[] =
    "{\"shop.item-000001\":{\"mappings\":{\"_meta\":{\"oneslot\":{\"version\":%d,\"log\":"
    "\"00000000000000000000000000000000\",\"epoch\":%d,\"generation\":1,\"schema\":\"shop\","
    "\"table\":\"item\",\"key\":[\"id\"]}},\"properties\":{\"id\":{},\"name\":{},"
    "\"note\":{}}}}}";

/* The index says that it was made by a format `version` in the epoch `epoch`, the log is at 5.
 * What the write says; nothing is written when it fails. */
static int
write_into(int version, int epoch, struct err *e)
{
    static char mapping[sizeof other_mapping + 20];
    (void)snprintf(mapping, sizeof mapping, other_mapping, version, epoch);
    close_sink();
    es_peer.mapping = mapping;
    es_peer.mapping_put[0] = '\0';
    size_t before = peer.n_writes;
    t.epoch = 5;
    open_ok("");
    put_inserts(1);
    int rc = write_some(1, e);
    assert_int_equal(peer.n_writes - before, rc == 0);
    return rc;
}

/* Documents of a later epoch have versions that what this copy of the log says can not beat. */
static void
test_an_index_of_a_later_epoch_stops(void **state)
{
    (void)state;
    struct err e = {0};
    es_peer_open(NULL, 0);
    assert_int_equal(write_into(1, 6, &e), ERR_FOREIGN);
    assert_non_null(strstr(e.msg, "epoch 6"));
    assert_non_null(strstr(e.msg, "is at 5"));
    assert_string_equal(es_peer.mapping_put, "");
    assert_int_equal(write_into(1, 5, &e), 0);
    assert_string_equal(es_peer.mapping_put, "");
    peer_close();
}

/* It says the new epoch before the first document of it. */
static void
test_an_index_of_an_earlier_epoch_is_adopted(void **state)
{
    (void)state;
    struct err e = {0};
    es_peer_open(NULL, 0);
    es_peer.refuses_mapping = true;
    assert_int_equal(write_into(1, 4, &e), ERR_AUTH);
    assert_non_null(strstr(e.msg, "cannot write the new epoch into shop.item-000001"));
    es_peer.refuses_mapping = false;
    assert_int_equal(write_into(1, 4, &e), 0);
    assert_int_equal(es_peer.n_writes_before, 0);
    assert_non_null(strstr(es_peer.mapping_put, "\"epoch\":5,\"generation\":1,"));
    assert_non_null(
        strstr(es_peer.mapping_put, "\"log\":\"00000000000000000000000000000000\""));
    assert_int_equal(es_peer.n_made, 0);
    peer_close();
}

static void
test_an_index_of_a_newer_oneslot_stops(void **state)
{
    (void)state;
    struct err e = {0};
    es_peer_open(NULL, 0);
    assert_int_equal(write_into(2, 5, &e), ERR_NEWER);
    assert_int_equal(err_class(ERR_NEWER), ERR_CLASS_STOP);
    assert_non_null(strstr(e.msg, "made by a newer oneslot"));
    assert_string_equal(es_peer.mapping_put, "");
    peer_close();
}

/* A new process of the sink, as far as it can tell; record `offset` comes, everything below
 * `next` is settled. */
static int
write_anew(uint64_t offset, uint64_t next, struct err *e)
{
    close_sink();
    open_ok("");
    put_inserts(1);
    t.records[0].offset = offset;
    t.next = next;
    return write_some(1, e);
}

static void
write_anew_ok(uint64_t offset, uint64_t next)
{
    struct err e = {0};
    int rc = write_anew(offset, next, &e);
    if (rc != 0) {
        print_error("%s\n", e.msg);
    }
    assert_int_equal(rc, 0);
}

/* Whoever has not met the table yet must not hide that its documents are gone; a replay makes
 * it anew, however its batches are cut. */
static void
test_a_gone_index_is_made_anew_by_a_replay_only(void **state)
{
    (void)state;
    struct err e;
    es_peer_open(NULL, 0);
    es_peer.is_gone = true;
    write_anew_ok(100, 40);
    assert_int_equal(es_peer.n_made, 1);
    es_peer.is_gone = true;
    assert_int_equal(write_anew(101, 101, &e), ERR_FOREIGN);
    assert_non_null(strstr(e.msg, "since offset 100"));
    assert_non_null(strstr(e.msg, "replay the sink from earliest"));
    assert_int_equal(write_anew(102, 101, &e), ERR_FOREIGN);
    assert_int_equal(write_anew(90, 101, &e), ERR_FOREIGN); /* a letter */
    assert_int_equal(es_peer.n_made, 1);
    assert_int_equal(peer.n_writes, 1);
    write_anew_ok(100, 100);
    assert_int_equal(es_peer.n_made, 2);
    es_peer.is_gone = true;
    assert_int_equal(write_anew(101, 101, &e), ERR_FOREIGN);
    peer_close();
}

/* An index that was there before the sink was given a file to remember it in. */
static void
test_a_found_index_is_remembered_too(void **state)
{
    (void)state;
    struct err e;
    es_peer_open(NULL, 0);
    write_anew_ok(100, 100);
    assert_int_equal(es_peer.n_made, 0);
    es_peer.is_gone = true;
    assert_int_equal(write_anew(101, 101, &e), ERR_FOREIGN);
    assert_int_equal(write_anew(90, 90, &e), ERR_FOREIGN); /* it may have held older ones */
    assert_int_equal(es_peer.n_made, 0);
    write_anew_ok(1, 0);
    assert_int_equal(es_peer.n_made, 1);
    peer_close();
}

/* After a skip what was there before it says nothing, and what is found then counts: also when
 * an instance goes on that had met the table before. */
static void
test_a_skip_begins_another_history(void **state)
{
    (void)state;
    struct err e;
    es_peer_open(NULL, 0);
    write_anew_ok(100, 100);
    es_peer.is_gone = true;
    t.floor = 200;
    write_anew_ok(200, 200);
    assert_int_equal(es_peer.n_made, 1);
    t.floor = 300;
    t.next = t.records[0].offset = 300;
    write_ok(1);
    es_peer.is_gone = true;
    assert_int_equal(write_anew(301, 301, &e), ERR_FOREIGN);
    assert_int_equal(es_peer.n_made, 1);
    peer_close();
}

/* Nothing is written to an index that the next process would not know of. */
static void
test_nothing_is_written_before_it_is_remembered(void **state)
{
    (void)state;
    struct err e;
    char tmp[120];
    (void)snprintf(tmp, sizeof tmp, "%s.tmp", t.seen);
    assert_int_equal(fs_mkdir(tmp, 0700, &e), 0); /* in the way of the file's writing */
    es_peer_open(NULL, 0);
    open_ok("");
    put_inserts(1);
    assert_int_equal(write_some(1, &e), ERR_REFUSED);
    assert_non_null(strstr(e.msg, t.seen));
    assert_int_equal(peer.n_writes, 0);
    assert_int_equal(rmdir(tmp), 0);
    write_ok(1);
    assert_int_equal(access(t.seen, F_OK), 0);
    peer_close();
}

static void
test_a_damaged_memory_stops(void **state)
{
    (void)state;
    struct err e;
    es_peer_open(NULL, 0);
    assert_int_equal(fs_write_atomic(t.seen, STR("oneslot-seen 1\n"), 0600, &e), 0);
    assert_int_equal(open_with("", &e), ERR_CORRUPT);
    assert_non_null(strstr(e.msg, t.seen));
    peer_close();
}

static void
test_check_needs_no_memory(void **state)
{
    (void)state;
    struct err e;
    struct buf auto_buf lines;
    static const struct sink_table table = {
        .ns = {"shop", 4}, .name = {"item", 4}, .has_key = true};
    buf_init(&lines, 4096);
    es_peer_open(NULL, 0);
    es_peer.is_gone = true;
    assert_int_equal(open_as("", true, &e), 0);
    assert_int_equal(t.ops->check(t.sink, &table, 1, &lines, &e), 0);
    assert_int_equal(access(t.seen, F_OK), -1);
    peer_close();
}

/* What shares an index, has no key or can be no index is told without a server. */
static void
test_tables_that_it_cannot_take(void **state)
{
    (void)state;
    const struct {
        const char *index;
        struct sink_table tables[2];
        const char *says;
    } cases[] = {
        {"{schema}.{table}", {{STR("shop"), STR("item"), true}, {STR("shop"), STR("x"), true}},
            NULL},
        {"{schema}.{table}", {{STR("shop"), STR("item"), true}, {STR("Shop"), STR("x"), true}},
            NULL},
        {"{schema}.{table}",
            {{STR("shop"), STR("item"), true}, {STR("shop"), STR("Item"), true}},
            "shop.item and shop.Item would share the index shop.item"},
        {"{table}", {{STR("a"), STR("t"), true}, {STR("b"), STR("t"), true}},
            "a.t and b.t would share the index t"},
        {"{schema}.{table}", {{STR("shop"), STR("item"), false}, {STR("x"), STR("x"), true}},
            "shop.item has no key"},
        {"{schema}.{table}", {{STR("shop"), STR("item"), true}, {STR("x"), STR("x"), false}},
            "x.x has no key"},
    };
    es_peer_open(NULL, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e = {0};
        char yaml[64];
        (void)snprintf(yaml, sizeof yaml, "index: '%s'\n", cases[i].index);
        open_ok(yaml);
        int rc = t.ops->accepts(t.options, cases[i].tables, 2, &e);
        assert_int_equal(rc, cases[i].says == NULL ? 0 : ERR_CONFIG);
        if (cases[i].says != NULL && strstr(e.msg, cases[i].says) == NULL) {
            fail_msg("case %zu: %s", i, e.msg);
        }
        close_sink();
    }
    struct err e;
    open_ok("");
    assert_int_equal(t.ops->accepts(t.options, NULL, 0, &e), 0);
    peer_close();
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_partial_failure),
        TEST(test_rejected_fold_rejects_its_last_record),
        TEST(test_wrong_number_of_items),
        TEST(test_too_many_requests),
        TEST(test_blocked_index_is_a_pause),
        TEST(test_413_halves_down_to_one_record),
        TEST(test_too_long_an_answer_halves),
        TEST(test_too_long_an_answer_to_one_record_is_a_failure),
        TEST(test_whole_400_finds_the_one_at_fault),
        TEST(test_large_documents_are_read_and_sent_in_pieces),
        TEST(test_no_rights_stop),
        TEST(test_lost_and_late_answers),
        TEST(test_next_node_when_one_is_gone),
        TEST(test_credentials),
        TEST(test_bad_options),
        TEST(test_compressed),
        TEST(test_foreign_index_stops),
        TEST(test_an_index_of_a_later_epoch_stops),
        TEST(test_an_index_of_an_earlier_epoch_is_adopted),
        TEST(test_an_index_of_a_newer_oneslot_stops),
        TEST(test_a_gone_index_is_made_anew_by_a_replay_only),
        TEST(test_a_found_index_is_remembered_too),
        TEST(test_a_skip_begins_another_history),
        TEST(test_nothing_is_written_before_it_is_remembered),
        TEST(test_a_damaged_memory_stops),
        TEST(test_check_needs_no_memory),
        TEST(test_tables_that_it_cannot_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
