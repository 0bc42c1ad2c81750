/* es_mapping: see es_mapping.h. Types are rows of tables: PostgreSQL's -> a class, a class -> a
 * property, and a type's name in the option `mapping` -> a property. */
#include "sinks/elasticsearch/es_mapping.h"

#include "proto/base/check.h"
#include "proto/base/digest.h"
#include "proto/base/json.h"
#include "proto/glob.h"
#include "sinks/elasticsearch/es_json.h"
#include "sinks/elasticsearch/es_name.h"
#include "sinks/elasticsearch/es_scan.h"

/* ---- PostgreSQL's types ---- */

enum class {
    CLASS_KEYWORD = 0, /* what is not known too: an enum, most likely */
    CLASS_TEXT,
    CLASS_BOOL,
    CLASS_SHORT,
    CLASS_INTEGER,
    CLASS_LONG,
    CLASS_FLOAT,
    CLASS_DOUBLE,
    CLASS_NUMERIC, /* exact as a keyword, and a double beside it */
    CLASS_DATE,
    CLASS_TIMESTAMP,
    CLASS_TIMESTAMPTZ,
    CLASS_IP,
    CLASS_KEPT /* in _source only */
};

/* Dates: the first format is what answers are printed in; all are read, in documents and in
 * queries. Seconds with whatever PostgreSQL has left of their six decimals. */
#define LENIENT        "\"ignore_malformed\":true}"
#define TIME           "uuuu-MM-dd HH:mm:ss[.SSSSSS][.SSSSS][.SSSS][.SSS][.SS][.S]"
#define ISO            "strict_date_optional_time||"
#define ISO_NANOS      "strict_date_optional_time_nanos||"
#define MILLIS         "||epoch_millis\"," LENIENT
#define FORMAT         "\"format\":\""
#define DATE_TAIL      FORMAT "uuuu-MM-dd||strict_date_optional_time" MILLIS
#define STAMP_TAIL     TIME MILLIS
#define STAMPTZ_TAIL   TIME "[xxx][x]" MILLIS
#define IGNORE_ABOVE   "\"ignore_above\":8191" /* ES_MAPPING_KEYWORD_MAX */
#define KEYWORD        "{\"type\":\"keyword\"," IGNORE_ABOVE
#define KEYWORD_BESIDE "\"fields\":{\"keyword\":" KEYWORD "}}}"
#define KEPT           "{\"type\":\"object\",\"enabled\":false}"
#define NUMBER(type)   "{\"type\":\"" type "\"," LENIENT

static const char *const class_properties[] = {
    [CLASS_KEYWORD] = KEYWORD "}",
    [CLASS_TEXT] = "{\"type\":\"text\"," KEYWORD_BESIDE,
    /* not boolean: 7.17 and OpenSearch cannot ignore what is none there (the column's type may
     * change), and a keyword is searched by true and false just so */
    [CLASS_BOOL] = KEYWORD "}",
    [CLASS_SHORT] = NUMBER("short"),
    [CLASS_INTEGER] = NUMBER("integer"),
    [CLASS_LONG] = NUMBER("long"),
    [CLASS_FLOAT] = NUMBER("float"),
    [CLASS_DOUBLE] = NUMBER("double"),
    [CLASS_NUMERIC] = KEYWORD ",\"fields\":{\"num\":" NUMBER("double") "}}",
    [CLASS_DATE] = "{\"type\":\"date\"," DATE_TAIL,
    [CLASS_TIMESTAMP] = "{\"type\":\"date\"," FORMAT ISO STAMP_TAIL,
    [CLASS_TIMESTAMPTZ] = "{\"type\":\"date\"," FORMAT ISO STAMPTZ_TAIL,
    [CLASS_IP] = "{\"type\":\"ip\",\"ignore_malformed\":true," KEYWORD_BESIDE,
    [CLASS_KEPT] = KEPT,
};

static const struct pg_type {
    uint32_t oid;
    const char *name; /* behind "pg_catalog.": what a domain over it says */
    enum class class;
} pg_types[] = {
    {16, "bool", CLASS_BOOL},
    {21, "int2", CLASS_SHORT},
    {23, "int4", CLASS_INTEGER},
    {20, "int8", CLASS_LONG},
    {26, "oid", CLASS_LONG},
    {28, "xid", CLASS_LONG},
    {700, "float4", CLASS_FLOAT},
    {701, "float8", CLASS_DOUBLE},
    {1700, "numeric", CLASS_NUMERIC},
    {25, "text", CLASS_TEXT},
    {1043, "varchar", CLASS_TEXT},
    {1042, "bpchar", CLASS_TEXT},
    {142, "xml", CLASS_TEXT},
    {1082, "date", CLASS_DATE},
    {1114, "timestamp", CLASS_TIMESTAMP},
    {1184, "timestamptz", CLASS_TIMESTAMPTZ},
    {869, "inet", CLASS_IP},
    {17, "bytea", CLASS_KEPT},
    {1001, "_bytea", CLASS_KEPT},
    {3614, "tsvector", CLASS_KEPT},
    {3643, "_tsvector", CLASS_KEPT},
};

/* Arrays are one text, "{a,b}": as analysed text their elements are found. */
static const uint32_t pg_arrays[] = {143, 199, 651, 775, 791, 1000, 1002, 1003, 1005, 1006,
    1007, 1009, 1010, 1011, 1013, 1014, 1015, 1016, 1017, 1021, 1022, 1028, 1040, 1041, 1115,
    1182, 1183, 1185, 1187, 1231, 1270, 1561, 1563, 2951, 3221, 3807, 3905, 3907, 3909, 3911,
    3913, 3927, 4073};

/* Of extensions, in whatever schema they are. */
static const struct pg_type extension_types[] = {
    {0, "citext", CLASS_TEXT},
    {0, "hstore", CLASS_TEXT},
    {0, "geometry", CLASS_KEPT},
    {0, "geography", CLASS_KEPT},
    {0, "raster", CLASS_KEPT},
    {0, "vector", CLASS_KEPT},
    {0, "halfvec", CLASS_KEPT},
    {0, "sparsevec", CLASS_KEPT},
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static bool
is_array(const struct schema_col *c, struct str base)
{
    for (size_t i = 0; i < COUNT(pg_arrays); i++) {
        if (c->typoid == pg_arrays[i]) {
            return true;
        }
    }
    return base.n > 0 && base.p[0] == '_';
}

/* "SCHEMA.NAME" -> NAME */
static struct str
base_name(struct str type_name)
{
    const char *dot = type_name.n == 0 ? NULL : memrchr(type_name.p, '.', type_name.n);
    if (dot == NULL) {
        return type_name;
    }
    return (struct str){.p = dot + 1, .n = (size_t)(type_name.p + type_name.n - (dot + 1))};
}

static enum class named_class(const struct schema_col *c) {
    struct str base = base_name(c->type_name);
    bool is_builtin = base.n + sizeof "pg_catalog" == c->type_name.n &&
                      memcmp(c->type_name.p, "pg_catalog", sizeof "pg_catalog" - 1) == 0;
    for (size_t i = 0; i < COUNT(pg_types); i++){
        if (c->typoid == pg_types[i].oid || (is_builtin && str_is(base, pg_types[i].name))){
            return pg_types[i].class;}
}
for (size_t i = 0; i < COUNT(extension_types); i++) {
    if (str_is(base, extension_types[i].name)) {
        return extension_types[i].class;
    }
}
return is_array(c, base) ? CLASS_TEXT : CLASS_KEYWORD;
}

/* numeric(p,s) that a double holds to the last digit. */
static bool
is_exact_double(int32_t typmod)
{
    return typmod >= 4 && (typmod - 4) >> 16 <= 15;
}

static enum class class_of(const struct schema *s, const struct schema_col *c) {
    if (c->json == SCHEMA_JSON_JSON || c->json == SCHEMA_JSON_JSONB){return CLASS_KEPT;}
enum class class = named_class(c);
if (class == CLASS_NUMERIC && is_exact_double(c->typmod)) {
    return CLASS_DOUBLE;
}
/* Of SQL_ASCII, bytes that are not UTF-8 come as an object, which only these take. */
bool is_any_bytes = s->raw_text && (class == CLASS_TEXT || class == CLASS_KEYWORD);
return is_any_bytes ? CLASS_KEPT : class;
}

/* ---- the option `mapping` ---- */

/* Properties of types that want more than their name; others are {"type":"NAME"}. */
static const struct named_property {
    const char *type, *property;
} named_properties[] = {
    {"keyword", KEYWORD "}"},
    {"text", "{\"type\":\"text\"," KEYWORD_BESIDE},
    {"wildcard", "{\"type\":\"wildcard\"," IGNORE_ABOVE "}"},
    {"byte", NUMBER("byte")},
    {"short", NUMBER("short")},
    {"integer", NUMBER("integer")},
    {"long", NUMBER("long")},
    {"unsigned_long", NUMBER("unsigned_long")},
    {"half_float", NUMBER("half_float")},
    {"float", NUMBER("float")},
    {"double", NUMBER("double")},
    {"ip", NUMBER("ip")},
    {"geo_point", NUMBER("geo_point")},
    {"geo_shape", NUMBER("geo_shape")},
    {"point", NUMBER("point")},
    {"shape", NUMBER("shape")},
    {"object", KEPT},
};

static struct str
override_of(const struct schema *s, const struct schema_col *c, const struct conf_node *all)
{
    struct str found = {0};
    if (all == NULL || all->kind != CONF_MAPPING) {
        return found;
    }
    struct buf auto_buf name;
    buf_init(&name, SIZE_MAX);
    buf_put_str(&name, s->ns);
    buf_putc(&name, '.');
    buf_put_str(&name, s->name);
    buf_putc(&name, '.');
    buf_put_str(&name, c->name);
    for (size_t i = 0; i < all->n; i++) {
        if (glob_match(str_from(all->child[i]->key), buf_str(&name))) {
            found = str_from(all->child[i]->text);
        }
    }
    return found;
}

static bool
is_json(struct str as)
{
    return as.n > 0 && as.p[0] == '{';
}

static bool
is_type_name(struct str as)
{
    for (size_t i = 0; i < as.n; i++) {
        char c = as.p[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9' && i > 0) && c != '_') {
            return false;
        }
    }
    return as.n > 0 && as.n <= 64;
}

static int
check_override(const struct conf_node *o, struct err *e)
{
    const char *dot = strchr(o->key, '.');
    if (dot == NULL || strchr(dot + 1, '.') == NULL) {
        return conf_key_error(o, e, "a column is written schema.table.column, with * and ?");
    }
    if (o->kind != CONF_SCALAR || conf_is_null(o)) {
        return conf_error(o, e,
            "a field type is wanted here, or none, or a JSON object in quotes: "
            "'{\"type\":\"keyword\"}'");
    }
    struct str as = str_from(o->text);
    struct buf auto_buf json;
    buf_init(&json, SIZE_MAX);
    if (is_json(as) ? !json_is_utf8(as) || !es_json_put(&json, as) : !is_type_name(as)) {
        return conf_error(o, e,
            "neither the name of a field type (keyword, text, long, date, flattened, none) nor "
            "a JSON object");
    }
    return 0;
}

int
es_mapping_check(const struct conf_node *overrides, struct err *e)
{
    if (overrides == NULL || conf_is_null(overrides)) {
        return 0;
    }
    if (overrides->kind != CONF_MAPPING) {
        return conf_error(
            overrides, e, "mapping holds lines of the form schema.table.column: field type");
    }
    for (size_t i = 0; i < overrides->n; i++) {
        int rc = check_override(overrides->child[i], e);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* ---- properties ---- */

/* date or date_nanos, in the column's own format. */
static void
put_date(struct buf *b, struct str type, enum class class)
{
    const char *iso = str_is(type, "date") ? FORMAT ISO : FORMAT ISO_NANOS;
    buf_puts(b, "{\"type\":\"");
    buf_put_str(b, type);
    buf_puts(b, "\",");
    if (class == CLASS_TIMESTAMP || class == CLASS_TIMESTAMPTZ) {
        buf_puts(b, iso);
        buf_puts(b, class == CLASS_TIMESTAMP ? STAMP_TAIL : STAMPTZ_TAIL);
    } else {
        buf_puts(b, class == CLASS_DATE ? DATE_TAIL : LENIENT);
    }
}

static void
put_named(struct buf *b, const struct es_dialect *d, struct str type, enum class class)
{
    if (str_is(type, "date") || str_is(type, "date_nanos")) {
        put_date(b, type, class);
        return;
    }
    if (str_is(type, "flattened") || str_is(type, "flat_object")) {
        buf_puts(b, d->is_opensearch ? "{\"type\":\"flat_object\"}"
                                     : "{\"type\":\"flattened\"," IGNORE_ABOVE "}");
        return;
    }
    for (size_t i = 0; i < COUNT(named_properties); i++) {
        if (str_is(type, named_properties[i].type)) {
            buf_puts(b, named_properties[i].property);
            return;
        }
    }
    buf_puts(b, "{\"type\":");
    json_put_string(b, type);
    buf_putc(b, '}');
}

/* Appends ,"FIELD":{...}; nothing for a column that is not to be mapped. */
static void
put_property(struct buf *b, const struct es_dialect *d, const struct schema *s,
    const struct schema_col *c, struct str as)
{
    if (str_is(as, "none")) {
        return;
    }
    buf_putc(b, ',');
    es_name_put_json(b, c->name);
    buf_putc(b, ':');
    enum class class = class_of(s, c);
    if (as.n == 0) {
        buf_puts(b, class_properties[class]);
    } else if (is_json(as)) {
        bool is_ok = es_json_put(b, as); /* es_mapping_check has read it */
        CHECK(is_ok || b->failed);
    } else {
        put_named(b, d, as, class);
    }
}

/* Appends an object of the properties of all columns, or of those marked. */
static void
put_properties(struct buf *b, const struct es_dialect *d, const struct schema *s,
    const struct conf_node *overrides, const bool *is_wanted)
{
    size_t from = b->n;
    for (uint32_t i = 0; i < s->ncols; i++) {
        const struct schema_col *c = &s->cols[i];
        if (is_wanted == NULL || is_wanted[i]) {
            put_property(b, d, s, c, override_of(s, c, overrides));
        }
    }
    if (b->n == from) {
        buf_putc(b, '{');
    } else if (!b->failed) {
        b->p[from] = '{'; /* the first comma */
    }
    buf_putc(b, '}');
}

/* ---- what is not indexed ---- */

uint8_t
es_mapping_rule(
    const struct schema *s, const struct schema_col *c, const struct conf_node *overrides)
{
    return (uint8_t)(override_of(s, c, overrides).n > 0 ? CLASS_KEPT : class_of(s, c));
}

static bool
is_beyond_keyword(struct str text)
{
    size_t units = 0;
    for (size_t i = 0; text.n > ES_MAPPING_KEYWORD_MAX && i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        units += (c & 0xc0) == 0x80 ? 0 : c < 0xf0 ? 1 : 2;
    }
    return units > ES_MAPPING_KEYWORD_MAX;
}

/* NaN, Infinity, infinity, a date BC: every number, date and time ends in a digit. */
static bool
is_special(struct str text)
{
    return text.n == 0 || text.p[text.n - 1] < '0' || text.p[text.n - 1] > '9';
}

static bool
is_beyond_double(struct str text)
{
    static const char first[] = "17976931348623158079"; /* of 309 digits that become infinite */
    enum { DIGITS = 309 };
    size_t from = text.n > 0 && text.p[0] == '-';
    const char *point = memchr(text.p, '.', text.n);
    size_t n = (point == NULL ? text.n : (size_t)(point - text.p)) - from;
    return n > DIGITS || (n == DIGITS && memcmp(text.p + from, first, sizeof first - 1) >= 0);
}

static bool
has_long_year(struct str text)
{
    const char *dash = memchr(text.p, '-', text.n);
    return dash == NULL || dash - text.p != 4;
}

bool
es_mapping_ignores(uint8_t rule, struct str text)
{
    switch ((enum class)rule) {
    case CLASS_KEYWORD:
    case CLASS_TEXT:
        return is_beyond_keyword(text);
    case CLASS_FLOAT:
    case CLASS_DOUBLE:
        return is_special(text);
    case CLASS_NUMERIC:
        return is_special(text) || is_beyond_double(text) || is_beyond_keyword(text);
    case CLASS_DATE:
    case CLASS_TIMESTAMP:
    case CLASS_TIMESTAMPTZ:
        return is_special(text) || has_long_year(text);
    case CLASS_IP:
        return text.n > 0 && memchr(text.p, '/', text.n) != NULL;
    case CLASS_BOOL:
    case CLASS_SHORT:
    case CLASS_INTEGER:
    case CLASS_LONG:
    case CLASS_KEPT:
        break;
    }
    return false;
}

/* ---- bodies ---- */

static void
put_limit(struct buf *b, const struct schema *s, size_t fields)
{
    enum { DEFAULT = 1000, PER_COLUMN = 3, SPARE = 200 };
    size_t limit = fields + PER_COLUMN * (size_t)s->ncols + SPARE;
    buf_puts(b, "\"index.mapping.total_fields.limit\":");
    json_put_u64(b, limit < DEFAULT ? DEFAULT : limit);
}

static void
put_keys(struct jsonw *w, const struct schema *s)
{
    jsonw_array(w, "key");
    for (uint32_t i = 0; i < s->ncols; i++) {
        if (s->cols[i].in_key) {
            jsonw_str(w, NULL, s->cols[i].name);
        }
    }
    jsonw_end_array(w);
}

static void
put_meta(struct buf *b, const struct schema *s, const struct es_meta *meta)
{
    struct jsonw w;
    struct buf auto_buf uuid;
    buf_init(&uuid, SIZE_MAX);
    digest_put_hex(&uuid, meta->uuid, sizeof meta->uuid);
    jsonw_init(&w, b);
    jsonw_object(&w, NULL);
    jsonw_object(&w, "oneslot");
    jsonw_u64(&w, "version", ES_MAPPING_META_VERSION);
    jsonw_str(&w, "log", buf_str(&uuid));
    jsonw_u64(&w, "epoch", meta->epoch);
    jsonw_u64(&w, "generation", meta->generation);
    jsonw_str(&w, "schema", s->ns);
    jsonw_str(&w, "table", s->name);
    put_keys(&w, s);
    jsonw_end_object(&w);
    jsonw_end_object(&w);
}

void
es_mapping_put_create(struct buf *b, const struct es_dialect *d, const struct schema *s,
    const struct conf_node *overrides, const struct es_meta *meta, struct str alias)
{
    buf_puts(b, "{\"settings\":{\"index.gc_deletes\":\"1h\",");
    put_limit(b, s, 0);
    if (d->is_opensearch) { /* counts arrays of what it does not map, too: 20 by default */
        buf_printf(b, ",\"index.mapping.depth.limit\":%d", ES_JSON_DEPTH_MAX + 2);
    }
    buf_puts(b, "},\"aliases\":{");
    json_put_string(b, alias);
    buf_puts(b, ":{}},\"mappings\":{\"dynamic\":false,\"_meta\":");
    put_meta(b, s, meta);
    buf_puts(b, ",\"properties\":");
    put_properties(b, d, s, overrides, NULL);
    buf_puts(b, "}}");
}

void
es_mapping_put_owner(struct buf *b, const struct schema *s, const struct es_meta *meta)
{
    buf_puts(b, "{\"_meta\":");
    put_meta(b, s, meta);
    buf_putc(b, '}');
}

void
es_mapping_put_extension(struct buf *b, const struct es_dialect *d, const struct schema *s,
    const struct conf_node *overrides, const bool *is_new)
{
    buf_puts(b, "{\"properties\":");
    put_properties(b, d, s, overrides, is_new);
    buf_putc(b, '}');
}

void
es_mapping_put_limit(struct buf *b, const struct schema *s, size_t fields)
{
    buf_putc(b, '{');
    put_limit(b, s, fields);
    buf_putc(b, '}');
}

/* ---- what an index lacks ---- */

static void
strike_out(const struct schema *s, struct str field, bool *is_new)
{
    struct buf auto_buf name;
    buf_init(&name, SIZE_MAX);
    for (uint32_t i = 0; i < s->ncols; i++) {
        buf_reset(&name, SIZE_MAX);
        es_name_put(&name, s->cols[i].name);
        if (str_eq(buf_str(&name), field)) {
            is_new[i] = false;
            return;
        }
    }
}

int
es_mapping_find_new(const struct schema *s, const struct conf_node *overrides,
    struct str properties, bool *is_new, struct err *e)
{
    struct es_scan sc = es_scan_of(properties.n == 0 ? STR("{}") : properties);
    struct buf auto_buf field;
    struct str raw;
    bool is_first = true;
    buf_init(&field, SIZE_MAX);
    for (uint32_t i = 0; i < s->ncols; i++) {
        is_new[i] = !str_is(override_of(s, &s->cols[i], overrides), "none");
    }
    if (!es_scan_object(&sc)) {
        return err_set(e, ERR_CORRUPT, "the mapping's properties are no object");
    }
    while (es_scan_member(&sc, &is_first, &raw)) {
        buf_reset(&field, SIZE_MAX);
        es_scan_put_unescaped(&field, raw);
        strike_out(s, buf_str(&field), is_new);
        es_scan_skip(&sc);
    }
    if (!es_scan_end(&sc)) {
        return err_set(e, ERR_CORRUPT, "the mapping's properties cannot be read");
    }
    int n = 0;
    for (uint32_t i = 0; i < s->ncols; i++) {
        n += is_new[i];
    }
    return n;
}
