/* xids: see xids.h. Ids of 64 bits, as the snapshot's text has them: they never come again. */
#include "replicator/xids.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/xmalloc.h"

enum { WORD = 64, WORDS = XIDS_WINDOW / WORD };

/* ---- snapshots ---- */

/* Moves *s behind a number; false when there is none, or it is too large. */
static bool
take_number(struct str *s, uint64_t *ret)
{
    uint64_t v = 0;
    size_t n = 0;
    while (n < s->n && s->p[n] >= '0' && s->p[n] <= '9') {
        unsigned digit = (unsigned)(s->p[n] - '0');
        if (v > (UINT64_MAX - digit) / 10) {
            return false;
        }
        v = v * 10 + digit;
        n++;
    }
    s->p += n;
    s->n -= n;
    *ret = v;
    return n > 0;
}

static bool
take_char(struct str *s, char c)
{
    if (s->n == 0 || s->p[0] != c) {
        return false;
    }
    s->p++;
    s->n--;
    return true;
}

static bool
take_list(struct str *s, struct snapshot *to)
{
    size_t cap = 0;
    while (s->n > 0) {
        if (to->n == cap) {
            cap = cap == 0 ? 16 : 2 * cap;
            to->xip = xrealloc(to->xip, cap * sizeof *to->xip);
        }
        bool is_good = to->n < SNAPSHOT_XIP_MAX && (to->n == 0 || take_char(s, ',')) &&
                       take_number(s, &to->xip[to->n]);
        if (!is_good || to->xip[to->n] < to->xmin || to->xip[to->n] >= to->xmax) {
            return false;
        }
        to->n++;
    }
    return true;
}

int
snapshot_parse(struct str text, struct snapshot *ret, struct err *e)
{
    struct snapshot s = {0};
    bool is_good = take_number(&text, &s.xmin) && take_char(&text, ':') &&
                   take_number(&text, &s.xmax) && take_char(&text, ':') && s.xmin <= s.xmax &&
                   take_list(&text, &s);
    if (!is_good) {
        snapshot_fini(&s);
        return err_set(e, ERR_PROTOCOL, "PostgreSQL gave a snapshot that cannot be read");
    }
    *ret = s;
    return 0;
}

void
snapshot_fini(struct snapshot *s)
{
    free(s->xip);
    *s = (struct snapshot){0};
}

/* ---- what is logged ---- */

void
xids_init(struct xids *x, uint64_t from)
{
    *x = (struct xids){.from = from, .newest = from == 0 ? 0 : from - 1};
}

void
xids_fini(struct xids *x)
{
    free(x->bits);
    *x = (struct xids){0};
}

static uint64_t *
word_of(const struct xids *x, uint64_t id)
{
    return &x->bits[id % XIDS_WINDOW / WORD];
}

static uint64_t
bit_of(uint64_t id)
{
    return UINT64_C(1) << id % WORD;
}

/* The first id that has a bit. */
static uint64_t
window_start(const struct xids *x)
{
    return x->newest < XIDS_WINDOW ? 0 : x->newest - XIDS_WINDOW + 1;
}

static void
move_window(struct xids *x, uint64_t to)
{
    if (to - x->newest >= XIDS_WINDOW) {
        memset(x->bits, 0, WORDS * sizeof *x->bits);
    } else {
        for (uint64_t id = x->newest + 1; id <= to; id++) {
            *word_of(x, id) &= ~bit_of(id);
        }
    }
    x->newest = to;
}

/* Ids that are alive together lie within 2^31 of each other. One that is older than the window
 * gets no bit: those count as unknown. */
void
xids_add(struct xids *x, uint32_t xid)
{
    if (x->bits == NULL) {
        x->bits = xcalloc(WORDS, sizeof *x->bits);
    }
    int64_t distance = (int32_t)(xid - (uint32_t)x->newest);
    if (distance < 0 && (uint64_t)-distance > x->newest) {
        return;
    }
    uint64_t id = x->newest + (uint64_t)distance;
    if (id > x->newest) {
        move_window(x, id);
    }
    if (id >= window_start(x)) {
        *word_of(x, id) |= bit_of(id);
    }
}

enum xids_verdict
xids_check(const struct xids *x, const struct snapshot *s)
{
    if (x->newest >= s->xmax) {
        return x->newest >= x->from ? XIDS_HIDDEN : XIDS_UNKNOWN;
    }
    uint64_t start = window_start(x);
    enum xids_verdict verdict = XIDS_VISIBLE;
    for (size_t i = 0; i < s->n; i++) {
        uint64_t id = s->xip[i];
        bool has_bit = x->bits != NULL && id >= start && id <= x->newest;
        if (has_bit && (*word_of(x, id) & bit_of(id)) != 0) {
            return XIDS_HIDDEN;
        }
        if (id < x->from || id < start) {
            verdict = XIDS_UNKNOWN;
        }
    }
    return verdict;
}
