/* api: the calls between our own processes: paths, limits, and the msgpack body of each,
 * encoded and decoded in one place for both sides. Maps with text keys, unknown keys refused,
 * so that two versions notice each other. What people and other programs use (interface.md,
 * HTTP) is JSON and lives in the broker's routes. Pure.
 *
 * The broker listens on two Unix sockets in its data folder (both 0600):
 *
 *   append.sock    one thread, the log's only writer; the replicator is its only client
 *
 *     GET  /internal/source          -> api_source           what the log knows and can prove
 *
 *     POST /internal/source          <- api_source_update    identity, slot progress; durable
 *
 *     POST /internal/source/status   <- api_source_status    for /lag; not durable
 *
 *     POST /internal/source/tables   <- api_table, ...       published now; not durable
 *
 *     POST /internal/session         -> api_session          fences the former session
 *
 *     POST /internal/append          <- api_append + frames; -> api_appended
 *
 *   oneslot.sock   everything else
 *
 *     POST /internal/sinks/NAME/session  <- api_sink_open; -> api_sink_session   fences
 *
 *     GET  /internal/fetch?from=&max=&wait_ms=&tables=       -> a batch (proto/batch.h)
 *
 *     POST /internal/sinks/NAME/commit   <- api_sink_commit; -> api_sink_session
 *
 *     POST /internal/sinks/NAME/status   <- api_sink_status; -> api_sink_session   for /lag;
 * not durable; 409 is how a worker learns that it was paused, resumed, moved, or has letters to
 * redrive: it opens a session again
 *
 *     GET  /internal/tables              -> api_table, ...   as the replicator last said
 *
 *     POST /internal/sinks/NAME/bury     <- api_bury         a dead letter; durable
 *
 *     POST /internal/sinks/NAME/raise    <- api_raise        letters that are no longer needed
 *
 *     GET  /internal/sinks/NAME/letters?after=&max=          -> letters (api_letter), in order
 *
 *     GET  /internal/sinks/NAME/letters/OFFSET               -> the letter's record: a batch
 *
 *     POST /internal/sinks/NAME/reread?doubt=&table=  <- api_reread; durable before the
 * answer, and so is the doubt
 *
 *     GET  /internal/sinks/NAME/doubts   -> api_doubt, ...
 *
 *     POST /internal/sinks/NAME/proven   <- api_doubt, ...   doubts that are over
 *
 *     GET  /internal/rereads?after=&max= -> api_reread, ...  for the replicator
 *
 *     POST /internal/rereads/done        <- api_reread_done, ...
 *
 * Any other answer is application/problem+json; its status decides: 409 fenced or out of step
 * (open a new session), 503 nothing was done, the same call may come again (disk or log full,
 * with Retry-After), 400 our own bug, 410/416 a fetch outside the log. */
#ifndef ONESLOT_PROTO_API_H
#define ONESLOT_PROTO_API_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/str.h"

#define API_SOCKET        "oneslot.sock"
#define API_APPEND_SOCKET "append.sock"
#define API_MSGPACK       "application/msgpack"
#define API_JSON          "application/json"
#define API_PROBLEM       "application/problem+json"
#define API_NDJSON        "application/x-ndjson"
#define API_SSE           "text/event-stream"

#define API_SOURCE        "/internal/source"
#define API_SOURCE_STATUS "/internal/source/status"
#define API_SOURCE_TABLES "/internal/source/tables"
#define API_SESSION       "/internal/session"
#define API_APPEND        "/internal/append"
#define API_FETCH         "/internal/fetch"
#define API_TABLES        "/internal/tables"
#define API_SINKS         "/internal/sinks/" /* NAME/session, NAME/commit, ... */
#define API_REREADS       "/internal/rereads"
#define API_REREADS_DONE  "/internal/rereads/done"

enum {
    API_UUID = 16,
    /* What an append holds unless one record alone is larger. Measured: at 1 MiB the broker's
     * write keeps a core from the replicator for so long that PostgreSQL's socket fills (ratio
     * 0.96). */
    API_BATCH_BYTES = 384 * 1024,
    API_FETCH_BYTES = 1024 * 1024, /* default and usual size of a fetched batch */
    API_FETCH_MAX = 16 * 1024 * 1024,
    API_WAIT_MAX_MS = 60 * 1000,
    API_CONTROL_BODY = 64 * 1024, /* largest body of anything but an append */
    API_TEXT_MAX = 512,           /* names and error texts */
    API_KEY_MAX = 16 * 1024,      /* of a row (proto/record_key.h) */
    API_REREAD_MAX = 1024 * 1024, /* of a row to be read again: its key is sent as it is */
    API_LETTERS_MAX = 1000,       /* letters or rereads in one answer */
    API_DOUBTS_MAX = 100000,      /* doubts of a sink */
    API_PROVEN_MAX = 1024,        /* of them in one call */
    API_TABLES_MAX = 100000,      /* published */
    API_TABLES_BYTES = 16 * 1024 * 1024,
    API_KEY_COLS_MAX = 32 /* INDEX_MAX_KEYS */
};
#define API_APPEND_BODY_MAX 0x80000000ull /* one record of FRAME_MAX_PAYLOAD and its head */

enum api_slot_state {
    API_SLOT_NONE = 0,
    API_SLOT_INTENDED = 1, /* in the ledger before the slot is created (P3) */
    API_SLOT_CREATED = 2   /* created or adopted; start_lsn is where the log begins */
};

/* What the log knows of its source, and how far it can prove to hold everything. Strings are
 * views. */
struct api_source {
    uint8_t uuid[API_UUID];
    uint64_t epoch;
    bool is_empty;       /* no record was ever logged */
    uint64_t proven_lsn; /* every transaction ending at or below it is in the log, or there was
                            none */
    bool has_identity;
    uint64_t system_id;
    uint32_t timeline;
    struct str database, slot;
    uint8_t slot_state; /* enum api_slot_state */
    uint64_t start_lsn; /* with CREATED */
};
void api_put_source(struct buf *b, const struct api_source *s);
int api_get_source(struct str bytes, struct api_source *ret, struct err *e) MUST_CHECK;

/* Replaces identity and slot progress. The broker refuses (409) another system id or database
 * once it has one, and a slot state that goes back. */
struct api_source_update {
    uint64_t system_id;
    uint32_t timeline;
    struct str database, slot;
    uint8_t slot_state;
    uint64_t start_lsn;
};
void api_put_source_update(struct buf *b, const struct api_source_update *s);
int api_get_source_update(
    struct str bytes, struct api_source_update *ret, struct err *e) MUST_CHECK;

enum api_source_state {
    API_SOURCE_CONNECTING = 0,
    API_SOURCE_SNAPSHOT,
    API_SOURCE_STREAMING,
    API_SOURCE_RETRYING,
    API_SOURCE_REFUSED
};
const char *api_source_state_name(uint8_t state);

struct api_source_status {
    uint8_t state; /* enum api_source_state */
    struct str slot;
    uint64_t server_lsn, received_lsn, acked_lsn; /* 0: unknown */
    bool has_retained;
    int64_t retained_wal_bytes;
    struct str wal_status; /* empty: unknown */
    bool has_safe;
    int64_t safe_wal_bytes;
    struct str last_error; /* empty: none */
};
void api_put_source_status(struct buf *b, const struct api_source_status *s);
int api_get_source_status(
    struct str bytes, struct api_source_status *ret, struct err *e) MUST_CHECK;

/* A table whose changes come under its name. The list is always whole. */
struct api_table {
    struct str ns, name;
    bool has_key; /* its rows have one in the log */
};
void api_put_tables(struct buf *b, const struct api_table *t, size_t n);
/* Up to max of them into ret; returns how many, or < 0. */
int api_get_tables(
    struct str bytes, struct api_table *ret, size_t max, struct err *e) MUST_CHECK;

/* Which list it is: never 0. */
uint32_t api_tables_sum(struct str bytes);

/* How many elements a list of at most max has, so that its reader needs no more room than
 * that; 0 where it is malformed. */
size_t api_count_list(struct str bytes, size_t max);

struct api_session {
    uint8_t uuid[API_UUID];
    uint64_t generation;
    uint64_t epoch;
    uint64_t proven_lsn;  /* START_REPLICATION here */
    uint32_t next_schema; /* the first schema id that this session may use */
};
void api_put_session(struct buf *b, const struct api_session *s);
int api_get_session(struct str bytes, struct api_session *ret, struct err *e) MUST_CHECK;

/* The head of an append body; the frames (proto/frame.h) follow it to the body's end. Fixed
 * size: magic "osA1" | zero u32 | uuid 16 | generation u64 le | sequence u64 le Frames are one
 * stream over all appends of a session: a transaction may go on in the next append, a frame may
 * not. sequence starts at 1 and grows by 1 with every append that was answered 200. */
enum { API_APPEND_HEAD = 40 };
struct api_append {
    uint8_t uuid[API_UUID];
    uint64_t generation, sequence;
};
void api_put_append(char to[API_APPEND_HEAD], const struct api_append *a);
int api_get_append(struct str bytes, struct api_append *ret, struct err *e) MUST_CHECK;

struct api_appended {
    uint64_t sequence;
    uint64_t proven_lsn; /* what may be acknowledged now: durable in log and ledger */
    uint64_t tail;       /* next offset to become visible */
};
void api_put_appended(struct buf *b, const struct api_appended *a);
int api_get_appended(struct str bytes, struct api_appended *ret, struct err *e) MUST_CHECK;

/* Opening a sink session: registers the sink when it is first seen, at `start` (a position). */
struct api_sink_open {
    struct str kind, start;
    struct str
        tables; /* comma-separated patterns, empty: all; for /lag's records_behind only */
};
void api_put_sink_open(struct buf *b, const struct api_sink_open *s);
int api_get_sink_open(struct str bytes, struct api_sink_open *ret, struct err *e) MUST_CHECK;

struct api_sink_session {
    uint8_t uuid[API_UUID];
    uint64_t generation;
    uint64_t epoch;
    uint64_t next;    /* the first offset not yet settled */
    uint64_t floor;   /* where its unbroken history begins (sinks/sink.h) */
    bool is_paused;   /* write nothing until a session says otherwise */
    uint64_t letters; /* of any state; more than 0: ask for them */
    uint32_t tables;  /* api_tables_sum of the published tables; 0: the replicator has not said
                         any yet */
};
void api_put_sink_session(struct buf *b, const struct api_sink_session *s);
int api_get_sink_session(
    struct str bytes, struct api_sink_session *ret, struct err *e) MUST_CHECK;

/* Moves a sink's offset by compare-and-set (P4): 409 when the generation is not the current one
 * or the stored offset is not `expect`; 416 when next lies beyond the tail. */
struct api_sink_commit {
    uint64_t generation, expect, next;
};
void api_put_sink_commit(struct buf *b, const struct api_sink_commit *s);
int api_get_sink_commit(
    struct str bytes, struct api_sink_commit *ret, struct err *e) MUST_CHECK;

enum api_sink_state {
    API_SINK_STARTING = 0,
    API_SINK_RUNNING,
    API_SINK_RETRYING,
    API_SINK_PAUSED,
    API_SINK_STOPPED
};
const char *api_sink_state_name(uint8_t state);

struct api_sink_status {
    uint64_t generation;
    uint8_t state; /* enum api_sink_state */
    uint64_t records, retries;
    uint64_t requests, bytes, stale, missing, lossy, rereads; /* struct sink_counts, and rows
                                                                 asked to be read again */
    uint32_t lanes;                                           /* in use */
    int64_t last_success_us;                                  /* 0: never */
    struct str last_error;                                    /* empty: none */
};
void api_put_sink_status(struct buf *b, const struct api_sink_status *s);
int api_get_sink_status(
    struct str bytes, struct api_sink_status *ret, struct err *e) MUST_CHECK;

/* ---- dead letters: records that a target can never accept, kept by the broker ---- */

enum api_letter_state {
    API_LETTER_DEAD = 0,
    API_LETTER_RETRY,     /* a person asked for it: the worker sends it once more */
    API_LETTER_DISCARDED, /* a person gave it up; it stays as a mark, without its record, until
                             a later record of its key has brought the target up to date */
    API_LETTER_REREAD     /* redriven, and its row is being read again; a mark likewise */
};
const char *api_letter_state_name(uint8_t state);

/* Buries a record: durable before the answer. Again with the same offset: replaces reason and
 * state (the number of attempts grows). 503 with ERR_REFUSED's detail when the sink's quota is
 * used up (507 in HTTP). 409: another generation. */
struct api_bury {
    uint64_t generation;
    uint64_t offset;
    uint8_t state;     /* enum api_letter_state: DEAD or REREAD */
    bool is_whole;     /* older letters of its key are of no more use and go in the same commit:
                          the record has all values of its row (or is a delete), and follows no
                          key change that the target still has to be told */
    struct str key;    /* proto/record_key.h; empty: none (a message, a table without a key) */
    struct str former; /* of a key change the key before it; else empty */
    struct str ns, table; /* empty for messages */
    struct str op;        /* "insert", ... */
    struct str reason;
    struct str record; /* a batch (proto/batch.h) of this record alone; with REREAD empty */
};
void api_put_bury(struct buf *b, const struct api_bury *l);
int api_get_bury(struct str bytes, struct api_bury *ret, struct err *e) MUST_CHECK;

/* A settled record: every letter of its key at or below its offset goes, whatever its state.
 * With is_prefix key is a table's (record_key_put_table, of a TRUNCATE): of all its rows.
 * Without a key: the letter at that very offset. */
struct api_raise {
    uint64_t generation;
    uint64_t offset;
    bool is_prefix;
    struct str key;
};
void api_put_raise(struct buf *b, const struct api_raise *l);
int api_get_raise(struct str bytes, struct api_raise *ret, struct err *e) MUST_CHECK;

/* What a worker has to know of a letter: which key, of a key change which two, is in what
 * state. */
struct api_letter {
    uint64_t offset;
    uint8_t state;
    struct str key, former; /* as in struct api_bury */
};
/* A document of letters, one after the other behind their number; the answer's end. */
void api_put_letters(struct buf *b, const struct api_letter *l, size_t n);
/* Up to max of them into ret; returns how many, or < 0. */
int api_get_letters(
    struct str bytes, struct api_letter *ret, size_t max, struct err *e) MUST_CHECK;

/* ---- reading a row again ---- */

struct api_reread {
    uint64_t id;     /* given by the broker, growing; 0 in a worker's request */
    uint64_t offset; /* of the record that lacks the value: rows appended behind it will do */
    struct str ns, table;
    uint32_t nkeys;
    struct api_key_col {
        struct str name, text; /* a column and PostgreSQL's text of its value */
    } key[API_KEY_COLS_MAX];
};
/* A request for a row that already waits is one with it (offset: the higher one). */
void api_put_rereads(struct buf *b, const struct api_reread *r, size_t n);
int api_get_rereads(
    struct str bytes, struct api_reread *ret, size_t max, struct err *e) MUST_CHECK;

/* Until a row has been read, and has come to the sink through the log, what the sink's target
 * holds of its key lacks a change: no later record of that key may take a value from it. What
 * the target holds with a version above the doubt's offset, the highest of a record whose row
 * was asked for, is proven again. */
struct api_doubt {
    uint64_t key;   /* record_key_hash; 0: of every key, once there are API_DOUBTS_MAX others */
    uint32_t table; /* frame_sum of the table's part of the key */
    uint64_t offset; /* of a doubt that is over: one beyond this is another one, and stays */
};
void api_put_doubts(struct buf *b, const struct api_doubt *d, size_t n);
int api_get_doubts(
    struct str bytes, struct api_doubt *ret, size_t max, struct err *e) MUST_CHECK;

/* Answered requests: as rows in the log, or the row is gone (or its table, or its column),
 * which is counted. Every request with that id whose offset is below `read_at` goes; one that
 * was raised above it meanwhile stays. */
struct api_reread_done {
    uint64_t id;
    uint64_t read_at; /* the log's tail at a moment when nothing was under way to it and the
                         rows were not yet read */
    bool is_gone;
};
void api_put_rereads_done(struct buf *b, const struct api_reread_done *r, size_t n);
int api_get_rereads_done(
    struct str bytes, struct api_reread_done *ret, size_t max, struct err *e) MUST_CHECK;

#endif
