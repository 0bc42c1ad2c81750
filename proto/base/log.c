/* log: owns the format of a log line and stderr. Promises one write(2) per line, and that no
 * text in it can forge a line, a field or a terminal sequence. Must not know what is logged. */
#include "proto/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/utf8.h"

enum { LOG_LINE_MAX = 4096, LOG_QUOTE_MAX = 512, LOG_QUOTE_RING = 8 };

const char *const log_level_names[] = {[LOG_ERROR] = "error",
    [LOG_WARN] = "warn",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
    NULL};
static const char *log_prog = "oneslot";
static atomic_int log_level = LOG_INFO;

void
log_init(const char *prog, enum log_level level)
{
    log_prog = prog;
    atomic_store(&log_level, (int)level);
}

bool
log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

/* ---- escaping ---- */

/* Length of the printable character at p: 0 for control bytes (C0, DEL, C1) and for what is not
 * UTF-8. */
static size_t
printable_len(const char *p, size_t n)
{
    unsigned char c = (unsigned char)p[0];
    if (c < 0x20 || c == 0x7f) {
        return 0;
    }
    size_t len = utf8_len(p, n);
    return len == 2 && c == 0xc2 && (unsigned char)p[1] < 0xa0 ? 0 : len;
}

static size_t
put_escaped_byte(char *to, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    const char *name = c == '\n'   ? "n"
                       : c == '\r' ? "r"
                       : c == '\t' ? "t"
                       : c == '"'  ? "\""
                       : c == '\\' ? "\\"
                                   : NULL;
    to[0] = '\\';
    if (name != NULL) {
        to[1] = name[0];
        return 2;
    }
    to[1] = 'x';
    to[2] = hex[c >> 4];
    to[3] = hex[c & 15];
    return 4;
}

/* Copies s into to[0..max), control bytes escaped, quotes and backslashes too when is_quoted.
 * Returns the bytes written; *ret_is_cut tells that not everything fitted. */
static size_t
escape(char *to, size_t max, struct str s, bool is_quoted, bool *ret_is_cut)
{
    size_t n = 0, i = 0;
    while (i < s.n && max - n >= 4) {
        size_t len = printable_len(s.p + i, s.n - i);
        if (len == 0 || (is_quoted && (s.p[i] == '"' || s.p[i] == '\\'))) {
            n += put_escaped_byte(to + n, (unsigned char)s.p[i++]);
        } else {
            memcpy(to + n, s.p + i, len);
            n += len;
            i += len;
        }
    }
    *ret_is_cut = i < s.n;
    return n;
}

const char *
log_quote_str(struct str s)
{
    static _Thread_local char ring[LOG_QUOTE_RING][LOG_QUOTE_MAX];
    static _Thread_local unsigned next;
    static const char tail[] = "...\"";
    char *text = ring[next++ % LOG_QUOTE_RING];
    bool is_cut;
    text[0] = '"';
    size_t n = 1 + escape(text + 1, LOG_QUOTE_MAX - 1 - sizeof tail, s, true, &is_cut);
    const char *end = is_cut ? tail : tail + 3;
    memcpy(text + n, end, strlen(end) + 1);
    return text;
}

const char *
log_quote(const char *s)
{
    return log_quote_str(str_from(s == NULL ? "" : s));
}

/* ---- lines ---- */

/* The head of a line: ts, level, prog, ev. */
static size_t
put_head(char *to, size_t max, enum log_level level, const char *ev)
{
    char ts[CLOCK_TEXT_MAX];
    (void)clock_format_us(clock_wall_us(), ts);
    int n = snprintf(
        to, max, "ts=%s level=%s prog=%s ev=%s", ts, log_level_names[level], log_prog, ev);
    return n < 0 ? 0 : (size_t)n < max ? (size_t)n : max - 1;
}

void
log_write(enum log_level level, const char *ev, const char *fmt, ...)
{
    if (!log_enabled(level)) {
        return;
    }
    char line[LOG_LINE_MAX], fields[LOG_LINE_MAX];
    size_t n = put_head(line, sizeof line / 2, level, ev);
    if (fmt != NULL && fmt[0] != 0) {
        bool is_cut;
        va_list ap;
        va_start(ap, fmt);
        int wrote = vsnprintf(fields, sizeof fields, fmt, ap);
        va_end(ap);
        size_t len = wrote < 0                       ? 0
                     : (size_t)wrote < sizeof fields ? (size_t)wrote
                                                     : sizeof fields - 1;
        line[n++] = ' ';
        n += escape(
            line + n, sizeof line - 1 - n, (struct str){.p = fields, .n = len}, false, &is_cut);
    }
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0) {
        return; /* nobody is left to be told */
    }
}

/* "broker/writer.c" of a path: enough to find it. */
static const char *
short_path(const char *path)
{
    const char *at = path + strlen(path);
    for (int slashes = 0; at > path; at--) {
        slashes += at[-1] == '/';
        if (slashes == 2) {
            break;
        }
    }
    return at;
}

void
log_err(enum log_level level, const char *ev, const struct err *e, const char *more)
{
    const char *at = short_path(e->file == NULL ? "?" : e->file);
    if (more == NULL) {
        log_write(level, ev, "code=%s msg=%s at=%s:%d", err_name(e->code), log_quote(e->msg),
            at, e->line);
    } else {
        log_write(level, ev, "code=%s msg=%s at=%s:%d more=%s", err_name(e->code),
            log_quote(e->msg), at, e->line, log_quote(more));
    }
}
