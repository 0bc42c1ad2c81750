/* mp: msgpack. Writing goes through msgpack-c (which only mp.c includes); reading is our
 * bounds-checked cursor with a sticky failure: after a short or wrong read every later read
 * fails too, and no read ever yields a value it did not find. Spec:
 * https://github.com/msgpack/msgpack/blob/master/spec.md */
#ifndef ONESLOT_BASE_MP_H
#define ONESLOT_BASE_MP_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/str.h"

void mp_put_array(struct buf *b, uint32_t n);
void mp_put_map(struct buf *b, uint32_t n);
void mp_put_u64(struct buf *b, uint64_t v);
void mp_put_i64(struct buf *b, int64_t v);
void mp_put_double(struct buf *b, double v);
void mp_put_bool(struct buf *b, bool v);
void mp_put_nil(struct buf *b);
void mp_put_str(struct buf *b, struct str s);
void mp_put_cstr(struct buf *b, const char *s); /* NULL writes nil */
void mp_put_bin(struct buf *b, struct str s);

enum mp_type {
    MP_END,
    MP_NIL,
    MP_BOOL,
    MP_UINT,
    MP_INT /* negative */,
    MP_DOUBLE,
    MP_STR,
    MP_BIN,
    MP_ARRAY,
    MP_MAP,
    MP_BAD
};

struct mp {
    const unsigned char *p, *end;
    bool failed;
};

void mp_init(struct mp *m, struct str bytes);
enum mp_type mp_peek(const struct mp *m);
/* Each reads one value of that type; on anything else, or a short input, m fails and
 * 0/false/empty comes. */
uint32_t mp_array(struct mp *m); /* element count, never more than the bytes left */
uint32_t mp_map(struct mp *m);
uint64_t mp_u64(struct mp *m);
int64_t mp_i64(struct mp *m);
double mp_double(struct mp *m); /* integers too */
bool mp_bool(struct mp *m);
bool mp_nil(struct mp *m);        /* consumes a nil when there is one; no failure otherwise */
struct str mp_str(struct mp *m);  /* view into the input; accepts bin too */
void mp_skip(struct mp *m);       /* one whole value; nesting bounded to 32 */
bool mp_done(const struct mp *m); /* nothing failed and nothing is left */

#endif
