/* es_reply: what Elasticsearch and OpenSearch answer, read in one pass over the body without a
 * tree. Pure, fuzzed: bodies are hostile. Every view that is returned points into the body.
 *
 * Nothing here repeats a document's values: of an item's error the type and the field's name
 * are kept, its reason never. */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_REPLY_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/str.h"
#include "sinks/elasticsearch/es_render.h"

/* Asked for with every _bulk: `?filter_path=` this. */
#define ES_REPLY_BULK_FILTER                                                                   \
    "errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by."   \
    "type,items.delete._index"

/* ---- _bulk ---- */

/* What became of one action. */
enum es_outcome {
    ES_RETRY = 0, /* not now (5xx, and whatever is not understood) */
    ES_PUSHED,    /* not now: too much to do (429, 503, a full queue): fewer, smaller */
    ES_DONE,
    ES_STALE,   /* the index has something newer: as good as done */
    ES_MISSING, /* deleted what was not there: as good as done */
    ES_REJECT,  /* this document can never be accepted */
    ES_BLOCKED, /* the index takes no writes (flood stage, read-only): pause, tell a person */
    ES_STOP     /* nothing will be accepted before a person acts (401, 403, no alias) */
};

struct es_item {
    enum es_outcome outcome;
    uint16_t status;
    /* raw JSON string contents (escaped), empty when absent: */
    struct str type, cause, reason;
    /* Of a delete the index that it went to. When that is the alias itself, there was no alias:
     * a delete with an external version makes an index where none is, require_alias or not
     * (seen with 7.17 and 8.19). It must not be counted as done; the stray index is empty. */
    struct str index;
};

/* Reads the body of a 200 to a _bulk of n actions: n items, in order. is_delete[i]: what was
 * asked. ERR_CLOSED (class RETRY: send all again; items undefined): broken off, not JSON, or
 * another number of items. */
int es_reply_bulk(struct str body, const bool *is_delete, size_t n, struct es_item *items,
    struct err *e) MUST_CHECK;
/* Appends a sentence for a dead letter, an error or a log: status, type, field. Never a value
 * of the document. */
void es_reply_put_reason(struct buf *b, const struct es_item *item);

/* ---- whole answers ---- */

enum es_whole {
    ES_WHOLE_OK = 0,
    ES_WHOLE_HALVE, /* 413, or 400 for the request: smaller; a single record is rejected */
    ES_WHOLE_RETRY,
    ES_WHOLE_PUSHED,
    ES_WHOLE_BLOCKED,
    ES_WHOLE_STOP
};

/* What the status of an answer to _bulk, _mget or _search means. */
enum es_whole es_reply_whole(unsigned status, struct str body);
/* Appends a sentence about an answer that is no success: status, and of an error body its type;
 * with_reason also its reason (bounded): only for requests that carry no document. */
void es_reply_put_error(struct buf *b, unsigned status, struct str body, bool with_reason);
/* True when the body is an error of this type (index_not_found_exception, ...), or was caused
 * by one. */
bool es_reply_is_error(struct str body, const char *type);

/* ---- GET / ---- */

struct es_info {
    bool is_opensearch;
    unsigned major, minor, patch;
    char number[32]; /* "8.19.8", printable */
};
/* ERR_PROTOCOL: not one of the two. */
int es_reply_info(struct str body, struct es_info *ret, struct err *e) MUST_CHECK;

/* ---- _mget ---- */

struct es_doc {
    bool is_found;
    bool is_failed; /* an error of this document alone: unknown, ask again */
    uint64_t version;
    struct str source; /* raw JSON object, as it was sent */
};
/* n documents in the order asked for. ERR_CLOSED as above. Ask without any filter of _source:
 * only then is it the text that was sent. */
int es_reply_mget(struct str body, size_t n, struct es_doc *docs, struct err *e) MUST_CHECK;
/* Finds the columns' values in a source: values[0..shape->ncols) are raw JSON, or have NULL
 * where the source has no such member. Of repeated members the last counts. ERR_CORRUPT: not an
 * object. */
int es_reply_source(struct str source, const struct es_shape *shape, struct str *values,
    struct err *e) MUST_CHECK;

/* ---- GET /ALIAS/_mapping, GET /ALIAS/_alias ---- */

struct es_live {
    size_t indices;   /* behind the name; all below is of the first */
    struct str index; /* its name (never has escapes) */
    bool has_meta;    /* `_meta.oneslot` of a version that we read */
    bool is_newer;    /* ... of one that we do not know */
    uint8_t uuid[16];
    uint64_t epoch, generation;
    struct str ns, table,
        keys;              /* raw JSON: two strings with their quotes, an array of strings */
    struct str properties; /* raw JSON object; empty: none */
    size_t fields;         /* properties, and fields within them */
};
/* ERR_CLOSED as above. */
int es_reply_mapping(struct str body, struct es_live *ret, struct err *e) MUST_CHECK;
/* True when the meta names this table. */
bool es_reply_is_named(const struct es_live *live, struct str ns, struct str table);
/* ... and these key columns. */
bool es_reply_is_of_table(const struct es_live *live, const struct schema *s);

/* ---- a page of a search (sort by _doc, version: true, _source: false) ---- */

struct es_hit {
    struct str id; /* raw contents of a JSON string: es_scan_put_unescaped makes it an id */
    uint64_t version;
};

struct es_page {
    struct str scroll_id, pit_id; /* raw contents; empty when absent */
    struct str sort;              /* raw JSON array of the last hit */
    bool is_partial;              /* timed_out, or failed shards: ask again */
    size_t n;                     /* hits */
};
/* At most max hits are written. ERR_CLOSED as above, also with more than max. */
int es_reply_page(struct str body, struct es_hit *hits, size_t max, struct es_page *ret,
    struct err *e) MUST_CHECK;
#endif
