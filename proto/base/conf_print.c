/* conf_print: the effective configuration and the help of a conf_field table, and what no table
 * describes, as YAML and as JSON. It promises that a secret is never written and that the rest
 * of the YAML reads back as it was. */
#include <inttypes.h>
#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/cleanup.h"
#include "proto/base/conf.h"
#include "proto/base/conf_value.h"
#include "proto/base/json.h"
#include "proto/base/xmalloc.h"

#define CONF_MASK "********"

/* The code point at s, and its length in *ret_n; 0 and one byte for what is not UTF-8. */
static uint32_t
code_point(const unsigned char *s, size_t *ret_n)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] >= 0xf0 && s[0] < 0xf8 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc0 ? 2 : 1;
    uint32_t c = n == 1 ? s[0] : s[0] & (0xffu >> (n + 1));

    *ret_n = 1;
    if (s[0] >= 0xf8 || (s[0] & 0xc0) == 0x80) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
        c = c << 6 | (s[i] & 0x3fu);
    }
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) {
        return 0;
    }
    *ret_n = n;
    return c;
}

/* Whether YAML takes the character as it is inside double quotes, line breaks aside. */
static bool
is_shown(uint32_t c)
{
    return (c >= ' ' && c < 0x7f) ||
           (c > 0xa0 && c != 0x2028 && c != 0x2029 && c != 0xfeff && (c & 0xfffe) != 0xfffe);
}

/* In double quotes, so that reading it gives the same: in a value, not in a key, ${ becomes
 * $${. */
static void
put_quoted(struct buf *b, const char *text, bool is_key)
{
    const unsigned char *s = (const unsigned char *)text;

    buf_putc(b, '"');
    while (*s != '\0') {
        size_t n;
        uint32_t c = code_point(s, &n);
        if (c == '"' || c == '\\') {
            buf_printf(b, "\\%c", (char)c);
        } else if (c == '$' && s[1] == '{' && !is_key) {
            buf_puts(b, "$$");
        } else if (is_shown(c)) {
            buf_put(b, s, n);
        } else if (c == 0) {
            buf_printf(b, "\\x%02X", s[0]);
        } else {
            buf_printf(b, "\\U%08" PRIX32, c);
        }
        s += n;
    }
    buf_putc(b, '"');
}

static void
put_text(struct buf *b, const char *text)
{
    put_quoted(b, text, false);
}

void
conf_print_key(struct buf *b, const char *key, int indent)
{
    bool is_word = (key[0] >= 'a' && key[0] <= 'z') && strlen(key) < 100;

    for (const char *c = key; *c != '\0'; c++) {
        is_word = is_word && ((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') ||
                                 *c == '_' || *c == '-');
    }
    buf_printf(b, "%*s", indent, "");
    if (is_word) {
        buf_puts(b, key);
    } else {
        put_quoted(b, key, true);
    }
    buf_putc(b, ':');
}

static void
put_list(struct buf *b, const struct conf_list *l)
{
    buf_putc(b, '[');
    for (size_t i = 0; i < l->n; i++) {
        buf_puts(b, i == 0 ? "" : ", ");
        put_text(b, l->v[i]);
    }
    buf_putc(b, ']');
}

static bool
has_value(const struct conf_field *f, const void *at)
{
    if ((f->flags & CONF_NOT_YET) != 0 || f->type == CONF_NODE) {
        return false;
    }
    if (f->type == CONF_STRING || f->type == CONF_PATH) {
        return *(char *const *)at != NULL;
    }
    return f->type != CONF_LIST || ((const struct conf_list *)at)->n > 0;
}

static void
put_value(struct buf *b, const struct conf_field *f, const void *at)
{
    if ((f->flags & CONF_SECRET) != 0) {
        put_text(b, CONF_MASK);
        return;
    }
    switch (f->type) {
    case CONF_STRING:
    case CONF_PATH:
        put_text(b, *(char *const *)at);
        break;
    case CONF_BOOL:
        buf_puts(b, *(const bool *)at ? "true" : "false");
        break;
    case CONF_ENUM:
        buf_puts(b, f->names[*(const int *)at]);
        break;
    case CONF_LIST:
        put_list(b, at);
        break;
    case CONF_SIZE:
        conf_put_number(b, f->type, (int64_t) * (const uint64_t *)at);
        break;
    case CONF_DURATION:
    case CONF_INT:
        conf_put_number(b, f->type, *(const int64_t *)at);
        break;
    case CONF_TABLE: /* conf_print's own */
    case CONF_NODE:
        CHECK(false);
    }
}

void
conf_print(struct buf *b, const struct conf_field *fields, const void *from, int indent)
{
    for (const struct conf_field *f = fields; f->name != NULL; f++) {
        const void *at = (const char *)from + f->offset;
        if (!has_value(f, at)) {
            continue;
        }
        conf_print_key(b, f->name, indent);
        if (f->type == CONF_TABLE) {
            buf_putc(b, '\n');
            conf_print(b, f->sub, from, indent + 2);
            continue;
        }
        buf_putc(b, ' ');
        put_value(b, f, at);
        buf_putc(b, '\n');
    }
}

static bool
is_secret_key(const char *key)
{
    static const char *const words[] = {"password", "secret", "token", "key"};
    size_t n = strlen(key);

    if (n >= 5 && strcmp(key + n - 5, "_file") == 0) {
        return false;
    }
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcasestr(key, words[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* "scheme://user:password@rest" without the middle; the last @ counts, since a password may
 * hold one. Owned by the caller. */
static char *
masked_url(const char *text)
{
    const char *user = strstr(text, "://");
    const char *at = user == NULL ? NULL : strrchr(user, '@');

    if (at == NULL) {
        return xstrdup(text);
    }
    return xasprintf("%.*s" CONF_MASK "%s", (int)(user - text) + 3, text, at);
}

/* What may be shown of a scalar. Owned by the caller. */
static char *
shown_text(const struct conf_node *n, bool is_secret)
{
    return is_secret || n->from_env ? xstrdup(CONF_MASK) : masked_url(n->text);
}

/* Unquoted and not hidden: `null`, or `true` and `false`. */
static bool
is_bare(const struct conf_node *n, bool is_secret)
{
    return !is_secret && !n->from_env && n->is_plain &&
           (conf_is_null(n) || strcmp(n->text, "true") == 0 || strcmp(n->text, "false") == 0);
}

static bool
is_secret_child(const struct conf_node *map, const struct conf_node *child, bool is_secret)
{
    return is_secret || (map->kind == CONF_MAPPING && is_secret_key(child->key));
}

static void
put_node(struct buf *b, const struct conf_node *n, bool is_secret)
{
    if (n->kind == CONF_SCALAR) {
        auto_free char *text = shown_text(n, is_secret);
        if (is_bare(n, is_secret)) {
            buf_puts(b, conf_is_null(n) ? "null" : n->text);
        } else {
            put_text(b, text);
        }
        return;
    }
    /* flow style: as deep as it is, on one line */
    buf_putc(b, n->kind == CONF_SEQUENCE ? '[' : '{');
    for (size_t i = 0; i < n->n; i++) {
        const struct conf_node *child = n->child[i];
        buf_puts(b, i == 0 ? "" : ", ");
        if (n->kind == CONF_MAPPING) {
            conf_print_key(b, child->key, 0);
            buf_putc(b, ' ');
        }
        put_node(b, child, is_secret_child(n, child, is_secret));
    }
    buf_putc(b, n->kind == CONF_SEQUENCE ? ']' : '}');
}

void
conf_print_node(struct buf *b, const struct conf_node *n, int indent)
{
    conf_print_key(b, n->key, indent);
    buf_putc(b, ' ');
    put_node(b, n, is_secret_key(n->key));
    buf_putc(b, '\n');
}

/* ---- JSON ---- */

static void
json_scalar(struct jsonw *w, const char *key, const struct conf_node *n, bool is_secret)
{
    auto_free char *text = shown_text(n, is_secret);

    if (!is_bare(n, is_secret)) {
        jsonw_cstr(w, key, text);
    } else if (conf_is_null(n)) {
        jsonw_null(w, key);
    } else {
        jsonw_bool(w, key, n->text[0] == 't');
    }
}

static void
json_node(struct jsonw *w, const char *key, const struct conf_node *n, bool is_secret)
{
    if (n->kind == CONF_SCALAR) {
        json_scalar(w, key, n, is_secret);
        return;
    }
    if (n->kind == CONF_SEQUENCE) {
        jsonw_array(w, key);
    } else {
        jsonw_object(w, key);
    }
    for (size_t i = 0; i < n->n; i++) {
        const struct conf_node *child = n->child[i];
        json_node(w, n->kind == CONF_MAPPING ? child->key : NULL, child,
            is_secret_child(n, child, is_secret));
    }
    if (n->kind == CONF_SEQUENCE) {
        jsonw_end_array(w);
    } else {
        jsonw_end_object(w);
    }
}

static void
json_number(struct jsonw *w, const struct conf_field *f, int64_t v)
{
    auto_buf struct buf text;

    buf_init(&text, 64);
    conf_put_number(&text, f->type, v);
    jsonw_str(w, f->name, buf_str(&text));
}

static void
json_list(struct jsonw *w, const char *key, const struct conf_list *l)
{
    jsonw_array(w, key);
    for (size_t i = 0; i < l->n; i++) {
        jsonw_cstr(w, NULL, l->v[i]);
    }
    jsonw_end_array(w);
}

static void
json_value(struct jsonw *w, const struct conf_field *f, const void *at)
{
    if ((f->flags & CONF_SECRET) != 0) {
        jsonw_cstr(w, f->name, CONF_MASK);
        return;
    }
    switch (f->type) {
    case CONF_STRING:
    case CONF_PATH:
        jsonw_cstr(w, f->name, *(char *const *)at);
        break;
    case CONF_BOOL:
        jsonw_bool(w, f->name, *(const bool *)at);
        break;
    case CONF_ENUM:
        jsonw_cstr(w, f->name, f->names[*(const int *)at]);
        break;
    case CONF_LIST:
        json_list(w, f->name, at);
        break;
    case CONF_SIZE:
        json_number(w, f, (int64_t) * (const uint64_t *)at);
        break;
    case CONF_DURATION:
        json_number(w, f, *(const int64_t *)at);
        break;
    case CONF_INT:
        jsonw_i64(w, f->name, *(const int64_t *)at);
        break;
    case CONF_TABLE: /* conf_print_json's own */
    case CONF_NODE:
        CHECK(false);
    }
}

void
conf_print_json(struct jsonw *w, const struct conf_field *fields, const void *from)
{
    for (const struct conf_field *f = fields; f->name != NULL; f++) {
        const void *at = (const char *)from + f->offset;
        if (f->type == CONF_NODE && (f->flags & CONF_NOT_YET) == 0) {
            const struct conf_node *n = *(const struct conf_node *const *)at;
            if (n != NULL) {
                json_node(w, f->name, n, is_secret_key(f->name));
            }
        } else if (f->type == CONF_TABLE) {
            jsonw_object(w, f->name);
            conf_print_json(w, f->sub, from);
            jsonw_end_object(w);
        } else if (has_value(f, at)) {
            json_value(w, f, at);
        }
    }
}

/* ---- help ---- */

static void
put_type(struct buf *b, const struct conf_field *f)
{
    static const char *const names[] = {[CONF_STRING] = "text",
        [CONF_PATH] = "path",
        [CONF_BOOL] = "true | false",
        [CONF_INT] = "number",
        [CONF_SIZE] = "size",
        [CONF_DURATION] = "time",
        [CONF_LIST] = "list",
        [CONF_TABLE] = "",
        [CONF_NODE] = ""};

    if (f->type == CONF_ENUM) {
        conf_put_names(b, f->names, " | ");
    } else {
        buf_puts(b, names[f->type]);
    }
}

void
conf_help(struct buf *b, const struct conf_field *fields, int indent)
{
    for (const struct conf_field *f = fields; f->name != NULL; f++) {
        size_t start = b->n;
        buf_printf(b, "%*s%s: ", indent, "", f->name);
        if ((f->flags & CONF_NOT_YET) != 0) {
            buf_puts(b, "not in this version");
        } else {
            put_type(b, f);
            if (f->deflt != NULL) {
                buf_printf(b, " (%s)", f->deflt);
            } else if ((f->flags & CONF_REQUIRED) != 0 && f->type != CONF_TABLE) {
                buf_puts(b, " (required)");
            }
        }
        buf_printf(
            b, "%*s# %s\n", b->n - start < 44 ? (int)(44 - (b->n - start)) : 1, "", f->help);
        if (f->type == CONF_TABLE) {
            conf_help(b, f->sub, indent + 2);
        }
    }
}
