/* cmd_segcheck: see cmd_segcheck.h. The child sends whole structs through a pipe, each below
 * PIPE_BUF: the segment's head, progress, the result. */
#include "broker/cli/cmd_segcheck.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/segment.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/fs.h"
#include "proto/base/proc.h"
#include "proto/base/sig.h"

enum { PROGRESS_MS = 100, LOOK_EVERY = 1024 };
#define UNSEALED_ROOM (UINT64_C(64) << 20) /* of address space, beyond the file */

struct message {
    enum { HEAD, PROGRESS, RESULT } kind;
    uint64_t done, all;         /* PROGRESS */
    struct cmd_segcheck result; /* HEAD, RESULT */
};

/* ---- the child ---- */

struct child {
    int fd;
    uint64_t base, all;
    int64_t next_ms;
};

static void
tell(int fd, const struct message *m)
{
    ssize_t n = write(fd, m, sizeof *m);
    if (n != (ssize_t)sizeof *m) {
        _exit(1); /* the parent has gone */
    }
}

static int
on_record(void *arg, const struct record_txn *t, const struct schema *s, uint64_t offset,
    struct str whole, struct err *e)
{
    struct child *c = arg;
    (void)t;
    (void)s;
    (void)whole;
    (void)e;
    if ((offset - c->base) % LOOK_EVERY == 0 && clock_mono_ms() >= c->next_ms) {
        tell(c->fd,
            &(struct message){.kind = PROGRESS, .done = offset - c->base, .all = c->all});
        c->next_ms = clock_mono_ms() + PROGRESS_MS;
    }
    return 0;
}

static int
read_all(struct segment *sg, struct child *c, uint64_t *at, struct err *e)
{
    struct schemas *sc = schemas_new();
    int rc = 0;
    while (rc == 0 && *at < sg->tail.next) {
        uint64_t before = *at;
        rc = segment_scan(sg, sc, at, sg->tail.next, on_record, c, e);
        if (rc == 0 && *at == before) {
            rc = err_set(e, ERR_CORRUPT,
                "segment %s ends at offset %" PRIu64 ", before %" PRIu64
                " where its tail says; restore it from a backup",
                sg->path, *at, sg->tail.next);
        }
    }
    schemas_free(sc);
    return rc;
}

static enum cmd_segcheck_result
result_of(int rc)
{
    if (rc == 0) {
        return CMD_SEGCHECK_OK;
    }
    return rc == ERR_CORRUPT || rc == ERR_FOREIGN ? CMD_SEGCHECK_DAMAGED
                                                  : CMD_SEGCHECK_UNREADABLE;
}

static uint64_t
map_bytes(const char *log_dir, const char *name)
{
    struct stat st;
    auto_free char *dir = fs_join(log_dir, name);
    auto_free char *path = fs_join(dir, "data.mdb");
    return (stat(path, &st) == 0 ? (uint64_t)st.st_size : 0) + UNSEALED_ROOM;
}

static void
check(const char *log_dir, const char *name, int fd)
{
    struct segment *sg = NULL;
    struct err e = {0};
    struct message m = {.kind = HEAD};
    m.result.at = m.result.base = strtoull(name, NULL, 10);
    struct child c = {.fd = fd};
    int rc = segment_load(log_dir, name, map_bytes(log_dir, name), &sg, &e);
    if (rc == 0) {
        c.base = sg->head.base;
        m.result.next = sg->tail.next;
        m.result.epoch = sg->head.epoch;
        memcpy(m.result.uuid, sg->head.uuid, API_UUID);
        m.result.has_head = true;
        c.all = sg->tail.next - sg->head.base;
        tell(fd, &m); /* what is known, should reading end the process */
        rc = read_all(sg, &c, &m.result.at, &e);
        segment_free(sg);
    }
    m.kind = RESULT;
    m.result.result = result_of(rc);
    (void)snprintf(m.result.msg, sizeof m.result.msg, "%s", rc == 0 ? "" : e.msg);
    tell(fd, &m);
}

static _Noreturn void
child_main(const char *log_dir, const char *name, int fd, pid_t parent)
{
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
    const struct rlimit no_core = {0, 0};
    if (!proc_tie(parent)) {
        _exit(1);
    }
    (void)setrlimit(RLIMIT_CORE, &no_core);
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
        (void)signal(fatal[i], SIG_DFL);
    }
    check(log_dir, name, fd);
    _exit(0);
}

/* ---- the parent ---- */

/* A whole message, or false at the end. */
static bool
receive(int fd, struct message *m)
{
    char *to = (char *)m;
    size_t have = 0;
    while (have < sizeof *m) {
        ssize_t n = read(fd, to + have, sizeof *m - have);
        if (n > 0) {
            have += (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            return false;
        }
    }
    return true;
}

/* The child's end, where it gave no result. */
static void
judge_death(struct cmd_segcheck *r, const char *name, int status)
{
    r->result = CMD_SEGCHECK_DAMAGED;
    if (WIFSIGNALED(status)) {
        (void)snprintf(r->msg, sizeof r->msg,
            "segment %s cannot be read to its end: LMDB ended with signal %d (%s), as it does "
            "on a "
            "torn file; restore it from a backup",
            name, WTERMSIG(status), strsignal(WTERMSIG(status)));
    } else {
        (void)snprintf(r->msg, sizeof r->msg,
            "segment %s cannot be read to its end (the reading process ended with status %d); "
            "restore it from a backup",
            name, WEXITSTATUS(status));
    }
}

static int
follow_child(int fd, pid_t pid, const char *name, cmd_segcheck_progress_f *fn, void *arg,
    struct cmd_segcheck *ret, struct err *e)
{
    struct message m;
    struct cmd_segcheck r = {.base = strtoull(name, NULL, 10)};
    int status = 0;
    r.at = r.base;
    bool has_result = false;
    bool is_stopped = false;
    while (!is_stopped && receive(fd, &m)) {
        if (m.kind == PROGRESS) {
            r.at = r.base + m.done;
            fn(arg, m.done, m.all);
        } else {
            r = m.result;
            has_result = m.kind == RESULT;
        }
        is_stopped = sig_stop_requested();
    }
    if (is_stopped) {
        (void)kill(pid, SIGKILL);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    if (is_stopped) {
        return err_set(e, ERR_STOPPING, "interrupted");
    }
    if (!has_result) {
        judge_death(&r, name, status);
    }
    *ret = r;
    return 0;
}

int
cmd_segcheck_run(const char *log_dir, const char *name, cmd_segcheck_progress_f *fn, void *arg,
    struct cmd_segcheck *ret, struct err *e)
{
    int fds[2];
    pid_t parent = getpid();
    if (pipe(fds) != 0) {
        return err_set_sys(
            e, ERR_NOMEM, errno, "cannot start a process to read segment %s", name);
    }
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(fds[0]);
        child_main(log_dir, name, fds[1], parent);
    }
    (void)close(fds[1]);
    auto_close int from = fds[0];
    if (pid < 0) {
        return err_set_sys(
            e, ERR_NOMEM, errno, "cannot start a process to read segment %s", name);
    }
    return follow_child(from, pid, name, fn, arg, ret, e);
}
