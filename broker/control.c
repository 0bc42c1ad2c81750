/* control: see control.h. */
#include "broker/control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/lag.h"
#include "broker/problem.h"

enum { CONTROL_JSON_MAX = 4 * 1024 * 1024, REASONS_MAX = 8 };

static void
respond_json(struct httpd_req *rq, struct buf *b)
{
    buf_putc(b, '\n');
    httpd_respond(rq, 200, API_JSON, b);
}

void
control_position(struct broker *bk, struct httpd_req *rq, struct str text)
{
    struct position p;
    struct journal_place place;
    struct err e;
    int rc = position_parse(text, &p, &e);
    if (rc == 0) {
        rc = journal_find(bk->journal, &p, &place, &e);
    }
    if (rc != 0) {
        problem_respond_log(rq, &e, bk->journal);
        return;
    }
    struct buf auto_buf b;
    struct jsonw w;
    buf_init(&b, CONTROL_JSON_MAX);
    jsonw_init(&w, &b);
    problem_put_place(&w, NULL, &place);
    respond_json(rq, &b);
}

/* ---- health ---- */

void
control_healthz(struct broker *bk, struct httpd_req *rq, struct str name)
{
    struct buf auto_buf b;
    (void)bk;
    (void)name;
    buf_init(&b, CONTROL_JSON_MAX);
    buf_puts(&b, "{\"status\":\"ok\"}");
    respond_json(rq, &b);
}

struct reasons {
    size_t n;
    char text[REASONS_MAX][API_TEXT_MAX + 64];
};

static void
add_reason(struct reasons *r, const char *what, const char *why)
{
    if (r->n < REASONS_MAX) {
        (void)snprintf(r->text[r->n++], sizeof r->text[0], "%s%s", what, why);
    }
}

static void
find_reasons(struct broker *bk, struct reasons *r)
{
    struct keeper_stats k;
    if (writer_is_out_of_space(bk->writer)) {
        add_reason(r, "no space left on the disk of data_dir", "");
    }
    if (writer_is_full(bk->writer)) {
        add_reason(r,
            "the log has reached retain_bytes and its oldest segment cannot go: a sink still "
            "needs it, or it is damaged",
            "");
    }
    keeper_stats(bk->keeper, &k);
    if (k.last_error[0] != '\0') {
        add_reason(r, "sealing or removing segments fails: ", k.last_error);
    }
    (void)pthread_mutex_lock(&bk->report_lock);
    if (bk->source.at_ms != 0 && bk->source.status.state == API_SOURCE_REFUSED) {
        add_reason(r, "the source is refused: ", bk->source.last_error);
    }
    (void)pthread_mutex_unlock(&bk->report_lock);
}

static void
put_reasons(struct jsonw *w, const struct reasons *r)
{
    jsonw_array(w, "reasons");
    for (size_t i = 0; i < r->n; i++) {
        jsonw_cstr(w, NULL, r->text[i]);
    }
    jsonw_end_array(w);
    jsonw_end_object(w);
}

void
control_readyz(struct broker *bk, struct httpd_req *rq, struct str name)
{
    struct reasons r = {0};
    struct buf auto_buf b;
    struct jsonw w;
    (void)name;
    find_reasons(bk, &r);
    buf_init(&b, CONTROL_JSON_MAX);
    jsonw_init(&w, &b);
    if (r.n == 0) {
        jsonw_object(&w, NULL);
        jsonw_cstr(&w, "status", "ready");
        put_reasons(&w, &r);
        respond_json(rq, &b);
        return;
    }
    problem_put(&w, 503, str_from(r.text[0]));
    put_reasons(&w, &r);
    buf_putc(&b, '\n');
    httpd_respond(rq, 503, API_PROBLEM, &b);
}

/* ---- sinks ---- */

/* The configuration as it stands in the file, as YAML, secrets masked. */
static void
put_configuration(struct jsonw *w, const struct config_sink *c)
{
    struct buf auto_buf yaml;
    buf_init(&yaml, CONTROL_JSON_MAX / 4);
    if (c == NULL) {
        jsonw_null(w, "configuration");
        return;
    }
    conf_print_node(&yaml, c->node, 0);
    jsonw_str(w, "configuration", buf_str(&yaml));
}

static void
put_tables(struct jsonw *w, const struct config_sink *c)
{
    jsonw_array(w, "tables");
    for (size_t i = 0; c != NULL && i < c->tables.n; i++) {
        jsonw_cstr(w, NULL, c->tables.v[i]);
    }
    jsonw_end_array(w);
}

static void
put_offset(struct jsonw *w, const char *key, bool has, uint64_t offset)
{
    if (has) {
        jsonw_u64(w, key, offset);
    } else {
        jsonw_null(w, key);
    }
}

static void
put_sink(struct jsonw *w, const struct lag_sink *s)
{
    jsonw_object(w, NULL);
    jsonw_cstr(w, "name", s->name);
    jsonw_cstr(w, "kind", s->kind);
    jsonw_cstr(w, "state", s->state);
    jsonw_cstr(w, "last_error", s->last_error[0] == '\0' ? NULL : s->last_error);
    jsonw_bool(w, "configured", s->conf != NULL);
    jsonw_bool(w, "enabled", s->conf != NULL && s->conf->enabled);
    jsonw_bool(w, "registered", s->is_registered);
    put_offset(w, "next", s->is_registered, s->next);
    put_offset(w, "floor", s->is_registered, s->floor);
    jsonw_bool(w, "paused", s->is_paused);
    jsonw_cstr(w, "start", s->conf == NULL ? NULL : s->conf->start_text);
    put_tables(w, s->conf);
    put_configuration(w, s->conf);
    jsonw_end_object(w);
}

void
control_sinks(struct broker *bk, struct httpd_req *rq, struct str name)
{
    struct lag l;
    struct buf auto_buf b;
    struct jsonw w;
    (void)name;
    lag_gather(bk, &l);
    buf_init(&b, CONTROL_JSON_MAX);
    jsonw_init(&w, &b);
    jsonw_object(&w, NULL);
    jsonw_array(&w, "sinks");
    for (size_t i = 0; i < l.nsinks; i++) {
        put_sink(&w, &l.sink[i]);
    }
    jsonw_end_array(&w);
    jsonw_end_object(&w);
    lag_fini(&l);
    respond_json(rq, &b);
}

static void
respond_no_sink(struct httpd_req *rq, struct str name)
{
    problem_respond_text(rq, 404, "no sink is called '%.*s'; GET /sinks names them",
        (int)(name.n < STATE_NAME_MAX ? name.n : STATE_NAME_MAX), name.p);
}

void
control_sink(struct broker *bk, struct httpd_req *rq, struct str name)
{
    struct lag l;
    lag_gather(bk, &l);
    const struct lag_sink *s = lag_find(&l, name);
    if (s == NULL) {
        respond_no_sink(rq, name);
    } else {
        struct buf auto_buf b;
        struct jsonw w;
        buf_init(&b, CONTROL_JSON_MAX);
        jsonw_init(&w, &b);
        put_sink(&w, s);
        respond_json(rq, &b);
    }
    lag_fini(&l);
}
