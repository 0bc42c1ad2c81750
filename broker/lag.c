/* lag: see lag.h. What cannot be told (a damaged segment, a worker that has not reported) is
 * null: /lag answers above all when something is wrong. */
#include "broker/lag.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/problem.h"
#include "proto/base/clock.h"
#include "proto/base/fs.h"
#include "proto/base/xmalloc.h"
#include "proto/lsn.h"

enum { LAG_JSON_MAX = 4 * 1024 * 1024 };

static void
set_text(char *to, size_t size, const char *text)
{
    (void)snprintf(to, size, "%s", text);
}

/* ---- source and log ---- */

static void
gather_source(struct broker *bk, struct lag_source *s)
{
    (void)pthread_mutex_lock(&bk->report_lock);
    struct source_report r = bk->source;
    (void)pthread_mutex_unlock(&bk->report_lock);
    const struct api_source_status *st = &r.status;
    uint64_t proven = writer_proven(bk->writer);
    *s = (struct lag_source){
        .is_live = r.at_ms != 0 && clock_mono_ms() - r.at_ms <= LAG_SOURCE_STALE_MS,
        /* asked every other second: by now it is at least where the stream is */
        .server_lsn = st->server_lsn != 0 && st->server_lsn < proven ? proven : st->server_lsn,
        .received_lsn = st->received_lsn,
        .durable_lsn = proven,
        .acked_lsn = st->acked_lsn,
        .has_lag = st->server_lsn != 0 && proven != 0, /* 0: a log without any position */
        .has_retained = st->has_retained,
        .retained_wal_bytes = st->retained_wal_bytes,
        .has_safe = st->has_safe,
        .safe_wal_bytes = st->safe_wal_bytes,
    };
    s->state = api_source_state_name(s->is_live ? st->state : API_SOURCE_CONNECTING);
    s->lag_bytes = s->server_lsn > s->durable_lsn ? s->server_lsn - s->durable_lsn : 0;
    set_text(s->slot, sizeof s->slot, r.slot[0] != '\0' ? r.slot : bk->conf->source.slot);
    set_text(s->wal_status, sizeof s->wal_status, r.wal_status);
    set_text(s->last_error, sizeof s->last_error,
        s->is_live ? r.last_error : "no replicator is connected");
}

static void
gather_log(struct broker *bk, struct lag_log *l)
{
    *l = (struct lag_log){.is_full = writer_is_full(bk->writer),
        .is_out_of_space = writer_is_out_of_space(bk->writer)};
    struct err ignored;
    journal_info(bk->journal, &l->info);
    l->has_disk_free = fs_free_bytes(bk->conf->data_dir, &l->disk_free_bytes, &ignored) == 0;
}

/* ---- sinks ---- */

uint64_t
lag_records_from(
    const struct journal_segment *seg, size_t n, uint64_t next, uint64_t *ret_first)
{
    uint64_t records = 0;
    uint64_t first = next;
    for (size_t i = 0; i < n; i++) {
        uint64_t from = seg[i].base > next ? seg[i].base : next;
        if (seg[i].next > from) {
            first = records == 0 ? from : first;
            records += seg[i].next - from;
        }
    }
    *ret_first = first;
    return records;
}

void
lag_judge_sink(struct lag_sink *s, bool is_live, uint8_t reported_state)
{
    const char *why = NULL;
    if (s->conf == NULL) {
        s->state = api_sink_state_name(API_SINK_STOPPED);
        why = "not configured any more: the log is kept for it until DELETE /sinks/NAME";
    } else if (!s->conf->enabled) {
        s->state = api_sink_state_name(API_SINK_PAUSED);
        why = "disabled in the configuration: the log is kept for it";
    } else if (s->is_paused) {
        s->state = api_sink_state_name(API_SINK_PAUSED);
    } else if (!is_live) {
        s->state = api_sink_state_name(API_SINK_STARTING);
        why = s->is_registered ? "its worker has not reported yet" : "";
    } else {
        s->state = api_sink_state_name(reported_state);
    }
    if (why != NULL) {
        set_text(s->last_error, sizeof s->last_error, why);
    }
}

void
lag_judge_eta(struct lag_sink *s)
{
    if (s->records_behind == 0) {
        s->has_eta = true;
        s->eta_seconds = 0;
    } else if (s->records_per_second > 0) {
        s->has_eta = true;
        double seconds = (double)s->records_behind / s->records_per_second;
        s->eta_seconds = seconds < 1 ? 1 : seconds;
    } else {
        s->has_eta = false;
    }
}

struct segments {
    struct journal_segment *v;
    size_t n;
};

static struct segments
list_segments(struct journal *j)
{
    struct segments all = {.n = journal_segments(j, NULL, 0)};
    size_t n = all.n;
    all.v = xcalloc(n, sizeof *all.v);
    all.n = journal_segments(j, all.v, n);
    all.n = all.n < n ? all.n : n; /* one that was added meanwhile is seen the next time */
    return all;
}

static void
gather_place(struct journal *j, struct lag_sink *s, const struct segments *all)
{
    struct segment_place txn;
    struct err ignored; /* null says that it cannot be told */
    uint64_t first;
    s->last = (struct journal_place){.offset = s->next - 1};
    if (s->next > 0 && journal_txn_at(j, s->next - 1, &txn, &ignored) == 1) {
        s->last.has_txn = true;
        s->last.lsn = txn.lsn;
        s->last.ts_us = txn.ts_us;
    }
    s->records_behind = lag_records_from(all->v, all->n, s->next, &first);
    if (s->records_behind == 0) {
        s->has_seconds = true;
        return;
    }
    if (journal_bytes_from(j, first, &s->bytes_behind, &ignored) != 0) {
        s->bytes_behind = 0;
    }
    if (journal_txn_at(j, first, &txn, &ignored) == 1) {
        int64_t us = clock_wall_us() - txn.ts_us;
        s->has_seconds = true;
        s->seconds_behind = us > 0 ? (double)us / 1e6 : 0;
    }
}

static void
gather_report(struct broker *bk, struct lag_sink *s)
{
    bool is_live = false;
    uint8_t state = API_SINK_STARTING;
    (void)pthread_mutex_lock(&bk->report_lock);
    for (size_t i = 0; i < bk->nsinks; i++) {
        const struct sink_report *r = &bk->sink[i];
        if (strcmp(r->name, s->name) != 0 || r->at_ms == 0) {
            continue;
        }
        is_live = s->is_registered && r->status.generation == s->generation &&
                  clock_mono_ms() - r->at_ms <= LAG_SINK_STALE_MS;
        state = r->status.state;
        s->records_per_second = is_live ? r->records_per_second : 0;
        s->retries = r->status.retries;
        s->counts = r->status;
        s->last_success_us = r->status.last_success_us;
        set_text(s->last_error, sizeof s->last_error, r->last_error);
    }
    (void)pthread_mutex_unlock(&bk->report_lock);
    lag_judge_sink(s, is_live, state);
}

static struct lag_sink *
add_sink(struct lag *l, const char *name, const char *kind)
{
    l->sink = xreallocarray(l->sink, l->nsinks + 1, sizeof *l->sink);
    struct lag_sink *s = &l->sink[l->nsinks++];
    *s = (struct lag_sink){0};
    set_text(s->name, sizeof s->name, name);
    set_text(s->kind, sizeof s->kind, kind);
    return s;
}

static struct lag_sink *
find_or_add(struct lag *l, const struct sink_row *row)
{
    for (size_t i = 0; i < l->nsinks; i++) {
        if (strcmp(l->sink[i].name, row->name) == 0) {
            return &l->sink[i];
        }
    }
    return add_sink(l, row->name, row->kind);
}

static void
list_sinks(struct broker *bk, struct lag *l)
{
    struct sink_row *row = NULL;
    size_t n, max = 0;
    while ((n = state_sinks(bk->state, row, max)) > max) {
        max = n;
        row = xreallocarray(row, max, sizeof *row);
    }
    for (size_t i = 0; i < bk->conf->nsinks; i++) {
        const struct config_sink *c = &bk->conf->sinks[i];
        add_sink(l, c->name, config_kind_name(c->kind))->conf = c;
    }
    for (size_t i = 0; i < n; i++) {
        struct lag_sink *s = find_or_add(l, &row[i]);
        s->is_registered = true;
        s->next = row[i].next;
        s->floor = row[i].floor;
        s->is_paused = row[i].is_paused;
        dead_counts(bk->dead, row[i].name, &s->letters);
        s->generation = row[i].generation;
    }
    free(row);
}

void
lag_gather(struct broker *bk, struct lag *ret)
{
    *ret = (struct lag){0};
    gather_source(bk, &ret->source);
    list_sinks(bk, ret);
    struct segments all = list_segments(bk->journal);
    for (size_t i = 0; i < ret->nsinks; i++) {
        struct lag_sink *s = &ret->sink[i];
        if (!s->is_registered) { /* it will begin where its `start` says */
            s->has_seconds = true;
        } else {
            gather_place(bk->journal, s, &all);
        }
        gather_report(bk, s);
        lag_judge_eta(s);
    }
    free(all.v);
    gather_log(bk, &ret->log);
}

void
lag_fini(struct lag *l)
{
    free(l->sink);
    *l = (struct lag){0};
}

const struct lag_sink *
lag_find(const struct lag *l, struct str name)
{
    for (size_t i = 0; i < l->nsinks; i++) {
        if (str_is(name, l->sink[i].name)) {
            return &l->sink[i];
        }
    }
    return NULL;
}

/* ---- JSON ---- */

static void
put_lsn(struct jsonw *w, const char *key, uint64_t lsn)
{
    char text[LSN_TEXT_MAX];
    if (lsn == 0) {
        jsonw_null(w, key);
    } else {
        jsonw_str(w, key, (struct str){text, lsn_format(lsn, text)});
    }
}

static void
put_ts(struct jsonw *w, const char *key, bool has, int64_t ts_us)
{
    char text[CLOCK_TEXT_MAX];
    if (has) {
        jsonw_str(w, key, (struct str){text, clock_format_us(ts_us, text)});
    } else {
        jsonw_null(w, key);
    }
}

static void
put_text(struct jsonw *w, const char *key, const char *text)
{
    jsonw_cstr(w, key, text[0] == '\0' ? NULL : text);
}

static void
put_bytes(struct jsonw *w, const char *key, bool has, int64_t v)
{
    if (has) {
        jsonw_i64(w, key, v);
    } else {
        jsonw_null(w, key);
    }
}

static void
put_double(struct jsonw *w, const char *key, bool has, double v, int decimals)
{
    if (has) {
        jsonw_double(w, key, v, decimals);
    } else {
        jsonw_null(w, key);
    }
}

void
lag_put_source(struct jsonw *w, const char *key, const struct lag_source *s)
{
    jsonw_object(w, key);
    jsonw_cstr(w, "state", s->state);
    jsonw_cstr(w, "slot", s->slot);
    put_lsn(w, "server_lsn", s->server_lsn);
    put_lsn(w, "received_lsn", s->received_lsn);
    put_lsn(w, "durable_lsn", s->durable_lsn);
    put_lsn(w, "acked_lsn", s->acked_lsn);
    put_bytes(w, "lag_bytes", s->has_lag, (int64_t)s->lag_bytes);
    put_bytes(w, "retained_wal_bytes", s->has_retained, s->retained_wal_bytes);
    put_text(w, "wal_status", s->wal_status);
    put_bytes(w, "safe_wal_bytes", s->has_safe, s->safe_wal_bytes);
    put_text(w, "last_error", s->last_error);
    jsonw_end_object(w);
}

void
lag_put_log(struct jsonw *w, const char *key, const struct lag_log *l)
{
    const struct journal_info *info = &l->info;
    struct journal_place tail = {.offset = info->next,
        .has_txn = info->has_last,
        .lsn = info->last_lsn,
        .ts_us = info->last_ts_us};
    jsonw_object(w, key);
    problem_put_place(w, "earliest", &info->earliest);
    problem_put_place(w, "tail", &tail);
    jsonw_u64(w, "epoch", info->epoch);
    jsonw_u64(w, "records", info->records);
    jsonw_u64(w, "bytes", info->bytes);
    jsonw_u64(w, "segments", info->segments);
    put_bytes(w, "disk_free_bytes", l->has_disk_free, (int64_t)l->disk_free_bytes);
    jsonw_bool(w, "full", l->is_full);
    jsonw_bool(w, "out_of_space", l->is_out_of_space);
    jsonw_end_object(w);
}

void
lag_put_sink(struct jsonw *w, const char *key, const struct lag_sink *s)
{
    bool has_last = s->is_registered && s->last.has_txn;
    jsonw_object(w, key);
    jsonw_cstr(w, "name", s->name);
    jsonw_cstr(w, "kind", s->kind);
    jsonw_cstr(w, "state", s->state);
    put_bytes(w, "offset", has_last, (int64_t)s->last.offset);
    put_lsn(w, "lsn", has_last ? s->last.lsn : 0);
    put_ts(w, "ts", has_last, s->last.ts_us);
    put_bytes(w, "next", s->is_registered, (int64_t)s->next);
    jsonw_u64(w, "records_behind", s->records_behind);
    jsonw_u64(w, "bytes_behind", s->bytes_behind);
    put_double(w, "seconds_behind", s->has_seconds, s->seconds_behind, 3);
    jsonw_double(w, "records_per_second", s->records_per_second, 1);
    put_double(w, "eta_seconds", s->has_eta, s->eta_seconds, 0);
    jsonw_u64(w, "dead_letters", dead_counts_open(&s->letters));
    jsonw_u64(w, "retries", s->retries);
    put_ts(w, "last_success", s->last_success_us != 0, s->last_success_us);
    put_text(w, "last_error", s->last_error);
    jsonw_end_object(w);
}

void
lag_get(struct broker *bk, struct httpd_req *rq, struct str name)
{
    struct lag l;
    struct buf auto_buf b;
    struct jsonw w;
    (void)name;
    lag_gather(bk, &l);
    buf_init(&b, LAG_JSON_MAX);
    jsonw_init(&w, &b);
    jsonw_object(&w, NULL);
    lag_put_source(&w, "source", &l.source);
    lag_put_log(&w, "log", &l.log);
    jsonw_array(&w, "sinks");
    for (size_t i = 0; i < l.nsinks; i++) {
        lag_put_sink(&w, NULL, &l.sink[i]);
    }
    jsonw_end_array(&w);
    jsonw_end_object(&w);
    buf_putc(&b, '\n');
    lag_fini(&l);
    httpd_respond(rq, 200, API_JSON, &b);
}

void
lag_get_sink(struct broker *bk, struct httpd_req *rq, struct str name)
{
    struct lag l;
    lag_gather(bk, &l);
    const struct lag_sink *s = lag_find(&l, name);
    if (s == NULL) {
        problem_respond_text(rq, 404, "no sink is called '%.*s'; GET /sinks names them",
            (int)(name.n < 64 ? name.n : 64), name.p);
    } else {
        struct buf auto_buf b;
        struct jsonw w;
        buf_init(&b, LAG_JSON_MAX);
        jsonw_init(&w, &b);
        lag_put_sink(&w, NULL, s);
        buf_putc(&b, '\n');
        httpd_respond(rq, 200, API_JSON, &b);
    }
    lag_fini(&l);
}
