#include "broker/segwrite.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>

#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/base/cleanup.h"

/* Frames in a block: as stored they fill exactly eight pages; packed ones are longer before
 * than after. */
enum {
    BLOCK_RAW = STORE_EIGHT_PAGES - SEGMENT_BLOCK_HEAD,
    BLOCK_PACKED = 128 * 1024,
    PACK_MAX = STORE_EIGHT_PAGES,
    /* What a commit of LMDB touches besides its values: tree pages, free list, meta. */
    COMMIT_SLACK = 1024 * 1024
};

void
segwrite_init(struct segwrite *w, bool is_packed)
{
    memset(w, 0, sizeof *w);
    w->squeeze = is_packed ? squeeze_new() : NULL;
    buf_init(&w->block, BLOCK_PACKED);
    buf_init(&w->pack, PACK_MAX);
    buf_init(&w->squeezed, (size_t)2 * SEGMENT_PART_BYTES);
    buf_init(&w->schemas, UINT32_MAX / 8);
    buf_init(&w->added_schemas, UINT32_MAX);
}

void
segwrite_fini(struct segwrite *w)
{
    segwrite_abort(w);
    buf_fini(&w->block);
    buf_fini(&w->pack);
    buf_fini(&w->squeezed);
    buf_fini(&w->schemas);
    buf_fini(&w->added_schemas);
    squeeze_free(w->squeeze);
}

static void
mark_schema(struct segwrite *w, uint32_t id)
{
    size_t byte = id / 8;
    if (byte >= w->schemas.n) {
        char *room = buf_room(&w->schemas, byte + 1 - w->schemas.n);
        CHECK(room != NULL);
        memset(room, 0, byte + 1 - w->schemas.n);
        w->schemas.n = byte + 1;
    }
    w->schemas.p[byte] = (char)(w->schemas.p[byte] | 1 << id % 8);
}

bool
segwrite_has_schema(const struct segwrite *w, uint32_t id)
{
    return id / 8 < w->schemas.n && (w->schemas.p[id / 8] & 1 << id % 8) != 0;
}

int
segwrite_use(struct segwrite *w, struct segment *sg, struct err *e)
{
    CHECK(w->txn == NULL);
    w->sg = sg;
    w->max_ts_us = sg->tail.max_ts_us;
    buf_reset(&w->schemas, SIZE_MAX);
    auto_store_txn struct store_txn *txn = NULL;
    auto_store_cursor struct store_cursor *c = NULL;
    int rc = store_begin(sg->st, false, &txn, e);
    if (rc == 0) {
        rc = store_cursor_open(txn, SEGMENT_SCHEMAS, &c, e);
    }
    if (rc != 0) {
        return rc;
    }
    struct str k;
    struct str v;
    rc = store_cursor_seek(c, STORE_FIRST, (struct str){0}, &k, &v, e);
    while (rc == 1) {
        if (k.n != 4) {
            return err_set(e, ERR_CORRUPT,
                "segment %s: a schema key of a wrong size; restore it from a backup", sg->path);
        }
        mark_schema(w, get_be32(k.p));
        rc = store_cursor_next(c, &k, &v, e);
    }
    return rc;
}

/* Before the map is too small: growing needs a moment without readers, a full map would fail
 * the commit. */
static int
make_room(struct segment *sg, uint64_t bytes, struct err *e)
{
    uint64_t need = store_used_bytes(sg->st) + 2 * bytes + COMMIT_SLACK;
    uint64_t map = store_map_bytes(sg->st);
    if (need <= map) {
        return 0;
    }
    while (map < need) {
        map *= 2;
    }
    (void)pthread_rwlock_wrlock(&sg->lock);
    int rc = store_grow(sg->st, map, e);
    (void)pthread_rwlock_unlock(&sg->lock);
    return rc;
}

int
segwrite_begin(struct segwrite *w, uint64_t bytes, struct err *e)
{
    CHECK(w->txn == NULL);
    int rc = make_room(w->sg, bytes, e);
    return rc == 0 ? store_begin(w->sg->st, true, &w->txn, e) : rc;
}

int
segwrite_schema(struct segwrite *w, uint32_t id, struct str encoded, struct err *e)
{
    auto_buf struct buf v;
    buf_init(&v, encoded.n + 4);
    char check[4];
    put_le32(check, frame_sum(id, encoded));
    buf_put(&v, check, sizeof check);
    buf_put_str(&v, encoded);
    char key[4];
    put_be32(key, id);
    int rc = store_put(w->txn, SEGMENT_SCHEMAS, (struct str){key, sizeof key}, buf_str(&v), e);
    if (rc == 0) {
        mark_schema(w, id);
        buf_put(&w->added_schemas, &id, sizeof id);
    }
    return rc;
}

/* Writes one value of the record table. */
static int
put_block(
    struct segwrite *w, struct str key, uint64_t seed, struct segment_block *b, struct err *e)
{
    if (w->squeeze != NULL && squeeze_pack(w->squeeze, &w->squeezed, b->stored)) {
        b->codec = SEGMENT_ZSTD;
        b->stored = buf_str(&w->squeezed);
    }
    char *to;
    int rc = store_append_room(
        w->txn, SEGMENT_RECORDS, key, SEGMENT_BLOCK_HEAD + b->stored.n, &to, e);
    if (rc == 0) {
        segment_put_block_head(to, seed, b);
        memcpy(to + SEGMENT_BLOCK_HEAD, b->stored.p, b->stored.n);
    }
    return rc;
}

int
segwrite_cut(struct segwrite *w, struct err *e)
{
    if (w->block_count == 0) {
        return 0;
    }
    char key[8];
    segment_key(key, w->block_rel);
    struct segment_block b = {
        .count = w->block_count,
        .raw = (uint32_t)w->block.n,
        .kind = SEGMENT_FRAMES,
        .stored = buf_str(&w->block),
    };
    w->block_count = 0;
    int rc = put_block(w, (struct str){key, sizeof key}, w->block_rel, &b, e);
    buf_reset(&w->block, SIZE_MAX);
    return rc;
}

/* A record larger than any block: a value of its own, or several (SEGMENT_PART_BYTES each). */
static int
put_large(struct segwrite *w, uint64_t rel, struct str whole, struct err *e)
{
    uint8_t kind = whole.n > SEGMENT_PART_BYTES ? SEGMENT_PART : SEGMENT_FRAMES;
    uint32_t part = 0;
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < whole.n; part++) {
        size_t n = whole.n - at < SEGMENT_PART_BYTES ? whole.n - at : SEGMENT_PART_BYTES;
        char key[12];
        segment_key(key, rel);
        put_be32(key + 8, part);
        struct segment_block b = {
            .count = part == 0,
            .raw = (uint32_t)n,
            .kind = kind,
            .stored = {whole.p + at, n},
        };
        rc = put_block(w, (struct str){key, part == 0 ? 8 : sizeof key}, rel + part, &b, e);
        at += n;
    }
    return rc;
}

int
segwrite_record(struct segwrite *w, uint64_t offset, struct str whole, struct err *e)
{
    uint64_t rel = offset - w->sg->head.base;
    size_t limit = w->squeeze != NULL ? BLOCK_PACKED : BLOCK_RAW;
    if (whole.n > limit - w->block.n) {
        int rc = segwrite_cut(w, e);
        if (rc != 0) {
            return rc;
        }
    }
    if (whole.n > limit) {
        return put_large(w, rel, whole, e);
    }
    if (w->block_count == 0) {
        w->block_rel = rel;
    }
    CHECK(w->block_rel + w->block_count == rel);
    buf_put_str(&w->block, whole);
    w->block_count++;
    return 0;
}

static int
end_pack(struct segwrite *w, struct err *e)
{
    if (w->pack_count == 0) {
        return 0;
    }
    pack_end(&w->pack, w->pack_first, w->pack_count, w->pack_max_ts_before);
    char key[8];
    segment_key(key, w->pack_first);
    w->pack_count = 0;
    int rc =
        store_append(w->txn, SEGMENT_TXNS, (struct str){key, sizeof key}, buf_str(&w->pack), e);
    buf_reset(&w->pack, SIZE_MAX);
    return rc;
}

int
segwrite_txn(struct segwrite *w, const struct pack_entry *n, struct err *e)
{
    if (w->pack.n + PACK_ENTRY + n->origin.n > PACK_MAX) {
        int rc = end_pack(w, e);
        if (rc != 0) {
            return rc;
        }
    }
    if (w->pack_count == 0) {
        pack_begin(&w->pack);
        w->pack_first = n->first;
        w->pack_max_ts_before = w->max_ts_us;
    }
    pack_put(&w->pack, n);
    w->pack_count++;
    w->max_ts_us = n->ts_us > w->max_ts_us ? n->ts_us : w->max_ts_us;
    return 0;
}

int
segwrite_commit(struct segwrite *w, const struct segment_tail *t, struct err *e)
{
    int rc = segwrite_cut(w, e);
    if (rc == 0) {
        rc = end_pack(w, e);
    }
    char tail[SEGMENT_TAIL_BYTES];
    segment_put_tail(tail, t);
    if (rc == 0) {
        rc = store_put(w->txn, SEGMENT_META, STR("tail"), (struct str){tail, sizeof tail}, e);
    }
    if (rc == 0) {
        rc = store_commit(take_ptr(&w->txn), e);
    }
    if (rc == 0) {
        buf_reset(&w->added_schemas, SIZE_MAX);
    }
    return rc;
}

void
segwrite_abort(struct segwrite *w)
{
    store_abort(take_ptr(&w->txn));
    buf_reset(&w->block, SIZE_MAX);
    buf_reset(&w->pack, SIZE_MAX);
    w->block_count = 0;
    w->pack_count = 0;
    for (size_t i = 0; i + sizeof(uint32_t) <= w->added_schemas.n; i += sizeof(uint32_t)) {
        uint32_t id;
        memcpy(&id, w->added_schemas.p + i, sizeof id);
        w->schemas.p[id / 8] = (char)(w->schemas.p[id / 8] & ~(1 << id % 8));
    }
    buf_reset(&w->added_schemas, SIZE_MAX);
    if (w->sg != NULL) {
        w->max_ts_us = w->sg->tail.max_ts_us;
    }
}
