/* openapi: see openapi.h. */
#include "broker/openapi.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/problem.h"
#include "broker/routes.h"

enum { OPENAPI_MAX = 1024 * 1024 };

/* ---- what answers look like ---- */

#define TEXT "{\"type\":\"string\"}"
/* What is not UTF-8 is {"base64":"..."}. */
#define TEXT_OR_BYTES "{\"type\":[\"string\",\"object\"]}"
#define TEXT_OR_NULL  "{\"type\":[\"string\",\"null\"]}"
#define TIME          "{\"type\":\"string\",\"format\":\"date-time\"}"
#define TIME_OR_NULL  "{\"type\":[\"string\",\"null\"],\"format\":\"date-time\"}"
#define INT           "{\"type\":\"integer\"}"
#define INT_OR_NULL   "{\"type\":[\"integer\",\"null\"]}"
#define NUM           "{\"type\":\"number\"}"
#define NUM_OR_NULL   "{\"type\":[\"number\",\"null\"]}"
#define BOOL          "{\"type\":\"boolean\"}"
#define TEXTS         "{\"type\":\"array\",\"items\":" TEXT "}"
#define ROW           "{\"type\":\"object\"}"
#define LSN           "{\"type\":\"string\",\"pattern\":\"^[0-9A-F]+/[0-9A-F]+$\"}"
#define LSN_OR_NULL   "{\"type\":[\"string\",\"null\"],\"pattern\":\"^[0-9A-F]+/[0-9A-F]+$\"}"
#define REF(name)     "{\"$ref\":\"#/components/schemas/" name "\"}"

struct member {
    const char *name, *schema; /* schema: JSON */
    bool is_optional;          /* absent where it does not apply */
};

static const struct member place[] = {{"offset", INT, false}, {"lsn", LSN_OR_NULL, false},
    {"ts", TIME_OR_NULL, false}, {NULL, NULL, false}};

static const struct member source_lag[] = {
    {"state", "{\"enum\":[\"connecting\",\"snapshot\",\"streaming\",\"retrying\",\"refused\"]}",
        false},
    {"slot", TEXT, false}, {"server_lsn", LSN_OR_NULL, false},
    {"received_lsn", LSN_OR_NULL, false}, {"durable_lsn", LSN_OR_NULL, false},
    {"acked_lsn", LSN_OR_NULL, false}, {"lag_bytes", INT_OR_NULL, false},
    {"retained_wal_bytes", INT_OR_NULL, false}, {"wal_status", TEXT_OR_NULL, false},
    {"safe_wal_bytes", INT_OR_NULL, false}, {"last_error", TEXT_OR_NULL, false},
    {NULL, NULL, false}};

static const struct member log_lag[] = {{"earliest", REF("Place"), false},
    {"tail", REF("Place"), false}, {"epoch", INT, false}, {"records", INT, false},
    {"bytes", INT, false}, {"segments", INT, false}, {"disk_free_bytes", INT_OR_NULL, false},
    {"full", BOOL, false}, {"out_of_space", BOOL, false}, {NULL, NULL, false}};

#define SINK_STATE "{\"enum\":[\"starting\",\"running\",\"retrying\",\"paused\",\"stopped\"]}"

static const struct member sink_lag[] = {{"name", TEXT, false}, {"kind", TEXT, false},
    {"state", SINK_STATE, false}, {"offset", INT_OR_NULL, false}, {"lsn", LSN_OR_NULL, false},
    {"ts", TIME_OR_NULL, false}, {"next", INT_OR_NULL, false}, {"records_behind", INT, false},
    {"bytes_behind", INT, false}, {"seconds_behind", NUM_OR_NULL, false},
    {"records_per_second", NUM, false}, {"eta_seconds", NUM_OR_NULL, false},
    {"dead_letters", INT, false}, {"retries", INT, false},
    {"last_success", TIME_OR_NULL, false}, {"last_error", TEXT_OR_NULL, false},
    {NULL, NULL, false}};

static const struct member lag[] = {{"source", REF("SourceLag"), false},
    {"log", REF("LogLag"), false},
    {"sinks", "{\"type\":\"array\",\"items\":" REF("SinkLag") "}", false}, {NULL, NULL, false}};

static const struct member sink[] = {{"name", TEXT, false}, {"kind", TEXT, false},
    {"state", SINK_STATE, false}, {"last_error", TEXT_OR_NULL, false},
    {"configured", BOOL, false}, {"enabled", BOOL, false}, {"registered", BOOL, false},
    {"next", INT_OR_NULL, false}, {"floor", INT_OR_NULL, false}, {"paused", BOOL, false},
    {"start", TEXT_OR_NULL, false}, {"tables", TEXTS, false},
    {"configuration", TEXT_OR_NULL, false}, {NULL, NULL, false}};

static const struct member sinks[] = {
    {"sinks", "{\"type\":\"array\",\"items\":" REF("Sink") "}", false}, {NULL, NULL, false}};

static const struct member change[] = {{"offset", INT, false}, {"lsn", LSN, false},
    {"seq", INT, false}, {"xid", INT, true}, {"ts", TIME, false}, {"epoch", INT, false},
    {"origin", TEXT_OR_BYTES, true},
    {"op", "{\"enum\":[\"insert\",\"update\",\"delete\",\"truncate\",\"read\",\"message\"]}",
        false},
    {"schema", TEXT_OR_BYTES, true}, {"table", TEXT_OR_BYTES, true}, {"key", ROW, true},
    {"new", ROW, true}, {"old", ROW, true},
    {"unchanged", "{\"type\":\"array\",\"items\":" TEXT_OR_BYTES "}", true},
    {"cascade", BOOL, true}, {"restart_identity", BOOL, true}, {"prefix", TEXT_OR_BYTES, true},
    {"transactional", BOOL, true}, {"content", TEXT, true}, {NULL, NULL, false}};

#define POSITION     "{\"type\":[\"string\",\"integer\"],\"minimum\":0}"
#define OFFSET       "{\"type\":\"integer\",\"minimum\":0}"
#define OFFSETS      "{\"type\":\"array\",\"minItems\":1,\"maxItems\":1000,\"items\":" OFFSET "}"
#define ROW_OR_NULL  "{\"type\":[\"object\",\"null\"]}"
#define LETTER_STATE "{\"enum\":[\"dead\",\"retry\",\"discarded\",\"reread\"]}"

static const struct member nothing[] = {{NULL, NULL, false}};
static const struct member paused[] = {
    {"name", TEXT, false}, {"paused", BOOL, false}, {NULL, NULL, false}};
static const struct member replay_args[] = {{"from", POSITION, false}, {"expect", OFFSET, true},
    {"skip", BOOL, true}, {"dry_run", BOOL, true}, {NULL, NULL, false}};
static const struct member replay[] = {{"from", REF("Place"), false}, {"offset", INT, false},
    {"records", INT, false}, {"moved", BOOL, false}, {NULL, NULL, false}};
static const struct member letter[] = {{"offset", INT, false}, {"state", LETTER_STATE, false},
    {"schema", TEXT_OR_NULL, false}, {"table", TEXT_OR_NULL, false}, {"op", TEXT, false},
    {"reason", TEXT, false}, {"attempts", INT, false}, {"first", TIME, false},
    {"last", TIME, false}, {"keyed", BOOL, false}, {"bytes", INT, false},
    {"change", ROW_OR_NULL, true}, {NULL, NULL, false}};
static const struct member letters[] = {{"sink", TEXT, false}, {"dead", INT, false},
    {"retry", INT, false}, {"discarded", INT, false}, {"reread", INT, false},
    {"bytes", INT, false},
    {"letters", "{\"type\":\"array\",\"items\":" REF("DeadLetter") "}", false},
    {"after", INT_OR_NULL, false}, {NULL, NULL, false}};
static const struct member letter_ids[] = {
    {"ids", OFFSETS, true}, {"all", "{\"const\":true}", true}, {NULL, NULL, false}};
static const struct member changed[] = {{"letters", INT, false}, {NULL, NULL, false}};

static const struct member health[] = {
    {"status", "{\"const\":\"ok\"}", false}, {NULL, NULL, false}};
static const struct member readiness[] = {
    {"status", "{\"const\":\"ready\"}", false}, {"reasons", TEXTS, false}, {NULL, NULL, false}};
static const struct member description[] = {{"openapi", TEXT, false}, {"info", ROW, false},
    {"paths", ROW, false}, {"components", ROW, false}, {NULL, NULL, false}};

static const struct member problem[] = {{"type", TEXT, false}, {"title", TEXT, false},
    {"status", INT, false}, {"code", TEXT, true}, {"detail", TEXT, false},
    {"earliest", REF("Place"), true}, {"tail", REF("Place"), true}, {"reasons", TEXTS, true},
    {NULL, NULL, false}};

static const struct {
    const char *name, *help;
    const struct member *members;
} schemas[] = {
    {"Place",
        "A place in the log; lsn and ts are those of its transaction, null where nothing "
        "is there yet",
        place},
    {"Lag", "The source, the log, the sinks", lag},
    {"SourceLag", "PostgreSQL and the replicator", source_lag},
    {"LogLag",
        "The log; tail.offset is the first offset not there yet, its lsn and ts those of "
        "the last transaction",
        log_lag},
    {"SinkLag",
        "A sink; offset, lsn and ts are those of the last settled record, null where it "
        "is not in the log",
        sink_lag},
    {"Sinks", "All sinks", sinks},
    {"Sink", "A sink; configuration is YAML as in the file, secrets masked", sink},
    {"Change",
        "A change of a row, a truncated table or a message; (epoch, lsn, xid, seq) names it "
        "for good",
        change},
    {"Nothing", "An empty object, or no body", nothing},
    {"Paused", "Whether a person has paused the sink", paused},
    {"ReplayArgs",
        "from: a position, or an offset; expect: the offset of the sink's last settled record "
        "as `offset` of the answer and of /lag give it",
        replay_args},
    {"Replay",
        "from: where it reads on; offset: its last settled record before; records: those "
        "between, of whatever table",
        replay},
    {"DeadLetters",
        "How many there are by state, what they take of the quota, and a page of them; `after` "
        "is for the next page, null: there is none",
        letters},
    {"DeadLetter",
        "A record that the target can never accept (`dead`), that is sent once more (`retry`), "
        "or only a mark of it; offset is its id; change: null for a mark, and for a record "
        "above 8 MiB. Where the target has no versions, what follows a rejected key change is "
        "a letter too, `reason` names the one it follows, and it is not sent before that",
        letter},
    {"LetterIds", "Either ids, or all", letter_ids},
    {"Changed", "So many letters changed", changed},
    {"Health", "It serves", health},
    {"Readiness", "It can log changes", readiness},
    {"Description", "OpenAPI 3.1", description},
    {"Problem", "RFC 9457", problem},
};
enum { NSCHEMAS = sizeof schemas / sizeof schemas[0] };

/* ---- writing ---- */

/* A member whose value is JSON already. */
static void
put_raw(struct jsonw *w, const char *key, const char *json)
{
    buf_puts(w->b, w->need_comma ? "," : "");
    json_put_string(w->b, str_from(key));
    buf_putc(w->b, ':');
    buf_puts(w->b, json);
    w->need_comma = true;
}

static void
put_schema(struct jsonw *w, const char *name, const char *help, const struct member *members)
{
    jsonw_object(w, name);
    jsonw_cstr(w, "type", "object");
    jsonw_cstr(w, "description", help);
    jsonw_object(w, "properties");
    for (const struct member *m = members; m->name != NULL; m++) {
        put_raw(w, m->name, m->schema);
    }
    jsonw_end_object(w);
    jsonw_array(w, "required");
    for (const struct member *m = members; m->name != NULL; m++) {
        if (!m->is_optional) {
            jsonw_cstr(w, NULL, m->name);
        }
    }
    jsonw_end_array(w);
    jsonw_end_object(w);
}

/* Takes the next word off a list separated by spaces. */
static bool
next_word(const char **at, struct str *ret)
{
    if (*at == NULL || **at == '\0') {
        return false;
    }
    size_t n = strcspn(*at, " ");
    *ret = (struct str){*at, n};
    *at += n + ((*at)[n] == ' ');
    return true;
}

static void
put_content_type(struct jsonw *w, struct str type, const char *schema)
{
    char key[64];
    char ref[128];
    (void)snprintf(key, sizeof key, "%.*s", (int)type.n, type.p);
    jsonw_object(w, key);
    if (schema != NULL) {
        (void)snprintf(ref, sizeof ref, REF("%s"), schema);
        put_raw(w, "schema", ref);
    } else {
        put_raw(w, "schema", TEXT);
    }
    jsonw_end_object(w);
}

static void
put_response(struct jsonw *w, const char *status, const char *help, const char *types,
    const char *schema)
{
    struct str type;
    jsonw_object(w, status);
    jsonw_cstr(w, "description", help);
    if (types != NULL) {
        jsonw_object(w, "content");
        while (next_word(&types, &type)) {
            put_content_type(w, type, schema);
        }
        jsonw_end_object(w);
    }
    jsonw_end_object(w);
}

static void
put_responses(struct jsonw *w, const struct route *r)
{
    const char *errors = r->errors;
    struct str word;
    char status[16];
    jsonw_object(w, "responses");
    (void)snprintf(status, sizeof status, "%u", r->status);
    put_response(w, status, r->summary, r->types, r->schema);
    while (next_word(&errors, &word)) {
        (void)snprintf(status, sizeof status, "%.*s", (int)word.n, word.p);
        unsigned number = (unsigned)strtoul(status, NULL, 10);
        put_response(w, status, problem_title(number), API_PROBLEM, "Problem");
    }
    put_response(w, "default", "Anything else that went wrong", API_PROBLEM, "Problem");
    jsonw_end_object(w);
}

static void
put_param(struct jsonw *w, const char *name, const char *in, const char *type, const char *help)
{
    jsonw_object(w, NULL);
    jsonw_cstr(w, "name", name);
    jsonw_cstr(w, "in", in);
    if (help != NULL) {
        jsonw_cstr(w, "description", help);
    }
    jsonw_bool(w, "required", strcmp(in, "path") == 0);
    jsonw_object(w, "schema");
    jsonw_cstr(w, "type", type);
    jsonw_end_object(w);
    jsonw_end_object(w);
}

static void
put_params(struct jsonw *w, const struct route *r)
{
    const char *brace = strchr(r->path, '{');
    jsonw_array(w, "parameters");
    if (brace != NULL) {
        char name[32];
        (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(brace + 1, "}"), brace + 1);
        put_param(w, name, "path", "string", NULL);
    }
    for (const struct route_param *p = r->params; p != NULL && p->name != NULL; p++) {
        put_param(w, p->name, p->is_header ? "header" : "query", p->type, p->help);
    }
    jsonw_end_array(w);
}

/* Objects that a caller may leave out where nothing in them is needed. */
static void
put_request(struct jsonw *w, const char *schema)
{
    jsonw_object(w, "requestBody");
    jsonw_bool(w, "required", strcmp(schema, "Nothing") != 0);
    jsonw_object(w, "content");
    put_content_type(w, STR(API_JSON), schema);
    jsonw_end_object(w);
    jsonw_end_object(w);
}

static void
put_operation(struct jsonw *w, const struct route *r)
{
    char method[8];
    (void)snprintf(method, sizeof method, "%s", r->method);
    for (char *c = method; *c != '\0'; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    jsonw_object(w, method);
    jsonw_cstr(w, "operationId", r->id);
    jsonw_cstr(w, "summary", r->summary);
    put_params(w, r);
    if (r->body != NULL) {
        put_request(w, r->body);
    }
    put_responses(w, r);
    jsonw_end_object(w);
}

static bool
is_public(const struct route *r)
{
    return (r->flags & ROUTE_INTERNAL) == 0;
}

/* One path, with every method that it has, at its first route. */
static void
put_path(struct jsonw *w, size_t at)
{
    for (size_t i = 0; i < at; i++) {
        if (is_public(&routes[i]) && strcmp(routes[i].path, routes[at].path) == 0) {
            return;
        }
    }
    jsonw_object(w, routes[at].path);
    for (size_t i = at; i < nroutes; i++) {
        if (is_public(&routes[i]) && strcmp(routes[i].path, routes[at].path) == 0) {
            put_operation(w, &routes[i]);
        }
    }
    jsonw_end_object(w);
}

void
openapi_put(struct buf *b)
{
    struct jsonw w;
    jsonw_init(&w, b);
    jsonw_object(&w, NULL);
    jsonw_cstr(&w, "openapi", "3.1.0");
    jsonw_object(&w, "info");
    jsonw_cstr(&w, "title", "oneslot");
    jsonw_cstr(&w, "version", ONESLOT_VERSION);
    jsonw_cstr(&w, "description", "Change data capture for PostgreSQL: lag and replay");
    jsonw_end_object(&w);
    jsonw_object(&w, "paths");
    for (size_t i = 0; i < nroutes; i++) {
        if (is_public(&routes[i])) {
            put_path(&w, i);
        }
    }
    jsonw_end_object(&w);
    jsonw_object(&w, "components");
    jsonw_object(&w, "schemas");
    for (size_t i = 0; i < NSCHEMAS; i++) {
        put_schema(&w, schemas[i].name, schemas[i].help, schemas[i].members);
    }
    jsonw_end_object(&w);
    jsonw_end_object(&w);
    jsonw_end_object(&w);
}

void
openapi_get(struct broker *bk, struct httpd_req *rq, struct str name)
{
    struct buf auto_buf b;
    (void)bk;
    (void)name;
    buf_init(&b, OPENAPI_MAX);
    openapi_put(&b);
    httpd_respond(rq, 200, API_JSON, &b);
}
