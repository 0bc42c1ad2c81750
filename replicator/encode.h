/* encode: decoded changes to the frames of an append batch (proto/frame.h). Pure. Every
 * function appends whole frames, or leaves b's content as it was and returns an error;
 * ERR_TOOBIG once b's limit is passed (b is `failed` then). */
#ifndef ONESLOT_REPLICATOR_ENCODE_H
#define ONESLOT_REPLICATOR_ENCODE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "replicator/pgoutput.h"
#include "replicator/relcache.h"

/* A FRAME_SCHEMA where rel has no schema version yet: it gets *next_id, which then grows. To be
 * called before the first row or truncate of every relation; nothing is written when rel has a
 * version. ERR_REFUSED when *next_id has run out. */
int encode_schema(
    struct buf *b, struct relation *rel, uint32_t *next_id, struct err *e) MUST_CHECK;

/* FRAME_BEGIN and FRAME_COMMIT of a transaction. A caller that wants empty transactions left
 * out (servers before 15 send them) encodes the begin when the first record comes. origin may
 * be empty. */
int encode_begin(struct buf *b, const struct pgoutput_begin *m, struct err *e) MUST_CHECK;
int encode_commit(struct buf *b, const struct pgoutput_commit *m, uint32_t xid,
    struct str origin, struct err *e) MUST_CHECK;

/* Insert, Update, Delete of rel, which has a schema version. Values that pgoutput did not send
 * because they are unchanged come from the old row where that has them (FULL), else they are
 * marked (false). ERR_PROTOCOL when row and table do not fit, ERR_UNSUPPORTED for a binary
 * value. */
int encode_row(struct buf *b, const struct relation *rel, enum pgoutput_type type,
    const struct pgoutput_row *row, struct err *e) MUST_CHECK;

/* A row read from the table rel, which has a schema version: FRAME_READ. Text values need not
 * lie behind each other. */
int encode_read(struct buf *b, const struct relation *rel, const struct pgoutput_tuple *row,
    struct err *e) MUST_CHECK;
/* FRAME_BEGIN and FRAME_COMMIT around such rows: of FRAME_TXN_READ at lsn, the end of the last
 * transaction in the log; ts_us: now (us since 1970). */
int encode_read_begin(struct buf *b, uint64_t lsn, struct err *e) MUST_CHECK;
int encode_read_commit(struct buf *b, uint64_t lsn, int64_t ts_us, struct err *e) MUST_CHECK;

/* One record for one of the Truncate's tables: records of the others follow with their own
 * relation. */
int encode_truncate(struct buf *b, const struct relation *rel,
    const struct pgoutput_truncate *m, struct err *e) MUST_CHECK;

/* A transactional message: a record of the open transaction. Any other is a transaction of its
 * own, begin and commit included, at its own LSN; ts_us: when the server sent it (us since
 * 1970), for it carries no time. */
int encode_message(
    struct buf *b, const struct pgoutput_message *m, int64_t ts_us, struct err *e) MUST_CHECK;

#endif
