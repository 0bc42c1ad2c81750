/* dead, rereads, doubts: what is there after each step, and after each step and a reopening:
 * nothing is kept but what is on disk. */
#include "log_support.h"

#include "broker/dead.h"
#include "broker/doubts.h"
#include "broker/rereads.h"
#include "proto/base/bytes.h"
#include "proto/base/cleanup.h"

struct folder {
    char dir[64];
    uint8_t uuid[API_UUID];
    struct beside bs;
    struct dead *d;
    struct rereads *r;
};

static void
open_folder(struct folder *f)
{
    struct err e;
    support_ok(dead_folder_open(f->dir, f->uuid, &f->bs, &e), &e);
    support_ok(dead_open(&f->bs, &f->d, &e), &e);
    support_ok(rereads_open(&f->bs, &f->r, &e), &e);
}

static void
close_folder(struct folder *f)
{
    rereads_close(f->r);
    dead_close(f->d);
    beside_close(&f->bs);
}

/* As after a SIGKILL. */
static void
reopen(struct folder *f)
{
    close_folder(f);
    open_folder(f);
}

static void
folder_init(struct folder *f)
{
    memset(f, 0, sizeof *f);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/oneslot-unit-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    memset(f->uuid, 7, sizeof f->uuid);
    open_folder(f);
}

static void
folder_fini(struct folder *f)
{
    char command[128];
    close_folder(f);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    assert_int_equal(system(command), 0); /* lint:allow system: a test's own folder */
}

static struct api_bury
letter(uint64_t offset, const char *key, const char *record)
{
    return (struct api_bury){.offset = offset,
        .state = API_LETTER_DEAD,
        .key = str_from(key),
        .ns = STR("public"),
        .table = STR("t"),
        .op = STR("insert"),
        .reason = STR("no such field"),
        .record = str_from(record)};
}

static void
bury(struct folder *f, const char *sink, struct api_bury b, int64_t now_us)
{
    struct err e;
    support_ok(dead_bury(f->d, sink, &b, now_us, &e), &e);
}

static size_t
raise_key(struct folder *f, const char *sink, uint64_t offset, const char *key, bool is_prefix)
{
    struct err e;
    size_t n = 99;
    struct api_raise r = {.offset = offset, .key = str_from(key), .is_prefix = is_prefix};
    support_ok(dead_raise(f->d, sink, &r, &n, &e), &e);
    return n;
}

/* "OFFSET state key[<former] attempts bytes; ..." of a sink. */
static bool
describe(void *arg, const struct dead_letter *l)
{
    bool is_move = l->former.n > 0;
    buf_printf(arg, "%llu %s %.*s%s%.*s %u %llu; ", (unsigned long long)l->offset,
        api_letter_state_name(l->state), (int)l->key.n, l->key.n > 0 ? l->key.p : "",
        is_move ? "<" : "", (int)l->former.n, is_move ? l->former.p : "", l->attempts,
        (unsigned long long)l->record_bytes);
    return true;
}

/* Twice: as it is in memory, and as it is on disk. */
static void
expect(struct folder *f, const char *sink, const char *want)
{
    for (int i = 0; i < 2; i++) {
        struct buf auto_buf b;
        buf_init(&b, 1 << 20);
        dead_walk(f->d, sink, 0, describe, &b);
        assert_string_equal(buf_cstr(&b), want);
        reopen(f);
    }
}

static void
expect_record(struct folder *f, const char *sink, uint64_t offset, const char *want)
{
    struct err e;
    struct buf auto_buf b;
    buf_init(&b, 1 << 20);
    int rc = dead_record(f->d, sink, offset, &b, &e);
    if (want == NULL) {
        assert_int_equal(rc, ERR_NOTFOUND);
    } else {
        support_ok(rc, &e);
        assert_string_equal(buf_cstr(&b), want);
    }
}

static void
test_letters_stay(void **state)
{
    (void)state;
    struct folder f;
    struct dead_counts c;
    folder_init(&f);
    expect(&f, "s", "");
    bury(&f, "s", letter(20, "k1", "twenty"), 1000);
    expect(&f, "s", "20 dead k1 1 6; ");
    bury(&f, "s", letter(10, "k2", "ten"), 1000);
    bury(&f, "s2", letter(10, "k2", "other"), 1000);
    expect(&f, "s", "10 dead k2 1 3; 20 dead k1 1 6; ");
    expect(&f, "s2", "10 dead k2 1 5; ");
    expect_record(&f, "s", 10, "ten");
    expect_record(&f, "s2", 10, "other");
    expect_record(&f, "s", 11, NULL);
    dead_counts(f.d, "s", &c);
    assert_int_equal(c.letters, 2);
    assert_int_equal(dead_counts_open(&c), 2);
    dead_counts(f.d, "nobody", &c);
    assert_int_equal(c.letters, 0);
    folder_fini(&f);
}

static bool
check_times(void *arg, const struct dead_letter *l)
{
    int64_t *us = arg;
    us[0] = l->first_us;
    us[1] = l->last_us;
    assert_true(str_is(l->reason, "still no"));
    return true;
}

static void
test_burying_again_counts_the_attempt(void **state)
{
    (void)state;
    struct folder f;
    struct err e;
    size_t n;
    folder_init(&f);
    bury(&f, "s", letter(10, "k", "ten"), 1000);
    support_ok(dead_retry(f.d, "s", NULL, 0, &n, &e), &e);
    assert_int_equal(n, 1);
    expect(&f, "s", "10 retry k 1 3; ");
    struct api_bury again = letter(10, "k", "TEN");
    again.reason = STR("still no");
    bury(&f, "s", again, 2000);
    expect(&f, "s", "10 dead k 2 3; ");
    expect_record(&f, "s", 10, "TEN");
    int64_t us[2];
    dead_walk(f.d, "s", 0, check_times, us);
    assert_int_equal(us[0], 1000);
    assert_int_equal(us[1], 2000);
    /* Its row is being read again: the mark alone is left. */
    again.state = API_LETTER_REREAD;
    again.record = (struct str){0};
    bury(&f, "s", again, 3000);
    expect(&f, "s", "10 reread k 3 0; ");
    expect_record(&f, "s", 10, NULL);
    folder_fini(&f);
}

static void
test_a_whole_record_supersedes_older_letters_of_its_key(void **state)
{
    (void)state;
    struct folder f;
    folder_init(&f);
    bury(&f, "s", letter(10, "k", "a"), 1);
    bury(&f, "s", letter(11, "other", "b"), 1);
    bury(&f, "s", letter(12, "k", "c"), 1); /* not whole: joins */
    expect(&f, "s", "10 dead k 1 1; 11 dead other 1 1; 12 dead k 1 1; ");
    bury(&f, "s", letter(30, "k", "later"), 1);
    struct api_bury whole = letter(20, "k", "d");
    whole.is_whole = true;
    bury(&f, "s", whole, 1);
    expect(&f, "s", "11 dead other 1 1; 20 dead k 1 1; 30 dead k 1 5; ");
    expect_record(&f, "s", 10, NULL);
    expect_record(&f, "s", 30, "later");
    struct api_bury keyless = letter(40, "", "m");
    keyless.is_whole = true;
    bury(&f, "s", letter(39, "", "n"), 1);
    bury(&f, "s", keyless, 1); /* without a key it is nobody's successor */
    expect(&f, "s",
        "11 dead other 1 1; 20 dead k 1 1; 30 dead k 1 5; 39 dead  1 1; 40 dead  1 1; ");
    folder_fini(&f);
}

/* Its former key stays with a key change, whatever becomes of it, and finds it for nobody: a
 * letter is its key's. */
static void
test_a_key_change_keeps_its_former_key(void **state)
{
    (void)state;
    struct folder f;
    struct err e;
    size_t n;
    folder_init(&f);
    struct api_bury move = letter(10, "k2", "m");
    move.former = STR("k1");
    bury(&f, "s", move, 1);
    expect(&f, "s", "10 dead k2<k1 1 1; ");
    support_ok(dead_retry(f.d, "s", NULL, 0, &n, &e), &e);
    expect(&f, "s", "10 retry k2<k1 1 1; ");
    bury(&f, "s", move, 2);
    assert_int_equal(raise_key(&f, "s", 100, "k1", false), 0);
    struct api_bury whole = letter(20, "k1", "w");
    whole.is_whole = true;
    bury(&f, "s", whole, 3);
    expect(&f, "s", "10 dead k2<k1 2 1; 20 dead k1 1 1; ");
    const uint64_t given_up = 10;
    support_ok(dead_discard(f.d, "s", &given_up, 1, &n, &e), &e);
    expect(&f, "s", "10 discarded k2<k1 2 0; 20 dead k1 1 1; ");
    assert_int_equal(raise_key(&f, "s", 10, "k2", false), 1);
    expect(&f, "s", "20 dead k1 1 1; ");
    folder_fini(&f);
}

static void
test_raising(void **state)
{
    (void)state;
    struct folder f;
    folder_init(&f);
    bury(&f, "s", letter(10, "t1.k", "a"), 1);
    bury(&f, "s", letter(20, "t1.k", "b"), 1);
    bury(&f, "s", letter(21, "t1.j", "c"), 1);
    bury(&f, "s", letter(22, "t2.k", "d"), 1);
    bury(&f, "s", letter(23, "", "e"), 1);
    assert_int_equal(raise_key(&f, "s", 9, "t1.k", false), 0);
    assert_int_equal(raise_key(&f, "nobody", 100, "t1.k", false), 0);
    assert_int_equal(raise_key(&f, "s", 10, "t1.k", false), 1);
    expect(&f, "s", "20 dead t1.k 1 1; 21 dead t1.j 1 1; 22 dead t2.k 1 1; 23 dead  1 1; ");
    assert_int_equal(raise_key(&f, "s", 20, "t1.", true), 1);
    assert_int_equal(raise_key(&f, "s", 100, "t1.", true), 1);
    expect(&f, "s", "22 dead t2.k 1 1; 23 dead  1 1; ");
    assert_int_equal(raise_key(&f, "s", 24, "", false), 0);
    assert_int_equal(raise_key(&f, "s", 23, "", false), 1);
    expect(&f, "s", "22 dead t2.k 1 1; ");
    folder_fini(&f);
}

static void
test_a_persons_word(void **state)
{
    (void)state;
    struct folder f;
    struct err e;
    size_t n = 99;
    struct dead_counts c;
    folder_init(&f);
    for (uint64_t i = 1; i <= 4; i++) {
        bury(&f, "s", letter(i, i == 4 ? "" : "k", "r"), 1);
    }
    const uint64_t some[] = {2, 9};
    assert_int_equal(dead_retry(f.d, "s", some, 2, &n, &e), ERR_NOTFOUND);
    assert_int_equal(dead_discard(f.d, "nobody", some, 1, &n, &e), ERR_NOTFOUND);
    expect(&f, "s", "1 dead k 1 1; 2 dead k 1 1; 3 dead k 1 1; 4 dead  1 1; ");
    const uint64_t twice[] = {2, 2};
    support_ok(dead_retry(f.d, "s", twice, 2, &n, &e), &e);
    assert_int_equal(n, 1);
    const uint64_t given_up[] = {1, 4};
    support_ok(dead_discard(f.d, "s", given_up, 2, &n, &e), &e);
    assert_int_equal(n, 2);
    expect(&f, "s", "1 discarded k 1 0; 2 retry k 1 1; 3 dead k 1 1; ");
    expect_record(&f, "s", 1, NULL);
    expect_record(&f, "s", 4, NULL);
    expect_record(&f, "s", 2, "r");
    assert_int_equal(dead_retry(f.d, "s", given_up, 1, &n, &e), ERR_CONFLICT); /* a mark */
    support_ok(dead_retry(f.d, "s", NULL, 0, &n, &e), &e);
    assert_int_equal(n, 1); /* 3; the mark is left out, 2 is asked for already */
    dead_counts(f.d, "s", &c);
    assert_int_equal(c.by_state[API_LETTER_RETRY], 2);
    assert_int_equal(c.by_state[API_LETTER_DISCARDED], 1);
    assert_int_equal(dead_counts_open(&c), 2);
    support_ok(dead_forget(f.d, "s", &e), &e);
    expect(&f, "s", "");
    folder_fini(&f);
}

static void
test_bad_letters_are_refused(void **state)
{
    (void)state;
    struct folder f;
    struct err e;
    folder_init(&f);
    struct api_bury b = letter(1, "k", "");
    assert_int_equal(dead_bury(f.d, "s", &b, 1, &e), ERR_PARSE); /* without its record */
    b = letter(1, "k", "r");
    b.state = API_LETTER_REREAD;
    assert_int_equal(dead_bury(f.d, "s", &b, 1, &e), ERR_PARSE); /* a mark with one */
    b = letter(1, "", "r");
    b.former = STR("k"); /* a key change without its key */
    assert_int_equal(dead_bury(f.d, "s", &b, 1, &e), ERR_PARSE);
    b.state = API_LETTER_DISCARDED;
    assert_int_equal(dead_bury(f.d, "s", &b, 1, &e), ERR_PARSE); /* a person's word */
    size_t n;
    struct api_raise r = {.offset = 1, .is_prefix = true};
    assert_int_equal(dead_raise(f.d, "s", &r, &n, &e), ERR_PARSE);
    uint64_t *ids = calloc(API_LETTERS_MAX + 1, sizeof *ids);
    assert_int_equal(dead_retry(f.d, "s", ids, API_LETTERS_MAX + 1, &n, &e), ERR_TOOBIG);
    free(ids);
    expect(&f, "s", "");
    folder_fini(&f);
}

/* ---- quota ---- */

static void
test_a_full_quota_refuses_and_changes_nothing(void **state)
{
    (void)state;
    struct folder f;
    struct err e;
    struct dead_counts c;
    enum { PIECE = 60 * 1024 * 1024 };
    folder_init(&f);
    char *piece = malloc(PIECE + 1);
    assert_non_null(piece);
    memset(piece, 'x', PIECE);
    piece[PIECE] = '\0';
    for (uint64_t i = 1; i <= 4; i++) {
        bury(&f, "s", letter(i, "k", piece), 1); /* the map grows on the way */
    }
    struct api_bury b = letter(5, "k", piece);
    assert_int_equal(dead_bury(f.d, "s", &b, 1, &e), ERR_REFUSED);
    assert_non_null(strstr(e.msg, "oneslot dead-letters s"));
    reopen(&f);
    dead_counts(f.d, "s", &c);
    assert_int_equal(c.letters, 4);
    bury(&f, "other", letter(5, "k", piece), 1); /* a quota is one sink's */
    bury(&f, "s", letter(3, "k", piece), 1);     /* in the place of itself */
    b.is_whole = true;                           /* in the place of the others */
    support_ok(dead_bury(f.d, "s", &b, 1, &e), &e);
    reopen(&f);
    dead_counts(f.d, "s", &c);
    assert_int_equal(c.letters, 1);
    assert_true(c.bytes > PIECE && c.bytes < PIECE + 1024);
    free(piece);
    folder_fini(&f);
}

/* ---- opening ---- */

enum { MANY = 12000, MANY_TEXT = 1500, SPARE = 16 * 1024 * 1024 };

/* Two letters copied to as many offsets, two to a page of each table: so that every page is
 * touched when every second one goes. */
static void
copy_letters(struct folder *f, uint64_t n, uint64_t letter_bytes)
{
    auto_store_txn struct store_txn *txn = NULL;
    struct err e;
    char key[10] = "s";
    support_ok(beside_begin(&f->bs, n * letter_bytes, &txn, &e), &e);
    for (uint64_t i = 2; i < n; i++) {
        for (unsigned table = DEAD_TABLE_LETTERS; table <= DEAD_TABLE_RECORDS; table++) {
            auto_buf struct buf value;
            struct str v;
            buf_init(&value, 1 << 16);
            put_be64(key + 2, 10 + i % 2);
            support_ok(store_get(txn, table, (struct str){key, 10}, &v, &e), &e);
            buf_put_str(&value, v);
            put_be64(key + 2, 10 + i);
            support_ok(store_put(txn, table, (struct str){key, 10}, buf_str(&value), &e), &e);
        }
    }
    support_ok(store_commit(take_ptr(&txn), &e), &e);
    reopen(f);
}

static void
bury_many(struct folder *f)
{
    struct err e;
    char text[MANY_TEXT + 1];
    memset(text, 'r', MANY_TEXT);
    text[MANY_TEXT] = '\0';
    for (uint64_t i = 0; i < 2; i++) {
        struct api_bury b = letter(10 + i, i == 0 ? "even" : "odd", text);
        b.reason = str_from(text);
        bury(f, "s", b, 1);
    }
    copy_letters(f, MANY, 2 * STORE_PAGE);
    support_ok(store_grow(f->bs.store, store_used_bytes(f->bs.store) + SPARE, &e), &e);
}

static size_t
count(struct folder *f)
{
    struct dead_counts c;
    dead_counts(f->d, "s", &c);
    return c.letters;
}

static void
test_many_letters_are_superseded_at_once(void **state)
{
    (void)state;
    struct folder f;
    folder_init(&f);
    bury_many(&f);
    struct api_bury whole = letter(10 + MANY, "even", "w");
    whole.is_whole = true;
    bury(&f, "s", whole, 1);
    assert_int_equal(count(&f), MANY / 2 + 1);
    reopen(&f);
    assert_int_equal(count(&f), MANY / 2 + 1);
    folder_fini(&f);
}

static void
test_many_letters_are_changed_and_raised_at_once(void **state)
{
    (void)state;
    struct folder f;
    struct err e;
    size_t n = 0;
    folder_init(&f);
    bury_many(&f);
    support_ok(dead_retry(f.d, "s", NULL, 0, &n, &e), &e);
    assert_int_equal(n, MANY);
    assert_int_equal(raise_key(&f, "s", UINT64_MAX, "odd", false), MANY / 2);
    reopen(&f);
    assert_int_equal(count(&f), MANY / 2);
    folder_fini(&f);
}

static void
test_discarding_makes_room_where_there_are_too_many(void **state)
{
    (void)state;
    struct folder f;
    struct err e;
    size_t n = 0;
    folder_init(&f);
    bury(&f, "s", letter(10, "even", "record"), 1);
    bury(&f, "s", letter(11, "odd", "record"), 1);
    copy_letters(&f, DEAD_LETTERS_MAX, 512);
    struct api_bury b = letter(DEAD_LETTERS_MAX + 10, "new", "record");
    assert_int_equal(dead_bury(f.d, "s", &b, 1, &e), ERR_REFUSED);
    uint64_t first = 10;
    support_ok(dead_discard(f.d, "s", &first, 1, &n, &e), &e);
    support_ok(dead_bury(f.d, "s", &b, 1, &e), &e);
    b.offset++;
    assert_int_equal(dead_bury(f.d, "s", &b, 1, &e), ERR_REFUSED);
    assert_int_equal(count(&f), DEAD_LETTERS_MAX + 1); /* the mark stays */
    folder_fini(&f);
}

static void
test_letters_of_another_log_are_refused(void **state)
{
    (void)state;
    struct folder f;
    struct err e;
    struct beside bs;
    folder_init(&f);
    close_folder(&f);
    f.uuid[0] ^= 1;
    assert_int_equal(dead_folder_open(f.dir, f.uuid, &bs, &e), ERR_FOREIGN);
    f.uuid[0] ^= 1;
    open_folder(&f);
    folder_fini(&f);
}

static void
write_letter(struct folder *f, struct str value)
{
    struct err e;
    struct store_txn *t;
    support_ok(beside_begin(&f->bs, 100, &t, &e), &e);
    support_ok(store_put(t, DEAD_TABLE_LETTERS, STR("s\0\0\0\0\0\0\0\0\1"), value, &e), &e);
    support_ok(store_commit(t, &e), &e);
}

static void
test_letters_without_a_former_key_are_read(void **state)
{
    (void)state;
    struct folder f;
    folder_init(&f);
    write_letter(&f, STR("\x9b\x01\x02\x03\x04\x05\x00\xc4\x01k\xc4\x01n\xc4\x01t\xc4\x01o"
                         "\xc4\x01r")); /* version 1 */
    reopen(&f);
    expect(&f, "s", "1 discarded k 3 0; ");
    folder_fini(&f);
}

static void
test_damaged_and_newer_letters_are_refused(void **state)
{
    (void)state;
    struct folder f;
    struct err e;
    struct dead *d;
    folder_init(&f);
    write_letter(&f, STR("\x93\x09\x01\x02")); /* version 9 */
    assert_int_equal(dead_open(&f.bs, &d, &e), ERR_NEWER);
    write_letter(&f, STR("\x93\x01\x01\x02")); /* too few fields */
    assert_int_equal(dead_open(&f.bs, &d, &e), ERR_CORRUPT);
    write_letter(&f, STR(""));
    assert_int_equal(dead_open(&f.bs, &d, &e), ERR_CORRUPT);
    close_folder(&f);
    f.d = NULL;
    f.r = NULL;
    char command[160];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", f.dir);
    assert_int_equal(system(command), 0); /* lint:allow system: a test's own folder */
}

/* ---- rows to be read again ---- */

static struct api_reread
row(uint64_t offset, const char *table, const char *id)
{
    return (struct api_reread){.offset = offset,
        .ns = STR("public"),
        .table = str_from(table),
        .nkeys = 1,
        .key = {{STR("id"), str_from(id)}}};
}

static void
ask(struct folder *f, struct api_reread q)
{
    struct err e;
    support_ok(rereads_ask(f->r, &q, "s", NULL, &e), &e);
}

/* The first id above `after`; 0: none. */
static void
expect_behind(struct folder *f, uint64_t after, uint64_t want)
{
    struct err e;
    struct api_reread q;
    struct buf auto_buf doc;
    buf_init(&doc, 1 << 20);
    support_ok(rereads_list(f->r, after, 1, &doc, &e), &e);
    assert_int_equal(api_get_rereads(buf_str(&doc), &q, 1, &e), want != 0);
    assert_true(want == 0 || q.id == want);
}

/* "ID OFFSET table id; ...", in memory and on disk. */
static void
expect_rows(struct folder *f, const char *want)
{
    for (int i = 0; i < 2; i++) {
        struct err e;
        struct api_reread q[8];
        struct buf auto_buf doc;
        struct buf auto_buf text;
        buf_init(&doc, 1 << 20);
        buf_init(&text, 1 << 20);
        support_ok(rereads_list(f->r, 0, 8, &doc, &e), &e);
        int n = api_get_rereads(buf_str(&doc), q, 8, &e);
        assert_true(n >= 0);
        for (int k = 0; k < n; k++) {
            assert_int_equal(q[k].nkeys, 1);
            buf_printf(&text, "%llu %llu %.*s %.*s; ", (unsigned long long)q[k].id,
                (unsigned long long)q[k].offset, (int)q[k].table.n, q[k].table.p,
                (int)q[k].key[0].text.n, q[k].key[0].text.p);
        }
        assert_string_equal(buf_cstr(&text), want);
        reopen(f);
    }
}

static void
answer(struct folder *f, uint64_t id, uint64_t read_at, bool is_gone)
{
    struct err e;
    struct api_reread_done d = {.id = id, .read_at = read_at, .is_gone = is_gone};
    support_ok(rereads_done(f->r, &d, 1, &e), &e);
}

static void
test_rows_wait_until_they_are_read(void **state)
{
    (void)state;
    struct folder f;
    folder_init(&f);
    expect_rows(&f, "");
    ask(&f, row(10, "t", "a"));
    expect_rows(&f, "1 10 t a; ");
    ask(&f, row(20, "t", "b"));
    ask(&f, row(12, "u", "a"));
    ask(&f, row(30, "t", "a")); /* the row that waits: raised */
    ask(&f, row(25, "t", "a")); /* and not lowered */
    expect_rows(&f, "1 30 t a; 2 20 t b; 3 12 u a; ");
    answer(&f, 1, 30, false); /* read before the newer record */
    expect_rows(&f, "1 30 t a; 2 20 t b; 3 12 u a; ");
    answer(&f, 3, 13, false);
    answer(&f, 3, 13, false); /* an answer that comes twice */
    expect_rows(&f, "1 30 t a; 2 20 t b; ");
    expect_behind(&f, 0, 1);
    expect_behind(&f, 1, 2);
    expect_behind(&f, 2, 0);
    answer(&f, 1, 31, false);
    answer(&f, 2, 21, true);
    expect_rows(&f, "");
    ask(&f, row(40, "t", "a")); /* no id is used twice */
    expect_rows(&f, "4 40 t a; ");
    folder_fini(&f);
}

static void
test_rows_are_counted(void **state)
{
    (void)state;
    struct folder f;
    struct rereads_stats s;
    folder_init(&f);
    ask(&f, row(10, "t", "a"));
    ask(&f, row(11, "t", "a"));
    ask(&f, row(10, "t", "b"));
    answer(&f, 2, 99, true);
    rereads_stats(f.r, &s);
    assert_int_equal(s.waiting, 1);
    assert_int_equal(s.asked, 3);
    assert_int_equal(s.answered, 1);
    assert_int_equal(s.gone, 1);
    struct err e;
    struct api_reread bad = row(1, "t", "a");
    bad.nkeys = 0;
    assert_int_equal(rereads_ask(f.r, &bad, "s", NULL, &e), ERR_PARSE);
    folder_fini(&f);
}

/* ---- doubts ---- */

static void
ask_with(struct folder *f, const char *sink, uint64_t offset, uint64_t key)
{
    struct err e;
    struct api_reread q = row(offset, "t", "a");
    struct api_doubt d = {.key = key, .table = 7, .offset = offset};
    support_ok(rereads_ask(f->r, &q, sink, &d, &e), &e);
}

/* "KEY OFFSET; ..." of a sink. */
static void
expect_doubts(struct folder *f, const char *sink, const char *want)
{
    struct err e;
    struct buf auto_buf text;
    struct api_doubt *d;
    buf_init(&text, 1 << 20);
    reopen(f);
    int n = doubts_list(&f->bs, sink, &d, &e);
    assert_true(n >= 0);
    for (int i = 0; i < n; i++) {
        assert_int_equal(d[i].table, 7);
        buf_printf(&text, "%llu %llu; ", (unsigned long long)d[i].key,
            (unsigned long long)d[i].offset);
    }
    assert_string_equal(buf_cstr(&text), want);
    free(d);
}

/* They outlive the answer, never go back, and are each sink's own: also where the row waits
 * already, at a higher offset. */
static void
test_doubts_stay(void **state)
{
    (void)state;
    struct folder f;
    struct err e;
    folder_init(&f);
    expect_doubts(&f, "s", "");
    ask_with(&f, "s", 9, 300);
    ask_with(&f, "s", 5, 2);
    ask_with(&f, "s", 7, 300);
    ask_with(&f, "s", 8, 2);
    ask_with(&f, "sink", 4, 65535);
    ask_with(&f, "r", 3, 0);
    struct api_reread_done done = {.id = 1, .read_at = 100};
    support_ok(rereads_done(f.r, &done, 1, &e), &e);
    expect_behind(&f, 0, 0);
    expect_doubts(&f, "s", "2 8; 300 9; ");
    const struct api_doubt over[] = {
        {.key = 2, .offset = 7}, {.key = 300, .offset = 9}, {.key = 4, .offset = 9}};
    support_ok(doubts_end(&f.bs, "s", over, 3, &e), &e);
    expect_doubts(&f, "s", "2 8; ");
    expect_doubts(&f, "sink", "65535 4; ");
    support_ok(doubts_forget(&f.bs, "s", &e), &e);
    expect_doubts(&f, "s", "");
    expect_doubts(&f, "sink", "65535 4; ");
    expect_doubts(&f, "r", "0 3; ");
    folder_fini(&f);
}

static void
test_a_damaged_doubt_is_noticed(void **state)
{
    (void)state;
    struct folder f;
    struct err e;
    struct store_txn *t;
    struct api_doubt *d;
    folder_init(&f);
    struct dead_key k = dead_key_of("s", 300);
    support_ok(beside_begin(&f.bs, 1 << 20, &t, &e), &e);
    support_ok(store_put(t, DEAD_TABLE_DOUBTS, dead_key_str(&k), STR("short"), &e), &e);
    support_ok(store_commit(t, &e), &e);
    assert_int_equal(doubts_list(&f.bs, "s", &d, &e), ERR_CORRUPT);
    free(d);
    struct api_reread q = row(9, "t", "a");
    const struct api_doubt one = {.key = 300, .offset = 9};
    assert_int_equal(rereads_ask(f.r, &q, "s", &one, &e), ERR_CORRUPT);
    folder_fini(&f);
}

/* More than a list holds: what is left out is a doubt of every key. */
static void
test_many_doubts(void **state)
{
    (void)state;
    struct folder f;
    struct err e;
    struct store_txn *t;
    struct api_doubt *d;
    folder_init(&f);
    support_ok(beside_begin(&f.bs, 64 << 20, &t, &e), &e);
    for (uint64_t i = 1; i <= API_DOUBTS_MAX + 3; i++) {
        const struct api_doubt one = {.key = i, .offset = i};
        support_ok(doubts_raise(&f.bs, t, "s", &one, &e), &e);
    }
    support_ok(store_commit(t, &e), &e);
    assert_int_equal(doubts_list(&f.bs, "s", &d, &e), API_DOUBTS_MAX);
    assert_true(d[0].key == 0 && d[0].offset == API_DOUBTS_MAX + 3);
    assert_true(d[1].key == 2 && d[1].offset == 2);
    struct buf auto_buf b;
    buf_init(&b, API_DOUBTS_MAX * 32);
    api_put_doubts(&b, d, API_DOUBTS_MAX);
    assert_int_equal(api_get_doubts(buf_str(&b), d, API_DOUBTS_MAX, &e), API_DOUBTS_MAX);
    support_ok(doubts_forget(&f.bs, "s", &e), &e);
    expect_doubts(&f, "s", "");
    free(d);
    folder_fini(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_letters_stay),
        cmocka_unit_test(test_burying_again_counts_the_attempt),
        cmocka_unit_test(test_a_whole_record_supersedes_older_letters_of_its_key),
        cmocka_unit_test(test_a_key_change_keeps_its_former_key),
        cmocka_unit_test(test_raising),
        cmocka_unit_test(test_a_persons_word),
        cmocka_unit_test(test_bad_letters_are_refused),
        cmocka_unit_test(test_a_full_quota_refuses_and_changes_nothing),
        cmocka_unit_test(test_many_letters_are_superseded_at_once),
        cmocka_unit_test(test_many_letters_are_changed_and_raised_at_once),
        cmocka_unit_test(test_discarding_makes_room_where_there_are_too_many),
        cmocka_unit_test(test_letters_of_another_log_are_refused),
        cmocka_unit_test(test_letters_without_a_former_key_are_read),
        cmocka_unit_test(test_damaged_and_newer_letters_are_refused),
        cmocka_unit_test(test_rows_wait_until_they_are_read),
        cmocka_unit_test(test_rows_are_counted),
        cmocka_unit_test(test_doubts_stay),
        cmocka_unit_test(test_a_damaged_doubt_is_noticed),
        cmocka_unit_test(test_many_doubts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
