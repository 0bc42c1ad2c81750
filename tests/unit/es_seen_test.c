/* What a sink has seen of its indexes, in a file that outlives the process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/fs.h"
#include "proto/base/xmalloc.h"
#include "proto/frame.h"
#include "sinks/elasticsearch/es_seen.h"

static const struct es_seen_history ours = {.uuid = {1, 2, 0xab}, .floor = 100};
static char folder[64];
static char *path;

static int
setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/es_seen.XXXXXX");
    path = mkdtemp(folder) == NULL ? NULL : fs_join(folder, "sink-search.seen");
    return path == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
    struct err e;
    (void)state;
    free(path);
    return fs_remove_tree(folder, &e);
}

static struct es_seen *
open_ok(void)
{
    struct err e = {0};
    struct es_seen *s = NULL;
    int rc = es_seen_open(path, &s, &e);
    if (rc != 0) {
        print_error("%s\n", e.msg);
    }
    assert_int_equal(rc, 0);
    return s;
}

static int
open_with(const char *text, size_t n, struct err *e)
{
    struct es_seen *s = NULL;
    FILE *f = fopen(path, "w"); /* hundreds of syncs would take minutes */
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    int rc = es_seen_open(path, &s, e);
    es_seen_close(s);
    return rc;
}

static void
put(struct es_seen *s, const struct es_seen_history *h, const char *alias, uint64_t offset)
{
    struct err e;
    assert_int_equal(es_seen_put(s, h, str_from(alias), offset, &e), 0);
}

/* 0: it was not there. */
static uint64_t
from(struct es_seen *s, const struct es_seen_history *h, const char *alias)
{
    uint64_t offset = 0;
    return es_seen_get(s, h, str_from(alias), &offset) ? offset : 0;
}

/* The file as it stands. */
static void
read_file(struct buf *b)
{
    struct err e;
    buf_init(b, SIZE_MAX);
    assert_int_equal(fs_read_file(path, b, SIZE_MAX / 2, &e), 0);
}

/* With the line that ends it. */
static void
seal(struct buf *b)
{
    buf_printf(b, "end %08" PRIx32 "\n", frame_sum(0, buf_str(b)));
}

static void
test_another_process_knows_it(void **state)
{
    (void)state;
    struct stat st;
    struct es_seen *s = open_ok();
    assert_int_equal(access(path, F_OK), -1); /* nothing to say yet */
    put(s, &ours, "public.t", 500);
    put(s, &ours, "public.größe", UINT64_MAX);
    es_seen_close(s);
    s = open_ok();
    assert_int_equal(from(s, &ours, "public.t"), 500);
    assert_true(from(s, &ours, "public.größe") == UINT64_MAX);
    assert_int_equal(from(s, &ours, "public."), 0);
    es_seen_close(s);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void
test_the_lowest_record_counts_and_only_news_is_written(void **state)
{
    (void)state;
    struct es_seen *s = open_ok();
    put(s, &ours, "t", 500);
    assert_int_equal(unlink(path), 0);
    put(s, &ours, "t", 700); /* each batch of each lane may say it */
    assert_int_equal(access(path, F_OK), -1);
    put(s, &ours, "t", 300);
    es_seen_close(s);
    s = open_ok();
    assert_int_equal(from(s, &ours, "t"), 300);
    es_seen_close(s);
}

/* Lanes share what one of them has found; the file is read anew when all are closed. */
static void
test_lanes_share_it(void **state)
{
    (void)state;
    struct es_seen *s = open_ok(), *other = open_ok();
    put(s, &ours, "t", 500);
    es_seen_close(s);
    assert_int_equal(from(other, &ours, "t"), 500);
    assert_int_equal(unlink(path), 0);
    es_seen_close(other);
    s = open_ok();
    assert_int_equal(from(s, &ours, "t"), 0);
    es_seen_close(s);
}

/* What comes before a skip, or before the sink was forgotten, says nothing; neither does what a
 * replay from below the floor says about it. */
static void
test_a_history_begins_at_its_floor(void **state)
{
    (void)state;
    struct es_seen_history later = ours, earlier = ours;
    later.floor = 1000;
    earlier.floor = 50;
    struct es_seen *s = open_ok();
    put(s, &ours, "t", 500);
    assert_int_equal(from(s, &later, "t"), 0);
    assert_int_equal(from(s, &earlier, "t"), 0);
    put(s, &later, "t", 1200);
    assert_int_equal(from(s, &later, "t"), 1200);
    assert_int_equal(from(s, &ours, "t"), 0);
    put(s, &later, "t", 600); /* a replay: the floor stays */
    es_seen_close(s);
    s = open_ok();
    assert_int_equal(from(s, &later, "t"), 600);
    es_seen_close(s);
}

static void
test_another_log_is_another_history(void **state)
{
    (void)state;
    struct es_seen_history other = ours;
    other.uuid[15] = 1;
    struct es_seen *s = open_ok();
    put(s, &ours, "t", 500);
    assert_int_equal(from(s, &other, "t"), 0);
    put(s, &other, "t", 40);
    es_seen_close(s);
    s = open_ok();
    assert_int_equal(from(s, &ours, "t"), 0); /* that log does not come back */
    assert_int_equal(from(s, &other, "t"), 40);
    es_seen_close(s);
}

/* Cut anywhere, or with any byte changed, it is not taken for less than it was. */
static void
test_a_damaged_file_is_refused(void **state)
{
    (void)state;
    struct err e;
    struct buf auto_buf b;
    struct es_seen *s = open_ok();
    put(s, &ours, "public.a", 500);
    put(s, &ours, "public.b", 600);
    es_seen_close(s);
    read_file(&b);
    assert_int_equal(open_with(b.p, b.n, &e), 0);
    for (size_t i = 0; i < b.n; i++) {
        assert_int_equal(open_with(b.p, i, &e), ERR_CORRUPT);
        assert_int_equal(err_class(e.code), ERR_CLASS_STOP);
        assert_non_null(strstr(e.msg, path));
        assert_non_null(strstr(e.msg, "remove the file"));
        b.p[i] ^= 1;
        assert_int_equal(err_class(open_with(b.p, b.n, &e)), ERR_CLASS_STOP);
        b.p[i] ^= 1;
    }
    buf_puts(&b, "\n");
    assert_int_equal(open_with(b.p, b.n, &e), ERR_CORRUPT);
}

static void
test_lines_are_read_strictly(void **state)
{
    (void)state;
#define LOG "000102030405060708090a0b0c0d0e0f"
    static const struct {
        const char *text;
        int code;
    } cases[] = {
        {"oneslot-seen 1\n", 0},
        {"oneslot-seen 1\n" LOG " 1 2 t\n", 0},
        {"oneslot-seen 2\nsomething else\n", ERR_NEWER},
        {"oneslot-seen 0\n", ERR_CORRUPT},
        {"oneslot-seen \n", ERR_CORRUPT},
        {"oneslot-met 1\n", ERR_CORRUPT},
        {"", ERR_CORRUPT},
        {"oneslot-seen 1\n\n", ERR_CORRUPT},
        {"oneslot-seen 1\n" LOG " 1 2 \n", ERR_CORRUPT},
        {"oneslot-seen 1\n" LOG " 1 2\n", ERR_CORRUPT},
        {"oneslot-seen 1\n" LOG " 1 t\n", ERR_CORRUPT},
        {"oneslot-seen 1\n" LOG "0 1 2 t\n", ERR_CORRUPT},
        {"oneslot-seen 1\n" LOG " -1 2 t\n", ERR_CORRUPT},
        {"oneslot-seen 1\n" LOG " 1 18446744073709551616 t\n", ERR_CORRUPT},
        {"oneslot-seen 1\n" LOG " 1 2 t", ERR_CORRUPT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e;
        struct buf auto_buf b;
        buf_init(&b, SIZE_MAX);
        buf_puts(&b, cases[i].text);
        seal(&b);
        if (open_with(b.p, b.n, &e) != cases[i].code) {
            fail_msg("case %zu", i);
        }
    }
}

/* A file as large as may be is read, and nothing is forgotten for one more. */
static void
test_it_is_bounded(void **state)
{
    (void)state;
    struct err e;
    struct buf auto_buf b;
    char name[241];
    size_t line = 0;
    memset(name, 'n', 240);
    name[240] = '\0';
    buf_init(&b, SIZE_MAX);
    buf_puts(&b, "oneslot-seen 1\n");
    for (unsigned i = 0; b.n + 2 * line < ES_SEEN_BYTES_MAX; i++) {
        size_t before = b.n;
        buf_printf(&b, "0102ab00000000000000000000000000 100 2 %.230s%010u\n", name, i);
        line = b.n - before;
    }
    seal(&b);
    assert_int_equal(open_with(b.p, b.n, &e), 0);
    struct es_seen *s = open_ok();
    put(s, &ours, "t", 500);
    int rc = 0;
    for (char c = 'a'; c < 'd'; c++) { /* more than there can be room for */
        name[0] = c;
        rc = es_seen_put(s, &ours, str_from(name), 600, &e);
    }
    assert_int_equal(rc, ERR_TOOBIG);
    assert_non_null(strstr(e.msg, "`tables`"));
    es_seen_close(s);
    s = open_ok();
    assert_int_equal(from(s, &ours, "t"), 500);
    es_seen_close(s);
    buf_reset(&b, SIZE_MAX);
    assert_non_null(buf_room(&b, ES_SEEN_BYTES_MAX + 1));
    memset(b.p, 'x', ES_SEEN_BYTES_MAX + 1);
    assert_int_equal(open_with(b.p, ES_SEEN_BYTES_MAX + 1, &e), ERR_CORRUPT);
}

/* Nothing counts as remembered before it is on disk. */
static void
test_what_was_not_saved_is_saved_by_the_next_call(void **state)
{
    (void)state;
    struct err e;
    struct es_seen *s = open_ok();
    char *auto_free tmp = xasprintf("%s.tmp", path);
    assert_int_equal(mkdir(tmp, 0700), 0); /* in its way, for root too */
    assert_int_equal(es_seen_put(s, &ours, STR("t"), 500, &e), ERR_REFUSED);
    assert_int_equal(es_seen_put(s, &ours, STR("t"), 501, &e), ERR_REFUSED);
    assert_int_equal(rmdir(tmp), 0);
    put(s, &ours, "t", 502);
    es_seen_close(s);
    s = open_ok();
    assert_int_equal(from(s, &ours, "t"), 500);
    es_seen_close(s);
}

static void
test_what_cannot_be_read_is_not_empty(void **state)
{
    (void)state;
    struct err e;
    struct es_seen *s = NULL;
    assert_int_equal(mkdir(path, 0700), 0);
    assert_true(es_seen_open(path, &s, &e) < 0);
    assert_null(s);
    assert_int_equal(rmdir(path), 0);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_another_process_knows_it),
        TEST(test_the_lowest_record_counts_and_only_news_is_written),
        TEST(test_lanes_share_it),
        TEST(test_a_history_begins_at_its_floor),
        TEST(test_another_log_is_another_history),
        TEST(test_a_damaged_file_is_refused),
        TEST(test_lines_are_read_strictly),
        TEST(test_it_is_bounded),
        TEST(test_what_was_not_saved_is_saved_by_the_next_call),
        TEST(test_what_cannot_be_read_is_not_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
