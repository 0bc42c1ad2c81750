/* proc: what each program of oneslot is as a process: its exit statuses, its tie to whoever
 * started it, and the lock that makes it the only one of its name. */
#ifndef ONESLOT_BASE_PROC_H
#define ONESLOT_BASE_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/base/err.h"

enum proc_status {
    PROC_DONE = 0,
    PROC_FAILED = 1,
    PROC_USAGE = 2,
    PROC_UNAVAILABLE = 69, /* no broker here */
    PROC_CONFIG = 78
};

/* In the environment of a supervised process: the supervisor's pid; "1": one that does not tell
 * it. */
#define PROC_SUPERVISED "ONESLOT_SUPERVISED"

/* From here on the process is killed when its parent ends; false when `parent` has gone
 * already. */
bool proc_tie(pid_t parent);
/* The same with the supervisor, where there is one: true without. */
bool proc_tie_to_supervisor(void);
/* Takes DATA_DIR/FILE, waiting up to wait_ms for a former holder, and writes "WHO pid N" into
 * it. *ret_fd, held while open, is the caller's to close. ERR_CONNECT: there is no data folder;
 * ERR_LOCKED names the holder. */
int proc_lock(const char *data_dir, const char *file, const char *who, int64_t wait_ms,
    int *ret_fd, struct err *e) MUST_CHECK;

#endif
