/* relcache: see relcache.h. Two hash tables of one allocation per entry. Must not know the
 * catalogue (keys under FULL are told) nor rows. In a streamed transaction the server describes
 * tables again, so one cache serves until streaming is asked for; then each such transaction
 * needs an overlay of its own. */
#include "replicator/relcache.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/check.h"
#include "proto/base/xmalloc.h"

struct type { /* the text follows */
    struct relcache_entry entry;
    struct str name; /* "SCHEMA.NAME" */
};

static const struct str pg_catalog = {.p = "pg_catalog", .n = sizeof "pg_catalog" - 1};

/* ---- tables of entries ---- */

/* Where the oid is, or would go; the table has a free slot. */
static struct relcache_entry **
place_of(const struct relcache_table *t, uint32_t oid)
{
    size_t mask = t->nslots - 1;
    size_t at = (size_t)(oid * UINT64_C(0x9E3779B97F4A7C15) >> 32) & mask;
    while (t->slots[at] != NULL && t->slots[at]->oid != oid) {
        at = (at + 1) & mask;
    }
    return &t->slots[at];
}

static inline void *
find(const struct relcache_table *t, uint32_t oid)
{
    return t->nslots == 0 ? NULL : *place_of(t, oid);
}

/* Makes room for one more. */
static void
grow(struct relcache_table *t)
{
    if (t->n < t->nslots / 2) {
        return;
    }
    struct relcache_table to = {.n = t->n, .nslots = t->nslots == 0 ? 64 : 2 * t->nslots};
    to.slots = xcalloc(to.nslots, sizeof *to.slots);
    for (size_t i = 0; i < t->nslots; i++) {
        if (t->slots[i] != NULL) {
            *place_of(&to, t->slots[i]->oid) = t->slots[i];
        }
    }
    free(t->slots);
    *t = to;
}

/* Counts `more` bytes for an entry that will replace `former` (or NULL). */
static int
reserve(struct relcache *c, size_t more, const struct relcache_entry *former, struct err *e)
{
    size_t kept = c->bytes - (former == NULL ? 0 : former->bytes);
    if (more > c->max_bytes || kept > c->max_bytes - more) {
        return err_set(e, ERR_BUSY,
            "the tables and types described on this connection take more than %zu bytes (%zu "
            "tables, %zu "
            "types): reconnect to begin with none",
            c->max_bytes, c->relations.n, c->types.n);
    }
    c->bytes = kept + more;
    return 0;
}

/* Puts an entry in the place of its oid, and frees the former one. */
static void
replace(struct relcache_table *t, struct relcache_entry *entry)
{
    grow(t);
    struct relcache_entry **place = place_of(t, entry->oid);
    t->n += *place == NULL;
    free(*place);
    *place = entry;
}

static void
clear(struct relcache_table *t)
{
    for (size_t i = 0; i < t->nslots; i++) {
        free(t->slots[i]);
    }
    free(t->slots);
    *t = (struct relcache_table){0};
}

/* ---- copies ---- */

/* Copies s to *to and moves *to behind it. */
static struct str
copy(char **to, struct str s)
{
    struct str copied = {.p = *to, .n = s.n};
    if (s.n > 0) {
        memcpy(*to, s.p, s.n);
    }
    *to += s.n;
    return copied;
}

static struct str
namespace_of(struct str ns)
{
    return ns.n == 0 ? pg_catalog : ns;
}

static struct str
type_name_of(const struct relcache *c, uint32_t oid)
{
    const struct type *t = find(&c->types, oid);
    return t == NULL ? (struct str){.p = "", .n = 0} : t->name;
}

static size_t
relation_bytes(const struct relcache *c, const struct pgoutput_relation *r)
{
    size_t n = sizeof(struct relation) + r->ncols * sizeof(struct schema_col) + r->name.n +
               namespace_of(r->ns).n;
    for (uint32_t i = 0; i < r->ncols; i++) {
        n += r->cols[i].name.n + type_name_of(c, r->cols[i].typoid).n;
    }
    return n;
}

static struct relation *
relation_new(const struct relcache *c, const struct pgoutput_relation *r, size_t bytes)
{
    struct relation *rel = xcalloc(1, bytes);
    rel->entry = (struct relcache_entry){.oid = r->relid, .bytes = bytes};
    rel->needs_key = r->replident == 'f';
    struct schema *s = &rel->schema;
    s->cols = (struct schema_col *)(void *)(rel + 1);
    char *text = (char *)(s->cols + r->ncols);
    s->relid = r->relid;
    s->replident = r->replident;
    s->raw_text = c->raw_text;
    s->ncols = r->ncols;
    s->ns = copy(&text, namespace_of(r->ns));
    s->name = copy(&text, r->name);
    for (uint32_t i = 0; i < r->ncols; i++) {
        const struct pgoutput_column *from = &r->cols[i];
        s->cols[i] = (struct schema_col){.name = copy(&text, from->name),
            .typoid = from->typoid,
            .typmod = from->typmod,
            .type_name = copy(&text, type_name_of(c, from->typoid)),
            .in_key = from->is_key && !rel->needs_key};
        s->nkeys += s->cols[i].in_key;
    }
    CHECK(text == (char *)rel + bytes);
    return rel;
}

/* Everything but the key under FULL, which relcache_set_key compares. */
static bool
is_same_shape(const struct schema *a, const struct schema *b)
{
    if (a->ncols != b->ncols || a->replident != b->replident || !str_eq(a->ns, b->ns) ||
        !str_eq(a->name, b->name)) {
        return false;
    }
    for (uint32_t i = 0; i < a->ncols; i++) {
        const struct schema_col *x = &a->cols[i], *y = &b->cols[i];
        if (x->typoid != y->typoid || x->typmod != y->typmod || !str_eq(x->name, y->name) ||
            !str_eq(x->type_name, y->type_name) ||
            (a->replident != 'f' && x->in_key != y->in_key)) {
            return false;
        }
    }
    return true;
}

/* The version and, under FULL, the key go on until the caller has asked for the key again. */
static void
inherit(struct schema *to, const struct schema *from)
{
    to->id = from->id;
    to->nkeys = from->nkeys;
    for (uint32_t i = 0; i < to->ncols; i++) {
        to->cols[i].in_key = from->cols[i].in_key;
    }
}

/* ---- the interface ---- */

void
relcache_init(struct relcache *c, size_t max_bytes, bool raw_text)
{
    *c = (struct relcache){.max_bytes = max_bytes, .raw_text = raw_text};
}

void
relcache_reset(struct relcache *c)
{
    clear(&c->relations);
    clear(&c->types);
    relcache_init(c, c->max_bytes, c->raw_text);
}

void
relcache_fini(struct relcache *c)
{
    relcache_reset(c);
}

int
relcache_put(
    struct relcache *c, const struct pgoutput_relation *r, struct relation **ret, struct err *e)
{
    struct relation *former = find(&c->relations, r->relid);
    size_t bytes = relation_bytes(c, r);
    int rc = reserve(c, bytes, former == NULL ? NULL : &former->entry, e);
    if (rc != 0) {
        return rc;
    }
    struct relation *rel = relation_new(c, r, bytes);
    if (former != NULL && is_same_shape(&rel->schema, &former->schema)) {
        inherit(&rel->schema, &former->schema);
    }
    replace(&c->relations, &rel->entry);
    *ret = rel;
    return 0;
}

int
relcache_put_type(struct relcache *c, const struct pgoutput_typ *t, struct err *e)
{
    struct str ns = namespace_of(t->ns);
    size_t name_bytes = ns.n + 1 + t->name.n, bytes = sizeof(struct type) + name_bytes;
    int rc = reserve(c, bytes, find(&c->types, t->oid), e);
    if (rc != 0) {
        return rc;
    }
    struct type *type = xcalloc(1, bytes);
    char *text = (char *)(type + 1);
    type->entry = (struct relcache_entry){.oid = t->oid, .bytes = bytes};
    type->name = (struct str){.p = text, .n = name_bytes};
    (void)copy(&text, ns);
    *text++ = '.';
    (void)copy(&text, t->name);
    replace(&c->types, &type->entry);
    return 0;
}

bool
relcache_is_same(const struct relation *a, const struct relation *b)
{
    if (a->needs_key || b->needs_key || !is_same_shape(&a->schema, &b->schema)) {
        return false;
    }
    for (uint32_t i = 0; i < a->schema.ncols; i++) {
        if (a->schema.cols[i].in_key != b->schema.cols[i].in_key) {
            return false;
        }
    }
    return true;
}

struct relation *
relcache_find(const struct relcache *c, uint32_t relid)
{
    return find(&c->relations, relid);
}

static bool
is_among(struct str name, const struct str *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (str_eq(name, names[i])) {
            return true;
        }
    }
    return false;
}

bool
relcache_set_key(struct relation *rel, const struct str *names, size_t n)
{
    struct schema *s = &rel->schema;
    CHECK(s->replident == 'f');
    size_t found = 0;
    for (uint32_t i = 0; i < s->ncols; i++) {
        found += is_among(s->cols[i].name, names, n);
    }
    bool is_whole = found == n;
    s->nkeys = 0;
    for (uint32_t i = 0; i < s->ncols; i++) {
        bool in_key = is_whole && is_among(s->cols[i].name, names, n);
        if (s->cols[i].in_key != in_key) {
            s->cols[i].in_key = in_key;
            s->id = 0;
        }
        s->nkeys += in_key;
    }
    rel->needs_key = false;
    return is_whole;
}
