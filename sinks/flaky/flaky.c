/* flaky: a target for tests that does as a file says, read anew before each write. What it
 * accepts is appended to `path`, one NDJSON line per change, so that tests judge what arrived.
 *
 *   reject TEXT    every record whose first key column is TEXT (`*`: every record)
 *   retry TEXT     not now
 *   reread TEXT    where columns are left out
 *   down           cannot connect
 *   auth           refused
 *   busy           too much to do
 *   delay MS       takes so long */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/fs.h"
#include "proto/base/xmalloc.h"
#include "proto/record_json.h"
#include "proto/record_key.h"
#include "sinks/sink.h"

enum { SCRIPT_MAX = 64 * 1024 };

struct flaky_options {
    char *path, *script;
};

static const struct conf_field flaky_fields[] = {
    {.name = "path",
        .type = CONF_PATH,
        .offset = offsetof(struct flaky_options, path),
        .flags = CONF_REQUIRED,
        .help = "the file that what is accepted is appended to"},
    {.name = "script",
        .type = CONF_PATH,
        .offset = offsetof(struct flaky_options, script),
        .flags = CONF_REQUIRED,
        .help = "the file that says what goes wrong; none there: nothing"},
    {0},
};

struct flaky {
    struct sink sink;
    const struct flaky_options *o;
    struct buf script, lines;
};

extern const struct sink_ops sink_flaky_ops;

static struct flaky *
flaky_of(struct sink *s)
{
    return (struct flaky *)(void *)s;
}

static int
read_script(struct flaky *f, struct err *e)
{
    buf_reset(&f->script, SCRIPT_MAX);
    int fd = open(f->o->script, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? 0 : err_set_sys(e, ERR_CONFIG, errno, "%s", f->o->script);
    }
    char piece[4096];
    ssize_t n;
    while ((n = read(fd, piece, sizeof piece)) > 0) {
        buf_put(&f->script, piece, (size_t)n);
    }
    (void)close(fd);
    return n < 0 || !buf_ok(&f->script) ? err_set(e, ERR_CONFIG, "%s", f->o->script) : 0;
}

/* The next line's two words; false: no more. */
static bool
next_line(struct str *rest, struct str *verb, struct str *what)
{
    if (rest->n == 0) {
        return false;
    }
    const char *end = memchr(rest->p, '\n', rest->n);
    struct str line = {rest->p, end == NULL ? rest->n : (size_t)(end - rest->p)};
    size_t used = line.n + (end != NULL);
    *rest = (struct str){rest->p + used, rest->n - used};
    const char *blank = memchr(line.p, ' ', line.n);
    size_t n = blank == NULL ? line.n : (size_t)(blank - line.p);
    *verb = (struct str){line.p, n};
    *what = blank == NULL ? STR("") : (struct str){blank + 1, line.n - n - 1};
    return true;
}

static void
delay(struct str ms)
{
    uint64_t n = 0;
    if (str_u64(ms, 60000, &n)) {
        clock_sleep_ms((int64_t)n);
    }
}

/* What concerns the whole target. */
static int
obey(struct flaky *f, struct err *e)
{
    struct str rest = buf_str(&f->script), verb, what;
    while (next_line(&rest, &verb, &what)) {
        if (str_is(verb, "delay")) {
            delay(what);
        } else if (str_is(verb, "down")) {
            return err_set(e, ERR_CONNECT, "the script says: down");
        } else if (str_is(verb, "auth")) {
            return err_set(e, ERR_AUTH, "the script says: auth");
        } else if (str_is(verb, "busy")) {
            f->sink.is_pushed_back = true;
            return err_set(e, ERR_BUSY, "the script says: busy");
        }
    }
    return 0;
}

static struct str
first_key(const struct record *r)
{
    if (record_has_key(r)) {
        const struct record_value *row = record_key_row(r);
        for (uint32_t i = 0; i < r->schema->ncols; i++) {
            if (r->schema->cols[i].in_key) {
                return row[i].text;
            }
        }
    }
    return STR("");
}

static enum verdict
verdict_for(const struct flaky *f, const struct record *r, bool is_barred)
{
    struct str rest = buf_str(&f->script), verb, what, key = first_key(r);
    bool can_reread = record_has_key(r) && record_has_unchanged(r);
    if (is_barred && can_reread) {
        return VERDICT_REREAD;
    }
    while (next_line(&rest, &verb, &what)) {
        if (!str_eq(what, key) && !str_is(what, "*")) {
            continue;
        }
        if (str_is(verb, "reject")) {
            return VERDICT_REJECT;
        }
        if (str_is(verb, "retry")) {
            return VERDICT_RETRY;
        }
        if (str_is(verb, "reread") && can_reread) {
            return VERDICT_REREAD;
        }
    }
    return VERDICT_DONE;
}

static int
append_lines(struct flaky *f, struct err *e)
{
    int fd = open(f->o->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) {
        return err_set_sys(e, ERR_CONFIG, errno, "%s", f->o->path);
    }
    ssize_t n = write(fd, f->lines.p, f->lines.n); /* one write: lanes do not mix lines */
    int sys = errno;
    (void)close(fd);
    return n == (ssize_t)f->lines.n ? 0 : err_set_sys(e, ERR_IO, sys, "%s", f->o->path);
}

static int
flaky_write(
    struct sink *s, const struct sink_batch *b, struct sink_verdict *verdicts, struct err *e)
{
    struct flaky *f = flaky_of(s);
    int rc = read_script(f, e);
    if (rc == 0) {
        rc = obey(f, e);
    }
    if (rc != 0) {
        return rc;
    }
    buf_reset(&f->lines, SIZE_MAX);
    for (size_t i = 0; i < b->n; i++) {
        verdicts[i].verdict = verdict_for(f, &b->records[i], b->barred != NULL && b->barred[i]);
        verdicts[i].reason = "the script says so";
        if (verdicts[i].verdict == VERDICT_DONE) {
            record_json_put(&f->lines, &b->records[i]);
            buf_putc(&f->lines, '\n');
        }
    }
    s->counts.requests++;
    return f->lines.n == 0 ? 0 : append_lines(f, e);
}

static void
flaky_close(struct sink *s)
{
    if (s == NULL) {
        return;
    }
    struct flaky *f = flaky_of(s);
    buf_fini(&f->script);
    buf_fini(&f->lines);
    free(f);
}

static int
flaky_open(const struct sink_setup *setup, struct sink **ret, struct err *e)
{
    struct flaky *f = xcalloc(1, sizeof *f);
    f->sink.ops = &sink_flaky_ops;
    f->o = setup->options;
    buf_init(&f->script, SCRIPT_MAX);
    buf_init(&f->lines, SIZE_MAX);
    int rc = read_script(f, e);
    if (rc == 0) {
        rc = obey(f, e);
    }
    if (rc != 0) {
        flaky_close(&f->sink);
        return rc;
    }
    *ret = &f->sink;
    return 0;
}

const struct sink_ops sink_flaky_ops = {
    .name = "flaky",
    .help = "for tests: a file that accepts what a script lets it",
    .options = flaky_fields,
    .options_size = sizeof(struct flaky_options),
    .flags = SINK_NEEDS_VALUES,
    .batch_bytes = 1024 * 1024,
    .batch_records = 100,
    .open = flaky_open,
    .write = flaky_write,
    .close = flaky_close,
};
