/* cmd_text: text for a terminal: what must not reach it as it is, how wide it is, numbers for
 * people. Pure. */
#ifndef ONESLOT_CLI_CMD_TEXT_H
#define ONESLOT_CLI_CMD_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"

/* Appends s; control characters, bytes that are not UTF-8, and characters that reorder what
 * stands around them become \xNN or \uNNNN: row data must not steer a terminal. */
void cmd_text_put(struct buf *b, struct str s);
/* Columns of a terminal that s takes (wide characters are two). */
size_t cmd_text_width(struct str s);
/* Cuts what b has from `at` on to `width` columns, the last of them an ellipsis. */
void cmd_text_cut(struct buf *b, size_t at, size_t width);
void cmd_text_put_bytes(struct buf *b, double n);   /* "1.5 GiB" */
void cmd_text_put_count(struct buf *b, uint64_t n); /* "1,234,567" */
void cmd_text_put_seconds(
    struct buf *b, double s); /* "0.3 s", "12 s", "3 min", "2.5 h", "4.1 d" */
/* Columns of the terminal behind fd; 0: not a terminal. */
size_t cmd_text_columns(int fd);

#endif
