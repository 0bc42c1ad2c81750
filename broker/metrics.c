/* metrics: see metrics.h. What /lag shows, and what the parts of the broker count. */
#include "broker/metrics.h"

#include <inttypes.h>

#include "broker/lag.h"
#include "proto/base/clock.h"

enum { METRICS_MAX = 4 * 1024 * 1024 };
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

static void
head(struct buf *b, const char *name, const char *type, const char *help)
{
    buf_printf(b, "# HELP oneslot_%s %s\n# TYPE oneslot_%s %s\n", name, help, name, type);
}

static void
gauge(struct buf *b, const char *name, uint64_t v, const char *help)
{
    head(b, name, "gauge", help);
    buf_printf(b, "oneslot_%s %" PRIu64 "\n", name, v);
}

static void
counter(struct buf *b, const char *name, uint64_t v, const char *help)
{
    head(b, name, "counter", help);
    buf_printf(b, "oneslot_%s %" PRIu64 "\n", name, v);
}

static void
put_build(struct buf *b, const struct broker *bk)
{
    head(b, "build_info", "gauge", "Always 1; the label is the version.");
    buf_puts(b, "oneslot_build_info{version=\"" ONESLOT_VERSION "\"} 1\n");
    head(b, "uptime_seconds", "gauge", "Since the broker was started.");
    buf_printf(
        b, "oneslot_uptime_seconds %.3f\n", (double)(clock_mono_ms() - bk->started_ms) / 1000);
}

static void
put_source(struct buf *b, const struct lag_source *s)
{
    gauge(b, "source_connected", s->is_live, "1 while a replicator reports.");
    head(b, "source_state", "gauge", "1 for the state the source is in.");
    for (uint8_t i = API_SOURCE_CONNECTING; i <= API_SOURCE_REFUSED; i++) {
        const char *name = api_source_state_name(i);
        buf_printf(b, "oneslot_source_state{state=\"%s\"} %d\n", name,
            str_eq(str_from(name), str_from(s->state)));
    }
    gauge(b, "source_server_lsn", s->server_lsn, "Where the server's WAL stands; 0: unknown.");
    gauge(b, "source_received_lsn", s->received_lsn, "Received so far; 0: unknown.");
    gauge(b, "source_durable_lsn", s->durable_lsn, "All up to here is on stable storage.");
    gauge(b, "source_acked_lsn", s->acked_lsn, "Acknowledged to PostgreSQL; 0: unknown.");
    if (s->has_lag) {
        gauge(b, "source_lag_bytes", s->lag_bytes, "WAL the server has and the log has not.");
    }
    if (s->has_retained) {
        gauge(b, "source_retained_wal_bytes", (uint64_t)s->retained_wal_bytes,
            "WAL the server keeps for the slot.");
    }
    if (s->has_safe) {
        gauge(b, "source_safe_wal_bytes",
            s->safe_wal_bytes > 0 ? (uint64_t)s->safe_wal_bytes : 0,
            "WAL that may still be written before the slot is in danger.");
    }
}

static void
put_log(struct buf *b, const struct lag_log *l)
{
    const struct journal_info *info = &l->info;
    gauge(b, "log_epoch", info->epoch, "Of the newest segment.");
    gauge(b, "log_earliest_offset", info->earliest.offset, "The first record retained.");
    gauge(b, "log_tail_offset", info->next, "The first offset that is not there yet.");
    gauge(b, "log_records", info->records, "Records retained.");
    gauge(b, "log_bytes", info->bytes, "Bytes of the segments' files.");
    gauge(b, "log_segments", info->segments, "Segments of the log.");
    if (l->has_disk_free) {
        gauge(b, "log_disk_free_bytes", l->disk_free_bytes, "Free bytes where the log lies.");
    }
    gauge(b, "log_full", l->is_full, "1 while retain_bytes holds up the source.");
    gauge(b, "log_out_of_space", l->is_out_of_space, "1 while the disk holds up the source.");
}

static void
put_writer(struct buf *b, const struct broker *bk)
{
    struct writer_stats s;
    writer_stats(bk->writer, &s);
    counter(b, "writer_appends_total", s.appends, "Appends of the replicator.");
    counter(b, "writer_commits_total", s.commits, "Commits of the log.");
    counter(b, "writer_records_total", s.records, "Records logged.");
    counter(b, "writer_transactions_total", s.transactions, "Transactions logged.");
    counter(b, "writer_bytes_total", s.bytes, "Bytes of records logged.");
    counter(b, "writer_duplicate_transactions_total", s.duplicates,
        "Transactions that came again and were dropped.");
}

static void
put_keeper(struct buf *b, const struct broker *bk)
{
    struct keeper_stats s;
    keeper_stats(bk->keeper, &s);
    counter(b, "segments_sealed_total", s.sealed, "Segments sealed.");
    counter(b, "segments_removed_total", s.removed, "Segments removed by retention.");
    counter(b, "segments_evicted_total", s.evicted,
        "Of these, segments that a sink still needed (when_full: evict).");
    gauge(b, "keeper_failing", s.last_error[0] != '\0', "1 while sealing or removing fails.");
}

static void
put_readers(struct buf *b, struct readers *r)
{
    gauge(b, "readers", atomic_load(&r->open), "Open streams of /changes.");
    counter(b, "readers_served_total", atomic_load(&r->served), "Streams begun.");
    counter(b, "readers_refused_total", atomic_load(&r->refused), "Refused: too many.");
    counter(b, "readers_broken_total", atomic_load(&r->broken), "Broken off by an error here.");
    counter(b, "readers_records_total", atomic_load(&r->records), "Records sent.");
    counter(b, "readers_bytes_total", atomic_load(&r->bytes), "Bytes sent.");
}

static void
put_rereads(struct buf *b, struct rereads *r)
{
    struct rereads_stats s;
    rereads_stats(r, &s);
    gauge(b, "rereads_waiting", s.waiting, "Rows that wait to be read again.");
    counter(b, "rereads_asked_total", s.asked, "Requests of sinks to read a row again.");
    counter(b, "rereads_answered_total", s.answered, "Rows read again, or gone.");
    counter(b, "rereads_gone_total", s.gone, "Of these, rows that were no longer there.");
}

/* ---- sinks: one family after the other, a sample per sink ---- */

static bool
sink_next(const struct lag_sink *s, double *v)
{
    *v = (double)s->next; /* below 2^53 */
    return s->is_registered;
}

static bool
sink_behind(const struct lag_sink *s, double *v)
{
    *v = (double)s->records_behind;
    return true;
}

static bool
sink_bytes_behind(const struct lag_sink *s, double *v)
{
    *v = (double)s->bytes_behind;
    return true;
}

static bool
sink_seconds(const struct lag_sink *s, double *v)
{
    *v = s->seconds_behind;
    return s->has_seconds;
}

static bool
sink_rate(const struct lag_sink *s, double *v)
{
    *v = s->records_per_second;
    return true;
}

static bool
sink_dead_letters(const struct lag_sink *s, double *v)
{
    *v = (double)dead_counts_open(&s->letters);
    return true;
}

static bool
sink_letter_bytes(const struct lag_sink *s, double *v)
{
    *v = (double)s->letters.bytes;
    return true;
}

static bool
sink_paused(const struct lag_sink *s, double *v)
{
    *v = s->is_paused;
    return true;
}

#define SINK_COUNT(member)                                                                     \
    static bool sink_##member(const struct lag_sink *s, double *v)                             \
    {                                                                                          \
        *v = (double)s->counts.member;                                                         \
        return true;                                                                           \
    }
SINK_COUNT(records)
SINK_COUNT(requests)
SINK_COUNT(bytes)
SINK_COUNT(stale)
SINK_COUNT(missing)
SINK_COUNT(lossy)
SINK_COUNT(rereads)
SINK_COUNT(lanes)

static bool
sink_retries(const struct lag_sink *s, double *v)
{
    *v = (double)s->retries;
    return true;
}

static bool
sink_success(const struct lag_sink *s, double *v)
{
    *v = (double)s->last_success_us / 1e6;
    return s->last_success_us != 0;
}

static const struct {
    const char *name, *type, *help;
    int decimals;
    bool (*get)(const struct lag_sink *s, double *v);
} sink_metrics[] = {
    {"sink_next_offset", "gauge", "The first offset not settled.", 0, sink_next},
    {"sink_records_behind", "gauge", "Records not settled.", 0, sink_behind},
    {"sink_bytes_behind", "gauge", "Bytes of records not settled.", 0, sink_bytes_behind},
    {"sink_seconds_behind", "gauge", "Age of the first record not settled.", 3, sink_seconds},
    {"sink_records_per_second", "gauge", "Speed over the last reports.", 1, sink_rate},
    {"sink_dead_letters", "gauge", "Records set aside, those to be sent again too.", 0,
        sink_dead_letters},
    {"sink_dead_letter_bytes", "gauge", "What they and their marks take of the quota.", 0,
        sink_letter_bytes},
    {"sink_paused", "gauge", "1 while a person has paused it.", 0, sink_paused},
    {"sink_lanes", "gauge", "Lanes in use.", 0, sink_lanes},
    {"sink_records_total", "counter", "Records settled, in this session.", 0, sink_records},
    {"sink_requests_total", "counter", "Requests to the target, in this session.", 0,
        sink_requests},
    {"sink_bytes_total", "counter", "Bytes sent to the target, in this session.", 0,
        sink_bytes},
    {"sink_stale_total", "counter", "Records that the target had something newer than.", 0,
        sink_stale},
    {"sink_missing_total", "counter", "Deletes of what was not there.", 0, sink_missing},
    {"sink_lossy_total", "counter",
        "Values that the target holds, but does not index or not exactly.", 0, sink_lossy},
    {"sink_rereads_total", "counter", "Rows that it asked to be read again.", 0, sink_rereads},
    {"sink_retries_total", "counter", "Writes tried again, in this session.", 0, sink_retries},
    {"sink_last_success_timestamp_seconds", "gauge", "When the target last accepted records.",
        3, sink_success},
};
enum { NSINK_METRICS = sizeof sink_metrics / sizeof sink_metrics[0] };

/* Names of sinks and kinds are [a-z0-9_-]: nothing in them needs escaping. */
static void
put_sinks(struct buf *b, const struct lag *l)
{
    for (size_t m = 0; m < NSINK_METRICS; m++) {
        const char *name = sink_metrics[m].name;
        head(b, name, sink_metrics[m].type, sink_metrics[m].help);
        for (size_t i = 0; i < l->nsinks; i++) {
            double v;
            if (sink_metrics[m].get(&l->sink[i], &v)) {
                buf_printf(b, "oneslot_%s{sink=\"%s\",kind=\"%s\"} %.*f\n", name,
                    l->sink[i].name, l->sink[i].kind, sink_metrics[m].decimals, v);
            }
        }
    }
    head(b, "sink_state", "gauge", "1 for the state the sink is in.");
    for (size_t i = 0; i < l->nsinks; i++) {
        for (uint8_t state = API_SINK_STARTING; state <= API_SINK_STOPPED; state++) {
            const char *name = api_sink_state_name(state);
            buf_printf(b, "oneslot_sink_state{sink=\"%s\",kind=\"%s\",state=\"%s\"} %d\n",
                l->sink[i].name, l->sink[i].kind, name,
                str_eq(str_from(name), str_from(l->sink[i].state)));
        }
    }
}

void
metrics_get(struct broker *bk, struct httpd_req *rq, struct str name)
{
    struct lag l;
    struct buf auto_buf b;
    (void)name;
    buf_init(&b, METRICS_MAX);
    lag_gather(bk, &l);
    put_build(&b, bk);
    put_source(&b, &l.source);
    put_log(&b, &l.log);
    put_writer(&b, bk);
    put_keeper(&b, bk);
    put_readers(&b, &bk->readers);
    put_rereads(&b, bk->rereads);
    put_sinks(&b, &l);
    lag_fini(&l);
    httpd_respond(rq, 200, METRICS_TYPE, &b);
}
