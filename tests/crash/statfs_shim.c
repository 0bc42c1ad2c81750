/* statfs_shim: every file system is a network one (NFS), to whoever asks by statfs. */
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { NFS = 0x6969 };

int
statfs(const char *path, struct statfs *st)
{
    int rc = (int)syscall(SYS_statfs, path, st);
    if (rc == 0) {
        st->f_type = NFS;
    }
    return rc;
}
