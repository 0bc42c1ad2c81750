/* http_reply: see http_reply.h. */
#include "sinks/http/http_reply.h"

#include <stdint.h>

#include "proto/base/check.h"
#include "proto/base/json.h"

enum { REASON_TEXT_MAX = 200 };

/* ---- the status ---- */

enum http_whole
http_reply_whole(long status)
{
    switch (status) {
    case 408:
    case 429:
    case 503:
        return HTTP_WHOLE_PUSHED;
    case 425:
        return HTTP_WHOLE_RETRY;
    case 413:
        return HTTP_WHOLE_TOOBIG;
    case 400:
    case 422:
        return HTTP_WHOLE_REFUSED;
    default:
        break;
    }
    if (status >= 200 && status <= 299) {
        return HTTP_WHOLE_OK;
    }
    return status >= 500 && status <= 599 ? HTTP_WHOLE_RETRY : HTTP_WHOLE_STOP;
}

/* What to do about a status that no waiting mends. */
static const char *
advice_of(long status)
{
    if (status >= 300 && status <= 399) {
        return "it sends elsewhere, and redirects are not followed: set `url` to where it "
               "points";
    }
    switch (status) {
    case 401:
    case 403:
        return "look at `token_file` and `secret_file`, and at what the receiver accepts";
    case 404:
    case 410:
        return "there is nothing at this `url`: look at its path";
    case 405:
        return "it takes no POST: look at the path of `url`";
    default:
        return "look at the receiver's log";
    }
}

int
http_reply_error(long status, const char *origin, struct err *e)
{
    enum http_whole whole = http_reply_whole(status);
    if (whole == HTTP_WHOLE_RETRY || whole == HTTP_WHOLE_PUSHED) {
        return err_set(e, ERR_BUSY, "%.200s answers %ld: not now", origin, status);
    }
    return err_set(e, status == 401 || status == 403 ? ERR_AUTH : ERR_REFUSED,
        "%.200s answers %ld: %s", origin, status, advice_of(status));
}

/* ---- what is said of single records ---- */

static bool
begins_object(struct str body)
{
    size_t i = 0;
    while (i < body.n && memchr(" \t\r\n", body.p[i], 4) != NULL) {
        i++;
    }
    return i < body.n && body.p[i] == '{';
}

static enum verdict
verdict_of(const struct json *item)
{
    struct str status;
    if (json_str(json_get(item, "status"), &status)) {
        if (str_is(status, "ok")) {
            return VERDICT_DONE;
        }
        if (str_is(status, "reject")) {
            return VERDICT_REJECT;
        }
    }
    return VERDICT_RETRY;
}

/* Which record has the offset; n: none. Answers usually name them in order. */
static size_t
find_record(const struct record *records, size_t n, uint64_t offset, size_t hint)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = hint + i < n ? hint + i : hint + i - n;
        if (records[at].offset == offset) {
            return at;
        }
    }
    return n;
}

static const char *
put_reason(struct buf *reasons, enum verdict verdict, const struct json *item)
{
    struct str said = {0};
    const char *start = buf_room(reasons, HTTP_REPLY_REASON_MAX);
    CHECK(start != NULL);
    buf_puts(reasons, verdict == VERDICT_REJECT ? "the receiver rejects it" : "not now");
    if (json_str(json_get(item, "reason"), &said) && said.n > 0) {
        buf_puts(reasons, ": ");
        for (size_t i = 0; i < said.n && i < REASON_TEXT_MAX; i++) {
            char c = said.p[i];
            buf_putc(reasons, c >= ' ' && c < 0x7f ? c : '?');
        }
    }
    buf_putc(reasons, '\0');
    return start;
}

static void
take_item(struct sink_verdict *v, const struct json *item, struct buf *reasons)
{
    enum verdict verdict = verdict_of(item);
    if (v->verdict == verdict) {
        return;
    }
    if (v->verdict != VERDICT_UNSET) {
        *v = (struct sink_verdict){
            .verdict = VERDICT_RETRY, .reason = "the receiver says two different things of it"};
        return;
    }
    v->verdict = verdict;
    if (verdict != VERDICT_DONE) {
        v->reason = put_reason(reasons, verdict, item);
    }
}

static void
take_items(const struct json *results, const struct record *records, size_t n,
    struct sink_verdict *verdicts, struct buf *reasons)
{
    size_t at = 0;
    for (size_t i = 0; i < json_size(results); i++) {
        const struct json *item = json_at(results, i);
        int64_t offset;
        if (!json_i64(json_get(item, "offset"), &offset) || offset < 0) {
            continue;
        }
        size_t found = find_record(records, n, (uint64_t)offset, at);
        if (found < n) {
            take_item(&verdicts[found], item, reasons);
            at = found + 1 < n ? found + 1 : 0;
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (verdicts[i].verdict == VERDICT_UNSET) {
            verdicts[i] = (struct sink_verdict){
                .verdict = VERDICT_RETRY, .reason = "the receiver's results do not name it"};
        }
    }
}

static bool
is_array_of_objects(const struct json *results)
{
    bool is_so = json_is_array(results);
    for (size_t i = 0; is_so && i < json_size(results); i++) {
        is_so = json_is_object(json_at(results, i));
    }
    return is_so;
}

int
http_reply_read(struct str body, const struct record *records, size_t n,
    struct sink_verdict *verdicts, struct buf *reasons, struct err *e)
{
    struct json *root = NULL;
    if (begins_object(body) && json_parse(body, &root, NULL) != 0) {
        return err_set(e, ERR_PROTOCOL,
            "the receiver's answer (%zu bytes) begins like a JSON object and is none: nothing "
            "can be said of any record. Let it answer without a body, or with what "
            "sinks/http/README.md shows",
            body.n);
    }
    const struct json *results = json_get(root, "results");
    int rc = 0;
    if (results == NULL) {
        for (size_t i = 0; i < n; i++) {
            verdicts[i].verdict = VERDICT_DONE;
        }
    } else if (is_array_of_objects(results)) {
        take_items(results, records, n, verdicts, reasons);
    } else {
        rc = err_set(e, ERR_PROTOCOL,
            "the `results` of the receiver's answer are not an array of objects: "
            "sinks/http/README.md shows what they are");
    }
    json_free(root);
    return rc;
}
