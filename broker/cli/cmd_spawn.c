/* cmd_spawn: see cmd_spawn.h. */
#include "broker/cli/cmd_spawn.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/proc.h"
#include "proto/base/sig.h"
#include "proto/base/xmalloc.h"

enum { EXIT_CANNOT_RUN = 127, READ_BYTES = 4096 };

char *
cmd_spawn_path(const char *program)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) { /* no /proc: the PATH finds them */
        return xstrdup(program == NULL ? "oneslot" : program);
    }
    self[n] = '\0';
    /* After an upgrade the running file is a removed one; its successor has the name. */
    static const char deleted[] = " (deleted)";
    size_t len = (size_t)n;
    if (len > sizeof deleted - 1 && strcmp(self + len - (sizeof deleted - 1), deleted) == 0) {
        self[len - (sizeof deleted - 1)] = '\0';
    }
    if (program == NULL) {
        return xstrdup(self);
    }
    char *slash = strrchr(self, '/');
    return xasprintf("%.*s/%s", (int)(slash - self), self, program);
}

static _Noreturn void
exec_or_die(char *const argv[])
{
    (void)execvp(argv[0], argv);
    /* lint:allow strerror: a program of one thread */
    (void)fprintf(stderr, "oneslot: cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(EXIT_CANNOT_RUN);
}

int
cmd_spawn_supervised(char *const argv[], pid_t *ret_pid, struct err *e)
{
    pid_t parent = getpid();
    char text[24];
    (void)snprintf(text, sizeof text, "%ld", (long)parent);
    pid_t pid = fork();
    if (pid < 0) {
        return err_set_sys(e, ERR_NOMEM, errno, "cannot start a process for %s", argv[0]);
    }
    if (pid == 0) {
        sig_reset_for_exec();
        (void)setpgid(0, 0);
        if (!proc_tie(parent) || setenv(PROC_SUPERVISED, text, 1) != 0) {
            _exit(EXIT_CANNOT_RUN);
        }
        exec_or_die(argv);
    }
    (void)setpgid(pid, pid); /* whoever comes first; it may have run exec already */
    *ret_pid = pid;
    return 0;
}

/* Everything from fd into b, what is too much thrown away. */
static void
drain(int fd, struct buf *b)
{
    char piece[READ_BYTES];
    for (;;) {
        ssize_t n = read(fd, piece, sizeof piece);
        if (n > 0) {
            buf_put(b, piece, (size_t)n);
        } else if (n == 0 || errno != EINTR) {
            return;
        }
    }
}

static int
wait_for(pid_t pid)
{
    int ws = 0;
    while (waitpid(pid, &ws, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(ws) ? WEXITSTATUS(ws) : 128 + WTERMSIG(ws);
}

/* in_fd: its standard input; -1: ours. */
static int
run_to_its_end(char *const argv[], int in_fd, struct buf *out, bool with_stderr,
    int *ret_status, struct err *e)
{
    int fds[2] = {-1, -1};
    if (out != NULL && pipe(fds) != 0) {
        return err_set_sys(e, ERR_NOMEM, errno, "cannot start a process for %s", argv[0]);
    }
    auto_close int from = fds[0];
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        if (!proc_tie(parent) || (in_fd >= 0 && dup2(in_fd, STDIN_FILENO) < 0) ||
            (out != NULL && dup2(fds[1], STDOUT_FILENO) < 0) ||
            (with_stderr && dup2(fds[1], STDERR_FILENO) < 0)) {
            _exit(EXIT_CANNOT_RUN);
        }
        if (out != NULL) {
            (void)close(fds[0]);
            (void)close(fds[1]);
        }
        exec_or_die(argv);
    }
    if (out != NULL) {
        (void)close(fds[1]);
    }
    if (pid < 0) {
        return err_set_sys(e, ERR_NOMEM, errno, "cannot start a process for %s", argv[0]);
    }
    if (out != NULL) {
        drain(from, out);
    }
    *ret_status = wait_for(pid);
    return 0;
}

int
cmd_spawn_run(char *const argv[], struct buf *out, int *ret_status, struct err *e)
{
    return run_to_its_end(argv, -1, out, false, ret_status, e);
}

int
cmd_spawn_capture(char *const argv[], struct buf *out, int *ret_status, struct err *e)
{
    return run_to_its_end(argv, -1, out, true, ret_status, e);
}

/* Through a file without a name, so that neither side waits for the other. */
int
cmd_spawn_feed(
    char *const argv[], struct str in, struct buf *out, int *ret_status, struct err *e)
{
    FILE *file = tmpfile();
    bool is_written = file != NULL && (in.n == 0 || fwrite(in.p, 1, in.n, file) == in.n) &&
                      fflush(file) == 0 && fseek(file, 0, SEEK_SET) == 0;
    int rc = is_written ? run_to_its_end(argv, fileno(file), out, true, ret_status, e)
                        : err_set_sys(e, ERR_IO, errno, "cannot write a temporary file for %s",
                              argv[0]);
    if (file != NULL) {
        (void)fclose(file);
    }
    return rc;
}
