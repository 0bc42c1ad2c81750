#include "sinks/elasticsearch/es_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/httpc.h"
#include "proto/base/xmalloc.h"
#include "sinks/elasticsearch/es_index.h"
#include "sinks/elasticsearch/es_scan.h"

enum {
    VERSIONS_MAX = 4096,
    TRIES = 3,
    DELETES_MIN_S = 3600,
    FIELDS_PLENTY = 1000, /* that an index takes unless told otherwise */
    FIELDS_PER_COLUMN = 3
};

struct es_tables {
    struct es_conn *conn;
    struct es_tables_conf conf;
    struct es_table **tables;
    struct es_version **versions; /* in order of schema_id */
    size_t n_tables, n_versions;
    uint64_t next; /* of the batch that is being written */
    struct es_seen_history history;
};

/* ---- life ---- */

struct es_tables *
es_tables_new(struct es_conn *c, const struct es_tables_conf *conf)
{
    struct es_tables *t = xcalloc(1, sizeof *t);
    t->conn = c;
    t->conf = *conf;
    memcpy(t->history.uuid, conf->uuid, sizeof t->history.uuid);
    return t;
}

static void
free_table(struct es_table *table)
{
    free((void *)(uintptr_t)table->ns.p);
    free((void *)(uintptr_t)table->name.p);
    free((void *)(uintptr_t)table->alias.p);
    free(table);
}

static void
forget(struct es_tables *t)
{
    for (size_t i = 0; i < t->n_versions; i++) {
        es_shape_free(t->versions[i]->shape);
        free(t->versions[i]);
    }
    for (size_t i = 0; i < t->n_tables; i++) {
        free_table(t->tables[i]);
    }
    t->n_versions = t->n_tables = 0;
}

void
es_tables_free(struct es_tables *t)
{
    if (t == NULL) {
        return;
    }
    forget(t);
    free(t->tables);
    free(t->versions);
    free(t);
}

void
es_tables_begin(struct es_tables *t, uint64_t next, uint64_t floor)
{
    if (t->n_versions > VERSIONS_MAX || floor != t->history.floor) {
        forget(t);
    }
    t->next = next;
    t->history.floor = floor;
}

/* ---- requests ---- */

/* METHOD /NAMEsuffix */
static int
call(struct es_tables *t, const char *method, struct str name, const char *suffix,
    struct str body, struct es_answer *a, struct err *e)
{
    struct buf auto_buf path;
    buf_init(&path, SIZE_MAX);
    buf_putc(&path, '/');
    httpc_put_escaped(&path, name);
    buf_puts(&path, suffix);
    return es_conn_call(t->conn,
        &(struct es_request){.method = method, .path = buf_cstr(&path), .body = body}, a, e);
}

static int
refused(struct es_tables *t, const struct es_answer *a, const char *what, struct str name,
    struct err *e)
{
    char text[320];
    (void)snprintf(text, sizeof text, "%s %.*s", what, (int)name.n, name.p);
    return es_conn_refused(t->conn, a, text, e);
}

/* ---- whose index it is ---- */

static bool
is_of_this_log(const struct es_tables *t, const struct es_live *live)
{
    return live->has_meta && memcmp(live->uuid, t->conf.uuid, sizeof live->uuid) == 0;
}

#define ELSE_INDEX                                                                             \
    "give the sink another `index`, or delete it and replay the sink from earliest (as long "  \
    "as the log still has what it was first given: retain_age)"

/* What can be told without the table's schema. */
static int
verify_owner(
    const struct es_tables *t, struct str alias, const struct es_live *live, struct err *e)
{
    int an = (int)alias.n;
    if (live->indices != 1) {
        return err_set(e, ERR_FOREIGN,
            "the alias %.*s stands for %zu indices, and a table has one. Take the others away "
            "from the alias",
            an, alias.p, live->indices);
    }
    if (str_eq(live->index, alias)) {
        return err_set(e, ERR_FOREIGN,
            "%.*s is an index and not an alias of oneslot's: " ELSE_INDEX, an, alias.p);
    }
    if (live->is_newer) {
        return err_set(e, ERR_NEWER,
            "the index %.*s was made by a newer oneslot: run that version, or " ELSE_INDEX,
            (int)live->index.n, live->index.p);
    }
    if (!live->has_meta) {
        return err_set(e, ERR_FOREIGN,
            "the index %.*s (alias %.*s) was not made by oneslot: " ELSE_INDEX,
            (int)live->index.n, live->index.p, an, alias.p);
    }
    if (!is_of_this_log(t, live)) {
        return err_set(e, ERR_FOREIGN,
            "the index %.*s (alias %.*s) is fed from another log, whose versions mean nothing "
            "here: " ELSE_INDEX,
            (int)live->index.n, live->index.p, an, alias.p);
    }
    if (live->epoch > t->conf.epoch) {
        return err_set(e, ERR_FOREIGN,
            "the index %.*s holds documents of epoch %" PRIu64
            " of this log, which is at %" PRIu64 ": the log is an older copy. Bring the newer "
            "one back, or " ELSE_INDEX,
            (int)live->index.n, live->index.p, live->epoch, t->conf.epoch);
    }
    return 0;
}

/* s: NULL when the table's schema is not known. */
static int
verify_table(const struct es_tables *t, const struct es_table *table, const struct schema *s,
    const struct es_live *live, struct err *e)
{
    int rc = verify_owner(t, table->alias, live, e);
    bool is_it = s == NULL ? es_reply_is_named(live, table->ns, table->name)
                           : es_reply_is_of_table(live, s);
    if (rc == 0 && !is_it) {
        rc = err_set(e, ERR_FOREIGN,
            "the index %.*s holds the table %.*s.%.*s with the key %.*s, and that is not "
            "%.*s.%.*s as it is now: " ELSE_INDEX,
            (int)live->index.n, live->index.p, (int)live->ns.n, live->ns.p, (int)live->table.n,
            live->table.p, (int)live->keys.n, live->keys.p, (int)table->ns.n, table->ns.p,
            (int)table->name.n, table->name.p);
    }
    return rc;
}

/* ---- making it ready ---- */

static int
adopt(struct es_tables *t, const struct schema *s, const struct es_live *live, struct err *e)
{
    struct es_meta meta = {.epoch = t->conf.epoch, .generation = live->generation};
    struct buf auto_buf body;
    struct es_answer a;
    memcpy(meta.uuid, t->conf.uuid, sizeof meta.uuid);
    buf_init(&body, SIZE_MAX);
    es_mapping_put_owner(&body, s, &meta);
    int rc = call(t, "PUT", live->index, "/_mapping", buf_str(&body), &a, e);
    return rc != 0 || a.status == 200
               ? rc
               : refused(t, &a, "cannot write the new epoch into", live->index, e);
}

static int
extend(struct es_tables *t, const struct schema *s, const struct es_live *live,
    const bool *is_new, struct err *e)
{
    struct buf auto_buf body;
    struct es_answer a;
    int rc = 0;
    buf_init(&body, SIZE_MAX);
    if (live->fields + FIELDS_PER_COLUMN * (size_t)s->ncols > FIELDS_PLENTY) {
        es_mapping_put_limit(&body, s, live->fields);
        rc = call(t, "PUT", live->index, "/_settings", buf_str(&body), &a, e);
        if (rc == 0 && a.status != 200) {
            rc = refused(t, &a, "cannot raise the number of fields of", live->index, e);
        }
    }
    buf_reset(&body, SIZE_MAX);
    es_mapping_put_extension(&body, &t->conf.dialect, s, t->conf.overrides, is_new);
    if (rc == 0) {
        rc = call(t, "PUT", live->index, "/_mapping", buf_str(&body), &a, e);
    }
    return rc != 0 || a.status == 200
               ? rc
               : refused(t, &a, "cannot add columns to the mapping of", live->index, e);
}

/* An index that is there: ours, and with all columns. live points into memory of ours. */
static int
accept_live(struct es_tables *t, const struct es_table *table, const struct schema *s,
    const struct es_live *live, struct err *e)
{
    int rc = verify_table(t, table, s, live, e);
    if (rc == 0 && live->epoch < t->conf.epoch) {
        rc = adopt(t, s, live, e);
    }
    if (rc != 0) {
        return rc;
    }
    bool *is_new = xcalloc(s->ncols == 0 ? 1 : s->ncols, sizeof *is_new);
    rc = es_mapping_find_new(s, t->conf.overrides, live->properties, is_new, e);
    if (rc > 0) {
        rc = extend(t, s, live, is_new, e);
    }
    free(is_new);
    return rc;
}

/* *ret_exists: somebody else has made it meanwhile, or it stands there without its alias. */
static int
create(struct es_tables *t, const struct schema *s, struct str alias, bool *ret_exists,
    struct err *e)
{
    struct es_meta meta = {.epoch = t->conf.epoch, .generation = ES_INDEX_FIRST_GENERATION};
    struct buf auto_buf body, index;
    struct es_answer a;
    memcpy(meta.uuid, t->conf.uuid, sizeof meta.uuid);
    buf_init(&body, SIZE_MAX);
    buf_init(&index, SIZE_MAX);
    es_mapping_put_create(&body, &t->conf.dialect, s, t->conf.overrides, &meta, alias);
    es_index_put_generation(&index, alias, ES_INDEX_FIRST_GENERATION);
    int rc = call(t, "PUT", buf_str(&index), "", buf_str(&body), &a, e);
    if (rc != 0) {
        return rc;
    }
    *ret_exists =
        a.status != 200 && es_reply_is_error(a.body, "resource_already_exists_exception");
    return a.status == 200 || *ret_exists
               ? 0
               : refused(t, &a, "cannot create the index", buf_str(&index), e);
}

/* One look: *ret_missing when there is nothing of that name. */
static int
look(struct es_tables *t, const struct es_table *table, const struct schema *s,
    bool *ret_missing, struct err *e)
{
    struct es_answer a;
    struct es_live live;
    int rc = call(t, "GET", table->alias, "/_mapping", (struct str){0}, &a, e);
    if (rc != 0) {
        return rc;
    }
    *ret_missing = a.status == 404 && es_reply_is_error(a.body, "index_not_found_exception");
    if (*ret_missing) {
        return 0;
    }
    if (a.status != 200) {
        return refused(t, &a, "cannot look at the index", table->alias, e);
    }
    struct buf auto_buf body; /* live outlasts further calls */
    buf_init(&body, SIZE_MAX);
    buf_put_str(&body, a.body);
    rc = es_reply_mapping(buf_str(&body), &live, e);
    if (rc != 0) {
        return rc;
    }
    return s == NULL ? verify_table(t, table, NULL, &live, e)
                     : accept_live(t, table, s, &live, e);
}

static int
gone(struct es_tables *t, struct str alias, struct err *e)
{
    uint64_t from = t->history.floor;
    (void)es_seen_get(t->conf.seen, &t->history, alias, &from);
    return err_set(e, ERR_FOREIGN,
        "the alias %.*s is gone, and with it what the sink had written since offset %" PRIu64
        ". Bring it back, or replay the sink from earliest: it makes a new index and fills it. "
        "Where the log begins later than that, only a sink that is forgotten and begins anew "
        "makes one, without what the log no longer has",
        (int)alias.n, alias.p, from);
}

/* Whether the index held what is not written again: its first record is settled. Until then it
 * holds nothing else, because a table's first record of a session comes alone (sinks/sink.h).
 * Compared with that record and not with where the sink stood: how far that is before a record
 * depends on how batches were cut, and a replay must not. */
static bool
was_filled(struct es_tables *t, struct str alias)
{
    uint64_t from = 0;
    return es_seen_get(t->conf.seen, &t->history, alias, &from) && from < t->next;
}

/* Makes the missing index, unless it was filled before: then a second look, that another lane
 * has made it meanwhile, was in vain too. *ret_again: look once more. */
static int
make_missing(struct es_tables *t, const struct es_table *table, const struct schema *s,
    bool is_last_look, bool *ret_again, struct err *e)
{
    if (was_filled(t, table->alias)) {
        *ret_again = !is_last_look;
        return is_last_look ? gone(t, table->alias, e) : 0;
    }
    return create(t, s, table->alias, ret_again, e);
}

static int
remember(struct es_tables *t, struct str alias, uint64_t offset, struct err *e)
{
    int rc = es_seen_put(t->conf.seen, &t->history, alias, offset, e);
    return rc == 0 ? 0
                   : err_prefix(e, "nothing is written to %.*s before that is remembered",
                         (int)alias.n, alias.p);
}

/* What an index holds that is found and that nothing is known of may be as old as this history.
 */
static uint64_t
first_record(struct es_tables *t, struct str alias, const struct record *r, bool is_found)
{
    uint64_t from;
    bool is_known = es_seen_get(t->conf.seen, &t->history, alias, &from);
    return is_found && !is_known ? t->history.floor : r->offset;
}

static int
make_ready(
    struct es_tables *t, const struct es_table *table, const struct record *r, struct err *e)
{
    for (unsigned i = 0; i < TRIES; i++) {
        bool is_missing = false, again = false;
        int rc = look(t, table, r->schema, &is_missing, e);
        bool is_found = i == 0 && !is_missing;
        if (rc == 0 && is_missing) {
            rc = make_missing(t, table, r->schema, i > 0, &again, e);
        }
        if (rc == 0 && !again) {
            return remember(t, table->alias, first_record(t, table->alias, r, is_found), e);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return err_set(e, ERR_FOREIGN,
        "the index %.*s-000001 exists and the alias %.*s does not: add the alias to it, or "
        "delete the index and replay the sink from earliest",
        (int)table->alias.n, table->alias.p, (int)table->alias.n, table->alias.p);
}

/* ---- what is known ---- */

static struct str
copy_str(struct str s)
{
    return (struct str){.p = xstrndup(s.n == 0 ? "" : s.p, s.n), .n = s.n};
}

static int
shared_by(const struct es_table *a, struct str ns, struct str name, struct err *e)
{
    return err_set(e, ERR_CONFIG,
        "the tables %.*s.%.*s and %.*s.%.*s would share the index %.*s: leave one of them out "
        "by `tables`, or give `index` both of {schema} and {table}",
        (int)a->ns.n, a->ns.p, (int)a->name.n, a->name.p, (int)ns.n, ns.p, (int)name.n, name.p,
        (int)a->alias.n, a->alias.p);
}

static int
no_key(struct str ns, struct str name, struct err *e)
{
    return err_set(e, ERR_CONFIG,
        "the table %.*s.%.*s has no key, and a document's id is made of it: give it a primary "
        "key or a REPLICA IDENTITY of an index, or leave it out by the sink's `tables`",
        (int)ns.n, ns.p, (int)name.n, name.p);
}

/* The table of that name, or one that was added. */
static int
find_table(
    struct es_tables *t, const struct schema *s, const struct es_table **ret, struct err *e)
{
    struct buf auto_buf alias;
    buf_init(&alias, SIZE_MAX);
    int rc = es_index_put_alias(&alias, str_from(t->conf.index), s->ns, s->name, e);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < t->n_tables; i++) {
        const struct es_table *have = t->tables[i];
        if (str_eq(have->ns, s->ns) && str_eq(have->name, s->name)) {
            *ret = have;
            return 0;
        }
        if (str_eq(have->alias, buf_str(&alias))) {
            return shared_by(have, s->ns, s->name, e);
        }
    }
    struct es_table *table = xcalloc(1, sizeof *table);
    *table = (struct es_table){
        .ns = copy_str(s->ns), .name = copy_str(s->name), .alias = copy_str(buf_str(&alias))};
    t->tables = xreallocarray(t->tables, t->n_tables + 1, sizeof *t->tables);
    t->tables[t->n_tables++] = table;
    *ret = table;
    return 0;
}

/* Where a version of that id is, or would be. */
static size_t
place_of(const struct es_tables *t, uint32_t schema_id)
{
    size_t lo = 0, hi = t->n_versions;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (t->versions[mid]->schema_id < schema_id) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static const struct es_version *
add_version(
    struct es_tables *t, size_t at, const struct schema *s, const struct es_table *table)
{
    struct es_version *v = xcalloc(1, sizeof *v);
    *v = (struct es_version){
        .schema_id = s->id, .table = table, .shape = es_shape_new(s, t->conf.overrides)};
    t->versions = xreallocarray(t->versions, t->n_versions + 1, sizeof *t->versions);
    memmove(&t->versions[at + 1], &t->versions[at], (t->n_versions - at) * sizeof *t->versions);
    t->versions[at] = v;
    t->n_versions++;
    return v;
}

int
es_tables_find(
    struct es_tables *t, const struct record *r, const struct es_version **ret, struct err *e)
{
    const struct schema *s = r->schema;
    const struct es_table *table = NULL;
    size_t at = place_of(t, s->id);
    if (at < t->n_versions && t->versions[at]->schema_id == s->id) {
        *ret = t->versions[at];
        return 0;
    }
    if (s->nkeys == 0) {
        return no_key(s->ns, s->name, e);
    }
    int rc = find_table(t, s, &table, e);
    if (rc == 0) {
        rc = make_ready(t, table, r, e);
    }
    if (rc == 0) {
        *ret = add_version(t, at, s, table);
    }
    return rc;
}

int
es_tables_look_again(struct es_tables *t, struct str alias, struct err *e)
{
    bool is_missing = false;
    size_t i = 0;
    while (i < t->n_tables && !str_eq(t->tables[i]->alias, alias)) {
        i++;
    }
    CHECK(i < t->n_tables); /* what was written was found before */
    int rc = look(t, t->tables[i], NULL, &is_missing, e);
    if (rc == 0 && is_missing) {
        rc = gone(t, alias, e);
    }
    return rc;
}

/* ---- check ---- */

/* {"INDEX":{"settings":{"index":{"gc_deletes":"60s"}}}}: seconds; -1 when it is not set. */
static int64_t
read_gc_deletes(struct str body)
{
    static const char *const way[] = {NULL, "settings", "index", "gc_deletes"};
    struct es_scan sc = es_scan_of(body);
    struct str key, text;
    int64_t ms = 0;
    for (size_t level = 0; level < sizeof way / sizeof way[0]; level++) {
        bool is_first = true, is_there = false;
        if (!es_scan_object(&sc)) {
            return -1;
        }
        while (!is_there && es_scan_member(&sc, &is_first, &key)) {
            is_there = way[level] == NULL || str_is(key, way[level]);
            if (!is_there) {
                es_scan_skip(&sc);
            }
        }
        if (!is_there) {
            return -1;
        }
    }
    return es_scan_string(&sc, &text) && conf_parse_duration(text, &ms) ? ms / 1000 : -1;
}

static void
put_line(struct buf *lines, const char *kind, const char *text)
{
    buf_printf(lines, "%s: %s\n", kind, text);
}

static int
check_settings(struct es_tables *t, struct str alias, struct buf *lines, struct err *e)
{
    struct es_answer a;
    int rc = call(t, "GET", alias, "/_settings/index.gc_deletes", (struct str){0}, &a, e);
    if (rc != 0 || a.status != 200) {
        return rc;
    }
    if (read_gc_deletes(a.body) < DELETES_MIN_S) {
        buf_printf(lines,
            "warning: the index behind %.*s forgets deleted documents too early: set its "
            "index.gc_deletes to 1h\n",
            (int)alias.n, alias.p);
    }
    return 0;
}

/* Something about the table, or about reaching the server? */
static bool
is_about_table(int rc)
{
    return err_class(rc) == ERR_CLASS_STOP && rc != ERR_AUTH;
}

static int
check_index(struct es_tables *t, const struct es_table *table, struct buf *lines, struct err *e)
{
    bool is_missing = false;
    int rc = look(t, table, NULL, &is_missing, e);
    if (rc != 0 && is_about_table(rc)) {
        put_line(lines, "fault", e->msg);
        return 0;
    }
    return rc != 0 || is_missing ? rc : check_settings(t, table->alias, lines, e);
}

/* Tables by the names of their indices. */
struct named {
    struct buf alias;         /* empty: it can have none */
    const struct named *twin; /* an earlier table of that alias, or NULL */
};

static int
by_alias(const void *a, const void *b)
{
    const struct named *x = *(const struct named *const *)a,
                       *y = *(const struct named *const *)b;
    if (x->alias.n != y->alias.n) {
        return x->alias.n < y->alias.n ? -1 : 1;
    }
    int order = x->alias.n == 0 ? 0 : memcmp(x->alias.p, y->alias.p, x->alias.n);
    return order != 0 ? order : (x > y) - (x < y); /* the order in which they came */
}

static void
find_twins(struct named *v, size_t n)
{
    struct named **order = xcalloc(n + 1, sizeof *order);
    for (size_t i = 0; i < n; i++) {
        order[i] = &v[i];
    }
    qsort(order, n, sizeof *order, by_alias);
    for (size_t i = 1; i < n; i++) {
        if (str_eq(buf_str(&order[i - 1]->alias), buf_str(&order[i]->alias))) {
            order[i]->twin = order[i - 1];
        }
    }
    free(order);
}

static struct named *
name_tables(const char *index, const struct sink_table *tables, size_t n)
{
    struct named *v = xcalloc(n + 1, sizeof *v);
    for (size_t i = 0; i < n; i++) {
        buf_init(&v[i].alias, SIZE_MAX);
        if (es_index_put_alias(
                &v[i].alias, str_from(index), tables[i].ns, tables[i].name, NULL) != 0) {
            buf_reset(&v[i].alias, SIZE_MAX);
        }
    }
    find_twins(v, n);
    return v;
}

static void
free_named(struct named *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        buf_fini(&v[i].alias);
    }
    free(v);
}

static int
accept_one(const char *index, const struct sink_table *tables, const struct named *v, size_t i,
    struct err *e)
{
    const struct sink_table *table = &tables[i];
    if (v[i].alias.n == 0) {
        struct buf auto_buf none;
        buf_init(&none, SIZE_MAX);
        return es_index_put_alias(&none, str_from(index), table->ns, table->name, e);
    }
    if (!table->has_key) {
        return no_key(table->ns, table->name, e);
    }
    if (v[i].twin != NULL) {
        const struct sink_table *first = &tables[v[i].twin - v];
        struct es_table other = {
            .ns = first->ns, .name = first->name, .alias = buf_str(&v[i].alias)};
        return shared_by(&other, table->ns, table->name, e);
    }
    return 0;
}

int
es_tables_accept(const char *index, const struct sink_table *tables, size_t n, struct err *e)
{
    struct named *v = name_tables(index, tables, n);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = accept_one(index, tables, v, i, e);
    }
    free_named(v, n);
    return rc;
}

static int
check_one(struct es_tables *t, const struct sink_table *tables, const struct named *v, size_t i,
    struct buf *lines, struct err *e)
{
    if (accept_one(t->conf.index, tables, v, i, e) != 0) {
        put_line(lines, "fault", e->msg);
    }
    struct es_table named = {
        .ns = tables[i].ns, .name = tables[i].name, .alias = buf_str(&v[i].alias)};
    return named.alias.n == 0 ? 0 : check_index(t, &named, lines, e);
}

int
es_tables_check(struct es_tables *t, const struct sink_table *tables, size_t n,
    struct buf *lines, struct err *e)
{
    struct named *v = name_tables(t->conf.index, tables, n);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = check_one(t, tables, v, i, lines, e);
    }
    free_named(v, n);
    return rc;
}
