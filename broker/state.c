#include "broker/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/beside.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/xmalloc.h"

/* Two tables: "m" holds "log" (uuid) and "ledger"; "k" the sinks by name. Values are msgpack
 * maps, written whole. */
enum { TABLE_META, TABLE_SINKS };
enum {
    MAP_BYTES = 64 * 1024 * 1024,
    /* Owned by the file from the start: offsets move on also when the disk is full. */
    DISK_BYTES = 1024 * 1024,
    VALUE_MAX = 16 * 1024,
    LEDGER_VERSION = 1,
    SINK_VERSION = 2 /* 1: without is_paused and floor */
};
static const uint32_t ledger_fields[LEDGER_VERSION] = {11};
static const uint32_t sink_fields[SINK_VERSION] = {5, 7};
#define KEY_DEAD     STR("dead")
#define KEY_LEDGER   STR("ledger")
#define STATE_FOLDER "state"

struct state {
    struct beside bs;
    struct ledger ledger;
    struct sink_row *sink; /* sorted by name */
    size_t nsinks;
};

/* ---- encoding ---- */

static void
put_ledger(struct buf *b, const struct ledger *l)
{
    mp_put_array(b, ledger_fields[LEDGER_VERSION - 1]);
    mp_put_u64(b, LEDGER_VERSION);
    mp_put_u64(b, l->generation);
    mp_put_u64(b, l->next_schema);
    mp_put_u64(b, l->idle_lsn);
    mp_put_bool(b, l->has_identity);
    mp_put_u64(b, l->system_id);
    mp_put_u64(b, l->timeline);
    mp_put_cstr(b, l->database);
    mp_put_cstr(b, l->slot);
    mp_put_u64(b, l->slot_state);
    mp_put_u64(b, l->start_lsn);
}

static int
get_ledger(const struct beside *bs, struct str v, struct ledger *ret, struct err *e)
{
    struct mp m;
    uint64_t version;
    int rc = beside_value(bs, &m, v, ledger_fields, LEDGER_VERSION, &version, "the ledger", e);
    if (rc != 0) {
        return rc;
    }
    struct ledger l = {0};
    l.generation = mp_u64(&m);
    l.next_schema = (uint32_t)mp_u64(&m);
    l.idle_lsn = mp_u64(&m);
    l.has_identity = mp_bool(&m);
    l.system_id = mp_u64(&m);
    l.timeline = (uint32_t)mp_u64(&m);
    beside_text(&m, l.database, sizeof l.database);
    beside_text(&m, l.slot, sizeof l.slot);
    l.slot_state = (uint8_t)mp_u64(&m);
    l.start_lsn = mp_u64(&m);
    if (!mp_done(&m)) {
        return beside_damaged(bs, "the ledger", e);
    }
    *ret = l;
    return 0;
}

static void
put_sink(struct buf *b, const struct sink_row *s)
{
    mp_put_array(b, sink_fields[SINK_VERSION - 1]);
    mp_put_u64(b, SINK_VERSION);
    mp_put_cstr(b, s->kind);
    mp_put_u64(b, s->next);
    mp_put_u64(b, s->generation);
    mp_put_cstr(b, s->tables);
    mp_put_bool(b, s->is_paused);
    mp_put_u64(b, s->floor);
}

static int
get_sink(
    const struct beside *bs, struct str name, struct str v, struct sink_row *ret, struct err *e)
{
    struct mp m;
    uint64_t version;
    int rc = beside_value(bs, &m, v, sink_fields, SINK_VERSION, &version, "a sink's offset", e);
    if (rc != 0) {
        return rc;
    }
    struct sink_row s = {0};
    if (name.n >= sizeof s.name) {
        return beside_damaged(bs, "a sink's name", e);
    }
    memcpy(s.name, name.p, name.n);
    beside_text(&m, s.kind, sizeof s.kind);
    s.next = mp_u64(&m);
    s.generation = mp_u64(&m);
    beside_text(&m, s.tables, sizeof s.tables);
    s.is_paused = version >= 2 && mp_bool(&m);
    s.floor = version >= 2 ? mp_u64(&m) : s.next;
    if (!mp_done(&m)) {
        return beside_damaged(bs, "a sink's offset", e);
    }
    *ret = s;
    return 0;
}

/* ---- sinks in memory ---- */

/* Where name is, or belongs. */
static size_t
sink_index(const struct state *st, const char *name, bool *ret_found)
{
    size_t i = 0;
    int order = 1;
    while (i < st->nsinks && (order = strcmp(st->sink[i].name, name)) < 0) {
        i++;
    }
    *ret_found = i < st->nsinks && order == 0;
    return i;
}

static void
keep_sink(struct state *st, const struct sink_row *row)
{
    bool found;
    size_t i = sink_index(st, row->name, &found);
    if (!found) {
        st->sink = xreallocarray(st->sink, st->nsinks + 1, sizeof *st->sink);
        memmove(st->sink + i + 1, st->sink + i, (st->nsinks - i) * sizeof *st->sink);
        st->nsinks++;
    }
    st->sink[i] = *row;
}

/* ---- opening ---- */

static int
load_sinks(struct state *st, struct store_txn *txn, struct err *e)
{
    auto_store_cursor struct store_cursor *c = NULL;
    int rc = store_cursor_open(txn, TABLE_SINKS, &c, e);
    if (rc != 0) {
        return rc;
    }
    struct str k;
    struct str v;
    rc = store_cursor_seek(c, STORE_FIRST, (struct str){0}, &k, &v, e);
    while (rc == 1) {
        struct sink_row row;
        rc = get_sink(&st->bs, k, v, &row, e);
        if (rc != 0) {
            return rc;
        }
        keep_sink(st, &row);
        rc = store_cursor_next(c, &k, &v, e);
    }
    return rc;
}

static int
load(struct state *st, struct err *e)
{
    auto_store_txn struct store_txn *txn = NULL;
    int rc = store_begin(st->bs.store, false, &txn, e);
    if (rc != 0) {
        return rc;
    }
    struct str v;
    rc = store_get(txn, TABLE_META, KEY_LEDGER, &v, e);
    if (rc != 0) {
        return rc == ERR_NOTFOUND ? beside_damaged(&st->bs, "the ledger", e) : rc;
    }
    rc = get_ledger(&st->bs, v, &st->ledger, e);
    return rc == 0 ? load_sinks(st, txn, e) : rc;
}

static int
write_ledger(struct store_txn *txn, const struct ledger *l, struct err *e)
{
    auto_buf struct buf b;
    buf_init(&b, VALUE_MAX);
    put_ledger(&b, l);
    return store_put(txn, TABLE_META, KEY_LEDGER, buf_str(&b), e);
}

static int
fill_new(struct store_txn *txn, struct err *e)
{
    struct ledger first = {.next_schema = 1};
    return write_ledger(txn, &first, e);
}

int
state_exists(const char *data_dir, bool *ret, struct err *e)
{
    return beside_exists(data_dir, STATE_FOLDER, ret, e);
}

static int
open_all(struct state *st, const char *data_dir, const uint8_t uuid[API_UUID],
    bool log_is_empty, struct err *e)
{
    bool exists = false;
    int rc = state_exists(data_dir, &exists, e);
    if (rc == 0 && !exists && !log_is_empty) {
        return err_set(e, ERR_FOREIGN,
            "the log in %s/log has records but its state (offsets of sinks, identity of the "
            "source) is missing; put back the folder %s/" STATE_FOLDER,
            data_dir, data_dir);
    }
    struct beside_conf c = {.data_dir = data_dir,
        .name = STATE_FOLDER,
        .tables = {"m", "k"},
        .map_bytes = MAP_BYTES,
        .disk_bytes = DISK_BYTES,
        .fill = fill_new};
    if (rc == 0) {
        rc = beside_open(&c, uuid, &st->bs, e);
    }
    return rc == 0 ? load(st, e) : rc;
}

int
state_open(const char *data_dir, const uint8_t uuid[API_UUID], bool log_is_empty,
    struct state **ret, struct err *e)
{
    struct state *st = xcalloc(1, sizeof *st);
    int rc = open_all(st, data_dir, uuid, log_is_empty, e);
    if (rc != 0) {
        state_close(st);
        return rc;
    }
    *ret = st;
    return 0;
}

void
state_close(struct state *st)
{
    if (st == NULL) {
        return;
    }
    beside_close(&st->bs);
    free(st->sink);
    free(st);
}

/* ---- the dead letters' folder ---- */

int
state_knows_dead(struct state *st, bool *ret, struct err *e)
{
    auto_store_txn struct store_txn *txn = NULL;
    struct str v;
    int rc = store_begin(st->bs.store, false, &txn, e);
    if (rc == 0) {
        rc = store_get(txn, TABLE_META, KEY_DEAD, &v, e);
    }
    if (rc == 0 || rc == ERR_NOTFOUND) {
        *ret = rc == 0;
        return 0;
    }
    return rc;
}

int
state_set_knows_dead(struct state *st, struct err *e)
{
    (void)pthread_mutex_lock(&st->bs.lock);
    auto_store_txn struct store_txn *txn = NULL;
    int rc = store_begin(st->bs.store, true, &txn, e);
    if (rc == 0) {
        rc = store_put(txn, TABLE_META, KEY_DEAD, STR("made"), e);
    }
    if (rc == 0) {
        rc = store_commit(take_ptr(&txn), e);
    }
    (void)pthread_mutex_unlock(&st->bs.lock);
    return rc;
}

/* ---- the source ---- */

void
state_ledger(struct state *st, struct ledger *ret)
{
    (void)pthread_mutex_lock(&st->bs.lock);
    *ret = st->ledger;
    (void)pthread_mutex_unlock(&st->bs.lock);
}

int
state_set_ledger(struct state *st, const struct ledger *l, struct err *e)
{
    (void)pthread_mutex_lock(&st->bs.lock);
    auto_store_txn struct store_txn *txn = NULL;
    int rc = store_begin(st->bs.store, true, &txn, e);
    if (rc == 0) {
        rc = write_ledger(txn, l, e);
    }
    if (rc == 0) {
        rc = store_commit(take_ptr(&txn), e);
    }
    if (rc == 0) {
        st->ledger = *l;
    }
    (void)pthread_mutex_unlock(&st->bs.lock);
    return rc;
}

/* ---- sinks ---- */

void
state_first_row(struct sink_row *row, const char *name, uint64_t next)
{
    *row =
        (struct sink_row){.next = next, .floor = next, .generation = (uint64_t)clock_wall_us()};
    (void)snprintf(row->name, sizeof row->name, "%s", name);
}

void
state_steer_sink(struct sink_row *row)
{
    row->generation++;
    row->is_steered = true;
}

int
state_sink(struct state *st, const char *name, struct sink_row *ret, struct err *e)
{
    (void)pthread_mutex_lock(&st->bs.lock);
    bool found;
    size_t i = sink_index(st, name, &found);
    if (found) {
        *ret = st->sink[i];
    }
    (void)pthread_mutex_unlock(&st->bs.lock);
    return found ? 0 : err_set(e, ERR_NOTFOUND, "there is no sink '%s'", name);
}

/* row NULL: forget it. */
static int
write_sink(struct state *st, const char *name, const struct sink_row *row, struct err *e)
{
    auto_store_txn struct store_txn *txn = NULL;
    int rc = store_begin(st->bs.store, true, &txn, e);
    if (rc == 0 && row == NULL) {
        rc = store_del(txn, TABLE_SINKS, str_from(name), e);
    } else if (rc == 0) {
        auto_buf struct buf b;
        buf_init(&b, VALUE_MAX);
        put_sink(&b, row);
        rc = store_put(txn, TABLE_SINKS, str_from(name), buf_str(&b), e);
    }
    return rc == 0 ? store_commit(take_ptr(&txn), e) : rc;
}

int
state_set_sink(struct state *st, const struct sink_row *row, struct err *e)
{
    (void)pthread_mutex_lock(&st->bs.lock);
    bool found;
    (void)sink_index(st, row->name, &found);
    int rc = found || st->nsinks < STATE_SINKS_MAX
                 ? write_sink(st, row->name, row, e)
                 : err_set(e, ERR_TOOBIG,
                       "there are %d sinks already; forget one that is no longer used",
                       STATE_SINKS_MAX);
    if (rc == 0) {
        keep_sink(st, row);
    }
    (void)pthread_mutex_unlock(&st->bs.lock);
    return rc;
}

int
state_forget_sink(struct state *st, const char *name, struct err *e)
{
    (void)pthread_mutex_lock(&st->bs.lock);
    bool found;
    size_t i = sink_index(st, name, &found);
    int rc = found ? write_sink(st, name, NULL, e)
                   : err_set(e, ERR_NOTFOUND, "there is no sink '%s'", name);
    if (rc == 0) {
        st->nsinks--;
        memmove(st->sink + i, st->sink + i + 1, (st->nsinks - i) * sizeof *st->sink);
    }
    (void)pthread_mutex_unlock(&st->bs.lock);
    return rc;
}

size_t
state_sinks(struct state *st, struct sink_row *to, size_t max)
{
    (void)pthread_mutex_lock(&st->bs.lock);
    size_t n = st->nsinks;
    if (n > 0 && max > 0) {
        memcpy(to, st->sink, (n < max ? n : max) * sizeof *to);
    }
    (void)pthread_mutex_unlock(&st->bs.lock);
    return n;
}

uint64_t
state_needed_offset(struct state *st)
{
    uint64_t lowest = UINT64_MAX;
    (void)pthread_mutex_lock(&st->bs.lock);
    for (size_t i = 0; i < st->nsinks; i++) {
        lowest = st->sink[i].next < lowest ? st->sink[i].next : lowest;
    }
    (void)pthread_mutex_unlock(&st->bs.lock);
    return lowest;
}
