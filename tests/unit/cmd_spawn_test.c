/* cmd_spawn and cmd_supervise with small programs in place of oneslot's: statuses, output,
 * ties, and that a broker which does not come up is told from one that does. */
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

#include "broker/cli/cmd_spawn.h"
#include "broker/cli/cmd_supervise.h"
#include "proto/base/cleanup.h"
#include "proto/base/listen.h"
#include "proto/base/sig.h"

#define SH(script)                                                                             \
    {                                                                                          \
        (char *)"/bin/sh", (char *)"-c", (char *)(script), NULL                                \
    }

static void
siblings_stand_beside_us(void **state)
{
    (void)state;
    char *auto_free self = cmd_spawn_path(NULL);
    char *auto_free sibling = cmd_spawn_path("oneslot-sink");
    assert_int_equal(access(self, X_OK), 0);
    size_t folder = (size_t)(strrchr(self, '/') - self);
    assert_memory_equal(self, sibling, folder);
    assert_string_equal(sibling + folder, "/oneslot-sink");
}

static void
a_program_is_fed(void **state)
{
    (void)state;
    char *argv[] = SH("cat; echo said >&2; exit 4");
    struct buf auto_buf in;
    struct buf auto_buf out;
    struct err e;
    int status = -1;
    buf_init(&in, 1 << 20);
    buf_init(&out, 2 << 20);
    for (int i = 0; i < 20000; i++) { /* more than a pipe holds */
        buf_puts(&in, "line of text\n");
    }
    assert_int_equal(cmd_spawn_feed(argv, buf_str(&in), &out, &status, &e), 0);
    assert_int_equal(status, 4);
    struct buf auto_buf none;
    buf_init(&none, 1024);
    assert_int_equal(cmd_spawn_feed(argv, (struct str){0}, &none, &status, &e), 0);
    assert_string_equal(buf_cstr(&none), "said\n");
    buf_puts(&in, "said\n");
    assert_int_equal(out.n, in.n);
    assert_memory_equal(out.p, in.p, in.n);
}

static void
status_and_output_come_back(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        int status;
        const char *out;
    } cases[] = {{"printf 'a\\nb'; exit 3", 3, "a\nb"}, {"exit 0", 0, ""},
        {"kill -9 $$", 128 + 9, ""}, {"exec /nowhere/at/all 2>/dev/null", 127, ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *argv[] = SH(cases[i].script);
        struct buf auto_buf out;
        struct err e;
        int status = -1;
        buf_init(&out, 1024);
        assert_int_equal(cmd_spawn_run(argv, &out, &status, &e), 0);
        assert_int_equal(status, cases[i].status);
        assert_string_equal(buf_cstr(&out), cases[i].out);
    }
}

static void
too_much_output_does_not_block(void **state)
{
    (void)state;
    char *argv[] = SH("head -c 1000000 /dev/zero");
    struct buf auto_buf out;
    struct err e;
    int status = -1;
    buf_init(&out, 1000);
    assert_int_equal(cmd_spawn_run(argv, &out, &status, &e), 0);
    assert_int_equal(status, 0);
    assert_false(buf_ok(&out));
}

/* In another process group, told who its supervisor is. */
static void
supervised_children_know_us(void **state)
{
    (void)state;
    char script[160];
    (void)snprintf(script, sizeof script,
        "test \"$ONESLOT_SUPERVISED\" = %ld && test \"$(ps -o pgid= -p $$ | tr -d ' ')\" = $$ "
        "&& "
        "exit 7",
        (long)getpid());
    char *argv[] = SH(script);
    struct err e;
    pid_t pid = 0;
    int status = 0;
    assert_int_equal(cmd_spawn_supervised(argv, &pid, &e), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
}

/* The supervisor is killed: its child goes too, and with it the last writing end of the pipe.
 */
static void
children_die_with_their_supervisor(void **state)
{
    (void)state;
    int fds[2];
    char c;
    assert_int_equal(pipe(fds), 0);
    pid_t supervisor = fork();
    if (supervisor == 0) {
        char *argv[] = SH("exec 1>&9 9>&-; echo; exec sleep 1000");
        pid_t pid;
        (void)dup2(fds[1], 9);
        (void)close(fds[0]);
        (void)close(fds[1]);
        _exit(cmd_spawn_supervised(argv, &pid, NULL) == 0 ? pause() : 1);
    }
    (void)close(fds[1]);
    assert_int_equal(read(fds[0], &c, 1), 1); /* the child runs */
    assert_int_equal(kill(supervisor, SIGKILL), 0);
    assert_int_equal(waitpid(supervisor, NULL, 0), supervisor);
    (void)alarm(60); /* ends a test that would wait for ever */
    assert_int_equal(read(fds[0], &c, 1), 0);
    (void)alarm(0);
    (void)close(fds[0]);
}

/* A socket on which somebody else listens is not taken for the broker's. */
static void
a_broker_that_ends_at_once_is_told(void **state)
{
    (void)state;
    char dir[] = "/tmp/spawn-XXXXXX";
    char path[64];
    int fd;
    struct err e = {0};
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/s", dir);
    assert_int_equal(listen_unix(path, &fd, &e), 0);
    struct cmd_child child[1] = {{.role = (char *)"broker", .argv = SH("exit 1")}};
    struct cmd_supervisor s;
    sig_init();
    assert_int_equal(cmd_supervise_open(&s, child, 1, path, &e), 0);
    assert_int_equal(cmd_supervise_start(&s, &e), ERR_CLOSED);
    assert_non_null(strstr(e.msg, "did not start"));
    cmd_supervise_stop(&s); /* nothing is left: returns at once */
    cmd_supervise_close(&s);
    (void)close(fd);
    (void)unlink(path);
    (void)rmdir(dir);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(siblings_stand_beside_us),
        cmocka_unit_test(a_program_is_fed),
        cmocka_unit_test(status_and_output_come_back),
        cmocka_unit_test(too_much_output_does_not_block),
        cmocka_unit_test(supervised_children_know_us),
        cmocka_unit_test(children_die_with_their_supervisor),
        cmocka_unit_test(a_broker_that_ends_at_once_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
