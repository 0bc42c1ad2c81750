#include "sinks/effects.h"

#include <inttypes.h>

#include "proto/base/check.h"
#include "proto/batch.h"
#include "proto/record_key.h"

enum { KEEP_BYTES = 1024 * 1024 };

void
effects_init(struct effects *x, struct client *client, const char *name)
{
    *x = (struct effects){.client = client, .name = name};
    buf_init(&x->key, SIZE_MAX);
    buf_init(&x->former, SIZE_MAX);
    buf_init(&x->record, SIZE_MAX);
}

void
effects_fini(struct effects *x)
{
    buf_fini(&x->key);
    buf_fini(&x->former);
    buf_fini(&x->record);
}

struct str
effects_key(struct effects *x, const struct record *r)
{
    buf_reset(&x->key, KEEP_BYTES);
    if (record_has_key(r)) {
        record_key_put(&x->key, r->schema, record_key_row(r));
    }
    return buf_str(&x->key);
}

struct str
effects_former_key(struct effects *x, const struct record *r)
{
    buf_reset(&x->former, KEEP_BYTES);
    if (record_is_key_change(r)) {
        record_key_put(&x->former, r->schema, record_former_key_row(r));
    }
    return buf_str(&x->former);
}

struct str
effects_table_key(struct effects *x, const struct record *r)
{
    buf_reset(&x->key, KEEP_BYTES);
    if (r->schema != NULL) {
        record_key_put_table(&x->key, r->schema);
    }
    return buf_str(&x->key);
}

static struct str
batch_of(struct effects *x, const struct record *r, struct str frame)
{
    struct batch_writer w;
    buf_reset(&x->record, KEEP_BYTES);
    batch_begin(&w, &x->record);
    CHECK(batch_add(&w, r->txn, r->schema, r->offset, frame));
    batch_end(&w, &(struct batch_header){.next_offset = r->offset + 1,
                      .tail_offset = r->offset + 1,
                      .epoch = r->txn->epoch});
    return buf_str(&x->record);
}

int
effects_bury(struct effects *x, const struct record *r, struct str frame, uint8_t state,
    bool is_whole, const char *reason, struct err *e)
{
    struct api_bury l = {.generation = x->generation,
        .offset = r->offset,
        .state = state,
        .is_whole = is_whole,
        .key = effects_key(x, r),
        .former = effects_former_key(x, r),
        .op = str_from(record_op_name(r->op)),
        .reason = str_from(reason)};
    if (r->schema != NULL) {
        l.ns = r->schema->ns;
        l.table = r->schema->name;
    }
    if (state == API_LETTER_DEAD) {
        l.record = batch_of(x, r, frame);
    }
    int rc = client_bury(x->client, x->name, &l, e);
    if (rc != 0) {
        (void)err_prefix(e, "cannot bury the record at offset %" PRIu64, r->offset);
    }
    return rc;
}

int
effects_raise(struct effects *x, struct str key, bool is_prefix, uint64_t offset, struct err *e)
{
    struct api_raise l = {
        .generation = x->generation, .offset = offset, .is_prefix = is_prefix, .key = key};
    return client_raise(x->client, x->name, &l, e);
}

int
effects_ask(
    struct effects *x, const struct record *r, const struct api_doubt *doubt, struct err *e)
{
    const struct schema *s = r->schema;
    const struct record_value *row = record_key_row(r);
    struct api_reread q = {.offset = r->offset, .ns = s->ns, .table = s->name};
    for (uint32_t i = 0; i < s->ncols; i++) {
        if (!s->cols[i].in_key) {
            continue;
        }
        if (q.nkeys == API_KEY_COLS_MAX) {
            return err_set(e, ERR_UNSUPPORTED,
                "the key of the record at offset %" PRIu64 " has more than %d columns",
                r->offset, API_KEY_COLS_MAX);
        }
        q.key[q.nkeys].name = s->cols[i].name;
        q.key[q.nkeys++].text = row[i].text;
    }
    return client_reread(x->client, x->name, &q, doubt, e);
}
