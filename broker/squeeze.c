#include "broker/squeeze.h"

#include <stdlib.h>
#include <zstd.h>

#include "proto/base/check.h"
#include "proto/base/xmalloc.h"

/* Level 1: rows halve at under a microsecond each; higher levels cost more CPU than the
 * walsender leaves. */
enum { LEVEL = 1 };

struct squeeze {
    ZSTD_CCtx *ctx;
};

struct squeeze *
squeeze_new(void)
{
    struct squeeze *q = xmalloc(sizeof *q);
    q->ctx = ZSTD_createCCtx();
    CHECK(q->ctx != NULL);
    return q;
}

void
squeeze_free(struct squeeze *q)
{
    if (q != NULL) {
        (void)ZSTD_freeCCtx(q->ctx);
        free(q);
    }
}

bool
squeeze_pack(struct squeeze *q, struct buf *to, struct str from)
{
    buf_reset(to, SIZE_MAX);
    size_t bound = ZSTD_compressBound(from.n);
    char *room = buf_room(to, bound);
    if (room == NULL) {
        return false;
    }
    size_t n = ZSTD_compressCCtx(q->ctx, room, bound, from.p, from.n, LEVEL);
    if (ZSTD_isError(n) || n >= from.n) {
        return false;
    }
    to->n = n;
    return true;
}

bool
squeeze_unpack(char *to, size_t n, struct str from)
{
    return ZSTD_decompress(to, n, from.p, from.n) == n;
}
