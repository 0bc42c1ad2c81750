/* eio_shim: makes one call fail, as a broken or full disk would.
 *   ONESLOT_SHIM_ROOT   the folder that counts
 *   ONESLOT_FAIL_LABEL  which calls are counted ("fdatasync log/SEG/data.mdb")
 *   ONESLOT_FAIL_AT     the number of the call that fails, from 1
 *   ONESLOT_FAIL_ERRNO  EIO | ENOSPC; a write that fails so has written nothing, a sync has
 * synced nothing ONESLOT_FAIL_TRACE  a file that is created when the call has failed */
#include "shim.h"

#include <stdatomic.h>

static atomic_long calls;

static void
say_failed(void)
{
    const char *path = getenv("ONESLOT_FAIL_TRACE");
    if (path != NULL) {
        (void)syscall(SYS_close,
            (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
    }
}

static int
shim_before(struct call *c)
{
    const char *wanted = getenv("ONESLOT_FAIL_LABEL");
    const char *at = getenv("ONESLOT_FAIL_AT");
    const char *number = getenv("ONESLOT_FAIL_ERRNO");
    char label[PATH_MAX + 32];
    shim_label(c, label, sizeof label);
    if (wanted == NULL || at == NULL || strcmp(label, wanted) != 0 ||
        atomic_fetch_add(&calls, 1) + 1 != strtol(at, NULL, 10)) {
        return 0;
    }
    say_failed();
    if (strcmp(c->op, "write") == 0 && c->niov == 1 && (fcntl(c->fd, F_GETFL) & O_DSYNC) != 0) {
        (void)syscall(SYS_pwrite64, c->fd, c->iov[0].iov_base, c->iov[0].iov_len, c->off);
    }
    return number != NULL && strcmp(number, "ENOSPC") == 0 ? ENOSPC : EIO;
}

static void
shim_after(struct call *c, long result)
{
    (void)c;
    (void)result;
}
