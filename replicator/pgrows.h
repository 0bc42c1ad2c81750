/* pgrows: the answer to a statement, as text. pgconn makes, reads and frees it (count, get,
 * free are there, beside libpq); here are the readings of a text, which fail rather than guess.
 */
#ifndef ONESLOT_REPLICATOR_PGROWS_H
#define ONESLOT_REPLICATOR_PGROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/str.h"

struct pgrows;
size_t pgrows_count(const struct pgrows *r);
const char *pgrows_get(
    const struct pgrows *r, size_t row, unsigned column); /* NULL: SQL NULL, or no such place */
struct str pgrows_str(const struct pgrows *r, size_t row, unsigned column); /* empty for NULL */
bool pgrows_bool(const struct pgrows *r, size_t row, unsigned column);
bool pgrows_u64(const struct pgrows *r, size_t row, unsigned column,
    uint64_t *ret); /* decimal; false: not one */
bool pgrows_i64(const struct pgrows *r, size_t row, unsigned column, int64_t *ret);
bool pgrows_lsn(const struct pgrows *r, size_t row, unsigned column, uint64_t *ret);
void pgrows_free(struct pgrows *r); /* accepts NULL */

static inline void
cleanup_pgrows(struct pgrows **r)
{
    pgrows_free(*r);
}
#define auto_pgrows __attribute__((cleanup(cleanup_pgrows)))

#endif
