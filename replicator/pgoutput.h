/* pgoutput: decoding of PostgreSQL's logical replication messages (protocols 1 to 4) and of the
 * CopyData messages around them. Pure; a decoded message is made of views into its bytes and
 * allocates nothing. Whatever is short, too long, unknown or out of its range is ERR_PROTOCOL,
 * never a value (P8). */
#ifndef ONESLOT_REPLICATOR_PGOUTPUT_H
#define ONESLOT_REPLICATOR_PGOUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/str.h"

enum { PGOUTPUT_MAX_COLS = 1664 /* PostgreSQL's MaxTupleAttributeNumber */ };

/* ---- the CopyData messages around the plugin's output ---- */

enum pgoutput_copy_type { PGOUTPUT_XLOG_DATA = 'w', PGOUTPUT_KEEPALIVE = 'k' };

struct pgoutput_copy {
    enum pgoutput_copy_type type;
    /* XLogData: 0 for all but the last message of a group, so never a position. Keepalive: what
     * the server has decoded and sent; every transaction ending at or below it was sent before.
     */
    uint64_t wal_end;
    int64_t sent_us;  /* server's clock, us since 1970 */
    bool wants_reply; /* keepalive */
    struct str data;  /* XLogData: one pgoutput message */
};
int pgoutput_decode_copy(struct str bytes, struct pgoutput_copy *ret, struct err *e) MUST_CHECK;

/* The answer: a standby status update. now_us: us since 1970. */
enum { PGOUTPUT_STATUS_BYTES = 34 };
void pgoutput_put_status(char to[PGOUTPUT_STATUS_BYTES], uint64_t write_lsn, uint64_t flush_lsn,
    uint64_t apply_lsn, int64_t now_us, bool wants_reply);

/* ---- the plugin's messages ---- */

enum pgoutput_type {
    PGOUTPUT_BEGIN = 'B',
    PGOUTPUT_COMMIT = 'C',
    PGOUTPUT_ORIGIN = 'O',
    PGOUTPUT_RELATION = 'R',
    PGOUTPUT_TYPE = 'Y',
    PGOUTPUT_INSERT = 'I',
    PGOUTPUT_UPDATE = 'U',
    PGOUTPUT_DELETE = 'D',
    PGOUTPUT_TRUNCATE = 'T',
    PGOUTPUT_MESSAGE = 'M',
    PGOUTPUT_STREAM_START = 'S', /* from protocol 2 */
    PGOUTPUT_STREAM_STOP = 'E',
    PGOUTPUT_STREAM_COMMIT = 'c',
    PGOUTPUT_STREAM_ABORT = 'A',
    PGOUTPUT_BEGIN_PREPARE = 'b', /* from protocol 3 */
    PGOUTPUT_PREPARE = 'P',
    PGOUTPUT_COMMIT_PREPARED = 'K',
    PGOUTPUT_ROLLBACK_PREPARED = 'r',
    PGOUTPUT_STREAM_PREPARE = 'p'
};

enum pgoutput_kind {
    PGOUTPUT_NULL = 'n',
    PGOUTPUT_UNCHANGED = 'u', /* a TOASTed value that did not change and was not sent */
    PGOUTPUT_TEXT = 't',
    PGOUTPUT_BINARY = 'b'
};

struct pgoutput_value {
    const char *p; /* NULL unless text or binary */
    uint32_t n;
    char kind; /* enum pgoutput_kind */
};

struct pgoutput_tuple {
    const struct pgoutput_value *v; /* ncols of them, in the decoder; NULL: no such tuple */
    uint32_t ncols;
    uint32_t wire_bytes; /* its size in the message: at least 1 for each value and 5 more for
                            its bytes */
};

struct pgoutput_column {
    struct str name;
    uint32_t typoid;
    int32_t typmod;
    bool is_key; /* part of the replica identity; under FULL every column says so */
};

struct pgoutput_begin { /* B */
    uint64_t commit_lsn;
    int64_t ts_us;
    uint32_t xid;
};
struct pgoutput_commit { /* C; c with xid */
    uint64_t commit_lsn, end_lsn;
    int64_t ts_us;
    uint32_t xid; /* 0 in C */
};
struct pgoutput_origin { /* O; may repeat within a transaction */
    uint64_t lsn;        /* at the origin; 0 where it set none */
    struct str name;
};
struct pgoutput_relation { /* R */
    uint32_t relid;
    struct str ns; /* empty: pg_catalog */
    struct str name;
    char replident; /* 'd' 'n' 'f' 'i' */
    uint32_t ncols;
    const struct pgoutput_column *cols; /* in the decoder */
};
struct pgoutput_typ { /* Y; for a domain the base type's name */
    uint32_t oid;
    struct str ns; /* empty: pg_catalog */
    struct str name;
};
struct pgoutput_row { /* I, U, D */
    uint32_t relid;
    char old_tag; /* 'K' the key columns, 'O' the whole row, 0 no old tuple */
    struct pgoutput_tuple new_row, old_row;
};
struct pgoutput_truncate { /* T */
    uint32_t n;            /* at least 1; pgoutput_truncated() gives them */
    bool is_cascade, restarts_identity;
    const char *relids;
};
struct pgoutput_message { /* M */
    bool is_transactional;
    uint64_t lsn; /* the end of its WAL record */
    struct str prefix, content;
};
struct pgoutput_stream_start { /* S */
    uint32_t xid;
    bool is_first;
};
struct pgoutput_stream_abort { /* A */
    uint32_t xid, subxid;
    uint64_t lsn; /* 0 unless streaming is parallel */
    int64_t ts_us;
};
struct pgoutput_prepared { /* b P K r p */
    uint64_t
        lsn; /* of the PREPARE (b, P, p) or the COMMIT PREPARED (K); r: end of the PREPARE */
    uint64_t end_lsn;       /* end of the same record; r: of the ROLLBACK PREPARED */
    int64_t ts_us;          /* of the same record; r: of the PREPARE */
    int64_t rollback_ts_us; /* r */
    uint32_t xid;
    struct str gid;
};

struct pgoutput_msg {
    enum pgoutput_type type;
    uint32_t stream_xid; /* R Y I U D T M inside a stream block: whose change it is; else 0 */
    union {
        struct pgoutput_begin begin;
        struct pgoutput_commit commit;
        struct pgoutput_origin origin;
        struct pgoutput_relation relation;
        struct pgoutput_typ typ;
        struct pgoutput_row row;
        struct pgoutput_truncate truncate;
        struct pgoutput_message message;
        struct pgoutput_stream_start stream_start;
        struct pgoutput_stream_abort stream_abort;
        struct pgoutput_prepared prepared;
    };
};

struct pgoutput_decoder {
    bool aborts_carry_lsn;         /* protocol 4 with streaming=parallel */
    struct pgoutput_value *values; /* 2 * PGOUTPUT_MAX_COLS: new row, old row */
    struct pgoutput_column *cols;  /* PGOUTPUT_MAX_COLS */
    struct pgoutput_msg msg;
};
void pgoutput_init(struct pgoutput_decoder *d, bool aborts_carry_lsn);
void pgoutput_fini(struct pgoutput_decoder *d); /* accepts a zeroed one */

/* Decodes one message. in_stream: between Stream Start and Stream Stop (the caller keeps that
 * state), where changes carry their xid. *ret lives in d: valid until the next call and as long
 * as bytes. ERR_PROTOCOL names the message and the byte. */
int pgoutput_decode(struct pgoutput_decoder *d, struct str bytes, bool in_stream,
    const struct pgoutput_msg **ret, struct err *e) MUST_CHECK;

/* The i-th table of a Truncate, i < n. */
uint32_t pgoutput_truncated(const struct pgoutput_truncate *t, uint32_t i);

/* "Insert", ... for messages to people; "unknown" for anything else. */
const char *pgoutput_type_name(int type);

#endif
