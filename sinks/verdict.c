#include "sinks/verdict.h"

#include <inttypes.h>

enum verdict_action
verdict_of_error(int rc)
{
    switch (err_class(rc)) {
    case ERR_CLASS_NONE:
        return VERDICT_GO_ON;
    case ERR_CLASS_RETRY:
        return VERDICT_AGAIN;
    case ERR_CLASS_FATAL:
    case ERR_CLASS_BUG:
        return VERDICT_EXIT;
    case ERR_CLASS_REJECT: /* of a whole batch: no record can be blamed */
    case ERR_CLASS_STOP:
        return VERDICT_STOP;
    }
    return VERDICT_STOP;
}

/* The first record that is not settled. */
static enum verdict_action
unsettled(const struct sink_verdict *v, const struct record *r, struct err *e)
{
    const char *reason = v->reason != NULL ? v->reason : "the target gave no reason";
    if (v->verdict == VERDICT_REJECT) {
        (void)err_set(e, ERR_REFUSED,
            "the target can never accept the record at offset %" PRIu64
            " (%.300s), and dead letters are not in this version: mend the target or the "
            "mapping",
            r->offset, reason);
        return VERDICT_STOP;
    }
    if (v->verdict == VERDICT_REREAD) {
        (void)err_set(e, ERR_REFUSED,
            "the record at offset %" PRIu64 " leaves out a value that the target needs "
            "(%.300s), and reading rows again is not in this "
            "version: set REPLICA IDENTITY FULL on the table and replay",
            r->offset, reason);
        return VERDICT_STOP;
    }
    (void)err_set(e, ERR_BUSY,
        "the target did not take the record at offset %" PRIu64 ": %.300s", r->offset, reason);
    return VERDICT_AGAIN;
}

struct verdict_outcome
verdict_settle(
    int rc, const struct sink_verdict *v, const struct record *records, size_t n, struct err *e)
{
    struct verdict_outcome o = {0, verdict_of_error(rc)};
    if (rc != 0) {
        return o;
    }
    while (o.settled < n && v[o.settled].verdict == VERDICT_DONE) {
        o.settled++;
    }
    if (o.settled < n) {
        o.action = unsettled(&v[o.settled], &records[o.settled], e);
    }
    return o;
}
