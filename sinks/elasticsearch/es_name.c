/* es_name: see es_name.h. */
#include "sinks/elasticsearch/es_name.h"

#include "proto/base/json.h"
#include "proto/base/utf8.h"

/* Fields that some version of Elasticsearch or OpenSearch keeps for itself. */
static const char *const own_fields[] = {"_all", "_data_stream_timestamp", "_doc_count",
    "_feature", "_field_names", "_id", "_ignored", "_ignored_source", "_index",
    "_inference_fields", "_nested_path", "_parent", "_primary_term", "_recovery_source",
    "_routing", "_routing_hash", "_seq_no", "_size", "_source", "_tier", "_timestamp", "_tsid",
    "_ts_routing_hash", "_ttl", "_type", "_uid", "_version"};

static bool
is_own_field(struct str name)
{
    for (size_t i = 0; i < sizeof own_fields / sizeof *own_fields; i++) {
        if (str_is(name, own_fields[i])) {
            return true;
        }
    }
    return false;
}

static bool
is_blank(struct str name)
{
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] != ' ') {
            return false;
        }
    }
    return true;
}

static void
put_encoded(struct buf *b, unsigned char c)
{
    static const char digits[] = "0123456789ABCDEF";
    char text[3] = {'%', digits[c >> 4], digits[c & 15]};
    buf_put(b, text, sizeof text);
}

static bool
is_plain(unsigned char c)
{
    return c >= 0x20 && c != 0x7f && c != '%' && c != '.';
}

void
es_name_put(struct buf *b, struct str column)
{
    bool is_reserved = is_own_field(column) || is_blank(column);
    size_t i = 0;
    if (is_reserved && column.n > 0) {
        put_encoded(b, (unsigned char)column.p[i++]);
    }
    while (i < column.n) {
        size_t n = utf8_len(column.p + i, column.n - i);
        if (n == 0 || !is_plain((unsigned char)column.p[i])) {
            put_encoded(b, (unsigned char)column.p[i]);
            n = 1;
        } else {
            buf_put(b, column.p + i, n);
        }
        i += n;
    }
}

void
es_name_put_json(struct buf *b, struct str column)
{
    struct buf auto_buf name;
    buf_init(&name, SIZE_MAX);
    es_name_put(&name, column);
    json_put_string(b, buf_str(&name));
}
