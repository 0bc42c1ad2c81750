/* shim: the calls that change files, wrapped for LD_PRELOAD. A shim includes this header once
 * and defines the two hooks; the wrappers hand every call on a path under the folder in
 * ONESLOT_SHIM_ROOT to them. LMDB's calls come here too: they go through the PLT. Writes
 * through a map do not (LMDB's lock.mdb). */
#ifndef ONESLOT_TESTS_CRASH_SHIM_H
#define ONESLOT_TESTS_CRASH_SHIM_H

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct call {
    const char
        *op; /* open mkdir write fsync fdatasync ftruncate fallocate rename unlink rmdir link */
    char path[PATH_MAX]; /* absolute */
    char to[PATH_MAX];   /* rename, link */
    int fd;              /* -1: a call on a path */
    int flags;           /* open */
    const struct iovec *iov;
    int niov;
    bool has_off; /* pwrite; otherwise at the descriptor's own position */
    off_t off;    /* pwrite, ftruncate: the size; fallocate: the end */
};

/* An errno makes the call fail with it instead of happening; 0: it happens. */
static int shim_before(struct call *c);
/* result: what the call returned, errno as it left it. Not called for one that shim_before
 * refused. */
static void shim_after(struct call *c, long result);

/* The next definition of the function; a union because C has no cast from object to function
 * pointer. */
#define NEXT(name)                                                                             \
    static union {                                                                             \
        void *object;                                                                          \
        __typeof__(&name) function;                                                            \
    } next;                                                                                    \
    if (next.object == NULL) {                                                                 \
        next.object = dlsym(RTLD_NEXT, #name);                                                 \
    }

static const char *
shim_root(void)
{
    static const char *root;
    if (root == NULL) {
        root = getenv("ONESLOT_SHIM_ROOT");
        root = root == NULL ? "" : root;
    }
    return root;
}

/* The root itself counts as inside. */
static bool
shim_is_inside(const char *path)
{
    const char *root = shim_root();
    size_t n = strlen(root);
    return n > 0 && strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* Our programs make every path from an absolute one or from their working folder. */
static void
shim_absolute(const char *path, char to[PATH_MAX])
{
    char folder[PATH_MAX] = "";
    if (path[0] == '/' || getcwd(folder, sizeof folder) == NULL) {
        (void)snprintf(to, PATH_MAX, "%s", path);
        return;
    }
    size_t n = strlen(folder);
    while (strncmp(path, "./", 2) == 0) {
        path += 2;
    }
    (void)snprintf(to, PATH_MAX, "%.*s/%s", (int)n, folder, path);
}

/* configuration gives "FOLDER/./data": one name per file, also for those that compare texts. */
static void
shim_tidy(char *path)
{
    char *dot;
    while ((dot = strstr(path, "/./")) != NULL) {
        memmove(dot, dot + 2, strlen(dot + 2) + 1);
    }
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') {
        path[--n] = '\0';
    }
}

static bool
shim_path(struct call *c, const char *path)
{
    shim_absolute(path, c->path);
    shim_tidy(c->path);
    return shim_is_inside(c->path);
}

/* A regular file or a folder under the root. */
static bool
shim_fd(struct call *c, int fd)
{
    char link[64];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, c->path, sizeof c->path - 1);
    if (n <= 0) {
        return false;
    }
    c->path[n] = '\0';
    c->fd = fd;
    return shim_is_inside(c->path);
}

/* "write data/log/SEG/data.mdb": names of segments are all alike, so that a label means a place
 * in the code. */
__attribute__((unused)) static void
shim_label(const struct call *c, char *to, size_t size)
{
    const char *from = c->path + strlen(shim_root());
    char plain[PATH_MAX];
    size_t n = 0;
    for (from += *from == '/'; *from != '\0' && n + 4 < sizeof plain; n++) {
        size_t digits = strspn(from, "0123456789");
        if (digits >= 16) {
            memcpy(plain + n, "SEG", 3);
            n += 2;
            from += digits;
        } else {
            plain[n] = *from++;
        }
    }
    plain[n] = '\0';
    (void)snprintf(to, size, "%s %s", c->op, n == 0 ? "." : plain);
}

#define FINISH(type, call, expression)                                                         \
    do {                                                                                       \
        int refused = shim_before(&(call));                                                    \
        if (refused != 0) {                                                                    \
            errno = refused;                                                                   \
            return (type)-1;                                                                   \
        }                                                                                      \
        type result = (expression);                                                            \
        int sys = errno;                                                                       \
        shim_after(&(call), (long)result);                                                     \
        errno = sys;                                                                           \
        return result;                                                                         \
    } while (0)

/* ---- descriptors ---- */

#define WRAP_OPEN(name)                                                                        \
    int name(const char *path, int flags, ...)                                                 \
    {                                                                                          \
        NEXT(name)                                                                             \
        mode_t mode = 0;                                                                       \
        if ((flags & O_CREAT) != 0) {                                                          \
            va_list args;                                                                      \
            va_start(args, flags);                                                             \
            mode = va_arg(args, mode_t);                                                       \
            va_end(args);                                                                      \
        }                                                                                      \
        struct call c = {.op = "open", .fd = -1, .flags = flags};                              \
        if ((flags & (O_CREAT | O_TRUNC)) == 0 || !shim_path(&c, path)) {                      \
            return next.function(path, flags, mode);                                           \
        }                                                                                      \
        FINISH(int, c, next.function(path, flags, mode));                                      \
    }
WRAP_OPEN(open)
WRAP_OPEN(open64)

#define WRAP_WRITE(name, parameters, arguments, ...)                                           \
    ssize_t name parameters                                                                    \
    {                                                                                          \
        NEXT(name)                                                                             \
        struct call c = {.op = "write", .fd = -1, __VA_ARGS__};                                \
        if (!shim_fd(&c, fd)) {                                                                \
            return next.function arguments;                                                    \
        }                                                                                      \
        FINISH(ssize_t, c, next.function arguments);                                           \
    }
#define ONE_PIECE                                                                              \
    .iov = &(struct iovec){.iov_base = (void *)(uintptr_t)p, .iov_len = n}, .niov = 1
WRAP_WRITE(write, (int fd, const void *p, size_t n), (fd, p, n), ONE_PIECE)
WRAP_WRITE(pwrite, (int fd, const void *p, size_t n, off_t off), (fd, p, n, off), ONE_PIECE,
    .has_off = true, .off = off)
WRAP_WRITE(pwrite64, (int fd, const void *p, size_t n, off_t off), (fd, p, n, off), ONE_PIECE,
    .has_off = true, .off = off)
WRAP_WRITE(writev, (int fd, const struct iovec *v, int n), (fd, v, n), .iov = v, .niov = n)
WRAP_WRITE(pwritev, (int fd, const struct iovec *v, int n, off_t off), (fd, v, n, off),
    .iov = v, .niov = n, .has_off = true, .off = off)
WRAP_WRITE(pwritev64, (int fd, const struct iovec *v, int n, off_t off), (fd, v, n, off),
    .iov = v, .niov = n, .has_off = true, .off = off)

#define WRAP_FD(name, operation, parameters, arguments, ...)                                   \
    int name parameters                                                                        \
    {                                                                                          \
        NEXT(name)                                                                             \
        struct call c = {.op = (operation), .fd = -1, __VA_ARGS__};                            \
        if (!shim_fd(&c, fd)) {                                                                \
            return next.function arguments;                                                    \
        }                                                                                      \
        FINISH(int, c, next.function arguments);                                               \
    }
WRAP_FD(fsync, "fsync", (int fd), (fd), .off = 0)
WRAP_FD(fdatasync, "fdatasync", (int fd), (fd), .off = 0)
WRAP_FD(ftruncate, "ftruncate", (int fd, off_t size), (fd, size), .off = size)
WRAP_FD(ftruncate64, "ftruncate", (int fd, off_t size), (fd, size), .off = size)
WRAP_FD(fallocate, "fallocate", (int fd, int mode, off_t at, off_t n), (fd, mode, at, n),
    .off = at + n)

/* These return the error itself. */
#define WRAP_FALLOCATE(name)                                                                   \
    int name(int fd, off_t at, off_t n)                                                        \
    {                                                                                          \
        NEXT(name)                                                                             \
        struct call c = {.op = "fallocate", .fd = -1, .off = at + n};                          \
        if (!shim_fd(&c, fd)) {                                                                \
            return next.function(fd, at, n);                                                   \
        }                                                                                      \
        int refused = shim_before(&c);                                                         \
        if (refused != 0) {                                                                    \
            return refused;                                                                    \
        }                                                                                      \
        int result = next.function(fd, at, n);                                                 \
        shim_after(&c, result == 0 ? 0 : -1);                                                  \
        return result;                                                                         \
    }
WRAP_FALLOCATE(posix_fallocate)
WRAP_FALLOCATE(posix_fallocate64)

/* ---- paths ---- */

#define WRAP_PATH(name, operation, parameters, arguments)                                      \
    int name parameters                                                                        \
    {                                                                                          \
        NEXT(name)                                                                             \
        struct call c = {.op = (operation), .fd = -1};                                         \
        if (!shim_path(&c, path)) {                                                            \
            return next.function arguments;                                                    \
        }                                                                                      \
        FINISH(int, c, next.function arguments);                                               \
    }
WRAP_PATH(mkdir, "mkdir", (const char *path, mode_t mode), (path, mode))
WRAP_PATH(unlink, "unlink", (const char *path), (path))
WRAP_PATH(rmdir, "rmdir", (const char *path), (path))

#define WRAP_TWO(name)                                                                         \
    int name(const char *path, const char *to)                                                 \
    {                                                                                          \
        NEXT(name)                                                                             \
        struct call c = {.op = #name, .fd = -1};                                               \
        shim_absolute(to, c.to);                                                               \
        shim_tidy(c.to);                                                                       \
        if (!shim_path(&c, path)) {                                                            \
            return next.function(path, to);                                                    \
        }                                                                                      \
        FINISH(int, c, next.function(path, to));                                               \
    }
WRAP_TWO(rename)
WRAP_TWO(link)

#endif
