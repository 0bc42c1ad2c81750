/* xmalloc: owns the end of a process that is out of memory: one line on stderr, SIGABRT, and
 * the restart recovers. Never returns NULL. Must not be given sizes that input chose. */
#include "proto/base/xmalloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/check.h"

static void *
never_null(void *p)
{
    if (p == NULL) {
        check_failed(__FILE__, __LINE__, "out of memory");
    }
    return p;
}

void *
xmalloc(size_t n)
{
    return never_null(malloc(n == 0 ? 1 : n));
}

void *
xcalloc(size_t n, size_t size)
{
    return never_null(n == 0 || size == 0 ? calloc(1, 1) : calloc(n, size));
}

void *
xrealloc(void *p, size_t n)
{
    return never_null(realloc(p, n == 0 ? 1 : n));
}

void *
xreallocarray(void *p, size_t n, size_t size)
{
    size_t bytes;
    CHECK(!__builtin_mul_overflow(n, size, &bytes));
    return xrealloc(p, bytes);
}

char *
xstrdup(const char *s)
{
    return xstrndup(s, strlen(s));
}

char *
xstrndup(const char *p, size_t n)
{
    char *copy = xmalloc(n + 1);
    if (n > 0) {
        memcpy(copy, p, n);
    }
    copy[n] = 0;
    return copy;
}

char *
xasprintf(const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    return never_null(n < 0 ? NULL : text);
}
