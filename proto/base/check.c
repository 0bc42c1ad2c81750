/* check: owns the end of a process that has found a bug of ours. Promises one line on stderr
 * and SIGABRT. Must not allocate, lock or log. */
#include "proto/base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

_Noreturn void
check_failed(const char *file, int line, const char *expr)
{
    char text[512];
    int n = snprintf(text, sizeof text - 1, "CHECK failed: %s:%d: %s", file, line, expr);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text - 1 ? (size_t)n : sizeof text - 2;
    text[len] = '\n';
    if (write(STDERR_FILENO, text, len + 1) < 0) {
        abort();
    }
    abort();
}
