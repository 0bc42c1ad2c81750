/* client: the broker as its other processes see it: one call per function of proto/api.h over
 * one kept-alive connection. A client is used by one thread at a time. It knows HTTP statuses
 * so that callers see only errors: CONNECT (the broker is not there; nothing was done), FENCED
 * and STEERED (409: open a new session), NOSPACE and BUSY (503: nothing was done, the same call
 * may be repeated after `retry_after_ms`), CLOSED and TIMEOUT (the outcome is unknown), GONE
 * (410), BEYOND (416), AUTH (401/403), PARSE (400: a bug or another version), STOPPING. The
 * sentence is the broker's own `detail` where it sent one. */
#ifndef ONESLOT_CLIENT_CLIENT_H
#define ONESLOT_CLIENT_CLIENT_H

#include "proto/api.h"
#include "proto/base/json.h"

struct client_conf {
    const char *unix_path; /* the socket, or NULL: */
    const char *url;       /* "http://127.0.0.1:7432" */
    bool (*should_stop)(void);
};

struct client;
struct client *client_new(const struct client_conf *c);
void client_free(struct client *c);
/* From the last answer's Retry-After; 1000 where there was none. */
int64_t client_retry_after_ms(const struct client *c);

/* Strings in *ret are valid until the next call on c. */
int client_source_get(struct client *c, struct api_source *ret, struct err *e) MUST_CHECK;
int client_source_put(
    struct client *c, const struct api_source_update *u, struct err *e) MUST_CHECK;
int client_source_status(
    struct client *c, const struct api_source_status *s, struct err *e) MUST_CHECK;
/* The whole list of published tables. ERR_TOOBIG: beyond API_TABLES_BYTES. */
int client_source_tables(
    struct client *c, const struct api_table *t, size_t n, struct err *e) MUST_CHECK;
int client_session_open(struct client *c, struct api_session *ret, struct err *e) MUST_CHECK;
/* body: API_APPEND_HEAD bytes to be filled by this call, then frames. One at a time; waits for
 * the commit. */
int client_append(struct client *c, const struct api_append *head, struct buf *body,
    struct api_appended *ret, struct err *e) MUST_CHECK;

int client_sink_open(struct client *c, const char *name, const struct api_sink_open *o,
    struct api_sink_session *ret, struct err *e) MUST_CHECK;
/* Waits up to wait_ms for something to come. *ret_batch (proto/batch.h) is valid until the next
 * call. */
int client_fetch(struct client *c, uint64_t from, size_t max_bytes, int64_t wait_ms,
    struct str tables, struct str *ret_batch, struct err *e) MUST_CHECK;
int client_sink_commit(struct client *c, const char *name, const struct api_sink_commit *o,
    struct api_sink_session *ret, struct err *e) MUST_CHECK;
int client_sink_status(struct client *c, const char *name, const struct api_sink_status *s,
    struct api_sink_session *ret, struct err *e) MUST_CHECK;
/* All of them in *ret, owned by the caller, names valid until the next call; returns how many.
 * *ret_sum is the list's api_tables_sum. */
int client_tables(
    struct client *c, struct api_table **ret, uint32_t *ret_sum, struct err *e) MUST_CHECK;

/* Dead letters (proto/api.h). ERR_REFUSED: the sink's quota is used up. */
int client_bury(
    struct client *c, const char *name, const struct api_bury *l, struct err *e) MUST_CHECK;
int client_raise(
    struct client *c, const char *name, const struct api_raise *l, struct err *e) MUST_CHECK;
/* Up to max (at most API_LETTERS_MAX) letters behind `after`, by offset; returns how many.
 * Views are valid until the next call. */
int client_letters(struct client *c, const char *name, uint64_t after, struct api_letter *ret,
    size_t max, struct err *e) MUST_CHECK;
/* The letter's record as a batch, valid until the next call. ERR_NOTFOUND: it is gone. */
int client_letter(struct client *c, const char *name, uint64_t offset, struct str *ret_batch,
    struct err *e) MUST_CHECK;
/* Durable when it returns 0, and so is the doubt (NULL: none; its offset is r's). */
int client_reread(struct client *c, const char *name, const struct api_reread *r,
    const struct api_doubt *doubt, struct err *e) MUST_CHECK;
/* All of them in *ret, owned by the caller; returns how many. */
int client_doubts(
    struct client *c, const char *name, struct api_doubt **ret, struct err *e) MUST_CHECK;
/* Up to API_PROVEN_MAX that are over. */
int client_proven(struct client *c, const char *name, const struct api_doubt *d, size_t n,
    struct err *e) MUST_CHECK;
/* For the replicator: the oldest requests with an id above `after`, up to max (at most
 * API_LETTERS_MAX); returns how many. Views are valid until the next call. */
int client_rereads(struct client *c, uint64_t after, struct api_reread *ret, size_t max,
    struct err *e) MUST_CHECK;
int client_rereads_done(
    struct client *c, const struct api_reread_done *r, size_t n, struct err *e) MUST_CHECK;

/* GET path (already escaped) and parse the JSON answer; *ret_root is owned by the caller. */
int client_get_json(
    struct client *c, const char *path, struct json **ret_root, struct err *e) MUST_CHECK;
/* POST a JSON body (empty: `{}`) to path and parse the JSON answer; *ret_root is owned by the
 * caller, NULL where the answer has no body. */
int client_post_json(struct client *c, const char *path, struct str body,
    struct json **ret_root, struct err *e) MUST_CHECK;
/* GET path and hand the body on piece by piece as it comes, without a time limit (tail,
 * verify). */
typedef int client_data_f(void *arg, struct str piece, struct err *e);
int client_stream(struct client *c, const char *path, const char *accept, client_data_f *fn,
    void *arg, struct err *e) MUST_CHECK;

#endif
