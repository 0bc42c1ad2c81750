/* sig: owns the process's signal handlers. Promises that a handler only sets a flag and writes
 * to an eventfd. Must not know what stopping means. */
#include "proto/base/sig.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/base/check.h"

static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP};
enum { STOP_SIGNALS = sizeof stop_signals / sizeof *stop_signals };

static atomic_bool is_stopping;
static int stop_fd = -1;

/* Safe inside a handler. The counter only grows and nobody reads it: the eventfd stays
 * readable. */
void
sig_stop(void)
{
    const uint64_t one = 1;
    int saved = errno;
    atomic_store(&is_stopping, true);
    if (write(stop_fd, &one, sizeof one) < 0) {
        /* EAGAIN: the counter is full, so it is readable already */
    }
    errno = saved;
}

static void
on_stop_signal(int signo)
{
    (void)signo;
    sig_stop();
}

static void
set_handler(int signo, void (*handler)(int))
{
    struct sigaction sa = {.sa_flags = SA_RESTART};
    sa.sa_handler = handler;
    (void)sigemptyset(&sa.sa_mask);
    CHECK(sigaction(signo, &sa, NULL) == 0);
}

/* Whoever started us wants the signal ignored: nohup, or a shell's background job. Nobody
 * ignores a SIGTERM by accident. */
static bool
is_to_be_ignored(int signo)
{
    struct sigaction sa;
    CHECK(sigaction(signo, NULL, &sa) == 0);
    return signo != SIGTERM && sa.sa_handler == SIG_IGN;
}

void
sig_init(void)
{
    CHECK(stop_fd < 0);
    stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(stop_fd >= 0);
    for (int i = 0; i < STOP_SIGNALS; i++) {
        if (!is_to_be_ignored(stop_signals[i])) {
            set_handler(stop_signals[i], on_stop_signal);
        }
    }
    set_handler(SIGPIPE, SIG_IGN);
}

bool
sig_stop_requested(void)
{
    return atomic_load(&is_stopping);
}

int
sig_stop_fd(void)
{
    return stop_fd;
}

void
sig_reset_for_exec(void)
{
    sigset_t none;
    for (int i = 0; i < STOP_SIGNALS; i++) {
        if (!is_to_be_ignored(stop_signals[i])) {
            set_handler(stop_signals[i], SIG_DFL);
        }
    }
    set_handler(SIGPIPE, SIG_DFL);
    (void)sigemptyset(&none);
    CHECK(sigprocmask(SIG_SETMASK, &none, NULL) == 0);
}
