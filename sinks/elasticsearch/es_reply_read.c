/* es_reply, the answers to what is asked rather than written: GET /, _mget, _mapping, a page of
 * a search. See es_reply.h. */
#include "proto/base/json.h"
#include "sinks/elasticsearch/es_mapping.h"
#include "sinks/elasticsearch/es_reply.h"
#include "sinks/elasticsearch/es_scan.h"

static int
broken(const char *what, struct str body, struct err *e)
{
    return err_set(e, ERR_CLOSED,
        "the answer to %s (%zu bytes) breaks off or is not what Elasticsearch answers", what,
        body.n);
}

/* ---- GET / ---- */

static bool
take_part(struct str *text, unsigned *ret)
{
    size_t n = 0;
    while (n < text->n && text->p[n] >= '0' && text->p[n] <= '9') {
        n++;
    }
    uint64_t v;
    if (!str_u64((struct str){.p = text->p, .n = n}, 9999, &v)) {
        return false;
    }
    *ret = (unsigned)v;
    text->p += n;
    text->n -= n;
    if (text->n > 0 && text->p[0] == '.') {
        text->p++;
        text->n--;
    }
    return true;
}

/* "8.19.8", "8.0.0-SNAPSHOT" */
static bool
read_number(struct str text, struct es_info *info)
{
    struct str left = text;
    if (text.n >= sizeof info->number || !take_part(&left, &info->major) ||
        !take_part(&left, &info->minor) || !take_part(&left, &info->patch)) {
        return false;
    }
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        info->number[i] = (c > ' ' && c < 0x7f) ? c : '?';
    }
    info->number[text.n] = '\0';
    return true;
}

static bool
take_version(struct es_scan *sc, struct es_info *info)
{
    struct str key, text;
    bool is_first = true, has_number = false;
    if (!es_scan_object(sc)) {
        return false;
    }
    while (es_scan_member(sc, &is_first, &key)) {
        if (str_is(key, "number")) {
            has_number = es_scan_string(sc, &text) && read_number(text, info);
        } else if (str_is(key, "distribution")) {
            info->is_opensearch = es_scan_string(sc, &text) && str_is(text, "opensearch");
        } else {
            es_scan_skip(sc);
        }
    }
    return has_number;
}

int
es_reply_info(struct str body, struct es_info *ret, struct err *e)
{
    struct es_scan sc = es_scan_of(body);
    struct es_info info = {0};
    struct str key;
    bool is_first = true, has_version = false;
    if (es_scan_object(&sc)) {
        while (es_scan_member(&sc, &is_first, &key)) {
            if (str_is(key, "version")) {
                has_version = take_version(&sc, &info);
            } else {
                es_scan_skip(&sc);
            }
        }
    }
    if (!has_version || !es_scan_end(&sc)) {
        return err_set(e, ERR_PROTOCOL,
            "what answers there is neither Elasticsearch nor OpenSearch: look at the url, and "
            "at "
            "what stands between");
    }
    *ret = info;
    return 0;
}

/* ---- _mget ---- */

static bool
take_doc(struct es_scan *sc, struct es_doc *doc)
{
    struct str key, source = {0};
    bool is_first = true, has_version = false;
    *doc = (struct es_doc){0};
    if (!es_scan_object(sc)) {
        return false;
    }
    while (es_scan_member(sc, &is_first, &key)) {
        if (str_is(key, "found")) {
            (void)es_scan_bool(sc, &doc->is_found);
        } else if (str_is(key, "_version")) {
            has_version = es_scan_u64(sc, &doc->version);
        } else if (str_is(key, "_source")) {
            (void)es_scan_value(sc, &source);
        } else if (str_is(key, "error")) {
            doc->is_failed = true;
            es_scan_skip(sc);
        } else {
            es_scan_skip(sc);
        }
    }
    doc->source = source;
    if (doc->is_found && (!has_version || source.n == 0 || source.p[0] != '{')) {
        doc->is_failed = true;
    }
    doc->is_found = doc->is_found && !doc->is_failed;
    return !sc->failed;
}

/* Returns how many there are, up to n + 1. */
static size_t
take_docs(struct es_scan *sc, size_t n, struct es_doc *docs)
{
    bool is_first = true;
    size_t i = 0;
    if (!es_scan_array(sc)) {
        return 0;
    }
    while (es_scan_element(sc, &is_first)) {
        if (i == n || !take_doc(sc, &docs[i])) {
            (void)es_scan_fail(sc);
            return i == n ? n + 1 : i;
        }
        i++;
    }
    return i;
}

int
es_reply_mget(struct str body, size_t n, struct es_doc *docs, struct err *e)
{
    struct es_scan sc = es_scan_of(body);
    struct str key;
    bool is_first = true, has_docs = false;
    size_t got = 0;
    if (!es_scan_object(&sc)) {
        return broken("_mget", body, e);
    }
    while (es_scan_member(&sc, &is_first, &key)) {
        if (str_is(key, "docs") && !has_docs) {
            has_docs = true;
            got = take_docs(&sc, n, docs);
        } else {
            es_scan_skip(&sc);
        }
    }
    return got == n && es_scan_end(&sc) ? 0 : broken("_mget", body, e);
}

/* ---- a source ---- */

/* The column whose field has this name (raw contents of a string); shape->ncols: none. They
 * usually come in order. */
static uint32_t
find_field(const struct es_shape *shape, struct str name, uint32_t hint)
{
    for (uint32_t i = 0; i < shape->ncols; i++) {
        uint32_t at = hint + i < shape->ncols ? hint + i : hint + i - shape->ncols;
        struct str f = shape->fields[at]; /* ,"name": */
        if (f.n == name.n + 4 && memcmp(f.p + 2, name.p, name.n) == 0) {
            return at;
        }
    }
    return shape->ncols;
}

/* The same for a name that is spelled with other escapes than ours. */
static uint32_t
find_escaped(const struct es_shape *shape, struct str name, uint32_t hint)
{
    struct buf auto_buf plain, auto_buf ours;
    buf_init(&plain, SIZE_MAX);
    buf_init(&ours, SIZE_MAX);
    es_scan_put_unescaped(&plain, name);
    json_put_string(&ours, buf_str(&plain));
    return find_field(shape, (struct str){.p = ours.p + 1, .n = ours.n - 2}, hint);
}

int
es_reply_source(
    struct str source, const struct es_shape *shape, struct str *values, struct err *e)
{
    struct es_scan sc = es_scan_of(source);
    struct str key, value;
    bool is_first = true;
    uint32_t hint = 0;
    for (uint32_t i = 0; i < shape->ncols; i++) {
        values[i] = (struct str){0};
    }
    if (!es_scan_object(&sc)) {
        return err_set(e, ERR_CORRUPT, "a document's _source is no object");
    }
    while (es_scan_member(&sc, &is_first, &key) && es_scan_value(&sc, &value)) {
        uint32_t at = find_field(shape, key, hint);
        if (at == shape->ncols && key.n > 0 && memchr(key.p, '\\', key.n) != NULL) {
            at = find_escaped(shape, key, hint);
        }
        if (at < shape->ncols) {
            values[at] = value;
            hint = at + 1 < shape->ncols ? at + 1 : 0;
        }
    }
    return es_scan_end(&sc)
               ? 0
               : err_set(e, ERR_CORRUPT, "a document's _source cannot be read as JSON");
}

/* ---- a mapping ---- */

static bool
read_uuid(struct str hex, uint8_t uuid[16])
{
    for (size_t i = 0; i < 16 && hex.n == 32; i++) {
        int high = str_hex_digit(hex.p[2 * i]), low = str_hex_digit(hex.p[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        uuid[i] = (uint8_t)(high << 4 | low);
    }
    return hex.n == 32;
}

enum meta_member {
    META_VERSION = 1,
    META_LOG = 2,
    META_EPOCH = 4,
    META_GENERATION = 8,
    META_SCHEMA = 16,
    META_TABLE = 32,
    META_KEY = 64,
    META_ALL = 127
};

/* Takes one member; returns which one of ours it was, if it is what it should be. */
static unsigned
take_meta_member(struct es_scan *sc, struct str key, uint64_t *version, struct es_live *live)
{
    struct str text;
    if (str_is(key, "version")) {
        return es_scan_u64(sc, version) ? META_VERSION : 0;
    }
    if (str_is(key, "log")) {
        return es_scan_string(sc, &text) && read_uuid(text, live->uuid) ? META_LOG : 0;
    }
    if (str_is(key, "epoch")) {
        return es_scan_u64(sc, &live->epoch) ? META_EPOCH : 0;
    }
    if (str_is(key, "generation")) {
        return es_scan_u64(sc, &live->generation) ? META_GENERATION : 0;
    }
    if (str_is(key, "schema")) {
        return es_scan_value(sc, &live->ns) && live->ns.p[0] == '"' ? META_SCHEMA : 0;
    }
    if (str_is(key, "table")) {
        return es_scan_value(sc, &live->table) && live->table.p[0] == '"' ? META_TABLE : 0;
    }
    if (str_is(key, "key")) {
        return es_scan_value(sc, &live->keys) && live->keys.p[0] == '[' ? META_KEY : 0;
    }
    es_scan_skip(sc);
    return 0;
}

static void
take_meta(struct es_scan *sc, struct es_live *live)
{
    struct str key;
    bool is_first = true;
    unsigned seen = 0;
    uint64_t version = 0;
    if (!es_scan_object(sc)) {
        return;
    }
    while (es_scan_member(sc, &is_first, &key)) {
        seen |= take_meta_member(sc, key, &version, live);
    }
    live->is_newer = (seen & META_VERSION) != 0 && version > ES_MAPPING_META_VERSION;
    live->has_meta = seen == META_ALL && version == ES_MAPPING_META_VERSION;
}

/* "_meta":{"oneslot":{...}} */
static void
take_whole_meta(struct es_scan *sc, struct es_live *live)
{
    struct str key;
    bool is_first = true;
    if (!es_scan_object(sc)) {
        return;
    }
    while (es_scan_member(sc, &is_first, &key)) {
        if (str_is(key, "oneslot")) {
            take_meta(sc, live);
        } else {
            es_scan_skip(sc);
        }
    }
}

/* At least as many fields as there are: one per opening brace. */
static size_t
count_fields(struct str properties)
{
    size_t n = 0;
    for (size_t i = 1; i < properties.n; i++) {
        n += properties.p[i] == '{';
    }
    return n;
}

static void
take_mappings(struct es_scan *sc, struct es_live *live)
{
    struct str key;
    bool is_first = true;
    if (!es_scan_object(sc)) {
        return;
    }
    while (es_scan_member(sc, &is_first, &key)) {
        if (str_is(key, "_meta")) {
            take_whole_meta(sc, live);
        } else if (str_is(key, "properties") && es_scan_value(sc, &live->properties)) {
            live->fields = count_fields(live->properties);
        } else if (!str_is(key, "properties")) {
            es_scan_skip(sc);
        }
    }
}

static void
take_index(struct es_scan *sc, struct es_live *live)
{
    struct str key;
    bool is_first = true;
    if (!es_scan_object(sc)) {
        return;
    }
    while (es_scan_member(sc, &is_first, &key)) {
        if (str_is(key, "mappings")) {
            take_mappings(sc, live);
        } else {
            es_scan_skip(sc);
        }
    }
}

int
es_reply_mapping(struct str body, struct es_live *ret, struct err *e)
{
    struct es_scan sc = es_scan_of(body);
    struct es_live live = {0};
    struct str key;
    bool is_first = true;
    if (!es_scan_object(&sc)) {
        return broken("_mapping", body, e);
    }
    while (es_scan_member(&sc, &is_first, &key)) {
        if (live.indices++ == 0) {
            live.index = key;
            take_index(&sc, &live);
        } else {
            es_scan_skip(&sc);
        }
    }
    if (!es_scan_end(&sc)) {
        return broken("_mapping", body, e);
    }
    *ret = live;
    return 0;
}

/* True when raw contents of a string stand for what jsonw_str writes of name. */
static bool
is_name(struct str contents, struct str name)
{
    struct buf auto_buf theirs, auto_buf ours, auto_buf again;
    struct jsonw w;
    buf_init(&theirs, SIZE_MAX);
    buf_init(&ours, SIZE_MAX);
    buf_init(&again, SIZE_MAX);
    jsonw_init(&w, &ours);
    jsonw_str(&w, NULL, name);
    es_scan_put_unescaped(&theirs, contents);
    es_scan_put_unescaped(&again, (struct str){.p = ours.p + 1, .n = ours.n - 2});
    return str_eq(buf_str(&theirs), buf_str(&again));
}

static struct str
contents_of(struct str quoted)
{
    return (struct str){.p = quoted.p + 1, .n = quoted.n - 2};
}

static bool
has_same_keys(struct str keys, const struct schema *s)
{
    struct es_scan sc = es_scan_of(keys);
    struct str name;
    bool is_first = true;
    uint32_t i = 0, left = s->nkeys;
    if (!es_scan_array(&sc)) {
        return false;
    }
    while (es_scan_element(&sc, &is_first)) {
        while (i < s->ncols && !s->cols[i].in_key) {
            i++;
        }
        if (left == 0 || i == s->ncols || !es_scan_string(&sc, &name) ||
            !is_name(name, s->cols[i].name)) {
            return false;
        }
        i++;
        left--;
    }
    return left == 0 && es_scan_end(&sc);
}

bool
es_reply_is_named(const struct es_live *live, struct str ns, struct str table)
{
    return live->has_meta && is_name(contents_of(live->ns), ns) &&
           is_name(contents_of(live->table), table);
}

bool
es_reply_is_of_table(const struct es_live *live, const struct schema *s)
{
    return es_reply_is_named(live, s->ns, s->name) && has_same_keys(live->keys, s);
}

/* ---- a page of a search ---- */

static bool
take_hit(struct es_scan *sc, struct es_hit *hit, struct str *sort)
{
    struct str key;
    bool is_first = true, has_id = false, has_version = false;
    if (!es_scan_object(sc)) {
        return false;
    }
    while (es_scan_member(sc, &is_first, &key)) {
        if (str_is(key, "_id")) {
            has_id = es_scan_string(sc, &hit->id);
        } else if (str_is(key, "_version")) {
            has_version = es_scan_u64(sc, &hit->version);
        } else if (str_is(key, "sort")) {
            (void)es_scan_value(sc, sort);
        } else {
            es_scan_skip(sc);
        }
    }
    return has_id && has_version;
}

static void
take_hit_list(struct es_scan *sc, struct es_hit *hits, size_t max, struct es_page *page)
{
    bool is_first = true;
    if (!es_scan_array(sc)) {
        return;
    }
    while (es_scan_element(sc, &is_first)) {
        if (page->n == max || !take_hit(sc, &hits[page->n], &page->sort)) {
            (void)es_scan_fail(sc);
            return;
        }
        page->n++;
    }
}

/* "hits":{"total":...,"hits":[...]} */
static bool
take_hits(struct es_scan *sc, struct es_hit *hits, size_t max, struct es_page *page)
{
    struct str key;
    bool is_first = true, has_hits = false;
    if (!es_scan_object(sc)) {
        return false;
    }
    while (es_scan_member(sc, &is_first, &key)) {
        if (str_is(key, "hits") && !has_hits) {
            has_hits = true;
            take_hit_list(sc, hits, max, page);
        } else {
            es_scan_skip(sc);
        }
    }
    return has_hits;
}

/* "_shards":{"total":1,"successful":1,"skipped":0,"failed":0} */
static bool
has_failed_shards(struct es_scan *sc)
{
    struct str key;
    bool is_first = true;
    uint64_t failed = 1;
    if (!es_scan_object(sc)) {
        return true;
    }
    while (es_scan_member(sc, &is_first, &key)) {
        if (!str_is(key, "failed")) {
            es_scan_skip(sc);
        } else if (!es_scan_u64(sc, &failed)) {
            failed = 1;
        }
    }
    return failed != 0;
}

static bool
take_page_member(
    struct es_scan *sc, struct str key, struct es_hit *hits, size_t max, struct es_page *page)
{
    bool is_timed_out = true;
    if (str_is(key, "hits")) {
        return take_hits(sc, hits, max, page);
    }
    if (str_is(key, "_scroll_id")) {
        (void)es_scan_string(sc, &page->scroll_id);
    } else if (str_is(key, "pit_id")) {
        (void)es_scan_string(sc, &page->pit_id);
    } else if (str_is(key, "_shards")) {
        page->is_partial |= has_failed_shards(sc);
    } else if (str_is(key, "timed_out")) {
        page->is_partial |= !es_scan_bool(sc, &is_timed_out) || is_timed_out;
    } else {
        es_scan_skip(sc);
    }
    return false;
}

int
es_reply_page(
    struct str body, struct es_hit *hits, size_t max, struct es_page *ret, struct err *e)
{
    struct es_scan sc = es_scan_of(body);
    struct es_page page = {0};
    struct str key;
    bool is_first = true, has_hits = false;
    if (!es_scan_object(&sc)) {
        return broken("_search", body, e);
    }
    while (!has_hits && es_scan_member(&sc, &is_first, &key)) {
        has_hits = take_page_member(&sc, key, hits, max, &page);
    }
    /* A second "hits" would overwrite the first. */
    while (es_scan_member(&sc, &is_first, &key)) {
        if (str_is(key, "hits")) {
            return broken("_search", body, e);
        }
        (void)take_page_member(&sc, key, hits, max, &page);
    }
    if (!has_hits || !es_scan_end(&sc)) {
        return broken("_search", body, e);
    }
    *ret = page;
    return 0;
}
