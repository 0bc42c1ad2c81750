/* conf_value: see conf_value.h. */
#include "proto/base/conf_value.h"

#include <inttypes.h>

struct unit {
    const char *name;
    uint64_t factor;
};

/* The largest first: printing takes the first that divides. */
static const struct unit size_units[] = {
    {"GiB", 1024 * 1024 * 1024}, {"MiB", 1024 * 1024}, {"KiB", 1024}, {"", 1}, {NULL, 0}};
static const struct unit duration_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0}};

/* Digits, then one of the units; below 2^63, so that min and max can compare. */
static bool
parse_with_unit(struct str s, const struct unit *units, uint64_t *ret)
{
    uint64_t v = 0;
    size_t i = 0;

    for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++) {
        if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v)) {
            return false;
        }
    }
    if (i == 0) {
        return false;
    }
    for (; units->name != NULL; units++) {
        if (str_is((struct str){.p = s.p + i, .n = s.n - i}, units->name)) {
            if (__builtin_mul_overflow(v, units->factor, &v) || v > INT64_MAX) {
                return false;
            }
            *ret = v;
            return true;
        }
    }
    return false;
}

bool
conf_parse_size(struct str s, uint64_t *ret_bytes)
{
    return parse_with_unit(s, size_units, ret_bytes);
}

bool
conf_parse_duration(struct str s, int64_t *ret_ms)
{
    uint64_t v;

    if (!parse_with_unit(s, duration_units, &v)) {
        return false;
    }
    *ret_ms = (int64_t)v;
    return true;
}

bool
conf_parse_int(const char *text, int64_t *ret)
{
    bool is_negative = text[0] == '-';
    const char *c = text + (is_negative ? 1 : 0);
    int64_t v = 0;

    if (*c == '\0') {
        return false;
    }
    for (; *c != '\0'; c++) {
        if (*c < '0' || *c > '9' || __builtin_mul_overflow(v, (int64_t)10, &v) ||
            __builtin_sub_overflow(
                v, (int64_t)(*c - '0'), &v)) { /* negative: reaches INT64_MIN */
            return false;
        }
    }
    if (!is_negative && v == INT64_MIN) {
        return false;
    }
    *ret = is_negative ? v : -v;
    return true;
}

static void
put_with_unit(struct buf *b, const struct unit *units, uint64_t v)
{
    if (v == 0) {
        buf_puts(b, units == duration_units ? "0s" : "0");
        return;
    }
    while (v % units->factor != 0) {
        units++;
    }
    buf_printf(b, "%" PRIu64 "%s", v / units->factor, units->name);
}

void
conf_put_number(struct buf *b, enum conf_type type, int64_t v)
{
    if (type == CONF_SIZE) {
        put_with_unit(b, size_units, (uint64_t)v);
    } else if (type == CONF_DURATION) {
        put_with_unit(b, duration_units, (uint64_t)v);
    } else {
        buf_printf(b, "%" PRId64, v);
    }
}

void
conf_put_names(struct buf *b, const char *const *names, const char *between)
{
    bool is_first = true;

    for (; *names != NULL; names++) {
        if ((*names)[0] != '!') {
            buf_puts(b, is_first ? "" : between);
            buf_puts(b, *names);
            is_first = false;
        }
    }
}
