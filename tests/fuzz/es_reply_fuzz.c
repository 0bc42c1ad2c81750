/* es_reply_fuzz: any bytes as every answer of Elasticsearch. Nothing is read beyond them, all
 * views lie within them, sentences are short and printable, and what is accepted holds
 * together: as many items as were asked for, raw values that are JSON. */
#include <stdint.h>
#include <stdlib.h>

#include "proto/base/check.h"
#include "sinks/elasticsearch/es_json.h"
#include "sinks/elasticsearch/es_mapping.h"
#include "sinks/elasticsearch/es_reply.h"
#include "sinks/elasticsearch/es_scan.h"

enum { MAX = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_within(struct str body, struct str view)
{
    CHECK(view.n == 0 || (view.p >= body.p && view.n <= body.n &&
                             (size_t)(view.p - body.p) <= body.n - view.n));
}

static void
check_value(struct str body, struct str raw)
{
    struct str again;
    check_within(body, raw);
    struct es_scan sc = es_scan_of(raw);
    CHECK(es_scan_value(&sc, &again) && es_scan_end(&sc));
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    if (es_json_put(&b, raw)) {
        CHECK(b.n == 0 || memchr(b.p, '\n', b.n) == NULL);
    }
}

static void
check_item(struct str body, const struct es_item *item)
{
    struct buf auto_buf b;
    buf_init(&b, 2000);
    CHECK(item->outcome <= ES_STOP && item->status <= 999);
    check_within(body, item->type);
    check_within(body, item->cause);
    check_within(body, item->reason);
    check_within(body, item->index);
    es_reply_put_reason(&b, item);
    CHECK(buf_ok(&b));
    for (size_t i = 0; i < b.n; i++) {
        CHECK(b.p[i] >= 0x20 && b.p[i] < 0x7f);
    }
}

static void
check_bulk(struct str body)
{
    static const bool is_delete[MAX] = {false, true, false, true};
    for (size_t n = 0; n <= MAX; n++) {
        struct es_item items[MAX];
        struct err e;
        int rc = es_reply_bulk(body, is_delete, n, items, &e);
        CHECK(rc == 0 || rc == ERR_CLOSED);
        for (size_t i = 0; i < n && rc == 0; i++) {
            check_item(body, &items[i]);
        }
    }
}

static void
check_whole(struct str body)
{
    static const unsigned statuses[] = {200, 400, 403, 404, 413, 429, 500};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        struct buf auto_buf b;
        buf_init(&b, 2000);
        CHECK(es_reply_whole(statuses[i], body) <= ES_WHOLE_STOP);
        es_reply_put_error(&b, statuses[i], body, i % 2 == 0);
        CHECK(buf_ok(&b));
        (void)es_reply_is_error(body, "resource_already_exists_exception");
    }
}

static struct schema *
schema_of_two(void)
{
    struct schema_col cols[] = {{.name = STR("id"), .typoid = 23, .typmod = -1, .in_key = true},
        {.name = STR("a\"b"), .typoid = 25, .typmod = -1}};
    struct schema s = {.relid = 1,
        .ns = STR("shop"),
        .name = STR("item"),
        .replident = 'd',
        .ncols = 2,
        .cols = cols};
    struct schema *ret;
    struct err e;
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    schema_encode(&b, &s);
    CHECK(schema_decode(1, buf_str(&b), &ret, &e) == 0);
    return ret;
}

static void
check_mget(struct str body, const struct es_shape *shape)
{
    struct es_doc docs[2];
    struct str values[2];
    struct err e;
    for (size_t n = 0; n <= 2; n++) {
        int rc = es_reply_mget(body, n, docs, &e);
        for (size_t i = 0; i < n && rc == 0; i++) {
            if (docs[i].is_found) {
                check_value(body, docs[i].source);
                CHECK(es_reply_source(docs[i].source, shape, values, &e) == 0);
            }
        }
    }
    if (es_reply_source(body, shape, values, &e) == 0) {
        for (size_t i = 0; i < 2; i++) {
            if (values[i].p != NULL) {
                check_value(body, values[i]);
            }
        }
    }
}

static void
check_mapping(struct str body, const struct schema *s)
{
    struct es_live live;
    bool is_new[2];
    struct err e;
    if (es_reply_mapping(body, &live, &e) == 0) {
        check_within(body, live.index);
        (void)es_reply_is_of_table(&live, s);
        int n = es_mapping_find_new(s, NULL, live.properties, is_new, &e);
        CHECK(n == ERR_CORRUPT || (n >= 0 && n <= 2));
    }
    int rc = es_mapping_find_new(s, NULL, body, is_new, &e);
    CHECK(rc == ERR_CORRUPT || (rc >= 0 && rc <= 2));
}

static void
check_page(struct str body)
{
    struct es_hit hits[MAX];
    struct es_page page;
    struct err e;
    if (es_reply_page(body, hits, MAX, &page, &e) == 0) {
        CHECK(page.n <= MAX);
        check_within(body, page.scroll_id);
        check_within(body, page.pit_id);
        check_within(body, page.sort);
        for (size_t i = 0; i < page.n; i++) {
            struct buf auto_buf id;
            buf_init(&id, SIZE_MAX);
            check_within(body, hits[i].id);
            es_scan_put_unescaped(&id, hits[i].id);
            CHECK(id.n <= hits[i].id.n);
        }
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A copy without a byte to spare. */
    char *copy = malloc(size == 0 ? 1 : size);
    CHECK(copy != NULL);
    if (size > 0) {
        memcpy(copy, data, size);
    }
    struct str body = {.p = copy, .n = size};
    struct schema *s = schema_of_two();
    struct es_shape *shape = es_shape_new(s, NULL);
    struct es_info info;
    struct err e;
    check_bulk(body);
    check_whole(body);
    if (es_reply_info(body, &info, &e) == 0) {
        CHECK(strlen(info.number) < sizeof info.number);
    }
    check_mget(body, shape);
    check_mapping(body, s);
    check_page(body);
    es_shape_free(shape);
    schema_unref(s);
    free(copy);
    return 0;
}
