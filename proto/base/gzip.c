#include "proto/base/gzip.h"

#include <limits.h>

#include <zlib.h>

#include "proto/base/check.h"

enum { WINDOW_GZIP = 15 + 16, MEMORY_LEVEL = 8, ROOM_BYTES = 64 * 1024 };

/* One step into what room there is; false: b has none. */
static bool
step(z_stream *z, struct buf *b, int flush, int *ret_status)
{
    char *to = buf_room(b, ROOM_BYTES);
    if (to == NULL) {
        return false;
    }
    z->next_out = (Bytef *)to;
    z->avail_out = ROOM_BYTES;
    *ret_status = deflate(z, flush);
    CHECK(*ret_status == Z_OK || *ret_status == Z_STREAM_END || *ret_status == Z_BUF_ERROR);
    b->n += ROOM_BYTES - z->avail_out;
    return true;
}

void
gzip_put(struct buf *b, struct str text, int level)
{
    z_stream z = {0};
    int status = Z_OK;
    CHECK(level >= GZIP_FASTEST && level <= GZIP_SMALLEST);
    CHECK(deflateInit2(&z, level, Z_DEFLATED, WINDOW_GZIP, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) ==
          Z_OK); /* fails for want of memory only: like xmalloc */
    while (status != Z_STREAM_END) {
        if (z.avail_in == 0 && text.n > 0) { /* zlib counts in unsigned ints */
            z.next_in = (z_const Bytef *)text.p;
            z.avail_in = text.n < UINT_MAX ? (uInt)text.n : UINT_MAX;
            text.p += z.avail_in;
            text.n -= z.avail_in;
        }
        if (!step(&z, b, text.n == 0 ? Z_FINISH : Z_NO_FLUSH, &status)) {
            break;
        }
    }
    (void)deflateEnd(&z);
}
