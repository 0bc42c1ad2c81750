/* beside: see beside.h. */
#include "broker/beside.h"

#include <errno.h>
#include <sys/stat.h>

#include "proto/base/cleanup.h"
#include "proto/base/fs.h"
#include "proto/base/xmalloc.h"

enum {
    TABLE_META = 0,
    SLACK_BYTES = 1024 * 1024,
    TOUCHED_PAGES = 4 /* of two tables: the leaf and one that it is merged with */
};
#define KEY_LOG STR("log")

int
beside_damaged(const struct beside *bs, const char *what, struct err *e)
{
    return err_set(e, ERR_CORRUPT,
        "the broker's folder '%s': %s is damaged; restore it from a backup", bs->name, what);
}

int
beside_value(const struct beside *bs, struct mp *m, struct str v, const uint32_t *fields,
    uint64_t newest, uint64_t *ret_version, const char *what, struct err *e)
{
    mp_init(m, v);
    uint32_t n = mp_array(m);
    uint64_t version = mp_u64(m);
    if (!m->failed && version > newest) {
        return err_set(e, ERR_NEWER,
            "the broker's folder '%s' was written by a newer version of oneslot; run that "
            "version",
            bs->name);
    }
    if (m->failed || version == 0 || n != fields[version - 1]) {
        return beside_damaged(bs, what, e);
    }
    *ret_version = version;
    return 0;
}

void
beside_text(struct mp *m, char *to, size_t size)
{
    struct str s = mp_str(m);
    if (s.n >= size) {
        m->failed = true;
        return;
    }
    if (s.n > 0) {
        memcpy(to, s.p, s.n);
    }
    to[s.n] = '\0';
}

int
beside_exists(const char *data_dir, const char *name, bool *ret, struct err *e)
{
    auto_free char *dir = fs_join(data_dir, name);
    auto_free char *path = fs_join(dir, "data.mdb");
    struct stat info;
    bool is_there = stat(path, &info) == 0;
    if (!is_there && errno != ENOENT) {
        return err_set_sys(e, ERR_IO, errno, "cannot look at %s", path);
    }
    *ret = is_there;
    return 0;
}

static int
open_store(const struct beside_conf *c, const char *dir, struct store **ret, struct err *e)
{
    struct store_conf sc = {.path = dir, .map_bytes = c->map_bytes};
    for (size_t i = 0; i < STORE_TABLES_MAX; i++) {
        sc.tables[i] = c->tables[i];
    }
    return store_open(&sc, ret, e);
}

static int
fill_new(struct store *store, const struct beside_conf *c, const uint8_t uuid[API_UUID],
    struct err *e)
{
    int rc = store_reserve_disk(store, c->disk_bytes, e);
    auto_store_txn struct store_txn *txn = NULL;
    if (rc == 0) {
        rc = store_begin(store, true, &txn, e);
    }
    if (rc == 0) {
        rc = store_put(txn, TABLE_META, KEY_LOG, (struct str){(const char *)uuid, API_UUID}, e);
    }
    if (rc == 0 && c->fill != NULL) {
        rc = c->fill(txn, e);
    }
    if (rc == 0) {
        rc = store_commit(take_ptr(&txn), e);
    }
    return rc == 0 ? store_sync(store, e) : rc;
}

/* Made under another name: a power cut leaves a whole one or none, never a file that LMDB does
 * not know. */
static int
make_new(
    const struct beside_conf *c, const char *dir, const uint8_t uuid[API_UUID], struct err *e)
{
    auto_free char *tmp = xasprintf("%s.new", dir);
    struct store *store = NULL;
    int rc = fs_remove_tree(tmp, e);
    if (rc == 0) {
        rc = fs_mkdir(tmp, 0700, e);
    }
    if (rc == 0) {
        rc = open_store(c, tmp, &store, e);
    }
    if (rc == 0) {
        rc = fill_new(store, c, uuid, e);
    }
    store_close(store);
    if (rc == 0) {
        rc = fs_sync_dir(tmp, e);
    }
    if (rc == 0) {
        rc = fs_remove_tree(dir, e); /* one without a data.mdb */
    }
    return rc == 0 ? fs_rename_durable(tmp, dir, e) : rc;
}

static int
check_log(const struct beside *bs, const uint8_t uuid[API_UUID], struct err *e)
{
    auto_store_txn struct store_txn *txn = NULL;
    int rc = store_begin(bs->store, false, &txn, e);
    if (rc != 0) {
        return rc;
    }
    struct str v;
    rc = store_get(txn, TABLE_META, KEY_LOG, &v, e);
    if (rc != 0) {
        return rc == ERR_NOTFOUND ? beside_damaged(bs, "the name of its log", e) : rc;
    }
    if (v.n != API_UUID || memcmp(v.p, uuid, API_UUID) != 0) {
        return err_set(e, ERR_FOREIGN,
            "the %s folder and the log folder of this data_dir belong to different logs; put "
            "back the folders that belong together",
            bs->name);
    }
    return 0;
}

int
beside_open(const struct beside_conf *c, const uint8_t uuid[API_UUID], struct beside *ret,
    struct err *e)
{
    auto_free char *dir = fs_join(c->data_dir, c->name);
    bool exists = false;
    struct beside bs = {.name = c->name};
    int rc = beside_exists(c->data_dir, c->name, &exists, e);
    if (rc == 0 && !exists) {
        rc = make_new(c, dir, uuid, e);
    }
    if (rc == 0) {
        rc = open_store(c, dir, &bs.store, e);
    }
    if (rc == 0) {
        rc = check_log(&bs, uuid, e);
    }
    if (rc != 0) {
        store_close(bs.store);
        return rc;
    }
    *ret = bs;
    (void)pthread_mutex_init(&ret->lock, NULL);
    return 0;
}

void
beside_close(struct beside *bs)
{
    if (bs->store != NULL) {
        store_close(bs->store);
        (void)pthread_mutex_destroy(&bs->lock);
        bs->store = NULL;
    }
}

uint64_t
beside_touched(const struct beside *bs, size_t n)
{
    uint64_t pages = (uint64_t)n * TOUCHED_PAGES * STORE_PAGE;
    uint64_t all = store_used_bytes(bs->store);
    return pages < all ? pages : all;
}

/* LMDB writes changed pages anew before it frees the old ones. */
int
beside_begin(struct beside *bs, uint64_t bytes, struct store_txn **ret, struct err *e)
{
    uint64_t end = store_used_bytes(bs->store) + bytes + SLACK_BYTES;
    uint64_t map = store_map_bytes(bs->store);
    int rc = 0;
    if (end + SLACK_BYTES > map) {
        while (end + SLACK_BYTES > map) {
            map *= 2;
        }
        rc = store_grow(bs->store, map, e);
    }
    if (rc == 0) {
        rc = store_reserve_disk(bs->store, end, e);
    }
    return rc == 0 ? store_begin(bs->store, true, ret, e) : rc;
}
