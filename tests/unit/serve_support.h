/* A broker's reading side in this process: a log in a temporary folder, served over TCP and a
 * Unix socket as the broker does, asked by our own client. */
#ifndef ONESLOT_TESTS_SERVE_SUPPORT_H
#define ONESLOT_TESTS_SERVE_SUPPORT_H

#include "log_support.h"

#include "broker/broker.h"
#include "broker/routes.h"
#include "proto/base/clock.h"
#include "proto/base/httpc.h"
#include "proto/base/json.h"

enum { SERVE_WAIT_MS = 20000, SERVE_BODY_MAX = 256 << 20 };

struct serve {
    struct log_fixture log;
    struct broker bk;
    struct config *conf;
    struct httpd *tcp, *local;
    struct httpc *c, *u; /* TCP, Unix */
    char url[64], socket[96];
};

static inline void
serve_tail_moved(void *arg)
{
    struct broker *bk = arg;
    watch_tail(bk->watch, journal_tail(bk->journal));
}

static inline void
serve_config(struct serve *s)
{
    struct err e;
    char text[1024];
    int n = snprintf(text, sizeof text,
        "data_dir: %s\n"
        "source: {dsn: 'host=127.0.0.1 dbname=app user=oneslot password=hush'}\n"
        "sinks:\n"
        "  search: {kind: file, path: ./x.ndjson, tables: ['public.*']}\n"
        "  off: {kind: file, path: ./y.ndjson, enabled: false}\n",
        s->log.dir);
    support_ok(config_load_text("test.yaml", (struct str){text, (size_t)n}, &s->conf, &e), &e);
}

static inline void
serve_listen(struct serve *s)
{
    struct err e;
    (void)snprintf(s->socket, sizeof s->socket, "%s/oneslot.sock", s->log.dir);
    struct httpd_conf tcp = {
        .host = "127.0.0.1",
        .max_connections = 100,
        .threads = 2,
        .idle_timeout_s = 30,
        .buffer_bytes = 128 * 1024,
        .loopback_hosts_only = true,
        .handler = routes_handle,
        .body_limit = routes_body_limit,
        .arg = &s->bk,
    };
    struct httpd_conf local = tcp;
    local.host = NULL;
    local.unix_path = s->socket;
    support_ok(httpd_open(&tcp, &s->tcp, &e), &e);
    support_ok(httpd_open(&local, &s->local, &e), &e);
    (void)snprintf(s->url, sizeof s->url, "http://127.0.0.1:%u", httpd_port(s->tcp));
    s->c = httpc_new(&(struct httpc_conf){.base_url = s->url});
    s->u =
        httpc_new(&(struct httpc_conf){.unix_path = s->socket, .base_url = "http://oneslot"});
}

static inline void
serve_init(struct serve *s, uint64_t segment_bytes)
{
    memset(s, 0, sizeof *s);
    fixture_init(&s->log, segment_bytes, false);
    serve_config(s);
    struct broker *bk = &s->bk;
    bk->conf = s->conf;
    bk->journal = s->log.j;
    bk->state = s->log.st;
    bk->writer = s->log.w;
    struct err e;
    support_ok(
        dead_folder_open(s->log.dir, journal_uuid(bk->journal), &bk->dead_folder, &e), &e);
    support_ok(dead_open(&bk->dead_folder, &bk->dead, &e), &e);
    support_ok(rereads_open(&bk->dead_folder, &bk->rereads, &e), &e);
    bk->started_ms = clock_mono_ms();
    (void)pthread_mutex_init(&bk->retain_lock, NULL);
    (void)pthread_mutex_init(&bk->report_lock, NULL);
    bk->watch = watch_new();
    watch_tail(bk->watch, journal_tail(bk->journal));
    struct keeper_conf kc = {.journal = bk->journal,
        .state = bk->state,
        .writer = bk->writer,
        .retain_lock = &bk->retain_lock,
        .retention = {.retain_age_ms = INT64_C(1) << 50, .retain_bytes = UINT64_MAX}};
    bk->keeper = keeper_start(&kc);
    journal_on_tail(bk->journal, serve_tail_moved, bk);
    serve_listen(s);
}

static inline void
serve_fini(struct serve *s)
{
    httpc_free(s->c);
    httpc_free(s->u);
    watch_stop(s->bk.watch);
    httpd_close(s->local);
    httpd_close(s->tcp);
    assert_int_equal(atomic_load(&s->bk.readers.open), 0);
    keeper_stop(s->bk.keeper);
    watch_free(s->bk.watch);
    rereads_close(s->bk.rereads);
    dead_close(s->bk.dead);
    beside_close(&s->bk.dead_folder);
    free(s->bk.sink);
    (void)pthread_mutex_destroy(&s->bk.retain_lock);
    (void)pthread_mutex_destroy(&s->bk.report_lock);
    config_free(s->conf);
    fixture_fini(&s->log);
}

/* ---- asking ---- */

static inline void
serve_get_as(struct httpc *c, const char *path, const char *accept, struct httpc_resp *rs)
{
    struct err e;
    struct httpc_req rq = {.method = "GET",
        .path = path,
        .accept = accept,
        .timeout_ms = SERVE_WAIT_MS,
        .max_body = SERVE_BODY_MAX};
    support_ok(httpc_call(c, &rq, rs, &e), &e);
}

/* Over TCP; the status must be as expected. */
static inline void
serve_get(struct serve *s, const char *path, long status, struct httpc_resp *rs)
{
    serve_get_as(s->c, path, NULL, rs);
    if (rs->status != status) {
        fail_msg(
            "GET %s: %ld instead of %ld: %s", path, rs->status, status, buf_cstr(&rs->body));
    }
}

static inline struct json *
serve_json(struct serve *s, const char *path, long status)
{
    struct httpc_resp rs = {0};
    struct json *root;
    struct err e;
    serve_get(s, path, status, &rs);
    support_ok(json_parse(buf_str(&rs.body), &root, &e), &e);
    httpc_resp_fini(&rs);
    return root;
}

/* Takes the next line off *rest: whole ones only. */
static inline bool
serve_line(struct str *rest, struct str *ret)
{
    const char *end = rest->n == 0 ? NULL : memchr(rest->p, '\n', rest->n);
    if (end == NULL) {
        return false;
    }
    *ret = (struct str){rest->p, (size_t)(end - rest->p)};
    rest->p = end + 1;
    rest->n -= ret->n + 1;
    return true;
}

/* What is true within SERVE_WAIT_MS, or the test fails. */
#define SERVE_WAIT(condition)                                                                  \
    do {                                                                                       \
        int64_t until_ = clock_mono_ms() + SERVE_WAIT_MS;                                      \
        while (!(condition)) {                                                                 \
            if (clock_mono_ms() > until_) {                                                    \
                fail_msg("never became true: %s", #condition);                                 \
            }                                                                                  \
            clock_sleep_ms(1);                                                                 \
        }                                                                                      \
    } while (0)

#endif
