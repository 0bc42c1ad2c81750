/* es_reply: see es_reply.h. Answers to _bulk, and what an item or a whole answer means; the
 * other answers are in es_reply_read.c. */
#include "sinks/elasticsearch/es_reply.h"

#include "sinks/elasticsearch/es_scan.h"

/* ---- errors inside of answers ---- */

static struct str
string_or_none(struct es_scan *sc)
{
    struct str s = {0};
    return es_scan_string(sc, &s) ? s : (struct str){0};
}

/* "caused_by":{"type":...,"caused_by":{...}}: the innermost type. */
static struct str
take_cause(struct es_scan *sc)
{
    struct str raw, type = {0}, key;
    if (!es_scan_value(sc, &raw) || raw.p[0] != '{') {
        return type;
    }
    for (int depth = 0; depth < 8 && raw.n > 0; depth++) {
        struct es_scan in = es_scan_of(raw);
        struct str inner = {0};
        bool is_first = true;
        (void)es_scan_object(&in);
        while (es_scan_member(&in, &is_first, &key)) {
            if (str_is(key, "type")) {
                type = string_or_none(&in);
            } else if (!str_is(key, "caused_by") || !es_scan_value(&in, &inner)) {
                es_scan_skip(&in);
            }
        }
        raw = inner.n > 0 && inner.p[0] == '{' ? inner : (struct str){0};
    }
    return type;
}

/* An object with type and reason; old proxies and plugins put a string there. */
static void
take_error(struct es_scan *sc, struct es_item *item)
{
    struct str key, text;
    bool is_first = true;
    es_scan_blanks(sc);
    if (sc->p < sc->end && *sc->p == '"') {
        if (es_scan_string(sc, &text)) {
            item->reason = text;
        }
        return;
    }
    if (!es_scan_object(sc)) {
        return;
    }
    while (es_scan_member(sc, &is_first, &key)) {
        if (str_is(key, "type")) {
            item->type = string_or_none(sc);
        } else if (str_is(key, "reason")) {
            item->reason = string_or_none(sc);
        } else if (str_is(key, "caused_by")) {
            item->cause = take_cause(sc);
        } else {
            es_scan_skip(sc);
        }
    }
}

/* ---- what an item means ---- */

static bool
begins_with(struct str s, const char *prefix)
{
    size_t n = strlen(prefix);
    return s.n >= n && memcmp(s.p, prefix, n) == 0;
}

/* A 400 that says nothing about the document: the name leads nowhere. */
static bool
is_about_index(const struct es_item *item)
{
    static const char *const types[] = {"index_closed_exception",
        "invalid_index_name_exception", "invalid_alias_name_exception",
        "index_not_found_exception"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (str_is(item->type, types[i])) {
            return true;
        }
    }
    return begins_with(item->reason, "no write index is defined for alias") ||
           begins_with(item->reason, "pipeline with id") ||
           begins_with(item->reason, "Alias [");
}

static enum es_outcome
outcome_of_refusal(const struct es_item *item, bool is_delete)
{
    switch (item->status) {
    case 404:
        return is_delete && item->type.n == 0 ? ES_MISSING : ES_STOP;
    case 409:
        return item->type.n == 0 || str_is(item->type, "version_conflict_engine_exception")
                   ? ES_STALE
                   : ES_RETRY;
    case 401:
    case 403:
        return ES_STOP;
    case 408:
        return ES_RETRY;
    default:
        return is_about_index(item) ? ES_STOP : ES_REJECT;
    }
}

static enum es_outcome
outcome_of(const struct es_item *item, bool is_delete)
{
    unsigned status = item->status;
    if (status == 200 || status == 201) {
        return item->type.n == 0 ? ES_DONE : ES_RETRY;
    }
    /* Read-only since the disk is full is 403 or 429; no master, or not recovered yet, is 503.
     */
    if (str_is(item->type, "cluster_block_exception") && (status == 403 || status == 429)) {
        return ES_BLOCKED;
    }
    if (status == 429 || status == 503 ||
        str_is(item->type, "es_rejected_execution_exception") ||
        str_is(item->type, "rejected_execution_exception") ||
        str_is(item->type, "circuit_breaking_exception")) {
        return ES_PUSHED;
    }
    if (begins_with(item->type, "no_shard_available") ||
        begins_with(item->type, "unavailable_shards") ||
        begins_with(item->type, "shard_not_found")) {
        return ES_RETRY;
    }
    return status >= 400 && status <= 499 ? outcome_of_refusal(item, is_delete) : ES_RETRY;
}

/* ---- the items ---- */

/* {"ACTION":{"status":N, "error":{...}}} */
static bool
take_item(struct es_scan *sc, struct es_item *item)
{
    struct str key;
    uint64_t status = 0;
    bool is_first = true, is_first_within = true;
    if (!es_scan_object(sc) || !es_scan_member(sc, &is_first, &key) || !es_scan_object(sc)) {
        return false;
    }
    while (es_scan_member(sc, &is_first_within, &key)) {
        if (str_is(key, "status")) {
            (void)es_scan_u64(sc, &status);
        } else if (str_is(key, "error")) {
            take_error(sc, item);
        } else if (str_is(key, "_index")) {
            item->index = string_or_none(sc);
        } else {
            es_scan_skip(sc);
        }
    }
    item->status = status <= 999 ? (uint16_t)status : 0;
    return !es_scan_member(sc, &is_first, &key) && !sc->failed; /* one action each */
}

/* The usual item, as filter_path leaves it: {"index":{"status":200}} */
static bool
take_plain_item(struct es_scan *sc, struct es_item *item)
{
    static const struct str forms[] = {
        {.p = "{\"index\":{\"status\":", .n = 19}, {.p = "{\"delete\":{\"status\":", .n = 20}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        size_t n = forms[i].n;
        const char *p = sc->p;
        if ((size_t)(sc->end - p) < n + 5 || memcmp(p, forms[i].p, n) != 0) {
            continue;
        }
        uint64_t status;
        if (memcmp(p + n + 3, "}}", 2) != 0 ||
            !str_u64((struct str){.p = p + n, .n = 3}, 999, &status)) {
            return false;
        }
        item->status = (uint16_t)status;
        sc->p += n + 5;
        return true;
    }
    return false;
}

/* Returns how many items there are, up to n + 1. */
static size_t
take_items(struct es_scan *sc, const bool *is_delete, size_t n, struct es_item *items)
{
    bool is_first = true;
    size_t i = 0;
    if (!es_scan_array(sc)) {
        return 0;
    }
    while (es_scan_element(sc, &is_first)) {
        if (i == n) {
            (void)es_scan_fail(sc);
            return n + 1;
        }
        struct es_item *item = &items[i];
        *item = (struct es_item){0};
        if (!take_plain_item(sc, item) && !take_item(sc, item)) {
            (void)es_scan_fail(sc);
            return i;
        }
        item->outcome = outcome_of(item, is_delete[i]);
        i++;
    }
    return i;
}

/* "errors": what the server thinks of it must agree with what its items say. */
static bool
is_consistent(bool has_errors, const struct es_item *items, size_t n)
{
    for (size_t i = 0; i < n && !has_errors; i++) {
        if (items[i].outcome != ES_DONE && items[i].outcome != ES_MISSING) {
            return false;
        }
    }
    return true;
}

int
es_reply_bulk(
    struct str body, const bool *is_delete, size_t n, struct es_item *items, struct err *e)
{
    struct es_scan sc = es_scan_of(body);
    struct str key;
    bool is_first = true, has_errors = true, has_items = false;
    size_t got = 0;
    if (!es_scan_object(&sc)) {
        return err_set(e, ERR_CLOSED,
            "the answer to _bulk (%zu bytes) is no JSON object: is there something between us "
            "and Elasticsearch?",
            body.n);
    }
    while (es_scan_member(&sc, &is_first, &key)) {
        if (str_is(key, "errors")) {
            (void)es_scan_bool(&sc, &has_errors);
        } else if (str_is(key, "items") && !has_items) {
            has_items = true;
            got = take_items(&sc, is_delete, n, items);
        } else {
            es_scan_skip(&sc);
        }
    }
    if (got > n || (got < n && es_scan_end(&sc))) {
        return err_set(e, ERR_CLOSED, "the answer to _bulk holds %s items than the %zu sent",
            got > n ? "more" : "fewer", n);
    }
    if (!es_scan_end(&sc)) {
        return err_set(e, ERR_CLOSED,
            "the answer to _bulk (%zu bytes) breaks off or is not JSON after item %zu of %zu",
            body.n, got, n);
    }
    if (!is_consistent(has_errors, items, n)) {
        return err_set(
            e, ERR_CLOSED, "the answer to _bulk says that it has no errors and holds some");
    }
    return 0;
}

/* ---- sentences ---- */

/* Appends what is a name to every reader: at most 80 printable characters. */
static void
put_name(struct buf *b, struct str s)
{
    enum { MOST = 80 };
    for (size_t i = 0; i < s.n && i < MOST; i++) {
        unsigned char c = (unsigned char)s.p[i];
        buf_putc(b, c < 0x20 || c >= 0x7f ? '?' : (char)c);
    }
}

/* The NAME of "... field [NAME] ..." or of "field=\"NAME\"" (escaped), the one thing of a
 * reason that is no value. */
static struct str
field_of(struct str reason)
{
    static const struct {
        const char *open, *close;
    } forms[] = {{"field [", "]"}, {"field=\\\"", "\\\""}, {"field name [", "]"}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        size_t n = strlen(forms[i].open);
        const char *at = reason.n == 0 ? NULL : memmem(reason.p, reason.n, forms[i].open, n);
        if (at == NULL) {
            continue;
        }
        at += n;
        size_t left = (size_t)(reason.p + reason.n - at);
        const char *end = memmem(at, left, forms[i].close, strlen(forms[i].close));
        if (end != NULL) {
            return (struct str){.p = at, .n = (size_t)(end - at)};
        }
    }
    return (struct str){0};
}

/* What a person has to act on is said in full: it names indices and blocks, no document. */
static void
put_whole_reason(struct buf *b, struct str reason)
{
    enum { MOST = 300 };
    if (reason.n == 0) {
        return;
    }
    buf_puts(b, ": ");
    for (size_t i = 0; i < reason.n && i < MOST; i++) {
        unsigned char c = (unsigned char)reason.p[i];
        buf_putc(b, c < 0x20 || c >= 0x7f ? '?' : (char)c);
    }
}

void
es_reply_put_reason(struct buf *b, const struct es_item *item)
{
    buf_printf(b, "Elasticsearch answered %u", (unsigned)item->status);
    if (item->type.n > 0) {
        buf_putc(b, ' ');
        put_name(b, item->type);
    }
    if (item->cause.n > 0 && !str_eq(item->cause, item->type)) {
        buf_puts(b, " because of ");
        put_name(b, item->cause);
    }
    if (item->outcome == ES_BLOCKED || item->outcome == ES_STOP) {
        put_whole_reason(b, item->reason);
        return;
    }
    /* In quotes stand values of the document. */
    struct str reason = item->reason;
    const char *quote = reason.n == 0 ? NULL : memchr(reason.p, '\'', reason.n);
    reason.n = quote == NULL ? reason.n : (size_t)(quote - reason.p);
    struct str field = field_of(reason);
    if (field.n > 0) {
        buf_puts(b, " at field ");
        put_name(b, field);
    }
}

/* ---- whole answers ---- */

/* {"error":{"type":..,"reason":..},"status":N}: false when the body is not of that kind. */
static bool
take_error_body(struct str body, struct es_item *ret)
{
    struct es_scan sc = es_scan_of(body);
    struct str key;
    bool is_first = true, has_error = false;
    *ret = (struct es_item){0};
    if (!es_scan_object(&sc)) {
        return false;
    }
    while (es_scan_member(&sc, &is_first, &key)) {
        if (str_is(key, "error")) {
            has_error = true;
            take_error(&sc, ret);
        } else {
            es_scan_skip(&sc);
        }
    }
    return has_error;
}

enum es_whole
es_reply_whole(unsigned status, struct str body)
{
    struct es_item error;
    if (status >= 200 && status <= 299) {
        return ES_WHOLE_OK;
    }
    bool is_theirs = take_error_body(body, &error);
    if (str_is(error.type, "cluster_block_exception") && (status == 403 || status == 429)) {
        return ES_WHOLE_BLOCKED;
    }
    switch (status) {
    case 413:
        return ES_WHOLE_HALVE;
    case 400:
        return is_theirs ? ES_WHOLE_HALVE : ES_WHOLE_STOP;
    case 408:
    case 429:
    case 502:
    case 503:
    case 504:
        return ES_WHOLE_PUSHED;
    default:
        return status >= 300 && status <= 499 ? ES_WHOLE_STOP : ES_WHOLE_RETRY;
    }
}

bool
es_reply_is_error(struct str body, const char *type)
{
    struct es_item error;
    return take_error_body(body, &error) &&
           (str_is(error.type, type) || str_is(error.cause, type));
}

void
es_reply_put_error(struct buf *b, unsigned status, struct str body, bool with_reason)
{
    struct es_item error;
    bool is_theirs = take_error_body(body, &error);
    buf_printf(b, "answered %u", status);
    if (!is_theirs) {
        buf_puts(b, ", with a body that is not Elasticsearch's");
        return;
    }
    if (error.type.n > 0) {
        buf_putc(b, ' ');
        put_name(b, error.type);
    }
    if (with_reason) {
        put_whole_reason(b, error.reason);
    }
}
