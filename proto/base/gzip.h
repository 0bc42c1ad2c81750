/* gzip: compression of request bodies (over zlib, which only gzip.c includes). Pure. */
#ifndef ONESLOT_BASE_GZIP_H
#define ONESLOT_BASE_GZIP_H

#include "proto/base/buf.h"
#include "proto/base/str.h"

enum { GZIP_FASTEST = 1, GZIP_SMALLEST = 9 };

/* Appends text as one gzip member. b without room for it is `failed`, as with any put. */
void gzip_put(struct buf *b, struct str text, int level);

#endif
