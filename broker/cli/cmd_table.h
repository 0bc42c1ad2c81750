/* cmd_table: columns of text for people. Pure. */
#ifndef ONESLOT_CLI_CMD_TABLE_H
#define ONESLOT_CLI_CMD_TABLE_H

#include "proto/base/buf.h"

enum { CMD_TABLE_COLS = 16, CMD_TABLE_BYTES = 1024 * 1024 };

struct cmd_table {
    size_t ncols;
    const char *const *titles;
    const char *align; /* one letter per column: 'l' or 'r' */
    struct buf text;   /* cells, each with its NUL, row by row */
    size_t ncells;
};

/* titles (ncols of them) and align are borrowed until the end. */
void cmd_table_init(
    struct cmd_table *t, size_t ncols, const char *const *titles, const char *align);
void cmd_table_fini(struct cmd_table *t);
/* The next cell, left to right; made safe for a terminal. */
void cmd_table_cell(struct cmd_table *t, struct str text);
/* Appends titles and rows, columns two spaces apart. Only whole rows. */
void cmd_table_render(struct buf *b, const struct cmd_table *t);

#endif
