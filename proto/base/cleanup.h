/* cleanup: scope-bound release (gcc and clang attribute). In one function use either auto_* or
 * goto. */
#ifndef ONESLOT_BASE_CLEANUP_H
#define ONESLOT_BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

static inline void
cleanup_free(void *pp)
{
    free(*(void **)pp);
}

static inline void
cleanup_close(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
    }
}

#define auto_free  __attribute__((cleanup(cleanup_free)))
#define auto_close __attribute__((cleanup(cleanup_close)))

/* Moves a pointer out of an auto_free variable: p = take_ptr(&q) leaves q NULL. */
#define take_ptr(pp)                                                                           \
    __extension__({                                                                            \
        __typeof__(*(pp)) taken_ = *(pp);                                                      \
        *(pp) = NULL;                                                                          \
        taken_;                                                                                \
    })

#endif
