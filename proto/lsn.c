/* lsn: see lsn.h. Accepts what pg_lsn's input function accepts: 1 to 8 hex digits on either
 * side. */
#include "proto/lsn.h"

#include <stdio.h>

size_t
lsn_format(uint64_t lsn, char to[LSN_TEXT_MAX])
{
    return (size_t)snprintf(to, LSN_TEXT_MAX, LSN_FMT, LSN_ARG(lsn));
}

static bool
parse_half(struct str s, uint64_t *ret)
{
    uint64_t v = 0;

    if (s.n == 0 || s.n > 8) {
        return false;
    }
    for (size_t i = 0; i < s.n; i++) {
        int digit = str_hex_digit(s.p[i]);
        if (digit < 0) {
            return false;
        }
        v = v << 4 | (uint64_t)digit;
    }
    *ret = v;
    return true;
}

bool
lsn_parse(struct str text, uint64_t *ret_lsn)
{
    const char *slash = text.n == 0 ? NULL : memchr(text.p, '/', text.n);
    uint64_t high, low;
    size_t at;

    if (slash == NULL) {
        return false;
    }
    at = (size_t)(slash - text.p);
    if (!parse_half((struct str){.p = text.p, .n = at}, &high) ||
        !parse_half((struct str){.p = slash + 1, .n = text.n - at - 1}, &low)) {
        return false;
    }
    *ret_lsn = high << 32 | low;
    return true;
}
