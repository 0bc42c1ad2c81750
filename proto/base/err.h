/* err: errors as values. A fallible function returns 0 or a negative ERR_*; across module
 * borders the last parameter is a `struct err *` that the caller owns. `ret_*` outputs are
 * untouched on failure. Library code fills and returns; only mains and loops log. */
#ifndef ONESLOT_BASE_ERR_H
#define ONESLOT_BASE_ERR_H

#define MUST_CHECK __attribute__((warn_unused_result))

enum err_class {
    ERR_CLASS_NONE,
    ERR_CLASS_RETRY,
    ERR_CLASS_REJECT,
    ERR_CLASS_STOP,
    ERR_CLASS_FATAL,
    ERR_CLASS_BUG
};

enum err_index {
    ERR_INDEX_NONE,
#define ERR(name, class, text) ERR_INDEX_##name,
#include "proto/base/err.def"
#undef ERR
    ERR_INDEX_END
};

/* The codes themselves: ERR_IO, ERR_NOSPACE, ... are negative ints. */
enum err_code {
    ERR_OK = 0,
#define ERR(name, class, text) ERR_##name = -ERR_INDEX_##name,
#include "proto/base/err.def"
#undef ERR
};

struct err {
    int code;         /* ERR_* or 0 */
    int sys;          /* errno where one was involved, else 0 */
    char msg[480];    /* a clear sentence: what, where, what to do; never a row's values */
    const char *file; /* where it was set */
    int line;
};

/* Fills e (which may be NULL) and returns code. printf format. */
#define err_set(e, code, ...) err_set_at((e), (code), 0, __FILE__, __LINE__, __VA_ARGS__)
/* The same with errno's text appended (": No space left on device"). */
#define err_set_sys(e, code, sys, ...)                                                         \
    err_set_at((e), (code), (sys), __FILE__, __LINE__, __VA_ARGS__)

int err_set_at(struct err *e, int code, int sys, const char *file, int line, const char *fmt,
    ...) __attribute__((format(printf, 6, 7)));

/* Puts "prefix: " before e's message (context on the way up); returns e->code. e must be there.
 */
int err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

enum err_class err_class(int code);
/* Symbol ("NOSPACE") and standard text of a code; static strings, never NULL. */
const char *err_name(int code);
const char *err_text(int code);

#endif
