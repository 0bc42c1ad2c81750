/* json_fuzz: any bytes as text for the reader, and as a string for the writer. What is valid
 * stays the same document when minified, and on one line; a string reads back as itself. */
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
render(struct jsonw *w, const char *key, const struct json *j)
{
    struct str s;
    int64_t i;
    double d;
    bool b;
    if (json_is_object(j) || json_is_array(j)) {
        bool is_object = json_is_object(j);
        size_t n = json_size(j) < 1000 ? json_size(j) : 1000; /* json_member walks */
        (is_object ? jsonw_object : jsonw_array)(w, key);
        for (size_t k = 0; k < n; k++) {
            const char *name = NULL;
            const struct json *value = is_object ? json_member(j, k, &name) : json_at(j, k);
            CHECK(value != NULL && (!is_object || json_get(j, name) == value));
            render(w, name, value);
        }
        (is_object ? jsonw_end_object : jsonw_end_array)(w);
    } else if (json_str(j, &s)) {
        jsonw_str(w, key, s);
    } else if (json_i64(j, &i)) {
        jsonw_i64(w, key, i);
    } else if (json_num(j, &d)) {
        jsonw_double(w, key, d, 17);
    } else if (json_bool(j, &b)) {
        jsonw_bool(w, key, b);
    } else {
        CHECK(json_is_null(j));
        jsonw_null(w, key);
    }
}

/* The document as our writer writes it. False when text is none. */
static bool
normalise(struct str text, struct buf *to)
{
    struct err e;
    struct json *root;
    struct jsonw w;
    if (json_parse(text, &root, &e) != 0) {
        return false;
    }
    jsonw_init(&w, to);
    render(&w, NULL, root);
    json_free(root);
    return true;
}

static void
check_text(struct str text)
{
    struct buf auto_buf small, auto_buf want, auto_buf got, auto_buf again;
    buf_init(&small, SIZE_MAX);
    buf_init(&want, SIZE_MAX);
    buf_init(&got, SIZE_MAX);
    buf_init(&again, SIZE_MAX);
    json_put_minified(&small, text);
    CHECK(small.n <= text.n);
    if (!normalise(text, &want)) {
        return;
    }
    CHECK(small.n > 0 && memchr(small.p, '\n', small.n) == NULL &&
          memchr(small.p, '\r', small.n) == NULL);
    CHECK(normalise(buf_str(&small), &got) && str_eq(buf_str(&want), buf_str(&got)));
    CHECK(normalise(buf_str(&want), &again)); /* what we write is JSON */
}

static void
check_string(struct str s)
{
    struct buf auto_buf b;
    struct json *root;
    struct str back;
    struct err e;
    buf_init(&b, SIZE_MAX);
    json_put_string(&b, s);
    CHECK(buf_ok(&b) && b.n >= s.n + 2 && b.n <= s.n * 6 + 2);
    for (size_t i = 0; i < b.n; i++) {
        CHECK((unsigned char)b.p[i] >= 0x20 && b.p[i] != 0x7f);
    }
    if (json_is_utf8(s) && (s.n == 0 || memchr(s.p, 0, s.n) == NULL) && b.n <= JSON_TEXT_MAX) {
        CHECK(json_parse(buf_str(&b), &root, &e) == 0);
        CHECK(json_str(root, &back) && str_eq(back, s));
        json_free(root);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = {.p = (const char *)data, .n = size};
    check_text(input);
    check_string(input);
    return 0;
}
