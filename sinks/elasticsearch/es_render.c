/* es_render: see es_render.h. */
#include "sinks/elasticsearch/es_render.h"

#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/json.h"
#include "proto/base/xmalloc.h"
#include "proto/record_json.h"
#include "sinks/elasticsearch/es_json.h"
#include "sinks/elasticsearch/es_mapping.h"
#include "sinks/elasticsearch/es_name.h"

/* A literal of this file. */
#define PUT(b, literal) buf_put((b), (literal), sizeof(literal) - 1)

/* ---- shapes ---- */

struct es_shape *
es_shape_new(const struct schema *s, const struct conf_node *overrides)
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
    shape->rules = xcalloc((size_t)s->ncols + 1, sizeof *shape->rules);
    shape->memory = xstrndup(text.n == 0 ? "" : text.p, text.n);
    size_t at = 0;
    for (uint32_t i = 0; i < s->ncols; i++) {
        shape->fields[i] = (struct str){.p = shape->memory + at, .n = ends[i] - at};
        shape->rules[i] = es_mapping_rule(s, &s->cols[i], overrides);
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
        free(shape->rules);
        free(shape->memory);
        free(shape);
    }
}

/* ---- documents ---- */

bool
es_render_put_value(
    struct buf *b, const struct schema *s, const struct schema_col *c, struct str text)
{
    bool is_text = !s->raw_text || json_is_utf8(text);
    if (is_text && c->json == SCHEMA_JSON_JSON) {
        return es_json_put(b, text) || b->failed;
    }
    if (is_text && c->json == SCHEMA_JSON_JSONB && es_json_is_too_deep(text)) {
        return false;
    }
    record_json_put_value(b, s, c, text);
    return true;
}

static bool
put_filled(struct buf *b, const struct str *fill, uint32_t i)
{
    CHECK(fill != NULL && fill[i].p != NULL);
    return es_json_put(b, fill[i]) || b->failed;
}

static inline bool
put_column(struct buf *b, const struct schema *s, const struct schema_col *c,
    const struct record_value *v)
{
    if (v->kind == RECORD_NULL) {
        PUT(b, "null");
    } else if (c->json == SCHEMA_JSON_STRING && !s->raw_text) {
        json_put_string(b, v->text);
    } else {
        return es_render_put_value(b, s, c, v->text);
    }
    return true;
}

/* Appends each column with a comma before it. */
static bool
put_columns(struct buf *b, const struct es_shape *shape, const struct schema *s,
    const struct record_value *row, const struct str *fill)
{
    for (uint32_t i = 0; i < s->ncols; i++) {
        if (row[i].kind == RECORD_ABSENT) {
            continue;
        }
        buf_put_str(b, shape->fields[i]);
        bool is_ok = row[i].kind == RECORD_UNCHANGED ? put_filled(b, fill, i)
                                                     : put_column(b, s, &s->cols[i], &row[i]);
        if (!is_ok) {
            return false;
        }
    }
    return true;
}

bool
es_render_put_source(struct buf *b, const struct es_shape *shape, const struct schema *s,
    const struct record_value *row, const struct str *fill)
{
    CHECK(shape->ncols == s->ncols);
    size_t from = b->n;
    if (!put_columns(b, shape, s, row, fill)) {
        b->n = from;
        return false;
    }
    if (b->n == from) {
        buf_putc(b, '{');
    } else if (!b->failed) {
        b->p[from] = '{'; /* the first comma */
    }
    buf_putc(b, '}');
    return true;
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

bool
es_render_put_index(struct buf *b, const struct es_shape *shape, const struct schema *s,
    const struct record_value *row, const struct str *fill, const struct es_target *to)
{
    size_t from = b->n;
    PUT(b, "{\"index");
    put_target(b, to);
    if (!es_render_put_source(b, shape, s, row, fill)) {
        b->n = from;
        return false;
    }
    buf_putc(b, '\n');
    return true;
}

void
es_render_put_delete(struct buf *b, const struct es_target *to)
{
    PUT(b, "{\"delete");
    put_target(b, to);
}
