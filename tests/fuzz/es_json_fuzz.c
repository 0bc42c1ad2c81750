/* es_json_fuzz: any bytes as a json value. What passes is JSON on one line, has no key twice,
 * and stays as it is when it passes again; where the strict reader takes the input, it reads
 * the same document from the output. */
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/base/json.h"
#include "sinks/elasticsearch/es_json.h"
#include "sinks/elasticsearch/es_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every key of every object, compared with its siblings: quadratic, as inputs are short. */
static void
check_keys(struct es_scan sc, int depth)
{
    struct es_scan array = sc;
    struct str key, other;
    bool is_first = true, is_first_of_rest;
    if (depth > 4) {
        return;
    }
    if (es_scan_object(&sc)) {
        while (es_scan_member(&sc, &is_first, &key)) {
            check_keys(sc, depth + 1);
            es_scan_skip(&sc);
            struct es_scan rest = sc;
            is_first_of_rest = false;
            while (es_scan_member(&rest, &is_first_of_rest, &other)) {
                CHECK(!str_eq(key, other));
                es_scan_skip(&rest);
            }
        }
    } else if (es_scan_array(&array)) {
        while (es_scan_element(&array, &is_first)) {
            check_keys(array, depth + 1);
            es_scan_skip(&array);
        }
    }
}

static void
check_same_document(struct str in, struct str out)
{
    struct json *a, *b;
    struct err e;
    if (json_parse(in, &a, &e) == 0) {
        CHECK(json_parse(out, &b, &e) == 0);
        CHECK(json_size(a) == json_size(b) && json_is_object(a) == json_is_object(b));
        json_free(a);
        json_free(b);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = {.p = (const char *)data, .n = size};
    struct buf auto_buf out, auto_buf again;
    struct str raw;
    buf_init(&out, SIZE_MAX);
    buf_init(&again, SIZE_MAX);
    struct es_scan sc = es_scan_of(in);
    bool is_json = es_scan_value(&sc, &raw) && es_scan_end(&sc);
    bool is_ok = es_json_put(&out, in);
    CHECK(is_ok == (is_json && !es_json_is_too_deep(in)));
    if (!is_ok) {
        CHECK(out.n == 0);
        return 0;
    }
    /* A key may grow: DEL is escaped. */
    CHECK(out.n <= 6 * in.n && memchr(out.p, '\n', out.n) == NULL &&
          memchr(out.p, '\r', out.n) == NULL);
    CHECK(es_json_put(&again, buf_str(&out)) && str_eq(buf_str(&again), buf_str(&out)));
    check_keys(es_scan_of(buf_str(&out)), 0);
    check_same_document(in, buf_str(&out));
    return 0;
}
