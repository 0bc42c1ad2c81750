/* Files and folders in a folder of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/fs.h"

static char root[64];

static int
make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/fs_test.XXXXXX");
    return mkdtemp(root) == NULL ? -1 : 0;
}

static int
remove_root(void **state)
{
    struct err e;
    (void)state;
    return fs_remove_tree(root, &e);
}

/* A path under the root; freed by the caller. */
static char *
under(const char *name)
{
    return fs_join(root, name);
}

static bool
exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static void
assert_content(const char *path, const char *want)
{
    struct err e;
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    assert_int_equal(fs_read_file(path, &b, 1 << 20, &e), 0);
    assert_string_equal(buf_cstr(&b), want);
}

static void
test_a_secret_is_one_line(void **state)
{
    (void)state;
    static const struct {
        const char *content, *secret; /* secret NULL: refused */
    } cases[] = {{"s3cret", "s3cret"}, {"s3cret\n", "s3cret"}, {"s3cret\r\n", "s3cret"},
        {" a b ", " a b "}, {"", NULL}, {"\n", NULL}, {"s3cret\nmore\n", NULL},
        {"s3c\tret", NULL}};
    auto_free char *path = under("secret");
    struct err e;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf auto_buf b;
        buf_init(&b, FS_SECRET_MAX);
        assert_int_equal(fs_write_atomic(path, str_from(cases[i].content), 0600, &e), 0);
        int rc = fs_read_secret(path, &b, &e);
        assert_int_equal(rc, cases[i].secret == NULL ? ERR_CONFIG : 0);
        if (rc == 0) {
            assert_string_equal(buf_cstr(&b), cases[i].secret);
        } else {
            assert_null(strstr(e.msg, "s3c"));
        }
    }
    struct buf auto_buf none;
    buf_init(&none, FS_SECRET_MAX);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(fs_read_secret(path, &none, &e), ERR_CONFIG);
    assert_non_null(strstr(e.msg, "no secret"));
}

static void
test_join(void **state)
{
    (void)state;
    const struct {
        const char *dir, *rel, *want;
    } cases[] = {{"/a", "b", "/a/b"}, {"/a/", "b", "/a/b"}, {"/a", "/b", "/b"}, {"", "b", "b"},
        {"/", "b", "/b"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        auto_free char *got = fs_join(cases[i].dir, cases[i].rel);
        assert_string_equal(got, cases[i].want);
    }
}

static void
test_write_atomic_replaces_and_leaves_no_tmp(void **state)
{
    (void)state;
    struct err e;
    struct stat st;
    auto_free char *path = under("file"), *tmp = under("file.tmp");
    assert_int_equal(fs_write_atomic(path, STR("one"), 0600, &e), 0);
    assert_content(path, "one");
    assert_int_equal(fs_write_atomic(path, STR(""), 0600, &e), 0);
    assert_content(path, "");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_false(exists(tmp));
    assert_int_equal(unlink(path), 0);
}

static void
test_write_atomic_relative_path(void **state)
{
    (void)state;
    struct err e;
    char cwd[1024];
    assert_non_null(getcwd(cwd, sizeof cwd));
    assert_int_equal(chdir(root), 0);
    assert_int_equal(fs_write_atomic("plain", STR("x"), 0600, &e), 0);
    assert_int_equal(chdir(cwd), 0);
    auto_free char *path = under("plain");
    assert_content(path, "x");
    assert_int_equal(unlink(path), 0);
}

static void
test_write_atomic_failure_keeps_the_old(void **state)
{
    (void)state;
    struct err e;
    auto_free char *dir = under("d"), *inside = under("d/in"), *tmp = under("d.tmp"),
                   *lost = under("no/file");
    assert_int_equal(fs_mkdir(dir, 0700, &e), 0);
    assert_int_equal(fs_write_atomic(inside, STR("kept"), 0600, &e), 0);
    assert_int_equal(
        fs_write_atomic(dir, STR("x"), 0600, &e), ERR_REFUSED); /* rename over a folder */
    assert_content(inside, "kept");
    assert_false(exists(tmp));
    assert_int_equal(fs_write_atomic(lost, STR("x"), 0600, &e), ERR_NOTFOUND);
    assert_int_equal(e.sys, ENOENT);
    assert_non_null(strstr(e.msg, "no/file.tmp"));
    assert_int_equal(fs_remove_tree(dir, &e), 0);
}

static void
test_full_disk_is_nospace(void **state)
{
    (void)state;
    struct err e;
    auto_free char *tmp = under("full.tmp"), *path = under("full");
    /* the temporary file is a link to a device that is always full */
    assert_int_equal(symlink("/dev/full", tmp), 0);
    assert_int_equal(fs_write_atomic(path, STR("x"), 0600, &e), ERR_NOSPACE);
    assert_int_equal(err_class(e.code), ERR_CLASS_RETRY);
    assert_false(exists(path));
}

static void
test_failed_sync_is_fatal(void **state)
{
    (void)state;
    struct err e;
    /* a device that takes no sync */
    int auto_close fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_int_equal(fs_sync_fd(fd, "/dev/null", &e), ERR_IO);
    assert_int_equal(err_class(e.code), ERR_CLASS_FATAL);
}

static void
test_mkdir(void **state)
{
    (void)state;
    struct err e;
    auto_free char *dir = under("m"), *deep = under("no/m"), *file = under("f");
    assert_int_equal(fs_mkdir(dir, 0700, &e), 0);
    assert_int_equal(fs_mkdir(dir, 0700, &e), 0);
    assert_int_equal(fs_mkdir(deep, 0700, &e), ERR_NOTFOUND);
    assert_int_equal(fs_write_atomic(file, STR("x"), 0600, &e), 0);
    assert_int_equal(fs_mkdir(file, 0700, &e), ERR_REFUSED);
    assert_int_equal(fs_sync_dir(file, &e), ERR_REFUSED);
    assert_int_equal(fs_sync_dir(dir, &e), 0);
    assert_int_equal(fs_sync_dir(deep, &e), ERR_NOTFOUND);
    assert_int_equal(fs_remove_tree(dir, &e), 0);
    assert_int_equal(unlink(file), 0);
}

static void
test_rename_durable(void **state)
{
    (void)state;
    struct err e;
    auto_free char *a = under("a"), *b = under("b"), *from = under("a/x"), *to = under("b/y");
    assert_int_equal(fs_mkdir(a, 0700, &e), 0);
    assert_int_equal(fs_mkdir(b, 0700, &e), 0);
    assert_int_equal(fs_write_atomic(from, STR("x"), 0600, &e), 0);
    assert_int_equal(fs_rename_durable(from, to, &e), 0);
    assert_false(exists(from));
    assert_content(to, "x");
    assert_int_equal(fs_rename_durable(from, to, &e), ERR_NOTFOUND);
    assert_int_equal(fs_remove_tree(a, &e), 0);
    assert_int_equal(fs_remove_tree(b, &e), 0);
}

static void
test_remove_tree_is_one_level_and_follows_no_link(void **state)
{
    (void)state;
    struct err e;
    auto_free char *dir = under("t"), *sub = under("t/sub"), *file = under("t/sub/f"),
                   *link = under("l"), *in_link = under("t/ln"), *outside = under("keep");
    assert_int_equal(fs_mkdir(dir, 0700, &e), 0);
    assert_int_equal(fs_mkdir(sub, 0700, &e), 0);
    assert_int_equal(fs_write_atomic(file, STR("x"), 0600, &e), 0);
    assert_int_equal(fs_remove_tree(dir, &e), ERR_REFUSED);
    assert_true(exists(file));
    assert_int_equal(fs_remove_tree(sub, &e), 0);
    assert_int_equal(fs_write_atomic(outside, STR("x"), 0600, &e), 0);
    assert_int_equal(symlink(outside, in_link), 0);
    assert_int_equal(symlink(dir, link), 0);
    assert_int_not_equal(fs_remove_tree(link, &e), 0);
    assert_true(exists(in_link));
    assert_int_equal(fs_remove_tree(dir, &e), 0);
    assert_false(exists(dir));
    assert_true(exists(outside));
    assert_int_equal(fs_remove_tree(dir, &e), 0); /* missing is fine */
    assert_int_equal(unlink(outside) | unlink(link), 0);
}

static void
test_read_file_limits(void **state)
{
    (void)state;
    struct err e;
    auto_free char *path = under("r"), *none = under("none");
    char *text = malloc(200000);
    memset(text, 'z', 200000);
    const size_t sizes[] = {0, 1, 65535, 65536, 65537, 131072, 200000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        struct buf auto_buf b, auto_buf small;
        buf_init(&b, SIZE_MAX);
        buf_init(&small, n > 0 ? n - 1 : 0);
        buf_puts(&b, "pre");
        assert_int_equal(fs_write_atomic(path, (struct str){.p = text, .n = n}, 0600, &e), 0);
        assert_int_equal(fs_read_file(path, &b, n, &e), 0);
        assert_int_equal(b.n, n + 3);
        assert_memory_equal(b.p + 3, text, n);
        if (n > 0) {
            assert_int_equal(fs_read_file(path, &b, n - 1, &e), ERR_TOOBIG);
            assert_int_equal(b.n, n + 3);
            assert_int_equal(fs_read_file(path, &small, n, &e), ERR_TOOBIG);
        }
        assert_int_equal(fs_read_file(none, &b, n, &e), ERR_NOTFOUND);
    }
    free(text);
    assert_int_equal(unlink(path), 0);
}

static void
test_kinds(void **state)
{
    (void)state;
    const struct {
        uint32_t type;
        enum fs_kind kind;
        const char *name;
    } cases[] = {
        {0x6969, FS_UNSAFE, "nfs"},
        {0x517b, FS_UNSAFE, "smb"},
        {0xff534d42, FS_UNSAFE, "cifs"},
        {0xfe534d42, FS_UNSAFE, "smb2"},
        {0x65735546, FS_UNSAFE, "fuse"},
        {0x01021997, FS_UNSAFE, "9p"},
        {0x00c36400, FS_UNSAFE, "ceph"},
        {0x794c7630, FS_WARN, "overlay"},
        {0x01021994, FS_WARN, "tmpfs"},
        {0xef53, FS_LOCAL, "ext4"},
        {0x12345678, FS_LOCAL, "local"},
    };
    const char *name = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(fs_kind_of_type(cases[i].type, &name), cases[i].kind);
        assert_string_equal(name, cases[i].name);
    }
    struct err e;
    enum fs_kind kind = FS_LOCAL;
    assert_int_equal(fs_kind("/dev/shm", &kind, &name, &e), 0);
    assert_int_equal(kind, FS_WARN);
    assert_string_equal(name, "tmpfs");
    kind = FS_LOCAL;
    assert_int_equal(fs_kind("/dev/shm/not/", &kind, &name, &e), 0);
    assert_int_equal(kind, FS_WARN); /* what would be made there */
    assert_int_equal(fs_kind("/no/such/place", &kind, &name, &e), ERR_NOTFOUND);
    uint64_t bytes = 0;
    assert_int_equal(fs_free_bytes(root, &bytes, &e), 0);
    assert_true(bytes > 0);
    assert_int_equal(fs_free_bytes("/no/such/place", &bytes, &e), ERR_NOTFOUND);
}

static void
test_lock_names_its_holder_and_passes_on(void **state)
{
    (void)state;
    struct err e;
    int fd = -1, second = -1;
    auto_free char *path = under("LOCK");
    assert_int_equal(fs_lock(path, STR("a much longer text of pid 1\n"), 0, &fd, &e), 0);
    assert_int_equal(fs_lock(path, STR("pid 2\n"), 0, &second, &e), ERR_LOCKED);
    assert_non_null(strstr(e.msg, "a much longer text of pid 1"));
    assert_null(strchr(e.msg, '\n'));
    assert_int_equal(second, -1);
    int64_t before = clock_mono_ms();
    assert_int_equal(fs_lock(path, STR("pid 2\n"), 60, &second, &e), ERR_LOCKED);
    assert_true(clock_mono_ms() - before >= 60);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(close(fd), 0);
    assert_int_equal(fs_lock(path, STR("pid 2\n"), 0, &second, &e), 0);
    assert_content(path, "pid 2\n");
    assert_int_equal(close(second) | unlink(path), 0);
}

static void
test_lock_is_waited_for(void **state)
{
    (void)state;
    struct err e;
    int fd = -1, locked[2], release[2], status;
    char c = 'x';
    auto_free char *path = under("LOCK2");
    assert_int_equal(pipe(locked) | pipe(release), 0);
    pid_t pid = fork();
    if (pid == 0) { /* holds the lock until told, then ends: that alone releases it */
        bool is_held =
            fs_lock(path, STR("child"), 0, &fd, &e) == 0 && write(locked[1], &c, 1) == 1;
        _exit(is_held && read(release[0], &c, 1) == 1 ? 0 : 1);
    }
    assert_int_equal(read(locked[0], &c, 1), 1);
    assert_int_equal(fs_lock(path, STR("parent"), 0, &fd, &e), ERR_LOCKED);
    assert_int_equal(write(release[1], &c, 1), 1);
    assert_int_equal(fs_lock(path, STR("parent"), 60000, &fd, &e), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(close(fd) | unlink(path) | close(locked[0]) | close(locked[1]) |
                         close(release[0]) | close(release[1]),
        0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_secret_is_one_line),
        cmocka_unit_test(test_join),
        cmocka_unit_test(test_write_atomic_replaces_and_leaves_no_tmp),
        cmocka_unit_test(test_write_atomic_relative_path),
        cmocka_unit_test(test_write_atomic_failure_keeps_the_old),
        cmocka_unit_test(test_full_disk_is_nospace),
        cmocka_unit_test(test_failed_sync_is_fatal),
        cmocka_unit_test(test_mkdir),
        cmocka_unit_test(test_rename_durable),
        cmocka_unit_test(test_remove_tree_is_one_level_and_follows_no_link),
        cmocka_unit_test(test_read_file_limits),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_lock_names_its_holder_and_passes_on),
        cmocka_unit_test(test_lock_is_waited_for),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
