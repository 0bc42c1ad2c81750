/* Signals as data: stop requests, the eventfd, defaults in a child. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/sig.h"

static bool
is_readable(void)
{
    struct pollfd p = {.fd = sig_stop_fd(), .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

/* Each case in a child: handlers and the request stay for good. Its exit status: 0 when all
 * held. */
static int
run_in_child(int (*fn)(int), int arg)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(fn(arg));
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int
stop_by_signal(int signo)
{
    sig_init();
    if (sig_stop_requested() || is_readable()) {
        return 1;
    }
    if (raise(SIGPIPE) != 0 || sig_stop_requested()) {
        return 2;
    }
    for (int i = 0; i < 3; i++) {
        if (raise(signo) != 0 || !sig_stop_requested() || !is_readable()) {
            return 3;
        }
    }
    return 0;
}

static int
stop_from_inside(int unused)
{
    (void)unused;
    sig_init();
    sig_stop();
    return sig_stop_requested() && is_readable() ? 0 : 1;
}

static int
die_after_reset(int signo)
{
    sig_init();
    sig_reset_for_exec();
    (void)raise(signo);
    return 1;
}

static void
test_stop(void **state)
{
    (void)state;
    const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        assert_int_equal(run_in_child(stop_by_signal, signals[i]), 0);
    }
    assert_int_equal(run_in_child(stop_from_inside, 0), 0);
}

/* As nohup, and a shell for its background jobs, start a process. */
static int
ignore_as_told(int signo)
{
    struct sigaction sa;
    (void)signal(signo, SIG_IGN);
    sig_init();
    if (raise(signo) != 0 || sig_stop_requested() || is_readable()) {
        return 1;
    }
    if (raise(SIGTERM) != 0 || !sig_stop_requested()) {
        return 2; /* there is still a way to end it */
    }
    sig_reset_for_exec();
    return sigaction(signo, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN ? 0 : 3;
}

static int
heed_sigterm(int signo)
{
    (void)signal(signo, SIG_IGN);
    sig_init();
    return raise(signo) == 0 && sig_stop_requested() ? 0 : 1;
}

static void
test_what_was_ignored_stays_ignored(void **state)
{
    (void)state;
    assert_int_equal(run_in_child(ignore_as_told, SIGHUP), 0);
    assert_int_equal(run_in_child(ignore_as_told, SIGINT), 0);
    assert_int_equal(run_in_child(heed_sigterm, SIGTERM), 0);
}

static void
test_reset_restores_the_defaults(void **state)
{
    (void)state;
    const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        int status = run_in_child(die_after_reset, signals[i]);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), signals[i]);
    }
}

int
main(void)
{
    (void)signal(SIGINT, SIG_DFL); /* whatever starts the tests in the background */
    (void)signal(SIGHUP, SIG_DFL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_what_was_ignored_stays_ignored),
        cmocka_unit_test(test_reset_restores_the_defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
