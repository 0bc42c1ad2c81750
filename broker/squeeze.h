/* squeeze: compression of blocks. The only file that includes zstd.h. Pure but for the reused
 * context. */
#ifndef ONESLOT_BROKER_SQUEEZE_H
#define ONESLOT_BROKER_SQUEEZE_H

#include <stdbool.h>

#include "proto/base/buf.h"
#include "proto/base/str.h"

struct squeeze;
struct squeeze *squeeze_new(void);
void squeeze_free(struct squeeze *q); /* accepts NULL */
/* Replaces to's content by the compressed bytes. False where that saves nothing: store them as
 * they are. */
bool squeeze_pack(struct squeeze *q, struct buf *to, struct str from);
/* Fills exactly n bytes; false when `from` does not unpack to that. */
bool squeeze_unpack(char *to, size_t n, struct str from);

#endif
