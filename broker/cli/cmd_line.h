/* cmd_line: one line of /changes (NDJSON) for people: time, op, table, key, what changed. Works
 * on the JSON text itself: no tree, no limit but the line's length, values shown as they stand
 * there. Pure. */
#ifndef ONESLOT_CLI_CMD_LINE_H
#define ONESLOT_CLI_CMD_LINE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"

/* The record's offset; false when the line is not a change. */
bool cmd_line_offset(struct str line, uint64_t *ret);
/* Appends the readable form, without a line break; safe for a terminal. Where `old` is there,
 * an update shows the columns that differ; else all of `new` but the key's. Columns whose value
 * was not sent are left out. width: columns, the rest is cut; 0: no limit. False, and nothing
 * appended, when the line is not a change. */
bool cmd_line_put(struct buf *b, struct str line, size_t width);

#endif
