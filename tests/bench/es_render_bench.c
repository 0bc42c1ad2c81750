/* es_render_bench: one core's speed at what the Elasticsearch kind does per document besides
 * the network: id, action and document; and reading the answer. Rows of fabric.user_data, 14
 * columns. Usage: es_render_bench [seconds per line, default 1] */
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "proto/base/json.h"
#include "sinks/elasticsearch/es_id.h"
#include "sinks/elasticsearch/es_json.h"
#include "sinks/elasticsearch/es_render.h"
#include "sinks/elasticsearch/es_reply.h"

enum { NCOLS = 14, BATCH = 5000 };

static const char *const cells[NCOLS][2] = {{"id", "3f2a9c1e-9f1c-4b2e-8d3a-00003f2a9c1e"},
    {"name", "Person17 M\xc3\xbcller-L\xc3\xbc"
             "denscheidt"},
    {"gender", "female"},
    {"address", "17 Hauptstra\xc3\x9f"
                "e, 57319 Bad Berleburg, Germany"},
    {"latitude", "48.208200"}, {"longitude", "-16.373800"}, {"timezone", "+1:00 Europe/Berlin"},
    {"email", "person17.mueller@example.com"}, {"phone", "0171-5551234"},
    {"cell", "0172-5551234"}, {"date_of_birth", "1977-05-04"},
    {"registered_date", "2011-11-11 11:11:11"},
    {"picture_url", "https://example.com/api/portraits/women/17.jpg"},
    {"insertion_time", "2026-11-22 10:00:00.123456+00"}};

static struct schema *
user_data(void)
{
    struct schema_col cols[NCOLS];
    struct schema s = {.ns = STR("fabric"), .name = STR("user_data"), .replident = 'd'};
    struct schema *ret;
    struct err e;
    struct buf auto_buf b;
    for (unsigned i = 0; i < NCOLS; i++) {
        cols[i] = (struct schema_col){
            .name = str_from(cells[i][0]), .typoid = 25, .typmod = -1, .in_key = i == 0};
    }
    s.ncols = NCOLS;
    s.cols = cols;
    buf_init(&b, SIZE_MAX);
    schema_encode(&b, &s);
    CHECK(schema_decode(7, buf_str(&b), &ret, &e) == 0);
    return ret;
}

static void
print_rate(const char *what, double n, double bytes, int64_t us)
{
    char line[120];
    int len = snprintf(line, sizeof line, "%-24s %8.2f M/s  %7.1f MB/s\n", what, n / (double)us,
        bytes / (double)us);
    CHECK(len > 0 && (size_t)len < sizeof line);
    fputs(line, stdout);
}

static void
bench_render(int64_t for_us)
{
    struct schema *s = user_data();
    struct es_shape *shape = es_shape_new(s, NULL);
    struct record_value row[NCOLS];
    struct buf auto_buf body, auto_buf id;
    double n = 0, bytes = 0;
    buf_init(&body, SIZE_MAX);
    buf_init(&id, SIZE_MAX);
    for (unsigned i = 0; i < NCOLS; i++) {
        row[i] = (struct record_value){.kind = RECORD_TEXT, .text = str_from(cells[i][1])};
    }
    int64_t start = clock_mono_us(), us;
    do {
        buf_reset(&body, SIZE_MAX);
        for (uint64_t i = 0; i < BATCH; i++) {
            buf_reset(&id, SIZE_MAX);
            CHECK(es_id_put(&id, s, row));
            CHECK(es_render_put_index(&body, shape, s, row, NULL,
                &(struct es_target){.alias = STR("fabric.user_data"),
                    .id = buf_str(&id),
                    .version = 1882345678901234 + i}));
        }
        n += BATCH;
        bytes += (double)body.n;
        us = clock_mono_us() - start;
    } while (us < for_us);
    print_rate("documents rendered", n, bytes, us);
    es_shape_free(shape);
    schema_unref(s);
}

static void
bench_reply(int64_t for_us)
{
    static const bool is_delete[BATCH];
    static struct es_item items[BATCH];
    struct buf auto_buf body;
    struct err e;
    double n = 0, bytes = 0;
    buf_init(&body, SIZE_MAX);
    buf_puts(&body, "{\"errors\":false,\"items\":[");
    for (unsigned i = 0; i < BATCH; i++) {
        buf_puts(&body, i == 0 ? "" : ",");
        buf_puts(&body, "{\"index\":{\"status\":200}}");
    }
    buf_puts(&body, "]}");
    int64_t start = clock_mono_us(), us;
    do {
        CHECK(es_reply_bulk(buf_str(&body), is_delete, BATCH, items, &e) == 0);
        n += BATCH;
        bytes += (double)body.n;
        us = clock_mono_us() - start;
    } while (us < for_us);
    print_rate("items of answers read", n, bytes, us);
}

static void
bench_json(int64_t for_us)
{
    const struct str text =
        STR("{\"tags\": [\"a\", \"b\", \"c\"], \"size\": {\"w\": 10.5, \"h\": 20}, \"note\": "
            "\"twenty-seven characters or so\", \"ok\": true, \"none\": null}");
    struct buf auto_buf b;
    double n = 0;
    buf_init(&b, SIZE_MAX);
    int64_t start = clock_mono_us(), us;
    do {
        for (unsigned i = 0; i < BATCH; i++) {
            buf_reset(&b, SIZE_MAX);
            CHECK(es_json_put(&b, text));
        }
        n += BATCH;
        us = clock_mono_us() - start;
    } while (us < for_us);
    print_rate("json values made fit", n, n * (double)text.n, us);
}

int
main(int argc, char **argv)
{
    int64_t for_us = (argc > 1 ? strtol(argv[1], NULL, 10) : 1) * 1000000;
    bench_render(for_us);
    bench_json(for_us);
    bench_reply(for_us);
    return 0;
}
