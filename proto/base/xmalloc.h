/* xmalloc: small fixed allocations die on failure (restart is the recovery path). What is sized
 * by input is bounded by a limit first and uses buf or a checked malloc. */
#ifndef ONESLOT_BASE_XMALLOC_H
#define ONESLOT_BASE_XMALLOC_H

#include <stddef.h>

void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n);
void *xreallocarray(void *p, size_t n, size_t size);
char *xstrdup(const char *s);
/* Copies n bytes and adds a NUL. */
char *xstrndup(const char *p, size_t n);
/* printf into a new string, owned by the caller. */
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
