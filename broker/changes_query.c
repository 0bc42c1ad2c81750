/* changes_query: see changes_query.h. */
#include "broker/changes_query.h"

/* ---- format ---- */

static const struct {
    const char *name;  /* format= */
    const char *media; /* Accept */
    enum changes_format format;
} formats[] = {
    {"ndjson", "application/x-ndjson", CHANGES_NDJSON},
    {"sse", "text/event-stream", CHANGES_SSE},
    {"msgpack", "application/msgpack", CHANGES_MSGPACK},
    {NULL, "application/x-msgpack", CHANGES_MSGPACK},
};
enum { NFORMATS = sizeof formats / sizeof formats[0] };

/* The first of the list that we speak; what we do not speak gets NDJSON like anybody who did
 * not ask (RFC 9110, 12.5.1 allows that). Weights are not looked at. */
static enum changes_format
negotiate(struct str accept)
{
    while (accept.n > 0) {
        const char *comma = memchr(accept.p, ',', accept.n);
        size_t n = comma == NULL ? accept.n : (size_t)(comma - accept.p);
        const char *semicolon = memchr(accept.p, ';', n);
        struct str media = str_trim(
            (struct str){accept.p, semicolon == NULL ? n : (size_t)(semicolon - accept.p)});
        for (size_t i = 0; i < NFORMATS; i++) {
            if (str_is_caseless(media, formats[i].media)) {
                return formats[i].format;
            }
        }
        n += comma != NULL;
        accept.p += n;
        accept.n -= n;
    }
    return CHANGES_NDJSON;
}

static int
parse_format(const struct changes_args *a, struct changes_query *q, struct err *e)
{
    if (!a->has[CHANGES_FORMAT]) {
        q->format = negotiate(a->v[CHANGES_ACCEPT]);
        return 0;
    }
    for (size_t i = 0; i < NFORMATS; i++) {
        if (formats[i].name != NULL && str_is(a->v[CHANGES_FORMAT], formats[i].name)) {
            q->format = formats[i].format;
            return 0;
        }
    }
    if (str_is(a->v[CHANGES_FORMAT], "debezium")) {
        return err_set(e, ERR_UNSUPPORTED, "format=debezium is not in this version");
    }
    return err_set(e, ERR_PARSE, "format: one of ndjson, sse, msgpack");
}

/* ---- the rest ---- */

static int
parse_position(struct str text, const char *name, struct position *ret, struct err *e)
{
    int rc = position_parse(text, ret, e);
    return rc == 0 ? 0 : err_prefix(e, "%s", name);
}

/* Last-Event-ID is what an EventSource sends of its own when it reconnects, with the URL it had
 * at first: it decides. */
static int
parse_from(const struct changes_args *a, struct changes_query *q, struct err *e)
{
    uint64_t last;
    if (q->format == CHANGES_SSE && a->has[CHANGES_LAST_EVENT_ID]) {
        if (!str_u64(a->v[CHANGES_LAST_EVENT_ID], UINT64_MAX - 1, &last)) {
            return err_set(e, ERR_PARSE,
                "Last-Event-ID: not an offset; it is the id of the last event received");
        }
        q->from = (struct position){.kind = POSITION_OFFSET, .offset = last + 1};
        return 0;
    }
    if (!a->has[CHANGES_FROM]) {
        q->from = (struct position){.kind = POSITION_EARLIEST};
        return 0;
    }
    return parse_position(a->v[CHANGES_FROM], "from", &q->from, e);
}

static int
parse_until(const struct changes_args *a, struct changes_query *q, struct err *e)
{
    q->has_until = a->has[CHANGES_UNTIL];
    return q->has_until ? parse_position(a->v[CHANGES_UNTIL], "until", &q->until, e) : 0;
}

static int
parse_numbers(const struct changes_args *a, struct changes_query *q, struct err *e)
{
    uint64_t v = 0;
    q->limit = UINT64_MAX;
    if (a->has[CHANGES_LIMIT] &&
        (!str_u64(a->v[CHANGES_LIMIT], UINT64_MAX, &q->limit) || q->limit == 0)) {
        return err_set(e, ERR_PARSE, "limit: a number of records, at least 1");
    }
    if (a->has[CHANGES_FOLLOW] && !str_u64(a->v[CHANGES_FOLLOW], 1, &v)) {
        return err_set(e, ERR_PARSE, "follow: 1 to go on at the end of the log, or 0");
    }
    q->is_following = v == 1;
    v = 0;
    if (a->has[CHANGES_WAIT] && !str_u64(a->v[CHANGES_WAIT], CHANGES_WAIT_MAX_S, &v)) {
        return err_set(e, ERR_PARSE, "wait: seconds, 0 to %d", CHANGES_WAIT_MAX_S);
    }
    q->wait_ms = (int64_t)v * 1000;
    return 0;
}

int
changes_query_parse(const struct changes_args *a, struct changes_query *ret, struct err *e)
{
    struct changes_query q = {.limit = UINT64_MAX};
    int rc = parse_format(a, &q, e);
    if (rc == 0) {
        rc = parse_from(a, &q, e);
    }
    if (rc == 0) {
        rc = parse_until(a, &q, e);
    }
    if (rc == 0) {
        rc = parse_numbers(a, &q, e);
    }
    if (rc == 0) {
        rc = filter_init(&q.filter, a->v[CHANGES_TABLES], a->v[CHANGES_OPS], e);
    }
    if (rc == 0) {
        *ret = q;
    }
    return rc;
}

void
changes_query_fini(struct changes_query *q)
{
    filter_fini(&q->filter);
}

/* ---- the end ---- */

static struct changes_bound
before_offset(uint64_t end)
{
    return (struct changes_bound){.kind = CHANGES_BY_OFFSET, .end = end};
}

struct changes_bound
changes_bound_of(const struct changes_query *q, const struct journal_info *info)
{
    const struct position *p = &q->until;
    if (!q->has_until) {
        return (struct changes_bound){.kind = CHANGES_UNBOUND};
    }
    switch (p->kind) {
    case POSITION_EARLIEST:
        return before_offset(info->earliest.offset + 1);
    case POSITION_LATEST:
        return before_offset(info->next);
    case POSITION_OFFSET:
        return before_offset(p->offset == UINT64_MAX ? UINT64_MAX : p->offset + 1);
    case POSITION_LSN:
        return (struct changes_bound){.kind = CHANGES_BY_LSN,
            .epoch = p->has_epoch ? p->epoch : info->epoch,
            .lsn = p->lsn};
    case POSITION_TIME:
    default:
        return (struct changes_bound){.kind = CHANGES_BY_TIME, .ts_us = p->time_us};
    }
}

bool
changes_is_beyond(const struct changes_bound *b, const struct record_txn *t)
{
    switch (b->kind) {
    case CHANGES_BY_OFFSET:
        return t->first_offset >= b->end;
    case CHANGES_BY_LSN:
        return t->epoch > b->epoch || (t->epoch == b->epoch && t->lsn > b->lsn);
    case CHANGES_BY_TIME:
        return t->ts_us > b->ts_us;
    case CHANGES_UNBOUND:
    default:
        return false;
    }
}

bool
changes_is_passed(const struct changes_bound *b, const struct record_txn *t, uint64_t next)
{
    switch (b->kind) {
    case CHANGES_BY_OFFSET:
        return next >= b->end;
    case CHANGES_BY_LSN:
        /* A message may share its LSN with the commit behind it, but nothing comes at a
         * commit's LSN after that commit. */
        return t != NULL && t->kind == FRAME_TXN_XACT &&
               (t->epoch > b->epoch || (t->epoch == b->epoch && t->lsn >= b->lsn));
    case CHANGES_BY_TIME: /* commit times go back now and then */
    case CHANGES_UNBOUND:
    default:
        return false;
    }
}
