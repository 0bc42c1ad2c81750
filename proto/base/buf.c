/* buf: owns the growth of byte buffers. Promises that n never passes max, that a failed buffer
 * stays as it was, and that there is always a byte for buf_cstr's NUL. Must not know what the
 * bytes mean. */
#include "proto/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/xmalloc.h"

enum { BUF_CAP_MIN = 64 };

void
buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void
buf_fini(struct buf *b)
{
    free(b->p);
    *b = (struct buf){.max = b->max};
}

void
buf_reset(struct buf *b, size_t keep)
{
    b->n = 0;
    b->failed = false;
    if (b->cap > keep) {
        free(b->p);
        b->p = NULL;
        b->cap = 0;
    }
}

char *
buf_room_slow(struct buf *b, size_t n)
{
    CHECK(b->n <= b->cap);
    size_t limit = b->max == SIZE_MAX ? SIZE_MAX : b->max + 1;
    if (b->failed || b->n >= limit || n >= limit - b->n) {
        b->failed = true;
        return NULL;
    }
    size_t need = b->n + n + 1; /* at most limit */
    if (need > b->cap) {
        size_t cap = b->cap <= limit / 2 ? b->cap * 2 : limit;
        cap = cap < BUF_CAP_MIN ? BUF_CAP_MIN : cap;
        cap = cap < need ? need : cap;
        cap = cap > limit ? limit : cap;
        b->p = xrealloc(b->p, cap);
        b->cap = cap;
    }
    return b->p + b->n;
}

void
buf_printf(struct buf *b, const char *fmt, ...)
{
    char *to = buf_room(b, 0);
    if (to == NULL) {
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(to, b->cap - b->n, fmt, ap);
    va_end(ap);
    CHECK(n >= 0);
    if ((size_t)n >= b->cap - b->n) {
        to = buf_room(b, (size_t)n);
        if (to == NULL) {
            return;
        }
        va_start(ap, fmt);
        n = vsnprintf(to, (size_t)n + 1, fmt, ap);
        va_end(ap);
    }
    b->n += (size_t)n;
}

const char *
buf_cstr(struct buf *b)
{
    char *end = buf_room(b, 0);
    if (end == NULL) {
        return "";
    }
    *end = 0;
    return b->p;
}
