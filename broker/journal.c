#include "broker/journal.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/uuid.h"
#include "proto/base/check.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/fs.h"
#include "proto/base/xmalloc.h"

enum {
    OPEN_SEALED_MAX = 64 /* environments of sealed segments kept open */
};

struct journal {
    pthread_mutex_t
        lock; /* the list, refs, and the newest segment's tail, first_* and file_bytes */
    pthread_cond_t unused; /* a segment's refs went to 0 */
    struct segment **seg;
    size_t n, cap;
    char *dir, *trash;
    uint8_t uuid[API_UUID];
    uint64_t segment_bytes, map_bytes;
    uint64_t uses; /* counts, so that segments know which was used last */
    struct schemas *schemas;
    void (*on_tail)(void *arg);
    void *on_tail_arg;
};

/* Under j->lock, but for journal_open. */
static struct segment *
newest(const struct journal *j)
{
    return j->seg[j->n - 1];
}

/* ---- opening ---- */

static bool
is_segment_name(const char *name)
{
    return strlen(name) == SEGMENT_NAME_DIGITS &&
           strspn(name, "0123456789") == SEGMENT_NAME_DIGITS;
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

struct names {
    char **v;
    size_t n;
};

static void
names_fini(struct names *names)
{
    for (size_t i = 0; i < names->n; i++) {
        free(names->v[i]);
    }
    free(names->v);
}

/* The names in a folder, sorted; "." and ".." left out. */
static int
list_folder(const char *path, struct names *ret, struct err *e)
{
    DIR *d = opendir(path);
    if (d == NULL) {
        return err_set_sys(e, ERR_IO, errno, "cannot read the folder %s", path);
    }
    *ret = (struct names){0};
    struct dirent *entry;
    while ((errno = 0, entry = readdir(d)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            ret->v = xreallocarray(ret->v, ret->n + 1, sizeof *ret->v);
            ret->v[ret->n++] = xstrdup(entry->d_name);
        }
    }
    int sys = errno;
    (void)closedir(d);
    if (sys != 0) {
        names_fini(ret);
        return err_set_sys(e, ERR_IO, sys, "cannot read the folder %s", path);
    }
    if (ret->n > 1) {
        qsort(ret->v, ret->n, sizeof *ret->v, compare_names);
    }
    return 0;
}

static void
add_segment(struct journal *j, struct segment *sg)
{
    if (j->n == j->cap) {
        j->cap = j->cap == 0 ? 16 : j->cap * 2;
        j->seg = xreallocarray(j->seg, j->cap, sizeof(struct segment *));
    }
    j->seg[j->n++] = sg;
}

/* A segment must go on where the one before it ended, in the same log. */
static int
check_neighbour(const struct journal *j, const struct segment *sg, struct err *e)
{
    if (j->n == 0) {
        return 0;
    }
    const struct segment *before = j->seg[j->n - 1];
    if (memcmp(before->head.uuid, sg->head.uuid, API_UUID) != 0) {
        return err_set(e, ERR_FOREIGN,
            "segment %s belongs to another log than %s; move it away", sg->path, before->path);
    }
    if (before->tail.next != sg->head.base && before->head.epoch == sg->head.epoch) {
        return err_set(e, ERR_CORRUPT,
            "a segment is missing between %s (up to offset %" PRIu64
            ") and %s; restore it from a backup",
            before->path, before->tail.next, sg->path);
    }
    return 0;
}

static int
load_segment(struct journal *j, const char *name, struct err *e)
{
    struct segment *sg;
    int rc = segment_load(j->dir, name, j->map_bytes, &sg, e);
    if (rc != 0) {
        return rc;
    }
    rc = check_neighbour(j, sg, e);
    if (rc != 0) {
        segment_free(sg);
        return rc;
    }
    add_segment(j, sg);
    return 0;
}

/* Leftovers have names that are no segment's (.new): whatever was being made there never became
 * part of the log. */
static int
load_all(struct journal *j, struct err *e)
{
    struct names names;
    int rc = list_folder(j->dir, &names, e);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; rc == 0 && i < names.n; i++) {
        if (is_segment_name(names.v[i])) {
            rc = load_segment(j, names.v[i], e);
        } else if (strcmp(names.v[i], ".new") == 0) {
            auto_free char *path = fs_join(j->dir, names.v[i]);
            rc = fs_remove_tree(path, e);
        }
    }
    names_fini(&names);
    return rc;
}

static int
make_first(struct journal *j, struct err *e)
{
    struct segment_head h = {.epoch = 1};
    int rc = uuid_make(h.uuid, e);
    if (rc != 0) {
        return rc;
    }
    /* Grows across rebuilt logs, stays below 2^53: the external version of documents
     * (architecture.md, The log). */
    h.base = (uint64_t)(clock_wall_us() / 1000000) << 20;
    struct segment_tail t = {.next = h.base};
    struct segment *sg;
    rc = segment_create(j->dir, &h, &t, j->map_bytes, &sg, e);
    if (rc == 0) {
        add_segment(j, sg);
    }
    return rc;
}

/* A copied or restored folder may end with a sealed segment: a new one goes on behind it. */
static int
ensure_writable(struct journal *j, bool may_create, struct err *e)
{
    if (j->n == 0) {
        return may_create
                   ? make_first(j, e)
                   : err_set(e, ERR_NOTFOUND,
                         "the segments of the log are missing from %s; put them back", j->dir);
    }
    if (newest(j)->is_sealed) {
        return journal_roll(j, e);
    }
    return segment_discard(newest(j), e);
}

static int
open_folders(struct journal *j, const char *data_dir, struct err *e)
{
    int rc = fs_mkdir(j->dir, 0700, e);
    if (rc == 0) {
        rc = fs_mkdir(j->trash, 0700, e);
    }
    if (rc == 0) {
        rc = fs_sync_dir(data_dir, e);
    }
    /* A process that died between a rename and its sync has left a segment that a power cut
     * could still take away, or bring back. */
    if (rc == 0) {
        rc = fs_sync_dir(j->dir, e);
    }
    return rc == 0 ? journal_empty_trash(j, e) : rc;
}

int
journal_open(const struct journal_conf *c, bool may_create, struct journal **ret, struct err *e)
{
    struct journal *j = xcalloc(1, sizeof *j);
    (void)pthread_mutex_init(&j->lock, NULL);
    (void)pthread_cond_init(&j->unused, NULL);
    j->dir = fs_join(c->data_dir, "log");
    j->trash = fs_join(c->data_dir, "trash");
    j->segment_bytes = c->segment_bytes;
    /* Address space, not disk: room for a transaction that makes a segment several times its
     * usual size. */
    j->map_bytes = 4 * c->segment_bytes + (UINT64_C(64) << 20);
    j->schemas = schemas_new();
    int rc = open_folders(j, c->data_dir, e);
    if (rc == 0) {
        rc = load_all(j, e);
    }
    if (rc == 0) {
        rc = ensure_writable(j, may_create, e);
    }
    if (rc != 0) {
        journal_close(j);
        return rc;
    }
    memcpy(j->uuid, newest(j)->head.uuid, API_UUID);
    *ret = j;
    return 0;
}

void
journal_close(struct journal *j)
{
    if (j == NULL) {
        return;
    }
    for (size_t i = 0; i < j->n; i++) {
        segment_free(j->seg[i]);
    }
    free(j->seg);
    schemas_free(j->schemas);
    free(j->dir);
    free(j->trash);
    (void)pthread_mutex_destroy(&j->lock);
    (void)pthread_cond_destroy(&j->unused);
    free(j);
}

const uint8_t *
journal_uuid(const struct journal *j)
{
    return j->uuid;
}

struct schemas *
journal_schemas(struct journal *j)
{
    return j->schemas;
}

void
journal_on_tail(struct journal *j, void (*fn)(void *arg), void *arg)
{
    j->on_tail = fn;
    j->on_tail_arg = arg;
}

/* ---- what it holds (j->lock held) ---- */

/* The first segment that has a transaction, or NULL. */
static const struct segment *
first_filled(const struct journal *j)
{
    for (size_t i = 0; i < j->n; i++) {
        if (j->seg[i]->tail.txns > 0) {
            return j->seg[i];
        }
    }
    return NULL;
}

void
journal_info(struct journal *j, struct journal_info *ret)
{
    (void)pthread_mutex_lock(&j->lock);
    const struct segment *last = newest(j);
    const struct segment *first = first_filled(j);
    *ret = (struct journal_info){
        .epoch = last->head.epoch,
        .earliest = {.offset = first != NULL ? first->head.base : last->head.base,
            .has_txn = first != NULL,
            .lsn = first != NULL ? first->first_lsn : 0,
            .ts_us = first != NULL ? first->first_ts_us : 0},
        .next = last->tail.next,
        .has_last = last->tail.lsn != 0,
        .last_lsn = last->tail.lsn,
        .last_end_lsn = last->tail.end_lsn,
        .last_ts_us = last->tail.ts_us,
        .segments = j->n,
    };
    for (size_t i = 0; i < j->n; i++) {
        ret->records += j->seg[i]->tail.next - j->seg[i]->head.base;
        ret->bytes += j->seg[i]->file_bytes;
        ret->frame_bytes += j->seg[i]->tail.bytes;
    }
    (void)pthread_mutex_unlock(&j->lock);
}

uint64_t
journal_tail(struct journal *j)
{
    (void)pthread_mutex_lock(&j->lock);
    uint64_t next = newest(j)->tail.next;
    (void)pthread_mutex_unlock(&j->lock);
    return next;
}

uint64_t
journal_earliest(struct journal *j)
{
    struct journal_info info;
    journal_info(j, &info);
    return info.earliest.offset;
}

/* ---- references ---- */

/* The index of the segment that holds offset, or would: the last one whose base is not above
 * it; SIZE_MAX: none. */
static size_t
index_of(const struct journal *j, uint64_t offset)
{
    size_t lo = 0;
    size_t hi = j->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (j->seg[mid]->head.base <= offset) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo == 0 ? SIZE_MAX : lo - 1;
}

/* The sealed segment whose environment is open and has not been needed for the longest time,
 * when more are open than is useful. Without references nobody is inside who could open or
 * close it meanwhile. */
static struct segment *
find_idle(const struct journal *j)
{
    struct segment *idle = NULL;
    size_t open = 0;
    for (size_t i = 0; i < j->n; i++) {
        struct segment *sg = j->seg[i];
        if (!sg->is_sealed || sg->refs > 0 || sg->st == NULL) {
            continue;
        }
        open++;
        idle = idle == NULL || sg->used < idle->used ? sg : idle;
    }
    return open > OPEN_SEALED_MAX ? idle : NULL;
}

static void
take_ref(struct journal *j, struct segment *sg)
{
    sg->refs++;
    sg->used = ++j->uses;
}

static void
give_back(struct journal *j, struct segment *sg)
{
    (void)pthread_mutex_lock(&j->lock);
    CHECK(sg->refs > 0);
    sg->refs--;
    struct segment *idle = j->n > OPEN_SEALED_MAX ? find_idle(j) : NULL;
    if (idle != NULL) {
        segment_unload(idle);
    }
    if (sg->refs == 0) {
        (void)pthread_cond_broadcast(&j->unused);
    }
    (void)pthread_mutex_unlock(&j->lock);
}

/* ---- reading ---- */

int
journal_read(struct journal *j, uint64_t *from, uint64_t until, segment_record_f *fn, void *arg,
    struct err *e)
{
    (void)pthread_mutex_lock(&j->lock);
    uint64_t tail = newest(j)->tail.next;
    size_t i = index_of(j, *from);
    if (i == SIZE_MAX || *from > tail) {
        uint64_t earliest = j->seg[0]->head.base;
        (void)pthread_mutex_unlock(&j->lock);
        return i == SIZE_MAX
                   ? err_set(e, ERR_GONE,
                         "offset %" PRIu64 " is no longer retained; the log begins at %" PRIu64,
                         *from, earliest)
                   : err_set(e, ERR_BEYOND,
                         "offset %" PRIu64
                         " lies beyond the end of the log; the next offset is %" PRIu64,
                         *from, tail);
    }
    struct segment *sg = j->seg[i];
    uint64_t end = sg->tail.next < until ? sg->tail.next : until;
    if (*from >= sg->tail.next && i + 1 < j->n) {
        /* Between two epochs offsets leap: nothing was there. */
        *from = j->seg[i + 1]->head.base;
        (void)pthread_mutex_unlock(&j->lock);
        return 0;
    }
    take_ref(j, sg);
    (void)pthread_mutex_unlock(&j->lock);
    int rc = segment_scan(sg, j->schemas, from, end, fn, arg, e);
    give_back(j, sg);
    return rc;
}

/* Which segment a question about LSN or time should be put to, by what is known of each without
 * opening it: the first whose last transaction answers yes. */
typedef bool answers_f(const struct segment *sg, const struct position *p);

static bool
answers_lsn(const struct segment *sg, const struct position *p)
{
    return sg->tail.txns > 0 && sg->tail.lsn >= p->lsn;
}

static bool
answers_time(const struct segment *sg, const struct position *p)
{
    return sg->tail.txns > 0 && sg->tail.max_ts_us >= p->time_us;
}

/* Takes a reference. NULL: no transaction answers. from: segments below this index are not
 * asked. */
static struct segment *
take_answering(struct journal *j, answers_f *fn, const struct position *p, size_t from,
    size_t to, uint64_t *ret_next)
{
    for (size_t i = from; i < to; i++) {
        if (fn(j->seg[i], p)) {
            take_ref(j, j->seg[i]);
            *ret_next = j->seg[i]->tail.next;
            return j->seg[i];
        }
    }
    return NULL;
}

/* The stretch of segments of one epoch: [*from, *to). */
static int
epoch_range(
    const struct journal *j, const struct position *p, size_t *from, size_t *to, struct err *e)
{
    uint64_t epoch = p->has_epoch ? p->epoch : newest(j)->head.epoch;
    *from = 0;
    while (*from < j->n && j->seg[*from]->head.epoch != epoch) {
        (*from)++;
    }
    *to = *from;
    while (*to < j->n && j->seg[*to]->head.epoch == epoch) {
        (*to)++;
    }
    if (*from == *to) {
        return err_set(e, ERR_CONFLICT,
            "epoch %" PRIu64 " is not in this log; its newest epoch is %" PRIu64, epoch,
            newest(j)->head.epoch);
    }
    return 0;
}

/* The first transaction that an LSN or a time names: 1, or 0 with *ret->first_offset where the
 * next one will be. */
static int
find_txn(struct journal *j, const struct position *p, struct segment_place *ret, struct err *e)
{
    bool by_lsn = p->kind == POSITION_LSN;
    (void)pthread_mutex_lock(&j->lock);
    size_t from = 0;
    size_t to = j->n;
    int rc = by_lsn ? epoch_range(j, p, &from, &to, e) : 0;
    if (rc != 0) {
        (void)pthread_mutex_unlock(&j->lock);
        return rc;
    }
    uint64_t end = j->seg[to - 1]->tail.next;
    uint64_t next = 0;
    /* The answer may have been in a segment that retention has removed: then it is gone, not
     * the first one left. */
    const struct segment_head *oldest = &j->seg[from]->head;
    bool is_gone = by_lsn ? oldest->prior_lsn != 0 && p->lsn <= oldest->prior_lsn
                          : oldest->prior_lsn != 0 && p->time_us <= oldest->prior_ts_us;
    struct segment *sg =
        is_gone ? NULL
                : take_answering(j, by_lsn ? answers_lsn : answers_time, p, from, to, &next);
    (void)pthread_mutex_unlock(&j->lock);
    if (is_gone) {
        return err_set(e, ERR_GONE,
            "the log no longer holds everything from that %s on; see `earliest`",
            by_lsn ? "LSN" : "time");
    }
    if (sg == NULL) {
        *ret = (struct segment_place){.first_offset = end};
        return 0;
    }
    rc = by_lsn ? segment_find_lsn(sg, next, p->lsn, ret, e)
                : segment_find_ts(sg, next, p->time_us, ret, e);
    if (rc == 0) {
        rc = err_set(e, ERR_CORRUPT,
            "segment %s has no transaction where its tail says; restore it from a backup",
            sg->path);
    }
    give_back(j, sg);
    return rc;
}

int
journal_txn_at(struct journal *j, uint64_t offset, struct segment_place *ret, struct err *e)
{
    (void)pthread_mutex_lock(&j->lock);
    size_t i = index_of(j, offset);
    if (i == SIZE_MAX) {
        (void)pthread_mutex_unlock(&j->lock);
        return 0;
    }
    struct segment *sg = j->seg[i];
    uint64_t next = sg->tail.next;
    take_ref(j, sg);
    (void)pthread_mutex_unlock(&j->lock);
    int rc = segment_txn_at(sg, next, offset, ret, e);
    give_back(j, sg);
    return rc;
}

static int
check_offset(uint64_t offset, const struct journal_info *info, struct err *e)
{
    if (offset < info->earliest.offset) {
        return err_set(e, ERR_GONE,
            "offset %" PRIu64 " is no longer retained; the log begins at %" PRIu64, offset,
            info->earliest.offset);
    }
    if (offset > info->next) {
        return err_set(e, ERR_BEYOND,
            "offset %" PRIu64 " lies beyond the end of the log; the next offset is %" PRIu64,
            offset, info->next);
    }
    return 0;
}

int
journal_find(
    struct journal *j, const struct position *p, struct journal_place *ret, struct err *e)
{
    struct journal_info info;
    journal_info(j, &info);
    struct segment_place txn = {0};
    uint64_t offset;
    int rc = 0;
    switch (p->kind) {
    case POSITION_EARLIEST:
        *ret = info.earliest;
        return 0;
    case POSITION_LATEST:
        *ret = (struct journal_place){.offset = info.next};
        return 0;
    case POSITION_OFFSET:
        offset = p->offset;
        rc = check_offset(offset, &info, e);
        if (rc == 0) {
            rc = journal_txn_at(j, offset, &txn, e);
        }
        break;
    case POSITION_LSN:
    case POSITION_TIME:
    default:
        rc = find_txn(j, p, &txn, e);
        offset = txn.first_offset;
        break;
    }
    if (rc < 0) {
        return rc;
    }
    *ret = (struct journal_place){
        .offset = offset, .has_txn = rc == 1, .lsn = txn.lsn, .ts_us = txn.ts_us};
    return 0;
}

int
journal_bytes_from(struct journal *j, uint64_t offset, uint64_t *ret_bytes, struct err *e)
{
    struct segment_place txn;
    int rc = journal_txn_at(j, offset, &txn, e);
    if (rc < 0) {
        return rc;
    }
    if (rc == 0) {
        struct journal_info info;
        journal_info(j, &info);
        *ret_bytes = offset >= info.next ? 0 : info.frame_bytes;
        return 0;
    }
    uint64_t bytes = 0;
    (void)pthread_mutex_lock(&j->lock);
    size_t i = index_of(j, offset);
    for (size_t k = i; i != SIZE_MAX && k < j->n; k++) {
        bytes += j->seg[k]->tail.bytes;
    }
    (void)pthread_mutex_unlock(&j->lock);
    *ret_bytes = bytes > txn.bytes_before ? bytes - txn.bytes_before : 0;
    return 0;
}

/* ---- writing ---- */

struct segment *
journal_newest(struct journal *j)
{
    (void)pthread_mutex_lock(&j->lock);
    struct segment *sg = newest(j);
    (void)pthread_mutex_unlock(&j->lock);
    return sg;
}

void
journal_publish(struct journal *j, const struct segment_tail *t, const struct pack_entry *first)
{
    (void)pthread_mutex_lock(&j->lock);
    struct segment *sg = newest(j);
    sg->tail = *t;
    sg->file_bytes = store_used_bytes(sg->st);
    if (sg->first_lsn == 0 && first != NULL) {
        sg->first_lsn = first->lsn;
        sg->first_ts_us = first->ts_us;
    }
    (void)pthread_mutex_unlock(&j->lock);
    if (j->on_tail != NULL && first != NULL) {
        j->on_tail(j->on_tail_arg);
    }
}

bool
journal_wants_roll(struct journal *j, uint64_t pending_bytes)
{
    /* Only the writer thread, which calls this, changes the newest segment's fields. */
    return journal_newest(j)->file_bytes + pending_bytes >= j->segment_bytes;
}

int
journal_roll(struct journal *j, struct err *e)
{
    const struct segment *old = journal_newest(j);
    struct segment_head h = old->head;
    h.base = old->tail.next;
    h.prior_lsn = old->tail.lsn;
    h.prior_ts_us = old->tail.max_ts_us;
    struct segment_tail t = old->tail;
    t.bytes = 0;
    t.txns = 0;
    struct segment *sg;
    int rc = segment_create(j->dir, &h, &t, j->map_bytes, &sg, e);
    if (rc != 0) {
        return rc;
    }
    (void)pthread_mutex_lock(&j->lock);
    add_segment(j, sg);
    (void)pthread_mutex_unlock(&j->lock);
    return 0;
}

/* ---- keeping ---- */

int
journal_seal_one(struct journal *j, bool *ret_done, struct err *e)
{
    (void)pthread_mutex_lock(&j->lock);
    struct segment *sg = NULL;
    for (size_t i = 0; sg == NULL && i + 1 < j->n; i++) {
        sg = j->seg[i]->is_sealed || j->seg[i]->is_damaged ? NULL : j->seg[i];
    }
    if (sg != NULL) {
        take_ref(j, sg);
    }
    (void)pthread_mutex_unlock(&j->lock);
    if (sg == NULL) {
        *ret_done = false;
        return 0;
    }
    int rc = segment_seal(sg, j->schemas, e);
    (void)pthread_mutex_lock(&j->lock);
    sg->is_sealed = rc == 0;
    sg->is_damaged = rc == ERR_CORRUPT;
    (void)pthread_mutex_unlock(&j->lock);
    give_back(j, sg);
    if (rc == 0) {
        *ret_done = true;
    }
    return rc;
}

size_t
journal_segments(struct journal *j, struct journal_segment *to, size_t max)
{
    (void)pthread_mutex_lock(&j->lock);
    size_t n = j->n;
    for (size_t i = 0; i < n && i < max; i++) {
        const struct segment *sg = j->seg[i];
        to[i] = (struct journal_segment){
            .base = sg->head.base,
            .next = sg->tail.next,
            .file_bytes = sg->file_bytes,
            .sealed_us = sg->is_sealed ? sg->sealed_us : 0,
            .is_damaged = sg->is_damaged,
        };
    }
    (void)pthread_mutex_unlock(&j->lock);
    return n;
}

/* Puts back what could not be removed: the list must stay what the folder holds. */
static void
put_back_oldest(struct journal *j, struct segment *sg)
{
    (void)pthread_mutex_lock(&j->lock);
    add_segment(j, sg); /* makes room; then it belongs in front */
    memmove(j->seg + 1, j->seg, (j->n - 1) * sizeof(struct segment *));
    j->seg[0] = sg;
    (void)pthread_mutex_unlock(&j->lock);
}

int
journal_remove_oldest(struct journal *j, struct err *e)
{
    (void)pthread_mutex_lock(&j->lock);
    CHECK(j->n > 1 && j->seg[0]->is_sealed);
    struct segment *sg = j->seg[0];
    j->n--;
    memmove(j->seg, j->seg + 1, j->n * sizeof(struct segment *));
    while (sg->refs > 0) {
        (void)pthread_cond_wait(&j->unused, &j->lock);
    }
    (void)pthread_mutex_unlock(&j->lock);
    auto_free char *to = fs_join(j->trash, strrchr(sg->path, '/') + 1);
    int rc = fs_rename_durable(sg->path, to, e);
    if (rc != 0) {
        put_back_oldest(j, sg);
        return rc;
    }
    segment_free(sg);
    return 0;
}

int
journal_empty_trash(struct journal *j, struct err *e)
{
    struct names names;
    int rc = list_folder(j->trash, &names, e);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; rc == 0 && i < names.n; i++) {
        auto_free char *path = fs_join(j->trash, names.v[i]);
        rc = fs_remove_tree(path, e);
    }
    names_fini(&names);
    return rc;
}
