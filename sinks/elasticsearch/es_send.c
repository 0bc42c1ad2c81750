#include "sinks/elasticsearch/es_send.h"

#include <stdbool.h>

#include "sinks/elasticsearch/es_mapping.h"

static int
stop_of(const struct es_parts *p, struct es_op *op, struct err *e)
{
    if (op->is_alias_gone) {
        int rc = es_tables_look_again(p->tables, op->to.alias, e);
        op->outcome = ES_RETRY;
        return rc;
    }
    int code = op->status == 401 || op->status == 403 ? ERR_AUTH : ERR_REFUSED;
    return err_set(e, code, "%s takes nothing for %.*s: %.250s", es_conn_url(p->conn),
        (int)op->to.alias.n, op->to.alias.p, op->reason == NULL ? "no reason" : op->reason);
}

/* Of the values that the change brought. One that it leaves out was counted when it came,
 * unless the two were folded: not worth keeping account of. */
static uint64_t
count_lossy(const struct es_op *op)
{
    uint64_t n = 0;
    if (op->outcome != ES_DONE || op->record == NULL) {
        return 0;
    }
    for (uint32_t i = 0; i < op->shape->ncols; i++) {
        const struct record_value *v = &op->record->new_row[i];
        n += v->kind == RECORD_TEXT && es_mapping_ignores(op->shape->rules[i], v->text);
    }
    return n;
}

int
es_send(const struct es_parts *p, struct es_op *ops, size_t n, struct err *e)
{
    int rc = es_bulk_send(p->bulk, ops, n, e);
    struct str looked_at = {0}; /* once is enough for thousands */
    for (size_t i = 0; rc == 0 && i < n; i++) {
        p->sink->counts.stale += ops[i].outcome == ES_STALE;
        p->sink->counts.lossy += count_lossy(&ops[i]);
        p->sink->counts.missing += ops[i].outcome == ES_MISSING;
        if (ops[i].outcome != ES_STOP) {
            continue;
        }
        if (ops[i].is_alias_gone && str_eq(ops[i].to.alias, looked_at)) {
            ops[i].outcome = ES_RETRY;
            continue;
        }
        looked_at = ops[i].is_alias_gone ? ops[i].to.alias : looked_at;
        rc = stop_of(p, &ops[i], e);
    }
    return rc;
}

struct sink_verdict
es_send_verdict(const struct es_op *op)
{
    switch (op->outcome) {
    case ES_DONE:
    case ES_STALE:
    case ES_MISSING:
        return (struct sink_verdict){.verdict = VERDICT_DONE};
    case ES_REJECT:
        return (struct sink_verdict){.verdict = VERDICT_REJECT, .reason = op->reason};
    case ES_RETRY:
    case ES_PUSHED:
    case ES_BLOCKED:
    case ES_STOP:
        break;
    }
    return (struct sink_verdict){.verdict = VERDICT_RETRY, .reason = op->reason};
}
