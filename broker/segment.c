#include "broker/segment.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/manifest.h"
#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/fs.h"
#include "proto/base/xmalloc.h"
#include "proto/lsn.h"

/* SEGMENT_META keys. */
#define META_HEAD STR("head")
#define META_TAIL STR("tail")

/* "head": format u32 | zero u32 | uuid 16 | base u64 | epoch u64 | prior_lsn u64 | prior_ts_us
 * i64 | check u32 | zero u32 */
enum { HEAD_BYTES = 64, HEAD_CHECKED = 56 };
/* "tail": next | lsn | end_lsn | ts_us | max_ts_us | bytes | txns (u64 each) | xid u32 | seen
 * u8 | zero 3 | check u32 | zero 12 */
enum { TAIL_CHECKED = 64 };

static const char *const table_names[] = {"m", "r", "t", "s", NULL};

void
segment_key(char to[8], uint64_t rel)
{
    put_be64(to, rel);
}

static void
put_head(char to[HEAD_BYTES], const struct segment_head *h)
{
    memset(to, 0, HEAD_BYTES);
    put_le32(to, SEGMENT_FORMAT);
    memcpy(to + 8, h->uuid, API_UUID);
    put_le64(to + 24, h->base);
    put_le64(to + 32, h->epoch);
    put_le64(to + 40, h->prior_lsn);
    put_le64(to + 48, (uint64_t)h->prior_ts_us);
    put_le32(to + HEAD_CHECKED, frame_sum(0, (struct str){to, HEAD_CHECKED}));
}

static int
get_head(const struct segment *sg, struct str v, struct segment_head *ret, struct err *e)
{
    if (v.n >= 4 && get_le32(v.p) > SEGMENT_FORMAT) {
        return err_set(e, ERR_NEWER,
            "segment %s was written by a newer version of oneslot (format %" PRIu32
            ", this one reads up to %d); run that version",
            sg->path, get_le32(v.p), SEGMENT_FORMAT);
    }
    if (v.n != HEAD_BYTES ||
        get_le32(v.p + HEAD_CHECKED) != frame_sum(0, (struct str){v.p, HEAD_CHECKED})) {
        return err_set(e, ERR_CORRUPT,
            "segment %s: its head is damaged; restore it from a backup", sg->path);
    }
    memcpy(ret->uuid, v.p + 8, API_UUID);
    ret->base = get_le64(v.p + 24);
    ret->epoch = get_le64(v.p + 32);
    ret->prior_lsn = get_le64(v.p + 40);
    ret->prior_ts_us = (int64_t)get_le64(v.p + 48);
    return 0;
}

void
segment_put_tail(char to[SEGMENT_TAIL_BYTES], const struct segment_tail *t)
{
    memset(to, 0, SEGMENT_TAIL_BYTES);
    put_le64(to, t->next);
    put_le64(to + 8, t->lsn);
    put_le64(to + 16, t->end_lsn);
    put_le64(to + 24, (uint64_t)t->ts_us);
    put_le64(to + 32, (uint64_t)t->max_ts_us);
    put_le64(to + 40, t->bytes);
    put_le64(to + 48, t->txns);
    put_le32(to + 56, t->xid);
    to[60] = (char)t->seen;
    put_le32(to + TAIL_CHECKED, frame_sum(0, (struct str){to, TAIL_CHECKED}));
}

static int
get_tail(const struct segment *sg, struct str v, struct segment_tail *ret, struct err *e)
{
    if (v.n != SEGMENT_TAIL_BYTES ||
        get_le32(v.p + TAIL_CHECKED) != frame_sum(0, (struct str){v.p, TAIL_CHECKED})) {
        return err_set(e, ERR_CORRUPT,
            "segment %s: its tail is damaged; restore it from a backup", sg->path);
    }
    *ret = (struct segment_tail){
        .next = get_le64(v.p),
        .lsn = get_le64(v.p + 8),
        .end_lsn = get_le64(v.p + 16),
        .ts_us = (int64_t)get_le64(v.p + 24),
        .max_ts_us = (int64_t)get_le64(v.p + 32),
        .bytes = get_le64(v.p + 40),
        .txns = get_le64(v.p + 48),
        .xid = get_le32(v.p + 56),
        .seen = (uint8_t)v.p[60],
    };
    return 0;
}

static struct segment *
segment_new(const char *log_dir, const char *name)
{
    struct segment *sg = xcalloc(1, sizeof *sg);
    sg->path = fs_join(log_dir, name);
    pthread_rwlockattr_t attr;
    (void)pthread_rwlockattr_init(&attr);
    /* Readers come and go all the time; growing and sealing must get their turn. */
    (void)pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    (void)pthread_rwlock_init(&sg->lock, &attr);
    (void)pthread_rwlockattr_destroy(&attr);
    return sg;
}

void
segment_free(struct segment *sg)
{
    if (sg == NULL) {
        return;
    }
    CHECK(sg->refs == 0);
    store_close(sg->st);
    (void)pthread_rwlock_destroy(&sg->lock);
    free(sg->path);
    free(sg);
}

static int
open_store(
    const char *path, uint64_t map_bytes, bool is_sealed, struct store **ret, struct err *e)
{
    struct store_conf c = {.path = path, .map_bytes = map_bytes, .is_sealed = is_sealed};
    for (size_t i = 0; i < STORE_TABLES_MAX; i++) {
        c.tables[i] = table_names[i];
    }
    return store_open(&c, ret, e);
}

static int
write_meta(
    struct store *st, const struct segment_head *h, const struct segment_tail *t, struct err *e)
{
    char head[HEAD_BYTES];
    char tail[SEGMENT_TAIL_BYTES];
    put_head(head, h);
    segment_put_tail(tail, t);
    auto_store_txn struct store_txn *txn = NULL;
    int rc = store_begin(st, true, &txn, e);
    if (rc == 0) {
        rc = store_put(txn, SEGMENT_META, META_HEAD, (struct str){head, HEAD_BYTES}, e);
    }
    if (rc == 0) {
        rc = store_put(txn, SEGMENT_META, META_TAIL, (struct str){tail, SEGMENT_TAIL_BYTES}, e);
    }
    if (rc == 0) {
        rc = store_commit(take_ptr(&txn), e);
    }
    return rc;
}

static int
create_in(const char *tmp_path, struct segment *sg, uint64_t map_bytes, struct err *e)
{
    int rc = fs_remove_tree(tmp_path, e);
    if (rc == 0) {
        rc = fs_mkdir(tmp_path, 0700, e);
    }
    if (rc == 0) {
        rc = open_store(tmp_path, map_bytes, false, &sg->st, e);
    }
    if (rc == 0) {
        rc = write_meta(sg->st, &sg->head, &sg->tail, e);
    }
    /* LMDB syncs its commits but neither the file's creation nor the folder's entry. */
    if (rc == 0) {
        rc = store_sync(sg->st, e);
    }
    if (rc == 0) {
        rc = fs_sync_dir(tmp_path, e);
    }
    if (rc == 0) {
        rc = fs_rename_durable(tmp_path, sg->path, e);
    }
    if (rc == 0) {
        store_set_path(sg->st, sg->path);
    }
    return rc;
}

int
segment_create(const char *log_dir, const struct segment_head *h, const struct segment_tail *t,
    uint64_t map_bytes, struct segment **ret, struct err *e)
{
    char name[SEGMENT_NAME_DIGITS + 1];
    (void)snprintf(name, sizeof name, "%0*" PRIu64, SEGMENT_NAME_DIGITS, h->base);
    struct segment *sg = segment_new(log_dir, name);
    sg->head = *h;
    sg->tail = *t;
    auto_free char *tmp_path = fs_join(log_dir, ".new");
    int rc = create_in(tmp_path, sg, map_bytes, e);
    if (rc != 0) {
        segment_free(sg);
        return rc;
    }
    sg->file_bytes = store_used_bytes(sg->st);
    *ret = sg;
    return 0;
}

static int
read_meta(const struct segment *sg, struct store *st, struct segment_head *ret_head,
    struct segment_tail *ret_tail, struct err *e)
{
    auto_store_txn struct store_txn *txn = NULL;
    struct str v;
    int rc = store_begin(st, false, &txn, e);
    if (rc == 0) {
        rc = store_get(txn, SEGMENT_META, META_HEAD, &v, e);
    }
    if (rc == 0) {
        rc = get_head(sg, v, ret_head, e);
    }
    if (rc == 0) {
        rc = store_get(txn, SEGMENT_META, META_TAIL, &v, e);
    }
    if (rc == 0) {
        rc = get_tail(sg, v, ret_tail, e);
    }
    return rc != ERR_NOTFOUND
               ? rc
               : err_set(e, ERR_CORRUPT,
                     "segment %s has no head or tail; restore it from a backup", sg->path);
}

int
segment_check_opened(const struct segment *sg, struct store *st, struct err *e)
{
    struct segment_head head;
    struct segment_tail tail;
    int rc = read_meta(sg, st, &head, &tail, e);
    if (rc != 0) {
        return rc;
    }
    if (memcmp(head.uuid, sg->head.uuid, API_UUID) != 0) {
        return err_set(e, ERR_FOREIGN,
            "the data.mdb in segment %s belongs to another log; restore it from a backup",
            sg->path);
    }
    if (head.base != sg->head.base || head.epoch != sg->head.epoch ||
        tail.next != sg->tail.next) {
        return err_set(e, ERR_CORRUPT,
            "the data.mdb in segment %s is that of another segment, from offset %" PRIu64
            " to %" PRIu64 "; restore it from a backup",
            sg->path, head.base, tail.next);
    }
    return 0;
}

/* What positions need to know of the first transaction without opening the segment again. */
static int
load_first(struct segment *sg, struct err *e)
{
    if (sg->tail.txns == 0) {
        return 0;
    }
    struct segment_place first;
    int rc = segment_txn_at(sg, sg->tail.next, sg->head.base, &first, e);
    if (rc == 0) {
        return err_set(e, ERR_CORRUPT,
            "segment %s has no transaction at its start; restore it from a backup", sg->path);
    }
    if (rc < 0) {
        return rc;
    }
    sg->first_lsn = first.lsn;
    sg->first_ts_us = first.ts_us;
    return 0;
}

struct seal_count {
    uint64_t next, bytes;
};

static int
count_record(void *arg, const struct record_txn *t, const struct schema *s, uint64_t offset,
    struct str whole, struct err *e)
{
    struct seal_count *n = arg;
    (void)t;
    (void)s;
    (void)e;
    n->next = offset + 1;
    n->bytes += whole.n;
    return 0;
}

static int
verify_all(struct segment *sg, struct schemas *sc, struct err *e)
{
    struct seal_count n = {.next = sg->head.base};
    uint64_t at = sg->head.base;
    int rc = segment_scan(sg, sc, &at, sg->tail.next, count_record, &n, e);
    if (rc == 0 && (n.next != sg->tail.next || n.bytes != sg->tail.bytes)) {
        rc = err_set(e, ERR_CORRUPT,
            "segment %s: %" PRIu64 " records of %" PRIu64 " bytes found, its tail says %" PRIu64
            " of %" PRIu64 "; restore it from a backup",
            sg->path, n.next - sg->head.base, n.bytes, sg->tail.next - sg->head.base,
            sg->tail.bytes);
    }
    return rc;
}

/* In a process of its own, since LMDB reads through a map: what is not there ends in SIGBUS. */
static _Noreturn void
read_in_child(struct segment *sg, uint64_t map_bytes)
{
    const struct rlimit no_core = {0, 0};
    struct err e;
    (void)setrlimit(RLIMIT_CORE, &no_core);
    (void)signal(SIGBUS, SIG_DFL);
    (void)signal(SIGSEGV, SIG_DFL);
    (void)signal(SIGABRT, SIG_DFL);
    int rc = open_store(sg->path, map_bytes, false, &sg->st, &e);
    if (rc == 0) {
        rc = read_meta(sg, sg->st, &sg->head, &sg->tail, &e);
    }
    if (rc == 0) {
        rc = load_first(sg, &e);
    }
    if (rc == 0) {
        rc = verify_all(sg, schemas_new(), &e);
    }
    _exit(rc == 0 ? 0 : 1);
}

/* A data file that ends before the last page that LMDB counts was cut off, unless all that
 * counts can be read nevertheless. */
static int
check_not_cut(struct segment *sg, uint64_t map_bytes, uint64_t *ret_counted, struct err *e)
{
    uint64_t bytes;
    uint64_t counted;
    int status = 0;
    int rc = store_measure(sg->path, &bytes, &counted, e);
    if (rc != 0) {
        return rc;
    }
    *ret_counted = counted;
    if (bytes >= counted) {
        return 0;
    }
    pid_t pid = fork();
    if (pid == 0) {
        read_in_child(sg, map_bytes);
    }
    if (pid < 0) {
        return err_set_sys(e, ERR_NOMEM, errno, "cannot start a process to read %s", sg->path);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return 0;
    }
    return err_set(e, ERR_CORRUPT,
        "%s/data.mdb was cut off: it has %" PRIu64 " bytes of %" PRIu64
        "; restore this segment from a backup",
        sg->path, bytes, counted);
}

/* The newest segment, or one whose sealing was cut short: written by LMDB's rules, so its meta
 * tells all. */
static int
load_unsealed(struct segment *sg, uint64_t map_bytes, struct err *e)
{
    uint64_t counted = 0;
    int rc = check_not_cut(sg, map_bytes, &counted, e);
    if (rc == 0) {
        /* A transaction that never ended may fill the file; taking it out needs room too. */
        uint64_t least = counted + counted / 8 + ((uint64_t)64 << 20);
        rc = open_store(sg->path, map_bytes > least ? map_bytes : least, false, &sg->st, e);
    }
    if (rc == 0) {
        rc = read_meta(sg, sg->st, &sg->head, &sg->tail, e);
    }
    if (rc == 0) {
        sg->file_bytes = store_used_bytes(sg->st);
    }
    return rc;
}

int
segment_load(const char *log_dir, const char *name, uint64_t map_bytes, struct segment **ret,
    struct err *e)
{
    struct segment *sg = segment_new(log_dir, name);
    int rc = manifest_read(sg, e);
    if (rc == 0) {
        sg->is_sealed = true;
    } else if (rc == ERR_NOTFOUND) {
        rc = load_unsealed(sg, map_bytes, e);
        if (rc == 0) {
            rc = load_first(sg, e);
        }
    }
    if (rc == 0 && sg->head.base != strtoull(name, NULL, 10)) {
        rc = err_set(e, ERR_CORRUPT,
            "segment %s begins at offset %" PRIu64 ", not where its name says", sg->path,
            sg->head.base);
    }
    if (rc != 0) {
        segment_free(sg);
        return rc;
    }
    *ret = sg;
    return 0;
}

void
segment_unload(struct segment *sg)
{
    (void)pthread_rwlock_wrlock(&sg->lock);
    store_close(sg->st);
    sg->st = NULL;
    (void)pthread_rwlock_unlock(&sg->lock);
}

/* Deletes up to a bounded number of keys at or above `key`: *ret_more tells whether some are
 * left. */
static int
discard_some(struct segment *sg, unsigned table, struct str key, bool *ret_more, struct err *e)
{
    enum { AT_ONCE = 4096 };
    auto_store_txn struct store_txn *txn = NULL;
    int rc = store_begin(sg->st, true, &txn, e);
    bool more = false;
    for (int i = 0; rc == 0 && i < AT_ONCE; i++) {
        auto_store_cursor struct store_cursor *c = NULL;
        rc = store_cursor_open(txn, table, &c, e);
        if (rc != 0) {
            return rc;
        }
        struct str k;
        struct str v;
        rc = store_cursor_seek(c, STORE_LAST, key, &k, &v, e);
        more = rc == 1 && memcmp(k.p, key.p, key.n) >= 0;
        if (rc < 0 || !more) {
            break;
        }
        char copy[16];
        CHECK(k.n <= sizeof copy);
        memcpy(copy, k.p, k.n);
        rc = store_del(txn, table, (struct str){copy, k.n}, e);
    }
    if (rc >= 0) {
        rc = store_commit(take_ptr(&txn), e);
        *ret_more = more;
    }
    return rc;
}

int
segment_discard(struct segment *sg, struct err *e)
{
    char key[8];
    segment_key(key, sg->tail.next - sg->head.base);
    static const unsigned tables[] = {SEGMENT_RECORDS, SEGMENT_TXNS};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        bool more = true;
        while (more) {
            int rc = discard_some(sg, tables[i], (struct str){key, sizeof key}, &more, e);
            if (rc != 0) {
                return rc;
            }
        }
    }
    return 0;
}

int
segment_seal(struct segment *sg, struct schemas *sc, struct err *e)
{
    int rc = verify_all(sg, sc, e);
    if (rc != 0) {
        return rc;
    }
    (void)pthread_rwlock_wrlock(&sg->lock);
    sg->sealed_us = clock_wall_us();
    rc = manifest_write(sg, e);
    if (rc == 0) {
        store_close(sg->st);
        sg->st = NULL;
    }
    (void)pthread_rwlock_unlock(&sg->lock);
    auto_free char *lock_path = fs_join(sg->path, "lock.mdb");
    (void)unlink(lock_path); /* nobody writes here any more; a leftover harms nobody */
    return rc;
}
