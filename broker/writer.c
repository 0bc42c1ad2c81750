#include "broker/writer.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "broker/announced.h"
#include "broker/segwrite.h"
#include "proto/base/check.h"
#include "proto/base/cleanup.h"
#include "proto/base/fs.h"
#include "proto/base/xmalloc.h"
#include "proto/lsn.h"

enum {
    SCHEMA_ID_STEP = 64,            /* ids are taken from the ledger by so many at a time */
    SPACE_RESERVE = 4 * 1024 * 1024 /* disk left for LMDB's own pages, the state, a manifest */
};

/* The transaction between its BEGIN and its COMMIT, maybe over several appends. */
struct open_txn {
    bool is_open, is_dropped;
    struct frame_begin_txn begin;
    uint64_t count, bytes;
};

struct writer {
    struct journal *journal;
    struct state *state;
    char *data_dir;
    struct segwrite out;
    uint64_t generation,
        sequence;   /* of the session; sequence: of the last append that was answered 200 */
    bool is_broken; /* the session has failed: only a new one helps */
    struct announced announced; /* by this session */
    struct segment_tail tail;   /* with what this append has added */
    struct open_txn txn;
    uint64_t idle_lsn;         /* seen in this append */
    struct writer_stats added; /* since the last commit */
    /* First transaction since the last commit, for the journal. */
    bool has_first;
    struct pack_entry first;
    atomic_uint_fast64_t proven;
    atomic_bool is_full;
    /* What the append needs that was refused for want of space; 0: there is space. Written only
     * together with the measurement it follows from, under the lock: the last one counts. */
    pthread_mutex_t space_lock;
    atomic_uint_fast64_t space_need;
    atomic_uint_fast64_t appends, commits, records, transactions, bytes, duplicates;
};

/* ---- life ---- */

static void
update_proven(struct writer *w)
{
    struct ledger ledger;
    state_ledger(w->state, &ledger);
    struct journal_info info;
    journal_info(w->journal, &info);
    uint64_t proven = info.has_last ? info.last_end_lsn : 0;
    proven = ledger.idle_lsn > proven ? ledger.idle_lsn : proven;
    proven = ledger.start_lsn > proven ? ledger.start_lsn : proven;
    atomic_store(&w->proven, proven);
}

int
writer_new(const struct writer_conf *c, struct writer **ret, struct err *e)
{
    struct writer *w = xcalloc(1, sizeof *w);
    w->journal = c->journal;
    w->state = c->state;
    w->data_dir = xstrdup(c->data_dir);
    w->is_broken = true; /* until a session is opened */
    (void)pthread_mutex_init(&w->space_lock, NULL);
    segwrite_init(&w->out, c->is_packed);
    int rc = segwrite_use(&w->out, journal_newest(w->journal), e);
    if (rc != 0) {
        writer_free(w);
        return rc;
    }
    w->tail = w->out.sg->tail;
    update_proven(w);
    *ret = w;
    return 0;
}

void
writer_free(struct writer *w)
{
    if (w == NULL) {
        return;
    }
    segwrite_fini(&w->out);
    announced_reset(&w->announced);
    (void)pthread_mutex_destroy(&w->space_lock);
    free(w->data_dir);
    free(w);
}

/* ---- the source ---- */

static bool
is_other_source(const struct ledger *l, const struct api_source_update *u)
{
    return l->has_identity &&
           (l->system_id != u->system_id || !str_is(u->database, l->database) ||
               !str_is(u->slot, l->slot));
}

static bool
put_name(char to[STATE_NAME_MAX], struct str name)
{
    if (name.n >= STATE_NAME_MAX) {
        return false;
    }
    memcpy(to, name.p, name.n);
    to[name.n] = '\0';
    return true;
}

int
writer_set_source(struct writer *w, const struct api_source_update *u, struct err *e)
{
    struct ledger l;
    state_ledger(w->state, &l);
    if (is_other_source(&l, u)) {
        return err_set(e, ERR_CONFLICT,
            "this log belongs to slot '%s' in database '%s' of system %" PRIu64
            "; use another data_dir for another source",
            l.slot, l.database, l.system_id);
    }
    if (u->slot_state > API_SLOT_CREATED) {
        return err_set(e, ERR_PARSE, "an unknown state of a slot");
    }
    bool goes_back = u->slot_state < l.slot_state || u->timeline < l.timeline ||
                     (l.slot_state == API_SLOT_CREATED && u->start_lsn != l.start_lsn);
    if (goes_back) {
        return err_set(e, ERR_CONFLICT, "the slot '%s' is recorded as created already", l.slot);
    }
    if (!put_name(l.database, u->database) || !put_name(l.slot, u->slot)) {
        return err_set(
            e, ERR_PARSE, "a database or slot name of more than %d bytes", STATE_NAME_MAX - 1);
    }
    l.has_identity = true;
    l.system_id = u->system_id;
    l.timeline = u->timeline;
    l.slot_state = u->slot_state;
    l.start_lsn = u->start_lsn;
    int rc = state_set_ledger(w->state, &l, e);
    if (rc == 0) {
        update_proven(w);
    }
    return rc;
}

void
writer_source(struct writer *w, struct ledger *ret_ledger, struct api_source *ret)
{
    state_ledger(w->state, ret_ledger);
    struct journal_info info;
    journal_info(w->journal, &info);
    const struct ledger *l = ret_ledger;
    *ret = (struct api_source){
        .epoch = info.epoch,
        .is_empty = !info.has_last,
        .proven_lsn = atomic_load(&w->proven),
        .has_identity = l->has_identity,
        .system_id = l->system_id,
        .timeline = l->timeline,
        .database = str_from(l->database),
        .slot = str_from(l->slot),
        .slot_state = l->slot_state,
        .start_lsn = l->start_lsn,
    };
    memcpy(ret->uuid, journal_uuid(w->journal), API_UUID);
}

/* ---- sessions ---- */

int
writer_open_session(struct writer *w, struct api_session *ret, struct err *e)
{
    segwrite_abort(&w->out);
    w->tail = w->out.sg->tail;
    int rc = segment_discard(w->out.sg, e);
    struct ledger l;
    state_ledger(w->state, &l);
    l.generation++;
    if (rc == 0) {
        rc = state_set_ledger(w->state, &l, e);
    }
    if (rc != 0) {
        return rc;
    }
    announced_reset(&w->announced);
    w->txn = (struct open_txn){0};
    w->generation = l.generation;
    w->sequence = 0;
    w->is_broken = false;
    *ret = (struct api_session){
        .generation = l.generation,
        .epoch = w->out.sg->head.epoch,
        .proven_lsn = atomic_load(&w->proven),
        .next_schema = l.next_schema,
    };
    memcpy(ret->uuid, journal_uuid(w->journal), API_UUID);
    return 0;
}

static int
check_session(const struct writer *w, const struct api_append *head, struct err *e)
{
    if (memcmp(head->uuid, journal_uuid(w->journal), API_UUID) != 0) {
        return err_set(e, ERR_FENCED, "this append belongs to another log");
    }
    if (w->is_broken || head->generation != w->generation) {
        return err_set(e, ERR_FENCED,
            "append session %" PRIu64 " is over; the newest is %" PRIu64, head->generation,
            w->generation);
    }
    if (head->sequence != w->sequence + 1) {
        return err_set(e, ERR_FENCED, "append %" PRIu64 " came where %" PRIu64 " was expected",
            head->sequence, w->sequence + 1);
    }
    return 0;
}

/* ---- schemas ---- */

/* Before an id is used for the first time, the ledger says that it is taken: ids are never
 * reused. */
static int
take_schema_id(struct writer *w, uint32_t id, struct err *e)
{
    struct ledger l;
    state_ledger(w->state, &l);
    if (id < l.next_schema) {
        return 0;
    }
    if (id > l.next_schema || id > UINT32_MAX - SCHEMA_ID_STEP) {
        return err_set(e, ERR_PARSE,
            "schema id %" PRIu32 " is out of range; the next is %" PRIu32, id, l.next_schema);
    }
    l.next_schema = id + SCHEMA_ID_STEP;
    return state_set_ledger(w->state, &l, e);
}

static int
announce_schema(struct writer *w, const struct frame *f, struct err *e)
{
    int rc = take_schema_id(w, f->schema_id, e);
    return rc == 0 ? announced_add(&w->announced, f->schema_id, f->payload, e) : rc;
}

static int
need_schema(struct writer *w, uint32_t id, struct err *e)
{
    struct str encoded;
    if (id == 0 || segwrite_has_schema(&w->out, id)) {
        return 0;
    }
    int rc = announced_find(&w->announced, id, &encoded, e);
    return rc == 0 ? segwrite_schema(&w->out, id, encoded, e) : rc;
}

/* One append: what is being worked through. */
struct append {
    struct str frames;
    size_t cut_at;  /* where the last BEGIN stands whose COMMIT is not in this append; SIZE_MAX:
                       none */
    size_t written; /* bytes of records put into the open commit */
    bool has_committed;
};

/* ---- commits ---- */

static void
count_added(struct writer *w)
{
    atomic_fetch_add(&w->transactions, w->added.transactions);
    atomic_fetch_add(&w->records, w->added.records);
    atomic_fetch_add(&w->bytes, w->added.bytes);
    atomic_fetch_add(&w->duplicates, w->added.duplicates);
    w->added = (struct writer_stats){0};
}

static int
begin_commit(struct writer *w, size_t frame_bytes, struct err *e)
{
    return segwrite_begin(&w->out, frame_bytes + w->announced.bytes, e);
}

/* Commits what the append has added so far and shows it to readers. */
static int
commit_log(struct writer *w, struct err *e)
{
    int rc = segwrite_commit(&w->out, &w->tail, e);
    if (rc != 0) {
        return rc;
    }
    atomic_fetch_add(&w->commits, 1);
    count_added(w);
    journal_publish(w->journal, &w->tail, w->has_first ? &w->first : NULL);
    w->has_first = false;
    return 0;
}

/* P1's order: the log first, then the ledger. An idle position proves that nothing is pending
 * below it. */
static int
commit_idle(struct writer *w, struct err *e)
{
    struct ledger l;
    state_ledger(w->state, &l);
    if (w->idle_lsn <= l.idle_lsn) {
        return 0;
    }
    l.idle_lsn = w->idle_lsn;
    return state_set_ledger(w->state, &l, e);
}

/* A transaction never spans segments: at its begin there is still a choice (architecture.md,
 * The log). */
static int
roll_when_due(struct writer *w, struct append *a, size_t at, struct err *e)
{
    /* A segment holds at least one transaction, however large. */
    if (w->tail.txns == 0 || !journal_wants_roll(w->journal, a->written)) {
        return 0;
    }
    int rc = commit_log(w, e);
    a->has_committed = true;
    a->written = 0;
    if (rc == 0) {
        rc = journal_roll(w->journal, e);
    }
    if (rc == 0) {
        rc = segwrite_use(&w->out, journal_newest(w->journal), e);
    }
    if (rc == 0) {
        w->tail = w->out.sg->tail;
        rc = begin_commit(w, a->frames.n - at, e);
    }
    return rc;
}

/* ---- frames ---- */

/* A walk over the headers alone: is it a sequence of frames, does it add to the log (a COMMIT
 * does so by itself: its records may all have come before), and does it end inside a
 * transaction? */
static int
survey(const struct writer *w, struct append *a, bool *ret_needs_commit, struct err *e)
{
    bool is_open = w->txn.is_open;
    a->cut_at = SIZE_MAX;
    *ret_needs_commit = false;
    for (size_t at = 0; at < a->frames.n;) {
        size_t start = at;
        struct frame f;
        int rc = frame_next(a->frames, &at, false, &f, e);
        if (rc != 0) {
            return rc;
        }
        *ret_needs_commit = *ret_needs_commit || frame_is_record(f.op) || f.op == FRAME_COMMIT;
        if (f.op == FRAME_BEGIN) {
            is_open = true;
            a->cut_at = start;
        } else if (f.op == FRAME_COMMIT) {
            is_open = false;
        }
    }
    if (!is_open) {
        a->cut_at = SIZE_MAX;
    }
    return 0;
}

/* P2: is this transaction in the log already? */
static int
is_duplicate(const struct writer *w, const struct frame_begin_txn *b, bool *ret, struct err *e)
{
    const struct segment_tail *t = &w->tail;
    if (b->kind == FRAME_TXN_READ && b->lsn < t->lsn) {
        return err_set(e, ERR_PARSE,
            "rows read at " LSN_FMT ", while the log stands at " LSN_FMT, LSN_ARG(b->lsn),
            LSN_ARG(t->lsn));
    }
    if (b->kind == FRAME_TXN_READ || b->lsn > t->lsn) {
        *ret = false;
        return 0;
    }
    if (b->lsn < t->lsn) {
        *ret = true;
        return 0;
    }
    uint8_t identity = b->kind == FRAME_TXN_XACT ? SEGMENT_SEEN_XACT : SEGMENT_SEEN_MESSAGE;
    *ret = (t->seen & identity) != 0;
    if (*ret && b->kind == FRAME_TXN_XACT && b->xid != t->xid) {
        return err_set(e, ERR_PARSE,
            "transaction %" PRIu32 " commits at " LSN_FMT
            ", where the log already has transaction %" PRIu32 ": this is another history",
            b->xid, LSN_ARG(b->lsn), t->xid);
    }
    return 0;
}

static int
begin_txn(struct writer *w, struct append *a, const struct frame *f, size_t at, struct err *e)
{
    if (w->txn.is_open) {
        return err_set(e, ERR_PARSE, "a transaction begins inside another one");
    }
    struct open_txn txn = {.is_open = true};
    int rc = frame_get_begin(f, &txn.begin, e);
    if (rc == 0) {
        rc = is_duplicate(w, &txn.begin, &txn.is_dropped, e);
    }
    if (rc == 0 && !txn.is_dropped && w->out.txn != NULL) {
        rc = roll_when_due(w, a, at, e);
    }
    if (rc == 0 && at == a->cut_at) {
        rc = segwrite_cut(&w->out, e);
    }
    if (rc == 0) {
        w->txn = txn;
    }
    return rc;
}

static int
add_record(
    struct writer *w, struct append *a, const struct frame *f, struct str whole, struct err *e)
{
    if (!w->txn.is_open) {
        return err_set(e, ERR_PARSE, "a record outside a transaction");
    }
    w->txn.count++;
    if (w->txn.is_dropped) {
        return 0;
    }
    int rc = need_schema(w, f->schema_id, e);
    if (rc == 0) {
        rc = segwrite_record(&w->out, w->tail.next + w->txn.count - 1, whole, e);
    }
    w->txn.bytes += whole.n;
    a->written += whole.n;
    return rc;
}

static uint8_t
seen_after(const struct segment_tail *t, const struct frame_commit *c)
{
    uint8_t before = c->lsn == t->lsn ? t->seen : 0;
    switch (c->kind) {
    case FRAME_TXN_XACT:
        return before | SEGMENT_SEEN_XACT;
    case FRAME_TXN_MESSAGE:
        return before | SEGMENT_SEEN_MESSAGE;
    default:
        return before;
    }
}

static void
advance_tail(struct writer *w, const struct frame_commit *c)
{
    struct segment_tail *t = &w->tail;
    t->seen = seen_after(t, c);
    if (c->kind == FRAME_TXN_XACT) {
        t->xid = c->xid;
    }
    t->next += w->txn.count;
    t->lsn = c->lsn;
    t->end_lsn = c->end_lsn > t->end_lsn ? c->end_lsn : t->end_lsn;
    t->ts_us = c->ts_us;
    t->max_ts_us = t->txns == 0 && t->max_ts_us == 0 ? c->ts_us : t->max_ts_us;
    t->max_ts_us = c->ts_us > t->max_ts_us ? c->ts_us : t->max_ts_us;
    t->bytes += w->txn.bytes;
    t->txns++;
}

static int
check_commit(const struct writer *w, const struct frame_commit *c, struct err *e)
{
    const struct frame_begin_txn *b = &w->txn.begin;
    if (c->kind != b->kind || c->xid != b->xid || c->lsn != b->lsn || c->end_lsn < c->lsn) {
        return err_set(e, ERR_PARSE,
            "a commit that does not fit its begin (xid %" PRIu32 ", " LSN_FMT ")", c->xid,
            LSN_ARG(c->lsn));
    }
    if (w->txn.count == 0) {
        return err_set(e, ERR_PARSE, "an empty transaction; it belongs into the ledger");
    }
    if (c->origin.n > PACK_ORIGIN_MAX) {
        return err_set(e, ERR_PARSE, "an origin name of more than %d bytes", PACK_ORIGIN_MAX);
    }
    return 0;
}

static int
store_txn_entry(struct writer *w, const struct frame_commit *c, struct err *e)
{
    struct pack_entry n = {
        .first = w->tail.next - w->out.sg->head.base,
        .count = w->txn.count,
        .lsn = c->lsn,
        .end_lsn = c->end_lsn,
        .ts_us = c->ts_us,
        .bytes_before = w->tail.bytes,
        .xid = c->xid,
        .kind = c->kind,
        .origin = c->origin,
    };
    int rc = segwrite_txn(&w->out, &n, e);
    if (rc == 0 && !w->has_first) {
        w->first = n;
        w->has_first = true;
    }
    return rc;
}

static int
end_txn(struct writer *w, const struct frame *f, struct err *e)
{
    struct frame_commit c;
    if (!w->txn.is_open) {
        return err_set(e, ERR_PARSE, "a commit outside a transaction");
    }
    int rc = frame_get_commit(f, &c, e);
    if (rc == 0) {
        rc = check_commit(w, &c, e);
    }
    if (rc != 0) {
        return rc;
    }
    if (w->txn.is_dropped) {
        w->added.duplicates++;
    } else {
        rc = store_txn_entry(w, &c, e);
        if (rc != 0) {
            return rc;
        }
        advance_tail(w, &c);
        w->added.transactions++;
        w->added.records += w->txn.count;
        w->added.bytes += w->txn.bytes;
    }
    w->txn = (struct open_txn){0};
    return 0;
}

static int
note_idle(struct writer *w, const struct frame *f, struct err *e)
{
    uint64_t lsn;
    if (w->txn.is_open) {
        return err_set(e, ERR_PARSE, "an idle position inside a transaction");
    }
    int rc = frame_get_idle(f, &lsn, e);
    if (rc == 0 && lsn > w->idle_lsn) {
        w->idle_lsn = lsn;
    }
    return rc;
}

static int
take_frame(struct writer *w, struct append *a, size_t *at, struct err *e)
{
    size_t start = *at;
    struct frame f;
    int rc = frame_next(a->frames, at, true, &f, e);
    if (rc != 0) {
        return rc;
    }
    if (frame_is_record(f.op)) {
        return add_record(w, a, &f, (struct str){a->frames.p + start, *at - start}, e);
    }
    switch (f.op) {
    case FRAME_BEGIN:
        return begin_txn(w, a, &f, start, e);
    case FRAME_COMMIT:
        return end_txn(w, &f, e);
    case FRAME_SCHEMA:
        return announce_schema(w, &f, e);
    case FRAME_IDLE:
        return note_idle(w, &f, e);
    default:
        return err_set(e, ERR_PARSE,
            "a frame of the unknown kind %u; run the same version of oneslot everywhere", f.op);
    }
}

static int
take_frames(struct writer *w, struct append *a, bool needs_commit, struct err *e)
{
    int rc = needs_commit ? begin_commit(w, a->frames.n, e) : 0;
    for (size_t at = 0; rc == 0 && at < a->frames.n;) {
        rc = take_frame(w, a, &at, e);
    }
    if (rc == 0 && needs_commit) {
        rc = commit_log(w, e);
        a->has_committed = true;
    }
    return rc == 0 ? commit_idle(w, e) : rc;
}

/* ---- appending ---- */

/* *ret_free is below need where the answer is that there is not enough. */
static int
measure_space(struct writer *w, uint64_t need, uint64_t *ret_free, struct err *e)
{
    (void)pthread_mutex_lock(&w->space_lock);
    int rc = fs_free_bytes(w->data_dir, ret_free, e);
    if (rc == 0) {
        atomic_store(&w->space_need, *ret_free < need ? need : 0);
    }
    (void)pthread_mutex_unlock(&w->space_lock);
    return rc;
}

/* Asked before anything is written: a commit that fails for want of space would end the process
 * (P9). */
static int
check_space(struct writer *w, size_t bytes, struct err *e)
{
    uint64_t need = 2 * (uint64_t)bytes + SPACE_RESERVE;
    uint64_t free_bytes;
    int rc = measure_space(w, need, &free_bytes, e);
    if (rc != 0) {
        return rc;
    }
    if (free_bytes < need) {
        return err_set(e, ERR_NOSPACE,
            "the disk of %s has %" PRIu64 " KiB left and the next write may need %" PRIu64
            " KiB; free some space (nothing is lost: PostgreSQL keeps its WAL meanwhile)",
            w->data_dir, free_bytes / 1024, need / 1024);
    }
    return 0;
}

static int
check_full(const struct writer *w, struct err *e)
{
    /* In the middle of a transaction stopping would keep it from ever ending. */
    if (w->txn.is_open || !atomic_load(&w->is_full)) {
        return 0;
    }
    return err_set(e, ERR_BUSY,
        "the log has reached retain_bytes and its oldest segment cannot go: a sink still needs "
        "it (see /lag), or it is damaged and must not be lost unseen (see /readyz); reading "
        "from "
        "PostgreSQL goes on when it can go");
}

static void
undo(struct writer *w, const struct open_txn *txn)
{
    segwrite_abort(&w->out);
    w->tail = w->out.sg->tail;
    w->txn = *txn;
    w->has_first = false;
    w->added = (struct writer_stats){0};
}

int
writer_append(struct writer *w, const struct api_append *head, struct str frames,
    struct api_appended *ret, struct err *e)
{
    int rc = check_session(w, head, e);
    if (rc == 0) {
        rc = check_full(w, e);
    }
    if (rc == 0) {
        rc = check_space(w, frames.n, e);
    }
    struct append a = {.frames = frames};
    bool needs_commit = false;
    if (rc == 0) {
        rc = survey(w, &a, &needs_commit, e);
    }
    if (rc != 0) {
        w->is_broken =
            w->is_broken || (rc != ERR_NOSPACE && rc != ERR_BUSY && rc != ERR_FENCED);
        return rc;
    }
    struct open_txn before = w->txn;
    w->idle_lsn = 0;
    rc = take_frames(w, &a, needs_commit, e);
    if (rc != 0) {
        undo(w, &before);
        w->is_broken = w->is_broken || a.has_committed || rc != ERR_NOSPACE;
        return rc == ERR_NOSPACE && a.has_committed
                   ? err_set(e, ERR_FENCED, "no space left in the middle of an append")
                   : rc;
    }
    w->sequence = head->sequence;
    update_proven(w);
    atomic_fetch_add(&w->appends, 1);
    *ret = (struct api_appended){
        .sequence = head->sequence,
        .proven_lsn = atomic_load(&w->proven),
        .tail = w->tail.next,
    };
    return 0;
}

/* ---- from any thread ---- */

uint64_t
writer_proven(const struct writer *w)
{
    return atomic_load(&w->proven);
}

bool
writer_is_out_of_space(const struct writer *w)
{
    return atomic_load(&w->space_need) != 0;
}

void
writer_recheck_space(struct writer *w)
{
    (void)pthread_mutex_lock(&w->space_lock);
    uint64_t need = atomic_load(&w->space_need);
    uint64_t free_bytes;
    if (need != 0 && fs_free_bytes(w->data_dir, &free_bytes, NULL) == 0 && free_bytes >= need) {
        atomic_store(&w->space_need, 0);
    }
    (void)pthread_mutex_unlock(&w->space_lock);
}

void
writer_set_full(struct writer *w, bool is_full)
{
    atomic_store(&w->is_full, is_full);
}

bool
writer_is_full(const struct writer *w)
{
    return atomic_load(&w->is_full);
}

void
writer_stats(const struct writer *w, struct writer_stats *ret)
{
    *ret = (struct writer_stats){
        .appends = atomic_load(&w->appends),
        .commits = atomic_load(&w->commits),
        .records = atomic_load(&w->records),
        .transactions = atomic_load(&w->transactions),
        .bytes = atomic_load(&w->bytes),
        .duplicates = atomic_load(&w->duplicates),
    };
}
