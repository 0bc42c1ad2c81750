/* cmd_text: see cmd_text.h. */
#include "broker/cli/cmd_text.h"

#include <inttypes.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "proto/base/utf8.h"

enum { DEFAULT_COLUMNS = 80 };

static uint32_t
code_point(const char *p, size_t n)
{
    const unsigned char *u = (const unsigned char *)p;
    switch (n) {
    case 1:
        return u[0];
    case 2:
        return (u[0] & 0x1fU) << 6 | (u[1] & 0x3fU);
    case 3:
        return (u[0] & 0x0fU) << 12 | (u[1] & 0x3fU) << 6 | (u[2] & 0x3fU);
    default:
        return (u[0] & 0x07U) << 18 | (u[1] & 0x3fU) << 12 | (u[2] & 0x3fU) << 6 |
               (u[3] & 0x3fU);
    }
}

/* C0, DEL, C1, line separators, and the marks of bidirectional text. */
static bool
is_unsafe(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x61c || (c >= 0x200b && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
           (c >= 0xe0000 && c <= 0xe007f);
}

static bool
is_wide(uint32_t c)
{
    static const struct {
        uint32_t first, last;
    } ranges[] = {{0x1100, 0x115f}, {0x2e80, 0xa4cf}, {0xac00, 0xd7a3}, {0xf900, 0xfaff},
        {0xfe30, 0xfe6f}, {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300, 0x1faff},
        {0x20000, 0x3fffd}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        if (c >= ranges[i].first && c <= ranges[i].last) {
            return true;
        }
    }
    return false;
}

void
cmd_text_put(struct buf *b, struct str s)
{
    for (size_t i = 0; i < s.n;) {
        size_t n = utf8_len(s.p + i, s.n - i);
        uint32_t c = n == 0 ? 0 : code_point(s.p + i, n);
        if (n == 0 || (n == 1 && is_unsafe(c))) {
            buf_printf(b, "\\x%02x", (unsigned)(unsigned char)s.p[i]);
        } else if (is_unsafe(c)) {
            buf_printf(b, c > 0xffff ? "\\U%08" PRIx32 : "\\u%04" PRIx32, c);
        } else {
            buf_put(b, s.p + i, n);
        }
        i += n == 0 ? 1 : n;
    }
}

/* Width of the character at p, its bytes in *ret_n. */
static size_t
char_width(const char *p, size_t n, size_t *ret_n)
{
    size_t len = utf8_len(p, n);
    *ret_n = len == 0 ? 1 : len;
    return len > 0 && is_wide(code_point(p, len)) ? 2 : 1;
}

size_t
cmd_text_width(struct str s)
{
    size_t width = 0;
    size_t n;
    for (size_t i = 0; i < s.n; i += n) {
        width += char_width(s.p + i, s.n - i, &n);
    }
    return width;
}

void
cmd_text_cut(struct buf *b, size_t at, size_t width)
{
    size_t used = 0;
    size_t keep = at; /* where the ellipsis would stand */
    for (size_t i = at; i < b->n;) {
        size_t n;
        size_t w = char_width(b->p + i, b->n - i, &n);
        if (used + w > width) {
            b->n = keep;
            buf_puts(b, "…");
            return;
        }
        used += w;
        i += n;
        if (used + 1 <= width) {
            keep = i;
        }
    }
}

void
cmd_text_put_bytes(struct buf *b, double n)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t i = 0;
    while (n >= 1024 && i + 1 < sizeof units / sizeof *units) {
        n /= 1024;
        i++;
    }
    buf_printf(b, i == 0 ? "%.0f %s" : "%.1f %s", n, units[i]);
}

void
cmd_text_put_count(struct buf *b, uint64_t n)
{
    if (n >= 1000) {
        cmd_text_put_count(b, n / 1000);
        buf_printf(b, ",%03" PRIu64, n % 1000);
    } else {
        buf_printf(b, "%" PRIu64, n);
    }
}

void
cmd_text_put_seconds(struct buf *b, double s)
{
    if (s < 10) {
        buf_printf(b, "%.1f s", s);
    } else if (s < 120) {
        buf_printf(b, "%.0f s", s);
    } else if (s < 7200) {
        buf_printf(b, "%.0f min", s / 60);
    } else if (s < 48 * 3600) {
        buf_printf(b, "%.1f h", s / 3600);
    } else {
        buf_printf(b, "%.1f d", s / 86400);
    }
}

size_t
cmd_text_columns(int fd)
{
    struct winsize ws;
    if (!isatty(fd)) {
        return 0;
    }
    return ioctl(fd, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 0 ? ws.ws_col : DEFAULT_COLUMNS;
}
