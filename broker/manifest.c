#include "broker/manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "broker/uuid.h"
#include "proto/base/cleanup.h"
#include "proto/base/fs.h"
#include "proto/base/json.h"
#include "proto/lsn.h"

enum { MANIFEST_MAX = 4096 };

/* Numbers above 2^53 stand as texts, so that any JSON reader keeps them whole: LSNs in
 * PostgreSQL's form. */
static void
put_lsn(struct jsonw *w, const char *key, uint64_t lsn)
{
    char text[LSN_TEXT_MAX];
    size_t n = lsn_format(lsn, text);
    jsonw_str(w, key, (struct str){text, n});
}

/* file_bytes: what the file had at least, for check_data_file. */
static void
render(struct buf *b, const struct segment *sg, uint64_t file_bytes)
{
    char uuid[UUID_TEXT_MAX];
    uuid_format(sg->head.uuid, uuid);
    struct jsonw w;
    jsonw_init(&w, b);
    jsonw_object(&w, NULL);
    jsonw_u64(&w, "format", SEGMENT_FORMAT);
    jsonw_cstr(&w, "log", uuid);
    jsonw_u64(&w, "epoch", sg->head.epoch);
    jsonw_u64(&w, "base", sg->head.base);
    jsonw_u64(&w, "next", sg->tail.next);
    jsonw_u64(&w, "transactions", sg->tail.txns);
    jsonw_u64(&w, "bytes", sg->tail.bytes);
    jsonw_u64(&w, "file_bytes", file_bytes);
    put_lsn(&w, "prior_lsn", sg->head.prior_lsn);
    jsonw_i64(&w, "prior_ts_us", sg->head.prior_ts_us);
    put_lsn(&w, "first_lsn", sg->first_lsn);
    put_lsn(&w, "lsn", sg->tail.lsn);
    put_lsn(&w, "end_lsn", sg->tail.end_lsn);
    jsonw_i64(&w, "first_ts_us", sg->first_ts_us);
    jsonw_i64(&w, "ts_us", sg->tail.ts_us);
    jsonw_i64(&w, "max_ts_us", sg->tail.max_ts_us);
    jsonw_i64(&w, "sealed_us", sg->sealed_us);
    jsonw_u64(&w, "xid", sg->tail.xid);
    jsonw_u64(&w, "seen", sg->tail.seen);
    jsonw_end_object(&w);
    buf_putc(b, '\n');
}

int
manifest_write(const struct segment *sg, struct err *e)
{
    auto_buf struct buf b;
    auto_free char *data = fs_join(sg->path, "data.mdb");
    auto_free char *path = fs_join(sg->path, MANIFEST_NAME);
    struct stat info;
    if (stat(data, &info) != 0) {
        return err_set_sys(e, ERR_IO, errno, "cannot look at %s", data);
    }
    /* LMDB may count last pages that it never had to write. */
    uint64_t bytes = (uint64_t)info.st_size;
    buf_init(&b, MANIFEST_MAX);
    render(&b, sg, bytes < sg->file_bytes ? bytes : sg->file_bytes);
    return fs_write_atomic(path, buf_str(&b), 0600, e);
}

static bool
get_u64(const struct json *root, const char *key, uint64_t *ret)
{
    int64_t v;
    if (!json_i64(json_get(root, key), &v) || v < 0) {
        return false;
    }
    *ret = (uint64_t)v;
    return true;
}

static bool
get_lsn(const struct json *root, const char *key, uint64_t *ret)
{
    struct str s;
    return json_str(json_get(root, key), &s) && lsn_parse(s, ret);
}

static bool
parse(const struct json *root, struct segment *sg)
{
    struct str uuid;
    uint64_t xid;
    uint64_t seen;
    struct segment_tail *t = &sg->tail;
    bool ok = json_str(json_get(root, "log"), &uuid) && uuid_parse(uuid, sg->head.uuid) &&
              get_u64(root, "epoch", &sg->head.epoch) &&
              get_u64(root, "base", &sg->head.base) && get_u64(root, "next", &t->next) &&
              get_u64(root, "transactions", &t->txns) && get_u64(root, "bytes", &t->bytes) &&
              get_u64(root, "file_bytes", &sg->file_bytes) &&
              get_lsn(root, "prior_lsn", &sg->head.prior_lsn) &&
              json_i64(json_get(root, "prior_ts_us"), &sg->head.prior_ts_us) &&
              get_lsn(root, "first_lsn", &sg->first_lsn) && get_lsn(root, "lsn", &t->lsn) &&
              get_lsn(root, "end_lsn", &t->end_lsn) &&
              json_i64(json_get(root, "first_ts_us"), &sg->first_ts_us) &&
              json_i64(json_get(root, "ts_us"), &t->ts_us) &&
              json_i64(json_get(root, "max_ts_us"), &t->max_ts_us) &&
              json_i64(json_get(root, "sealed_us"), &sg->sealed_us) &&
              get_u64(root, "xid", &xid) && get_u64(root, "seen", &seen) && xid <= UINT32_MAX &&
              seen <= UINT8_MAX && t->next >= sg->head.base;
    if (ok) {
        t->xid = (uint32_t)xid;
        t->seen = (uint8_t)seen;
    }
    return ok;
}

static int
check_data_file(const struct segment *sg, struct err *e)
{
    auto_free char *data = fs_join(sg->path, "data.mdb");
    struct stat info;
    if (stat(data, &info) != 0) {
        return err_set_sys(
            e, ERR_CORRUPT, errno, "%s is missing; restore it from a backup", data);
    }
    if ((uint64_t)info.st_size < sg->file_bytes) {
        return err_set(e, ERR_CORRUPT,
            "%s has %" PRId64 " bytes, its MANIFEST says %" PRIu64 "; restore it from a backup",
            data, (int64_t)info.st_size, sg->file_bytes);
    }
    return 0;
}

int
manifest_read(struct segment *sg, struct err *e)
{
    auto_free char *path = fs_join(sg->path, MANIFEST_NAME);
    auto_buf struct buf b;
    buf_init(&b, MANIFEST_MAX);
    int rc = fs_read_file(path, &b, MANIFEST_MAX, e);
    if (rc != 0) {
        return rc;
    }
    struct json *root;
    rc = json_parse(buf_str(&b), &root, e);
    if (rc != 0) {
        return err_set(e, ERR_CORRUPT, "%s is damaged; restore it from a backup", path);
    }
    uint64_t format = 0;
    bool has_format = get_u64(root, "format", &format);
    if (format > SEGMENT_FORMAT) {
        rc = err_set(e, ERR_NEWER,
            "segment %s was written by a newer version of oneslot (format %" PRIu64
            ", this one reads up to %d); run that version",
            sg->path, format, SEGMENT_FORMAT);
    } else if (!has_format || !parse(root, sg)) {
        rc = err_set(e, ERR_CORRUPT, "%s is damaged; restore it from a backup", path);
    }
    json_free(root);
    return rc == 0 ? check_data_file(sg, e) : rc;
}
