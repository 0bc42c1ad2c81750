/* log: one logfmt line per event on stderr: ts, level, prog, ev, fields. Only mains and loops
 * log. Control bytes are escaped; row values are never logged. Thread-safe; a line is written
 * by one write(2). */
#ifndef ONESLOT_BASE_LOG_H
#define ONESLOT_BASE_LOG_H

#include <stdbool.h>

#include "proto/base/err.h"
#include "proto/base/str.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* prog: static string shown in every line ("broker", "replicator", "sink:search"). */
void log_init(const char *prog, enum log_level level);
/* By enum log_level; NULL behind the last, as conf.h wants the names of a choice. */
extern const char *const log_level_names[];
bool log_enabled(enum log_level level);

/* One line is at most 4 KiB, longer ones are cut. fmt NULL or "" writes no fields.
 * ev is a stable event name ("append_ok"); fmt gives `key=value` pairs: numbers directly, texts
 * through log_quote so that they cannot forge fields. */
#define log_error(ev, ...) log_write(LOG_ERROR, (ev), __VA_ARGS__)
#define log_warn(ev, ...)  log_write(LOG_WARN, (ev), __VA_ARGS__)
#define log_info(ev, ...)  log_write(LOG_INFO, (ev), __VA_ARGS__)
#define log_debug(ev, ...) log_write(LOG_DEBUG, (ev), __VA_ARGS__)
void log_write(enum log_level level, const char *ev, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The usual end of a failed operation: code=, msg=, at=, and more= when `more` is not NULL: a
 * static text such as "will retry". */
void log_err(enum log_level level, const char *ev, const struct err *e, const char *more);

/* A quoted, escaped, bounded copy of s in a per-thread ring of 8 buffers of 512 bytes: for use
 * as a printf argument of the same statement only. */
const char *log_quote(const char *s);
const char *log_quote_str(struct str s);

#endif
