/* conf_fuzz: any text as oneslot.yaml. What is accepted, printed and read again must print the
 * same: nothing of it is lost or changes its meaning on the way, hostile keys and texts
 * included. */
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/base/json.h"
#include "proto/config.h"

enum {
    ROUND_TRIP_MAX = 3500
}; /* beyond, the defaults that are printed may pass the limit of values */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is accepted is JSON, too. */
static void
check_json(const struct config *c)
{
    auto_buf struct buf b;
    struct jsonw w;
    struct json *root = NULL;

    buf_init(&b, SIZE_MAX);
    jsonw_init(&w, &b);
    jsonw_object(&w, NULL);
    config_print_json(&w, c);
    jsonw_array(&w, "sinks");
    for (size_t i = 0; i < c->nsinks; i++) {
        jsonw_object(&w, NULL);
        config_sink_print_json(&w, &c->sinks[i]);
        jsonw_end_object(&w);
    }
    jsonw_end_array(&w);
    jsonw_end_object(&w);
    CHECK(buf_ok(&b) && json_parse(buf_str(&b), &root, NULL) == 0);
    json_free(root);
}

static void
print(struct buf *b, const char *text, size_t n)
{
    struct config *c = NULL;
    struct err e = {0};
    int rc = config_load_text("/f/oneslot.yaml", (struct str){.p = text, .n = n}, &c, &e);

    if (rc < 0) {
        CHECK(rc == ERR_CONFIG && e.code == rc && c == NULL);
        CHECK(strncmp(e.msg, "/f/oneslot.yaml:", 16) == 0 && strchr(e.msg, '\n') == NULL);
        return;
    }
    config_print(b, c);
    CHECK(buf_ok(b));
    check_json(c);
    config_free(c);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    auto_buf struct buf first;
    auto_buf struct buf second;

    buf_init(&first, SIZE_MAX);
    buf_init(&second, SIZE_MAX);
    print(&first, (const char *)data, size);
    if (first.n > 0 && size < ROUND_TRIP_MAX) {
        print(&second, first.p, first.n);
        CHECK(str_eq(buf_str(&first), buf_str(&second)));
    }
    return 0;
}
