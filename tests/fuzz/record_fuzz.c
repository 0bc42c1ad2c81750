/* record_fuzz: input = op, flags, raw_text, length of the schema's encoding (u16 le), that
 * encoding, payload. A record that decodes must render; without json columns, whose text is
 * PostgreSQL's to vouch for, and with text that is UTF-8, the line must be JSON. */
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/base/json.h"
#include "proto/base/mp.h"
#include "proto/record.h"
#include "proto/record_json.h"

enum { HEAD = 5 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What PostgreSQL cannot have and json_parse refuses: NUL, members of one name, numbers beyond
 * its types. */
static bool
has_nul(struct str s)
{
    return s.n > 0 && memchr(s.p, 0, s.n) != NULL;
}

static bool
is_small_number(struct str text)
{
    return text.n <= 18 && memchr(text.p, 'e', text.n) == NULL &&
           memchr(text.p, 'E', text.n) == NULL;
}

static bool
is_clean_text(const struct schema *s, enum schema_json json, struct str text)
{
    if (json == SCHEMA_JSON_JSON || json == SCHEMA_JSON_JSONB || has_nul(text) ||
        (!s->raw_text && !json_is_utf8(text))) {
        return false;
    }
    return (json != SCHEMA_JSON_INT && json != SCHEMA_JSON_FLOAT) || is_small_number(text);
}

static bool
is_clean(const struct schema *s, const struct record_value *row)
{
    for (uint32_t i = 0; row != NULL && i < s->ncols; i++) {
        if (row[i].kind == RECORD_TEXT && !is_clean_text(s, s->cols[i].json, row[i].text)) {
            return false;
        }
    }
    return true;
}

static bool
is_only_name(const struct schema *s, uint32_t i)
{
    for (uint32_t k = 0; k < i; k++) {
        if (str_eq(s->cols[k].json_key, s->cols[i].json_key)) {
            return false;
        }
    }
    return true;
}

static bool
has_clean_names(const struct record *r)
{
    const struct schema *s = r->schema;
    if (has_nul(r->prefix) || (s != NULL && (has_nul(s->ns) || has_nul(s->name)))) {
        return false;
    }
    for (uint32_t i = 0; s != NULL && i < s->ncols; i++) {
        if (has_nul(s->cols[i].name) || !is_only_name(s, i)) {
            return false;
        }
    }
    return true;
}

static void
render(const struct record *r)
{
    struct err e;
    struct mp m;
    struct json *root;
    struct buf auto_buf b;
    buf_init(&b, SIZE_MAX);
    record_json_put(&b, r);
    CHECK(buf_ok(&b));
    if (has_clean_names(r) && is_clean(r->schema, r->new_row) &&
        is_clean(r->schema, r->old_row)) {
        CHECK(memchr(b.p, '\n', b.n) == NULL);
        CHECK(json_parse(buf_str(&b), &root, &e) == 0);
        json_free(root);
    }
    buf_reset(&b, SIZE_MAX);
    record_msgpack_put(&b, r);
    mp_init(&m, buf_str(&b));
    mp_skip(&m);
    CHECK(buf_ok(&b) && mp_done(&m));
}

static void
decode(const uint8_t *data, size_t size, struct str payload, struct str encoding)
{
    struct err e;
    struct record r;
    struct schema *s = NULL;
    struct record_decoder d = {0};
    struct record_txn t = {
        .first_offset = 1, .count = 2, .kind = (uint8_t)(size % 3), .ts_us = (int64_t)size};
    struct frame f = {.op = data[0], .flags = data[1], .payload = payload};
    if (encoding.n > 0 && schema_decode(1, encoding, &s, &e) != 0) {
        return;
    }
    if (s != NULL) {
        f.schema_id = 1;
        s->raw_text = data[2] != 0;
    }
    if (record_decode(&d, &f, s, &t, 2, &r, &e) == 0) {
        render(&r);
    }
    record_decoder_fini(&d);
    schema_unref(s);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD) {
        return 0;
    }
    struct str rest = {.p = (const char *)data + HEAD, .n = size - HEAD};
    size_t n = get_le16(data + 3);
    if (n <= rest.n) {
        decode(data, size, (struct str){rest.p + n, rest.n - n}, (struct str){rest.p, n});
    }
    return 0;
}
