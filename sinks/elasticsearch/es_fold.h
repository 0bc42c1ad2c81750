/* es_fold: a batch's records by document: one operation per id, and where the values of an
 * update's unchanged columns come from. Pure.
 *
 * A document's records form a chain, newest last; the operation is the newest one's. What an
 * update leaves out is found, newest first: in its own old row, in a record before it in the
 * chain, in the document itself. Where none of them proves the value the row has to be read
 * again, and the operation becomes that of the record before. */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_FOLD_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_FOLD_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/record.h"

#define ES_FOLD_NONE SIZE_MAX

struct es_fold_key {
    const void *table; /* NULL: a record that is no operation */
    struct str id;
};

struct es_fold {
    size_t n;       /* documents */
    size_t *last;   /* of each: its newest record. In order of their first records */
    size_t *former; /* per record: the one before it of the same document; ES_FOLD_NONE */
    size_t *slots;  /* working memory */
    size_t room;    /* records that the arrays have room for */
};

/* Reusable; zeroed before its first use. */
void es_fold_make(struct es_fold *f, const struct es_fold_key *keys, size_t n);
void es_fold_fini(struct es_fold *f);

/* Where an unchanged column's value is. */
enum es_fold_source {
    ES_FOLD_VALUE,    /* in the batch: *ret */
    ES_FOLD_DOCUMENT, /* in the document, as long as it can be trusted */
    ES_FOLD_NOWHERE   /* to be read again */
};
/* Of column c, which records[i] leaves out. is_barred: neither the chain nor the document says
 * what it was before this record. *ret is set with ES_FOLD_VALUE only: TEXT or NULL. */
enum es_fold_source es_fold_find(const struct record *records, const size_t *former, size_t i,
    uint32_t c, bool is_barred, const struct record_value **ret);

#endif
