/* routes: see routes.h. */
#include "broker/routes.h"

#include <string.h>

#include "broker/changes.h"
#include "broker/control.h"
#include "broker/fetch.h"
#include "broker/internal.h"
#include "broker/lag.h"
#include "broker/letters.h"
#include "broker/metrics.h"
#include "broker/openapi.h"
#include "broker/problem.h"
#include "broker/steer.h"
#include "proto/base/check.h"

static void get_index(struct broker *bk, struct httpd_req *rq, struct str name);

static const struct route_param changes_params[] = {
    {.name = "from",
        .type = "string",
        .help = "where to begin: earliest (the default), latest, an offset, an LSN, a time"},
    {.name = "until",
        .type = "string",
        .help =
            "ends after the last transaction at or before this position; with a time: before "
            "the first transaction of a later commit time"},
    {.name = "tables",
        .type = "string",
        .help = "schema.table patterns with * and ?, separated by commas; default: everything, "
                "messages too"},
    {.name = "ops",
        .type = "string",
        .help = "insert, update, delete, truncate, read, message, separated by commas"},
    {.name = "limit", .type = "integer", .help = "at most so many records, at least 1"},
    {.name = "follow", .type = "integer", .help = "1: go on at the end of the log"},
    {.name = "wait",
        .type = "integer",
        .help =
            "hold an empty answer back so many seconds, up to 300, until there is something; "
            "means nothing with follow=1"},
    {.name = "format",
        .type = "string",
        .help = "ndjson, sse or msgpack; default: by Accept, else ndjson"},
    {.name = "Last-Event-ID",
        .type = "string",
        .help = "with text/event-stream: resume behind this offset, whatever `from` says",
        .is_header = true},
    {.name = NULL},
};

static const struct route_param fetch_params[] = {
    {.name = "from", .type = "integer", .help = "offset to begin at"},
    {.name = "max", .type = "integer", .help = "bytes of the batch"},
    {.name = "wait_ms", .type = "integer", .help = "hold an empty batch back so long"},
    {.name = "tables", .type = "string", .help = "patterns, separated by commas"},
    {.name = NULL},
};

static const struct route_param letters_params[] = {
    {.name = "after",
        .type = "integer",
        .help = "begin behind this offset: `after` of the former answer"},
    {.name = "limit", .type = "integer", .help = "at most so many, 1 to 1000 (default: 100)"},
    {.name = "record", .type = "integer", .help = "1: with `change`, as /changes shows it"},
    {.name = NULL},
};

static const struct route_param page_params[] = {
    {.name = "after", .type = "integer", .help = "begin behind this offset, or id"},
    {.name = "max", .type = "integer", .help = "at most so many"},
    {.name = NULL},
};

static const struct route_param reread_params[] = {
    {.name = "doubt", .type = "integer", .help = "hash of the row's key, or 0: every key"},
    {.name = "table", .type = "integer", .help = "hash of its table"},
    {.name = NULL},
};

const struct route routes[] = {
    {.method = "GET",
        .path = "/",
        .id = "getIndex",
        .summary = "What is served here, as text",
        .handler = get_index,
        .status = 200,
        .types = "text/plain"},
    {.method = "GET",
        .path = "/lag",
        .id = "getLag",
        .summary = "How far the source, the log and every sink are",
        .handler = lag_get,
        .status = 200,
        .types = API_JSON,
        .schema = "Lag"},
    {.method = "GET",
        .path = "/lag/{sink}",
        .id = "getSinkLag",
        .summary = "How far one sink is",
        .handler = lag_get_sink,
        .status = 200,
        .types = API_JSON,
        .schema = "SinkLag",
        .errors = "404"},
    {.method = "GET",
        .path = "/changes",
        .id = "getChanges",
        .summary =
            "The changes from a position on: one JSON object per line, server-sent events, "
            "or msgpack maps one after the other. Headers Oneslot-Earliest, Oneslot-Tail "
            "(the first offset not there yet), Oneslot-Epoch. What fails after the answer "
            "has begun breaks it off unterminated",
        .handler = changes_get,
        .params = changes_params,
        .status = 200,
        .types = API_NDJSON " " API_SSE " " API_MSGPACK,
        .schema = "Change",
        .errors = "400 409 410 416 429"},
    {.method = "GET",
        .path = "/positions/{position}",
        .id = "getPosition",
        .summary = "A position resolved to offset, LSN and time",
        .handler = control_position,
        .flags = ROUTE_REST,
        .status = 200,
        .types = API_JSON,
        .schema = "Place",
        .errors = "400 409 410 416"},
    {.method = "GET",
        .path = "/sinks",
        .id = "getSinks",
        .summary =
            "Every sink, configured or once seen: state and configuration, secrets masked",
        .handler = control_sinks,
        .status = 200,
        .types = API_JSON,
        .schema = "Sinks"},
    {.method = "GET",
        .path = "/sinks/{sink}",
        .id = "getSink",
        .summary = "One sink: state and configuration, secrets masked",
        .handler = control_sink,
        .status = 200,
        .types = API_JSON,
        .schema = "Sink",
        .errors = "404"},
    {.method = "DELETE",
        .path = "/sinks/{sink}",
        .id = "forgetSink",
        .summary = "Forget a sink that is no longer configured, so that retention may pass it",
        .handler = steer_forget,
        .status = 204,
        .errors = "404 409"},
    {.method = "POST",
        .path = "/sinks/{sink}/pause",
        .id = "pauseSink",
        .summary = "Let a sink write nothing until it is resumed; the log is kept for it",
        .handler = steer_pause,
        .flags = ROUTE_BODY,
        .body = "Nothing",
        .status = 200,
        .types = API_JSON,
        .schema = "Paused",
        .errors = "400 404 409"},
    {.method = "POST",
        .path = "/sinks/{sink}/resume",
        .id = "resumeSink",
        .summary = "Let a paused sink go on",
        .handler = steer_resume,
        .flags = ROUTE_BODY,
        .body = "Nothing",
        .status = 200,
        .types = API_JSON,
        .schema = "Paused",
        .errors = "400 404 409"},
    {.method = "POST",
        .path = "/sinks/{sink}/replay",
        .id = "replaySink",
        .summary =
            "Move a sink back, so that it reads on from there; with skip forward too, past "
            "records that it then never gets. 409 when `expect` is not the offset of its last "
            "settled record, or `from` lies ahead and `skip` is not said",
        .handler = steer_replay,
        .flags = ROUTE_BODY,
        .body = "ReplayArgs",
        .status = 200,
        .types = API_JSON,
        .schema = "Replay",
        .errors = "400 404 409 410 416"},
    {.method = "GET",
        .path = "/sinks/{sink}/dead-letters",
        .id = "getDeadLetters",
        .summary = "Records that the sink's target can never accept, the oldest first",
        .handler = letters_get,
        .params = letters_params,
        .status = 200,
        .types = API_JSON,
        .schema = "DeadLetters",
        .errors = "400 404"},
    {.method = "POST",
        .path = "/sinks/{sink}/dead-letters/retry",
        .id = "retryDeadLetters",
        .summary = "Send dead letters once more; all of those named, or none",
        .handler = letters_retry,
        .flags = ROUTE_BODY,
        .body = "LetterIds",
        .status = 200,
        .types = API_JSON,
        .schema = "Changed",
        .errors = "400 404 409"},
    {.method = "POST",
        .path = "/sinks/{sink}/dead-letters/discard",
        .id = "discardDeadLetters",
        .summary =
            "Give dead letters up; all of those named, or none. A mark stays until a later "
            "change of the row has arrived",
        .handler = letters_discard,
        .flags = ROUTE_BODY,
        .body = "LetterIds",
        .status = 200,
        .types = API_JSON,
        .schema = "Changed",
        .errors = "400 404 409"},
    {.method = "GET",
        .path = "/metrics",
        .id = "getMetrics",
        .summary = "Prometheus text, names oneslot_*",
        .handler = metrics_get,
        .status = 200,
        .types = "text/plain"},
    {.method = "GET",
        .path = "/healthz",
        .id = "getHealth",
        .summary = "The broker serves",
        .handler = control_healthz,
        .status = 200,
        .types = API_JSON,
        .schema = "Health"},
    {.method = "GET",
        .path = "/readyz",
        .id = "getReadiness",
        .summary = "Changes can be logged; 503 with `reasons` while a person must help",
        .handler = control_readyz,
        .status = 200,
        .types = API_JSON,
        .schema = "Readiness",
        .errors = "503"},
    {.method = "GET",
        .path = "/openapi.json",
        .id = "getDescription",
        .summary = "This description",
        .handler = openapi_get,
        .status = 200,
        .types = API_JSON,
        .schema = "Description"},
    {.method = "GET",
        .path = API_FETCH,
        .summary = "A batch of records for a sink's worker",
        .handler = fetch_get,
        .flags = ROUTE_INTERNAL,
        .params = fetch_params},
    {.method = "GET",
        .path = API_TABLES,
        .summary = "The published tables, for a sink's worker",
        .handler = internal_tables,
        .flags = ROUTE_INTERNAL},
    {.method = "POST",
        .path = API_SINKS "{sink}/session",
        .summary = "Opens a worker's session",
        .handler = internal_sink_session,
        .flags = ROUTE_INTERNAL | ROUTE_BODY},
    {.method = "POST",
        .path = API_SINKS "{sink}/commit",
        .summary = "Moves a sink's offset",
        .handler = internal_sink_commit,
        .flags = ROUTE_INTERNAL | ROUTE_BODY},
    {.method = "POST",
        .path = API_SINKS "{sink}/status",
        .summary = "What a worker says of itself",
        .handler = internal_sink_status,
        .flags = ROUTE_INTERNAL | ROUTE_BODY},
    {.method = "POST",
        .path = API_SINKS "{sink}/bury",
        .summary = "A dead letter",
        .handler = internal_sink_bury,
        .flags = ROUTE_INTERNAL | ROUTE_RECORD},
    {.method = "POST",
        .path = API_SINKS "{sink}/raise",
        .summary = "Dead letters that are no longer needed",
        .handler = internal_sink_raise,
        .flags = ROUTE_INTERNAL | ROUTE_BODY},
    {.method = "GET",
        .path = API_SINKS "{sink}/letters",
        .summary = "Which keys have dead letters",
        .handler = internal_sink_letters,
        .flags = ROUTE_INTERNAL,
        .params = page_params},
    {.method = "POST",
        .path = API_SINKS "{sink}/reread",
        .summary = "A row to be read again",
        .handler = internal_sink_reread,
        .flags = ROUTE_INTERNAL | ROUTE_ROW,
        .params = reread_params},
    {.method = "GET",
        .path = API_SINKS "{sink}/doubts",
        .summary = "Of which keys the target may lack a change",
        .handler = internal_sink_doubts,
        .flags = ROUTE_INTERNAL},
    {.method = "POST",
        .path = API_SINKS "{sink}/proven",
        .summary = "Of which keys it no longer does",
        .handler = internal_sink_proven,
        .flags = ROUTE_INTERNAL | ROUTE_BODY},
    {.method = "GET",
        .path = API_SINKS "{letter}",
        .summary = "SINK/letters/OFFSET: a dead letter's record",
        .handler = internal_sink_letter,
        .flags = ROUTE_INTERNAL | ROUTE_REST},
    {.method = "GET",
        .path = API_REREADS,
        .summary = "Rows to be read again, for the replicator",
        .handler = internal_rereads,
        .flags = ROUTE_INTERNAL,
        .params = page_params},
    {.method = "POST",
        .path = API_REREADS_DONE,
        .summary = "Rows that were read again",
        .handler = internal_rereads_done,
        .flags = ROUTE_INTERNAL | ROUTE_BODY},
};
const size_t nroutes = sizeof routes / sizeof routes[0];

/* ---- dispatch ---- */

bool
route_matches(const struct route *r, struct str path, struct str *ret_name)
{
    const char *brace = strchr(r->path, '{');
    if (brace == NULL) {
        *ret_name = STR("");
        return str_is(path, r->path);
    }
    struct str before = {r->path, (size_t)(brace - r->path)};
    struct str after = str_from(strchr(brace, '}') + 1);
    if (path.n <= before.n + after.n || memcmp(path.p, before.p, before.n) != 0 ||
        memcmp(path.p + path.n - after.n, after.p, after.n) != 0) {
        return false;
    }
    struct str name = {path.p + before.n, path.n - before.n - after.n};
    if ((r->flags & ROUTE_REST) == 0 && memchr(name.p, '/', name.n) != NULL) {
        return false;
    }
    *ret_name = name;
    return true;
}

/* NULL: no such resource, or *ret_has_path: it has other methods only. */
static const struct route *
find_route(const struct httpd_req *rq, struct str *ret_name, bool *ret_has_path)
{
    *ret_has_path = false;
    for (size_t i = 0; i < nroutes; i++) {
        if (route_matches(&routes[i], httpd_path(rq), ret_name)) {
            *ret_has_path = true;
            if (str_is(httpd_method(rq), routes[i].method)) {
                return &routes[i];
            }
        }
    }
    return NULL;
}

static void
respond_no_route(struct httpd_req *rq, bool has_path)
{
    struct buf auto_buf allow;
    struct str ignored;
    buf_init(&allow, 256);
    if (!has_path) {
        problem_respond_text(rq, 404, "there is no such resource; GET / names what there is");
        return;
    }
    for (size_t i = 0; i < nroutes; i++) {
        if (route_matches(&routes[i], httpd_path(rq), &ignored)) {
            buf_puts(&allow, allow.n == 0 ? "" : ", ");
            buf_puts(&allow, routes[i].method);
        }
    }
    httpd_add_header(rq, "Allow", buf_cstr(&allow));
    problem_respond_text(rq, 405, "this resource takes %s only", buf_cstr(&allow));
}

/* P8: a parameter that means nothing here is a mistake, not something to pass over. */
static bool
has_known_query(const struct route *r, struct httpd_req *rq)
{
    const char *names[ROUTE_PARAMS_MAX + 1];
    size_t n = 0;
    struct str bad;
    for (const struct route_param *p = r->params; p != NULL && p->name != NULL; p++) {
        CHECK(n < ROUTE_PARAMS_MAX);
        if (!p->is_header) {
            names[n++] = p->name;
        }
    }
    names[n] = NULL;
    if (httpd_query_known(rq, names, &bad)) {
        return true;
    }
    problem_respond_text(rq, 400, "there is no parameter '%.*s' here; see /openapi.json",
        (int)(bad.n < 64 ? bad.n : 64), bad.p);
    return false;
}

void
routes_handle(struct httpd_req *rq, void *broker)
{
    struct str name;
    bool has_path;
    const struct route *r = find_route(rq, &name, &has_path);
    if (r == NULL) {
        respond_no_route(rq, has_path);
    } else if ((r->flags & ROUTE_INTERNAL) != 0 && !httpd_is_unix(rq)) {
        problem_respond_text(rq, 403,
            "internal calls are taken on the Unix socket " API_SOCKET
            " only (tokens are not in "
            "this version)");
    } else if (has_known_query(r, rq)) {
        r->handler(broker, rq, name);
    }
}

size_t
routes_body_limit(struct httpd_req *rq, void *broker)
{
    struct str name;
    bool has_path;
    const struct route *r = find_route(rq, &name, &has_path);
    (void)broker;
    /* A body that nothing here takes is read all the same, so that the answer is 404 or 405. */
    if (r != NULL && (r->flags & ROUTE_RECORD) != 0) {
        return httpd_is_unix(rq) ? (size_t)API_APPEND_BODY_MAX : 0;
    }
    if (r != NULL && (r->flags & ROUTE_ROW) != 0) {
        return httpd_is_unix(rq) ? API_REREAD_MAX : 0;
    }
    return r == NULL || (r->flags & ROUTE_BODY) != 0 ? API_CONTROL_BODY : 0;
}

/* ---- / ---- */

static void
get_index(struct broker *bk, struct httpd_req *rq, struct str name)
{
    struct buf auto_buf b;
    (void)bk;
    (void)name;
    buf_init(&b, 64 * 1024);
    buf_puts(
        &b, "oneslot " ONESLOT_VERSION ": every change of PostgreSQL, from any position\n\n");
    for (size_t i = 0; i < nroutes; i++) {
        if ((routes[i].flags & ROUTE_INTERNAL) == 0) {
            buf_printf(
                &b, "%-6s %-34s %s\n", routes[i].method, routes[i].path, routes[i].summary);
        }
    }
    httpd_respond(rq, 200, "text/plain; charset=utf-8", &b);
}
