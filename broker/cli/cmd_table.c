/* cmd_table: see cmd_table.h. */
#include "broker/cli/cmd_table.h"

#include "broker/cli/cmd_text.h"
#include "proto/base/check.h"

void
cmd_table_init(struct cmd_table *t, size_t ncols, const char *const *titles, const char *align)
{
    CHECK(ncols > 0 && ncols <= CMD_TABLE_COLS && strlen(align) == ncols);
    *t = (struct cmd_table){.ncols = ncols, .titles = titles, .align = align};
    buf_init(&t->text, CMD_TABLE_BYTES);
}

void
cmd_table_fini(struct cmd_table *t)
{
    buf_fini(&t->text);
}

void
cmd_table_cell(struct cmd_table *t, struct str text)
{
    cmd_text_put(&t->text, text);
    buf_putc(&t->text, '\0');
    if (buf_ok(&t->text)) {
        t->ncells++;
    }
}

/* Cells in order: *at moves behind the one returned. */
static struct str
next_cell(const struct cmd_table *t, size_t *at)
{
    struct str s = str_from(t->text.p + *at);
    *at += s.n + 1;
    return s;
}

static void
measure(const struct cmd_table *t, size_t rows, size_t width[CMD_TABLE_COLS])
{
    size_t at = 0;
    for (size_t c = 0; c < t->ncols; c++) {
        width[c] = cmd_text_width(str_from(t->titles[c]));
    }
    for (size_t i = 0; i < rows * t->ncols; i++) {
        size_t w = cmd_text_width(next_cell(t, &at));
        if (w > width[i % t->ncols]) {
            width[i % t->ncols] = w;
        }
    }
}

static void
put_cell(struct buf *b, const struct cmd_table *t, size_t col, size_t width, struct str s)
{
    bool is_last = col + 1 == t->ncols;
    size_t pad = width - cmd_text_width(s);
    if (t->align[col] == 'r') {
        buf_printf(b, "%*s", (int)pad, "");
    }
    buf_put_str(b, s);
    if (t->align[col] != 'r' && !is_last) {
        buf_printf(b, "%*s", (int)pad, "");
    }
    buf_puts(b, is_last ? "\n" : "  ");
}

void
cmd_table_render(struct buf *b, const struct cmd_table *t)
{
    size_t width[CMD_TABLE_COLS];
    size_t rows = t->ncells / t->ncols;
    size_t at = 0;
    measure(t, rows, width);
    for (size_t c = 0; c < t->ncols; c++) {
        put_cell(b, t, c, width[c], str_from(t->titles[c]));
    }
    for (size_t i = 0; i < rows * t->ncols; i++) {
        put_cell(b, t, i % t->ncols, width[i % t->ncols], next_cell(t, &at));
    }
}
