/* proc: see proc.h. */
#include "proto/base/proc.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/fs.h"
#include "proto/base/xmalloc.h"

bool
proc_tie(pid_t parent)
{
    /* The question comes second: a parent that ended before the prctl is noticed. */
    return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent;
}

bool
proc_tie_to_supervisor(void)
{
    const char *text = getenv(PROC_SUPERVISED);
    if (text == NULL) {
        return true;
    }
    pid_t parent = getppid();
    long pid = strtol(text, NULL, 10);
    return proc_tie(parent) && (pid <= 1 || parent == (pid_t)pid);
}

int
proc_lock(const char *data_dir, const char *file, const char *who, int64_t wait_ms, int *ret_fd,
    struct err *e)
{
    if (access(data_dir, F_OK) != 0) {
        return err_set_sys(e, ERR_CONNECT, errno,
            "no data folder %s: is the broker running? `oneslot run` starts it", data_dir);
    }
    auto_free char *path = fs_join(data_dir, file);
    auto_free char *text = xasprintf("%s pid %ld\n", who, (long)getpid());
    return fs_lock(path, str_from(text), wait_ms, ret_fd, e);
}
