/* position: see position.h. */
#include "proto/position.h"

#include <inttypes.h>

#include "proto/base/clock.h"
#include "proto/lsn.h"

/* 0000-01-01T00:00:00Z and 9999-12-31T23:59:59.999999Z: what RFC 3339 can write, so that a
 * position that was parsed can be formatted and parsed again. */
#define TIME_MIN_US (-62167219200 * INT64_C(1000000))
#define TIME_MAX_US (253402300800 * INT64_C(1000000) - 1)

/* "LSN" or "EPOCH:LSN". */
static bool
parse_lsn(struct str text, struct position *p)
{
    const char *colon = memchr(text.p, ':', text.n);

    p->kind = POSITION_LSN;
    if (colon != NULL) {
        size_t at = (size_t)(colon - text.p);
        p->has_epoch = true;
        if (!str_u64((struct str){.p = text.p, .n = at}, UINT64_MAX, &p->epoch)) {
            return false;
        }
        text.p += at + 1;
        text.n -= at + 1;
    }
    return lsn_parse(text, &p->lsn);
}

static bool
parse_time(struct str text, struct position *p)
{
    p->kind = POSITION_TIME;
    return clock_parse_us(text, &p->time_us) && p->time_us >= TIME_MIN_US &&
           p->time_us <= TIME_MAX_US;
}

static bool
parse_any(struct str text, struct position *p)
{
    if (text.n == 0) {
        return false;
    }
    if (str_is(text, "earliest") || str_is(text, "latest")) {
        p->kind = text.p[0] == 'e' ? POSITION_EARLIEST : POSITION_LATEST;
        return true;
    }
    if (memchr(text.p, '/', text.n) != NULL) {
        return parse_lsn(text, p);
    }
    if (memchr(text.p, '-', text.n) != NULL) {
        return parse_time(text, p);
    }
    p->kind = POSITION_OFFSET;
    return str_u64(text, UINT64_MAX, &p->offset);
}

int
position_parse(struct str text, struct position *ret, struct err *e)
{
    struct position p = {0};

    if (!parse_any(text, &p)) {
        return err_set(e, ERR_PARSE,
            "not a position: a position is `earliest`, `latest`, an offset (1882345678901234), "
            "an LSN "
            "(0/16B3748, or EPOCH:LSN as in 2:0/16B3748) or a time (2026-11-22T10:00:00Z)");
    }
    *ret = p;
    return 0;
}

static void
put_time(struct buf *b, int64_t time_us)
{
    char text[CLOCK_TEXT_MAX];

    buf_put(b, text, clock_format_us(time_us, text));
}

void
position_format(struct buf *b, const struct position *p)
{
    switch (p->kind) {
    case POSITION_EARLIEST:
        buf_puts(b, "earliest");
        break;
    case POSITION_LATEST:
        buf_puts(b, "latest");
        break;
    case POSITION_OFFSET:
        buf_printf(b, "%" PRIu64, p->offset);
        break;
    case POSITION_LSN:
        if (p->has_epoch) {
            buf_printf(b, "%" PRIu64 ":", p->epoch);
        }
        buf_printf(b, LSN_FMT, LSN_ARG(p->lsn));
        break;
    case POSITION_TIME:
        put_time(b, p->time_us);
        break;
    }
}
