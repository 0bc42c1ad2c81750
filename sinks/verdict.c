#include "sinks/verdict.h"

#include <inttypes.h>
#include <string.h>

#include "proto/base/check.h"
#include "proto/record_key.h"

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

const char *
verdict_reason(const struct sink_verdict *v)
{
    return v->reason != NULL ? v->reason : "the target gave no reason";
}

/* ---- rejections in a row ---- */

static bool
run_has(const struct verdict_run *run, uint32_t key)
{
    for (unsigned i = 0; i < run->n; i++) {
        if (run->keys[i] == key) {
            return true;
        }
    }
    return false;
}

/* True when this rejection is one too many. */
static bool
run_add(struct verdict_run *run, uint32_t key)
{
    if (run->limit == 0) {
        return false;
    }
    CHECK(run->limit <= VERDICT_RUN_MAX);
    if (!run_has(run, key) && run->n < run->limit) {
        run->keys[run->n++] = key;
    }
    return run->n >= run->limit;
}

/* Where the run that reaches the limit begins among these records; n: it does not. */
static size_t
run_begins(
    struct verdict_run *run, const struct sink_verdict *v, const uint32_t *keys, size_t n)
{
    size_t begin = 0;
    for (size_t i = 0; i < n; i++) {
        if (v[i].verdict == VERDICT_DONE) {
            run->n = 0;
            begin = i + 1;
        } else if (v[i].verdict == VERDICT_REJECT && run_add(run, keys[i])) {
            return begin;
        }
    }
    return n;
}

/* ---- one record ---- */

static bool
has_kept_key(const uint8_t *effects, const uint32_t *keys, size_t i)
{
    for (size_t k = 0; k < i; k++) {
        if (keys[k] == keys[i] && effects[k] == VERDICT_KEEP) {
            return true;
        }
    }
    return false;
}

static enum verdict_effect
effect_of(enum verdict verdict)
{
    switch (verdict) {
    case VERDICT_DONE:
        return VERDICT_SETTLE;
    case VERDICT_REJECT:
        return VERDICT_BURY;
    case VERDICT_REREAD:
        return VERDICT_ASK;
    case VERDICT_UNSET:
    case VERDICT_RETRY:
        break;
    }
    return VERDICT_KEEP;
}

/* Fills the effects; returns the first record that is kept because of its own verdict, n: none.
 * The search for an earlier one of its key begins only behind that. */
static size_t
fill(const struct sink_verdict *v, const uint32_t *keys, size_t n, uint8_t *effects)
{
    size_t first = n;
    for (size_t i = 0; i < n; i++) {
        effects[i] = (uint8_t)effect_of(v[i].verdict);
        if (effects[i] == VERDICT_KEEP && first == n) {
            first = i;
        } else if (effects[i] == VERDICT_SETTLE && first < i &&
                   has_kept_key(effects, keys, i)) {
            effects[i] = VERDICT_KEEP;
        }
    }
    return first;
}

static enum verdict_action
stop_run(const struct sink_verdict *v, const struct record *records, const uint32_t *keys,
    size_t begin, size_t n, const struct verdict_run *run, uint8_t *effects, struct err *e)
{
    size_t last = begin;
    for (size_t i = begin; i < n; i++) {
        if (v[i].verdict == VERDICT_REJECT) {
            effects[i] = VERDICT_KEEP;
            last = i;
        } else if (effects[i] == VERDICT_SETTLE && has_kept_key(effects, keys, i)) {
            effects[i] = VERDICT_KEEP; /* the key's last state is written last */
        }
    }
    (void)err_set(e, ERR_REFUSED,
        "the target rejected records of %u different keys in a row and accepted none between "
        "them, the last at offset %" PRIu64 " (%.200s): mend the mapping or the target, then "
        "resume the sink",
        run->n, records[last].offset, verdict_reason(&v[last]));
    return VERDICT_STOP;
}

static bool
is_rereadable(const struct record *r)
{
    return record_has_key(r) && record_has_unchanged(r);
}

/* Only what can be read again may be asked for. */
static bool
check_rereads(
    const struct sink_verdict *v, const struct record *records, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (v[i].verdict == VERDICT_REREAD && !is_rereadable(&records[i])) {
            (void)err_set(e, ERR_BUG,
                "a sink's kind asked for the row of the record at offset %" PRIu64
                " again, which has no key or leaves nothing out",
                records[i].offset);
            return false;
        }
    }
    return true;
}

enum verdict_action
verdict_decide(int rc, const struct sink_verdict *v, const struct record *records,
    const uint32_t *keys, size_t n, struct verdict_run *run, uint8_t *effects, struct err *e)
{
    memset(effects, VERDICT_KEEP, n);
    if (rc != 0) {
        return verdict_of_error(rc);
    }
    if (!check_rereads(v, records, n, e)) {
        return VERDICT_EXIT;
    }
    size_t begin = run_begins(run, v, keys, n);
    size_t first = fill(v, keys, n, effects);
    if (begin < n) {
        return stop_run(v, records, keys, begin, n, run, effects, e);
    }
    if (first == n) {
        return VERDICT_GO_ON;
    }
    (void)err_set(e, ERR_BUSY,
        "the target did not take the record at offset %" PRIu64 ": %.300s",
        records[first].offset, verdict_reason(&v[first]));
    return VERDICT_AGAIN;
}
