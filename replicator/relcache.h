/* relcache: what the Relation and Type messages of this connection have said: the latest shape
 * of every table, by oid. Owns its memory, and bounds it. Pure. */
#ifndef ONESLOT_REPLICATOR_RELCACHE_H
#define ONESLOT_REPLICATOR_RELCACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/str.h"
#include "proto/schema.h"
#include "replicator/pgoutput.h"

struct relcache_entry { /* what relcache keeps about anything */
    uint32_t oid;
    size_t bytes;
};

struct relation {
    struct relcache_entry entry;
    /* schema.id == 0: this shape has no schema version yet; encode_schema gives it one. Columns
     * and names belong to the relation; what schema_decode derives is empty. An empty namespace
     * reads "pg_catalog". */
    struct schema schema;
    /* Under FULL pgoutput marks every column: the primary key is to be asked from the catalogue
     * and told by relcache_set_key before the next row is encoded. */
    bool needs_key;
};

struct relcache_table {            /* open addressing by oid */
    struct relcache_entry **slots; /* NULL: free */
    size_t n, nslots;
};

struct relcache {
    struct relcache_table relations, types;
    size_t bytes, max_bytes;
    bool raw_text;
};

/* max_bytes: of everything kept. raw_text: the server's encoding is SQL_ASCII (goes into every
 * schema). */
void relcache_init(struct relcache *c, size_t max_bytes, bool raw_text);
void relcache_fini(struct relcache *c);  /* accepts a zeroed one */
void relcache_reset(struct relcache *c); /* a new connection: everything is described again */

/* Takes a Relation message: always replaces what was there, keeping the schema version only
 * when nothing differs. The relation is borrowed until the next put of the same oid, or reset.
 * ERR_BUSY beyond max_bytes: a reconnect begins with an empty cache. */
int relcache_put(struct relcache *c, const struct pgoutput_relation *r, struct relation **ret,
    struct err *e) MUST_CHECK;
int relcache_put_type(
    struct relcache *c, const struct pgoutput_typ *t, struct err *e) MUST_CHECK;

/* Two descriptions of the same shape: names, columns, types, and the key, which is known of
 * both. */
bool relcache_is_same(const struct relation *a, const struct relation *b);

/* NULL when no Relation message has described it. */
struct relation *relcache_find(const struct relcache *c, uint32_t relid);

/* Sets the key of a table under FULL to the primary key's columns (n may be 0: there is none).
 * All or nothing: when the table as it was described lacks one of them (a column list, or a
 * catalogue newer than the change) it gets no key and false is returned. A different key than
 * before asks for a new schema version. */
bool relcache_set_key(struct relation *rel, const struct str *names, size_t n);

#endif
