/* powerloss_shim: writes down, in the one order in which they happened over all processes,
 * every change of files under ONESLOT_SHIM_ROOT, every sync of them, and what PostgreSQL was
 * promised. power_model.py reads it and says what a disk holds at any point of it.
 *   ONESLOT_POWER_LOG  the file, opened for appending by each process; it is also the lock
 *
 * A record, little-endian, followed by path, to and data:
 *   magic u32 | op u8 | flags u8 | process u16 | ino u64 | off i64 | npath u32 | nto u32 |
 * ndata u32
 *
 * A call and its record are one under the lock, so that no order is guessed: an acknowledgement
 * is recorded before it is sent, everything else after it happened. Written by a single
 * write(2): a process that is killed leaves its last call out, or in. */
#include "shim.h"

#include <pthread.h>
#include <sys/file.h>
#include <sys/socket.h>

enum { MAGIC = 0x70776c31 };
enum op {
    OP_CREATE = 1, /* open made a file */
    OP_MKDIR,
    OP_WRITE,    /* off: where */
    OP_TRUNCATE, /* off: the size */
    OP_ALLOCATE, /* off: the least size */
    OP_SYNC,     /* fsync; flags 1: fdatasync */
    OP_RENAME,
    OP_UNLINK, /* rmdir too */
    OP_LINK,
    OP_ACK,  /* off: the flush LSN of a standby status update */
    OP_SLOT, /* PostgreSQL is asked to create the slot */
    OP_OPEN, /* a file that was there already */
    FLAG_FDATASYNC = 1,
    FLAG_DSYNC = 2, /* on a write: O_DSYNC or O_SYNC */
    FLAG_FAILED =
        4 /* a sync, or a write that is one: what it was to make durable is lost, though the
             page cache has it and a later sync will say that all is well */
};

struct head {
    uint32_t magic;
    uint8_t op, flags;
    uint16_t process; /* the end of its pid: tells one from its successor */
    uint64_t ino;
    int64_t off;
    uint32_t npath, nto, ndata;
} __attribute__((packed));

static pthread_mutex_t in_process = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
/* From before to after of one call; under the lock. */
static bool was_there;
static off_t position;

static void
lock(void)
{
    (void)pthread_mutex_lock(&in_process);
    if (log_fd < 0) {
        const char *path = getenv("ONESLOT_POWER_LOG");
        log_fd = path == NULL ? -1
                              : (int)syscall(SYS_openat, AT_FDCWD, path,
                                    O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (log_fd < 0) {
            abort();
        }
    }
    while (flock(log_fd, LOCK_EX) != 0) {}
}

static void
unlock(void)
{
    (void)flock(log_fd, LOCK_UN);
    (void)pthread_mutex_unlock(&in_process);
}

static void
put(const struct call *c, struct head h, size_t ndata)
{
    struct iovec v[68];
    int n = 3;
    h.magic = MAGIC;
    h.process = (uint16_t)getpid();
    h.npath = (uint32_t)strlen(c->path);
    h.nto = (uint32_t)strlen(c->to);
    h.ndata = (uint32_t)ndata;
    v[0] = (struct iovec){.iov_base = &h, .iov_len = sizeof h};
    v[1] = (struct iovec){.iov_base = (void *)(uintptr_t)c->path, .iov_len = h.npath};
    v[2] = (struct iovec){.iov_base = (void *)(uintptr_t)c->to, .iov_len = h.nto};
    for (int i = 0; ndata > 0 && i < c->niov && n < 68; i++) {
        v[n] = c->iov[i];
        v[n].iov_len = v[n].iov_len < ndata ? v[n].iov_len : ndata;
        ndata -= v[n++].iov_len;
    }
    size_t whole = 0;
    for (int i = 0; i < n; i++) {
        whole += v[i].iov_len;
    }
    /* LMDB writes at most 64 pages at once: with the head they fit into one call. */
    if (ndata > 0 || syscall(SYS_writev, log_fd, v, n) != (long)whole) {
        abort();
    }
}

static uint64_t
ino_of(const struct call *c, long result)
{
    struct stat st;
    int fd = strcmp(c->op, "open") == 0 ? (int)result : c->fd;
    int rc = fd >= 0 ? fstat(fd, &st) : lstat(c->path, &st);
    return rc == 0 ? (uint64_t)st.st_ino : 0;
}

static int
shim_before(struct call *c)
{
    lock();
    struct stat st;
    was_there = lstat(c->path, &st) == 0;
    if (strcmp(c->op, "write") == 0) {
        int flags = fcntl(c->fd, F_GETFL);
        position = c->has_off ? c->off
                              : lseek(c->fd, 0, (flags & O_APPEND) != 0 ? SEEK_END : SEEK_CUR);
    }
    return 0;
}

static void
record_open(const struct call *c, uint64_t ino)
{
    put(c, (struct head){.op = was_there ? OP_OPEN : OP_CREATE, .ino = ino}, 0);
    if (was_there && (c->flags & O_TRUNC) != 0) {
        put(c, (struct head){.op = OP_TRUNCATE, .ino = ino}, 0);
    }
}

static void
record_write(const struct call *c, uint64_t ino, long result)
{
    bool is_synced = (fcntl(c->fd, F_GETFL) & O_DSYNC) != 0; /* O_SYNC includes it */
    if (result < 0 && is_synced && c->niov == 1) {
        put(c,
            (struct head){
                .op = OP_WRITE, .ino = ino, .off = position, .flags = FLAG_DSYNC | FLAG_FAILED},
            c->iov[0].iov_len);
    }
    if (result <= 0) {
        return;
    }
    put(c,
        (struct head){
            .op = OP_WRITE, .ino = ino, .off = position, .flags = is_synced ? FLAG_DSYNC : 0},
        (size_t)result);
}

static const struct {
    const char *name;
    enum op op;
    int flags;
} ops[] = {
    {"mkdir", OP_MKDIR, 0},
    {"fsync", OP_SYNC, 0},
    {"fdatasync", OP_SYNC, FLAG_FDATASYNC},
    {"ftruncate", OP_TRUNCATE, 0},
    {"fallocate", OP_ALLOCATE, 0},
    {"rename", OP_RENAME, 0},
    {"unlink", OP_UNLINK, 0},
    {"rmdir", OP_UNLINK, 0},
    {"link", OP_LINK, 0},
};

static void
shim_after(struct call *c, long result)
{
    uint64_t ino = ino_of(c, result);
    if (result >= 0 && strcmp(c->op, "open") == 0) {
        record_open(c, ino);
    } else if (strcmp(c->op, "write") == 0) {
        record_write(c, ino, result);
    }
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (strcmp(c->op, ops[i].name) == 0 && (result >= 0 || ops[i].op == OP_SYNC)) {
            put(c,
                (struct head){.op = (uint8_t)ops[i].op,
                    .flags = (uint8_t)(ops[i].flags | (result < 0 ? FLAG_FAILED : 0)),
                    .ino = ino,
                    .off = c->off},
                0);
        }
    }
    unlock();
}

/* ---- what PostgreSQL is promised ---- */

static void
record_promise(enum op op, uint64_t lsn)
{
    struct call c = {.fd = -1};
    lock();
    put(&c, (struct head){.op = (uint8_t)op, .off = (int64_t)lsn}, 0);
    unlock();
}

static uint64_t
get_be64(const char *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) {
        v = v << 8 | (unsigned char)p[i];
    }
    return v;
}

/* CopyData with a standby status update: 'd', length 38, 'r', write, flush and apply LSN, ...
 */
static void
look_for_acks(const char *p, size_t n)
{
    static const char start[] = {'d', 0, 0, 0, 38, 'r'};
    const char *at = p;
    while ((at = memmem(at, n - (size_t)(at - p), start, sizeof start)) != NULL) {
        if (n - (size_t)(at - p) < 39) {
            abort(); /* cut in two: never seen, and would go unnoticed */
        }
        record_promise(OP_ACK, get_be64(at + sizeof start + 8));
        at += sizeof start;
    }
}

/* The broker's answer that lets the replicator acknowledge at any moment from now on: msgpack,
 * a large number behind its key. Smaller ones are below any LSN of a real server. */
static void
look_for_proven(const char *p, size_t n)
{
    static const char key[] = "proven_lsn";
    const char *at = memmem(p, n, key, sizeof key - 1);
    if (at == NULL || n - (size_t)(at - p) < sizeof key + 8) {
        return;
    }
    const char *tag = at + sizeof key - 1;
    if ((unsigned char)*tag == 0xcf) {
        record_promise(OP_ACK, get_be64(tag + 1));
    } else if ((unsigned char)*tag == 0xce) {
        record_promise(OP_ACK, get_be64(tag + 1) >> 32);
    }
}

static void
look_at_sent(const void *p, size_t n)
{
    static const char slot[] = "CREATE_REPLICATION_SLOT";
    if (strcmp(program_invocation_short_name, "oneslot-replicator") != 0) {
        look_for_proven(p, n);
        return;
    }
    look_for_acks(p, n);
    if (memmem(p, n, slot, sizeof slot - 1) != NULL) {
        record_promise(OP_SLOT, 0);
    }
}

ssize_t
send(int fd, const void *p, size_t n, int flags)
{
    NEXT(send)
    look_at_sent(p, n);
    return next.function(fd, p, n, flags);
}

ssize_t
sendmsg(int fd, const struct msghdr *m, int flags)
{
    NEXT(sendmsg)
    for (size_t i = 0; i < m->msg_iovlen; i++) {
        look_at_sent(m->msg_iov[i].iov_base, m->msg_iov[i].iov_len);
    }
    return next.function(fd, m, flags);
}
