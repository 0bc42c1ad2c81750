/* pgoutput_fuzz: hostile messages through decoder, relation cache and encoder. Input: a
 * sequence of flags u8 (1 in a stream block, 2 aborts carry an LSN, 4 a CopyData message) |
 * length u16 le | bytes Whatever comes out must lie within the bytes, and every frame made of
 * it must read back. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/frame.h"
#include "proto/record.h"
#include "replicator/encode.h"
#include "replicator/pgoutput.h"
#include "replicator/relcache.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
    struct pgoutput_decoder decoder;
    struct relcache cache;
    struct record_decoder records;
    struct buf out;
    uint32_t next_id;
};

static void
check_within(struct str part, struct str whole)
{
    CHECK(part.n == 0 || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n));
}

static void
check_tuple(const struct pgoutput_tuple *t, struct str whole)
{
    CHECK(t->v != NULL || t->ncols == 0);
    CHECK(t->ncols <= PGOUTPUT_MAX_COLS && t->wire_bytes <= whole.n);
    for (uint32_t i = 0; i < t->ncols; i++) {
        check_within((struct str){.p = t->v[i].p, .n = t->v[i].n}, whole);
    }
}

/* The frames in r->out read back, the one row among them as a row of that table. */
static void
check_frames(struct run *r, const struct schema *s)
{
    struct err e;
    struct frame f;
    struct record record;
    static const struct record_txn txn = {.count = 1};
    for (size_t at = 0; at < r->out.n;) {
        CHECK(frame_next(buf_str(&r->out), &at, true, &f, &e) == 0);
        if (frame_is_record(f.op)) {
            CHECK(record_decode(
                      &r->records, &f, f.schema_id == 0 ? NULL : s, &txn, 0, &record, &e) == 0);
        }
    }
}

static void
feed_row(struct run *r, const struct pgoutput_msg *m, struct str whole)
{
    struct err e;
    check_tuple(&m->row.new_row, whole);
    check_tuple(&m->row.old_row, whole);
    struct relation *rel = relcache_find(&r->cache, m->row.relid);
    if (rel == NULL || encode_schema(&r->out, rel, &r->next_id, &e) != 0 ||
        encode_row(&r->out, rel, m->type, &m->row, &e) != 0) {
        return;
    }
    check_frames(r, &rel->schema);
}

static void
feed_relation(struct run *r, const struct pgoutput_relation *m, struct str whole)
{
    struct err e;
    struct relation *rel = NULL;
    check_within(m->ns, whole);
    check_within(m->name, whole);
    if (relcache_put(&r->cache, m, &rel, &e) == 0 && rel->needs_key) {
        (void)relcache_set_key(
            rel, m->ncols == 0 ? NULL : &m->cols[0].name, m->ncols == 0 ? 0 : 1);
    }
}

static void
feed_rest(struct run *r, const struct pgoutput_msg *m, struct str whole)
{
    struct err e;
    if (m->type == PGOUTPUT_TYPE) {
        int rc = relcache_put_type(&r->cache, &m->typ, &e);
        CHECK(rc == 0 || rc == ERR_BUSY);
    } else if (m->type == PGOUTPUT_TRUNCATE) {
        for (uint32_t i = 0; i < m->truncate.n; i++) {
            CHECK(pgoutput_truncated(&m->truncate, i) != 0);
        }
    } else if (m->type == PGOUTPUT_MESSAGE) {
        check_within(m->message.prefix, whole);
        check_within(m->message.content, whole);
        CHECK(encode_message(&r->out, &m->message, 0, &e) == 0);
        check_frames(r, NULL);
    } else if (m->type == PGOUTPUT_BEGIN) {
        CHECK(encode_begin(&r->out, &m->begin, &e) == 0);
        check_frames(r, NULL);
    }
}

static void
feed(struct run *r, uint8_t flags, struct str bytes)
{
    struct err e;
    const struct pgoutput_msg *m = NULL;
    struct pgoutput_copy copy;
    if ((flags & 4) != 0) {
        if (pgoutput_decode_copy(bytes, &copy, &e) == 0) {
            check_within(copy.data, bytes);
        }
        return;
    }
    r->decoder.aborts_carry_lsn = (flags & 2) != 0;
    if (pgoutput_decode(&r->decoder, bytes, (flags & 1) != 0, &m, &e) != 0) {
        CHECK(m == NULL && e.code == ERR_PROTOCOL && e.msg[0] != 0);
        return;
    }
    buf_reset(&r->out, SIZE_MAX);
    if (m->type == PGOUTPUT_INSERT || m->type == PGOUTPUT_UPDATE ||
        m->type == PGOUTPUT_DELETE) {
        feed_row(r, m, bytes);
    } else if (m->type == PGOUTPUT_RELATION) {
        feed_relation(r, &m->relation, bytes);
    } else {
        feed_rest(r, m, bytes);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run r = {.next_id = 1};
    pgoutput_init(&r.decoder, false);
    relcache_init(&r.cache, 1 << 20, false);
    buf_init(&r.out, 1 << 24);
    while (size >= 3) {
        uint8_t flags = data[0];
        size_t n = get_le16(data + 1);
        data += 3;
        size -= 3;
        n = n < size ? n : size;
        char *exact =
            malloc(n == 0 ? 1 : n); /* so that the sanitizer sees every byte too far */
        CHECK(exact != NULL);
        memcpy(exact, data, n);
        feed(&r, flags, (struct str){.p = exact, .n = n});
        free(exact);
        data += n;
        size -= n;
    }
    pgoutput_fini(&r.decoder);
    relcache_fini(&r.cache);
    record_decoder_fini(&r.records);
    buf_fini(&r.out);
    return 0;
}
