/* replay_bench: GET /changes end to end: a log of fabric.user_data rows in a temporary folder,
 * served over TCP loopback by the broker's own handlers, read by a client that only counts
 * lines. Usage: replay_bench [records, default 1000000] [buffer KiB, default 256] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <sys/socket.h>

#include "broker/broker.h"
#include "broker/routes.h"
#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "proto/base/mp.h"
#include "proto/frame.h"

enum { NCOLS = 14, TXN_ROWS = 1000, ROUNDS = 5 };

static const char *const names[NCOLS] = {"id", "name", "gender", "address", "latitude",
    "longitude", "timezone", "email", "phone", "cell", "date_of_birth", "registered_date",
    "picture_url", "insertion_time"};

static void
ok(int rc, const struct err *e)
{
    if (rc != 0) {
        (void)fprintf(stderr, "%s\n", e->msg);
        exit(1);
    }
}

static void
put_schema(struct buf *b, uint32_t id)
{
    struct schema_col cols[NCOLS] = {{.name = {0}}};
    for (unsigned i = 0; i < NCOLS; i++) {
        cols[i] = (struct schema_col){.name = str_from(names[i]), .typoid = 25, .typmod = -1};
    }
    cols[0].typoid = 2950;
    cols[0].in_key = true;
    struct schema s = {.relid = 16385,
        .ns = STR("fabric"),
        .name = STR("user_data"),
        .replident = 'd',
        .ncols = NCOLS,
        .cols = cols};
    size_t start = frame_begin(b, FRAME_SCHEMA, 0, id);
    schema_encode(b, &s);
    frame_end(b, start);
}

static void
put_text(struct buf *b, const char *fmt, unsigned x, unsigned y)
{
    char text[128];
    (void)snprintf(text, sizeof text, "%08x %08x ", x, y);
    size_t n = strlen(text);
    (void)snprintf(text + n, sizeof text - n, "%s", fmt);
    mp_put_cstr(b, text);
}

static void
put_row(struct buf *b, uint32_t schema, unsigned i)
{
    static const char *const tails[NCOLS] = {"9f1c-4b2e-8d3a", "Müller", "f",
        "Hauptstr. Berleburg, Germany", "", "", "Europe", "mueller@example.com", "", "", "", "",
        "https://user.example/api", "10:00"};
    unsigned x = i * 2654435761u;
    size_t start = frame_begin(b, FRAME_INSERT, 0, schema);
    mp_put_array(b, NCOLS);
    for (unsigned c = 0; c < NCOLS; c++) {
        put_text(b, tails[c], x + c, i);
    }
    frame_end(b, start);
}

static void
fill(struct broker *bk, unsigned records)
{
    struct err e;
    struct api_session session;
    struct api_appended done;
    struct buf auto_buf b;
    ok(writer_open_session(bk->writer, &session, &e), &e);
    struct api_append head = {.generation = session.generation};
    memcpy(head.uuid, session.uuid, API_UUID);
    buf_init(&b, (size_t)1 << 30);
    put_schema(&b, session.next_schema);
    for (unsigned i = 0; i < records; i += TXN_ROWS) {
        uint64_t lsn = 0x1000 + (uint64_t)i * 0x100;
        frame_put_begin(&b, &(struct frame_begin_txn){.xid = i + 1, .lsn = lsn});
        for (unsigned k = i; k < i + TXN_ROWS; k++) {
            put_row(&b, session.next_schema, k);
        }
        frame_put_commit(&b,
            &(struct frame_commit){
                .xid = i + 1, .lsn = lsn, .end_lsn = lsn + 8, .ts_us = 1795341600000000 + i});
        head.sequence++;
        ok(writer_append(bk->writer, &head, buf_str(&b), &done, &e), &e);
        buf_reset(&b, SIZE_MAX);
    }
}

static int
connect_to(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)(void *)&at, sizeof at) == 0);
    return fd;
}

/* Bytes until the server closes. */
static uint64_t
replay(uint16_t port, const char *query)
{
    static char buffer[1 << 20];
    char request[256];
    int fd = connect_to(port);
    int n = snprintf(request, sizeof request,
        "GET /changes%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", query);
    CHECK(write(fd, request, (size_t)n) == n);
    uint64_t bytes = 0;
    ssize_t got;
    while ((got = read(fd, buffer, sizeof buffer)) > 0) {
        bytes += (uint64_t)got;
    }
    CHECK(got == 0);
    (void)close(fd);
    return bytes;
}

static void
measure(uint16_t port, const char *what, const char *query, unsigned records)
{
    int64_t best_us = INT64_MAX;
    uint64_t bytes = replay(port, query);
    for (unsigned i = 0; i < ROUNDS; i++) {
        int64_t from_us = clock_mono_us();
        CHECK(replay(port, query) == bytes);
        int64_t us = clock_mono_us() - from_us;
        best_us = us < best_us ? us : best_us;
    }
    printf("%-24s %8.3f s %8.2f M records/s %8.1f MB\n", what, (double)best_us / 1e6,
        (double)records / (double)best_us, (double)bytes / 1e6);
}

int
main(int argc, char **argv)
{
    unsigned records = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1000000;
    size_t buffer = (argc > 2 ? strtoul(argv[2], NULL, 10) : 256) * 1024;
    char dir[] = "/tmp/oneslot-replay-XXXXXX";
    char yaml[256];
    struct config *conf;
    struct broker *bk;
    struct httpd *d;
    struct err e;
    CHECK(mkdtemp(dir) != NULL);
    int n = snprintf(yaml, sizeof yaml, "data_dir: %s\nsource: {dsn: dbname=app}\n", dir);
    ok(config_load_text("bench", (struct str){yaml, (size_t)n}, &conf, &e), &e);
    ok(broker_open(conf, &bk, &e), &e);
    records -= records % TXN_ROWS;
    fill(bk, records);
    struct httpd_conf c = {.host = "127.0.0.1",
        .max_connections = 16,
        .threads = 2,
        .idle_timeout_s = 60,
        .buffer_bytes = buffer,
        .handler = routes_handle,
        .body_limit = routes_body_limit,
        .arg = bk};
    ok(httpd_open(&c, &d, &e), &e);
    measure(httpd_port(d), "ndjson", "", records);
    measure(httpd_port(d), "sse", "?format=sse", records);
    measure(httpd_port(d), "msgpack", "?format=msgpack", records);
    measure(httpd_port(d), "nothing selected", "?ops=delete", records);
    watch_stop(bk->watch);
    httpd_close(d);
    broker_close(bk);
    config_free(conf);
    n = snprintf(yaml, sizeof yaml, "rm -rf '%s'", dir);
    CHECK(system(yaml) == 0); /* lint:allow system: its own folder */
    return 0;
}
