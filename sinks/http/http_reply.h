/* http_reply: what a receiver's answer means. Pure, fuzzed: answers are hostile. Of a body only
 * what the receiver says of single records is kept, made short and printable. */
#ifndef ONESLOT_SINKS_HTTP_HTTP_REPLY_H
#define ONESLOT_SINKS_HTTP_HTTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "sinks/sink.h"

/* What the status of an answer says of the whole request. */
enum http_whole {
    HTTP_WHOLE_OK,      /* 2xx: the body may say more */
    HTTP_WHOLE_RETRY,   /* not now: 425, 5xx */
    HTTP_WHOLE_PUSHED,  /* not now, too much to do: 408, 429, 503 */
    HTTP_WHOLE_TOOBIG,  /* 413: fewer bytes; a single record is rejected */
    HTTP_WHOLE_REFUSED, /* 400, 422: one of the records: fewer; a single one is rejected */
    HTTP_WHOLE_STOP     /* 3xx, other 4xx, anything else: a person must look */
};
enum http_whole http_reply_whole(long status);

/* The error of an answer that takes none of the records now: ERR_BUSY (not now), ERR_AUTH (401,
 * 403), ERR_REFUSED. origin: scheme, host and port, for the sentence. Returns the code. */
int http_reply_error(long status, const char *origin, struct err *e);

enum { HTTP_REPLY_REASON_MAX = 240 }; /* bytes of a reason with its NUL */

/* Reads the body of a 2xx to n records and fills verdicts[0..n), which are UNSET.
 *   - Not a JSON object, or an object without "results": all DONE.
 *   - {"results":[{"offset":N,"status":"ok|retry|reject","reason":"..."},...]}: as it says.
 *     A record that is not named, or with a status that is not one of these, or named twice
 *     with different ones, is RETRY. Offsets of other records are passed over.
 * ERR_PROTOCOL (verdicts as they were): it begins like an object and is none, or its "results"
 * are no array of objects: nothing can be said of any record.
 * reasons: room for n * HTTP_REPLY_REASON_MAX bytes behind its end (buf_room), so that it does
 * not move; the verdicts' reasons stand there. */
int http_reply_read(struct str body, const struct record *records, size_t n,
    struct sink_verdict *verdicts, struct buf *reasons, struct err *e) MUST_CHECK;

#endif
