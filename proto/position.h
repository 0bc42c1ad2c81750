/* position: the one grammar for places in the log (design/interface.md, Positions). Pure. */
#ifndef ONESLOT_PROTO_POSITION_H
#define ONESLOT_PROTO_POSITION_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/str.h"

enum position_kind {
    POSITION_EARLIEST,
    POSITION_LATEST,
    POSITION_OFFSET,
    POSITION_LSN,
    POSITION_TIME
};

struct position {
    enum position_kind kind;
    uint64_t offset;
    uint64_t lsn;
    bool has_epoch;
    uint64_t epoch;
    int64_t time_us;
};

/* ERR_PARSE with a sentence that names the grammar. */
int position_parse(struct str text, struct position *ret, struct err *e) MUST_CHECK;
void position_format(struct buf *b, const struct position *p);

#endif
