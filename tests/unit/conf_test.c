/* conf: YAML to nodes (its bounds, ${} and messages), nodes to a struct by a table of every
 * type, and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/conf.h"
#include "proto/base/json.h"
#include "proto/base/xmalloc.h"

struct all {
    char *text, *path, *secret;
    bool flag;
    int64_t number, time_ms;
    uint64_t size, inner_size;
    int choice;
    struct conf_list list;
    char *inner_text;
    const struct conf_node *node;
};

static const char *const choices[] = {"one", "!two", "null", NULL};
static const struct conf_field inner[] = {{.name = "size",
                                              .type = CONF_SIZE,
                                              .offset = offsetof(struct all, inner_size),
                                              .deflt = "4KiB",
                                              .help = "an inner size"},
    {.name = "text",
        .type = CONF_STRING,
        .offset = offsetof(struct all, inner_text),
        .help = "an inner text"},
    {0}};
static const struct conf_field fields[] = {{.name = "text",
                                               .type = CONF_STRING,
                                               .offset = offsetof(struct all, text),
                                               .flags = CONF_REQUIRED,
                                               .help = "a text"},
    {.name = "path",
        .type = CONF_PATH,
        .offset = offsetof(struct all, path),
        .deflt = "./d/e",
        .help = "a path"},
    {.name = "secret",
        .type = CONF_STRING,
        .offset = offsetof(struct all, secret),
        .flags = CONF_SECRET,
        .help = "a secret"},
    {.name = "flag",
        .type = CONF_BOOL,
        .offset = offsetof(struct all, flag),
        .deflt = "true",
        .help = "a flag"},
    {.name = "number",
        .type = CONF_INT,
        .offset = offsetof(struct all, number),
        .deflt = "-3",
        .min = -5,
        .max = 100,
        .help = "a number"},
    {.name = "time",
        .type = CONF_DURATION,
        .offset = offsetof(struct all, time_ms),
        .deflt = "90s",
        .min = 1000,
        .max = 86400000,
        .help = "a time"},
    {.name = "size",
        .type = CONF_SIZE,
        .offset = offsetof(struct all, size),
        .deflt = "1536KiB",
        .min = 1024,
        .max = INT64_C(1) << 30,
        .help = "a size"},
    {.name = "choice",
        .type = CONF_ENUM,
        .offset = offsetof(struct all, choice),
        .deflt = "one",
        .names = choices,
        .help = "a choice"},
    {.name = "list", .type = CONF_LIST, .offset = offsetof(struct all, list), .help = "a list"},
    {.name = "inner", .type = CONF_TABLE, .sub = inner, .help = "a section"},
    {.name = "later", .type = CONF_STRING, .flags = CONF_NOT_YET, .help = "comes later"},
    {.name = "node",
        .type = CONF_NODE,
        .offset = offsetof(struct all, node),
        .help = "anything"},
    {0}};

/* Reads text and applies the table; on success *ret_doc is the caller's. */
static int
apply(struct str text, struct all *a, struct conf_doc **ret_doc, struct err *e)
{
    int rc = conf_load_text("/etc/f.yaml", text, ret_doc, e);

    memset(a, 0, sizeof *a);
    if (rc == 0) {
        rc = conf_apply(conf_root(*ret_doc), fields, a, e);
    }
    return rc;
}

static void
release(struct all *a, struct conf_doc *doc)
{
    conf_release(fields, a);
    conf_free(doc);
}

static void
reads_a_tree(void **state)
{
    struct conf_doc *doc = NULL;
    struct err e;
    const struct conf_node *root, *n;
    const char *text = "a: x y\n"
                       "b:\n"
                       "  - 1\n"
                       "  - 'two'\n"
                       "c: {d: [], \"e f\": |\n"
                       "  }\n";

    (void)state;
    assert_int_equal(
        conf_load_text("f", str_from(text), &doc, &e), ERR_CONFIG); /* | inside {} */
    text = "a: x y\nb:\n  - 1\n  - 'two'\nc: {d: [], \"e f\": ~}\ng: \"~\"\n";
    assert_int_equal(conf_load_text("f", str_from(text), &doc, &e), 0);
    root = conf_root(doc);
    assert_int_equal(root->kind, CONF_MAPPING);
    assert_int_equal(root->n, 4);
    n = conf_child(root, "a");
    assert_string_equal(n->text, "x y");
    assert_int_equal(n->line, 1);
    assert_int_equal(n->column, 4);
    assert_int_equal(n->key_column, 1);
    n = conf_child(root, "b");
    assert_int_equal(n->kind, CONF_SEQUENCE);
    assert_int_equal(n->n, 2);
    assert_int_equal(n->child[1]->line, 4);
    assert_int_equal(n->child[1]->column, 5);
    assert_false(n->child[1]->is_plain);
    n = conf_child(conf_child(root, "c"), "e f");
    assert_true(conf_is_null(n));
    assert_int_equal(n->key_line, 5);
    assert_int_equal(n->key_column, 12);
    assert_false(conf_is_null(conf_child(root, "g")));
    assert_null(conf_child(root, "d"));
    assert_null(conf_child(n, "d"));
    conf_free(doc);
}

static void
an_empty_file_is_an_empty_mapping(void **state)
{
    static const char *const rows[] = {"", "\n", "# only a comment\n", "---\n", "--- ~\n...\n"};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct conf_doc *doc = NULL;
        assert_int_equal(conf_load_text("f", str_from(rows[i]), &doc, NULL), 0);
        assert_int_equal(conf_root(doc)->kind, CONF_MAPPING);
        assert_int_equal(conf_root(doc)->n, 0);
        conf_free(doc);
    }
}

static void
refuses_what_is_not_a_configuration(void **state)
{
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"- a\n", "f:1:1: a configuration is a mapping: lines of `key: value`"},
        {"word\n", "f:1:1: a configuration is a mapping: lines of `key: value`"},
        {"a: 1\nb: 2\na: 3\n",
            "f:3:1: `a` is given twice: it stands in line 1 already; keep one"},
        {"a:\n  b: 1\n  c: {d: 1, d: 2}\n",
            "f:3:13: `d` is given twice: it stands in line 3 already; keep one"},
        {"a: 1\n---\nb: 1\n",
            "f:2:1: a second document begins here; a configuration is one document"},
        {"a: &x 1\n",
            "f:1:4: anchors (&), aliases (*) and tags (!) are not used here; quote the "
            "text if it begins with such a character"},
        {"a: 1\nb: *x\n",
            "f:2:4: anchors (&), aliases (*) and tags (!) are not used here; quote "
            "the text if it begins with such a character"},
        {"a: !!str 1\n",
            "f:1:4: anchors (&), aliases (*) and tags (!) are not used here; quote "
            "the text if it begins with such a character"},
        {"a: &x [1]\n", "f:1:4: anchors (&), aliases (*) and tags (!) are not used here; quote "
                        "the text if it begins with such a character"},
        {"&k a: 1\n", "f:1:1: a key must be a plain word, without anchor, tag or NUL"},
        {"\"a\\0b\": 1\n", "f:1:1: a key must be a plain word, without anchor, tag or NUL"},
        {"a: \"x\\0y\"\n", "f:1:4: the text holds a NUL character"},
        {"? [a]\n: 1\n", "f:1:3: a key must be a plain word"},
        {"a:\n\tb: 1\n",
            "f:2:1: not YAML: the line is indented with a tab; indent with spaces"},
        {"a: b: c\n", "f:1:5: not YAML: mapping values are not allowed in this context"},
        {"a: [1, 2\nb: 3\n",
            "f:2:2: not YAML: did not find expected ',' or ']' (while parsing a "
            "flow sequence that began in line 1)"},
        {"a: 1\nb: x\xff\n",
            "f:2:5: not UTF-8 text: invalid leading UTF-8 octet; save the file as UTF-8"},
        {"a: [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]\n", "f:1:19: nested deeper than 16 levels"},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: 1\n",
            "f:1:1: a key is longer than 64 bytes"},
        {"\"a\\e[2Jb\": 1\n\"a\\e[2Jb\": 1\n",
            "f:2:1: `a?[2Jb` is given twice: it stands in line 1 already; keep one"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct conf_doc *doc = NULL;
        struct err e = {0};
        assert_int_equal(conf_load_text("f", str_from(rows[i].text), &doc, &e), ERR_CONFIG);
        assert_string_equal(e.msg, rows[i].says);
        assert_null(doc);
    }
}

static void
every_prefix_of_a_file_ends_well(void **state)
{
    static const char text[] =
        "a: [x, {b: 'c', \"d\": \"\\u00e4\"}]\ne:\n  - |\n    f\n  - g: ${HOME}\n";

    (void)state;
    for (size_t n = 0; n < sizeof text; n++) {
        char *copy = xstrndup(text, n); /* of its exact size: a read behind it is seen */
        struct conf_doc *doc = NULL;
        if (conf_load_text("f", (struct str){.p = copy, .n = n}, &doc, NULL) == 0) {
            conf_free(doc);
        }
        free(copy);
    }
}

static void
bounds_size_and_count(void **state)
{
    struct conf_doc *doc = NULL;
    struct err e;
    auto_buf struct buf b;

    (void)state;
    buf_init(&b, 2 * 1024 * 1024);
    buf_puts(&b, "a: [0");
    for (int i = 0; i < 4094; i++) {
        buf_puts(&b, ",1");
    }
    buf_puts(&b, "]\n");
    assert_int_equal(conf_load_text("f", buf_str(&b), &doc, &e), 0);
    conf_free(doc);
    b.n -= 2;
    buf_puts(&b, ",1]\n");
    assert_int_equal(conf_load_text("f", buf_str(&b), &doc, &e), ERR_CONFIG);
    assert_non_null(strstr(e.msg, "more than 4096 values"));
    buf_reset(&b, SIZE_MAX);
    while (b.n <= 1024 * 1024) {
        buf_puts(&b, "# a long comment that says nothing at all, and that again and again\n");
    }
    assert_int_equal(conf_load_text("f", buf_str(&b), &doc, &e), ERR_CONFIG);
    assert_string_equal(e.msg, "f:1:1: larger than 1 MiB: not a configuration");
}

static void
puts_the_environment_in(void **state)
{
    static const struct {
        const char *value, *text; /* text NULL: says */
        const char *says;
        bool from_env;
    } rows[] = {
        {"${CONF_T}", "v w", NULL, true},
        {"'a ${CONF_T}${CONF_T} b'", "a v wv w b", NULL, true},
        {"x${CONF_EMPTY}y", "xy", NULL, true},
        {"$${CONF_T}", "${CONF_T}", NULL, false},
        {"$$${CONF_T}", "$${CONF_T}", NULL, false},
        {"$ $$ $x {y}", "$ $$ $x {y}", NULL, false},
        {"${CONF_NOT_SET}", NULL,
            "f:1:4: the environment variable CONF_NOT_SET is not set; set it, or write $${ for "
            "a "
            "literal ${",
            false},
        {"x${}", NULL,
            "f:1:4: ${ must be followed by the name of an environment variable and }", false},
        {"x${CONF_T", NULL, "f:1:4: ${ must be followed by the name", false},
        {"x${9}", NULL, "f:1:4: ${ must be followed by the name", false},
        {"x${CONF T}", NULL, "f:1:4: ${ must be followed by the name", false},
    };

    (void)state;
    assert_int_equal(setenv("CONF_T", "v w", 1), 0);
    assert_int_equal(setenv("CONF_EMPTY", "", 1), 0);
    (void)unsetenv("CONF_NOT_SET");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct conf_doc *doc = NULL;
        struct err e = {0};
        auto_free char *text = xasprintf("a: %s\n", rows[i].value);
        int rc = conf_load_text("f", str_from(text), &doc, &e);
        if (rows[i].text != NULL) {
            const struct conf_node *n;
            assert_int_equal(rc, 0);
            n = conf_child(conf_root(doc), "a");
            assert_string_equal(n->text, rows[i].text);
            assert_int_equal(n->from_env, rows[i].from_env);
        } else {
            assert_int_equal(rc, ERR_CONFIG);
            assert_int_equal(strncmp(e.msg, rows[i].says, strlen(rows[i].says)), 0);
        }
        conf_free(doc);
    }
}

static void
the_environment_cannot_make_it_endless(void **state)
{
    struct conf_doc *doc = NULL;
    struct err e;
    auto_buf struct buf b;
    auto_free char *value = xcalloc(1, 100001);

    (void)state;
    memset(value, 'x', 100000);
    assert_int_equal(setenv("CONF_T", value, 1), 0);
    buf_init(&b, 4096);
    buf_puts(&b, "a: [");
    for (int i = 0; i < 50; i++) {
        buf_puts(&b, "\"${CONF_T}\", ");
    }
    buf_puts(&b, "]\n");
    assert_int_equal(conf_load_text("f", buf_str(&b), &doc, &e), ERR_CONFIG);
    assert_non_null(strstr(e.msg, "more than 4 MiB"));
}

static void
defaults(void **state)
{
    struct conf_doc *doc = NULL;
    struct all a;

    (void)state;
    assert_int_equal(apply(STR("text: t\n"), &a, &doc, NULL), 0);
    assert_string_equal(a.text, "t");
    assert_string_equal(a.path, "/etc/d/e");
    assert_null(a.secret);
    assert_true(a.flag);
    assert_true(a.number == -3 && a.time_ms == 90000 && a.size == 1536 * 1024);
    assert_int_equal(a.choice, 0);
    assert_int_equal(a.list.n, 0);
    assert_true(a.inner_size == 4096);
    assert_null(a.inner_text);
    assert_null(a.node);
    release(&a, doc);
}

static void
values(void **state)
{
    struct conf_doc *doc = NULL;
    struct all a;

    (void)state;
    assert_int_equal(
        apply(STR("text: 12\npath: ././/x/../y\nsecret: hush\nflag: false\nnumber: 100\n"
                  "time: 1d\nsize: \"1GiB\"\nchoice: null\nlist: [a, 'null', \"\"]\n"
                  "inner:\n  text: null and void\nnode: [1, {a: b}]\n"),
            &a, &doc, NULL),
        0);
    assert_string_equal(a.text, "12");
    assert_string_equal(a.path, "/etc/x/../y");
    assert_false(a.flag);
    assert_true(a.number == 100 && a.time_ms == 86400000 && a.size == 1024 * 1024 * 1024);
    assert_int_equal(a.choice, 2);
    assert_int_equal(a.list.n, 3);
    assert_string_equal(a.list.v[1], "null");
    assert_string_equal(a.list.v[2], "");
    assert_string_equal(a.inner_text, "null and void");
    assert_int_equal(a.node->n, 2);
    release(&a, doc);
    assert_int_equal(apply(STR("text: t\npath: /abs\nlist: one\ninner:\n"), &a, &doc, NULL), 0);
    assert_string_equal(a.path, "/abs");
    assert_int_equal(a.list.n, 1);
    assert_string_equal(a.list.v[0], "one");
    assert_true(a.inner_size == 4096);
    release(&a, doc);
}

static void
bad_values(void **state)
{
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"flag: true\n", "1:1: `text` is missing here and required: a text"},
        {"text: t\ntxt: t\n",
            "2:1: `txt` is not a key here; these are: text, path, secret, flag, "
            "number, time, size, choice, list, inner, node"},
        {"text: t\ninner:\n  siz: 1\n", "3:3: `siz` is not a key here; these are: size, text"},
        {"text: t\nlater: x\n", "2:1: `later` is not in this version"},
        {"text:\n", "1:6: `text` has no value; give it one, or remove the key for its default"},
        {"text: ~\n",
            "1:7: `text` has no value; give it one, or remove the key for its default"},
        {"text: t\npath: \"\"\n",
            "2:7: `path` has no value; give it one, or remove the key for its default"},
        {"text: [t]\n", "1:7: `text` must be a single value"},
        {"text: {t: u}\n", "1:7: `text` must be a single value"},
        {"text: t\nflag: yes\n", "2:7: `flag` must be true or false, without quotes"},
        {"text: t\nflag: 'true'\n", "2:7: `flag` must be true or false, without quotes"},
        {"text: t\nnumber: 1.5\n", "2:9: `number` must be a whole number"},
        {"text: t\nnumber: \"-\"\n", "2:9: `number` must be a whole number"},
        {"text: t\nnumber: 9223372036854775808\n", "2:9: `number` must be a whole number"},
        {"text: t\nnumber: -6\n", "2:9: `number` is out of range: -5 to 100 is allowed"},
        {"text: t\nnumber: -9223372036854775808\n",
            "2:9: `number` is out of range: -5 to 100 is allowed"},
        {"text: t\ntime: 5\n",
            "2:7: `time` must be a time: a number with ms, s, m, h or d behind it (30s)"},
        {"text: t\ntime: 999ms\n", "2:7: `time` is out of range: 1s to 1d is allowed"},
        {"text: t\nsize: 5MB\n",
            "2:7: `size` must be a size: a number of bytes, or one with KiB, MiB "
            "or GiB behind it (512MiB)"},
        {"text: t\nsize: 2GiB\n", "2:7: `size` is out of range: 1KiB to 1GiB is allowed"},
        {"text: t\nchoice: two\n", "2:9: `choice: two` is not in this version"},
        {"text: t\nchoice: three\n", "2:9: `choice` must be one of: one, null"},
        {"text: t\nchoice: ~\n",
            "2:9: `choice` has no value; give it one, or remove the key for its default"},
        {"text: t\nlist: {a: b}\n", "2:7: `list` must be a text or a list of texts"},
        {"text: t\nlist: [a, [b]]\n", "2:11: `list` must be a text or a list of texts"},
        {"text: t\nlist: [a, ~]\n",
            "2:11: `list` has no value; give it one, or remove the key for its default"},
        {"text: t\ninner: 1\n",
            "2:8: `inner` must be a mapping: indented lines of `key: value`"},
        {"text: t\ninner: []\n",
            "2:8: `inner` must be a mapping: indented lines of `key: value`"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct conf_doc *doc = NULL;
        struct all a;
        struct err e = {0};
        assert_int_equal(apply(str_from(rows[i].text), &a, &doc, &e), ERR_CONFIG);
        assert_int_equal(e.code, ERR_CONFIG);
        assert_int_equal(strncmp(e.msg, "/etc/f.yaml:", 12), 0);
        assert_string_equal(e.msg + 12, rows[i].says);
        release(&a, doc);
    }
}

static void
sizes_and_times(void **state)
{
    static const struct {
        const char *text;
        int64_t size, ms; /* -1: not one */
    } rows[] = {
        {"0", 0, -1},
        {"4096", 4096, -1},
        {"1KiB", 1024, -1},
        {"3MiB", 3145728, -1},
        {"2GiB", INT64_C(2147483648), -1},
        {"9223372036854775807", INT64_MAX, -1},
        {"9223372036854775808", -1, -1},
        {"18446744073709551616", -1, -1},
        {"8589934592GiB", -1, -1},
        {"99999999999999999999GiB", -1, -1},
        {"0s", -1, 0},
        {"250ms", -1, 250},
        {"30s", -1, 30000},
        {"2m", -1, 120000},
        {"1h", -1, 3600000},
        {"7d", -1, 604800000},
        {"106751991168d", -1, -1},
        {"", -1, -1},
        {"MiB", -1, -1},
        {"-1", -1, -1},
        {"1 MiB", -1, -1},
        {"1mib", -1, -1},
        {"1.5h", -1, -1},
        {"1S", -1, -1},
        {"1sec", -1, -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t size = 7;
        int64_t ms = 7;
        assert_int_equal(conf_parse_size(str_from(rows[i].text), &size), rows[i].size >= 0);
        assert_true(size == (rows[i].size < 0 ? 7 : (uint64_t)rows[i].size));
        assert_int_equal(conf_parse_duration(str_from(rows[i].text), &ms), rows[i].ms >= 0);
        assert_true(ms == (rows[i].ms < 0 ? 7 : rows[i].ms));
    }
}

static void
prints_what_reads_back(void **state)
{
    struct conf_doc *doc = NULL, *doc2 = NULL;
    struct all a, a2;
    const char *text =
        "text: \"\\\"q\\\" \\\\ $${X} \\t\\n\\x7f \\u00e4 \\u2028 \\ufeff\"\nsecret: hush\n"
        "list: [a, \": {\", \"~\"]\nsize: 1536\ntime: 90m\nnode: 5\n"
        "inner: {text: 'it''s'}\n";
    auto_buf struct buf b;
    auto_buf struct buf again;

    (void)state;
    buf_init(&b, 4096);
    buf_init(&again, 4096);
    assert_int_equal(apply(str_from(text), &a, &doc, NULL), 0);
    conf_print(&b, fields, &a, 0);
    assert_string_equal(buf_cstr(&b),
        "text: \"\\\"q\\\" \\\\ $${X} \\U00000009\\U0000000A\\U0000007F \xc3\xa4 \\U00002028 "
        "\\U0000FEFF\"\n"
        "path: \"/etc/d/e\"\n"
        "secret: \"********\"\n"
        "flag: true\n"
        "number: -3\n"
        "time: 90m\n"
        "size: 1536\n"
        "choice: one\n"
        "list: [\"a\", \": {\", \"~\"]\n"
        "inner:\n"
        "  size: 4KiB\n"
        "  text: \"it's\"\n");
    assert_int_equal(apply(buf_str(&b), &a2, &doc2, NULL), 0);
    assert_string_equal(a2.text, a.text);
    conf_print(&again, fields, &a2, 0);
    assert_string_equal(buf_cstr(&again), buf_cstr(&b));
    release(&a, doc);
    release(&a2, doc2);
}

static void
prints_json_of_every_type(void **state)
{
    struct conf_doc *doc = NULL;
    struct all a;
    const char *text =
        "text: \"\\\"q\\\" $${X}\\n\"\nsecret: hush\nlist: [a, \"~\"]\nsize: 1536\n"
        "time: 90m\nchoice: null\n"
        "node: {url: 'http://me:hush@h/x', n: ~, t: true, 't2': 'true', api_key: hush,"
        " e: 'x${CONF_T}', deep: [1, {password: {a: hush}}], key_file: p}\n";
    auto_buf struct buf b;
    struct jsonw w;

    (void)state;
    assert_int_equal(setenv("CONF_T", "hush", 1), 0);
    buf_init(&b, 4096);
    assert_int_equal(apply(str_from(text), &a, &doc, NULL), 0);
    jsonw_init(&w, &b);
    jsonw_object(&w, NULL);
    conf_print_json(&w, fields, &a);
    jsonw_end_object(&w);
    assert_string_equal(buf_cstr(&b),
        "{\"text\":\"\\\"q\\\" "
        "${X}\\n\",\"path\":\"/etc/d/e\",\"secret\":\"********\",\"flag\":true,"
        "\"number\":-3,\"time\":\"90m\",\"size\":\"1536\",\"choice\":\"null\",\"list\":[\"a\","
        "\"~\"],"
        "\"inner\":{\"size\":\"4KiB\"},"
        "\"node\":{\"url\":\"http://********@h/x\",\"n\":null,\"t\":true,\"t2\":\"true\","
        "\"api_key\":\"********\",\"e\":\"********\",\"deep\":[\"1\",{\"password\":{\"a\":\"***"
        "*****\"}}],"
        "\"key_file\":\"p\"}}");
    release(&a, doc);
}

static void
prints_nodes_without_secrets(void **state)
{
    struct conf_doc *doc = NULL;
    auto_buf struct buf b;
    const char *text = "url: http://me:hush@h:1/x\nplain: [a, true, ~, 'true', {\"k y\": 1}]\n"
                       "api_key: hush\npassword_file: p\nfrom: x${CONF_T}\nOdd ${Word: 1\n"
                       "properties: {sasl.password: hush, secrets: [hush], a: b}\n";

    (void)state;
    assert_int_equal(setenv("CONF_T", "hush", 1), 0);
    buf_init(&b, 4096);
    assert_int_equal(conf_load_text("f", str_from(text), &doc, NULL), 0);
    for (size_t i = 0; i < conf_root(doc)->n; i++) {
        conf_print_node(&b, conf_root(doc)->child[i], 2);
    }
    assert_string_equal(buf_cstr(&b),
        "  url: \"http://********@h:1/x\"\n"
        "  plain: [\"a\", true, null, \"true\", {\"k y\": \"1\"}]\n"
        "  api_key: \"********\"\n"
        "  password_file: \"p\"\n"
        "  from: \"********\"\n"
        "  \"Odd ${Word\": \"1\"\n"
        "  properties: {\"sasl.password\": \"********\", secrets: [\"********\"], a: \"b\"}\n");
    conf_free(doc);
}

static void
helps_one_line_each(void **state)
{
    auto_buf struct buf b;
    size_t lines = 0;
    const char *text;

    (void)state;
    buf_init(&b, 4096);
    conf_help(&b, fields, 0);
    text = buf_cstr(&b);
    for (const char *c = text; *c != '\0'; c++) {
        lines += *c == '\n';
    }
    assert_int_equal(lines, 14);
    assert_non_null(strstr(text, "text: text (required)                       # a text\n"));
    assert_non_null(strstr(text, "choice: one | null (one)                    # a choice\n"));
    assert_non_null(
        strstr(text, "later: not in this version                  # comes later\n"));
    assert_non_null(
        strstr(text, "  size: size (4KiB)                         # an inner size\n"));
}

static void
reads_files(void **state)
{
    char folder[] = "/tmp/conf_test.XXXXXX";
    auto_free char *path = NULL;
    struct conf_doc *doc = NULL;
    struct all a = {0};
    struct err e;
    FILE *f;

    (void)state;
    assert_non_null(mkdtemp(folder));
    path = xasprintf("%s/f.yaml", folder);
    assert_int_equal(conf_load(path, &doc, &e), ERR_NOTFOUND);
    assert_int_equal(conf_load(folder, &doc, &e), ERR_CONFIG);
    assert_int_equal(e.code, ERR_CONFIG);
    f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs("text: t\n", f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(
        conf_load("f.yaml", &doc, &e), 0); /* relative: its folder is made absolute */
    assert_int_equal(conf_apply(conf_root(doc), fields, &a, &e), 0);
    assert_int_equal(strncmp(a.path, folder, strlen(folder)), 0);
    assert_string_equal(a.path + strlen(folder), "/d/e");
    assert_string_equal(conf_root(doc)->file, "f.yaml");
    release(&a, doc);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(rmdir(folder), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_tree),
        cmocka_unit_test(an_empty_file_is_an_empty_mapping),
        cmocka_unit_test(refuses_what_is_not_a_configuration),
        cmocka_unit_test(every_prefix_of_a_file_ends_well),
        cmocka_unit_test(bounds_size_and_count),
        cmocka_unit_test(puts_the_environment_in),
        cmocka_unit_test(the_environment_cannot_make_it_endless),
        cmocka_unit_test(defaults),
        cmocka_unit_test(values),
        cmocka_unit_test(bad_values),
        cmocka_unit_test(sizes_and_times),
        cmocka_unit_test(prints_what_reads_back),
        cmocka_unit_test(prints_json_of_every_type),
        cmocka_unit_test(prints_nodes_without_secrets),
        cmocka_unit_test(helps_one_line_each),
        cmocka_unit_test(reads_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
