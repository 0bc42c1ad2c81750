/* beside: what the small environments beside the log (`state`, `dead`) have in common: made
 * whole or not at all, bound to their log, values that carry a version, a map and a file that
 * grow before a write needs them. It knows bytes, not their meaning. */
#ifndef ONESLOT_BROKER_BESIDE_H
#define ONESLOT_BROKER_BESIDE_H

#include <pthread.h>

#include "broker/store.h"
#include "proto/api.h"
#include "proto/base/mp.h"

struct beside_conf {
    const char *data_dir, *name;              /* DATA_DIR/NAME; borrowed until close */
    const char *tables[STORE_TABLES_MAX + 1]; /* the first one holds "log", the log's uuid */
    uint64_t map_bytes;                       /* at first */
    uint64_t disk_bytes;                      /* owned by the file from the start */
    /* Fills a new one inside the transaction that makes it; NULL: nothing but its log. */
    int (*fill)(struct store_txn *t, struct err *e);
};

/* Members are the caller's to use, all of it under the lock. */
struct beside {
    pthread_mutex_t lock;
    struct store *store;
    const char *name;
};

/* True when DATA_DIR/NAME is there. */
int beside_exists(const char *data_dir, const char *name, bool *ret, struct err *e) MUST_CHECK;
/* Opens it, made first where it is not there: a power cut leaves a whole one or none. One of
 * another log is ERR_FOREIGN. */
int beside_open(const struct beside_conf *c, const uint8_t uuid[API_UUID], struct beside *ret,
    struct err *e) MUST_CHECK;
void beside_close(struct beside *bs); /* accepts a zeroed one */

/* What changing or deleting n small values of two tables may write: each lies in a page of its
 * own, at worst, and LMDB writes pages that it touches anew. Never more than there is. */
uint64_t beside_touched(const struct beside *bs, size_t n);
/* Begins a write of about so many bytes: no other transaction may be open. ERR_NOSPACE before
 * anything is written where the disk has no room for it. */
int beside_begin(
    struct beside *bs, uint64_t bytes, struct store_txn **ret, struct err *e) MUST_CHECK;

/* ---- values: a msgpack array whose first element is its version ---- */

/* A later layout is recognised (ERR_NEWER) before it is misread; a number of fields that its
 * version does not have is ERR_CORRUPT. fields[version - 1]: how many, the version included. */
int beside_value(const struct beside *bs, struct mp *m, struct str v, const uint32_t *fields,
    uint64_t newest, uint64_t *ret_version, const char *what, struct err *e) MUST_CHECK;
/* A text that has to fit; the reader fails otherwise. */
void beside_text(struct mp *m, char *to, size_t size);
int beside_damaged(const struct beside *bs, const char *what, struct err *e);

#endif
