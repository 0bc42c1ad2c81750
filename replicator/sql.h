/* sql: SQL as text: the one quoting function for identifiers and for literals, and the one
 * table that says what an SQLSTATE means to us. Policy looks at SQLSTATE, never at PostgreSQL's
 * sentences (they are translated and differ between versions). Pure. */
#ifndef ONESLOT_REPLICATOR_SQL_H
#define ONESLOT_REPLICATOR_SQL_H

#include "proto/base/buf.h"
#include "proto/base/str.h"

/* Appends "name" with its quotes; for replication commands too. A NUL makes b failed. */
void sql_put_ident(struct buf *b, struct str name);
/* Appends "schema"."table". */
void sql_put_table(struct buf *b, struct str schema, struct str table);
/* Appends 'text' with its quotes. Right under standard_conforming_strings = on, which pgconn
 * pins, and in the grammar of replication commands. A NUL makes b failed. */
void sql_put_literal(struct buf *b, struct str text);

struct sql_state {
    const char *prefix; /* of the SQLSTATE, the longest that fits counts */
    int code;           /* ERR_* */
    const char *advice; /* a static sentence: what to do; never NULL */
};
/* The row for a SQLSTATE of five characters; an unknown one is REFUSED (a person must look), an
 * empty one CLOSED. */
const struct sql_state *sql_state_find(const char *sqlstate);

#endif
