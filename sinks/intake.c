#include "sinks/intake.h"

#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/xmalloc.h"
#include "proto/glob.h"

/* Chunks are kept and filled again, so that what a record points to never moves. A row has at
 * most 2 * SCHEMA_MAX_COLS values, which a chunk can hold. */
enum { CHUNK_BYTES = 256 * 1024 };
_Static_assert(
    CHUNK_BYTES >= 2 * SCHEMA_MAX_COLS * sizeof(struct record_value), "a chunk holds a row");

struct intake_chunk {
    struct intake_chunk *next;
    size_t used;
    _Alignas(16) char bytes[CHUNK_BYTES];
};

void
intake_init(struct intake *in, const struct str *tables, size_t ntables)
{
    *in = (struct intake){.tables = tables, .ntables = ntables};
}

void
intake_reset(struct intake *in)
{
    if (in->is_open) {
        batch_close(&in->reader);
        in->is_open = false;
    }
    in->n = 0;
    in->chunk = in->chunks;
    if (in->chunk != NULL) {
        in->chunk->used = 0;
    }
    in->last_schema = NULL;
}

void
intake_fini(struct intake *in)
{
    intake_reset(in);
    while (in->chunks != NULL) {
        struct intake_chunk *next = in->chunks->next;
        free(in->chunks);
        in->chunks = next;
    }
    free(in->records);
    free(in->frames);
    *in = (struct intake){0};
}

static void *
keep(struct intake *in, size_t n)
{
    n = (n + 15) & ~(size_t)15;
    CHECK(n <= CHUNK_BYTES);
    if (in->chunk == NULL || n > CHUNK_BYTES - in->chunk->used) {
        struct intake_chunk **link = in->chunk == NULL ? &in->chunks : &in->chunk->next;
        if (*link == NULL) {
            *link = xmalloc(sizeof **link);
            (*link)->next = NULL;
        }
        in->chunk = *link;
        in->chunk->used = 0;
    }
    void *at = in->chunk->bytes + in->chunk->used;
    in->chunk->used += n;
    return at;
}

static bool
is_selected(struct intake *in, const struct record *r)
{
    if (in->ntables == 0) {
        return true;
    }
    if (r->schema == NULL) {
        return false;
    }
    if (r->schema != in->last_schema) {
        in->last_schema = r->schema;
        in->last_selected =
            glob_match_any(in->tables, in->ntables, r->schema->ns, r->schema->name);
    }
    return in->last_selected;
}

static const struct record_value *
keep_row(struct intake *in, const struct record *r, const struct record_value *row)
{
    if (row == NULL) {
        return NULL;
    }
    size_t n = r->schema->ncols * sizeof *row;
    return memcpy(keep(in, n), row, n);
}

/* r's transaction and values lie in the reader and are overwritten by the next record. */
static void
keep_record(struct intake *in, const struct record *r)
{
    const struct record *last = in->n > 0 ? &in->records[in->n - 1] : NULL;
    if (in->n == in->cap) {
        in->cap = in->cap == 0 ? 1024 : 2 * in->cap;
        in->records = xreallocarray(in->records, in->cap, sizeof *in->records);
        in->frames = xreallocarray(in->frames, in->cap, sizeof *in->frames);
        last = in->n > 0 ? &in->records[in->n - 1] : NULL;
    }
    in->frames[in->n] = in->reader.frame;
    struct record *to = &in->records[in->n++];
    *to = *r;
    if (last != NULL && last->txn->first_offset == r->txn->first_offset) {
        to->txn = last->txn;
    } else {
        to->txn = memcpy(keep(in, sizeof *r->txn), r->txn, sizeof *r->txn);
    }
    to->new_row = keep_row(in, r, r->new_row);
    to->old_row = keep_row(in, r, r->old_row);
}

int
intake_load(struct intake *in, struct str bytes, struct err *e)
{
    intake_reset(in);
    int rc = batch_open(&in->reader, bytes, e);
    if (rc != 0) {
        return rc;
    }
    in->is_open = true;
    in->header = in->reader.header;
    struct record r;
    while ((rc = batch_next(&in->reader, &r, e)) > 0) {
        if (is_selected(in, &r)) {
            keep_record(in, &r);
        }
    }
    if (rc < 0) {
        intake_reset(in);
    }
    return rc;
}
