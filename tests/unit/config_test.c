/* config: oneslot.yaml as people write it: what it means, every way to get it wrong with the
 * place, and what is shown of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/log.h"
#include "proto/base/xmalloc.h"
#include "proto/config.h"

#define SOURCE "source: {dsn: \"host=h\"}\n"

static struct config *
load(const char *text)
{
    struct config *c = NULL;
    struct err e = {0};

    if (config_load_text("/etc/oneslot.yaml", str_from(text), &c, &e) < 0) {
        fail_msg("%s", e.msg);
    }
    return c;
}

static void
defaults(void **state)
{
    struct config *c = load(SOURCE);

    (void)state;
    assert_string_equal(c->data_dir, "/etc/data");
    assert_false(c->allow_unsafe_filesystem);
    assert_int_equal(c->log_level, LOG_INFO);
    assert_string_equal(c->listen_host, "127.0.0.1");
    assert_int_equal(c->listen_port, 7432);
    assert_string_equal(c->source.dsn, "host=h");
    assert_null(c->source.password_file);
    assert_string_equal(c->source.slot, "oneslot");
    assert_string_equal(c->source.publication, "oneslot");
    assert_int_equal(c->source.tables.n, 0);
    assert_true(c->log.segment_bytes == UINT64_C(512) << 20);
    assert_true(c->log.retain_age_ms == INT64_C(7) * 86400000);
    assert_true(c->log.retain_bytes == UINT64_C(50) << 30);
    assert_int_equal(c->log.when_full, CONFIG_BLOCK);
    assert_int_equal(c->log.compression, CONFIG_COMPRESSION_NONE);
    assert_int_equal(c->nsinks, 0);
    assert_null(config_sink_find(c, "file"));
    config_free(c);
}

static void
everything(void **state)
{
    struct config *c = load("data_dir: /var/lib/oneslot\n"
                            "allow_unsafe_filesystem: true\n"
                            "log_level: debug\n"
                            "listen: \"[::1]:80\"\n"
                            "source:\n"
                            "  dsn: postgresql://u@h/app\n"
                            "  password_file: /dev/null\n"
                            "  slot: s_1\n"
                            "  publication: Some Publication\n"
                            "  tables: [fabric.user_data, \"public.*\"]\n"
                            "  snapshot: never\n"
                            "log:\n"
                            "  segment_bytes: 1MiB\n"
                            "  retain_age: 30s\n"
                            "  retain_bytes: 2MiB\n"
                            "  when_full: evict\n"
                            "  compression: zstd\n"
                            "sinks:\n"
                            "  file:\n"
                            "    kind: file\n"
                            "    path: ./x\n"
                            "  other-1:\n"
                            "    kind: file\n"
                            "    tables: fabric.*\n"
                            "    start: 2026-11-22T10:00:00Z\n"
                            "    enabled: false\n");
    const struct config_sink *s;

    (void)state;
    assert_string_equal(c->data_dir, "/var/lib/oneslot");
    assert_true(c->allow_unsafe_filesystem);
    assert_int_equal(c->log_level, LOG_DEBUG);
    assert_string_equal(c->listen_host, "::1");
    assert_int_equal(c->listen_port, 80);
    assert_string_equal(c->source.password_file, "/dev/null");
    assert_string_equal(c->source.slot, "s_1");
    assert_string_equal(c->source.publication, "Some Publication");
    assert_int_equal(c->source.tables.n, 2);
    assert_string_equal(c->source.tables.v[1], "public.*");
    assert_true(c->log.segment_bytes == 1 << 20 && c->log.retain_bytes == 2 << 20);
    assert_true(c->log.retain_age_ms == 30000);
    assert_int_equal(c->log.when_full, CONFIG_EVICT);
    assert_int_equal(c->log.compression, CONFIG_COMPRESSION_ZSTD);
    assert_int_equal(c->nsinks, 2);
    s = config_sink_find(c, "file");
    assert_string_equal(s->name, "file");
    assert_string_equal(config_kind_name(s->kind), "file");
    assert_int_equal(s->start.kind, POSITION_EARLIEST);
    assert_true(s->enabled);
    assert_int_equal(s->tables.n, 0);
    s = config_sink_find(c, "other-1");
    assert_ptr_equal(s, &c->sinks[1]);
    assert_int_equal(s->start.kind, POSITION_TIME);
    assert_false(s->enabled);
    assert_string_equal(s->tables.v[0], "fabric.*");
    config_free(c);
}

/* lint:long: one table of bad files with the message of each */
static void
bad_files(void **state)
{
    static const struct {
        const char *text, *says; /* behind "oneslot.yaml:" */
    } rows[] = {
        {"", "1:1: `source` is missing here and required: the PostgreSQL database to follow"},
        {"source: {slot: s}\n", "1:9: `dsn` is missing here and required: libpq connection "
                                "string or URI of the database"},
        {"source:\n", "1:8: `dsn` is missing here and required: libpq connection string or URI "
                      "of the database"},
        {SOURCE "sorce: 1\n", "2:1: `sorce` is not a key here; these are: data_dir, "
                              "allow_unsafe_filesystem, log_level, "
                              "listen, source, log, sinks"},
        {SOURCE SOURCE, "2:1: `source` is given twice: it stands in line 1 already; keep one"},
        {SOURCE "tls: {cert: a, key: b}\n", "2:1: `tls` is not in this version"},
        {SOURCE "tokens_file: t\n", "2:1: `tokens_file` is not in this version"},
        {SOURCE "log_level: loud\n",
            "2:12: `log_level` must be one of: error, warn, info, debug"},
        {SOURCE "listen: 0.0.0.0:7432\n", "2:9: `listen` beyond this machine is not in this "
                                          "version, since access control comes "
                                          "later; use 127.0.0.1, [::1] or localhost"},
        {SOURCE "listen: \"[::]:7432\"\n", "2:9: `listen` beyond this machine is not in this "
                                           "version, since access control comes "
                                           "later; use 127.0.0.1, [::1] or localhost"},
        {SOURCE "listen: example.org:7432\n", "2:9: `listen` beyond this machine is not in "
                                              "this version, since access control comes "
                                              "later; use 127.0.0.1, [::1] or localhost"},
        {SOURCE "listen: 127.0.0.1.example.org:7432\n",
            "2:9: `listen` beyond this machine is not in this version, since access control "
            "comes "
            "later; use 127.0.0.1, [::1] or localhost"},
        {SOURCE "listen: 7432\n", "2:9: `listen` must be HOST:PORT with a port from 1 to "
                                  "65535, such as 127.0.0.1:7432 or "
                                  "[::1]:7432"},
        {SOURCE "listen: 127.0.0.1:65536\n", "2:9: `listen` must be HOST:PORT with a port from "
                                             "1 to 65535, such as 127.0.0.1:7432 or "
                                             "[::1]:7432"},
        {SOURCE "listen: 127.0.0.1:0\n", "2:9: `listen` must be HOST:PORT with a port from 1 "
                                         "to 65535, such as 127.0.0.1:7432 or "
                                         "[::1]:7432"},
        {SOURCE "listen: \"::1:7432\"\n", "2:9: `listen` must be HOST:PORT with a port from 1 "
                                          "to 65535, such as 127.0.0.1:7432 or "
                                          "[::1]:7432"},
        {"source: {dsn: hush}\n", "1:15: `dsn` must be a libpq connection string "
                                  "(host=127.0.0.1 dbname=app user=oneslot) or "
                                  "a URI (postgresql://oneslot@127.0.0.1/app)"},
        {"source:\n  dsn: host=h\n  snapshot: initial\n",
            "3:13: `snapshot: initial` is not in this version"},
        {"source:\n  dsn: host=h\n  snapshot: sometimes\n",
            "3:13: `snapshot` must be one of: never"},
        {"source:\n  dsn: host=h\n  slot: OneSlot\n",
            "3:9: `slot` must be 1 to 63 lower-case letters, digits and underscores"},
        {"source:\n  dsn: host=h\n  slot: \"\"\n",
            "3:9: `slot` must be 1 to 63 lower-case letters, digits and underscores"},
        {"source:\n  dsn: host=h\n"
         "  slot: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
            "3:9: `slot` must be 1 to 63 lower-case letters, digits and underscores"},
        {"source:\n  dsn: host=h\n  publication: ''\n",
            "3:16: `publication` must be a name of 1 to 63 bytes"},
        {"source:\n  dsn: host=h\n  tables:\n    - s.t\n    - a.b.c\n",
            "5:7: the table pattern `a.b.c` has more than one dot; write schema.table, with ? "
            "for a "
            "dot inside a name"},
        {"source:\n  dsn: host=h\n  tables: s.\n",
            "3:11: the table pattern `s.` lacks a name beside its dot; write schema.table, or "
            "schema.*"},
        {"source:\n  dsn: host=h\n  password_file: no/such\n",
            "3:18: `password_file` cannot be read (No such file or directory); create the file "
            "or "
            "remove the key"},
        {SOURCE "log: {segment_bytes: 1023KiB}\n",
            "2:22: `segment_bytes` is out of range: 1MiB to 64GiB is allowed"},
        {SOURCE "log: {segment_bytes: 2MiB, retain_bytes: 4095KiB}\n",
            "2:42: `retain_bytes` must be at least twice `segment_bytes`, since only whole "
            "sealed "
            "segments can go"},
        {SOURCE "log:\n  segment_bytes: 26GiB\n", "3:18: `retain_bytes` must be at least twice "
                                                  "`segment_bytes`, since only whole sealed "
                                                  "segments can go"},
        {SOURCE "log: {retain_age: forever}\n", "2:19: `retain_age` must be a time: a number "
                                                "with ms, s, m, h or d behind it (30s)"},
        {SOURCE "log: {when_full: stop}\n", "2:18: `when_full` must be one of: block, evict"},
        {SOURCE "log: {compression: lz4}\n", "2:20: `compression` must be one of: none, zstd"},
        {SOURCE "sinks: [file]\n",
            "2:8: `sinks` must be a mapping: a name, and under it `kind`"},
        {SOURCE "sinks:\n  File: {kind: file}\n",
            "3:3: `File` cannot be a sink's name: 1 to 63 lower-case letters, digits, _ and -"},
        {SOURCE "sinks:\n  a: file\n", "3:6: `a` must be a mapping with at least `kind`"},
        {SOURCE "sinks:\n  a: {path: x}\n",
            "3:6: `kind` is missing here and required: what it writes to"},
        {SOURCE "sinks:\n  a: {kind: kafka, topic: t}\n",
            "3:13: `kind: kafka` is not in this version"},
        {SOURCE "sinks:\n  a: {kind: fabric}\n", "3:13: `kind: fabric` is not in this version"},
        {SOURCE "sinks:\n  a: {kind: rag}\n", "3:13: `kind: rag` is not in this version"},
        {SOURCE "sinks:\n  a: {kind: files}\n",
            "3:13: `kind` must be one of: file, elasticsearch, http, null, flaky"},
        {SOURCE "sinks:\n  a: {kind: file}\n  b: {kind: file, tables: ['x', '']}\n",
            "4:33: a table pattern is empty; write schema.table, or schema.*"},
        {SOURCE "sinks:\n  a:\n    kind: file\n    start: now\n",
            "5:12: `start`: not a position: a position is `earliest`, `latest`, an offset "
            "(1882345678901234), an LSN (0/16B3748, or EPOCH:LSN as in 2:0/16B3748) or a time "
            "(2026-11-22T10:00:00Z)"},
        {SOURCE "sinks:\n  a: {kind: file, enabled: 1}\n",
            "3:28: `enabled` must be true or false, without quotes"},
        {SOURCE "sinks:\n  a: {kind: file}\n  a: {kind: file}\n",
            "4:3: `a` is given twice: it stands in line 3 already; keep one"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config *c = NULL;
        struct err e = {0};
        if (config_load_text("oneslot.yaml", str_from(rows[i].text), &c, &e) == 0) {
            fail_msg("taken: %s", rows[i].text);
        }
        assert_int_equal(e.code, ERR_CONFIG);
        assert_null(c);
        assert_int_equal(strncmp(e.msg, "oneslot.yaml:", 13), 0);
        assert_string_equal(e.msg + 13, rows[i].says);
    }
}

static void
loopback_is_all_that_may_listen(void **state)
{
    static const struct {
        const char *listen, *host;
    } rows[] = {{"127.0.0.1:1", "127.0.0.1"}, {"127.9.8.7:65535", "127.9.8.7"},
        {"localhost:7432", "localhost"}, {"'[::1]:7432'", "::1"},
        {"'[0:0:0:0:0:0:0:1]:7432'", "0:0:0:0:0:0:0:1"}, {"'[127.0.0.1]:7432'", "127.0.0.1"}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        auto_free char *text = xasprintf(SOURCE "listen: %s\n", rows[i].listen);
        struct config *c = load(text);
        assert_string_equal(c->listen_host, rows[i].host);
        config_free(c);
    }
}

struct kind_conf {
    char *path;
    int64_t rows;
};

static const struct conf_field kind_fields[] = {{.name = "path",
                                                    .type = CONF_PATH,
                                                    .offset = offsetof(struct kind_conf, path),
                                                    .flags = CONF_REQUIRED,
                                                    .help = "where to"},
    {.name = "rows",
        .type = CONF_INT,
        .offset = offsetof(struct kind_conf, rows),
        .deflt = "10",
        .help = "how many"},
    {0}};

static void
a_kind_has_keys_of_its_own(void **state)
{
    struct config *c = load(SOURCE "sinks:\n"
                                   "  a: {kind: file, path: x, enabled: true}\n"
                                   "  b: {kind: file, path: x, rows: y}\n"
                                   "  c: {kind: file, path: x, tabels: y}\n"
                                   "  d: {kind: file}\n");
    static const char *const says[] = {"4:34: `rows` must be a whole number",
        "5:28: `tabels` is not a key here; these are: path, rows",
        "6:6: `path` is missing here and required: where to"};
    struct kind_conf k = {0};
    struct err e;

    (void)state;
    assert_int_equal(config_sink_apply(&c->sinks[0], kind_fields, &k, &e), 0);
    assert_string_equal(k.path, "/etc/x");
    assert_true(k.rows == 10);
    conf_release(kind_fields, &k);
    for (size_t i = 0; i < 3; i++) {
        k = (struct kind_conf){0};
        assert_int_equal(config_sink_apply(&c->sinks[i + 1], kind_fields, &k, &e), ERR_CONFIG);
        assert_string_equal(e.msg + strlen("/etc/oneslot.yaml:"), says[i]);
        conf_release(kind_fields, &k);
    }
    config_free(c);
}

static void
prints_what_counts_without_secrets(void **state)
{
    struct config *c, *again;
    auto_buf struct buf b;
    auto_buf struct buf b2;

    (void)state;
    assert_int_equal(setenv("CONFIG_T", "hush", 1), 0);
    c = load("source:\n"
             "  dsn: host=h password=${CONFIG_T} user=u\n"
             "log: {retain_age: 36h}\n"
             "sinks:\n"
             "  file:\n"
             "    kind: file\n"
             "    path: ./x\n"
             "    token: hush\n"
             "    other: ${CONFIG_T}\n"
             "  1st: {kind: file, tables: [a, b.*]}\n");
    buf_init(&b, 8192);
    buf_init(&b2, 8192);
    config_print(&b, c);
    assert_string_equal(buf_cstr(&b), "data_dir: \"/etc/data\"\n"
                                      "allow_unsafe_filesystem: false\n"
                                      "log_level: info\n"
                                      "listen: \"127.0.0.1:7432\"\n"
                                      "source:\n"
                                      "  dsn: \"host=h password=******** user=u\"\n"
                                      "  slot: \"oneslot\"\n"
                                      "  publication: \"oneslot\"\n"
                                      "  snapshot: never\n"
                                      "log:\n"
                                      "  segment_bytes: 512MiB\n"
                                      "  retain_age: 36h\n"
                                      "  retain_bytes: 50GiB\n"
                                      "  when_full: block\n"
                                      "  compression: none\n"
                                      "sinks:\n"
                                      "  file:\n"
                                      "    kind: file\n"
                                      "    start: \"earliest\"\n"
                                      "    enabled: true\n"
                                      "    lanes: 4\n"
                                      "    reject_limit: 5\n"
                                      "    path: \"./x\"\n"
                                      "    token: \"********\"\n"
                                      "    other: \"********\"\n"
                                      "  \"1st\":\n"
                                      "    kind: file\n"
                                      "    tables: [\"a\", \"b.*\"]\n"
                                      "    start: \"earliest\"\n"
                                      "    enabled: true\n"
                                      "    lanes: 4\n"
                                      "    reject_limit: 5\n");
    again = load(buf_cstr(&b));
    config_print(&b2, again);
    assert_true(str_eq(buf_str(&b), buf_str(&b2)));
    config_free(c);
    config_free(again);
}

static void
no_message_holds_a_secret(void **state)
{
    static const char *const rows[] = {"source: {dsn: \"${CONFIG_T}\"}\n",
        "source: {dsn: \"password='${CONFIG_T}\"}\n", "source: {dsn: [\"${CONFIG_T}\"]}\n",
        SOURCE "listen: ${CONFIG_T}\n", SOURCE "log_level: ${CONFIG_T}\n",
        SOURCE "log: {retain_age: \"${CONFIG_T}\", retain_bytes: \"${CONFIG_T}\"}\n",
        SOURCE "log: {retain_bytes: \"${CONFIG_T}\"}\n",
        SOURCE "sinks: {a: {kind: file, start: \"${CONFIG_T}\"}}\n",
        SOURCE "sinks: {a: {kind: \"${CONFIG_T}\"}}\n", SOURCE "data_dir: [\"${CONFIG_T}\"]\n",
        "source:\n  dsn: x\n  slot: ${CONFIG_T}!\n",
        "source:\n  dsn: a=b\n  password_file: /${CONFIG_T}\n"};

    (void)state;
    assert_int_equal(setenv("CONFIG_T", "hush", 1), 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config *c = NULL;
        struct err e;
        assert_int_equal(config_load_text("f", str_from(rows[i]), &c, &e), ERR_CONFIG);
        assert_null(strstr(e.msg, "hush"));
    }
}

static void
a_missing_file_says_how_to_get_one(void **state)
{
    struct config *c = NULL;
    struct err e;

    (void)state;
    assert_int_equal(config_load("/no/such/oneslot.yaml", &c, &e), ERR_CONFIG);
    assert_null(c);
    assert_string_equal(e.msg, "/no/such/oneslot.yaml: there is no such file; name one with -c "
                               "FILE, or create it: the least "
                               "it needs is `source: {dsn: \"host=127.0.0.1 dbname=app "
                               "user=oneslot\"}`, and `oneslot config "
                               "--help` lists every key");
    config_free(NULL);
}

static void
loads_a_file(void **state)
{
    char path[] = "/tmp/config_test.XXXXXX";
    struct config *c = NULL;
    struct err e;
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, SOURCE, strlen(SOURCE)), strlen(SOURCE));
    assert_int_equal(close(fd), 0);
    assert_int_equal(config_load(path, &c, &e), 0);
    assert_string_equal(c->data_dir, "/tmp/data");
    config_free(c);
    assert_int_equal(unlink(path), 0);
}

static void
helps_with_every_key(void **state)
{
    static const char *const keys[] = {"data_dir: ", "allow_unsafe_filesystem: ", "log_level: ",
        "listen: ", "tls: not in this version", "tokens_file: not in this version",
        "  dsn: ", "  password_file: ", "  slot: ", "  publication: ", "  tables: ",
        "  snapshot: never (never)", "  segment_bytes: ", "  retain_age: ", "  retain_bytes: ",
        "  when_full: block | evict (block)", "  compression: none | zstd (none)",
        "sinks: ", "    kind: file | elasticsearch | http | null | flaky (required)",
        "    tables: ", "    start: ", "    enabled: "};
    auto_buf struct buf b;

    (void)state;
    buf_init(&b, 8192);
    config_help(&b);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strstr(buf_cstr(&b), keys[i]) == NULL) {
            fail_msg("`%s` lacks in:\n%s", keys[i], buf_cstr(&b));
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(everything),
        cmocka_unit_test(bad_files),
        cmocka_unit_test(loopback_is_all_that_may_listen),
        cmocka_unit_test(a_kind_has_keys_of_its_own),
        cmocka_unit_test(prints_what_counts_without_secrets),
        cmocka_unit_test(no_message_holds_a_secret),
        cmocka_unit_test(a_missing_file_says_how_to_get_one),
        cmocka_unit_test(loads_a_file),
        cmocka_unit_test(helps_with_every_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
