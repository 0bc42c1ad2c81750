/* lag: how far everybody is: the source, the log, each sink (interface.md, GET /lag). Gathered
 * once, then rendered as JSON here and as Prometheus text by metrics.c. It changes nothing. */
#ifndef ONESLOT_BROKER_LAG_H
#define ONESLOT_BROKER_LAG_H

#include "broker/broker.h"
#include "proto/base/httpd.h"
#include "proto/base/json.h"

enum {
    LAG_SOURCE_STALE_MS = 10 * 1000, /* no word from the replicator for longer: it is gone */
    LAG_SINK_STALE_MS = 30 * 1000    /* a worker reports every 10 s at least */
};

struct lag_source {
    const char *state;
    char slot[STATE_NAME_MAX], wal_status[STATE_NAME_MAX], last_error[API_TEXT_MAX];
    bool is_live;
    uint64_t server_lsn, received_lsn, durable_lsn, acked_lsn; /* 0: unknown */
    bool has_lag, has_retained, has_safe;
    uint64_t lag_bytes;
    int64_t retained_wal_bytes, safe_wal_bytes;
};

struct lag_log {
    struct journal_info info;
    bool has_disk_free;
    uint64_t disk_free_bytes;
    bool is_full, is_out_of_space;
};

struct lag_sink {
    char name[STATE_NAME_MAX], kind[STATE_NAME_MAX];
    const char *state;
    char last_error[API_TEXT_MAX];
    bool is_registered;               /* the log knows it: retention waits for it */
    const struct config_sink *conf;   /* NULL: not configured any more */
    bool is_paused;                   /* by a person */
    uint64_t next, floor, generation; /* while registered */
    struct journal_place last; /* the record before next; has_txn false: not in the log */
    uint64_t records_behind, bytes_behind;
    bool has_seconds, has_eta;
    double seconds_behind, records_per_second, eta_seconds;
    uint64_t retries;
    struct dead_counts letters;
    struct api_sink_status counts; /* as its worker reported last; without texts */
    int64_t last_success_us;       /* 0: never */
};

struct lag {
    struct lag_source source;
    struct lag_log log;
    struct lag_sink *sink; /* configured ones first, in the order of the file */
    size_t nsinks;
};

void lag_gather(struct broker *bk, struct lag *ret);
void lag_fini(struct lag *l);
const struct lag_sink *lag_find(const struct lag *l, struct str name); /* or NULL */
/* One object each. */
void lag_put_source(struct jsonw *w, const char *key, const struct lag_source *s);
void lag_put_log(struct jsonw *w, const char *key, const struct lag_log *l);
void lag_put_sink(struct jsonw *w, const char *key, const struct lag_sink *s);

void lag_get(struct broker *bk, struct httpd_req *rq, struct str name);
void lag_get_sink(struct broker *bk, struct httpd_req *rq, struct str name);

/* ---- pure ---- */

/* How many records lie at or above `next`, and the first of them. */
uint64_t lag_records_from(
    const struct journal_segment *seg, size_t n, uint64_t next, uint64_t *ret_first);
/* Fills state and last_error (which is left as it is where the worker's own report counts, and
 * for one that a person paused).
 * is_live: the report is of its newest session, and fresh. */
void lag_judge_sink(struct lag_sink *s, bool is_live, uint8_t reported_state);
void lag_judge_eta(struct lag_sink *s);

#endif
