/* es_scan: a cursor over JSON text that others wrote: values are taken or skipped one after the
 * other, without a tree and without recursion. Pure. Views point into the text.
 *
 * What is not JSON makes it `failed`, for good; every call then returns false. A call that asks
 * for one kind of value and finds another skips that value whole and returns false. */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_SCAN_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/str.h"

enum { ES_SCAN_DEPTH_MAX = 1 << 16 }; /* of a value that is skipped */

struct es_scan {
    const char *p, *end;
    bool failed;
};

static inline struct es_scan
es_scan_of(struct str text)
{
    const char *p = text.p == NULL ? "" : text.p;
    return (struct es_scan){.p = p, .end = p + text.n};
}

/* Enters an object or an array: then es_scan_member or es_scan_element until it is false. */
bool es_scan_object(struct es_scan *sc);
bool es_scan_array(struct es_scan *sc);
/* Comes to the next member's value; false at the end, which is passed. *is_first: true before
 * the first call. ret_key: raw contents of its string. */
bool es_scan_member(struct es_scan *sc, bool *is_first, struct str *ret_key);
bool es_scan_element(struct es_scan *sc, bool *is_first);

bool es_scan_value(struct es_scan *sc, struct str *ret_raw);  /* any; false: failed */
bool es_scan_string(struct es_scan *sc, struct str *ret_raw); /* raw contents */
bool es_scan_u64(struct es_scan *sc, uint64_t *ret);
bool es_scan_bool(struct es_scan *sc, bool *ret);
void es_scan_skip(struct es_scan *sc);
/* True when all was read, and was JSON. */
bool es_scan_end(struct es_scan *sc);

/* Steps for those who walk themselves: */
void es_scan_blanks(struct es_scan *sc);
bool es_scan_char(struct es_scan *sc, char c); /* blanks, then c: passed if it is there */
/* The string, or the number, true, false or null, that begins here. */
bool es_scan_string_here(struct es_scan *sc, struct str *ret_raw);
bool es_scan_scalar_here(struct es_scan *sc);
bool es_scan_fail(struct es_scan *sc); /* returns false */

/* Appends what the raw contents of a JSON string stand for; a surrogate without its other half
 * is U+FFFD. */
void es_scan_put_unescaped(struct buf *b, struct str raw);
/* The UTF-16 unit of a \uXXXX at p, of n bytes; -1 when none stands there. */
long es_scan_unit(const char *p, size_t n);

#endif
