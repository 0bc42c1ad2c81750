/* config: oneslot.yaml (design/interface.md, Configuration) as one struct, read and checked
 * once, constant from then on. It owns the names, defaults and bounds of every key but those of
 * a sink's kind, which belong to the kind (config_sink_apply). What is not built yet is refused
 * with "not in this version". */
#ifndef ONESLOT_PROTO_CONFIG_H
#define ONESLOT_PROTO_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/conf.h"
#include "proto/base/err.h"
#include "proto/position.h"

enum config_when_full { CONFIG_BLOCK, CONFIG_EVICT };
enum config_compression { CONFIG_COMPRESSION_NONE, CONFIG_COMPRESSION_ZSTD };
enum config_kind {
    CONFIG_KIND_FILE,
    CONFIG_KIND_ELASTICSEARCH,
    CONFIG_KIND_HTTP,
    CONFIG_KIND_NULL,
    CONFIG_KIND_FLAKY
};

struct config_source {
    char *dsn;               /* may hold a password: shown through dsn_mask only */
    char *password_file;     /* absolute; NULL: none */
    char *slot;              /* [a-z0-9_]{1,63} */
    char *publication;       /* 1 to 63 bytes */
    struct conf_list tables; /* patterns; empty: what the publication has */
    int snapshot;
};

struct config_log {
    uint64_t segment_bytes;
    int64_t retain_age_ms;
    uint64_t retain_bytes; /* at least twice segment_bytes */
    int when_full;         /* enum config_when_full */
    int compression;       /* enum config_compression */
};

struct config_sink {
    const char *name;        /* [a-z0-9_-]{1,63} */
    int kind;                /* enum config_kind */
    struct conf_list tables; /* patterns; empty: all */
    char *start_text;
    struct position start; /* of start_text */
    bool enabled;
    int64_t lanes;                /* 1 to 16 */
    int64_t reject_limit;         /* 0 to 64 */
    const struct conf_node *node; /* all of it, the kind's keys too */
};

struct config {
    char *data_dir; /* absolute */
    bool allow_unsafe_filesystem;
    int log_level; /* enum log_level */
    char *listen;
    char *listen_host; /* a loopback address or "localhost", without brackets */
    uint16_t listen_port;
    struct config_source source;
    struct config_log log;
    size_t nsinks; /* in the order of the file */
    struct config_sink *sinks;
    const struct conf_node *sinks_node; /* NULL: none configured */
    struct conf_doc *doc;
};

/* Every error is ERR_CONFIG, "FILE:LINE:COLUMN: ..." but for a file that is not there. Secret
 * files named in it must be readable. The result is owned. */
int config_load(const char *path, struct config **ret, struct err *e) MUST_CHECK;
int config_load_text(
    const char *name, struct str text, struct config **ret, struct err *e) MUST_CHECK;
void config_free(struct config *c); /* accepts NULL */
const struct config_sink *config_sink_find(
    const struct config *c, const char *name); /* or NULL */
const char *config_kind_name(int kind);

/* The keys of a sink's kind into `into` (zeroed; conf_release it, also on failure). A key that
 * is neither common nor the kind's is an error. */
int config_sink_apply(const struct config_sink *s, const struct conf_field *kind_fields,
    void *into, struct err *e) MUST_CHECK;

/* The effective configuration as YAML, secrets masked, a sink's kind's keys as they are given.
 */
void config_print(struct buf *b, const struct config *c);
/* The same as members of a JSON object, without the sinks; and what every sink has, of one. */
void config_print_json(struct jsonw *w, const struct config *c);
void config_sink_print_json(struct jsonw *w, const struct config_sink *s);
/* Every key: type, default, meaning; one line each. */
void config_help(struct buf *b);

#endif
