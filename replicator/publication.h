/* publication: what the publication holds, what the configuration asks for, and the one
 * statement that brings the first to the second. It never takes anything out of a publication,
 * and never publishes a table whose UPDATE and DELETE would then fail for want of a replica
 * identity. */
#ifndef ONESLOT_REPLICATOR_PUBLICATION_H
#define ONESLOT_REPLICATOR_PUBLICATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/conf.h"
#include "proto/base/err.h"
#include "replicator/pgconn.h"

struct publication_table {   /* an ordinary or partitioned table outside the system's schemas */
    uint32_t oid, parent;    /* parent: the partitioned table that it is a part of, or 0 */
    struct str schema, name; /* owned by the plan */
    bool is_partitioned;
    bool has_identity; /* its UPDATE and DELETE work once published; partitioned tables ask
                          their leaves */
    bool has_key;      /* its rows have one in the log: the replica identity's columns, or under
                          FULL the primary key's */
    bool is_selected;  /* a pattern of the configuration names it */
    bool is_published; /* it, its schema, a parent, or everything */
    bool is_added;     /* selected, and not published yet */
    bool is_owned;     /* by the role that asks: only its owner may publish a table */
    bool is_hazard; /* would be added, or be published with its parent, without replica identity
                     */
};

struct publication_plan {
    bool exists;
    bool has_all_tables, has_insert, has_update, has_delete, has_truncate, via_root;
    struct publication_table *tables; /* by oid */
    size_t ntables, nadded, nhazards, npublished /* before anything is added */;
    struct str missing;  /* first pattern without wildcards that names no table; empty: none */
    bool may_apply;      /* the role has the privileges for what is to be done */
    bool is_unnamed;     /* no publication, and no pattern to make one from */
    struct pgrows *rows; /* owns the names */
};

/* Reads only. patterns are borrowed as long as the plan lives. ERR_CONFIG for a malformed
 * pattern; hazards and missing tables are for the caller to see in the plan. */
int publication_plan(struct pgconn *c, const char *name, const struct conf_list *patterns,
    struct publication_plan *ret, struct err *e) MUST_CHECK;
void publication_plan_fini(struct publication_plan *p); /* accepts a zeroed one */

/* Do changes come under this table's own name, now or (will_be) once the plan is carried out?
 * Those of a partition do, unless the publication says that they come under the topmost
 * published table's. */
bool publication_has_changes(
    const struct publication_plan *p, const struct publication_table *t, bool will_be);

/* ERR_CONFIG or ERR_REFUSED with a sentence when the plan must not be carried out. */
int publication_check(
    const struct publication_plan *p, const char *name, struct err *e) MUST_CHECK;
/* The statement that carries it out; nothing when there is nothing to do. */
void publication_put_sql(struct buf *sql, const struct publication_plan *p, const char *name);
/* What gives a hazardous table a replica identity. */
void publication_put_mend(struct buf *sql, const struct publication_table *t);
/* Runs that statement in one transaction (it is one statement). *ret_changed: there was one. */
int publication_apply(struct pgconn *c, const struct publication_plan *p, const char *name,
    bool *ret_changed, struct err *e) MUST_CHECK;
int publication_drop(
    struct pgconn *c, const char *name, bool *ret_existed, struct err *e) MUST_CHECK;

#endif
