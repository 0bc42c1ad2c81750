/* filter: see filter.h. */
#include "broker/filter.h"

#include <stdlib.h>

#include "proto/base/xmalloc.h"
#include "proto/glob.h"
#include "proto/record.h"

/* Takes what stands before the next comma off the front of *rest, spaces around it removed;
 * false at the end. */
static bool
next_item(struct str *rest, bool *is_first, struct str *ret)
{
    if (rest->n == 0 && !*is_first) {
        return false;
    }
    if (!*is_first) {
        rest->p++; /* the comma */
        rest->n--;
    }
    *is_first = false;
    const char *comma = rest->n == 0 ? NULL : memchr(rest->p, ',', rest->n);
    struct str item = {rest->p, comma == NULL ? rest->n : (size_t)(comma - rest->p)};
    rest->p += item.n;
    rest->n -= item.n;
    while (item.n > 0 && item.p[0] == ' ') {
        item.p++;
        item.n--;
    }
    while (item.n > 0 && item.p[item.n - 1] == ' ') {
        item.n--;
    }
    *ret = item;
    return true;
}

static int
parse_tables(struct filter *f, struct str tables, struct err *e)
{
    struct str item;
    bool is_first = true;
    while (next_item(&tables, &is_first, &item)) {
        int rc = glob_check(item, e);
        if (rc != 0) {
            return err_prefix(e, "tables");
        }
        if (f->npatterns == FILTER_PATTERNS_MAX) {
            return err_set(e, ERR_PARSE, "tables: more than %d patterns", FILTER_PATTERNS_MAX);
        }
        f->pattern[f->npatterns++] = item;
    }
    return 0;
}

static int
parse_ops(struct filter *f, struct str ops, struct err *e)
{
    struct str item;
    bool is_first = true;
    while (next_item(&ops, &is_first, &item)) {
        uint8_t op;
        if (!record_op_parse(item, &op)) {
            return err_set(e, ERR_PARSE,
                "ops: one or more of insert, update, delete, truncate, read, message, "
                "separated by commas");
        }
        f->ops |= 1u << op;
    }
    return 0;
}

int
filter_init(struct filter *f, struct str tables, struct str ops, struct err *e)
{
    if (tables.n > FILTER_TEXT_MAX) {
        return err_set(e, ERR_PARSE, "tables: longer than %d bytes", FILTER_TEXT_MAX);
    }
    *f = (struct filter){0};
    int rc = 0;
    if (tables.n > 0) {
        f->text = xstrndup(tables.p, tables.n);
        rc = parse_tables(f, (struct str){f->text, tables.n}, e);
    }
    if (rc == 0 && ops.n > 0) {
        rc = parse_ops(f, ops, e);
    }
    if (rc != 0) {
        filter_fini(f);
    }
    return rc;
}

void
filter_fini(struct filter *f)
{
    free(f->text);
    f->text = NULL;
    f->npatterns = 0;
}

bool
filter_wants(struct filter *f, uint8_t op, const struct schema *s)
{
    if (f->ops != 0 && (f->ops & 1u << op) == 0) {
        return false;
    }
    if (f->npatterns == 0) {
        return true;
    }
    if (s == NULL) {
        return false;
    }
    size_t at = s->id % FILTER_CACHE;
    if (f->cache[at].id != s->id) {
        f->cache[at].id = s->id;
        f->cache[at].is_wanted = glob_match_any(f->pattern, f->npatterns, s->ns, s->name);
    }
    return f->cache[at].is_wanted;
}
