/* file: appends every change as one line to a file and says DONE once it is synced. The file
 * itself says where it stands (file_tail.h), so that it holds each change once whatever was
 * killed; a replay into a file that has the changes already writes none of them again. Must not
 * know: offsets of the broker, retries. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/check.h"
#include "proto/base/fs.h"
#include "proto/base/xmalloc.h"
#include "sinks/file/file_render.h"
#include "sinks/file/file_tail.h"
#include "sinks/sink.h"

enum { FILE_MAGIC = 0x46494c45, WRITE_BYTES = 1024 * 1024, KEEP_BYTES = 4 * WRITE_BYTES };
/* No record's line is larger: its frame has at most 2 GiB, of which each byte may need six. */
#define LINE_MAX_BYTES ((size_t)13 << 30)

struct file_options {
    char *path;
};

static const struct conf_field file_fields[] = {
    {.name = "path",
        .type = CONF_PATH,
        .offset = offsetof(struct file_options, path),
        .flags = CONF_REQUIRED,
        .help =
            "the file: one NDJSON line per change, appended, fsynced before the offset moves"},
    {0},
};

struct file {
    struct sink sink;
    unsigned magic;
    const char *path; /* borrowed from the options */
    char *folder;
    int fd;    /* -1: not open */
    dev_t dev; /* what it was opened on */
    ino_t ino;
    uint64_t end;    /* bytes of whole lines, this handle's writes included */
    uint64_t synced; /* bytes of them that a sync has covered */
    uint64_t last;   /* the offset of the last line; 0: none */
    struct buf lines;
};

static struct file *
file_of(struct sink *s)
{
    struct file *f = (struct file *)(void *)s;
    CHECK_MAGIC(f, FILE_MAGIC);
    return f;
}

static void
drop_fd(struct file *f)
{
    if (f->fd >= 0) {
        (void)close(f->fd);
    }
    f->fd = -1;
}

/* ---- opening ---- */

static int
open_error(const struct file *f, int sys, struct err *e)
{
    if (sys == ENOENT) {
        return err_set_sys(
            e, ERR_CONFIG, sys, "cannot create %s: its folder must exist", f->path);
    }
    if (sys == ENOSPC || sys == EDQUOT) {
        return err_set_sys(e, ERR_NOSPACE, sys, "cannot open %s", f->path);
    }
    if (sys == EMFILE || sys == ENFILE || sys == EINTR) {
        return err_set_sys(e, ERR_BUSY, sys, "cannot open %s for now", f->path);
    }
    return err_set_sys(e, ERR_CONFIG, sys, "cannot open %s for writing", f->path);
}

static int
not_plain(const struct file *f, struct err *e)
{
    return err_set(
        e, ERR_CONFIG, "%s is not a plain file: give the sink another `path`", f->path);
}

static int
open_fd(struct file *f, struct err *e)
{
    f->fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    if (f->fd < 0) {
        return open_error(f, errno, e);
    }
    struct stat st;
    if (fstat(f->fd, &st) != 0) {
        return err_set_sys(e, ERR_IO, errno, "cannot look at %s", f->path);
    }
    if (!S_ISREG(st.st_mode)) {
        return not_plain(f, e);
    }
    f->dev = st.st_dev;
    f->ino = st.st_ino;
    if (flock(f->fd, LOCK_EX | LOCK_NB) != 0) {
        return err_set_sys(e, ERR_LOCKED, errno,
            "another process writes %s: give each sink a `path` of its own", f->path);
    }
    return 0;
}

static int
cut(struct file *f, uint64_t to, struct err *e)
{
    if (ftruncate(f->fd, (off_t)to) != 0) {
        return err_set_sys(
            e, ERR_IO, errno, "cannot cut %s back to its last whole line", f->path);
    }
    return 0;
}

/* P9: nobody syncs again. What was not synced leaves the page cache too, so that the next
 * process does not find it there and take it for durable. */
static int
sync_or_cut(struct file *f, struct err *e)
{
    int rc = fs_sync_fd(f->fd, f->path, e);
    if (rc != 0 && ftruncate(f->fd, (off_t)f->synced) != 0 && e != NULL) {
        (void)err_prefix(
            e, "cannot cut back to %" PRIu64 " bytes what cannot be synced", f->synced);
    }
    return rc;
}

/* What a killed process wrote is whole in the page cache without being on disk, and a file that
 * it created may not be in its folder: both are synced before a line found there counts as
 * DONE. */
static int
sync_opened(struct file *f, struct err *e)
{
    int rc = sync_or_cut(f, e);
    if (rc != 0) {
        return rc;
    }
    f->synced = f->end;
    return fs_sync_dir(f->folder, e);
}

/* Opens or creates the file and finds out where it stands. */
static int
attach(struct file *f, uint64_t next, struct err *e)
{
    struct file_tail t = {0};
    int rc = open_fd(f, e);
    if (rc == 0) {
        rc = file_tail_read(f->fd, f->path, next, &t, e);
    }
    if (rc == 0 && t.good < t.size) {
        rc = cut(f, t.good, e);
    }
    if (rc == 0) {
        f->end = t.good;
        f->synced = t.settled;
        f->last = t.last;
        rc = sync_opened(f, e);
    }
    if (rc != 0) {
        drop_fd(f);
    }
    return rc;
}

/* Before each batch: the file may have been rotated away, removed or emptied. Then it is the
 * one at `path` that counts, and what it says. */
static int
reattach_moved(struct file *f, uint64_t next, struct err *e)
{
    struct stat st;
    bool is_same = f->fd >= 0 && stat(f->path, &st) == 0 && st.st_dev == f->dev &&
                   st.st_ino == f->ino && (uint64_t)st.st_size == f->end;
    if (is_same) {
        return 0;
    }
    drop_fd(f);
    return attach(f, next, e);
}

static void
file_close(struct sink *s)
{
    if (s == NULL) {
        return;
    }
    struct file *f = file_of(s);
    drop_fd(f);
    buf_fini(&f->lines);
    free(f->folder);
    f->magic = 0;
    free(f);
}

extern const struct sink_ops sink_file_ops;

static char *
folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return xstrdup(".");
    }
    return slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));
}

/* For check: could it be opened? Nothing is made, locked or cut: its worker may be at work. */
static int
look(struct file *f, struct err *e)
{
    struct stat st;
    bool is_there = stat(f->path, &st) == 0;
    if (!is_there && errno != ENOENT) {
        return open_error(f, errno, e);
    }
    if (is_there && !S_ISREG(st.st_mode)) {
        return not_plain(f, e);
    }
    const char *at = is_there ? f->path : f->folder;
    int mode = is_there ? R_OK | W_OK : W_OK | X_OK;
    return faccessat(AT_FDCWD, at, mode, AT_EACCESS) == 0 ? 0 : open_error(f, errno, e);
}

static int
file_open(const struct sink_setup *setup, struct sink **ret, struct err *e)
{
    const struct file_options *o = setup->options;
    struct file *f = xcalloc(1, sizeof *f);
    f->sink.ops = &sink_file_ops;
    f->magic = FILE_MAGIC;
    f->path = o->path;
    f->folder = folder_of(o->path);
    f->fd = -1;
    buf_init(&f->lines, LINE_MAX_BYTES);
    int rc = setup->is_check ? look(f, e) : attach(f, setup->next, e);
    if (rc != 0) {
        file_close(&f->sink);
        return rc;
    }
    *ret = &f->sink;
    return 0;
}

/* ---- writing ---- */

static int
sync_lines(struct file *f, struct err *e)
{
    if (f->end == f->synced) {
        return 0;
    }
    int rc = sync_or_cut(f, e);
    if (rc == 0) {
        f->synced = f->end;
    }
    return rc;
}

/* A write that ended early: back to the last whole line, and for want of space again later. */
static int
write_failed(struct file *f, int sys, struct err *e)
{
    bool is_full = sys == ENOSPC || sys == EDQUOT || sys == EFBIG;
    int rc = cut(f, f->end, e);
    if (rc != 0) {
        return rc;
    }
    if (is_full) {
        return err_set_sys(e, ERR_NOSPACE, sys, "cannot write to %s: make room", f->path);
    }
    return err_set_sys(e, ERR_IO, sys, "cannot write to %s", f->path);
}

static int
write_lines(struct file *f, struct err *e)
{
    for (size_t done = 0; done < f->lines.n;) {
        ssize_t w = pwrite(f->fd, f->lines.p + done, f->lines.n - done, (off_t)(f->end + done));
        if (w < 0 && errno == EINTR) {
            continue;
        }
        if (w <= 0) {
            return write_failed(f, w < 0 ? errno : ENOSPC, e);
        }
        done += (size_t)w;
    }
    /* starts the disk on these lines while the next ones are rendered; whether it went well
     * says the sync. lint:allow sync_file_range: not a sync */
    (void)sync_file_range(f->fd, (off_t)f->end, (off_t)f->lines.n, SYNC_FILE_RANGE_WRITE);
    f->end += f->lines.n;
    return 0;
}

/* Appends records[*at..] as far as one write goes. */
static int
append_some(struct file *f, const struct record *records, size_t n, size_t *at, struct err *e)
{
    buf_reset(&f->lines, KEEP_BYTES);
    size_t took = file_render(&f->lines, records + *at, n - *at, WRITE_BYTES);
    if (took == 0) {
        return err_set(e, ERR_TOOBIG,
            "the record at offset %" PRIu64 " is too large for one line of %s",
            records[*at].offset, f->path);
    }
    int rc = 0;
    if (f->end - f->synced + f->lines.n > FILE_TAIL_UNSYNCED) {
        rc = sync_lines(f, e);
    }
    if (rc == 0) {
        rc = write_lines(f, e);
    }
    if (rc == 0) {
        *at += took;
        f->last = records[*at - 1].offset;
    }
    return rc;
}

static int
file_write(
    struct sink *s, const struct sink_batch *b, struct sink_verdict *verdicts, struct err *e)
{
    struct file *f = file_of(s);
    int rc = reattach_moved(f, b->next, e);
    if (rc == 0 && f->last >= b->tail) {
        rc = err_set(e, ERR_FOREIGN,
            "%s belongs to another log: it holds offset %" PRIu64
            " and this log ends before %" PRIu64
            ". Move the file away or give the sink another `path`",
            f->path, f->last, b->tail);
    }
    size_t at = 0;
    while (rc == 0 && at < b->n && b->records[at].offset <= f->last) {
        at++;
    }
    while (rc == 0 && at < b->n) {
        rc = append_some(f, b->records, b->n, &at, e);
    }
    if (rc == 0) {
        rc = sync_lines(f, e);
    }
    for (size_t i = 0; rc == 0 && i < b->n; i++) {
        verdicts[i].verdict = VERDICT_DONE;
    }
    return rc;
}

const struct sink_ops sink_file_ops = {
    .name = "file",
    .help = "NDJSON files: every change as one line",
    .options = file_fields,
    .options_size = sizeof(struct file_options),
    .flags = SINK_ONE_LANE,
    .batch_bytes = 8 * 1024 * 1024,
    .batch_records = 65536,
    .open = file_open,
    .write = file_write,
    .close = file_close,
};
