/* cmd_lag: GET /lag as a page of text. Pure but for the table of commands. */
#ifndef ONESLOT_CLI_CMD_LAG_H
#define ONESLOT_CLI_CMD_LAG_H

#include "proto/base/buf.h"
#include "proto/base/json.h"

/* Members that are absent or null are shown as "-". */
void cmd_lag_render(struct buf *b, const struct json *lag);

#endif
