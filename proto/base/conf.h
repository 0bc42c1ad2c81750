/* conf: YAML (libyaml, which only conf.c includes) into structs, by tables. Unknown or repeated
 * keys, wrong types and values out of range are errors "FILE:LINE:COLUMN: what, and what would
 * be right". Also renders the effective configuration and the help of a table. Secrets are
 * never printed, and no message repeats a value: it may have come from the environment.
 * ${NAME} anywhere in a scalar is replaced from the environment (a missing one is an error; $${
 * is a literal ${). */
#ifndef ONESLOT_BASE_CONF_H
#define ONESLOT_BASE_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/str.h"

enum conf_kind { CONF_SCALAR, CONF_SEQUENCE, CONF_MAPPING };

struct conf_node { /* owned by its conf_doc */
    enum conf_kind kind;
    const char *key;  /* in a mapping */
    const char *text; /* scalar, after ${}; NUL-terminated */
    bool is_plain;    /* unquoted: `null`, `true` and `~` mean what YAML says only then */
    bool from_env;    /* a part of text came from the environment: never shown */
    size_t n;         /* children */
    struct conf_node **child;
    unsigned line, column; /* 1-based, of the value */
    unsigned key_line, key_column;
    const char *file; /* as given, for messages */
};

struct conf_doc;
/* Reads a file of at most 1 MiB and 4096 values; one document; anchors, aliases, tags and
 * nesting over 16 are refused. ERR_NOTFOUND when there is no such file, else ERR_CONFIG. */
int conf_load(const char *path, struct conf_doc **ret_doc, struct err *e) MUST_CHECK;
int conf_load_text(
    const char *name, struct str text, struct conf_doc **ret_doc, struct err *e) MUST_CHECK;
void conf_free(struct conf_doc *d);
const struct conf_node *conf_root(
    const struct conf_doc *d); /* a mapping (an empty file: an empty one) */
const struct conf_node *conf_child(const struct conf_node *map, const char *key); /* or NULL */
bool conf_is_null(const struct conf_node *n); /* nothing, `~` or `null`, unquoted */

enum conf_type {
    CONF_STRING,   /* char * (owned by the struct) */
    CONF_PATH,     /* char *, made absolute relative to the file's folder */
    CONF_BOOL,     /* bool */
    CONF_INT,      /* int64_t, min..max */
    CONF_SIZE,     /* uint64_t bytes: 512MiB, 1GiB, 4096 */
    CONF_DURATION, /* int64_t ms: 7d, 30s, 250ms */
    CONF_ENUM,     /* int: index into `names` */
    CONF_LIST,     /* struct conf_list: a scalar or a sequence of scalars */
    CONF_TABLE,    /* a nested mapping, described by `sub` */
    CONF_NODE /* const struct conf_node *: left to the caller (valid while the doc lives) */
};

struct conf_list {
    size_t n;
    char **v;
};

enum conf_flags {
    CONF_REQUIRED = 1,
    CONF_SECRET = 2,
    CONF_NOT_YET = 4 /* "not in this version" */
};

struct jsonw;

struct conf_field {
    const char *name;
    enum conf_type type;
    size_t offset;     /* into the struct; of the nested struct's parent for CONF_TABLE */
    const char *deflt; /* as YAML text; NULL: zero/NULL/empty */
    int64_t min, max;  /* INT, SIZE (bytes), DURATION (ms); both 0: no limits */
    const char *const
        *names; /* ENUM: NULL-terminated. A name with a leading '!' is not in this version */
    const struct conf_field
        *sub; /* TABLE: fields ending with a NULL name, offsets within the same struct */
    int flags;
    const char
        *help; /* one line, shown by --help and checked against the README by tests/lint */
};

/* Defaults first, then what the mapping says. `into` must be zeroed. On failure free it all the
 * same. */
int conf_apply(const struct conf_node *map, const struct conf_field *fields, void *into,
    struct err *e) MUST_CHECK;
void conf_release(const struct conf_field *fields, void *into); /* frees strings and lists */
/* Effective values as YAML, secrets as "********"; what has no value and CONF_NODE are left
 * out. */
void conf_print(struct buf *b, const struct conf_field *fields, const void *from, int indent);
/* A key and what stands under it, where no table says which values are secrets: masked is what
 * came from the environment, what a key calls a password, secret, token or key (but for
 * *_file), and the user of a URL. */
void conf_print_node(struct buf *b, const struct conf_node *n, int indent);
void conf_print_key(
    struct buf *b, const char *key, int indent); /* `key:`, quoted where YAML wants it */
/* The effective values as members of the object that w is in, masked as above; numbers with a
 * unit are texts as in the file. A CONF_NODE is there as conf_print_node has it. */
void conf_print_json(struct jsonw *w, const struct conf_field *fields, const void *from);
/* name, type, default, help: one line each. */
void conf_help(struct buf *b, const struct conf_field *fields, int indent);
/* "FILE:LINE:COLUMN: " + message, code ERR_CONFIG. */
int conf_error(const struct conf_node *at, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same at the key of the value. */
int conf_key_error(const struct conf_node *at, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

bool conf_parse_size(struct str s, uint64_t *ret_bytes);
bool conf_parse_duration(struct str s, int64_t *ret_ms);

#endif
