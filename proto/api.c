#include "proto/api.h"

#include <limits.h>
#include <string.h>

#include "proto/base/bytes.h"
#include "proto/base/mp.h"
#include "proto/frame.h"

/* One row per field of a message: both directions are driven by the same table, so they cannot
 * disagree. */
enum field_type {
    FIELD_U8,
    FIELD_U32,
    FIELD_U64,
    FIELD_I64,
    FIELD_BOOL,
    FIELD_STR,
    FIELD_BYTES, /* of any size: the body's own limit holds */
    FIELD_UUID
};
struct field {
    const char *name;
    enum field_type type;
    size_t offset;
};
#define FIELD(owner, member, type)                                                             \
    {                                                                                          \
#member, type, offsetof(struct owner, member)                                          \
    }

static void
put_field(struct buf *b, const struct field *f, const char *base)
{
    const char *at = base + f->offset;
    mp_put_cstr(b, f->name);
    switch (f->type) {
    case FIELD_U8:
        mp_put_u64(b, *(const uint8_t *)at);
        return;
    case FIELD_U32:
        mp_put_u64(b, *(const uint32_t *)(const void *)at);
        return;
    case FIELD_U64:
        mp_put_u64(b, *(const uint64_t *)(const void *)at);
        return;
    case FIELD_I64:
        mp_put_i64(b, *(const int64_t *)(const void *)at);
        return;
    case FIELD_BOOL:
        mp_put_bool(b, *(const bool *)(const void *)at);
        return;
    case FIELD_STR:
        mp_put_str(b, *(const struct str *)(const void *)at);
        return;
    case FIELD_BYTES:
        mp_put_bin(b, *(const struct str *)(const void *)at);
        return;
    case FIELD_UUID:
        mp_put_bin(b, (struct str){at, API_UUID});
        return;
    }
}

/* An integer that does not fit, or a text or uuid of another length, fails the reader like a
 * wrong type. */
static void
get_small(struct mp *m, uint64_t max, uint64_t *ret)
{
    uint64_t v = mp_u64(m);
    if (v > max) {
        m->failed = true;
    }
    *ret = v;
}

static void
get_field(struct mp *m, const struct field *f, char *base)
{
    char *at = base + f->offset;
    uint64_t v;
    struct str s;
    switch (f->type) {
    case FIELD_U8:
        get_small(m, UINT8_MAX, &v);
        *(uint8_t *)at = (uint8_t)v;
        return;
    case FIELD_U32:
        get_small(m, UINT32_MAX, &v);
        *(uint32_t *)(void *)at = (uint32_t)v;
        return;
    case FIELD_U64:
        *(uint64_t *)(void *)at = mp_u64(m);
        return;
    case FIELD_I64:
        *(int64_t *)(void *)at = mp_i64(m);
        return;
    case FIELD_BOOL:
        *(bool *)(void *)at = mp_bool(m);
        return;
    case FIELD_STR:
        s = mp_str(m);
        m->failed = m->failed || s.n > API_CONTROL_BODY;
        *(struct str *)(void *)at = s;
        return;
    case FIELD_BYTES:
        *(struct str *)(void *)at = mp_str(m);
        return;
    case FIELD_UUID:
        s = mp_str(m);
        if (s.n != API_UUID) {
            m->failed = true;
            return;
        }
        memcpy(at, s.p, API_UUID);
        return;
    }
}

static void
put_message(struct buf *b, const struct field *fields, size_t n, const void *from)
{
    mp_put_map(b, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        put_field(b, &fields[i], from);
    }
}

/* Every field, once, in the table's order, nothing else. */
static int
get_message(struct str bytes, const char *what, const struct field *fields, size_t n, void *to,
    struct err *e)
{
    struct mp m;
    mp_init(&m, bytes);
    uint32_t members = mp_map(&m);
    for (size_t i = 0; i < n && !m.failed && members == n; i++) {
        if (!str_is(mp_str(&m), fields[i].name)) {
            return err_set(e, ERR_PARSE,
                "a %s from another version of oneslot: no '%s' where it belongs; run the same "
                "version everywhere",
                what, fields[i].name);
        }
        get_field(&m, &fields[i], to);
    }
    if (members != n || !mp_done(&m)) {
        return err_set(e, ERR_PARSE,
            "malformed %s between oneslot's processes; run the same version everywhere", what);
    }
    return 0;
}

#define MESSAGE(stem, ...)                                                                     \
    static const struct field stem##_fields[] = {__VA_ARGS__};                                 \
    void api_put_##stem(struct buf *b, const struct api_##stem *s)                             \
    {                                                                                          \
        put_message(b, stem##_fields, sizeof stem##_fields / sizeof stem##_fields[0], s);      \
    }                                                                                          \
    int api_get_##stem(struct str bytes, struct api_##stem *ret, struct err *e)                \
    {                                                                                          \
        struct api_##stem got = {0};                                                           \
        int rc = get_message(bytes, #stem, stem##_fields,                                      \
            sizeof stem##_fields / sizeof stem##_fields[0], &got, e);                          \
        if (rc == 0) {                                                                         \
            *ret = got;                                                                        \
        }                                                                                      \
        return rc;                                                                             \
    }

MESSAGE(source, FIELD(api_source, uuid, FIELD_UUID), FIELD(api_source, epoch, FIELD_U64),
    FIELD(api_source, is_empty, FIELD_BOOL), FIELD(api_source, proven_lsn, FIELD_U64),
    FIELD(api_source, has_identity, FIELD_BOOL), FIELD(api_source, system_id, FIELD_U64),
    FIELD(api_source, timeline, FIELD_U32), FIELD(api_source, database, FIELD_STR),
    FIELD(api_source, slot, FIELD_STR), FIELD(api_source, slot_state, FIELD_U8),
    FIELD(api_source, start_lsn, FIELD_U64))

MESSAGE(source_update, FIELD(api_source_update, system_id, FIELD_U64),
    FIELD(api_source_update, timeline, FIELD_U32),
    FIELD(api_source_update, database, FIELD_STR), FIELD(api_source_update, slot, FIELD_STR),
    FIELD(api_source_update, slot_state, FIELD_U8),
    FIELD(api_source_update, start_lsn, FIELD_U64))

MESSAGE(source_status, FIELD(api_source_status, state, FIELD_U8),
    FIELD(api_source_status, slot, FIELD_STR), FIELD(api_source_status, server_lsn, FIELD_U64),
    FIELD(api_source_status, received_lsn, FIELD_U64),
    FIELD(api_source_status, acked_lsn, FIELD_U64),
    FIELD(api_source_status, has_retained, FIELD_BOOL),
    FIELD(api_source_status, retained_wal_bytes, FIELD_I64),
    FIELD(api_source_status, wal_status, FIELD_STR),
    FIELD(api_source_status, has_safe, FIELD_BOOL),
    FIELD(api_source_status, safe_wal_bytes, FIELD_I64),
    FIELD(api_source_status, last_error, FIELD_STR))

MESSAGE(session, FIELD(api_session, uuid, FIELD_UUID),
    FIELD(api_session, generation, FIELD_U64), FIELD(api_session, epoch, FIELD_U64),
    FIELD(api_session, proven_lsn, FIELD_U64), FIELD(api_session, next_schema, FIELD_U32))

MESSAGE(appended, FIELD(api_appended, sequence, FIELD_U64),
    FIELD(api_appended, proven_lsn, FIELD_U64), FIELD(api_appended, tail, FIELD_U64))

MESSAGE(sink_open, FIELD(api_sink_open, kind, FIELD_STR),
    FIELD(api_sink_open, start, FIELD_STR), FIELD(api_sink_open, tables, FIELD_STR))

MESSAGE(sink_session, FIELD(api_sink_session, uuid, FIELD_UUID),
    FIELD(api_sink_session, generation, FIELD_U64), FIELD(api_sink_session, epoch, FIELD_U64),
    FIELD(api_sink_session, next, FIELD_U64), FIELD(api_sink_session, floor, FIELD_U64),
    FIELD(api_sink_session, is_paused, FIELD_BOOL), FIELD(api_sink_session, letters, FIELD_U64),
    FIELD(api_sink_session, tables, FIELD_U32))

MESSAGE(sink_commit, FIELD(api_sink_commit, generation, FIELD_U64),
    FIELD(api_sink_commit, expect, FIELD_U64), FIELD(api_sink_commit, next, FIELD_U64))

MESSAGE(sink_status, FIELD(api_sink_status, generation, FIELD_U64),
    FIELD(api_sink_status, state, FIELD_U8), FIELD(api_sink_status, records, FIELD_U64),
    FIELD(api_sink_status, retries, FIELD_U64), FIELD(api_sink_status, requests, FIELD_U64),
    FIELD(api_sink_status, bytes, FIELD_U64), FIELD(api_sink_status, stale, FIELD_U64),
    FIELD(api_sink_status, missing, FIELD_U64), FIELD(api_sink_status, lossy, FIELD_U64),
    FIELD(api_sink_status, rereads, FIELD_U64), FIELD(api_sink_status, lanes, FIELD_U32),
    FIELD(api_sink_status, last_success_us, FIELD_I64),
    FIELD(api_sink_status, last_error, FIELD_STR))

MESSAGE(bury, FIELD(api_bury, generation, FIELD_U64), FIELD(api_bury, offset, FIELD_U64),
    FIELD(api_bury, state, FIELD_U8), FIELD(api_bury, is_whole, FIELD_BOOL),
    FIELD(api_bury, key, FIELD_BYTES), FIELD(api_bury, former, FIELD_BYTES),
    FIELD(api_bury, ns, FIELD_STR), FIELD(api_bury, table, FIELD_STR),
    FIELD(api_bury, op, FIELD_STR), FIELD(api_bury, reason, FIELD_STR),
    FIELD(api_bury, record, FIELD_BYTES))

MESSAGE(raise, FIELD(api_raise, generation, FIELD_U64), FIELD(api_raise, offset, FIELD_U64),
    FIELD(api_raise, is_prefix, FIELD_BOOL), FIELD(api_raise, key, FIELD_BYTES))

/* ---- several of a kind in one document: [[...], ...] ---- */

static int
bad_list(const char *what, struct err *e)
{
    return err_set(e, ERR_PARSE,
        "malformed %s between oneslot's processes; run the same version everywhere", what);
}

/* Opens a list of at most max elements; -1 in *ret_n: malformed. */
static struct mp
open_list(struct str bytes, size_t max, int *ret_n)
{
    struct mp m;
    mp_init(&m, bytes);
    uint32_t n = mp_array(&m);
    *ret_n = m.failed || n > max || n > INT_MAX ? -1 : (int)n;
    return m;
}

size_t
api_count_list(struct str bytes, size_t max)
{
    int n;
    (void)open_list(bytes, max, &n);
    return n < 0 ? 0 : (size_t)n;
}

void
api_put_tables(struct buf *b, const struct api_table *t, size_t n)
{
    mp_put_array(b, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        mp_put_array(b, 3);
        mp_put_str(b, t[i].ns);
        mp_put_str(b, t[i].name);
        mp_put_bool(b, t[i].has_key);
    }
}

int
api_get_tables(struct str bytes, struct api_table *ret, size_t max, struct err *e)
{
    int n;
    struct mp m = open_list(bytes, max, &n);
    for (int i = 0; i < n && !m.failed; i++) {
        m.failed = mp_array(&m) != 3 || m.failed;
        ret[i].ns = mp_str(&m);
        ret[i].name = mp_str(&m);
        ret[i].has_key = mp_bool(&m);
    }
    return n < 0 || !mp_done(&m) ? bad_list("tables", e) : n;
}

uint32_t
api_tables_sum(struct str bytes)
{
    uint32_t sum = frame_sum(0, bytes);
    return sum == 0 ? 1 : sum;
}

void
api_put_letters(struct buf *b, const struct api_letter *l, size_t n)
{
    mp_put_array(b, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        mp_put_array(b, 4);
        mp_put_u64(b, l[i].offset);
        mp_put_u64(b, l[i].state);
        mp_put_bin(b, l[i].key);
        mp_put_bin(b, l[i].former);
    }
}

int
api_get_letters(struct str bytes, struct api_letter *ret, size_t max, struct err *e)
{
    int n;
    struct mp m = open_list(bytes, max, &n);
    for (int i = 0; i < n && !m.failed; i++) {
        uint64_t state;
        m.failed = mp_array(&m) != 4 || m.failed;
        ret[i].offset = mp_u64(&m);
        get_small(&m, UINT8_MAX, &state);
        ret[i].state = (uint8_t)state;
        ret[i].key = mp_str(&m);
        ret[i].former = mp_str(&m);
    }
    return n < 0 || !mp_done(&m) ? bad_list("letters", e) : n;
}

void
api_put_rereads(struct buf *b, const struct api_reread *r, size_t n)
{
    mp_put_array(b, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        mp_put_array(b, 5);
        mp_put_u64(b, r[i].id);
        mp_put_u64(b, r[i].offset);
        mp_put_bin(b, r[i].ns);
        mp_put_bin(b, r[i].table);
        mp_put_array(b, 2 * r[i].nkeys);
        for (uint32_t k = 0; k < r[i].nkeys; k++) {
            mp_put_bin(b, r[i].key[k].name);
            mp_put_bin(b, r[i].key[k].text);
        }
    }
}

static void
get_reread(struct mp *m, struct api_reread *ret)
{
    m->failed = mp_array(m) != 5 || m->failed;
    ret->id = mp_u64(m);
    ret->offset = mp_u64(m);
    ret->ns = mp_str(m);
    ret->table = mp_str(m);
    uint32_t n = mp_array(m);
    if (m->failed || n % 2 != 0 || n / 2 > API_KEY_COLS_MAX) {
        m->failed = true;
        return;
    }
    ret->nkeys = n / 2;
    for (uint32_t k = 0; k < ret->nkeys; k++) {
        ret->key[k].name = mp_str(m);
        ret->key[k].text = mp_str(m);
    }
}

int
api_get_rereads(struct str bytes, struct api_reread *ret, size_t max, struct err *e)
{
    int n;
    struct mp m = open_list(bytes, max, &n);
    for (int i = 0; i < n && !m.failed; i++) {
        get_reread(&m, &ret[i]);
    }
    return n < 0 || !mp_done(&m) ? bad_list("rereads", e) : n;
}

void
api_put_doubts(struct buf *b, const struct api_doubt *d, size_t n)
{
    mp_put_array(b, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        mp_put_array(b, 3);
        mp_put_u64(b, d[i].key);
        mp_put_u64(b, d[i].table);
        mp_put_u64(b, d[i].offset);
    }
}

int
api_get_doubts(struct str bytes, struct api_doubt *ret, size_t max, struct err *e)
{
    int n;
    struct mp m = open_list(bytes, max, &n);
    for (int i = 0; i < n && !m.failed; i++) {
        uint64_t table;
        m.failed = mp_array(&m) != 3 || m.failed;
        ret[i].key = mp_u64(&m);
        get_small(&m, UINT32_MAX, &table);
        ret[i].table = (uint32_t)table;
        ret[i].offset = mp_u64(&m);
    }
    return n < 0 || !mp_done(&m) ? bad_list("doubts", e) : n;
}

void
api_put_rereads_done(struct buf *b, const struct api_reread_done *r, size_t n)
{
    mp_put_array(b, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        mp_put_array(b, 3);
        mp_put_u64(b, r[i].id);
        mp_put_u64(b, r[i].read_at);
        mp_put_bool(b, r[i].is_gone);
    }
}

int
api_get_rereads_done(struct str bytes, struct api_reread_done *ret, size_t max, struct err *e)
{
    int n;
    struct mp m = open_list(bytes, max, &n);
    for (int i = 0; i < n && !m.failed; i++) {
        m.failed = mp_array(&m) != 3 || m.failed;
        ret[i].id = mp_u64(&m);
        ret[i].read_at = mp_u64(&m);
        ret[i].is_gone = mp_bool(&m);
    }
    return n < 0 || !mp_done(&m) ? bad_list("answers to rereads", e) : n;
}

static const char append_magic[8] = {'o', 's', 'A', '1', 0, 0, 0, 0};

void
api_put_append(char to[API_APPEND_HEAD], const struct api_append *a)
{
    memcpy(to, append_magic, 8);
    memcpy(to + 8, a->uuid, API_UUID);
    put_le64(to + 24, a->generation);
    put_le64(to + 32, a->sequence);
}

int
api_get_append(struct str bytes, struct api_append *ret, struct err *e)
{
    if (bytes.n < API_APPEND_HEAD || memcmp(bytes.p, append_magic, 8) != 0) {
        return err_set(e, ERR_PARSE,
            "an append without its head; run the same version of oneslot everywhere");
    }
    memcpy(ret->uuid, bytes.p + 8, API_UUID);
    ret->generation = get_le64(bytes.p + 24);
    ret->sequence = get_le64(bytes.p + 32);
    return 0;
}

const char *
api_source_state_name(uint8_t state)
{
    static const char *const names[] = {
        "connecting", "snapshot", "streaming", "retrying", "refused"};
    return state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}

const char *
api_sink_state_name(uint8_t state)
{
    static const char *const names[] = {"starting", "running", "retrying", "paused", "stopped"};
    return state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}

const char *
api_letter_state_name(uint8_t state)
{
    static const char *const names[] = {"dead", "retry", "discarded", "reread"};
    return state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}
