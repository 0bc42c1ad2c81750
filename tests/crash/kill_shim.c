/* kill_shim: ends the process with SIGKILL right before or right after one of its calls that
 * change files. ONESLOT_SHIM_ROOT   the folder that counts ONESLOT_KILL_TRACE  a file: one line
 * "before LABEL" per call, before it happens ONESLOT_KILL_LABEL  which calls are counted
 * ("fsync log/.new"); none given: all ONESLOT_KILL_AT     the number of the fatal call, from 1;
 * ONESLOT_KILL_WHEN: before | after */
#include "shim.h"

#include <signal.h>
#include <stdatomic.h>

static atomic_long calls;
static _Thread_local bool is_fatal;

static void
trace(const char *label)
{
    static _Atomic int fd = -1;
    const char *path = getenv("ONESLOT_KILL_TRACE");
    if (path == NULL) {
        return;
    }
    if (fd < 0) {
        fd = (int)syscall(
            SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    }
    char line[PATH_MAX + 64];
    int n = snprintf(line, sizeof line, "%s\n", label);
    (void)syscall(SYS_write, fd, line, (size_t)n);
}

static void
die(void)
{
    (void)kill(getpid(), SIGKILL);
    for (;;) {
        (void)pause();
    }
}

static int
shim_before(struct call *c)
{
    char label[PATH_MAX + 32];
    shim_label(c, label, sizeof label);
    trace(label);
    const char *at = getenv("ONESLOT_KILL_AT");
    const char *wanted = getenv("ONESLOT_KILL_LABEL");
    const char *when = getenv("ONESLOT_KILL_WHEN");
    if (at == NULL || (wanted != NULL && strcmp(wanted, label) != 0)) {
        return 0;
    }
    is_fatal = atomic_fetch_add(&calls, 1) + 1 == strtol(at, NULL, 10);
    if (is_fatal && (when == NULL || strcmp(when, "after") != 0)) {
        die();
    }
    return 0;
}

static void
shim_after(struct call *c, long result)
{
    (void)c;
    (void)result;
    if (is_fatal) {
        die();
    }
}
