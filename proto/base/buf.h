/* buf: a growable byte buffer with a limit and a sticky failure. Once a put would pass `max`
 * the buffer is `failed` and later puts do nothing: check once, at the end (buf_ok). Allocation
 * failure aborts. */
#ifndef ONESLOT_BASE_BUF_H
#define ONESLOT_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "proto/base/str.h"

struct buf {
    char *p;
    size_t n;   /* bytes in use */
    size_t cap; /* bytes allocated: at most max + 1, the one for buf_cstr's NUL */
    size_t max; /* hard limit of n */
    bool failed;
};

void buf_init(struct buf *b, size_t max);
void buf_fini(struct buf *b); /* accepts a zeroed one */
/* Empties it and clears the failure; keeps the memory unless it is above keep bytes. */
void buf_reset(struct buf *b, size_t keep);
/* Makes room for n more bytes and returns where they start, or NULL (failed). Does not move n.
 */
char *buf_room_slow(struct buf *b, size_t n);

static inline char *
buf_room(struct buf *b, size_t n)
{
    if (b->failed) {
        return NULL;
    }
    return n < b->cap - b->n ? b->p + b->n : buf_room_slow(b, n); /* < : never NULL + 0 */
}

static inline void
buf_put(struct buf *b, const void *p, size_t n)
{
    char *to = buf_room(b, n);
    if (to != NULL && n > 0) {
        memcpy(to, p, n);
        b->n += n;
    }
}

static inline void
buf_putc(struct buf *b, char c)
{
    buf_put(b, &c, 1);
}

static inline void
buf_puts(struct buf *b, const char *cstr)
{
    buf_put(b, cstr, strlen(cstr));
}

static inline void
buf_put_str(struct buf *b, struct str s)
{
    buf_put(b, s.p, s.n);
}

void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A NUL behind the content (not counted in n); the string is valid until the next put. "" if
 * failed. */
const char *buf_cstr(struct buf *b);

static inline bool
buf_ok(const struct buf *b)
{
    return !b->failed;
}

static inline struct str
buf_str(const struct buf *b)
{
    return (struct str){.p = b->p, .n = b->n};
}

static inline void
cleanup_buf(struct buf *b)
{
    buf_fini(b);
}
#define auto_buf __attribute__((cleanup(cleanup_buf)))

#endif
