/* null: says DONE to everything and keeps nothing: what the worker itself costs, for tests and
 * benchmarks. */
#include <stdlib.h>

#include "proto/base/clock.h"
#include "proto/base/xmalloc.h"
#include "sinks/sink.h"

struct null_options {
    int64_t delay_ms;
};

static const struct conf_field null_fields[] = {
    {.name = "delay",
        .type = CONF_DURATION,
        .offset = offsetof(struct null_options, delay_ms),
        .deflt = "0ms",
        .min = 0,
        .max = 60000,
        .help = "each write takes so long"},
    {0},
};

struct null {
    struct sink sink;
    int64_t delay_ms;
};

extern const struct sink_ops sink_null_ops;

static int
null_open(const struct sink_setup *setup, struct sink **ret, struct err *e)
{
    (void)e;
    const struct null_options *o = setup->options;
    struct null *s = xcalloc(1, sizeof *s);
    s->sink.ops = &sink_null_ops;
    s->delay_ms = o->delay_ms;
    *ret = &s->sink;
    return 0;
}

static int
null_write(
    struct sink *s, const struct sink_batch *b, struct sink_verdict *verdicts, struct err *e)
{
    (void)e;
    const struct null *n = (const struct null *)(const void *)s;
    if (n->delay_ms > 0) {
        clock_sleep_ms(n->delay_ms);
    }
    for (size_t i = 0; i < b->n; i++) {
        verdicts[i].verdict = VERDICT_DONE;
    }
    s->counts.requests++;
    return 0;
}

static void
null_close(struct sink *s)
{
    free(s);
}

const struct sink_ops sink_null_ops = {
    .name = "null",
    .help = "for tests: accepts everything and keeps nothing",
    .options = null_fields,
    .options_size = sizeof(struct null_options),
    .batch_bytes = 8 * 1024 * 1024,
    .batch_records = 5000,
    .open = null_open,
    .write = null_write,
    .close = null_close,
};
