/* conf: YAML text into a tree of conf_node, over libyaml's events (this is the only file that
 * includes yaml.h). It owns the tree and the ${} substitution, keeps every bound, and knows
 * nothing of what keys mean (conf_table.c does). Events and not libyaml's own document tree,
 * because aliases and deep nesting must be refused before anything is built. */
#include "proto/base/conf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "proto/base/fs.h"
#include "proto/base/xmalloc.h"

enum {
    CONF_MAX_FILE = 1024 * 1024,
    CONF_MAX_TEXT = 4 * 1024 * 1024, /* all scalars together, after ${} */
    CONF_MAX_NODES = 4096,
    CONF_MAX_DEPTH = 16,
    CONF_MAX_KEY = 64,
    CONF_MAX_ENV_NAME = 128
};

struct conf_doc {
    struct conf_node *root;
    char *file;
    size_t nodes;
    size_t text_bytes;
};

struct reader {
    yaml_parser_t parser;
    struct str text;
    struct conf_doc *doc;
};

static void
cleanup_event(yaml_event_t *ev)
{
    yaml_event_delete(ev);
}
#define auto_event __attribute__((cleanup(cleanup_event)))

/* ---- errors ---- */

static int error_at(const char *file, unsigned line, unsigned column, struct err *e,
    const char *fmt, va_list args) __attribute__((format(printf, 5, 0)));

static int
error_at(const char *file, unsigned line, unsigned column, struct err *e, const char *fmt,
    va_list args)
{
    char msg[sizeof e->msg];

    (void)vsnprintf(msg, sizeof msg, fmt, args);
    for (char *c = msg; *c != '\0';
         c++) { /* keys are the file's: no escape sequences to a terminal */
        if ((unsigned char)*c < ' ' || *c == 0x7f) {
            *c = '?';
        }
    }
    return err_set(e, ERR_CONFIG, "%s:%u:%u: %s", file, line, column, msg);
}

int
conf_error(const struct conf_node *at, struct err *e, const char *fmt, ...)
{
    va_list args;
    int rc;

    va_start(args, fmt);
    rc = error_at(at->file, at->line, at->column, e, fmt, args);
    va_end(args);
    return rc;
}

int
conf_key_error(const struct conf_node *at, struct err *e, const char *fmt, ...)
{
    va_list args;
    int rc;

    va_start(args, fmt);
    rc = error_at(at->file, at->key_line, at->key_column, e, fmt, args);
    va_end(args);
    return rc;
}

static int mark_error(const struct reader *r, yaml_mark_t mark, struct err *e, const char *fmt,
    ...) __attribute__((format(printf, 4, 5)));

static int
mark_error(const struct reader *r, yaml_mark_t mark, struct err *e, const char *fmt, ...)
{
    va_list args;
    int rc;

    va_start(args, fmt);
    rc = error_at(
        r->doc->file, (unsigned)mark.line + 1, (unsigned)mark.column + 1, e, fmt, args);
    va_end(args);
    return rc;
}

/* libyaml tells where in bytes for what it cannot read as characters. */
static yaml_mark_t
mark_of_byte(struct str text, size_t offset)
{
    yaml_mark_t mark = {.index = offset};

    for (size_t i = 0; i < offset && i < text.n; i++) {
        if (text.p[i] == '\n') {
            mark.line++;
            mark.column = 0;
        } else if (((unsigned char)text.p[i] & 0xc0) != 0x80) {
            mark.column++;
        }
    }
    return mark;
}

static bool
is_indented_by_tab(struct str text, size_t line)
{
    size_t i = 0;

    for (; line > 0 && i < text.n; i++) {
        line -= text.p[i] == '\n';
    }
    while (i < text.n && text.p[i] == ' ') {
        i++;
    }
    return i < text.n && text.p[i] == '\t';
}

static int
syntax_error(const struct reader *r, struct err *e)
{
    const yaml_parser_t *p = &r->parser;
    const char *problem = p->problem == NULL ? "no reason given" : p->problem;

    if (p->error == YAML_MEMORY_ERROR) {
        return err_set(e, ERR_NOMEM, "%s: no memory left to read it", r->doc->file);
    }
    if (p->error == YAML_READER_ERROR) {
        return mark_error(r, mark_of_byte(r->text, p->problem_offset), e,
            "not UTF-8 text: %s; save the file as UTF-8", problem);
    }
    if (is_indented_by_tab(r->text, p->problem_mark.line)) {
        return mark_error(r, p->problem_mark, e,
            "not YAML: the line is indented with a tab; indent with spaces");
    }
    if (p->context != NULL) {
        return mark_error(r, p->problem_mark, e, "not YAML: %s (%s that began in line %zu)",
            problem, p->context, p->context_mark.line + 1);
    }
    return mark_error(r, p->problem_mark, e, "not YAML: %s", problem);
}

/* ---- the tree ---- */

static void
free_node(struct conf_node *n)
{
    if (n == NULL) {
        return;
    }
    for (size_t i = 0; i < n->n; i++) {
        free_node(n->child[i]);
    }
    free(n->child);
    free((char *)n->key);
    free((char *)n->text);
    free(n);
}

static struct conf_node *
new_node(const struct conf_doc *doc, yaml_mark_t at)
{
    struct conf_node *n = xcalloc(1, sizeof *n);

    n->file = doc->file;
    n->line = n->key_line = (unsigned)at.line + 1;
    n->column = n->key_column = (unsigned)at.column + 1;
    return n;
}

static int
add_child(const struct reader *r, struct conf_node *parent, yaml_mark_t at,
    struct conf_node **ret, struct err *e)
{
    if (r->doc->nodes >= CONF_MAX_NODES) {
        return mark_error(
            r, at, e, "more than %d values: too much for a configuration", CONF_MAX_NODES);
    }
    r->doc->nodes++;
    if ((parent->n & (parent->n - 1)) == 0) { /* full at 0 and at each power of two */
        size_t room = parent->n == 0 ? 1 : 2 * parent->n;
        parent->child = xreallocarray(parent->child, room, sizeof(struct conf_node *));
    }
    *ret = parent->child[parent->n++] = new_node(r->doc, at);
    return 0;
}

const struct conf_node *
conf_child(const struct conf_node *map, const char *key)
{
    if (map->kind != CONF_MAPPING) {
        return NULL;
    }
    for (size_t i = 0; i < map->n; i++) {
        const char *k = map->child[i]->key;
        if (k != NULL && strcmp(k, key) == 0) {
            return map->child[i];
        }
    }
    return NULL;
}

bool
conf_is_null(const struct conf_node *n)
{
    return n->kind == CONF_SCALAR && n->is_plain &&
           (n->text[0] == '\0' || strcmp(n->text, "~") == 0 || strcmp(n->text, "null") == 0);
}

/* ---- scalars ---- */

static bool
is_name_char(char c, bool is_first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!is_first && c >= '0' && c <= '9');
}

/* text[*at..] stands behind a "${"; appends the variable's value and moves *at behind its "}".
 */
static int
put_variable(
    const struct conf_node *n, struct str text, size_t *at, struct buf *b, struct err *e)
{
    char name[CONF_MAX_ENV_NAME];
    size_t len = 0;
    const char *value;

    while (*at + len < text.n && len < sizeof name - 1 &&
           is_name_char(text.p[*at + len], len == 0)) {
        name[len] = text.p[*at + len];
        len++;
    }
    if (len == 0 || *at + len >= text.n || text.p[*at + len] != '}') {
        return conf_error(n, e,
            "${ must be followed by the name of an environment variable and }; write $${ for "
            "these "
            "two characters themselves");
    }
    name[len] = '\0';
    value = getenv(name);
    if (value == NULL) {
        return conf_error(n, e,
            "the environment variable %s is not set; set it, or write $${ for a literal ${",
            name);
    }
    buf_puts(b, value);
    *at += len + 1;
    return 0;
}

static int
expand(struct conf_node *n, struct str text, struct buf *b, struct err *e)
{
    for (size_t i = 0; i < text.n;) {
        size_t left = text.n - i;
        if (left >= 3 && memcmp(text.p + i, "$${", 3) == 0) {
            buf_puts(b, "${");
            i += 3;
        } else if (left >= 2 && memcmp(text.p + i, "${", 2) == 0) {
            int rc;
            i += 2;
            n->from_env = true;
            rc = put_variable(n, text, &i, b, e);
            if (rc < 0) {
                return rc;
            }
        } else {
            buf_putc(b, text.p[i++]);
        }
    }
    return 0;
}

static int
read_scalar(const struct reader *r, const yaml_event_t *ev, struct conf_node *n, struct err *e)
{
    struct str text = {.p = (const char *)ev->data.scalar.value, .n = ev->data.scalar.length};
    auto_buf struct buf b;
    int rc;

    buf_init(&b, CONF_MAX_TEXT - r->doc->text_bytes);
    n->kind = CONF_SCALAR;
    n->is_plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (text.n > 0 && memchr(text.p, '\0', text.n) != NULL) {
        return conf_error(n, e, "the text holds a NUL character");
    }
    rc = expand(n, text, &b, e);
    if (rc < 0) {
        return rc;
    }
    if (!buf_ok(&b)) {
        return conf_error(n, e,
            "the texts of the file are more than %d MiB with their variables",
            CONF_MAX_TEXT / (1024 * 1024));
    }
    r->doc->text_bytes += b.n;
    n->text = xstrndup(b.n == 0 ? "" : b.p, b.n);
    return 0;
}

/* ---- events ---- */

static int read_node(struct reader *r, const yaml_event_t *ev, unsigned depth,
    struct conf_node *n, struct err *e);

static int
next_event(struct reader *r, yaml_event_t *ret_ev, struct err *e)
{
    return yaml_parser_parse(&r->parser, ret_ev) ? 0 : syntax_error(r, e);
}

static int
read_sequence(struct reader *r, unsigned depth, struct conf_node *n, struct err *e)
{
    n->kind = CONF_SEQUENCE;
    for (;;) {
        auto_event yaml_event_t ev = {0};
        struct conf_node *child;
        int rc = next_event(r, &ev, e);
        if (rc < 0) {
            return rc;
        }
        if (ev.type == YAML_SEQUENCE_END_EVENT) {
            return 0;
        }
        rc = add_child(r, n, ev.start_mark, &child, e);
        if (rc == 0) {
            rc = read_node(r, &ev, depth + 1, child, e);
        }
        if (rc < 0) {
            return rc;
        }
    }
}

static int
read_key(const struct reader *r, const yaml_event_t *ev, struct conf_node *map,
    struct conf_node **ret_child, struct err *e)
{
    const char *key;
    size_t len;
    const struct conf_node *former;
    int rc;

    if (ev->type != YAML_SCALAR_EVENT) {
        return mark_error(r, ev->start_mark, e, "a key must be a plain word");
    }
    key = (const char *)ev->data.scalar.value;
    len = ev->data.scalar.length;
    if (ev->data.scalar.anchor != NULL || ev->data.scalar.tag != NULL || strlen(key) != len) {
        return mark_error(
            r, ev->start_mark, e, "a key must be a plain word, without anchor, tag or NUL");
    }
    if (len > CONF_MAX_KEY) {
        return mark_error(r, ev->start_mark, e, "a key is longer than %d bytes", CONF_MAX_KEY);
    }
    former = conf_child(map, key);
    if (former != NULL) {
        return mark_error(r, ev->start_mark, e,
            "`%s` is given twice: it stands in line %u already; keep one", key,
            former->key_line);
    }
    rc = add_child(r, map, ev->start_mark, ret_child, e);
    if (rc == 0) {
        (*ret_child)->key = xstrndup(key, len);
    }
    return rc;
}

static int
read_mapping(struct reader *r, unsigned depth, struct conf_node *n, struct err *e)
{
    n->kind = CONF_MAPPING;
    for (;;) {
        auto_event yaml_event_t key = {0};
        auto_event yaml_event_t value = {0};
        struct conf_node *child = NULL;
        int rc = next_event(r, &key, e);
        if (rc < 0) {
            return rc;
        }
        if (key.type == YAML_MAPPING_END_EVENT) {
            return 0;
        }
        rc = read_key(r, &key, n, &child, e);
        if (rc == 0) {
            rc = next_event(r, &value, e);
        }
        if (rc == 0) {
            child->line = (unsigned)value.start_mark.line + 1;
            child->column = (unsigned)value.start_mark.column + 1;
            rc = read_node(r, &value, depth + 1, child, e);
        }
        if (rc < 0) {
            return rc;
        }
    }
}

static bool
has_anchor_or_tag(const yaml_event_t *ev)
{
    switch (ev->type) {
    case YAML_SCALAR_EVENT:
        return ev->data.scalar.anchor != NULL || ev->data.scalar.tag != NULL;
    case YAML_SEQUENCE_START_EVENT:
        return ev->data.sequence_start.anchor != NULL || ev->data.sequence_start.tag != NULL;
    case YAML_MAPPING_START_EVENT:
        return ev->data.mapping_start.anchor != NULL || ev->data.mapping_start.tag != NULL;
    default:
        return true; /* an alias */
    }
}

static int
read_node(struct reader *r, const yaml_event_t *ev, unsigned depth, struct conf_node *n,
    struct err *e)
{
    if (has_anchor_or_tag(ev)) {
        return mark_error(r, ev->start_mark, e,
            "anchors (&), aliases (*) and tags (!) are not used here; quote the text if it "
            "begins "
            "with such a character");
    }
    if (ev->type == YAML_SCALAR_EVENT) {
        return read_scalar(r, ev, n, e);
    }
    if (depth > CONF_MAX_DEPTH) {
        return mark_error(r, ev->start_mark, e, "nested deeper than %d levels", CONF_MAX_DEPTH);
    }
    return ev->type == YAML_MAPPING_START_EVENT ? read_mapping(r, depth, n, e)
                                                : read_sequence(r, depth, n, e);
}

static int
read_root(struct reader *r, const yaml_event_t *ev, struct err *e)
{
    struct conf_node *root = r->doc->root = new_node(r->doc, ev->start_mark);
    int rc = read_node(r, ev, 1, root, e);

    if (rc == 0 && conf_is_null(root)) {
        root->kind = CONF_MAPPING;
    }
    if (rc == 0 && root->kind != CONF_MAPPING) {
        return conf_error(root, e, "a configuration is a mapping: lines of `key: value`");
    }
    return rc;
}

/* STREAM-START, then one document or none, then STREAM-END. */
static int
read_stream(struct reader *r, struct err *e)
{
    for (;;) {
        auto_event yaml_event_t ev = {0};
        int rc = next_event(r, &ev, e);
        if (rc < 0) {
            return rc;
        }
        switch (ev.type) {
        case YAML_STREAM_END_EVENT:
            if (r->doc->root == NULL) {
                r->doc->root = new_node(r->doc, (yaml_mark_t){0});
                r->doc->root->kind = CONF_MAPPING;
            }
            return 0;
        case YAML_STREAM_START_EVENT:
        case YAML_DOCUMENT_END_EVENT:
            break;
        case YAML_DOCUMENT_START_EVENT:
            if (r->doc->root != NULL) {
                return mark_error(r, ev.start_mark, e,
                    "a second document begins here; a configuration is one document");
            }
            break;
        default:
            rc = read_root(r, &ev, e);
            if (rc < 0) {
                return rc;
            }
        }
    }
}

int
conf_load_text(const char *name, struct str text, struct conf_doc **ret_doc, struct err *e)
{
    struct conf_doc *doc;
    struct reader r = {.text = text};
    int rc;

    if (text.n > CONF_MAX_FILE) {
        return err_set(e, ERR_CONFIG, "%s:1:1: larger than 1 MiB: not a configuration", name);
    }
    if (!yaml_parser_initialize(&r.parser)) {
        return err_set(e, ERR_NOMEM, "%s: no memory left to read it", name);
    }
    doc = r.doc = xcalloc(1, sizeof *doc);
    doc->file = xstrdup(name);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text.p, text.n);
    rc = read_stream(&r, e);
    yaml_parser_delete(&r.parser);
    if (rc < 0) {
        conf_free(doc);
        return rc;
    }
    *ret_doc = doc;
    return 0;
}

int
conf_load(const char *path, struct conf_doc **ret_doc, struct err *e)
{
    auto_buf struct buf text;
    int rc;

    buf_init(&text, CONF_MAX_FILE);
    rc = fs_read_file(path, &text, CONF_MAX_FILE, e);
    if (rc == ERR_TOOBIG) {
        return err_set(e, ERR_CONFIG, "%s:1:1: larger than 1 MiB: not a configuration", path);
    }
    if (rc < 0) {
        if (e != NULL && rc != ERR_NOTFOUND) {
            e->code =
                ERR_CONFIG; /* a folder, or no permission: the operator's, not ours to die of */
        }
        return rc == ERR_NOTFOUND ? rc : ERR_CONFIG;
    }
    return conf_load_text(path, text.n == 0 ? STR("") : buf_str(&text), ret_doc, e);
}

void
conf_free(struct conf_doc *d)
{
    if (d != NULL) {
        free_node(d->root);
        free(d->file);
        free(d);
    }
}

const struct conf_node *
conf_root(const struct conf_doc *d)
{
    return d->root;
}
