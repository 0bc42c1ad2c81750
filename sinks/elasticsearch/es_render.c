/* es_render: see es_render.h. */
#include "sinks/elasticsearch/es_render.h"

#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/json.h"
#include "proto/base/xmalloc.h"
#include "proto/record_json.h"
#include "sinks/elasticsearch/es_json.h"
#include "sinks/elasticsearch/es_name.h"

/* A literal of this file. */
#define PUT(b, literal) buf_put((b), (literal), sizeof(literal) - 1)

/* ---- shapes ---- */

struct es_shape *
es_shape_new(const struct schema *s)
{
    struct buf auto_buf text;
    struct es_shape *shape = xcalloc(1, sizeof *shape);
    size_t *ends = xreallocarray(NULL, (size_t)s->ncols + 1, sizeof *ends);
    buf_init(&text, SIZE_MAX);
    for (uint32_t i = 0; i < s->ncols; i++) {
        buf_putc(&text, ',');
        es_name_put_json(&text, s->cols[i].name);
        buf_putc(&text, ':');
        ends[i] = text.n;
    }
    shape->schema_id = s->id;
    shape->ncols = s->ncols;
    shape->fields = xcalloc((size_t)s->ncols + 1, sizeof *shape->fields);
    shape->memory = xstrndup(text.n == 0 ? "" : text.p, text.n);
    size_t at = 0;
    for (uint32_t i = 0; i < s->ncols; i++) {
        shape->fields[i] = (struct str){.p = shape->memory + at, .n = ends[i] - at};
        at = ends[i];
    }
    free(ends);
    return shape;
}

void
es_shape_free(struct es_shape *shape)
{
    if (shape != NULL) {
        free(shape->fields);
        free(shape->memory);
        free(shape);
    }
}

/* ---- documents ---- */

void
es_render_put_value(
    struct buf *b, const struct schema *s, const struct schema_col *c, struct str text)
{
    bool is_json = c->json == SCHEMA_JSON_JSON && (!s->raw_text || json_is_utf8(text));
    if (!is_json) {
        record_json_put_value(b, s, c, text);
    } else if (!es_json_put(b, text)) {
        json_put_string(b, text); /* not JSON, which PostgreSQL would not have stored */
    }
}

/* What fill holds was read from JSON and is JSON. */
static void
put_filled(struct buf *b, const struct str *fill, uint32_t i)
{
    CHECK(fill != NULL && fill[i].p != NULL);
    bool is_ok = es_json_put(b, fill[i]);
    CHECK(is_ok || b->failed);
}

static inline void
put_column(struct buf *b, const struct schema *s, const struct schema_col *c,
    const struct record_value *v)
{
    if (v->kind == RECORD_NULL) {
        PUT(b, "null");
    } else if (c->json == SCHEMA_JSON_STRING && !s->raw_text) {
        json_put_string(b, v->text);
    } else {
        es_render_put_value(b, s, c, v->text);
    }
}

void
es_render_put_source(struct buf *b, const struct es_shape *shape, const struct schema *s,
    const struct record_value *row, const struct str *fill)
{
    CHECK(shape->ncols == s->ncols);
    size_t from = b->n;
    for (uint32_t i = 0; i < s->ncols; i++) {
        if (row[i].kind == RECORD_ABSENT) {
            continue;
        }
        buf_put_str(b, shape->fields[i]);
        if (row[i].kind == RECORD_UNCHANGED) {
            put_filled(b, fill, i);
        } else {
            put_column(b, s, &s->cols[i], &row[i]);
        }
    }
    if (b->n == from) {
        buf_putc(b, '{');
    } else if (!b->failed) {
        b->p[from] = '{'; /* the first comma */
    }
    buf_putc(b, '}');
}

/* ---- actions ---- */

static void
put_target(struct buf *b, const struct es_target *to)
{
    PUT(b, "\":{\"_index\":");
    json_put_string(b, to->alias);
    PUT(b, ",\"_id\":");
    json_put_string(b, to->id);
    PUT(b, ",\"version\":");
    json_put_u64(b, to->version);
    PUT(b, ",\"version_type\":\"external_gte\",\"require_alias\":true}}\n");
}

void
es_render_put_index(struct buf *b, const struct es_shape *shape, const struct schema *s,
    const struct record_value *row, const struct str *fill, const struct es_target *to)
{
    PUT(b, "{\"index");
    put_target(b, to);
    es_render_put_source(b, shape, s, row, fill);
    buf_putc(b, '\n');
}

void
es_render_put_delete(struct buf *b, const struct es_target *to)
{
    PUT(b, "{\"delete");
    put_target(b, to);
}
