/* bytes: fixed-width integers at any alignment. be = network order (pgoutput, LMDB keys), le =
 * our files. */
#ifndef ONESLOT_BASE_BYTES_H
#define ONESLOT_BASE_BYTES_H

#include <stdint.h>
#include <string.h>

/* Little-endian machines only (checked by CMake); be conversions swap. */
static inline void
put_le16(void *to, uint16_t v)
{
    memcpy(to, &v, sizeof v);
}
static inline void
put_le32(void *to, uint32_t v)
{
    memcpy(to, &v, sizeof v);
}
static inline void
put_le64(void *to, uint64_t v)
{
    memcpy(to, &v, sizeof v);
}
static inline uint16_t
get_le16(const void *from)
{
    uint16_t v;
    memcpy(&v, from, sizeof v);
    return v;
}
static inline uint32_t
get_le32(const void *from)
{
    uint32_t v;
    memcpy(&v, from, sizeof v);
    return v;
}
static inline uint64_t
get_le64(const void *from)
{
    uint64_t v;
    memcpy(&v, from, sizeof v);
    return v;
}
static inline void
put_be16(void *to, uint16_t v)
{
    put_le16(to, __builtin_bswap16(v));
}
static inline void
put_be32(void *to, uint32_t v)
{
    put_le32(to, __builtin_bswap32(v));
}
static inline void
put_be64(void *to, uint64_t v)
{
    put_le64(to, __builtin_bswap64(v));
}
static inline uint16_t
get_be16(const void *from)
{
    return __builtin_bswap16(get_le16(from));
}
static inline uint32_t
get_be32(const void *from)
{
    return __builtin_bswap32(get_le32(from));
}
static inline uint64_t
get_be64(const void *from)
{
    return __builtin_bswap64(get_le64(from));
}

#endif
