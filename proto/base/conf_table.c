/* conf_table: a mapping into a struct by a conf_field table. It owns the checks of keys, types
 * and ranges; the tree comes from conf.c. Messages name the key and never repeat the value. */
#include <stdlib.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/conf.h"
#include "proto/base/conf_value.h"
#include "proto/base/xmalloc.h"

static int
no_value(const struct conf_node *n, const struct conf_field *f, struct err *e)
{
    return conf_error(
        n, e, "`%s` has no value; give it one, or remove the key for its default", f->name);
}

static int
check_range(const struct conf_node *n, const struct conf_field *f, int64_t v, struct err *e)
{
    auto_buf struct buf b = {0};

    if ((f->min == 0 && f->max == 0) || (v >= f->min && v <= f->max)) {
        return 0;
    }
    buf_init(&b, 128);
    conf_put_number(&b, f->type, f->min);
    buf_puts(&b, " to ");
    conf_put_number(&b, f->type, f->max);
    return conf_error(n, e, "`%s` is out of range: %s is allowed", f->name, buf_cstr(&b));
}

static int
apply_number(const struct conf_node *n, const struct conf_field *f, void *to, struct err *e)
{
    int64_t v = 0;
    uint64_t size = 0;
    int rc;

    if (f->type == CONF_SIZE) {
        if (!conf_parse_size(str_from(n->text), &size)) {
            return conf_error(n, e,
                "`%s` must be a size: a number of bytes, or one with KiB, MiB or GiB behind it "
                "(512MiB)",
                f->name);
        }
        v = (int64_t)size;
    } else if (f->type == CONF_DURATION) {
        if (!conf_parse_duration(str_from(n->text), &v)) {
            return conf_error(n, e,
                "`%s` must be a time: a number with ms, s, m, h or d behind it (30s)", f->name);
        }
    } else if (!conf_parse_int(n->text, &v)) {
        return conf_error(n, e, "`%s` must be a whole number", f->name);
    }
    rc = check_range(n, f, v, e);
    if (rc < 0) {
        return rc;
    }
    if (f->type == CONF_SIZE) {
        *(uint64_t *)to = size;
    } else {
        *(int64_t *)to = v;
    }
    return 0;
}

static int
apply_enum(const struct conf_node *n, const struct conf_field *f, int *to, struct err *e)
{
    auto_buf struct buf b = {0};

    for (int i = 0; f->names[i] != NULL; i++) {
        bool is_not_yet = f->names[i][0] == '!';
        if (strcmp(n->text, f->names[i] + (is_not_yet ? 1 : 0)) != 0) {
            continue;
        }
        if (is_not_yet) {
            return conf_error(n, e, "`%s: %s` is not in this version", f->name, n->text);
        }
        *to = i;
        return 0;
    }
    if (conf_is_null(n)) {
        return no_value(n, f, e);
    }
    buf_init(&b, 400);
    conf_put_names(&b, f->names, ", ");
    return conf_error(n, e, "`%s` must be one of: %s", f->name, buf_cstr(&b));
}

static int
apply_bool(const struct conf_node *n, const struct conf_field *f, bool *to, struct err *e)
{
    bool is_true = strcmp(n->text, "true") == 0;

    if (!n->is_plain || (!is_true && strcmp(n->text, "false") != 0)) {
        return conf_error(n, e, "`%s` must be true or false, without quotes", f->name);
    }
    *to = is_true;
    return 0;
}

/* The file's folder, absolute, then the path as it is but for a leading "./". */
static int
apply_path(const struct conf_node *n, const struct conf_field *f, char **to, struct err *e)
{
    const char *path = n->text;
    const char *slash = strrchr(n->file, '/');
    int folder = slash == NULL ? 0 : (int)(slash - n->file) + 1;
    auto_free char *cwd = NULL;

    if (path[0] == '\0') {
        return no_value(n, f, e);
    }
    free(*to);
    *to = NULL;
    if (path[0] == '/') {
        *to = xstrdup(path);
        return 0;
    }
    while (path[0] == '.' && path[1] == '/') {
        for (path += 2; *path == '/'; path++) {}
    }
    if (n->file[0] == '/') {
        *to = xasprintf("%.*s%s", folder, n->file, path);
        return 0;
    }
    cwd = getcwd(NULL, 0);
    if (cwd == NULL) {
        return conf_error(n, e,
            "`%s` is relative and the current folder is not known; write an absolute path",
            f->name);
    }
    *to = xasprintf("%s/%.*s%s", strcmp(cwd, "/") == 0 ? "" : cwd, folder, n->file, path);
    return 0;
}

static void
free_list(struct conf_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->v[i]);
    }
    free(l->v);
    *l = (struct conf_list){0};
}

static int
apply_list(
    const struct conf_node *n, const struct conf_field *f, struct conf_list *to, struct err *e)
{
    const struct conf_node *const *items = (const struct conf_node *const *)n->child;
    size_t count = n->n;

    if (n->kind == CONF_MAPPING) {
        return conf_error(n, e, "`%s` must be a text or a list of texts", f->name);
    }
    if (n->kind == CONF_SCALAR) {
        items = &n;
        count = 1;
    }
    free_list(to);
    to->v = xcalloc(count + 1, sizeof *to->v);
    for (size_t i = 0; i < count; i++) {
        if (items[i]->kind != CONF_SCALAR) {
            return conf_error(items[i], e, "`%s` must be a text or a list of texts", f->name);
        }
        if (conf_is_null(items[i])) {
            return no_value(items[i], f, e);
        }
        to->v[to->n++] = xstrdup(items[i]->text);
    }
    return 0;
}

static int
apply_table(const struct conf_node *n, const struct conf_field *f, void *into, struct err *e)
{
    struct conf_node empty = *n;

    if (conf_is_null(n)) { /* a section whose lines are all commented out */
        empty.kind = CONF_MAPPING;
        empty.n = 0;
        return conf_apply(&empty, f->sub, into, e);
    }
    if (n->kind != CONF_MAPPING) {
        return conf_error(
            n, e, "`%s` must be a mapping: indented lines of `key: value`", f->name);
    }
    return conf_apply(n, f->sub, into, e);
}

static int
apply_scalar(const struct conf_node *n, const struct conf_field *f, void *to, struct err *e)
{
    char **text = to;

    if (n->kind != CONF_SCALAR) {
        return conf_error(n, e, "`%s` must be a single value", f->name);
    }
    if (f->type == CONF_ENUM) { /* first, since a name may be what YAML calls null */
        return apply_enum(n, f, to, e);
    }
    if (conf_is_null(n)) {
        return no_value(n, f, e);
    }
    switch (f->type) {
    case CONF_STRING:
        free(*text);
        *text = xstrdup(n->text);
        return 0;
    case CONF_PATH:
        return apply_path(n, f, text, e);
    case CONF_BOOL:
        return apply_bool(n, f, to, e);
    default:
        return apply_number(n, f, to, e);
    }
}

static int
apply_value(const struct conf_node *n, const struct conf_field *f, void *into, struct err *e)
{
    void *to = (char *)into + f->offset;

    switch (f->type) {
    case CONF_TABLE:
        return apply_table(n, f, into, e);
    case CONF_NODE:
        *(const struct conf_node **)to = n;
        return 0;
    case CONF_LIST:
        return apply_list(n, f, to, e);
    default:
        return apply_scalar(n, f, to, e);
    }
}

static int
apply_absent(const struct conf_node *map, const struct conf_field *f, void *into, struct err *e)
{
    struct conf_node n = {
        .kind = CONF_SCALAR, .text = f->deflt == NULL ? "" : f->deflt, .is_plain = true};

    if ((f->flags & CONF_NOT_YET) != 0) {
        return 0;
    }
    if ((f->flags & CONF_REQUIRED) != 0) {
        return conf_error(map, e, "`%s` is missing here and required: %s", f->name, f->help);
    }
    if (f->deflt == NULL && f->type != CONF_TABLE) {
        return 0;
    }
    n.file = map->file;
    n.line = n.key_line = map->line;
    n.column = n.key_column = map->column;
    return apply_value(&n, f, into, e);
}

static int
check_keys(const struct conf_node *map, const struct conf_field *fields, struct err *e)
{
    for (size_t i = 0; i < map->n; i++) {
        const struct conf_node *child = map->child[i];
        const struct conf_field *f = fields;
        auto_buf struct buf b = {0};
        while (f->name != NULL && strcmp(f->name, child->key) != 0) {
            f++;
        }
        if (f->name != NULL && (f->flags & CONF_NOT_YET) != 0) {
            return conf_key_error(child, e, "`%s` is not in this version", f->name);
        }
        if (f->name != NULL) {
            continue;
        }
        buf_init(&b, 400);
        for (f = fields; f->name != NULL; f++) {
            if ((f->flags & CONF_NOT_YET) == 0) {
                buf_printf(&b, "%s%s", b.n == 0 ? "" : ", ", f->name);
            }
        }
        return conf_key_error(child, e, "`%s` is not a key here; these are: %s", child->key,
            buf_ok(&b) ? buf_cstr(&b) : "see --help");
    }
    return 0;
}

int
conf_apply(
    const struct conf_node *map, const struct conf_field *fields, void *into, struct err *e)
{
    int rc = check_keys(map, fields, e);

    for (const struct conf_field *f = fields; rc == 0 && f->name != NULL; f++) {
        const struct conf_node *n = conf_child(map, f->name);
        rc = n == NULL ? apply_absent(map, f, into, e) : apply_value(n, f, into, e);
    }
    return rc;
}

void
conf_release(const struct conf_field *fields, void *into)
{
    for (const struct conf_field *f = fields; f->name != NULL; f++) {
        void *at = (char *)into + f->offset;
        if ((f->flags & CONF_NOT_YET) != 0) {
            continue;
        }
        if (f->type == CONF_TABLE) {
            conf_release(f->sub, into);
        } else if (f->type == CONF_LIST) {
            free_list(at);
        } else if (f->type == CONF_STRING || f->type == CONF_PATH) {
            free(*(char **)at);
            *(char **)at = NULL;
        }
    }
}
