/* changes_query: what a reader of /changes asks for (interface.md, HTTP): the parameters and
 * headers as one checked struct, and where such an answer ends. Pure. */
#ifndef ONESLOT_BROKER_CHANGES_QUERY_H
#define ONESLOT_BROKER_CHANGES_QUERY_H

#include "broker/filter.h"
#include "broker/journal.h"
#include "proto/position.h"

enum changes_arg {
    CHANGES_FROM,
    CHANGES_UNTIL,
    CHANGES_TABLES,
    CHANGES_OPS,
    CHANGES_LIMIT,
    CHANGES_FOLLOW,
    CHANGES_WAIT,
    CHANGES_FORMAT,
    /* from headers: */
    CHANGES_ACCEPT,
    CHANGES_LAST_EVENT_ID,
    CHANGES_NARGS
};
struct changes_args {
    struct str v[CHANGES_NARGS];
    bool has[CHANGES_NARGS];
};

enum changes_format { CHANGES_NDJSON, CHANGES_SSE, CHANGES_MSGPACK };
enum { CHANGES_WAIT_MAX_S = 300 };

struct changes_query {
    struct position from;
    bool has_until;
    struct position until;
    struct filter filter;
    uint64_t limit; /* records; UINT64_MAX: none */
    bool is_following;
    int64_t wait_ms;
    enum changes_format format;
};

/* ERR_PARSE, ERR_UNSUPPORTED; the sentence names the parameter. On success
 * changes_query_fini(ret). */
int changes_query_parse(
    const struct changes_args *a, struct changes_query *ret, struct err *e) MUST_CHECK;
void changes_query_fini(struct changes_query *q);

/* Where an answer ends because of `until`: before the first transaction that lies beyond it. */
struct changes_bound {
    enum { CHANGES_UNBOUND, CHANGES_BY_OFFSET, CHANGES_BY_LSN, CHANGES_BY_TIME } kind;
    uint64_t end; /* BY_OFFSET: the least first offset that is beyond */
    uint64_t epoch, lsn;
    int64_t ts_us;
};
/* info: the log as the answer begins. */
struct changes_bound changes_bound_of(
    const struct changes_query *q, const struct journal_info *info);
bool changes_is_beyond(const struct changes_bound *b, const struct record_txn *t);
/* True when nothing that comes after the whole transaction t (NULL: none was seen), from the
 * offset next on, can lie within the bound: who follows need not wait for it. */
bool changes_is_passed(
    const struct changes_bound *b, const struct record_txn *t, uint64_t next);

#endif
