/* changes: GET /changes over real connections, from a real log (P7, P10). */
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "serve_support.h"

#include "proto/base/mp.h"

static const int64_t t0_us = INT64_C(1795341600000000); /* 2026-11-22T10:00:00Z */

/* ---- a log: 10 transactions of 3 rows, at LSN 0x1000, 0x1100, ..., a second apart ---- */

enum { NTXNS = 10, NROWS = 3 };

static void
append_txns(struct serve *s, unsigned from, unsigned to, unsigned nrows)
{
    for (unsigned i = from; i < to; i++) {
        put_txn(&s->log, 700 + i, 0x1000 + 0x100 * (uint64_t)i, t0_us + i * INT64_C(1000000),
            nrows);
        (void)fixture_append_ok(&s->log);
    }
}

static void
serve_small(struct serve *s)
{
    serve_init(s, 16 << 20);
    put_schema(&s->log, s->log.session.next_schema);
    append_txns(s, 0, NTXNS, NROWS);
}

/* ---- what an answer holds ---- */

struct seen {
    size_t n;
    uint64_t first, last;
    bool is_dense;
};

static void
see_line(struct seen *seen, struct str line)
{
    struct json *j;
    struct err e;
    int64_t offset;
    support_ok(json_parse(line, &j, &e), &e);
    assert_true(json_i64(json_get(j, "offset"), &offset));
    seen->is_dense = (seen->n == 0 || seen->is_dense) &&
                     (seen->n == 0 || (uint64_t)offset == seen->last + 1);
    seen->first = seen->n == 0 ? (uint64_t)offset : seen->first;
    seen->last = (uint64_t)offset;
    seen->n++;
    json_free(j);
}

static struct seen
see(struct str body)
{
    struct seen seen = {0};
    struct str line;
    while (serve_line(&body, &line)) {
        see_line(&seen, line);
    }
    assert_int_equal(body.n, 0); /* the last line is whole */
    return seen;
}

static struct seen
get_seen(struct serve *s, const char *path)
{
    struct httpc_resp rs = {0};
    serve_get(s, path, 200, &rs);
    assert_string_equal(rs.content_type, "application/x-ndjson");
    struct seen seen = see(buf_str(&rs.body));
    httpc_resp_fini(&rs);
    return seen;
}

static struct seen
get_seenf(struct serve *s, const char *fmt, uint64_t v)
{
    char path[256];
    (void)snprintf(path, sizeof path, "/changes?%s%llu", fmt, (unsigned long long)v);
    return get_seen(s, path);
}

static void
test_everything(void **state)
{
    (void)state;
    struct serve s;
    serve_small(&s);
    struct httpc_resp rs = {0};
    serve_get(&s, "/changes", 200, &rs);
    struct seen seen = see(buf_str(&rs.body));
    assert_int_equal(seen.n, NTXNS * NROWS);
    assert_true(seen.is_dense);
    assert_true(seen.first == journal_earliest(s.bk.journal));
    assert_true(seen.last + 1 == journal_tail(s.bk.journal));
    struct str rest = buf_str(&rs.body);
    struct str line;
    char want[1024];
    assert_true(serve_line(&rest, &line) && serve_line(&rest, &line));
    (void)snprintf(want, sizeof want,
        "{\"offset\":%llu,\"lsn\":\"0/1000\",\"seq\":1,\"xid\":700,"
        "\"ts\":\"2026-11-22T10:00:00.000000Z\",\"epoch\":1,\"op\":\"insert\","
        "\"schema\":\"public\",\"table\":\"t\",\"key\":{\"id\":\"4096-1\"},"
        "\"new\":{\"id\":\"4096-1\",\"v\":\"some value of a row ",
        (unsigned long long)seen.first + 1);
    assert_memory_equal(line.p, want, strlen(want));
    httpc_resp_fini(&rs);
    serve_fini(&s);
}

/* Each position names the first record of the answer, as an index into the log. */
static const struct {
    const char *from;
    unsigned first; /* NTXNS * NROWS: nothing */
} positions[] = {
    {"earliest", 0},
    {"latest", NTXNS *NROWS},
    {"0/0", 0},
    {"0/1000", 0},         /* a commit LSN replays that transaction */
    {"0/1008", NROWS},     /* its end LSN starts after it */
    {"0/1001", NROWS},     /* between two */
    {"1:0/1100", NROWS},   /* with its epoch */
    {"0/1900", 9 * NROWS}, /* the last one */
    {"0/1901", NTXNS *NROWS},
    {"2026-11-22T09:00:00Z", 0},
    {"2026-11-22T10:00:00Z", 0},
    {"2026-11-22T10:00:00.000001Z", NROWS},
    {"2026-11-22T11:00:05%2B01:00", 5 * NROWS},
    {"2027-01-01T00:00:00Z", NTXNS *NROWS},
};

static void
test_positions(void **state)
{
    (void)state;
    struct serve s;
    serve_small(&s);
    uint64_t earliest = journal_earliest(s.bk.journal);
    for (size_t i = 0; i < sizeof positions / sizeof positions[0]; i++) {
        char path[128];
        (void)snprintf(path, sizeof path, "/changes?from=%s", positions[i].from);
        struct seen seen = get_seen(&s, path);
        if (seen.n != NTXNS * NROWS - positions[i].first ||
            (seen.n > 0 && seen.first != earliest + positions[i].first)) {
            fail_msg("from=%s: %zu records", positions[i].from, seen.n);
        }
    }
    for (uint64_t i = 0; i <= NTXNS * NROWS; i++) { /* by offset, into transactions too */
        struct seen seen = get_seenf(&s, "from=", earliest + i);
        assert_int_equal(seen.n, NTXNS * NROWS - i);
        assert_true(seen.n == 0 || seen.first == earliest + i);
    }
    serve_fini(&s);
}

static const struct {
    const char *query;
    unsigned n;
} untils[] = {
    {"until=earliest", NROWS}, /* its transaction */
    {"until=latest", NTXNS *NROWS},
    {"until=0/0FFF", 0},
    {"until=0/1000", NROWS},
    {"until=0/10FF", NROWS},
    {"until=0/1200", 3 * NROWS},
    {"until=1:0/1200", 3 * NROWS},
    {"until=9/0", NTXNS *NROWS}, /* beyond the tail: what there is */
    {"until=2026-11-22T10:00:04Z", 5 * NROWS},
    {"from=0/1100&until=0/1200", 2 * NROWS},
    {"from=0/1300&until=0/1200", 0},
    {"limit=1", 1},
    {"limit=4", 4}, /* cuts a transaction */
    {"limit=1000", NTXNS *NROWS},
    {"from=0/1100&until=0/1200&limit=5", 5},
    {"ops=insert,delete", NTXNS *NROWS},
    {"ops=delete", 0},
    {"tables=t", NTXNS *NROWS},
    {"tables=public.*", NTXNS *NROWS},
    {"tables=fabric.*,public.x", 0},
};

static void
test_until_limit_filter(void **state)
{
    (void)state;
    struct serve s;
    serve_small(&s);
    for (size_t i = 0; i < sizeof untils / sizeof untils[0]; i++) {
        char path[128];
        (void)snprintf(path, sizeof path, "/changes?%s", untils[i].query);
        struct seen seen = get_seen(&s, path);
        if (seen.n != untils[i].n || !(seen.n == 0 || seen.is_dense)) {
            fail_msg("%s: %zu records", untils[i].query, seen.n);
        }
    }
    uint64_t earliest = journal_earliest(s.bk.journal);
    /* The whole transaction of an offset, whichever of its records it names. */
    assert_int_equal(get_seenf(&s, "until=", earliest + 3).n, 2 * NROWS);
    assert_int_equal(get_seenf(&s, "until=", earliest + 5).n, 2 * NROWS);
    assert_int_equal(get_seenf(&s, "until=", earliest + 6).n, 3 * NROWS);
    serve_fini(&s);
}

static void
put_message(struct log_fixture *f, uint64_t lsn)
{
    frame_put_begin(
        &f->frames, &(struct frame_begin_txn){.kind = FRAME_TXN_MESSAGE, .lsn = lsn});
    size_t start = frame_begin(&f->frames, FRAME_MESSAGE, 0, 0);
    mp_put_array(&f->frames, 2);
    mp_put_str(&f->frames, STR("app"));
    mp_put_bin(&f->frames, STR("hello"));
    frame_end(&f->frames, start);
    frame_put_commit(
        &f->frames, &(struct frame_commit){
                        .kind = FRAME_TXN_MESSAGE, .lsn = lsn, .end_lsn = lsn, .ts_us = t0_us});
}

static void
test_messages_have_no_table(void **state)
{
    (void)state;
    struct serve s;
    serve_small(&s);
    put_message(&s.log, 0x5000);
    (void)fixture_append_ok(&s.log);
    assert_int_equal(get_seen(&s, "/changes").n, NTXNS * NROWS + 1);
    assert_int_equal(get_seen(&s, "/changes?ops=message").n, 1);
    assert_int_equal(get_seen(&s, "/changes?tables=*.*").n, NTXNS * NROWS);
    assert_int_equal(get_seen(&s, "/changes?tables=*.*&ops=message").n, 0);
    serve_fini(&s);
}

/* ---- refusals ---- */

static const struct {
    const char *path;
    long status;
    const char *detail, *member; /* what the problem names */
} refusals[] = {
    {"/changes?from=nowhere", 400, "from", NULL},
    {"/changes?since=1", 400, "'since'", NULL},
    {"/changes?format=debezium", 400, "not in this version", NULL},
    {"/changes?from=5:0/1000", 409, "epoch", NULL},
    {"/changes?until=5:0/1000", 409, "epoch", NULL},
    {"/changes?from=17", 410, "retained", "earliest"},
    {"/changes?until=17", 410, "retained", "earliest"},
    {"/changes?from=18446744073709551615", 416, "beyond", "tail"},
    {"/changesx", 404, "GET /", NULL},
};

static void
test_refusals(void **state)
{
    (void)state;
    struct serve s;
    serve_small(&s);
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct json *j = serve_json(&s, refusals[i].path, refusals[i].status);
        struct str detail;
        int64_t status;
        assert_true(json_str(json_get(j, "detail"), &detail));
        if (memmem(detail.p, detail.n, refusals[i].detail, strlen(refusals[i].detail)) ==
            NULL) {
            fail_msg("%s: %.*s", refusals[i].path, (int)detail.n, detail.p);
        }
        assert_true(json_i64(json_get(j, "status"), &status));
        assert_int_equal(status, refusals[i].status);
        if (refusals[i].member != NULL) {
            assert_true(json_i64(json_get(json_get(j, refusals[i].member), "offset"), &status));
        }
        json_free(j);
    }
    serve_fini(&s);
}

static void
test_too_many_readers(void **state)
{
    (void)state;
    struct serve s;
    serve_small(&s);
    atomic_store(&s.bk.readers.open, READERS_MAX);
    struct httpc_resp rs = {0};
    serve_get(&s, "/changes", 429, &rs);
    assert_int_equal(rs.retry_after_ms, 1000);
    atomic_store(&s.bk.readers.open, READERS_MAX - 1);
    serve_get(&s, "/changes", 200, &rs);
    SERVE_WAIT(atomic_load(&s.bk.readers.open) == READERS_MAX - 1);
    atomic_store(&s.bk.readers.open, 0);
    assert_int_equal(atomic_load(&s.bk.readers.refused), 1);
    httpc_resp_fini(&rs);
    serve_fini(&s);
}

/* ---- following ---- */

struct follower {
    struct serve *s;
    char path[128];
    const char *accept;
    pthread_t thread;
    struct buf body;
    atomic_size_t got; /* bytes of body */
    int rc;
};

static int
take_piece(void *arg, struct str piece, struct err *e)
{
    struct follower *f = arg;
    (void)e;
    buf_put_str(&f->body, piece);
    atomic_store(&f->got, f->body.n);
    return 0;
}

static void *
follow_main(void *arg)
{
    struct follower *f = arg;
    struct httpc *c = httpc_new(&(struct httpc_conf){.base_url = f->s->url});
    struct httpc_resp rs = {0};
    struct err e;
    struct httpc_req rq = {.method = "GET",
        .path = f->path,
        .accept = f->accept,
        .timeout_ms = SERVE_WAIT_MS,
        .max_body = SERVE_BODY_MAX};
    f->rc = httpc_stream(c, &rq, take_piece, f, &rs, &e);
    httpc_resp_fini(&rs);
    httpc_free(c);
    return NULL;
}

static void
follow_start(struct follower *f, struct serve *s, const char *path)
{
    *f = (struct follower){.s = s};
    (void)snprintf(f->path, sizeof f->path, "%s", path);
    buf_init(&f->body, SERVE_BODY_MAX);
    assert_int_equal(pthread_create(&f->thread, NULL, follow_main, f), 0);
}

static struct seen
follow_end(struct follower *f, int rc)
{
    assert_int_equal(pthread_join(f->thread, NULL), 0);
    assert_int_equal(f->rc, rc);
    struct seen seen = see(buf_str(&f->body));
    buf_fini(&f->body);
    return seen;
}

static void
test_following(void **state)
{
    (void)state;
    struct serve s;
    struct follower by_limit;
    struct follower by_lsn;
    struct follower by_offset;
    struct follower latest;
    char path[128];
    serve_small(&s);
    uint64_t earliest = journal_earliest(s.bk.journal);
    follow_start(&by_limit, &s, "/changes?follow=1&limit=60");
    follow_start(&by_lsn, &s, "/changes?follow=1&until=0/2300"); /* the 20th */
    (void)snprintf(path, sizeof path, "/changes?follow=1&until=%llu",
        (unsigned long long)earliest + 20 * NROWS - 1);
    follow_start(&by_offset, &s, path);
    follow_start(&latest, &s, "/changes?from=latest&follow=1&limit=30");
    SERVE_WAIT(atomic_load(&s.bk.readers.served) == 4);
    append_txns(&s, NTXNS, 20, NROWS);
    struct seen seen = follow_end(&by_limit, 0);
    assert_int_equal(seen.n, 60);
    assert_true(seen.is_dense && seen.first == earliest);
    seen = follow_end(&by_lsn, 0); /* ended without a transaction beyond it */
    assert_int_equal(seen.n, 60);
    assert_true(seen.is_dense);
    seen = follow_end(&by_offset, 0);
    assert_int_equal(seen.n, 60);
    seen = follow_end(&latest, 0);
    assert_int_equal(seen.n, 30);
    assert_true(seen.is_dense && seen.first == earliest + 30);
    serve_fini(&s);
}

/* Followers are there when the broker stops: their answers are broken off, not ended. */
static void
test_stop_breaks_followers_off(void **state)
{
    (void)state;
    struct serve s;
    struct follower f[3];
    serve_small(&s);
    for (int i = 0; i < 3; i++) {
        follow_start(&f[i], &s, "/changes?follow=1");
    }
    for (int i = 0; i < 3; i++) {
        SERVE_WAIT(atomic_load(&f[i].got) > 0);
    }
    serve_fini(&s);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(follow_end(&f[i], ERR_CLOSED).n, NTXNS * NROWS);
    }
}

static void
test_wait(void **state)
{
    (void)state;
    struct serve s;
    struct follower f;
    serve_small(&s);
    /* Nothing comes: empty after the seconds. */
    int64_t from_ms = clock_mono_ms();
    assert_int_equal(get_seen(&s, "/changes?from=latest&wait=1").n, 0);
    assert_true(clock_mono_ms() - from_ms >= 990);
    /* There is something: no waiting. */
    assert_int_equal(get_seen(&s, "/changes?from=0/1900&wait=300").n, NROWS);
    /* Something comes that the filter leaves out, then something that it does not. */
    uint64_t served = atomic_load(&s.bk.readers.served);
    follow_start(&f, &s, "/changes?from=latest&wait=300&ops=message");
    /* Begun, so `latest` is a place; `open` may still count the request before it. */
    SERVE_WAIT(atomic_load(&s.bk.readers.served) == served + 1);
    append_txns(&s, NTXNS, NTXNS + 1, NROWS);
    put_message(&s.log, 0x9000);
    (void)fixture_append_ok(&s.log);
    assert_int_equal(follow_end(&f, 0).n, 1);
    serve_fini(&s);
}

/* ---- bare sockets ---- */

/* Asks over a connection of its own and leaves it open. */
static int
ask(struct serve *s, const char *path)
{
    char request[256];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(httpd_port(s->tcp))};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)(void *)&at, sizeof at), 0);
    int n = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
    assert_int_equal(write(fd, request, (size_t)n), n);
    return fd;
}

static void
test_headers(void **state)
{
    (void)state;
    struct serve s;
    char answer[4096];
    char want[64];
    size_t n = 0;
    ssize_t got;
    serve_small(&s);
    uint64_t earliest = journal_earliest(s.bk.journal);
    int fd = ask(&s, "/changes?from=latest");
    while ((got = read(fd, answer + n, sizeof answer - 1 - n)) > 0) {
        n += (size_t)got;
    }
    answer[n] = '\0';
    (void)close(fd);
    (void)snprintf(
        want, sizeof want, "\r\nOneslot-Earliest: %llu\r\n", (unsigned long long)earliest);
    assert_non_null(strstr(answer, want));
    (void)snprintf(want, sizeof want, "\r\nOneslot-Tail: %llu\r\n",
        (unsigned long long)earliest + NTXNS * NROWS);
    assert_non_null(strstr(answer, want));
    assert_non_null(strstr(answer, "\r\nOneslot-Epoch: 1\r\n"));
    serve_fini(&s);
}

/* Nobody looks at the socket of a request that waits: the next wake does, whatever it brings.
 */
static void
test_follower_that_vanished_gives_its_place_back(void **state)
{
    (void)state;
    struct serve s;
    serve_small(&s);
    int fd = ask(&s, "/changes?follow=1&ops=message");
    SERVE_WAIT(atomic_load(&s.bk.readers.served) == 1);
    (void)close(fd);
    append_txns(&s, NTXNS, NTXNS + 1, NROWS);
    SERVE_WAIT(atomic_load(&s.bk.readers.open) == 0);
    serve_fini(&s);
}

/* ---- other formats ---- */

static void
test_sse(void **state)
{
    (void)state;
    struct serve s;
    struct httpc_resp rs = {0};
    serve_small(&s);
    uint64_t earliest = journal_earliest(s.bk.journal);
    serve_get_as(s.c, "/changes?limit=2", "text/event-stream", &rs);
    assert_int_equal(rs.status, 200);
    assert_string_equal(rs.content_type, "text/event-stream");
    struct str rest = buf_str(&rs.body);
    struct str line = {0};
    for (uint64_t i = 0; i < 2; i++) {
        char want[64];
        struct seen seen = {0};
        (void)snprintf(want, sizeof want, "id: %llu", (unsigned long long)(earliest + i));
        assert_true(serve_line(&rest, &line) && str_is(line, want));
        assert_true(serve_line(&rest, &line) && memcmp(line.p, "data: ", 6) == 0);
        see_line(&seen, (struct str){line.p + 6, line.n - 6});
        assert_true(seen.first == earliest + i);
        assert_true(serve_line(&rest, &line) && line.n == 0);
    }
    assert_int_equal(rest.n, 0);
    httpc_resp_fini(&rs);
    serve_fini(&s);
}

static void
test_sse_resumes(void **state)
{
    (void)state;
    struct serve s;
    struct httpc_resp rs = {0};
    struct err e;
    char id[64];
    char want[64];
    serve_small(&s);
    uint64_t earliest = journal_earliest(s.bk.journal);
    (void)snprintf(id, sizeof id, "Last-Event-ID: %llu", (unsigned long long)(earliest + 4));
    (void)snprintf(want, sizeof want, "id: %llu\n", (unsigned long long)(earliest + 5));
    const char *headers[] = {id, NULL};
    struct httpc_req rq = {.method = "GET",
        .path = "/changes?from=earliest&limit=1",
        .accept = "text/event-stream",
        .headers = headers,
        .timeout_ms = SERVE_WAIT_MS,
        .max_body = SERVE_BODY_MAX};
    support_ok(httpc_call(s.c, &rq, &rs, &e), &e);
    assert_int_equal(rs.status, 200);
    assert_memory_equal(rs.body.p, want, strlen(want));
    httpc_resp_fini(&rs);
    serve_fini(&s);
}

static void
test_msgpack(void **state)
{
    (void)state;
    struct serve s;
    struct httpc_resp rs = {0};
    struct mp m;
    serve_small(&s);
    serve_get_as(s.c, "/changes", "application/msgpack", &rs);
    assert_int_equal(rs.status, 200);
    mp_init(&m, buf_str(&rs.body));
    uint64_t offset = journal_earliest(s.bk.journal);
    while (mp_peek(&m) == MP_MAP) {
        uint32_t n = mp_map(&m);
        for (uint32_t i = 0; i < n; i++) {
            struct str key = mp_str(&m);
            if (str_is(key, "offset")) {
                assert_true(mp_u64(&m) == offset);
            } else {
                mp_skip(&m);
            }
        }
        offset++;
    }
    assert_true(mp_done(&m));
    assert_true(offset == journal_tail(s.bk.journal));
    httpc_resp_fini(&rs);
    serve_fini(&s);
}

/* ---- sizes ---- */

static void
put_large(struct serve *s, uint64_t lsn, size_t bytes)
{
    char *v = malloc(bytes);
    assert_non_null(v);
    memset(v, 'x', bytes);
    v[bytes / 2] = '"'; /* larger once it is escaped */
    put_begin(&s->log, (uint32_t)lsn, lsn);
    put_insert(&s->log, s->log.session.next_schema, STR("large"), (struct str){v, bytes});
    put_commit(&s->log, (uint32_t)lsn, lsn, t0_us);
    free(v);
    (void)fixture_append_ok(&s->log);
}

/* Records around and far above what the connection's buffer takes at once. */
static void
test_records_larger_than_the_buffer(void **state)
{
    (void)state;
    struct serve s;
    static const size_t sizes[] = {
        100, 30 * 1024, 60 * 1024, 64 * 1024, 128 * 1024, 130 * 1024, 5 << 20, 10, 300 * 1024};
    enum { NSIZES = sizeof sizes / sizeof sizes[0] };
    serve_init(&s, 64 << 20);
    put_schema(&s.log, s.log.session.next_schema);
    for (unsigned i = 0; i < NSIZES; i++) {
        put_large(&s, 0x1000 + i, sizes[i]);
    }
    struct httpc_resp rs = {0};
    serve_get(&s, "/changes", 200, &rs);
    struct str rest = buf_str(&rs.body);
    for (unsigned i = 0; i < NSIZES; i++) {
        struct str line;
        struct str v;
        struct json *j;
        struct err e;
        assert_true(serve_line(&rest, &line));
        support_ok(json_parse(line, &j, &e), &e);
        assert_true(json_str(json_get(json_get(j, "new"), "v"), &v));
        assert_int_equal(v.n, sizes[i]);
        json_free(j);
    }
    assert_int_equal(rest.n, 0);
    httpc_resp_fini(&rs);
    serve_fini(&s);
}

/* More than one call's work, and nothing of it selected: the reader still arrives. */
static void
test_filter_that_selects_nothing(void **state)
{
    (void)state;
    struct serve s;
    serve_init(&s, 64 << 20);
    put_schema(&s.log, s.log.session.next_schema);
    for (unsigned i = 0; i < 10; i++) {
        put_large(&s, 0x1000 + i, 2 << 20);
    }
    put_message(&s.log, 0x9000);
    (void)fixture_append_ok(&s.log);
    assert_int_equal(get_seen(&s, "/changes?ops=delete").n, 0);
    assert_int_equal(get_seen(&s, "/changes?ops=message").n, 1);
    struct follower f;
    follow_start(&f, &s, "/changes?follow=1&ops=message&limit=1");
    assert_int_equal(follow_end(&f, 0).n, 1);
    serve_fini(&s);
}

/* ---- segments ---- */

/* Many segments of 1 MiB, all but the newest sealed. */
static void
serve_segments(struct serve *s)
{
    serve_init(s, 1 << 20);
    put_schema(&s->log, s->log.session.next_schema);
    append_txns(s, 0, 20, 3000);
    size_t n = journal_segments(s->bk.journal, NULL, 0);
    struct keeper_stats stats;
    assert_true(n >= 4);
    keeper_nudge(s->bk.keeper);
    SERVE_WAIT((keeper_stats(s->bk.keeper, &stats), stats.sealed == n - 1));
}

static void
test_across_segments_and_gone(void **state)
{
    (void)state;
    struct serve s;
    struct err e;
    char path[128];
    serve_segments(&s);
    uint64_t earliest = journal_earliest(s.bk.journal);
    struct seen seen = get_seen(&s, "/changes");
    assert_int_equal(seen.n, 60000);
    assert_true(seen.is_dense);
    assert_int_equal(get_seenf(&s, "from=", earliest + 12345).n, 60000 - 12345);
    (void)pthread_mutex_lock(&s.bk.retain_lock);
    support_ok(journal_remove_oldest(s.bk.journal, &e), &e);
    (void)pthread_mutex_unlock(&s.bk.retain_lock);
    uint64_t now = journal_earliest(s.bk.journal);
    assert_true(now > earliest);
    (void)snprintf(path, sizeof path, "/changes?from=%llu", (unsigned long long)now - 1);
    struct json *j = serve_json(&s, path, 410);
    int64_t offset;
    assert_true(json_i64(json_get(json_get(j, "earliest"), "offset"), &offset));
    assert_true((uint64_t)offset == now);
    json_free(j);
    json_free(serve_json(&s, "/changes?from=0/1000", 410));
    json_free(serve_json(&s, "/changes?from=2026-11-22T10:00:00Z", 410));
    seen = get_seen(&s, "/changes");
    assert_true(seen.first == now && seen.is_dense);
    serve_fini(&s);
}

/* P7: the answer is cut off at the damage, in a way that the client cannot miss. */
static void
test_damage_breaks_the_answer_off(void **state)
{
    (void)state;
    struct serve s;
    struct journal_segment seg[3];
    char path[256];
    serve_segments(&s);
    assert_true(journal_segments(s.bk.journal, seg, 3) >= 3);
    (void)snprintf(path, sizeof path, "%s/log/%020llu/data.mdb", s.log.dir,
        (unsigned long long)seg[1].base);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    /* Pages of records lie in the middle of the file. */
    off_t at = (off_t)(seg[1].file_bytes / 2);
    unsigned char block[8192];
    assert_int_equal(pread(fd, block, sizeof block, at), sizeof block);
    for (size_t i = 0; i < sizeof block; i++) {
        block[i] ^= 0x20;
    }
    assert_int_equal(pwrite(fd, block, sizeof block, at), sizeof block);
    (void)close(fd);
    struct follower f;
    follow_start(&f, &s, "/changes");
    struct seen seen = follow_end(&f, ERR_CLOSED);
    assert_true(seen.is_dense && seen.last >= seg[1].base && seen.last < seg[1].next - 1);
    assert_int_equal(atomic_load(&s.bk.readers.broken), 1);
    /* Others do not suffer from it. */
    seen = get_seenf(&s, "from=", seg[2].base);
    assert_true(seen.is_dense && seen.first == seg[2].base);
    serve_fini(&s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything),
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_until_limit_filter),
        cmocka_unit_test(test_messages_have_no_table),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_too_many_readers),
        cmocka_unit_test(test_following),
        cmocka_unit_test(test_stop_breaks_followers_off),
        cmocka_unit_test(test_wait),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_follower_that_vanished_gives_its_place_back),
        cmocka_unit_test(test_sse),
        cmocka_unit_test(test_sse_resumes),
        cmocka_unit_test(test_msgpack),
        cmocka_unit_test(test_records_larger_than_the_buffer),
        cmocka_unit_test(test_filter_that_selects_nothing),
        cmocka_unit_test(test_across_segments_and_gone),
        cmocka_unit_test(test_damage_breaks_the_answer_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
