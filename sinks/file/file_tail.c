#include "sinks/file/file_tail.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/xmalloc.h"
#include "sinks/file/file_render.h"

enum {
    PIECE = 256 * 1024,
    FIRST_WINDOW = 64 * 1024,
    SLACK = 2 * 1024 * 1024 /* lines before a huge one in the same write */
};

struct scan {
    int fd;
    const char *path;
    uint64_t size, next;
    char *piece; /* PIECE bytes */
};

/* Reads up to n bytes at `at`; fewer only at the end of the file. */
static int
read_at(const struct scan *s, uint64_t at, char *to, size_t n, size_t *ret_n, struct err *e)
{
    size_t got = 0;
    while (got < n) {
        ssize_t r = pread(s->fd, to + got, n - got, (off_t)(at + got));
        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r < 0) {
            return err_set_sys(e, ERR_IO, errno, "cannot read %s", s->path);
        }
        if (r == 0) {
            break;
        }
        got += (size_t)r;
    }
    *ret_n = got;
    return 0;
}

static int
foreign(const struct scan *s, uint64_t at, struct err *e)
{
    return err_set(e, ERR_FOREIGN,
        "%s belongs to something else: at byte %" PRIu64
        " it does not hold a change that this sink wrote. Nothing was changed; move the file "
        "away or give the "
        "sink another `path`",
        s->path, at);
}

/* Nothing is ever cut off a file that does not begin like ours. */
static int
check_start(const struct scan *s, struct err *e)
{
    char head[FILE_LINE_HEAD];
    size_t n;
    uint64_t offset;
    int rc = read_at(s, 0, head, sizeof head, &n, e);
    if (rc == 0 && file_line_offset((struct str){head, n}, &offset) < 0) {
        rc = foreign(s, 0, e);
    }
    return rc;
}

/* The start of the first line that begins at or behind `from`; s->size when there is none. */
static int
line_start(const struct scan *s, uint64_t from, uint64_t *ret, struct err *e)
{
    for (uint64_t at = from == 0 ? 0 : from - 1; from > 0 && at < s->size;) {
        size_t n;
        int rc = read_at(s, at, s->piece, PIECE, &n, e);
        if (rc != 0) {
            return rc;
        }
        const char *nl = n == 0 ? NULL : memchr(s->piece, '\n', n);
        if (nl != NULL) {
            *ret = at + (uint64_t)(nl - s->piece) + 1;
            return 0;
        }
        if (n == 0) {
            break;
        }
        at += n;
    }
    *ret = from == 0 ? 0 : s->size;
    return 0;
}

/* True when the line at `at` is one that the sink's offset has passed. */
static int
is_durable(const struct scan *s, uint64_t at, bool *ret, struct err *e)
{
    char head[FILE_LINE_HEAD];
    size_t n;
    uint64_t offset;
    int rc = read_at(s, at, head, sizeof head, &n, e);
    if (rc == 0) {
        *ret = file_line_offset((struct str){head, n}, &offset) == 1 && offset < s->next;
    }
    return rc;
}

/* Where to begin looking: at a durable line, or before all that one sync can cover, or at the
 * file's start. */
static int
scan_start(const struct scan *s, uint64_t *ret, struct err *e)
{
    uint64_t start = 0;
    for (uint64_t window = FIRST_WINDOW; window < s->size; window *= 4) {
        bool found = false;
        int rc = line_start(s, s->size - window, &start, e);
        if (rc != 0) {
            return rc;
        }
        if (start == s->size) {
            continue; /* no line begins in the window */
        }
        rc = is_durable(s, start, &found, e);
        if (rc != 0) {
            return rc;
        }
        if (found) {
            *ret = start;
            return 0;
        }
        if (window >= 2 * FILE_TAIL_UNSYNCED) {
            return line_start(s, start > SLACK ? start - SLACK : 0, ret, e);
        }
    }
    *ret = 0;
    return 0;
}

/* A line that is to be cut off. One that the sink's offset has passed would never be written
 * again. */
static int
check_cut(const struct scan *s, struct str line, const struct file_tail *t, struct err *e)
{
    uint64_t offset;
    if (file_line_offset(line, &offset) == 1 && offset > t->last && offset < s->next) {
        return err_set(e, ERR_CORRUPT,
            "%s was damaged after it was written: its whole lines end at byte %" PRIu64
            ", before offset %" PRIu64
            " which was durable there. Restore the file, or move it away and replay",
            s->path, t->good, offset);
    }
    return 0;
}

/* Takes one line that has its line break. *is_cut: the file is good up to t->good and no
 * further. */
static int
take_line(
    const struct scan *s, struct str line, struct file_tail *t, bool *is_cut, struct err *e)
{
    uint64_t offset = 0;
    enum file_line kind = *is_cut ? FILE_LINE_DAMAGED : file_line_kind(line, &offset);
    if (kind == FILE_LINE_FOREIGN) {
        return foreign(s, t->good, e);
    }
    if (kind == FILE_LINE_DAMAGED) {
        *is_cut = true;
        return check_cut(s, line, t, e);
    }
    if (offset <= t->last) {
        return err_set(e, ERR_FOREIGN,
            "%s is out of order: the line at byte %" PRIu64 " has offset %" PRIu64
            " behind %" PRIu64 ". Something else wrote into it; move the file away or give the "
            "sink another `path`",
            s->path, t->good, offset, t->last);
    }
    t->last = offset;
    t->good += line.n + 1;
    if (offset < s->next) {
        t->settled = t->good;
    }
    return 0;
}

/* Takes the lines that end in piece[0..n); the start of the last one's remains in `line`, where
 * a line that is larger than a piece is gathered. */
static int
take_piece(const struct scan *s, size_t n, struct buf *line, struct file_tail *t, bool *is_cut,
    struct err *e)
{
    size_t used = 0;
    int rc = 0;
    const char *nl;
    while (rc == 0 && (nl = memchr(s->piece + used, '\n', n - used)) != NULL) {
        size_t part = (size_t)(nl - s->piece) - used;
        struct str whole = {s->piece + used, part};
        if (line->n > 0) {
            buf_put(line, s->piece + used, part);
            whole = buf_str(line);
        }
        rc = take_line(s, whole, t, is_cut, e);
        buf_reset(line, PIECE);
        used += part + 1;
    }
    buf_put(line, s->piece + used, n - used);
    return rc;
}

/* Walks the lines from t->good on to the end of the file. */
static int
walk(const struct scan *s, struct file_tail *t, struct err *e)
{
    struct buf auto_buf line;
    buf_init(&line, SIZE_MAX);
    bool is_cut = false;
    uint64_t begin = t->good;
    t->settled = begin;
    for (uint64_t at = begin; at < s->size;) {
        size_t n;
        int rc = read_at(s, at, s->piece, PIECE, &n, e);
        if (rc == 0) {
            rc = take_piece(s, n, &line, t, &is_cut, e);
        }
        if (rc != 0) {
            return rc;
        }
        at = n == 0 ? s->size : at + n;
    }
    if (begin > 0 && t->last == 0) {
        return err_set(e, ERR_CORRUPT,
            "%s is damaged from byte %" PRIu64
            " on, further back than a power cut explains. Restore it, or "
            "move it away and replay",
            s->path, begin);
    }
    return check_cut(s, buf_str(&line), t, e);
}

int
file_tail_read(int fd, const char *path, uint64_t next, struct file_tail *ret, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return err_set_sys(e, ERR_IO, errno, "cannot look at %s", path);
    }
    struct file_tail t = {.size = (uint64_t)st.st_size};
    struct scan s = {
        .fd = fd, .path = path, .size = t.size, .next = next, .piece = xmalloc(PIECE)};
    int rc = check_start(&s, e);
    if (rc == 0) {
        rc = scan_start(&s, &t.good, e);
    }
    if (rc == 0) {
        rc = walk(&s, &t, e);
    }
    free(s.piece);
    if (rc == 0) {
        *ret = t;
    }
    return rc;
}
