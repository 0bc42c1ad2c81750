/* cmd_segcheck: reads one segment from its files, every checksum, in a process of its own: what
 * a torn file does to LMDB (SIGBUS, SIGSEGV, an assertion) happens there and is a finding, not
 * our end. No environment may be open and no thread run in the caller. */
#ifndef ONESLOT_CLI_CMD_SEGCHECK_H
#define ONESLOT_CLI_CMD_SEGCHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/api.h"

enum cmd_segcheck_result { CMD_SEGCHECK_OK, CMD_SEGCHECK_DAMAGED, CMD_SEGCHECK_UNREADABLE };

struct cmd_segcheck {
    enum cmd_segcheck_result result;
    uint64_t base, next; /* offsets; next is 0 when the head could not be read */
    uint64_t at;         /* damaged: reading went well up to here */
    uint64_t epoch;
    uint8_t uuid[API_UUID];
    bool has_head;
    char msg[480]; /* a sentence when not OK */
};

/* done and all are records of this segment. */
typedef void cmd_segcheck_progress_f(void *arg, uint64_t done, uint64_t all);

/* Fills ret. ERR_STOPPING when a stop was asked for; an error when no process can be made. */
int cmd_segcheck_run(const char *log_dir, const char *name, cmd_segcheck_progress_f *fn,
    void *arg, struct cmd_segcheck *ret, struct err *e) MUST_CHECK;

#endif
