/* err: owns how errors are filled and what a code means (err.def). Promises that a message is
 * terminated and that its arguments may point into the error that is being filled. Must not
 * know who reports it. */
#include "proto/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/check.h"

static const struct {
    const char *name, *text;
    enum err_class class;
} codes[ERR_INDEX_END] = {
    [ERR_INDEX_NONE] = {"OK", "no error", ERR_CLASS_NONE},
#define ERR(name, class, text) [ERR_INDEX_##name] = {#name, text, ERR_CLASS_##class},
#include "proto/base/err.def"
#undef ERR
};

/* A code that is not in the table is our own mistake, and treated as one: class BUG. */
static int
index_of(int code)
{
    return code <= 0 && code > -ERR_INDEX_END ? -code : ERR_INDEX_BUG;
}

int
err_set_at(struct err *e, int code, int sys, const char *file, int line, const char *fmt, ...)
{
    if (e == NULL) {
        return code;
    }
    char msg[sizeof e->msg];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    CHECK(n >= 0);
    if (sys != 0 && (size_t)n < sizeof msg) {
        char text[128];
        (void)snprintf(
            msg + n, sizeof msg - (size_t)n, ": %s", strerror_r(sys, text, sizeof text));
    }
    *e = (struct err){.code = code, .sys = sys, .file = file, .line = line};
    memcpy(e->msg, msg, sizeof msg);
    return code;
}

int
err_prefix(struct err *e, const char *fmt, ...)
{
    CHECK(e != NULL);
    char msg[sizeof e->msg];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    CHECK(n >= 0);
    size_t at = (size_t)n + 2, len = strlen(e->msg);
    if (at < sizeof msg) {
        memcpy(msg + n, ": ", 2);
        len = len < sizeof msg - at ? len : sizeof msg - at - 1;
        memcpy(msg + at, e->msg, len);
        msg[at + len] = 0;
    }
    memcpy(e->msg, msg, sizeof msg);
    return e->code;
}

enum err_class
err_class(int code)
{
    return codes[index_of(code)].class;
}

const char *
err_name(int code)
{
    return codes[index_of(code)].name;
}

const char *
err_text(int code)
{
    return codes[index_of(code)].text;
}
