/* A log in a temporary folder, and appends to it, for the tests of the broker's files. */
#ifndef ONESLOT_TESTS_LOG_SUPPORT_H
#define ONESLOT_TESTS_LOG_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/journal.h"
#include "broker/state.h"
#include "broker/writer.h"
#include "proto/base/fs.h"
#include "proto/base/mp.h"
#include "proto/schema.h"

struct log_fixture {
    char dir[64];
    uint64_t segment_bytes;
    bool is_packed;
    struct journal *j;
    struct state *st;
    struct writer *w;
    struct api_session session;
    uint64_t sequence;
    struct buf frames; /* the append being made */
};

static inline void
support_ok(int rc, const struct err *e)
{
    if (rc != 0) {
        fail_msg("unexpected error %s: %s", err_name(rc), e->msg);
    }
}

static inline void
fixture_open(struct log_fixture *f)
{
    struct err e;
    bool has_state = false;
    support_ok(state_exists(f->dir, &has_state, &e), &e);
    struct journal_conf jc = {.data_dir = f->dir, .segment_bytes = f->segment_bytes};
    support_ok(journal_open(&jc, !has_state, &f->j, &e), &e);
    struct journal_info info;
    journal_info(f->j, &info);
    support_ok(state_open(f->dir, journal_uuid(f->j), !info.has_last, &f->st, &e), &e);
    struct writer_conf wc = {
        .journal = f->j, .state = f->st, .data_dir = f->dir, .is_packed = f->is_packed};
    support_ok(writer_new(&wc, &f->w, &e), &e);
}

static inline void
fixture_close(struct log_fixture *f)
{
    writer_free(f->w);
    state_close(f->st);
    journal_close(f->j);
}

static inline void
fixture_session(struct log_fixture *f)
{
    struct err e;
    support_ok(writer_open_session(f->w, &f->session, &e), &e);
    f->sequence = 0;
    buf_reset(&f->frames, SIZE_MAX);
}

static inline void
fixture_init(struct log_fixture *f, uint64_t segment_bytes, bool is_packed)
{
    memset(f, 0, sizeof *f);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/oneslot-unit-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->segment_bytes = segment_bytes;
    f->is_packed = is_packed;
    buf_init(&f->frames, (size_t)1 << 30);
    fixture_open(f);
    fixture_session(f);
}

static inline void
fixture_fini(struct log_fixture *f)
{
    fixture_close(f);
    buf_fini(&f->frames);
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    assert_int_equal(system(command), 0); /* lint:allow system: a test's own folder */
}

/* Stops and starts again, as after a SIGKILL: nothing of memory is kept. */
static inline void
fixture_reopen(struct log_fixture *f)
{
    fixture_close(f);
    fixture_open(f);
    fixture_session(f);
}

/* public.t (id text primary key, v text). */
static inline void
put_schema(struct log_fixture *f, uint32_t id)
{
    struct schema_col cols[2] = {
        {.name = STR("id"), .typoid = 25, .typmod = -1, .in_key = true},
        {.name = STR("v"), .typoid = 25, .typmod = -1},
    };
    struct schema s = {.relid = 16400,
        .ns = STR("public"),
        .name = STR("t"),
        .replident = 'd',
        .ncols = 2,
        .cols = cols};
    size_t start = frame_begin(&f->frames, FRAME_SCHEMA, 0, id);
    schema_encode(&f->frames, &s);
    frame_end(&f->frames, start);
}

static inline void
put_begin(struct log_fixture *f, uint32_t xid, uint64_t lsn)
{
    frame_put_begin(
        &f->frames, &(struct frame_begin_txn){.kind = FRAME_TXN_XACT, .xid = xid, .lsn = lsn});
}

static inline void
put_insert(struct log_fixture *f, uint32_t schema_id, struct str id, struct str v)
{
    size_t start = frame_begin(&f->frames, FRAME_INSERT, 0, schema_id);
    mp_put_array(&f->frames, 2);
    mp_put_str(&f->frames, id);
    mp_put_str(&f->frames, v);
    frame_end(&f->frames, start);
}

static inline void
put_commit(struct log_fixture *f, uint32_t xid, uint64_t lsn, int64_t ts_us)
{
    frame_put_commit(&f->frames, &(struct frame_commit){.kind = FRAME_TXN_XACT,
                                     .xid = xid,
                                     .lsn = lsn,
                                     .end_lsn = lsn + 8,
                                     .ts_us = ts_us});
}

/* A whole transaction of n rows "LSN-i". */
static inline void
put_txn(struct log_fixture *f, uint32_t xid, uint64_t lsn, int64_t ts_us, unsigned n)
{
    put_begin(f, xid, lsn);
    for (unsigned i = 0; i < n; i++) {
        char id[64];
        char v[128];
        int len = snprintf(id, sizeof id, "%llu-%u", (unsigned long long)lsn, i);
        /* Digits that do not compress away. */
        uint64_t mixed = (lsn * 31 + i) * UINT64_C(0x9e3779b97f4a7c15);
        int vlen = snprintf(v, sizeof v, "some value of a row %016llx%016llx",
            (unsigned long long)mixed, (unsigned long long)(mixed * mixed));
        put_insert(f, f->session.next_schema, (struct str){id, (size_t)len},
            (struct str){v, (size_t)vlen});
    }
    put_commit(f, xid, lsn, ts_us);
}

/* Sends what was put. Returns writer_append's answer. */
static inline int
fixture_append(struct log_fixture *f, struct api_appended *ret, struct err *e)
{
    struct api_append head = {.generation = f->session.generation, .sequence = f->sequence + 1};
    memcpy(head.uuid, f->session.uuid, API_UUID);
    int rc = writer_append(f->w, &head, buf_str(&f->frames), ret, e);
    if (rc == 0) {
        f->sequence++;
        buf_reset(&f->frames, SIZE_MAX);
    }
    return rc;
}

static inline struct api_appended
fixture_append_ok(struct log_fixture *f)
{
    struct api_appended done;
    struct err e;
    support_ok(fixture_append(f, &done, &e), &e);
    return done;
}

#endif
