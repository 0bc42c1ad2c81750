/* proc: the tie to a supervisor, and the lock that names its holder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/proc.h"
#include "proto/base/xmalloc.h"

/* In a child, whose tie stays. Its exit status: whether the tie holds. */
static bool
ties_with(const char *supervised)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        if ((supervised != NULL ? setenv(PROC_SUPERVISED, supervised, 1)
                                : unsetenv(PROC_SUPERVISED)) != 0) {
            _exit(2);
        }
        _exit(proc_tie_to_supervisor() ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
    return WEXITSTATUS(status) == 0;
}

static void
the_supervisor_must_be_our_parent(void **state)
{
    (void)state;
    auto_free char *us = xasprintf("%ld", (long)getpid());
    auto_free char *another = xasprintf("%ld", (long)getppid());
    assert_true(ties_with(NULL));
    assert_true(ties_with("1"));
    assert_true(ties_with(us));
    assert_false(ties_with(another)); /* it died, and we were given to somebody else */
}

/* The middle one starts a process tied to it, says its pid, and is killed. */
static void
a_tied_process_ends_with_its_parent(void **state)
{
    (void)state;
    int fds[2], status;
    char c;
    assert_int_equal(pipe(fds), 0);
    pid_t middle = fork();
    if (middle == 0) {
        pid_t self = getpid();
        if (fork() == 0) {
            if (!proc_tie(self) || write(fds[1], "t", 1) != 1) {
                _exit(1);
            }
        }
        for (;;) {
            (void)pause();
        }
    }
    (void)close(fds[1]);
    assert_int_equal(read(fds[0], &c, 1), 1); /* it is tied */
    assert_int_equal(kill(middle, SIGKILL), 0);
    assert_int_equal(waitpid(middle, &status, 0), middle);
    assert_int_equal(read(fds[0], &c, 1), 0); /* nobody holds the other end any more */
    (void)close(fds[0]);
}

static void
the_lock_names_its_holder(void **state)
{
    (void)state;
    char folder[] = "/tmp/proc_XXXXXX";
    struct err e;
    int first = -1, second = -1;
    assert_non_null(mkdtemp(folder));
    auto_free char *path = xasprintf("%s/x.lock", folder);
    auto_free char *holder = xasprintf("verify pid %ld", (long)getpid());
    assert_int_equal(proc_lock(folder, "x.lock", "verify", 0, &first, &e), 0);
    assert_int_equal(proc_lock(folder, "x.lock", "sink", 0, &second, &e), ERR_LOCKED);
    assert_non_null(strstr(e.msg, holder));
    assert_int_equal(second, -1);
    assert_int_equal(close(first), 0);
    assert_int_equal(proc_lock(folder, "x.lock", "sink", 0, &second, &e), 0);
    assert_int_equal(close(second), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(proc_lock(folder, "x.lock", "sink", 0, &second, &e), ERR_CONNECT);
    assert_non_null(strstr(e.msg, folder));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_supervisor_must_be_our_parent),
        cmocka_unit_test(a_tied_process_ends_with_its_parent),
        cmocka_unit_test(the_lock_names_its_holder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
