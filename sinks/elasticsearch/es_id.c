/* es_id: see es_id.h. An id is written where it is to stand, looked at, and replaced by the
 * hash where it will not do. */
#include "sinks/elasticsearch/es_id.h"

#include "proto/base/bytes.h"
#include "proto/base/digest.h"
#include "proto/base/json.h"

#define HASH_MARK "#sha256-"

static bool
is_hash_like(struct str id)
{
    return id.n >= sizeof HASH_MARK - 1 && memcmp(id.p, HASH_MARK, sizeof HASH_MARK - 1) == 0;
}

static bool
is_usable(struct str id)
{
    return id.n > 0 && id.n <= ES_ID_MAX && !is_hash_like(id) && json_is_utf8(id);
}

static bool
has_texts(const struct schema *s, const struct record_value *row)
{
    for (uint32_t i = 0; i < s->ncols; i++) {
        if (s->cols[i].in_key && row[i].kind != RECORD_TEXT) {
            return false;
        }
    }
    return s->nkeys > 0;
}

/* A part of a join. Cut off once it is too long for an id anyway. */
static void
put_part(struct buf *b, struct str text)
{
    size_t n = text.n <= ES_ID_MAX ? text.n : ES_ID_MAX + 1;
    for (size_t i = 0; i < n; i++) {
        if (text.p[i] == '|' || text.p[i] == '\\') {
            buf_putc(b, '\\');
        }
        buf_putc(b, text.p[i]);
    }
}

static void
put_join(struct buf *b, const struct schema *s, const struct record_value *row, size_t from)
{
    uint32_t left = s->nkeys;
    for (uint32_t i = 0; left > 0 && b->n - from <= ES_ID_MAX; i++) {
        if (!s->cols[i].in_key) {
            continue;
        }
        put_part(b, row[i].text);
        if (--left > 0) {
            buf_putc(b, '|');
        }
    }
}

/* u32 le length | bytes of each part, hashed. */
static void
put_hash(struct buf *b, const struct schema *s, const struct record_value *row)
{
    uint8_t sum[DIGEST_SHA256_SIZE];
    struct buf auto_buf parts;
    buf_init(&parts, SIZE_MAX);
    for (uint32_t i = 0; i < s->ncols; i++) {
        if (s->cols[i].in_key) {
            char size[4];
            put_le32(size, (uint32_t)row[i].text.n);
            buf_put(&parts, size, sizeof size);
            buf_put_str(&parts, row[i].text);
        }
    }
    digest_sha256(buf_str(&parts), sum);
    buf_puts(b, HASH_MARK);
    digest_put_hex(b, sum, sizeof sum);
}

static struct str
only_text(const struct schema *s, const struct record_value *row)
{
    uint32_t i = 0;
    while (!s->cols[i].in_key) {
        i++;
    }
    return row[i].text;
}

bool
es_id_put(struct buf *b, const struct schema *s, const struct record_value *row)
{
    if (!has_texts(s, row)) {
        return false;
    }
    size_t from = b->n;
    if (s->nkeys == 1) {
        struct str id = only_text(s, row);
        if (is_usable(id)) {
            buf_put_str(b, id);
            return true;
        }
    } else {
        put_join(b, s, row, from);
        if (b->failed || is_usable((struct str){.p = b->p + from, .n = b->n - from})) {
            return true;
        }
        b->n = from;
    }
    put_hash(b, s, row);
    return true;
}
