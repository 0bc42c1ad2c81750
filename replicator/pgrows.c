/* pgrows: see pgrows.h. */
#include "replicator/pgrows.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/lsn.h"

struct str
pgrows_str(const struct pgrows *r, size_t row, unsigned column)
{
    return str_from(pgrows_get(r, row, column));
}

bool
pgrows_bool(const struct pgrows *r, size_t row, unsigned column)
{
    const char *v = pgrows_get(r, row, column);
    return v != NULL && v[0] == 't';
}

bool
pgrows_u64(const struct pgrows *r, size_t row, unsigned column, uint64_t *ret)
{
    const char *v = pgrows_get(r, row, column);
    if (v == NULL || v[0] < '0' || v[0] > '9') {
        return false;
    }
    char *end;
    errno = 0;
    unsigned long long n = strtoull(v, &end, 10);
    if (errno != 0 || *end != '\0') {
        return false;
    }
    *ret = n;
    return true;
}

bool
pgrows_i64(const struct pgrows *r, size_t row, unsigned column, int64_t *ret)
{
    const char *v = pgrows_get(r, row, column);
    if (v == NULL || v[0] == '\0') {
        return false;
    }
    char *end;
    errno = 0;
    long long n = strtoll(v, &end, 10);
    if (errno != 0 || *end != '\0') {
        return false;
    }
    *ret = n;
    return true;
}

bool
pgrows_lsn(const struct pgrows *r, size_t row, unsigned column, uint64_t *ret)
{
    const char *v = pgrows_get(r, row, column);
    return v != NULL && lsn_parse(str_from(v), ret);
}
