/* record_key: which row a record is about, as bytes that are equal exactly when table and key
 * are: for lanes and dead letters. Pure.
 *
 *   u32 le length | bytes      of the table's schema, of its name, and of each key column's
 *                              text
 *
 * A key column that is NULL (REPLICA IDENTITY FULL without a primary key never has key columns,
 * so only a bad record has one) counts as length 0xffffffff. frame_sum hashes such bytes.
 *
 * Where the columns take more than RECORD_KEY_COLUMNS_MAX bytes (PostgreSQL compresses what it
 * indexes, so a key may be hundreds of kilobytes long) they are replaced by
 *
 *   0xfffffffe u32 | SHA-256 of them
 *
 * which no other key can be: no text has that length. */
#ifndef ONESLOT_PROTO_RECORD_KEY_H
#define ONESLOT_PROTO_RECORD_KEY_H

#include "proto/base/buf.h"
#include "proto/record.h"

enum { RECORD_KEY_COLUMNS_MAX = 1024 };

/* True when the record is a row of a table that has a key: insert, update, delete, read. */
bool record_has_key(const struct record *r);
/* An update whose old row holds another key than its new one. */
bool record_is_key_change(const struct record *r);
/* A new row that leaves out columns whose TOASTed value did not change. */
bool record_has_unchanged(const struct record *r);

/* The values that say which row it is afterwards (new_row; of a delete the old one), or before
 * (of a key change the old one). Only of a record_has_key. */
const struct record_value *record_key_row(const struct record *r);
const struct record_value *record_former_key_row(const struct record *r);

/* Appends the bytes described above; row is one of the two. */
void record_key_put(struct buf *b, const struct schema *s, const struct record_value *row);
/* Of such bytes: so wide that two keys of a log never share one in practice; never 0. */
uint64_t record_key_hash(struct str key);
/* Appends those of the table alone: a prefix of all its rows' keys. */
void record_key_put_table(struct buf *b, const struct schema *s);
#endif
