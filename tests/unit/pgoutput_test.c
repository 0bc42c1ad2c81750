/* Every message of the protocol by hand, cut at every byte; and what a real server said
 * (fixtures), as a story without the LSNs, oids and xids that differ from recording to
 * recording. */
#include "replicator/pgoutput.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base/buf.h"
#include "proto/base/bytes.h"

#define EPOCH_2000_US INT64_C(946684800000000)

/* ---- hand-made messages ---- */

#define LSN  "\x00\x00\x00\x01\x02\x03\x04\x05"
#define LSN2 "\x00\x00\x00\x01\x02\x03\x04\x06"
#define ZERO "\x00\x00\x00\x00\x00\x00\x00\x00"
#define TS   "\x00\x00\x00\x00\x00\x00\x00\x07"
#define TS2  "\x00\x00\x00\x00\x00\x00\x00\x08"
#define XID  "\x00\x00\x02\xe6"
#define OID  "\x00\x00\x40\x01"
#define OID2 "\x00\x00\x40\x02"
#define ROW2                                                                                   \
    "\x00\x02t\x00\x00\x00\x02"                                                                \
    "abn"

#define M(literal)                                                                             \
    {                                                                                          \
        .p = (literal), .n = sizeof(literal) - 1                                               \
    }

static const struct sample {
    int type;
    bool in_stream, aborts_carry_lsn;
    struct str bytes;
} samples[] = {
    {'B', false, false, M("B" LSN TS XID)},
    {'C', false, false, M("C\0" LSN LSN2 TS)},
    {'O', false, false, M("O" LSN "elsewhere\0")},
    {'O', true, false, M("O" ZERO "\0")},
    {'R', false, false,
        M("R" OID "public\0t\0d\0\2\1id\0\0\0\0\x17\xff\xff\xff\xff\0name\0\0\0\0\x19\xff\xff"
          "\xff\xff")},
    {'R', false, false, M("R" OID "\0t\0n\0\0")},
    {'R', true, false, M("R" XID OID "public\0t\0f\0\1\1id\0\0\0\0\x17\xff\xff\xff\xff")},
    {'Y', false, false, M("Y" OID "my\0mood\0")},
    {'Y', true, false, M("Y" XID OID "\0int4\0")},
    {'I', false, false, M("I" OID "N" ROW2)},
    {'I', false, false, M("I" OID "N\0\0")},
    {'I', true, false, M("I" XID OID "N" ROW2)},
    {'U', false, false, M("U" OID "N" ROW2)},
    {'U', false, false, M("U" OID "K" ROW2 "N\0\2ub\0\0\0\0")},
    {'U', true, false, M("U" XID OID "O" ROW2 "N" ROW2)},
    {'D', false, false, M("D" OID "K" ROW2)},
    {'D', false, false, M("D" OID "O" ROW2)},
    {'D', true, false, M("D" XID OID "K" ROW2)},
    {'T', false, false, M("T\0\0\0\2\3" OID OID2)},
    {'T', true, false, M("T" XID "\0\0\0\1\0" OID)},
    {'M', false, false, M("M\0" LSN "app\0\0\0\0\3a\0b")},
    {'M', false, false, M("M\1" LSN "\0\0\0\0\0")},
    {'M', true, false, M("M" XID "\1" LSN "app\0\0\0\0\1x")},
    {'S', false, false, M("S" XID "\1")},
    {'E', true, false, M("E")},
    {'c', false, false, M("c" XID "\0" LSN LSN2 TS)},
    {'A', false, false, M("A" XID OID)},
    {'A', false, true, M("A" XID OID LSN TS)},
    {'b', false, false, M("b" LSN LSN2 TS XID "gid\0")},
    {'P', false, false, M("P\0" LSN LSN2 TS XID "gid\0")},
    {'K', false, false, M("K\0" LSN LSN2 TS XID "gid\0")},
    {'r', false, false, M("r\0" LSN LSN2 TS TS2 XID "gid\0")},
    {'p', false, false, M("p\0" LSN LSN2 TS XID "gid\0")},
};
enum { NSAMPLES = sizeof samples / sizeof samples[0] };

/* Decodes from memory of exactly that size, so that the sanitizer sees every byte too far. */
static int
decode_exactly(struct pgoutput_decoder *d, struct str bytes, bool in_stream,
    const struct pgoutput_msg **ret, char **ret_memory, struct err *e)
{
    char *memory = malloc(bytes.n == 0 ? 1 : bytes.n);
    assert_non_null(memory);
    memcpy(memory, bytes.p, bytes.n);
    *ret_memory = memory;
    return pgoutput_decode(d, (struct str){.p = memory, .n = bytes.n}, in_stream, ret, e);
}

static void
expect_error(struct pgoutput_decoder *d, struct str bytes, bool in_stream, const char *text)
{
    struct err e = {0};
    const struct pgoutput_msg *m = NULL;
    char *memory = NULL;
    assert_int_equal(decode_exactly(d, bytes, in_stream, &m, &memory, &e), ERR_PROTOCOL);
    assert_null(m);
    assert_non_null(strstr(e.msg, "byte"));
    if (strstr(e.msg, text) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", e.msg, text);
    }
    free(memory);
}

/* All ways to be cut, and one byte too many. */
static void
expect_exact_length(struct pgoutput_decoder *d, struct str bytes, bool in_stream)
{
    for (size_t n = 0; n < bytes.n; n++) {
        expect_error(d, (struct str){.p = bytes.p, .n = n}, in_stream,
            n == 0 ? "0 bytes" : pgoutput_type_name(bytes.p[0]));
    }
    char *longer = malloc(bytes.n + 1);
    assert_non_null(longer);
    memcpy(longer, bytes.p, bytes.n);
    longer[bytes.n] = 'n';
    expect_error(d, (struct str){.p = longer, .n = bytes.n + 1}, in_stream, "follow its end");
    free(longer);
}

static void
test_every_message_decodes_only_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < NSAMPLES; i++) {
        const struct sample *s = &samples[i];
        struct pgoutput_decoder d;
        pgoutput_init(&d, s->aborts_carry_lsn);
        struct err e = {0};
        const struct pgoutput_msg *m = NULL;
        char *memory = NULL;
        if (decode_exactly(&d, s->bytes, s->in_stream, &m, &memory, &e) != 0) {
            fail_msg("sample %zu (%c): %s", i, s->type, e.msg);
        }
        assert_int_equal(m->type, s->type);
        free(memory);
        expect_exact_length(&d, s->bytes, s->in_stream);
        pgoutput_fini(&d);
    }
}

struct fixture {
    struct pgoutput_decoder d;
};

static const struct pgoutput_msg *
decode(struct pgoutput_decoder *d, struct str bytes, bool in_stream)
{
    struct err e = {0};
    const struct pgoutput_msg *m = NULL;
    if (pgoutput_decode(d, bytes, in_stream, &m, &e) != 0) {
        fail_msg("%s", e.msg);
    }
    return m;
}

static int
setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    pgoutput_init(&f->d, false);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;
    pgoutput_fini(&f->d);
    free(f);
    return 0;
}

#define assert_str(s, cstr) assert_true(str_is((s), (cstr)))

static void
test_transaction_fields(void **state)
{
    struct pgoutput_decoder *d = &((struct fixture *)*state)->d;
    const struct pgoutput_msg *m = decode(d, (struct str)M("B" LSN TS XID), false);
    assert_true(m->begin.commit_lsn == 0x102030405);
    assert_true(m->begin.ts_us == EPOCH_2000_US + 7);
    assert_int_equal(m->begin.xid, 0x2e6);
    m = decode(d, (struct str)M("C\0" LSN LSN2 TS), false);
    assert_true(m->commit.commit_lsn == 0x102030405 && m->commit.end_lsn == 0x102030406);
    assert_true(m->commit.ts_us == EPOCH_2000_US + 7 && m->commit.xid == 0);
    m = decode(d, (struct str)M("c" XID "\0" LSN LSN2 TS), false);
    assert_true(m->commit.xid == 0x2e6 && m->commit.end_lsn == 0x102030406);
    m = decode(d, (struct str)M("O" LSN "elsewhere\0"), false);
    assert_true(m->origin.lsn == 0x102030405);
    assert_str(m->origin.name, "elsewhere");
    m = decode(d, (struct str)M("S" XID "\1"), false);
    assert_true(m->stream_start.xid == 0x2e6 && m->stream_start.is_first);
    m = decode(d, (struct str)M("A" XID OID), false);
    assert_true(m->stream_abort.xid == 0x2e6 && m->stream_abort.subxid == 0x4001 &&
                m->stream_abort.lsn == 0);
    d->aborts_carry_lsn = true;
    m = decode(d, (struct str)M("A" XID OID LSN TS), false);
    assert_true(
        m->stream_abort.lsn == 0x102030405 && m->stream_abort.ts_us == EPOCH_2000_US + 7);
}

static void
test_prepared_fields(void **state)
{
    struct pgoutput_decoder *d = &((struct fixture *)*state)->d;
    const char tags[] = "bPKp";
    for (size_t i = 0; i < 4; i++) {
        char bytes[64];
        const char body[] = "\0" LSN LSN2 TS XID "gid";
        size_t skip = tags[i] == 'b' ? 1 : 0;
        bytes[0] = tags[i];
        memcpy(bytes + 1, body + skip, sizeof body - skip);
        const struct pgoutput_msg *m =
            decode(d, (struct str){.p = bytes, .n = 1 + sizeof body - skip}, false);
        assert_true(m->prepared.lsn == 0x102030405 && m->prepared.end_lsn == 0x102030406);
        assert_true(m->prepared.ts_us == EPOCH_2000_US + 7 && m->prepared.xid == 0x2e6);
        assert_true(m->prepared.rollback_ts_us == 0);
        assert_str(m->prepared.gid, "gid");
    }
    const struct pgoutput_msg *m =
        decode(d, (struct str)M("r\0" LSN LSN2 TS TS2 XID "gid\0"), false);
    assert_true(m->prepared.ts_us == EPOCH_2000_US + 7);
    assert_true(m->prepared.rollback_ts_us == EPOCH_2000_US + 8 && m->prepared.xid == 0x2e6);
}

static void
test_row_fields(void **state)
{
    struct pgoutput_decoder *d = &((struct fixture *)*state)->d;
    const struct pgoutput_msg *m =
        decode(d, (struct str)M("U" XID OID "K" ROW2 "N\0\3ub\0\0\0\1zt\0\0\0\0"), true);
    assert_int_equal(m->stream_xid, 0x2e6);
    const struct pgoutput_row *row = &m->row;
    assert_true(row->relid == 0x4001 && row->old_tag == 'K');
    assert_int_equal(row->old_row.ncols, 2);
    assert_true(row->old_row.v[0].kind == PGOUTPUT_TEXT && row->old_row.v[0].n == 2);
    assert_memory_equal(row->old_row.v[0].p, "ab", 2);
    assert_true(row->old_row.v[1].kind == PGOUTPUT_NULL && row->old_row.v[1].p == NULL);
    assert_int_equal(row->old_row.wire_bytes, sizeof ROW2 - 1);
    assert_int_equal(row->new_row.ncols, 3);
    assert_int_equal(row->new_row.wire_bytes, 14);
    assert_true(row->new_row.v[0].kind == PGOUTPUT_UNCHANGED && row->new_row.v[0].p == NULL);
    assert_true(row->new_row.v[1].kind == PGOUTPUT_BINARY && row->new_row.v[1].n == 1);
    assert_true(row->new_row.v[2].kind == PGOUTPUT_TEXT && row->new_row.v[2].n == 0);
    assert_non_null(row->new_row.v[2].p);

    m = decode(d, (struct str)M("I" OID "N" ROW2), false);
    assert_true(m->stream_xid == 0 && m->row.old_tag == 0 && m->row.old_row.v == NULL);
    m = decode(d, (struct str)M("D" OID "O" ROW2), false);
    assert_true(m->row.old_tag == 'O' && m->row.new_row.v == NULL && m->row.old_row.ncols == 2);
}

static void
test_description_fields(void **state)
{
    struct pgoutput_decoder *d = &((struct fixture *)*state)->d;
    const struct pgoutput_msg *m = decode(d, samples[4].bytes, false);
    const struct pgoutput_relation *r = &m->relation;
    assert_true(r->relid == 0x4001 && r->replident == 'd' && r->ncols == 2);
    assert_str(r->ns, "public");
    assert_str(r->name, "t");
    assert_str(r->cols[0].name, "id");
    assert_true(r->cols[0].is_key && r->cols[0].typoid == 23 && r->cols[0].typmod == -1);
    assert_str(r->cols[1].name, "name");
    assert_true(!r->cols[1].is_key && r->cols[1].typoid == 25);
    m = decode(d, (struct str)M("Y" OID "my\0mood\0"), false);
    assert_true(m->typ.oid == 0x4001);
    assert_str(m->typ.ns, "my");
    assert_str(m->typ.name, "mood");
    m = decode(d, (struct str)M("T\0\0\0\2\2" OID OID2), false);
    assert_true(m->truncate.n == 2 && !m->truncate.is_cascade && m->truncate.restarts_identity);
    assert_int_equal(pgoutput_truncated(&m->truncate, 0), 0x4001);
    assert_int_equal(pgoutput_truncated(&m->truncate, 1), 0x4002);
    m = decode(d, (struct str)M("M\0" LSN "app\0\0\0\0\3a\0b"), false);
    assert_true(!m->message.is_transactional && m->message.lsn == 0x102030405);
    assert_str(m->message.prefix, "app");
    assert_true(m->message.content.n == 3);
    assert_memory_equal(m->message.content.p, "a\0b", 3);
}

static void
test_wrong_messages(void **state)
{
    struct pgoutput_decoder *d = &((struct fixture *)*state)->d;
    static const struct {
        struct str bytes;
        bool in_stream;
        const char *text;
    } wrong[] = {
        {M("Z"), false, "unknown type 0x5a"},
        {M("\xff"), false, "unknown type 0xff"},
        {M("\0"), false, "unknown type 0x00"},
        {M("z"), true, "unknown type"},
        {M("B" ZERO TS XID), false,
            "Begin message that cannot be understood: an LSN is 0 (at byte 1 of 21)"},
        {M("B" LSN TS "\0\0\0\0"), false, "transaction id is 0"},
        {M("B" LSN "\x7f\xff\xff\xff\xff\xff\xff\xff" XID), false, "time is out of range"},
        {M("C\1" LSN LSN2 TS), false,
            "Commit message that cannot be understood: it has unknown flags (at byte 1"},
        {M("C\0" ZERO LSN2 TS), false, "an LSN is 0"},
        {M("C\0" LSN ZERO TS), false, "an LSN is 0 (at byte 10"},
        {M("R" OID "public\0t\0x\0\0"), false, "replica identity"},
        {M("R" OID "public\0t\0\0\0\0"), false, "replica identity"},
        {M("R" OID "public\0\0d\0\0"), false, "name is empty"},
        {M("R" OID "public\0t\0d\0\1\2id\0\0\0\0\x17\0\0\0\0"), false, "unknown flags"},
        {M("R" OID "public\0t\0d\xff\xff"), false, "more than 1664 columns"},
        {M("R" OID "public\0t\0d\x06\x81"), false, "more than 1664 columns"},
        {M("R" OID "public"), false, "a text does not end"},
        {M("I" OID "K" ROW2), false, "unexpected"},
        {M("I" OID "O" ROW2), false, "unexpected"},
        {M("I" OID "N\0\1x"), false, "unknown kind (at byte 8 of 9)"},
        {M("I" OID "N\xff\xff"), false, "more than 1664 columns"},
        {M("I" OID "N\0\1t\xff\xff\xff\xff"), false, "longer than the message"},
        {M("I" OID "N\0\1t\0\0\0\2a"), false, "longer than the message"},
        {M("I\0\0\0\0N\0\0"), false, "oid"},
        {M("U" OID "X" ROW2), false, "unexpected"},
        {M("U" OID "K" ROW2 "K" ROW2), false, "unexpected"},
        {M("U" OID "N" ROW2 "N" ROW2), false, "follow its end"},
        {M("D" OID "N" ROW2), false, "unexpected"},
        {M("T\0\0\0\0\0"), false, "number of tables"},
        {M("T\xff\xff\xff\xff\0" OID), false, "number of tables"},
        {M("T\0\0\0\1\4" OID), false, "unknown flags"},
        {M("T\0\0\0\1\0\0\0\0\0"), false, "oid"},
        {M("M\2" LSN "app\0\0\0\0\0"), false, "unknown flags"},
        {M("M\0" ZERO "app\0\0\0\0\0"), false, "an LSN is 0"},
        {M("M\0" LSN "app\0\xff\xff\xff\xff"), false, "too early"},
        {M("S" XID "\2"), false, "unknown flags"},
        {M("S\0\0\0\0\1"), false, "transaction id is 0"},
        {M("P\1" LSN LSN2 TS XID "gid\0"), false, "unknown flags"},
        {M("b" LSN ZERO TS XID "gid\0"), false, "an LSN is 0"},
        {M("r\0" LSN ZERO TS TS2 XID "gid\0"), false, "an LSN is 0"},
        /* places */
        {M("E"), false, "Stream Stop message (at byte 0) outside of a stream block"},
        {M("B" LSN TS XID), true, "inside a stream block"},
        {M("C\0" LSN LSN2 TS), true, "inside a stream block"},
        {M("S" XID "\1"), true, "inside a stream block"},
        {M("c" XID "\0" LSN LSN2 TS), true, "inside a stream block"},
        {M("A" XID OID), true, "inside a stream block"},
        {M("b" LSN LSN2 TS XID "gid\0"), true, "inside a stream block"},
        /* the xid prefix exists there and only there */
        {M("I" OID "N" ROW2), true, "Insert"},
        {M("I" XID OID "N" ROW2), false, "Insert"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        expect_error(d, wrong[i].bytes, wrong[i].in_stream, wrong[i].text);
    }
}

static void
test_widest_row(void **state)
{
    struct pgoutput_decoder *d = &((struct fixture *)*state)->d;
    struct buf auto_buf b;
    buf_init(&b, 1 << 20);
    buf_put(&b, "U" OID "O\x06\x80", 8);
    for (int i = 0; i < PGOUTPUT_MAX_COLS; i++) {
        buf_put(&b, "t\0\0\0\1o", 6);
    }
    buf_put(&b, "N\x06\x80", 3);
    for (int i = 0; i < PGOUTPUT_MAX_COLS; i++) {
        buf_put(&b, "t\0\0\0\1n", 6);
    }
    const struct pgoutput_msg *m = decode(d, buf_str(&b), false);
    assert_int_equal(m->row.new_row.ncols, PGOUTPUT_MAX_COLS);
    for (int i = 0; i < PGOUTPUT_MAX_COLS; i++) {
        assert_true(*m->row.old_row.v[i].p == 'o' && *m->row.new_row.v[i].p == 'n');
    }
}

/* ---- CopyData ---- */

static void
test_copy_messages(void **state)
{
    (void)state;
    struct err e = {0};
    struct pgoutput_copy c;
    struct str w = M("w" LSN LSN2 TS "payload"), k = M("k" LSN TS "\1");
    assert_int_equal(pgoutput_decode_copy(w, &c, &e), 0);
    assert_true(c.type == PGOUTPUT_XLOG_DATA && c.wal_end == 0x102030406 && !c.wants_reply);
    assert_true(c.sent_us == EPOCH_2000_US + 7);
    assert_str(c.data, "payload");
    assert_int_equal(pgoutput_decode_copy(k, &c, &e), 0);
    assert_true(c.type == PGOUTPUT_KEEPALIVE && c.wal_end == 0x102030405 && c.wants_reply);
    static const struct str wrong[] = {M(""), M("x"), M("k" LSN TS), M("k" LSN TS "\2"),
        M("k" LSN TS "\0\0"), M("k"), M("w"), M("w" LSN LSN),
        M("w" LSN LSN "\x7f\xff\xff\xff\xff\xff\xff\xff")};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct pgoutput_copy kept = c;
        assert_int_equal(pgoutput_decode_copy(wrong[i], &c, &e), ERR_PROTOCOL);
        assert_memory_equal(&kept, &c, sizeof c);
    }
}

static void
test_status_update(void **state)
{
    (void)state;
    char to[PGOUTPUT_STATUS_BYTES];
    pgoutput_put_status(to, 0x102030406, 0x102030405, 0, EPOCH_2000_US + 7, true);
    assert_memory_equal(to, "r" LSN2 LSN ZERO TS "\1", sizeof to);
}

/* ---- what a real server said ---- */

static void
tell_tuple(struct buf *out, const char *mark, const struct pgoutput_tuple *t)
{
    if (t->v == NULL) {
        return;
    }
    buf_printf(out, " %s(", mark);
    for (uint32_t i = 0; i < t->ncols; i++) {
        const struct pgoutput_value *v = &t->v[i];
        buf_puts(out, i == 0 ? "" : ",");
        if (v->kind == PGOUTPUT_TEXT && v->n <= 40) {
            buf_put(out, v->p, v->n);
        } else if (v->kind == PGOUTPUT_TEXT || v->kind == PGOUTPUT_BINARY) {
            buf_printf(out, "<%c%" PRIu32 ">", v->kind, v->n);
        } else {
            buf_puts(out, v->kind == PGOUTPUT_NULL ? "NULL" : "UNCHANGED");
        }
    }
    buf_puts(out, ")");
}

static void
tell_relation(struct buf *out, const struct pgoutput_relation *r)
{
    buf_printf(
        out, " %.*s.%.*s %c", (int)r->ns.n, r->ns.p, (int)r->name.n, r->name.p, r->replident);
    for (uint32_t i = 0; i < r->ncols; i++) {
        const struct pgoutput_column *c = &r->cols[i];
        buf_printf(out, " %s%.*s", c->is_key ? "*" : "", (int)c->name.n, c->name.p);
        if (c->typoid < 16384) {
            buf_printf(out, ":%" PRIu32, c->typoid);
        }
        if (c->typmod != -1) {
            buf_printf(out, "(%" PRId32 ")", c->typmod);
        }
    }
}

static void
tell(struct buf *out, const struct pgoutput_msg *m)
{
    buf_printf(out, "%c", m->type);
    switch (m->type) {
    case PGOUTPUT_INSERT:
    case PGOUTPUT_UPDATE:
    case PGOUTPUT_DELETE:
        tell_tuple(out, m->row.old_tag == 'K' ? "key" : "old", &m->row.old_row);
        tell_tuple(out, "new", &m->row.new_row);
        break;
    case PGOUTPUT_RELATION:
        tell_relation(out, &m->relation);
        break;
    case PGOUTPUT_TYPE:
        buf_printf(out, " %.*s.%.*s", (int)m->typ.ns.n, m->typ.ns.p, (int)m->typ.name.n,
            m->typ.name.p);
        break;
    case PGOUTPUT_TRUNCATE:
        buf_printf(out, " %" PRIu32 "%s%s", m->truncate.n,
            m->truncate.is_cascade ? " cascade" : "",
            m->truncate.restarts_identity ? " restart" : "");
        break;
    case PGOUTPUT_MESSAGE:
        buf_printf(out, " %s %.*s %zu", m->message.is_transactional ? "inside" : "outside",
            (int)m->message.prefix.n, m->message.prefix.p, m->message.content.n);
        break;
    case PGOUTPUT_ORIGIN:
        buf_printf(
            out, " %.*s %" PRIx64, (int)m->origin.name.n, m->origin.name.p, m->origin.lsn);
        break;
    case PGOUTPUT_STREAM_START:
        buf_puts(out, m->stream_start.is_first ? " first" : "");
        break;
    case PGOUTPUT_STREAM_ABORT:
        buf_puts(out, m->stream_abort.xid == m->stream_abort.subxid ? " whole" : " part");
        break;
    case PGOUTPUT_BEGIN_PREPARE:
    case PGOUTPUT_PREPARE:
    case PGOUTPUT_COMMIT_PREPARED:
    case PGOUTPUT_ROLLBACK_PREPARED:
    case PGOUTPUT_STREAM_PREPARE:
        buf_printf(out, " %.*s", (int)m->prepared.gid.n, m->prepared.gid.p);
        break;
    default:
        break;
    }
}

/* The recording's next message into b; false at its end. */
static bool
next_message(FILE *f, struct buf *b)
{
    static const char digits[] = "0123456789abcdef";
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    do {
        n = getline(&line, &cap, f);
    } while (n > 0 && line[0] == '#');
    buf_reset(b, SIZE_MAX);
    for (ssize_t i = 0; i + 1 < n; i += 2) {
        const char *hi = strchr(digits, line[i]), *lo = strchr(digits, line[i + 1]);
        assert_true(hi != NULL && lo != NULL);
        buf_putc(b, (char)((hi - digits) << 4 | (lo - digits)));
    }
    free(line);
    return n > 0;
}

/* What holds for every recording: LSNs of a transaction agree, each cut is an error. */
struct truth {
    bool in_stream;
    uint64_t commit_lsn;
    uint32_t xid;
};

static void
check_truth(struct truth *t, const struct pgoutput_msg *m)
{
    if (m->type == PGOUTPUT_BEGIN) {
        t->commit_lsn = m->begin.commit_lsn;
        assert_true(m->begin.ts_us > EPOCH_2000_US);
    } else if (m->type == PGOUTPUT_COMMIT) {
        assert_true(m->commit.commit_lsn == t->commit_lsn && m->commit.end_lsn > t->commit_lsn);
    } else if (m->type == PGOUTPUT_STREAM_START) {
        t->in_stream = true;
        t->xid = m->stream_start.xid;
    } else if (m->type == PGOUTPUT_STREAM_STOP) {
        t->in_stream = false;
    } else if (m->type == PGOUTPUT_STREAM_COMMIT) {
        assert_true(m->commit.xid != 0 && m->commit.end_lsn > m->commit.commit_lsn);
    }
    assert_true(t->in_stream || m->stream_xid == 0);
}

/* Rows that only fill a stream are told as a count. */
static void
tell_next(struct buf *story, const struct pgoutput_msg *m, unsigned *inserts)
{
    if (m == NULL || m->type != PGOUTPUT_INSERT) {
        if (*inserts > 3) {
            buf_printf(story, "... %u more\n", *inserts - 3);
        }
        *inserts = 0;
    } else if (++*inserts > 3) {
        return;
    }
    if (m != NULL) {
        tell(story, m);
        buf_putc(story, '\n');
    }
}

static void
read_story(const char *name, struct buf *story)
{
    char path[512];
    (void)snprintf(path, sizeof path, TESTS_DIR "/fixtures/pgoutput/15/%s.hex", name);
    FILE *f = fopen(path, "r");
    if (f == NULL) {
        fail_msg("%s is missing: run tests/fixtures/record.py", path);
    }
    struct pgoutput_decoder d;
    pgoutput_init(&d, false);
    struct truth truth = {0};
    struct buf auto_buf message;
    buf_init(&message, 1 << 20);
    unsigned inserts = 0;
    while (next_message(f, &message)) {
        bool in_stream = truth.in_stream;
        const struct pgoutput_msg *m = decode(&d, buf_str(&message), in_stream);
        check_truth(&truth, m);
        tell_next(story, m, &inserts);
        if (message.n <= 200 && inserts <= 3) {
            expect_exact_length(&d, buf_str(&message), in_stream);
        }
    }
    tell_next(story, NULL, &inserts);
    pgoutput_fini(&d);
    (void)fclose(f);
}

static const char *const recordings[] = {"rows", "alter", "truncate", "toast", "identity",
    "messages", "origin", "empty", "types", "partitions", "binary", "stream", "twophase"};

/* What the story should be: reviewed against the scenario, beside the recording. */
static void
read_expected(const char *name, struct buf *expected)
{
    char path[512], line[512];
    (void)snprintf(path, sizeof path, TESTS_DIR "/fixtures/pgoutput/15/%s.txt", name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        buf_puts(expected, line);
    }
    (void)fclose(f);
}

static void
test_recordings(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof recordings / sizeof recordings[0]; i++) {
        struct buf auto_buf story, auto_buf expected;
        buf_init(&story, 1 << 20);
        buf_init(&expected, 1 << 20);
        read_story(recordings[i], &story);
        read_expected(recordings[i], &expected);
        if (strcmp(buf_cstr(&story), buf_cstr(&expected)) != 0) {
            fail_msg("%s reads\n%s", recordings[i], buf_cstr(&story));
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_message_decodes_only_whole),
        cmocka_unit_test_setup_teardown(test_transaction_fields, setup, teardown),
        cmocka_unit_test_setup_teardown(test_prepared_fields, setup, teardown),
        cmocka_unit_test_setup_teardown(test_row_fields, setup, teardown),
        cmocka_unit_test_setup_teardown(test_description_fields, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_widest_row, setup, teardown),
        cmocka_unit_test(test_copy_messages),
        cmocka_unit_test(test_status_update),
        cmocka_unit_test(test_recordings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
