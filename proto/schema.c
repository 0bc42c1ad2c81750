/* schema: see schema.h. One allocation of text per schema holds the copied names and the JSON
 * literals; it never moves once it is filled. Knows nothing about records. */
#include "proto/schema.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/json.h"
#include "proto/base/mp.h"
#include "proto/base/xmalloc.h"

struct owned {
    struct schema s; /* first: a struct schema * handed out points here */
    atomic_uint refs;
    struct buf text;
};

enum { TABLE_FIELDS = 6, COLUMN_FIELDS = 5 };

static const struct builtin {
    uint32_t oid;
    const char *name;
    enum schema_json json;
} builtins[] = {
    {16, "pg_catalog.bool", SCHEMA_JSON_BOOL},
    {20, "pg_catalog.int8", SCHEMA_JSON_INT},
    {21, "pg_catalog.int2", SCHEMA_JSON_INT},
    {23, "pg_catalog.int4", SCHEMA_JSON_INT},
    {114, "pg_catalog.json", SCHEMA_JSON_JSON},
    {700, "pg_catalog.float4", SCHEMA_JSON_FLOAT},
    {701, "pg_catalog.float8", SCHEMA_JSON_FLOAT},
    {3802, "pg_catalog.jsonb", SCHEMA_JSON_JSONB},
};

static enum schema_json
json_of(const struct schema_col *c)
{
    for (size_t i = 0; i < sizeof builtins / sizeof builtins[0]; i++) {
        if (c->typoid == builtins[i].oid || str_is(c->type_name, builtins[i].name)) {
            return builtins[i].json;
        }
    }
    return SCHEMA_JSON_STRING;
}

void
schema_encode(struct buf *b, const struct schema *s)
{
    mp_put_array(b, TABLE_FIELDS);
    mp_put_u64(b, s->relid);
    mp_put_str(b, s->ns);
    mp_put_str(b, s->name);
    mp_put_str(b, (struct str){.p = &s->replident, .n = 1});
    mp_put_bool(b, s->raw_text);
    mp_put_array(b, s->ncols);
    for (uint32_t i = 0; i < s->ncols; i++) {
        const struct schema_col *c = &s->cols[i];
        mp_put_array(b, COLUMN_FIELDS);
        mp_put_str(b, c->name);
        mp_put_u64(b, c->typoid);
        mp_put_i64(b, c->typmod);
        mp_put_str(b, c->type_name);
        mp_put_bool(b, c->in_key);
    }
}

static uint32_t
get_u32(struct mp *m)
{
    uint64_t v = mp_u64(m);
    m->failed = m->failed || v > UINT32_MAX;
    return m->failed ? 0 : (uint32_t)v;
}

static int32_t
get_i32(struct mp *m)
{
    int64_t v = mp_i64(m);
    m->failed = m->failed || v > INT32_MAX || v < INT32_MIN;
    return m->failed ? 0 : (int32_t)v;
}

static bool
get_column(struct mp *m, struct schema_col *c)
{
    if (mp_array(m) != COLUMN_FIELDS) {
        return false;
    }
    c->name = mp_str(m);
    c->typoid = get_u32(m);
    c->typmod = get_i32(m);
    c->type_name = mp_str(m);
    c->in_key = mp_bool(m);
    return !m->failed && c->name.n > 0;
}

/* Everything that is encoded, as views into it; columns allocated. */
static bool
get_table(struct mp *m, struct schema *s)
{
    if (mp_array(m) != TABLE_FIELDS) {
        return false;
    }
    s->relid = get_u32(m);
    s->ns = mp_str(m);
    s->name = mp_str(m);
    struct str replident = mp_str(m);
    s->raw_text = mp_bool(m);
    s->ncols = mp_array(m);
    if (m->failed || replident.n != 1 || memchr("dnfi", replident.p[0], 4) == NULL ||
        s->name.n == 0 || s->ncols > SCHEMA_MAX_COLS) {
        return false;
    }
    s->replident = replident.p[0];
    s->cols = xcalloc(s->ncols + 1u, sizeof *s->cols);
    for (uint32_t i = 0; i < s->ncols; i++) {
        if (!get_column(m, &s->cols[i])) {
            return false;
        }
        s->nkeys += s->cols[i].in_key;
    }
    return mp_done(m);
}

static struct str
copy(struct buf *text, struct str s)
{
    struct str to = {.p = text->p + text->n, .n = s.n};
    buf_put_str(text, s);
    return to;
}

/* A name as a JSON value: only an SQL_ASCII database has some that are not UTF-8. */
static void
put_name(struct buf *text, struct str name)
{
    if (json_is_utf8(name)) {
        json_put_string(text, name);
    } else {
        json_put_base64_object(text, name);
    }
}

static struct str
render_key(struct buf *text, struct str name)
{
    size_t from = text->n;
    if (json_is_utf8(name)) {
        json_put_string(text, name);
    } else { /* a member's name cannot be an object */
        static const char prefix[] = "\"base64:";
        struct buf auto_buf base64;
        buf_init(&base64, SIZE_MAX);
        json_put_base64(&base64, name);
        buf_puts(text, prefix);
        buf_put(text, base64.p + 1, base64.n - 1); /* without its opening quote */
    }
    buf_putc(text, ':');
    return (struct str){.p = text->p + from, .n = text->n - from};
}

static struct str
render_table(struct buf *text, const struct schema *s)
{
    size_t from = text->n;
    buf_puts(text, "\"schema\":");
    put_name(text, s->ns);
    buf_puts(text, ",\"table\":");
    put_name(text, s->name);
    return (struct str){.p = text->p + from, .n = text->n - from};
}

/* Turns views into copies, and derives. */
static void
own(struct owned *o, size_t encoded_size)
{
    struct schema *s = &o->s;
    /* A copy is as long as its source, a literal at most 6 times that and some punctuation;
     * what the writers ask for in one go is bounded the same way. */
    size_t room = 14 * encoded_size + 64 * ((size_t)s->ncols + 4) + SCHEMA_JSON_SLACK;
    buf_init(&o->text, room);
    const char *base = buf_room(&o->text, room);
    s->ns = copy(&o->text, s->ns);
    s->name = copy(&o->text, s->name);
    for (uint32_t i = 0; i < s->ncols; i++) {
        struct schema_col *c = &s->cols[i];
        c->name = copy(&o->text, c->name);
        c->type_name = copy(&o->text, c->type_name);
        c->json = json_of(c);
        c->json_key = render_key(&o->text, c->name);
        s->json_keys_size += c->json_key.n;
    }
    s->json_table = render_table(&o->text, s);
    CHECK(buf_ok(&o->text) && o->text.p == base && room - o->text.n >= SCHEMA_JSON_SLACK);
}

static void
owned_free(struct owned *o)
{
    buf_fini(&o->text);
    free(o->s.cols);
    free(o);
}

int
schema_decode(uint32_t id, struct str encoded, struct schema **ret, struct err *e)
{
    struct owned *o = xcalloc(1, sizeof *o);
    struct mp m;
    mp_init(&m, encoded);
    o->s.id = id;
    if (!get_table(&m, &o->s)) {
        owned_free(o);
        return err_set(e, ERR_CORRUPT, "the description of table version %u is damaged", id);
    }
    own(o, encoded.n);
    atomic_init(&o->refs, 1);
    *ret = &o->s;
    return 0;
}

struct schema *
schema_ref(struct schema *s)
{
    struct owned *o = (struct owned *)(void *)s;
    atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
    return s;
}

void
schema_unref(struct schema *s)
{
    struct owned *o = (struct owned *)(void *)s;
    if (o != NULL && atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) == 1) {
        owned_free(o);
    }
}
