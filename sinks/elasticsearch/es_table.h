/* es_table: the index behind each table. Sees to it, before the first record of a table or of a
 * new version of it is written, that its alias stands for one index that holds this table of
 * this log and nothing else, and that the mapping has the columns; makes the index when there
 * is none. Owns what is known of tables and the documents' shapes. One thread; other lanes and
 * workers may do the same at the same time. */
#ifndef ONESLOT_SINKS_ELASTICSEARCH_ES_TABLE_H
#define ONESLOT_SINKS_ELASTICSEARCH_ES_TABLE_H

#include "sinks/elasticsearch/es_conn.h"
#include "sinks/elasticsearch/es_mapping.h"
#include "sinks/elasticsearch/es_render.h"
#include "sinks/elasticsearch/es_seen.h"

struct es_table {
    struct str ns, name; /* in PostgreSQL */
    struct str alias;
};

/* A table as one schema version has it. */
struct es_version {
    uint32_t schema_id;
    const struct es_table *table;
    struct es_shape *shape;
};

struct es_tables_conf {
    struct es_dialect dialect;
    const char *index;                 /* the template; passed es_index_check_template */
    const struct conf_node *overrides; /* of the mapping; passed es_mapping_check */
    uint8_t uuid[16];
    uint64_t epoch;
    struct es_seen *seen; /* NULL: only for es_tables_check */
};

struct es_tables;
/* conf is copied; what it points to and the connection are borrowed until free. */
struct es_tables *es_tables_new(struct es_conn *c, const struct es_tables_conf *conf);
void es_tables_free(struct es_tables *t); /* accepts NULL */

/* The version of a record's schema, its index made ready the first time. Borrowed until begin.
 * ERR_CONFIG: no key, a name that no index can have, or two tables of one index. ERR_FOREIGN:
 * the index is somebody else's, or gone. Others as es_conn and es_seen. */
int es_tables_find(struct es_tables *t, const struct record *r, const struct es_version **ret,
    struct err *e) MUST_CHECK;
/* Before each write, with the batch's places. Forgets everything where another history begins,
 * and once very much is known. */
void es_tables_begin(struct es_tables *t, uint64_t next, uint64_t floor);

/* After the server said that a table's alias is gone. 0: it is there after all; ERR_FOREIGN:
 * gone, or no longer what it was; others as es_conn. Makes nothing. */
int es_tables_look_again(struct es_tables *t, struct str alias, struct err *e) MUST_CHECK;

/* Pure: sink_ops' accepts for an index template. */
int es_tables_accept(
    const char *index, const struct sink_table *tables, size_t n, struct err *e) MUST_CHECK;
/* Appends a line "fault: ..." or "warning: ..." for each table that this target cannot take.
 * Changes nothing. */
int es_tables_check(struct es_tables *t, const struct sink_table *tables, size_t n,
    struct buf *lines, struct err *e) MUST_CHECK;

#endif
