#include "sinks/inspect.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/base/json.h"
#include "proto/base/sig.h"
#include "proto/base/xmalloc.h"
#include "proto/glob.h"

enum { INPUT_MAX = 64 * 1024 * 1024 };

struct tables {
    struct sink_table *v;
    struct json **roots; /* own the names */
    size_t n;
};

static void
tables_fini(struct tables *t)
{
    for (size_t i = 0; i < t->n; i++) {
        json_free(t->roots[i]);
    }
    free(t->v);
    free(t->roots);
}

static int
read_all(int fd, struct buf *to, struct err *e)
{
    char piece[16 * 1024];
    for (;;) {
        ssize_t n = read(fd, piece, sizeof piece);
        if (n == 0) {
            return buf_ok(to) ? 0 : err_set(e, ERR_TOOBIG, "too many tables to check");
        }
        if (n < 0 && errno != EINTR) {
            return err_set_sys(e, ERR_IO, errno, "cannot read the tables to check");
        }
        if (n > 0) {
            buf_put(to, piece, (size_t)n);
        }
    }
}

static int
add_table(struct tables *t, struct str line, struct err *e)
{
    struct json *root = NULL;
    struct sink_table s = {0};
    int rc = json_parse(line, &root, e);
    if (rc == 0 && !(json_str(json_get(root, "schema"), &s.ns) &&
                       json_str(json_get(root, "table"), &s.name) &&
                       json_bool(json_get(root, "key"), &s.has_key))) {
        rc = err_set(e, ERR_PARSE, "a table to check needs schema, table and key");
    }
    if (rc != 0) {
        json_free(root);
        return rc;
    }
    t->v = xreallocarray(t->v, t->n + 1, sizeof *t->v);
    t->roots = xreallocarray(t->roots, t->n + 1, sizeof(struct json *));
    t->v[t->n] = s;
    t->roots[t->n++] = root;
    return 0;
}

static bool
is_selected(const struct inspect_conf *c, struct str line)
{
    struct json *root = NULL;
    struct str ns, name;
    bool is_ours = c->ntables == 0;
    if (!is_ours && json_parse(line, &root, NULL) == 0 &&
        json_str(json_get(root, "schema"), &ns) && json_str(json_get(root, "table"), &name)) {
        is_ours = glob_match_any(c->tables, c->ntables, ns, name);
    }
    json_free(root);
    return is_ours;
}

static int
parse_tables(const struct inspect_conf *c, struct str text, struct tables *t, struct err *e)
{
    int rc = 0;
    while (text.n > 0 && rc == 0) {
        const char *end = memchr(text.p, '\n', text.n);
        struct str line = {text.p, end == NULL ? text.n : (size_t)(end - text.p)};
        size_t used = line.n + (end != NULL);
        text = (struct str){text.p + used, text.n - used};
        if (line.n > 0 && is_selected(c, line)) {
            rc = add_table(t, line, e);
        }
    }
    return rc;
}

/* A sink that has no place in any log yet: the target is only looked at. */
static int
look(const struct inspect_conf *c, const struct tables *t, struct buf *lines, struct err *e)
{
    struct sink_setup setup = {.name = c->name,
        .options = c->options,
        .next = 1,
        .lanes = 1,
        .is_check = true,
        .should_stop = sig_stop_requested};
    struct sink *s = NULL;
    int rc = c->ops->open(&setup, &s, e);
    if (rc == 0 && c->ops->check != NULL) {
        rc = c->ops->check(s, t->v, t->n, lines, e);
    }
    c->ops->close(s);
    return rc;
}

static unsigned
count_faults(struct buf *lines)
{
    unsigned n = 0;
    for (const char *at = buf_cstr(lines); at != NULL && *at != '\0';) {
        n += strncmp(at, "fault: ", 7) == 0;
        at = strchr(at, '\n');
        at = at == NULL ? NULL : at + 1;
    }
    return n;
}

int
inspect_run(const struct inspect_conf *c, int fd, struct buf *lines, unsigned *ret_faults,
    struct err *e)
{
    struct buf auto_buf text;
    struct tables t = {0};
    struct err why;
    buf_init(&text, INPUT_MAX);
    int rc = read_all(fd, &text, e);
    if (rc == 0) {
        rc = parse_tables(c, buf_str(&text), &t, e);
    }
    if (rc == 0) {
        if (look(c, &t, lines, &why) != 0) {
            buf_printf(lines, "fault: %s\n", why.msg);
        }
        *ret_faults = count_faults(lines);
        if (*ret_faults == 0) {
            buf_printf(lines, "ok: the target is there and can take %zu tables\n", t.n);
        }
    }
    tables_fini(&t);
    return rc;
}
