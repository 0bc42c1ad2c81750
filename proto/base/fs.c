/* fs: owns every durable operation on files and folders. Promises that a 0 means done and,
 * where the name says so, on stable storage; no sync is ever tried twice. Must not know what
 * the files hold. */
#include "proto/base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/xmalloc.h"

/* What an errno of open, write, rename, ... means to policy. Syncs do not ask here: theirs is
 * always ERR_IO. */
static int
code_of(int sys)
{
    switch (sys) {
    case ENOSPC:
    case EDQUOT:
        return ERR_NOSPACE;
    case ENOENT:
        return ERR_NOTFOUND;
    case EACCES:
    case EPERM:
    case EROFS:
    case ENOTDIR:
    case EISDIR:
    case ENOTEMPTY:
    case ELOOP:
    case ENAMETOOLONG:
        return ERR_REFUSED; /* a person must change something */
    case EMFILE:
    case ENFILE:
        return ERR_BUSY;
    default:
        return ERR_IO;
    }
}

#define fail_sys(e, sys, ...) err_set_sys((e), code_of(sys), (sys), __VA_ARGS__)

/* ---- syncs ---- */

int
fs_sync_fd(int fd, const char *path, struct err *e)
{
    if (fsync(fd) != 0) {
        return err_set_sys(e, ERR_IO, errno, "cannot sync %s", path);
    }
    return 0;
}

int
fs_sync_dir(const char *path, struct err *e)
{
    int auto_close fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    if (fd < 0) {
        return fail_sys(e, errno, "cannot open %s to sync it", path);
    }
    return fs_sync_fd(fd, path, e);
}

/* ---- paths ---- */

char *
fs_join(const char *dir, const char *rel)
{
    size_t n = strlen(dir);
    if (rel[0] == '/' || n == 0) {
        return xstrdup(rel);
    }
    return xasprintf(dir[n - 1] == '/' ? "%s%s" : "%s/%s", dir, rel);
}

/* The folder that holds path's last component; owned by the caller. */
static char *
parent_of(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    while (n > 0 && path[n - 1] != '/') {
        n--;
    }
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    return n == 0 ? xstrdup(".") : xstrndup(path, n);
}

int
fs_sync_parent(const char *path, struct err *e)
{
    auto_free char *dir = parent_of(path);
    return fs_sync_dir(dir, e);
}

/* ---- operations ---- */

int
fs_mkdir(const char *path, mode_t mode, struct err *e)
{
    struct stat st;
    if (mkdir(path, mode) == 0) {
        return 0;
    }
    int sys = errno;
    if (sys == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        return 0;
    }
    if (sys == EEXIST) {
        return err_set_sys(e, ERR_REFUSED, ENOTDIR, "%s is in the way of a folder", path);
    }
    return fail_sys(e, sys, "cannot create the folder %s", path);
}

static int
write_all(int fd, struct str content, const char *path, struct err *e)
{
    while (content.n > 0) {
        ssize_t n = write(fd, content.p, content.n);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return fail_sys(e, errno, "cannot write %s", path);
        }
        content.p += n;
        content.n -= (size_t)n;
    }
    return 0;
}

static int
write_synced(const char *path, struct str content, mode_t mode, struct err *e)
{
    int auto_close fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0) {
        return fail_sys(e, errno, "cannot create %s", path);
    }
    int rc = write_all(fd, content, path, e);
    return rc != 0 ? rc : fs_sync_fd(fd, path, e);
}

int
fs_write_atomic(const char *path, struct str content, mode_t mode, struct err *e)
{
    auto_free char *tmp = xasprintf("%s.tmp", path), *dir = parent_of(path);
    int rc = write_synced(tmp, content, mode, e);
    if (rc == 0 && rename(tmp, path) != 0) {
        rc = fail_sys(e, errno, "cannot rename %s to %s", tmp, path);
    }
    if (rc != 0) {
        (void)unlink(tmp); /* best effort: the next one truncates it */
        return rc;
    }
    return fs_sync_dir(dir, e);
}

int
fs_rename_durable(const char *from, const char *to, struct err *e)
{
    auto_free char *from_dir = parent_of(from), *to_dir = parent_of(to);
    if (rename(from, to) != 0) {
        return fail_sys(e, errno, "cannot rename %s to %s", from, to);
    }
    /* The new name first: dying in between may leave two names, never none. */
    int rc = fs_sync_dir(to_dir, e);
    if (rc != 0 || strcmp(from_dir, to_dir) == 0) {
        return rc;
    }
    return fs_sync_dir(from_dir, e);
}

static bool
is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int
remove_files(DIR *dir, const char *path, struct err *e)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL && errno != 0) {
            return fail_sys(e, errno, "cannot list %s", path);
        }
        if (entry == NULL) {
            return 0;
        }
        if (is_dot(entry->d_name)) {
            continue;
        }
        auto_free char *file = fs_join(path, entry->d_name);
        if (unlink(file) != 0 && errno != ENOENT) {
            return fail_sys(e, errno, "cannot remove %s", file);
        }
    }
}

int
fs_remove_tree(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT
                   ? 0
                   : fail_sys(e, errno, "cannot open the folder %s to remove it", path);
    }
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        int sys = errno;
        (void)close(fd);
        return fail_sys(e, sys, "cannot list %s", path);
    }
    int rc = remove_files(dir, path, e);
    (void)closedir(dir);
    if (rc == 0 && rmdir(path) != 0 && errno != ENOENT) {
        rc = fail_sys(e, errno, "cannot remove the folder %s", path);
    }
    return rc;
}

/* ---- reading ---- */

static int
read_fd(int fd, const char *path, struct buf *b, size_t max, struct err *e)
{
    enum { PIECE = 65536 };
    size_t left = max;
    for (;;) {
        size_t want =
            left < PIECE ? left + 1 : PIECE; /* one more than allowed tells a longer file */
        char piece[PIECE + 1];
        ssize_t n = read(fd, piece, want);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return fail_sys(e, errno, "cannot read %s", path);
        }
        if (n == 0) {
            return 0;
        }
        if ((size_t)n > left) {
            return err_set(e, ERR_TOOBIG, "%s is larger than %zu bytes", path, max);
        }
        left -= (size_t)n;
        buf_put(b, piece, (size_t)n);
        if (!buf_ok(b)) {
            return err_set(e, ERR_TOOBIG, "%s does not fit into %zu bytes", path, b->max);
        }
    }
}

int
fs_read_file(const char *path, struct buf *b, size_t max, struct err *e)
{
    int auto_close fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return fail_sys(e, errno, "cannot open %s", path);
    }
    size_t before = b->n;
    int rc = read_fd(fd, path, b, max, e);
    if (rc != 0) {
        b->n = before;
    }
    return rc;
}

int
fs_read_secret(const char *path, struct buf *secret, struct err *e)
{
    struct err why;
    if (fs_read_file(path, secret, FS_SECRET_MAX, &why) != 0) {
        return err_set(e, ERR_CONFIG, "no secret: %.400s", why.msg);
    }
    while (secret->n > 0 && strchr("\r\n", secret->p[secret->n - 1]) != NULL) {
        secret->n--;
    }
    for (size_t i = 0; i < secret->n; i++) {
        if ((unsigned char)secret->p[i] < 0x20) {
            return err_set(e, ERR_CONFIG, "%s holds more than one line", path);
        }
    }
    return secret->n > 0 ? 0 : err_set(e, ERR_CONFIG, "%s is empty", path);
}

int
fs_free_bytes(const char *path, uint64_t *ret_bytes, struct err *e)
{
    struct statvfs st;
    if (statvfs(path, &st) != 0) {
        return fail_sys(e, errno, "cannot ask how much space is free under %s", path);
    }
    *ret_bytes = (uint64_t)st.f_bavail * st.f_frsize;
    return 0;
}

/* ---- kinds of file systems ---- */

static const struct {
    uint32_t type; /* statfs(2), linux/magic.h and the out-of-tree ones */
    enum fs_kind kind;
    const char *name;
} kinds[] = {
    {0x6969, FS_UNSAFE, "nfs"},
    {0x517b, FS_UNSAFE, "smb"},
    {0xff534d42, FS_UNSAFE, "cifs"},
    {0xfe534d42, FS_UNSAFE, "smb2"},
    {0x65735546, FS_UNSAFE, "fuse"}, /* glusterfs, sshfs, virtiofs too */
    {0x01021997, FS_UNSAFE, "9p"},
    {0x00c36400, FS_UNSAFE, "ceph"},
    {0x5346414f, FS_UNSAFE, "afs"},
    {0x6b414653, FS_UNSAFE, "afs"},
    {0x73757245, FS_UNSAFE, "coda"},
    {0x0bd00bd0, FS_UNSAFE, "lustre"},
    {0x47504653, FS_UNSAFE, "gpfs"},
    {0x19830326, FS_UNSAFE, "beegfs"},
    {0x7461636f, FS_UNSAFE, "ocfs2"},
    {0x01161970, FS_UNSAFE, "gfs2"},
    {0x786f4256, FS_UNSAFE, "vboxsf"},
    {0x794c7630, FS_WARN, "overlay"},
    {0x01021994, FS_WARN, "tmpfs"},
    {0x858458f6, FS_WARN, "ramfs"},
    {0xef53, FS_LOCAL, "ext4"},
    {0x58465342, FS_LOCAL, "xfs"},
    {0x9123683e, FS_LOCAL, "btrfs"},
    {0x2fc12fc1, FS_LOCAL, "zfs"},
    {0xf2f52010, FS_LOCAL, "f2fs"},
};

enum fs_kind
fs_kind_of_type(uint32_t f_type, const char **ret_name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (kinds[i].type == f_type) {
            *ret_name = kinds[i].name;
            return kinds[i].kind;
        }
    }
    *ret_name = "local";
    return FS_LOCAL;
}

int
fs_kind(const char *path, enum fs_kind *ret_kind, const char **ret_name, struct err *e)
{
    struct statfs st;
    int failed = statfs(path, &st);
    if (failed != 0 && errno == ENOENT) {
        auto_free char *dir = parent_of(path);
        failed = statfs(dir, &st);
    }
    if (failed != 0) {
        return fail_sys(e, errno, "cannot ask which file system holds %s", path);
    }
    *ret_kind = fs_kind_of_type((uint32_t)st.f_type, ret_name);
    return 0;
}

/* ---- locks ---- */

static int
wait_for_flock(int fd, const char *path, int64_t wait_ms, struct err *e)
{
    enum { STEP_MS = 20 }; /* flock has no timeout of its own */
    int64_t until = clock_mono_ms() + wait_ms;
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EINTR) {
            continue;
        }
        if (errno != EWOULDBLOCK) {
            return fail_sys(e, errno, "cannot lock %s", path);
        }
        if (clock_mono_ms() >= until) {
            char holder[128];
            ssize_t n = pread(fd, holder, sizeof holder, 0);
            n = n < 0 ? 0 : n;
            while (n > 0 && holder[n - 1] == '\n') {
                n--;
            }
            return err_set(
                e, ERR_LOCKED, "%s is held by another process: %.*s", path, (int)n, holder);
        }
        clock_sleep_ms(STEP_MS);
    }
    return 0;
}

/* The text is for people; only the lock itself counts. */
static int
write_holder(int fd, const char *path, struct str text, struct err *e)
{
    if (ftruncate(fd, 0) != 0) {
        return fail_sys(e, errno, "cannot empty %s", path);
    }
    return write_all(fd, text, path, e);
}

int
fs_lock(const char *path, struct str text, int64_t wait_ms, int *ret_fd, struct err *e)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return fail_sys(e, errno, "cannot open the lock file %s", path);
    }
    int rc = wait_for_flock(fd, path, wait_ms, e);
    if (rc == 0) {
        rc = write_holder(fd, path, text, e);
    }
    if (rc != 0) {
        (void)close(fd);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}
