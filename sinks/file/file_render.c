#include "sinks/file/file_render.h"

#include "proto/record_json.h"

size_t
file_render(struct buf *b, const struct record *records, size_t n, size_t enough)
{
    size_t i = 0;
    while (i < n && b->n < enough) {
        size_t from = b->n;
        record_json_put(b, &records[i]);
        buf_putc(b, '\n');
        if (!buf_ok(b)) {
            b->n = from;
            b->failed = false;
            break;
        }
        i++;
    }
    return i;
}

int
file_line_offset(struct str head, uint64_t *ret)
{
    static const char start[] = "{\"offset\":";
    const size_t start_n = sizeof start - 1;
    size_t same = head.n < start_n ? head.n : start_n;
    if (same > 0 && memcmp(head.p, start, same) != 0) {
        return -1;
    }
    uint64_t v = 0;
    size_t at = start_n;
    for (; at < head.n && head.p[at] >= '0' && head.p[at] <= '9'; at++) {
        if (at - start_n >= 19) {
            return -1; /* offsets stay below 2^53 */
        }
        v = v * 10 + (uint64_t)(head.p[at] - '0');
    }
    if (head.n <= at) {
        return 0;
    }
    if (at == start_n || head.p[at] != ',') {
        return -1;
    }
    *ret = v;
    return 1;
}

enum file_line
file_line_kind(struct str line, uint64_t *ret_offset)
{
    uint64_t offset = 0;
    bool has_nul = line.n > 0 && memchr(line.p, 0, line.n) != NULL;
    int is_ours = file_line_offset(line, &offset);
    if (has_nul || (is_ours == 1 && line.p[line.n - 1] != '}')) {
        return FILE_LINE_DAMAGED;
    }
    if (is_ours != 1) {
        return FILE_LINE_FOREIGN;
    }
    *ret_offset = offset;
    return FILE_LINE_OURS;
}
