/* internal_dead: what sink workers say of records that their target cannot accept, and of rows
 * that have to be read again; and the replicator, which reads them. Who may speak for a sink is
 * checked under retain_lock, where its generation changes. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "broker/doubts.h"
#include "broker/internal.h"
#include "broker/problem.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/xmalloc.h"

enum {
    RECORD_MAX = 512 * 1024 * 1024,                           /* beyond the quota */
    LETTERS_BYTES = API_LETTERS_MAX * (2 * API_KEY_MAX + 64), /* of a page, at most */
    DOUBTS_BYTES = API_DOUBTS_MAX * 32                        /* of all of a sink's, at most */
};

static void
respond(struct httpd_req *rq, int rc, const struct err *e, struct buf *b)
{
    broker_end_on_fatal(rc, e);
    if (rc != 0) {
        problem_respond(rq, e);
    } else if (b != NULL) {
        httpd_respond(rq, 200, API_MSGPACK, b);
    } else {
        struct buf empty;
        buf_init(&empty, 0);
        httpd_respond(rq, 204, NULL, &empty);
    }
}

/* Under retain_lock. */
static int
check_generation(struct broker *bk, const char *name, uint64_t generation, struct err *e)
{
    struct sink_row row;
    int rc = state_sink(bk->state, name, &row, e);
    return rc == 0 ? internal_check_generation(&row, generation, e) : rc;
}

/* ---- letters ---- */

static int
bury(struct broker *bk, const char *name, const struct api_bury *b, struct err *e)
{
    uint64_t tail = journal_tail(bk->journal);
    if (b->offset >= tail) {
        return err_set(e, ERR_BEYOND,
            "sink '%s': a letter at offset %" PRIu64 " lies beyond the end of the log (%" PRIu64
            ")",
            name, b->offset, tail);
    }
    (void)pthread_mutex_lock(&bk->retain_lock);
    int rc = check_generation(bk, name, b->generation, e);
    if (rc == 0) {
        rc = dead_bury(bk->dead, name, b, clock_wall_us(), e);
    }
    (void)pthread_mutex_unlock(&bk->retain_lock);
    return rc;
}

void
internal_sink_bury(struct broker *bk, struct httpd_req *rq, struct str name_in_path)
{
    char name[STATE_NAME_MAX];
    struct api_bury b;
    struct err e;
    int rc = internal_sink_name(name_in_path, name, &e);
    if (rc == 0) {
        rc = api_get_bury(httpd_body(rq), &b, &e);
    }
    if (rc == 0) {
        rc = bury(bk, name, &b, &e);
    }
    if (rc == 0) {
        log_warn("dead_letter", "sink=%s offset=%" PRIu64 " state=%s", name, b.offset,
            api_letter_state_name(b.state));
    }
    respond(rq, rc, &e, NULL);
}

void
internal_sink_raise(struct broker *bk, struct httpd_req *rq, struct str name_in_path)
{
    char name[STATE_NAME_MAX];
    struct api_raise r;
    struct err e;
    size_t n = 0;
    int rc = internal_sink_name(name_in_path, name, &e);
    if (rc == 0) {
        rc = api_get_raise(httpd_body(rq), &r, &e);
    }
    if (rc == 0) {
        (void)pthread_mutex_lock(&bk->retain_lock);
        rc = check_generation(bk, name, r.generation, &e);
        if (rc == 0) {
            rc = dead_raise(bk->dead, name, &r, &n, &e);
        }
        (void)pthread_mutex_unlock(&bk->retain_lock);
    }
    if (rc == 0 && n > 0) {
        log_info("letters_raised", "sink=%s offset=%" PRIu64 " letters=%zu", name, r.offset, n);
    }
    respond(rq, rc, &e, NULL);
}

/* A page of letters, keys copied: views end with the walk. */
struct page {
    struct api_letter *letter;
    struct buf keys; /* of the letters, one after the other: they point to nothing yet */
    size_t n, max;
};

static bool
on_letter(void *arg, const struct dead_letter *l)
{
    struct page *p = arg;
    if (p->n == p->max) {
        return false;
    }
    p->letter[p->n++] = (struct api_letter){.offset = l->offset,
        .state = l->state,
        .key = {.n = l->key.n},
        .former = {.n = l->former.n}};
    buf_put_str(&p->keys, l->key);
    buf_put_str(&p->keys, l->former);
    return true;
}

static void
put_page(struct buf *b, struct page *p)
{
    const char *at = p->keys.p;
    for (size_t i = 0; i < p->n; i++) {
        p->letter[i].key.p = at;
        at += p->letter[i].key.n;
        p->letter[i].former.p = at;
        at += p->letter[i].former.n;
    }
    api_put_letters(b, p->letter, p->n);
}

void
internal_sink_letters(struct broker *bk, struct httpd_req *rq, struct str name_in_path)
{
    char name[STATE_NAME_MAX];
    struct err e;
    uint64_t after = 0;
    uint64_t max = API_LETTERS_MAX;
    int rc = internal_sink_name(name_in_path, name, &e);
    if (rc == 0) {
        rc = httpd_query_u64(rq, "after", 0, UINT64_MAX, &after, &e);
    }
    if (rc == 0) {
        rc = httpd_query_u64(rq, "max", 0, API_LETTERS_MAX, &max, &e);
    }
    struct buf auto_buf b;
    buf_init(&b, LETTERS_BYTES);
    if (rc == 0) {
        struct page p = {.max = (size_t)max};
        p.letter = xcalloc(p.max + 1, sizeof *p.letter);
        buf_init(&p.keys, LETTERS_BYTES);
        dead_walk(bk->dead, name, after, on_letter, &p);
        put_page(&b, &p);
        buf_fini(&p.keys);
        free(p.letter);
    }
    respond(rq, rc, &e, &b);
}

/* rest: NAME/letters/OFFSET. */
void
internal_sink_letter(struct broker *bk, struct httpd_req *rq, struct str rest)
{
    static const char between[] = "/letters/";
    const size_t len = sizeof between - 1;
    char name[STATE_NAME_MAX];
    struct err e;
    uint64_t offset = 0;
    const char *slash = memchr(rest.p, '/', rest.n);
    size_t n = slash == NULL ? rest.n : (size_t)(slash - rest.p);
    if (rest.n < n + len || memcmp(rest.p + n, between, len) != 0 ||
        !str_u64((struct str){rest.p + n + len, rest.n - n - len}, UINT64_MAX, &offset)) {
        problem_respond_text(rq, 404, "there is no such internal call");
        return;
    }
    struct buf auto_buf b;
    buf_init(&b, RECORD_MAX);
    int rc = internal_sink_name((struct str){rest.p, n}, name, &e);
    if (rc == 0) {
        rc = dead_record(bk->dead, name, offset, &b, &e);
    }
    respond(rq, rc, &e, &b);
}

/* ---- rows to be read again ---- */

static int
get_doubt(
    struct httpd_req *rq, uint64_t offset, struct api_doubt *ret, bool *ret_has, struct err *e)
{
    struct str text;
    uint64_t table = 0;
    *ret = (struct api_doubt){.offset = offset};
    *ret_has = httpd_query(rq, "doubt", &text);
    int rc = httpd_query_u64(rq, "doubt", 0, UINT64_MAX, &ret->key, e);
    if (rc == 0) {
        rc = httpd_query_u64(rq, "table", 0, UINT32_MAX, &table, e);
    }
    ret->table = (uint32_t)table;
    return rc;
}

void
internal_sink_reread(struct broker *bk, struct httpd_req *rq, struct str name_in_path)
{
    char name[STATE_NAME_MAX];
    struct api_reread q = {0};
    struct sink_row row;
    struct err e;
    int rc = internal_sink_name(name_in_path, name, &e);
    if (rc == 0) {
        rc = state_sink(bk->state, name, &row, &e);
    }
    if (rc == 0) {
        int n = api_get_rereads(httpd_body(rq), &q, 1, &e);
        rc = n < 0 ? n : n == 0 ? err_set(&e, ERR_PARSE, "no row to be read again") : 0;
    }
    struct api_doubt d;
    bool has_doubt = false;
    if (rc == 0) {
        rc = get_doubt(rq, q.offset, &d, &has_doubt, &e);
    }
    if (rc == 0) {
        rc = rereads_ask(bk->rereads, &q, name, has_doubt ? &d : NULL, &e);
    }
    respond(rq, rc, &e, NULL);
}

void
internal_sink_doubts(struct broker *bk, struct httpd_req *rq, struct str name_in_path)
{
    char name[STATE_NAME_MAX];
    struct err e;
    struct buf auto_buf b;
    buf_init(&b, DOUBTS_BYTES);
    int rc = internal_sink_name(name_in_path, name, &e);
    if (rc == 0) {
        auto_free struct api_doubt *d = NULL;
        int n = doubts_list(&bk->dead_folder, name, &d, &e);
        rc = n < 0 ? n : 0;
        if (rc == 0) {
            api_put_doubts(&b, d, (size_t)n);
        }
    }
    respond(rq, rc, &e, &b);
}

/* Of any session: what it says of an offset is true for good. */
void
internal_sink_proven(struct broker *bk, struct httpd_req *rq, struct str name_in_path)
{
    char name[STATE_NAME_MAX];
    struct api_doubt d[API_PROVEN_MAX];
    struct err e;
    int rc = internal_sink_name(name_in_path, name, &e);
    if (rc == 0) {
        rc = api_get_doubts(httpd_body(rq), d, API_PROVEN_MAX, &e);
    }
    if (rc >= 0) {
        rc = doubts_end(&bk->dead_folder, name, d, (size_t)rc, &e);
    }
    respond(rq, rc, &e, NULL);
}

void
internal_rereads(struct broker *bk, struct httpd_req *rq, struct str name)
{
    struct err e;
    uint64_t after = 0;
    uint64_t max = API_LETTERS_MAX;
    (void)name;
    struct buf auto_buf b;
    buf_init(&b, (size_t)REREADS_BYTES_MAX + API_REREAD_MAX);
    int rc = httpd_query_u64(rq, "after", 0, UINT64_MAX, &after, &e);
    if (rc == 0) {
        rc = httpd_query_u64(rq, "max", 0, API_LETTERS_MAX, &max, &e);
    }
    if (rc == 0) {
        rc = rereads_list(bk->rereads, after, (size_t)max, &b, &e);
    }
    respond(rq, rc, &e, &b);
}

void
internal_rereads_done(struct broker *bk, struct httpd_req *rq, struct str name)
{
    struct err e;
    (void)name;
    struct api_reread_done *d = xcalloc(API_LETTERS_MAX, sizeof *d);
    int rc = api_get_rereads_done(httpd_body(rq), d, API_LETTERS_MAX, &e);
    if (rc >= 0) {
        rc = rereads_done(bk->rereads, d, (size_t)rc, &e);
    }
    free(d);
    respond(rq, rc, &e, NULL);
}
