/* query_fuzz: lines "NAME=VALUE" as the parameters and headers of GET /changes. What is
 * accepted must be within its bounds, and decide the same way twice. */
#include <stdint.h>

#include "broker/changes_query.h"
#include "proto/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[CHANGES_NARGS] = {"from", "until", "tables", "ops", "limit",
    "follow", "wait", "format", "Accept", "Last-Event-ID"};

static void
take_line(struct changes_args *a, struct str line)
{
    const char *equals = line.n == 0 ? NULL : memchr(line.p, '=', line.n);
    if (equals == NULL) {
        return;
    }
    struct str name = {line.p, (size_t)(equals - line.p)};
    for (int i = 0; i < CHANGES_NARGS; i++) {
        if (str_is(name, names[i])) {
            a->has[i] = true;
            a->v[i] = (struct str){equals + 1, line.n - name.n - 1};
        }
    }
}

static void
use(struct changes_query *q)
{
    struct schema s = {.id = 7, .ns = STR("fabric"), .name = STR("user_data")};
    struct journal_info info = {.epoch = 1, .next = 100};
    struct record_txn t = {.first_offset = 50, .count = 1, .epoch = 1, .lsn = 1000};
    CHECK(q->limit > 0 && q->wait_ms >= 0 && q->wait_ms <= CHANGES_WAIT_MAX_S * 1000);
    for (uint8_t op = FRAME_INSERT; op <= FRAME_MESSAGE; op++) {
        bool first = filter_wants(&q->filter, op, &s);
        CHECK(first == filter_wants(&q->filter, op, &s));
        (void)filter_wants(&q->filter, op, NULL);
    }
    struct changes_bound b = changes_bound_of(q, &info);
    CHECK(q->has_until || (!changes_is_beyond(&b, &t) && !changes_is_passed(&b, &t, 100)));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct changes_args a = {0};
    struct changes_query q;
    struct err e;
    struct str rest = {.p = (const char *)data, .n = size};
    while (rest.n > 0) {
        const char *end = memchr(rest.p, '\n', rest.n);
        size_t n = end == NULL ? rest.n : (size_t)(end - rest.p);
        take_line(&a, (struct str){rest.p, n});
        n += end != NULL;
        rest.p += n;
        rest.n -= n;
    }
    int rc = changes_query_parse(&a, &q, &e);
    if (rc != 0) {
        CHECK(rc == ERR_PARSE || rc == ERR_UNSUPPORTED);
        return 0;
    }
    use(&q);
    changes_query_fini(&q);
    return 0;
}
