/* cmd_segcheck: a good segment, a damaged one, and one whose file is so torn that LMDB crashes:
 * the caller lives and names it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/cli/cmd_segcheck.h"
#include "broker/segment.h"
#include "proto/base/fs.h"
#include "proto/base/sig.h"

#define NAME "00000000000000004096"

static char dir[] = "/tmp/segcheck-XXXXXX";

static void
path_of(const char *file, char to[128])
{
    (void)snprintf(to, 128, "%s/" NAME "/%s", dir, file);
}

static int
make_segment(void **state)
{
    (void)state;
    struct segment *sg;
    struct err e;
    const struct segment_head h = {.uuid = "a log", .base = 4096, .epoch = 3};
    const struct segment_tail t = {.next = 4096};
    char folder[128];
    path_of("", folder);
    assert_int_equal(fs_remove_tree(folder, &e), 0);
    assert_int_equal(segment_create(dir, &h, &t, 1 << 20, &sg, &e), 0);
    segment_free(sg);
    return 0;
}

static void
count(void *arg, uint64_t done, uint64_t all)
{
    (void)done;
    (void)all;
    ++*(int *)arg;
}

static struct cmd_segcheck
check(const char *name)
{
    struct cmd_segcheck r;
    struct err e;
    int calls = 0;
    assert_int_equal(cmd_segcheck_run(dir, name, count, &calls, &r, &e), 0);
    return r;
}

static void
a_good_one(void **state)
{
    (void)state;
    struct cmd_segcheck r = check(NAME);
    assert_int_equal(r.result, CMD_SEGCHECK_OK);
    assert_string_equal(r.msg, "");
    assert_true(r.has_head);
    assert_int_equal(r.base, 4096);
    assert_int_equal(r.next, 4096);
    assert_int_equal(r.epoch, 3);
    assert_memory_equal(r.uuid, "a log\0\0", 7);
}

/* Every byte of the file that holds the head's checked fields. */
static void
a_flipped_bit_in_its_head(void **state)
{
    (void)state;
    char path[128];
    char all[65536];
    path_of("data.mdb", path);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    ssize_t n = read(fd, all, sizeof all);
    assert_true(n > 0);
    const char *at = memmem(all, (size_t)n, "a log", 5);
    assert_non_null(at);
    char flipped = (char)(at[1] ^ 4);
    assert_int_equal(pwrite(fd, &flipped, 1, at + 1 - all), 1);
    (void)close(fd);
    struct cmd_segcheck r = check(NAME);
    assert_int_equal(r.result, CMD_SEGCHECK_DAMAGED);
    assert_false(r.has_head);
    assert_int_equal(r.at, 4096); /* from its name */
    assert_non_null(strstr(r.msg, "head is damaged"));
}

static void
a_torn_file_is_told_from_its_size(void **state)
{
    (void)state;
    char path[128];
    path_of("data.mdb", path);
    assert_int_equal(
        truncate(path, 2 * 4096), 0); /* both metas are there, their pages are not */
    struct cmd_segcheck r = check(NAME);
    assert_int_equal(r.result, CMD_SEGCHECK_DAMAGED);
    assert_non_null(strstr(r.msg, "was cut off"));
    assert_int_equal(r.at, 4096);
}

static void
one_that_is_not_there(void **state)
{
    (void)state;
    struct cmd_segcheck r = check("00000000000000000001");
    assert_int_not_equal(r.result, CMD_SEGCHECK_OK);
    assert_true(strlen(r.msg) > 0);
}

static void
a_stop_ends_it(void **state)
{
    (void)state;
    struct cmd_segcheck r = {.base = 77};
    struct err e = {0};
    int calls = 0;
    sig_init();
    sig_stop();
    assert_int_equal(cmd_segcheck_run(dir, NAME, count, &calls, &r, &e), ERR_STOPPING);
    assert_int_equal(r.base, 77);
}

static int
remove_all(void **state)
{
    (void)state;
    char folder[128];
    path_of("", folder);
    return fs_remove_tree(folder, NULL) == 0 ? rmdir(dir) : -1;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_good_one, make_segment),
        cmocka_unit_test_setup(a_flipped_bit_in_its_head, make_segment),
        cmocka_unit_test_setup(a_torn_file_is_told_from_its_size, make_segment),
        cmocka_unit_test_setup(one_that_is_not_there, make_segment),
        cmocka_unit_test_setup(a_stop_ends_it, make_segment),
    };
    if (mkdtemp(dir) == NULL) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, remove_all);
}
