/* file_render: records as the lines of the file, and what a line says of itself. Pure.
 *
 *   {"offset":N,"lsn":...}\n      one change (design/interface.md); no control byte but the
 * line break */
#ifndef ONESLOT_SINKS_FILE_RENDER_H
#define ONESLOT_SINKS_FILE_RENDER_H

#include <stdbool.h>

#include "proto/base/buf.h"
#include "proto/record.h"

/* Appends lines until b holds at least `enough` bytes or no record is left; returns how many
 * records. When one does not fit below b's limit, b holds the lines before it, and 0 says that
 * there are none. */
size_t file_render(struct buf *b, const struct record *records, size_t n, size_t enough);

enum file_line {
    FILE_LINE_OURS,    /* whole */
    FILE_LINE_DAMAGED, /* begins like one of ours, or holds NUL bytes: what a power cut leaves
                          of a line */
    FILE_LINE_FOREIGN  /* somebody else's text */
};
enum { FILE_LINE_HEAD = 32 }; /* bytes of a line's start that hold its offset */
/* The offset that a line's start names: 1, and it stands in *ret; 0: head may be the start of
 * one but ends too early; -1: it is none of our lines. */
int file_line_offset(struct str head, uint64_t *ret);
/* A line without its line break. *ret_offset only for OURS. */
enum file_line file_line_kind(struct str line, uint64_t *ret_offset);

#endif
