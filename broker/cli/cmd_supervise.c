/* cmd_supervise: see cmd_supervise.h. */
#include "broker/cli/cmd_supervise.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/cli/cmd_restart.h"
#include "broker/cli/cmd_spawn.h"
#include "broker/client/client.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/sig.h"
#include "proto/base/xmalloc.h"

enum {
    STOP_MS = 10 * 1000, /* between SIGTERM and SIGKILL */
    LOOK_MS = 50,        /* between looks at a broker that starts */
    REMIND_MS = 10 * 1000
};

int
cmd_supervise_open(struct cmd_supervisor *s, struct cmd_child *child, size_t n,
    const char *socket_path, struct err *e)
{
    sigset_t chld;
    (void)sigemptyset(&chld);
    (void)sigaddset(&chld, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &chld, NULL) != 0) {
        return err_set_sys(e, ERR_BUG, errno, "cannot block SIGCHLD");
    }
    int fd = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        return err_set_sys(e, ERR_NOMEM, errno, "cannot watch for the end of children");
    }
    *s = (struct cmd_supervisor){
        .child = child, .n = n, .socket = xstrdup(socket_path), .chld_fd = fd};
    for (size_t i = 0; i < n; i++) {
        backoff_init(&child[i].backoff, CMD_RESTART_MIN_MS, CMD_RESTART_MAX_MS,
            (uint64_t)clock_wall_us() + i);
    }
    return 0;
}

void
cmd_supervise_close(struct cmd_supervisor *s)
{
    (void)close(s->chld_fd);
    free(s->socket);
}

/* ---- children ---- */

static int
start(struct cmd_child *c, struct err *e)
{
    c->started_ms = clock_mono_ms();
    int rc = cmd_spawn_supervised(c->argv, &c->pid, e);
    if (rc == 0) {
        log_info("started", "role=%s pid=%ld", c->role, (long)c->pid);
    }
    return rc;
}

/* One child is gone: when is it started again? */
static void
ended(const struct cmd_supervisor *s, struct cmd_child *c, int status)
{
    int64_t now = clock_mono_ms();
    int64_t delay = cmd_restart_delay_ms(&c->backoff, status, now - c->started_ms);
    long pid = (long)c->pid;
    c->pid = 0;
    c->due_ms = now + delay;
    if (sig_stop_requested() || !s->is_up) {
        log_info("ended", "role=%s pid=%ld status=%d", c->role, pid,
            WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    } else if (cmd_restart_is_refusal(status)) {
        log_error("child_refused", "role=%s pid=%ld status=%d restart_ms=%lld msg=%s", c->role,
            pid, WEXITSTATUS(status), (long long)delay,
            log_quote(
                "it does not accept its configuration; its own line above says why. It is "
                "tried again every 10 s"));
    } else {
        log_warn("child_ended", "role=%s pid=%ld %s=%d up_ms=%lld restart_ms=%lld", c->role,
            pid, WIFEXITED(status) ? "status" : "signal",
            WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
            (long long)(now - c->started_ms), (long long)delay);
    }
}

static void
reap(struct cmd_supervisor *s)
{
    struct signalfd_siginfo info;
    while (read(s->chld_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        /* several ends may come as one signal: ask for each below */
    }
    for (;;) {
        int status = 0;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0) {
            return;
        }
        for (size_t i = 0; i < s->n; i++) {
            if (s->child[i].pid == pid) {
                ended(s, &s->child[i], status);
            }
        }
    }
}

/* Sleeps until a child ended, timeout_ms passed (-1: none), or, with `or_stop`, a stop was
 * asked for. */
static void
wait_for_news(struct cmd_supervisor *s, int64_t timeout_ms, bool or_stop)
{
    struct pollfd p[2] = {
        {.fd = s->chld_fd, .events = POLLIN}, {.fd = sig_stop_fd(), .events = POLLIN}};
    (void)poll(p, or_stop ? 2 : 1, (int)timeout_ms);
    reap(s);
}

/* ---- the broker's start ---- */

/* Whether that very process listens on the socket: one left over by, or belonging to, another
 * broker must not be taken for ours. */
static bool
is_listening(const char *path, pid_t pid)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    if (strlen(path) >= sizeof addr.sun_path) {
        return true; /* the broker itself says so and ends */
    }
    memcpy(addr.sun_path, path, strlen(path));
    auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid == pid;
}

static bool
is_answering(const struct cmd_supervisor *s)
{
    if (!is_listening(s->socket, s->child[0].pid)) {
        return false;
    }
    struct client_conf c = {.unix_path = s->socket, .should_stop = sig_stop_requested};
    struct client *cl = client_new(&c);
    struct json *root = NULL;
    struct err e = {0};
    int rc = client_get_json(cl, "/healthz", &root, &e);
    json_free(root);
    client_free(cl);
    /* An answer that reports trouble is an answer: it will say so in /lag. */
    return rc != ERR_CONNECT && rc != ERR_CLOSED && rc != ERR_TIMEOUT && rc != ERR_STOPPING;
}

int
cmd_supervise_start(struct cmd_supervisor *s, struct err *e)
{
    struct cmd_child *broker = &s->child[0];
    int rc = start(broker, e);
    int64_t remind_ms = clock_mono_ms() + REMIND_MS;
    while (rc == 0 && !is_answering(s)) {
        wait_for_news(s, LOOK_MS, true);
        if (sig_stop_requested()) {
            return err_set(e, ERR_STOPPING, "stopped before the broker was there");
        }
        if (broker->pid == 0) {
            return err_set(e, ERR_CLOSED,
                "the broker did not start; what it says above has to be mended first");
        }
        if (clock_mono_ms() >= remind_ms) {
            remind_ms += REMIND_MS;
            log_info("waiting", "role=broker msg=%s",
                log_quote("it waits for a former broker to end, or looks through the log, "
                          "before it serves"));
        }
    }
    return rc;
}

/* ---- the life ---- */

/* Starts what is due; returns the time until the next start, -1: none is waiting. */
static int64_t
start_due(struct cmd_supervisor *s)
{
    int64_t now = clock_mono_ms();
    int64_t next = -1;
    for (size_t i = 0; i < s->n; i++) {
        struct cmd_child *c = &s->child[i];
        struct err e;
        if (c->pid == 0 && c->due_ms <= now && start(c, &e) != 0) {
            c->due_ms = now + CMD_RESTART_MAX_MS;
            log_err(LOG_ERROR, "start_failed", &e, "will retry in 10 s");
        }
        if (c->pid == 0 && (next < 0 || c->due_ms - now < next)) {
            next = c->due_ms > now ? c->due_ms - now : 0;
        }
    }
    return next;
}

void
cmd_supervise_run(struct cmd_supervisor *s)
{
    s->is_up = true;
    while (!sig_stop_requested()) {
        wait_for_news(s, start_due(s), true);
    }
}

static bool
is_any_running(const struct cmd_supervisor *s, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        if (s->child[i].pid != 0) {
            return true;
        }
    }
    return false;
}

static void
signal_all(const struct cmd_supervisor *s, size_t from, size_t to, int signo)
{
    for (size_t i = from; i < to; i++) {
        if (s->child[i].pid != 0) {
            (void)kill(s->child[i].pid, signo);
            if (signo == SIGKILL) {
                log_warn("killed", "role=%s pid=%ld msg=%s", s->child[i].role,
                    (long)s->child[i].pid, log_quote("it did not end within 10 s"));
            }
        }
    }
}

static void
stop_some(struct cmd_supervisor *s, size_t from, size_t to)
{
    int64_t until_ms = clock_mono_ms() + STOP_MS;
    signal_all(s, from, to, SIGTERM);
    while (is_any_running(s, from, to)) {
        int64_t left = until_ms - clock_mono_ms();
        if (left <= 0) {
            signal_all(s, from, to, SIGKILL);
            left = STOP_MS;
            until_ms += STOP_MS;
        }
        wait_for_news(s, left, false);
    }
}

void
cmd_supervise_stop(struct cmd_supervisor *s)
{
    stop_some(s, 1, s->n);
    stop_some(s, 0, 1);
}
