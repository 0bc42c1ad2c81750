/* The file sink on real files in a folder of the test's own: each change once, whatever was
 * cut, filled up or moved away. */
#include "sink_support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/base/fs.h"
#include "proto/record_json.h"
#include "sinks/file/file_render.h"
#include "sinks/file/file_tail.h"
#include "sinks/registry.h"

static char folder[64], path[96];

/* The C library's, counted, and failing when told to. */
static struct {
    unsigned files, folders;
    bool fail;
} syncs;

static int
sync_fd(int fd, long call)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    if (syncs.fail && S_ISREG(st.st_mode)) {
        errno = EIO;
        return -1;
    }
    *(S_ISDIR(st.st_mode) ? &syncs.folders : &syncs.files) += 1;
    return (int)syscall(call, fd);
}

int
fsync(int fd)
{
    return sync_fd(fd, SYS_fsync);
}

int
fdatasync(int fd)
{
    return sync_fd(fd, SYS_fdatasync);
}

static int
setup(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/file_sink_XXXXXX");
    assert_non_null(mkdtemp(folder));
    memset(&syncs, 0, sizeof syncs);
    (void)snprintf(path, sizeof path, "%s/out.ndjson", folder);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    struct err e;
    return fs_remove_tree(folder, &e);
}

/* ---- a sink, and what it is given ---- */

struct options {
    char *path;
};

static int
open_sink(uint64_t next, struct sink **ret, struct err *e)
{
    struct options o = {path};
    struct sink_setup s = {.name = "out", .options = &o, .next = next};
    return registry_find("file")->open(&s, ret, e);
}

/* As `oneslot check` does. */
static int
look_at(const char *where, struct err *e)
{
    struct options o = {(char *)(uintptr_t)where};
    struct sink_setup s = {.name = "out", .options = &o, .next = 1, .is_check = true};
    struct sink *sink = NULL;
    int rc = registry_find("file")->open(&s, &sink, e);
    if (rc == 0) {
        sink->ops->close(sink);
    }
    return rc;
}

static void
a_check_changes_nothing(void **state)
{
    (void)state;
    struct err e;
    struct sink *s;
    char nowhere[128];
    assert_int_equal(look_at(path, &e), 0);
    assert_int_equal(access(path, F_OK), -1); /* not made */
    assert_int_equal(fs_write_atomic(path, STR("torn"), 0600, &e), 0);
    assert_int_equal(look_at(path, &e), 0);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 4); /* not cut */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(open_sink(1, &s, &e), 0);
    assert_int_equal(look_at(path, &e), 0); /* while its worker is at work */
    s->ops->close(s);
    assert_int_equal(look_at(folder, &e), ERR_CONFIG);
    (void)snprintf(nowhere, sizeof nowhere, "%s/no/out.ndjson", folder);
    assert_int_equal(look_at(nowhere, &e), ERR_CONFIG);
}

/* Opens, writes what comes, closes; the batch is n records from `first` on, 10 apart. */
struct feed {
    uint64_t first, tail, next;
    size_t n;
    const char *note;
};

static int
write_batch(struct sink *s, const struct feed *f, struct err *e)
{
    struct intake in;
    struct buf auto_buf bytes;
    intake_init(&in, NULL, 0);
    support_load(&in, &bytes, f->first, 10, f->n, f->tail, f->note);
    struct sink_verdict *v = calloc(f->n, sizeof *v);
    struct sink_batch b = {.records = in.records, .n = in.n, .next = f->next, .tail = f->tail};
    int rc = s->ops->write(s, &b, v, e);
    for (size_t i = 0; i < f->n; i++) {
        assert_int_equal(v[i].verdict, rc == 0 ? VERDICT_DONE : VERDICT_UNSET);
    }
    free(v);
    intake_fini(&in);
    return rc;
}

static int
feed(const struct feed *f, struct err *e)
{
    struct sink *s = NULL;
    int rc = open_sink(f->next, &s, e);
    if (rc == 0) {
        rc = write_batch(s, f, e);
        s->ops->close(s);
    }
    return rc;
}

static void
assert_feed(const struct feed *f)
{
    struct err e = {0};
    int rc = feed(f, &e);
    if (rc != 0) {
        print_error("%s\n", e.msg);
    }
    assert_int_equal(rc, 0);
}

/* ---- files ---- */

static void
slurp(const char *from, struct buf *b)
{
    struct err e;
    buf_init(b, SIZE_MAX);
    assert_int_equal(fs_read_file(from, b, SIZE_MAX, &e), 0);
}

static void
spit(struct str content)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content.p == NULL ? "" : content.p, content.n), content.n);
    assert_int_equal(close(fd), 0);
}

/* The lines of records first, first + 10, ... as they have to stand in the file. */
static void
put_expected(struct buf *b, uint64_t first, size_t n, const char *note)
{
    struct intake in;
    struct buf auto_buf bytes;
    intake_init(&in, NULL, 0);
    support_load(&in, &bytes, first, 10, n, UINT64_MAX, note);
    for (size_t i = 0; i < n; i++) {
        record_json_put(b, &in.records[i]);
        buf_putc(b, '\n');
    }
    intake_fini(&in);
}

static void
assert_file(uint64_t first, size_t n, const char *note)
{
    struct buf auto_buf want;
    struct buf auto_buf got;
    buf_init(&want, SIZE_MAX);
    put_expected(&want, first, n, note);
    slurp(path, &got);
    assert_int_equal(got.n, want.n);
    assert_memory_equal(got.p, want.p, want.n);
}

/* ---- tests ---- */

static void
creates_appends_and_resumes(void **state)
{
    (void)state;
    assert_feed(&(struct feed){.first = 1000, .n = 3, .tail = 2000});
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_file(1000, 3, NULL);
    assert_feed(&(struct feed){.first = 1030, .n = 2, .tail = 2000, .next = 1021});
    assert_file(1000, 5, NULL);
    /* sent again because the commit got lost, and with something new behind it */
    assert_feed(&(struct feed){.first = 1010, .n = 7, .tail = 2000, .next = 1010});
    assert_file(1000, 8, NULL);
    /* a replay of all of it changes nothing */
    assert_feed(&(struct feed){.first = 1000, .n = 8, .tail = 2000, .next = 1000});
    assert_file(1000, 8, NULL);
}

/* Killed at any byte of its writes: next is where the offset stood, 1000. */
static void
P4_torn_at_every_byte_it_holds_each_change_once(void **state)
{
    (void)state;
    struct buf auto_buf whole;
    buf_init(&whole, SIZE_MAX);
    put_expected(&whole, 1000, 3, "\"quoted\"");
    for (size_t n = 0; n <= whole.n; n++) {
        spit((struct str){whole.p, n});
        assert_feed(&(struct feed){
            .first = 1000, .n = 4, .tail = 2000, .next = 1000, .note = "\"quoted\""});
        assert_file(1000, 4, "\"quoted\"");
    }
}

/* A power cut leaves zeros where a page of the last, unsynced lines was: nothing behind them
 * counts. */
static void
zeros_in_the_unsynced_lines_are_cut_off(void **state)
{
    (void)state;
    struct buf auto_buf whole;
    buf_init(&whole, SIZE_MAX);
    put_expected(&whole, 1000, 1, NULL);
    size_t durable = whole.n;
    put_expected(&whole, 1010, 3, NULL);
    for (size_t at = durable; at + 8 <= whole.n; at++) {
        struct buf auto_buf torn;
        buf_init(&torn, SIZE_MAX);
        buf_put_str(&torn, buf_str(&whole));
        memset(torn.p + at, 0, 8);
        spit(buf_str(&torn));
        assert_feed(&(struct feed){.first = 1010, .n = 3, .tail = 2000, .next = 1001});
        assert_file(1000, 4, NULL);
    }
}

/* Cutting off what the offset has passed would lose it: nobody would send it again. */
static void
damage_to_settled_lines_is_reported_not_cut(void **state)
{
    (void)state;
    struct buf auto_buf whole;
    buf_init(&whole, SIZE_MAX);
    put_expected(&whole, 1000, 3, NULL);
    struct buf auto_buf torn;
    buf_init(&torn, SIZE_MAX);
    buf_put(&torn, whole.p, whole.n - 5); /* the last line, settled, without its end */
    spit(buf_str(&torn));
    struct err e;
    assert_int_equal(
        feed(&(struct feed){.first = 1030, .n = 1, .tail = 2000, .next = 1021}, &e),
        ERR_CORRUPT);
    assert_non_null(strstr(e.msg, "damaged after it was written"));
    memset(whole.p + whole.n / 3 + 20, 0, 3); /* zeros in the middle one */
    spit(buf_str(&whole));
    assert_int_equal(
        feed(&(struct feed){.first = 1030, .n = 1, .tail = 2000, .next = 1021}, &e),
        ERR_CORRUPT);
    struct buf auto_buf now;
    slurp(path, &now);
    assert_int_equal(now.n, whole.n);
    assert_memory_equal(now.p, whole.p, whole.n);
}

static void
a_foreign_file_is_left_alone(void **state)
{
    (void)state;
    struct buf auto_buf mixed;
    buf_init(&mixed, SIZE_MAX);
    put_expected(&mixed, 1000, 2, NULL);
    buf_puts(&mixed, "{\"id\":1}\n");
    struct buf auto_buf backwards;
    buf_init(&backwards, SIZE_MAX);
    put_expected(&backwards, 1010, 1, NULL);
    put_expected(&backwards, 1000, 1, NULL);
    struct str files[] = {STR("hello\n"), STR("hello"), STR("{\"id\":1}\n"), STR("\n"),
        STR("{}\n"), STR("{\"offset\":}\n"), STR("{\"offset\":x,"),
        STR("{\"offset\":12345678901234567890123,\"a\":1}\n"), STR("\0\0\0\0"),
        STR("{\"offset\":7}\n"), buf_str(&mixed), buf_str(&backwards)};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        spit(files[i]);
        struct err e;
        assert_int_equal(
            feed(&(struct feed){.first = 2000, .n = 1, .tail = 3000}, &e), ERR_FOREIGN);
        assert_non_null(strstr(e.msg, path));
        struct buf auto_buf now;
        slurp(path, &now);
        assert_true(str_eq(buf_str(&now), files[i]));
    }
}

static void
a_file_beyond_the_log_belongs_to_another(void **state)
{
    (void)state;
    assert_feed(&(struct feed){.first = 1000, .n = 3, .tail = 1021});
    struct err e;
    assert_int_equal(feed(&(struct feed){.first = 500, .n = 1, .tail = 1020}, &e), ERR_FOREIGN);
    assert_non_null(strstr(e.msg, "belongs to another log"));
    assert_file(1000, 3, NULL);
}

static void
a_rotated_removed_or_emptied_file_begins_anew(void **state)
{
    (void)state;
    char old[128];
    struct sink *s = NULL;
    struct err e;
    (void)snprintf(old, sizeof old, "%s.1", path);
    assert_int_equal(open_sink(0, &s, &e), 0);
    assert_int_equal(
        write_batch(s, &(struct feed){.first = 1000, .n = 2, .tail = 2000}, &e), 0);
    assert_int_equal(rename(path, old), 0);
    assert_int_equal(
        write_batch(s, &(struct feed){.first = 1020, .n = 2, .tail = 2000, .next = 1011}, &e),
        0);
    assert_file(1020, 2, NULL);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(
        write_batch(s, &(struct feed){.first = 1040, .n = 1, .tail = 2000, .next = 1031}, &e),
        0);
    assert_file(1040, 1, NULL);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(
        write_batch(s, &(struct feed){.first = 1050, .n = 2, .tail = 2000, .next = 1041}, &e),
        0);
    assert_file(1050, 2, NULL);
    s->ops->close(s);
    struct buf auto_buf first;
    struct buf auto_buf want;
    slurp(old, &first);
    buf_init(&want, SIZE_MAX);
    put_expected(&want, 1000, 2, NULL);
    assert_true(str_eq(buf_str(&first), buf_str(&want)));
}

static void
limit_file_size(rlim_t bytes)
{
    struct rlimit l;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &l), 0);
    l.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &l), 0);
}

static uint64_t
file_size(void)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_size;
}

/* Full at any byte of three lines: nothing torn stays behind, and it goes on when there is
 * room. */
static void
a_full_disk_is_retried_from_whole_lines(void **state)
{
    (void)state;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_feed(&(struct feed){.first = 1000, .n = 1, .tail = 2000});
    uint64_t line = file_size();
    for (uint64_t limit = line; limit < 4 * line; limit += 7) {
        assert_int_equal(truncate(path, (off_t)line), 0);
        struct sink *s = NULL;
        struct err e;
        assert_int_equal(open_sink(1001, &s, &e), 0);
        struct feed f = {.first = 1010, .n = 3, .tail = 2000, .next = 1001};
        limit_file_size(limit);
        int rc = write_batch(s, &f, &e);
        limit_file_size(RLIM_INFINITY);
        assert_int_equal(rc, ERR_NOSPACE);
        assert_int_equal(err_class(rc), ERR_CLASS_RETRY);
        assert_int_equal(file_size(), line); /* one write, cut back */
        assert_int_equal(write_batch(s, &f, &e), 0);
        s->ops->close(s);
        assert_file(1000, 4, NULL);
    }
}

/* It has nothing to do with the target: it passes. */
static void
no_descriptor_left_is_busy(void **state)
{
    (void)state;
    struct rlimit all, none;
    struct sink *s = NULL;
    struct err e;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &all), 0);
    none = all;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int rc = open_sink(0, &s, &e);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
    assert_int_equal(rc, ERR_BUSY);
    assert_null(s);
    assert_int_equal(open_sink(0, &s, &e), 0);
    s->ops->close(s);
}

/* Several writes of one batch: those before the one that failed stay and are not written again.
 */
static void
a_large_batch_that_fails_half_way_goes_on_from_there(void **state)
{
    (void)state;
    (void)signal(SIGXFSZ, SIG_IGN);
    static char note[20001];
    memset(note, 'x', sizeof note - 1);
    struct sink *s = NULL;
    struct err e;
    struct feed f = {.first = 1000, .n = 300, .tail = 10000, .note = note};
    assert_int_equal(open_sink(0, &s, &e), 0);
    limit_file_size(3500000);
    int rc = write_batch(s, &f, &e);
    limit_file_size(RLIM_INFINITY);
    assert_int_equal(rc, ERR_NOSPACE);
    uint64_t kept = file_size();
    assert_in_range(kept, 2000000, 3500000);
    assert_int_equal(write_batch(s, &f, &e), 0);
    s->ops->close(s);
    assert_file(1000, 300, note);
}

/* Only the end is read: a durable part of any size costs nothing, and may even be damaged. */
static void
opening_looks_at_the_end_only(void **state)
{
    (void)state;
    static char note[1001];
    memset(note, 'y', sizeof note - 1);
    assert_feed(&(struct feed){.first = 1000, .n = 3000, .tail = 100000, .note = note});
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "\n\0\n", 3, 500000), 3);
    struct file_tail t;
    struct err e;
    assert_int_equal(file_tail_read(fd, path, 1000 + 2990 * 10, &t, &e), 0);
    assert_int_equal(t.good, t.size);
    assert_int_equal(t.last, 1000 + 2999 * 10);
    /* with nothing known to be durable the damage is seen, and is where it ends */
    assert_int_equal(file_tail_read(fd, path, 0, &t, &e), 0);
    assert_in_range(t.good, 490000, 500000);
    assert_int_equal(close(fd), 0);
}

/* Lines larger than what is read at once, whole and torn. */
static void
huge_lines_are_found_and_cut(void **state)
{
    (void)state;
    static char note[3000001];
    memset(note, 'z', sizeof note - 1);
    assert_feed(&(struct feed){.first = 1000, .n = 2, .tail = 2000, .note = note});
    assert_feed(
        &(struct feed){.first = 1000, .n = 3, .tail = 2000, .next = 1000, .note = note});
    assert_file(1000, 3, note);
    assert_int_equal(truncate(path, (off_t)file_size() - 1), 0);
    assert_feed(
        &(struct feed){.first = 1020, .n = 1, .tail = 2000, .next = 1011, .note = note});
    assert_file(1000, 3, note);
}

/* P4: what a killed process left is synced, and its place in the folder, before it counts. */
static void
P4_done_means_synced(void **state)
{
    (void)state;
    struct sink *s = NULL;
    struct err e;
    assert_int_equal(open_sink(0, &s, &e), 0);
    assert_int_equal(syncs.files, 1);
    assert_int_equal(syncs.folders, 1);
    struct feed f = {.first = 1000, .n = 2, .tail = 2000};
    assert_int_equal(write_batch(s, &f, &e), 0);
    assert_int_equal(syncs.files, 2);
    assert_int_equal(write_batch(s, &f, &e), 0); /* nothing new */
    assert_int_equal(syncs.files, 2);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(write_batch(s, &f, &e), 0);
    assert_int_equal(syncs.files, 4);
    assert_int_equal(syncs.folders, 2);
    s->ops->close(s);
}

/* P9: the process ends, and the next one finds nothing that only the page cache has. */
static void
P9_a_failed_sync_is_fatal_and_its_lines_are_gone(void **state)
{
    (void)state;
    struct sink *s = NULL;
    struct err e;
    assert_feed(&(struct feed){.first = 1000, .n = 2, .tail = 2000});
    uint64_t durable = file_size();
    assert_int_equal(open_sink(1011, &s, &e), 0);
    syncs.fail = true;
    assert_int_equal(
        write_batch(s, &(struct feed){.first = 1020, .n = 2, .tail = 2000, .next = 1011}, &e),
        ERR_IO);
    assert_int_equal(err_class(ERR_IO), ERR_CLASS_FATAL);
    assert_int_equal(file_size(), durable);
    s->ops->close(s);
    /* and when opening fails to sync lines that were never committed */
    struct buf auto_buf more;
    buf_init(&more, SIZE_MAX);
    put_expected(&more, 1000, 4, NULL);
    spit(buf_str(&more));
    assert_int_equal(open_sink(1011, &s, &e), ERR_IO);
    assert_int_equal(file_size(), durable);
    syncs.fail = false;
    assert_feed(&(struct feed){.first = 1020, .n = 2, .tail = 2000, .next = 1011});
    assert_file(1000, 4, NULL);
}

static void
what_cannot_be_opened_is_a_clear_sentence(void **state)
{
    (void)state;
    struct err e;
    struct sink *s = NULL, *other = NULL;
    char good[sizeof path];
    memcpy(good, path, sizeof path);
    (void)snprintf(path, sizeof path, "%s/missing/out", folder);
    assert_int_equal(open_sink(0, &s, &e), ERR_CONFIG);
    assert_non_null(strstr(e.msg, "its folder must exist"));
    (void)snprintf(path, sizeof path, "/dev/null");
    assert_int_equal(open_sink(0, &s, &e), ERR_CONFIG);
    assert_non_null(strstr(e.msg, "not a plain file"));
    (void)snprintf(path, sizeof path, "/tmp");
    assert_int_equal(open_sink(0, &s, &e), ERR_CONFIG);
    memcpy(path, good, sizeof path);
    assert_int_equal(open_sink(0, &s, &e), 0);
    assert_int_equal(open_sink(0, &other, &e), ERR_LOCKED);
    assert_null(other);
    s->ops->close(s);
    assert_int_equal(open_sink(0, &s, &e), 0);
    s->ops->close(s);
}

static void
offsets_of_lines(void **state)
{
    (void)state;
    static const struct {
        const char *head;
        int want;
        uint64_t offset;
    } rows[] = {{"{\"offset\":1,", 1, 1},
        {"{\"offset\":1882345678901234,\"lsn", 1, 1882345678901234}, {"{\"offset\":0,", 1, 0},
        {"", 0, 0}, {"{", 0, 0}, {"{\"offset\":", 0, 0}, {"{\"offset\":12", 0, 0},
        {"{\"offset\":,", -1, 0}, {"{\"offset\":-1,", -1, 0}, {"{\"offset\":1}", -1, 0},
        {"{\"offse\"", -1, 0}, {"x", -1, 0}, {"{\"offset\":1 ,", -1, 0},
        {"{\"offset\":12345678901234567890,", -1, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t offset = 0;
        size_t n = strlen(rows[i].head);
        char *exact = support_exact(rows[i].head, n);
        assert_int_equal(file_line_offset((struct str){exact, n}, &offset), rows[i].want);
        assert_int_equal(offset, rows[i].offset);
        free(exact);
    }
}

static void
rendering_stops_at_enough_and_at_the_limit(void **state)
{
    (void)state;
    struct intake in;
    struct buf auto_buf bytes;
    intake_init(&in, NULL, 0);
    support_load(&in, &bytes, 2100, 10, 50, 3000, NULL);
    struct buf auto_buf whole;
    struct buf auto_buf b;
    buf_init(&whole, SIZE_MAX);
    put_expected(&whole, 2100, 50, NULL);
    size_t line = whole.n / 50;
    buf_init(&b, 20 * line);
    assert_int_equal(file_render(&b, in.records, 50, 1), 1);
    assert_int_equal(b.n, line);
    size_t took = 1 + file_render(&b, in.records + 1, 49, SIZE_MAX);
    assert_in_range(took, 10, 20); /* rendering wants some room to spare */
    assert_true(buf_ok(&b));
    assert_int_equal(b.n, took * line);
    assert_memory_equal(b.p, whole.p, b.n);
    struct buf auto_buf small;
    buf_init(&small, line - 1);
    assert_int_equal(file_render(&small, in.records, 50, SIZE_MAX), 0);
    assert_int_equal(small.n, 0);
    intake_fini(&in);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(creates_appends_and_resumes),
        TEST(P4_torn_at_every_byte_it_holds_each_change_once),
        TEST(zeros_in_the_unsynced_lines_are_cut_off),
        TEST(damage_to_settled_lines_is_reported_not_cut),
        TEST(a_foreign_file_is_left_alone),
        TEST(a_file_beyond_the_log_belongs_to_another),
        TEST(a_rotated_removed_or_emptied_file_begins_anew),
        TEST(a_full_disk_is_retried_from_whole_lines),
        TEST(no_descriptor_left_is_busy),
        TEST(a_large_batch_that_fails_half_way_goes_on_from_there),
        TEST(opening_looks_at_the_end_only),
        TEST(huge_lines_are_found_and_cut),
        TEST(P4_done_means_synced),
        TEST(P9_a_failed_sync_is_fatal_and_its_lines_are_gone),
        TEST(what_cannot_be_opened_is_a_clear_sentence),
        TEST(a_check_changes_nothing),
        cmocka_unit_test(offsets_of_lines),
        cmocka_unit_test(rendering_stops_at_enough_and_at_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
