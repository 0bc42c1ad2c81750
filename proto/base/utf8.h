/* utf8: the one definition of a valid UTF-8 sequence (RFC 3629: no overlong forms, no
 * surrogates). */
#ifndef ONESLOT_BASE_UTF8_H
#define ONESLOT_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

static inline bool
utf8_is_tail(unsigned char c)
{
    return (c & 0xc0) == 0x80;
}

/* Length (1..4) of the valid sequence that starts at p[0], of n > 0 bytes; 0 when there is
 * none. */
static inline size_t
utf8_len(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    if (p[0] < 0x80) {
        return 1;
    }
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        return n >= 2 && utf8_is_tail(p[1]) ? 2 : 0;
    }
    if (p[0] >= 0xe0 && p[0] <= 0xef) {
        bool is_ok = n >= 3 && utf8_is_tail(p[1]) && utf8_is_tail(p[2]) &&
                     !(p[0] == 0xe0 && p[1] < 0xa0) && !(p[0] == 0xed && p[1] > 0x9f);
        return is_ok ? 3 : 0;
    }
    if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        bool is_ok = n >= 4 && utf8_is_tail(p[1]) && utf8_is_tail(p[2]) && utf8_is_tail(p[3]) &&
                     !(p[0] == 0xf0 && p[1] < 0x90) && !(p[0] == 0xf4 && p[1] > 0x8f);
        return is_ok ? 4 : 0;
    }
    return 0;
}

#endif
