/* file_tail: where a file of ours stands, read from its end; of the rest only the first bytes.
 * Reads, never writes.
 *
 * What was durable when the sink's offset last moved is whole. Behind it there is at most what
 * one sync covers (FILE_TAIL_UNSYNCED): after a power cut any page of that may be missing, so
 * each of its lines is looked at, and the file is good up to the first that is not whole. */
#ifndef ONESLOT_SINKS_FILE_TAIL_H
#define ONESLOT_SINKS_FILE_TAIL_H

#include <stdint.h>

#include "proto/base/err.h"

/* A writer syncs before it has more than this many bytes unsynced, one single write aside. */
enum { FILE_TAIL_UNSYNCED = 32 * 1024 * 1024 };

struct file_tail {
    uint64_t size; /* of the file */
    uint64_t good; /* bytes up to and with the last whole line; what follows is to be cut off */
    uint64_t last; /* that line's offset; 0: there is none */
    uint64_t
        settled; /* bytes that the sink's offset has passed: what follows would be sent again */
};

/* Lines with an offset below `next` are known to be durable. path is for messages. ERR_FOREIGN:
 * the file is not ours, or somebody else wrote into it; ERR_IO. */
int file_tail_read(
    int fd, const char *path, uint64_t next, struct file_tail *ret, struct err *e) MUST_CHECK;

#endif
