/* letters: see letters.h. */
#include "broker/letters.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "broker/problem.h"
#include "broker/steer.h"
#include "proto/base/clock.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "proto/base/xmalloc.h"
#include "proto/batch.h"
#include "proto/record_json.h"

enum {
    ANSWER_MAX = 15 * 1024 * 1024, /* what our own client takes is 16 MiB */
    PAGE_BYTES = 4 * 1024 * 1024,  /* records go in no more letters beyond this */
    RECORD_MAX = 512 * 1024 * 1024,
    CHANGE_MAX = 8 * 1024 * 1024
};

/* ---- a page ---- */

struct page {
    struct dead_letter *letter; /* keys and texts: copies in `text` */
    size_t n, max;
    char **text;
    bool has_more;
};

static struct str
copy(char **at, struct str s)
{
    struct str to = {*at, s.n};
    if (s.n > 0) {
        memcpy(*at, s.p, s.n);
    }
    *at += s.n;
    return to;
}

static bool
on_letter(void *arg, const struct dead_letter *l)
{
    struct page *p = arg;
    if (p->n == p->max) {
        p->has_more = true;
        return false;
    }
    char *at = xmalloc(l->ns.n + l->table.n + l->op.n + l->reason.n + 1);
    struct dead_letter *to = &p->letter[p->n];
    p->text[p->n++] = at;
    *to = *l;
    to->key = (struct str){NULL, l->key.n};
    to->former = (struct str){NULL, l->former.n};
    to->ns = copy(&at, l->ns);
    to->table = copy(&at, l->table);
    to->op = copy(&at, l->op);
    to->reason = copy(&at, l->reason);
    return true;
}

static void
page_fini(struct page *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->text[i]);
    }
    free(p->text);
    free(p->letter);
}

/* ---- as JSON ---- */

/* The change as /changes shows it. */
static int
render(struct str batch, struct buf *to, struct err *e)
{
    struct batch_reader r;
    struct record record;
    int rc = batch_open(&r, batch, e);
    if (rc != 0) {
        return rc;
    }
    rc = batch_next(&r, &record, e);
    if (rc == 1) {
        record_json_put(to, &record);
    }
    batch_close(&r);
    return rc == 1 ? 0 : rc < 0 ? rc : err_set(e, ERR_CORRUPT, "a dead letter without record");
}

static void
put_raw(struct jsonw *w, const char *key, struct str json)
{
    buf_puts(w->b, w->need_comma ? "," : "");
    json_put_string(w->b, str_from(key));
    buf_putc(w->b, ':');
    buf_put_str(w->b, json);
    w->need_comma = true;
}

/* null: only a mark is left, or the record is too large to be shown here. */
static int
put_change(struct broker *bk, struct jsonw *w, const char *sink, const struct dead_letter *l,
    struct err *e)
{
    struct buf auto_buf batch;
    struct buf auto_buf change;
    buf_init(&batch, RECORD_MAX);
    buf_init(&change, CHANGE_MAX);
    int rc =
        l->record_bytes == 0 ? ERR_NOTFOUND : dead_record(bk->dead, sink, l->offset, &batch, e);
    if (rc == 0) {
        rc = render(buf_str(&batch), &change, e);
    }
    if (rc != 0 && rc != ERR_NOTFOUND) {
        return rc;
    }
    if (rc == 0 && buf_ok(&change)) {
        put_raw(w, "change", buf_str(&change));
    } else {
        jsonw_null(w, "change");
    }
    return 0;
}

static void
put_time(struct jsonw *w, const char *key, int64_t us)
{
    char text[CLOCK_TEXT_MAX];
    jsonw_str(w, key, (struct str){text, clock_format_us(us, text)});
}

static void
put_text(struct jsonw *w, const char *key, struct str s)
{
    if (s.n > 0) {
        jsonw_str(w, key, s);
    } else {
        jsonw_null(w, key);
    }
}

static int
put_letter(struct broker *bk, struct jsonw *w, const char *sink, const struct dead_letter *l,
    bool with_record, struct err *e)
{
    int rc = 0;
    jsonw_object(w, NULL);
    jsonw_u64(w, "offset", l->offset);
    jsonw_cstr(w, "state", api_letter_state_name(l->state));
    put_text(w, "schema", l->ns);
    put_text(w, "table", l->table);
    jsonw_str(w, "op", l->op);
    jsonw_str(w, "reason", l->reason);
    jsonw_u64(w, "attempts", l->attempts);
    put_time(w, "first", l->first_us);
    put_time(w, "last", l->last_us);
    jsonw_bool(w, "keyed", l->key.n > 0);
    jsonw_u64(w, "bytes", l->record_bytes);
    if (with_record) {
        rc = put_change(bk, w, sink, l, e);
    }
    jsonw_end_object(w);
    return rc;
}

static void
put_counts(struct broker *bk, struct jsonw *w, const char *sink)
{
    struct dead_counts c;
    dead_counts(bk->dead, sink, &c);
    for (uint8_t i = API_LETTER_DEAD; i <= API_LETTER_REREAD; i++) {
        jsonw_u64(w, api_letter_state_name(i), c.by_state[i]);
    }
    jsonw_u64(w, "bytes", c.bytes);
}

/* A page of letters; the records in it end it early when they are large. */
static int
put_page(struct broker *bk, struct buf *b, const char *sink, struct page *p, bool with_record,
    struct err *e)
{
    struct jsonw w;
    size_t i = 0;
    int rc = 0;
    jsonw_init(&w, b);
    jsonw_object(&w, NULL);
    jsonw_cstr(&w, "sink", sink);
    put_counts(bk, &w, sink);
    jsonw_array(&w, "letters");
    for (; rc == 0 && i < p->n && b->n < PAGE_BYTES; i++) {
        rc = put_letter(bk, &w, sink, &p->letter[i], with_record, e);
    }
    jsonw_end_array(&w);
    if (i > 0 && (i < p->n || p->has_more)) {
        jsonw_u64(&w, "after", p->letter[i - 1].offset);
    } else {
        jsonw_null(&w, "after");
    }
    jsonw_end_object(&w);
    return rc;
}

struct query {
    uint64_t after, limit, record;
};

static int
parse_query(const struct httpd_req *rq, struct query *q, struct err *e)
{
    *q = (struct query){.limit = LETTERS_PAGE};
    int rc = httpd_query_u64(rq, "after", 0, INT64_MAX, &q->after, e);
    if (rc == 0) {
        rc = httpd_query_u64(rq, "limit", 1, API_LETTERS_MAX, &q->limit, e);
    }
    return rc == 0 ? httpd_query_u64(rq, "record", 0, 1, &q->record, e) : rc;
}

/* 404 for a name that nobody has; a sink that was never started has no letters. */
static int
check_known(struct broker *bk, const char *name, struct err *e)
{
    struct sink_row row;
    int rc = state_sink(bk->state, name, &row, e);
    if (rc != ERR_NOTFOUND || config_sink_find(bk->conf, name) != NULL) {
        return rc == ERR_NOTFOUND ? 0 : rc;
    }
    return err_set(e, rc, "no sink is called '%s'; GET /sinks names them", name);
}

void
letters_get(struct broker *bk, struct httpd_req *rq, struct str name_in_path)
{
    char name[STATE_NAME_MAX];
    struct query q;
    struct err e;
    if (!steer_name(rq, name_in_path, name)) {
        return;
    }
    int rc = parse_query(rq, &q, &e);
    if (rc == 0) {
        rc = check_known(bk, name, &e);
    }
    struct buf auto_buf b;
    buf_init(&b, ANSWER_MAX);
    if (rc == 0) {
        struct page p = {.max = (size_t)q.limit};
        p.letter = xcalloc(p.max, sizeof *p.letter);
        p.text = xcalloc(p.max, sizeof *p.text);
        dead_walk(bk->dead, name, q.after, on_letter, &p);
        rc = put_page(bk, &b, name, &p, q.record == 1, &e);
        page_fini(&p);
    }
    if (rc != 0) {
        problem_respond(rq, &e);
        return;
    }
    buf_putc(&b, '\n');
    httpd_respond(rq, 200, API_JSON, &b);
}

/* ---- a person's word ---- */

static int
parse_ids(const struct json *list, uint64_t *ids, size_t *ret_n, struct err *e)
{
    size_t n = json_size(list);
    if (!json_is_array(list) || n == 0 || n > API_LETTERS_MAX) {
        return err_set(
            e, ERR_PARSE, "ids: a list of 1 to %d offsets of dead letters", API_LETTERS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        int64_t v;
        if (!json_i64(json_at(list, i), &v) || v < 0) {
            return err_set(e, ERR_PARSE, "ids: offsets of dead letters, whole numbers");
        }
        ids[i] = (uint64_t)v;
    }
    *ret_n = n;
    return 0;
}

static int
parse_members(const struct json *root, uint64_t *ids, size_t *ret_n, struct err *e)
{
    const char *key = "";
    const struct json *j = json_size(root) == 1 ? json_member(root, 0, &key) : NULL;
    bool all = false;
    if (json_is_object(root) && strcmp(key, "ids") == 0) {
        return parse_ids(j, ids, ret_n, e);
    }
    if (json_is_object(root) && strcmp(key, "all") == 0 && json_bool(j, &all) && all) {
        *ret_n = 0;
        return 0;
    }
    return err_set(e, ERR_PARSE, "the body has to be {\"ids\":[OFFSET,...]} or {\"all\":true}");
}

int
letters_parse(struct str body, uint64_t *ids, size_t *ret_n, struct err *e)
{
    struct json *root;
    int rc = json_parse(body, &root, e);
    if (rc == 0) {
        rc = parse_members(root, ids, ret_n, e);
        json_free(root);
    }
    return rc;
}

typedef int change_f(struct dead *d, const char *sink, const uint64_t *ids, size_t n,
    size_t *ret_n, struct err *e);

/* The worker is fenced first: should we die between, it opens a session for nothing, but none
 * goes on without having been told. */
static int
change(struct broker *bk, const char *name, change_f *fn, const uint64_t *ids, size_t n,
    size_t *ret_n, struct err *e)
{
    (void)pthread_mutex_lock(&bk->retain_lock);
    int rc = check_known(bk, name, e);
    if (rc == 0) {
        rc = dead_check(bk->dead, name, ids, n, e);
    }
    if (rc == 0) {
        rc = steer_fence(bk, name, e);
    }
    if (rc == 0) {
        rc = fn(bk->dead, name, ids, n, ret_n, e);
    }
    (void)pthread_mutex_unlock(&bk->retain_lock);
    broker_end_on_fatal(rc, e);
    return rc;
}

static void
answer_change(struct broker *bk, struct httpd_req *rq, struct str name_in_path, change_f *fn,
    const char *event)
{
    char name[STATE_NAME_MAX];
    struct err e;
    size_t n = 0;
    size_t changed = 0;
    if (!steer_name(rq, name_in_path, name)) {
        return;
    }
    uint64_t *ids = xcalloc(API_LETTERS_MAX, sizeof *ids);
    int rc = letters_parse(httpd_body(rq), ids, &n, &e);
    if (rc == 0) {
        rc = change(bk, name, fn, ids, n, &changed, &e);
    }
    free(ids);
    if (rc != 0) {
        problem_respond(rq, &e);
        return;
    }
    log_info(event, "sink=%s letters=%zu", log_quote(name), changed);
    struct buf auto_buf b;
    struct jsonw w;
    buf_init(&b, ANSWER_MAX);
    jsonw_init(&w, &b);
    jsonw_object(&w, NULL);
    jsonw_u64(&w, "letters", changed);
    jsonw_end_object(&w);
    buf_putc(&b, '\n');
    httpd_respond(rq, 200, API_JSON, &b);
}

void
letters_retry(struct broker *bk, struct httpd_req *rq, struct str name)
{
    answer_change(bk, rq, name, dead_retry, "letters_retry");
}

void
letters_discard(struct broker *bk, struct httpd_req *rq, struct str name)
{
    answer_change(bk, rq, name, dead_discard, "letters_discarded");
}
