/* conf_value: the texts of single values, shared by conf_table.c and conf_print.c. Pure. */
#ifndef ONESLOT_BASE_CONF_VALUE_H
#define ONESLOT_BASE_CONF_VALUE_H

#include "proto/base/conf.h"

bool conf_parse_int(const char *text, int64_t *ret);
/* type: CONF_INT, CONF_SIZE, CONF_DURATION; with the largest unit that leaves no remainder. */
void conf_put_number(struct buf *b, enum conf_type type, int64_t v);
/* The names of an ENUM that are in this version. */
void conf_put_names(struct buf *b, const char *const *names, const char *between);

#endif
