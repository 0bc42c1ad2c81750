#include "broker/retention.h"

/* A segment that waits to be sealed is not full's reason: it will be sealed in a moment; a
 * damaged one is. */
struct retention_plan
retention_decide(const struct retention_conf *c, const struct retention_segment *seg, size_t n,
    uint64_t needed, int64_t now_us)
{
    struct retention_plan plan = {0};
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        bytes += seg[i].bytes;
    }
    for (size_t i = 0; i + 1 < n; i++) {
        bool is_over = bytes > c->retain_bytes;
        /* Compared by subtraction: a clock that went back makes nothing old. */
        bool is_old =
            seg[i].sealed_us != 0 && (now_us - seg[i].sealed_us) / 1000 > c->retain_age_ms;
        if (!is_over && !is_old) {
            break;
        }
        bool is_needed = seg[i].next > needed;
        if (is_needed && !(is_over && c->may_evict)) {
            plan.is_full = is_over;
            break;
        }
        if (seg[i].sealed_us == 0) {
            plan.is_full = is_over && seg[i].is_damaged;
            break;
        }
        plan.remove++;
        plan.evicted += is_needed;
        bytes -= seg[i].bytes;
    }
    return plan;
}
