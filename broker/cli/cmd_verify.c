/* cmd_verify: `oneslot verify`: every checksum of every segment. Sealed segments are read from
 * their files; what is not sealed yet, by the broker that writes it, or, where none runs, from
 * the files too, with the broker's lock held. */
#include "broker/cli/cmd_verify.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/cli/cmd.h"
#include "broker/cli/cmd_remote.h"
#include "broker/cli/cmd_text.h"
#include "broker/manifest.h"
#include "proto/base/cleanup.h"
#include "proto/base/fs.h"
#include "proto/base/sig.h"
#include "proto/base/xmalloc.h"
#include "proto/batch.h"
#include "proto/config.h"

enum { BAR_COLUMNS = 30, OUT_MAX = 16 * 1024 * 1024, SEGMENTS_MAX = 1 << 20 };

struct entry { /* one segment */
    char name[SEGMENT_NAME_DIGITS + 1];
    uint64_t bytes;
    bool is_sealed, is_removed /* by retention, meanwhile */, is_done;
    struct cmd_segcheck found;
};

struct verify {
    const struct cmd_args *a;
    char *log_dir;
    struct cmd_remote remote;
    struct entry *entry;
    size_t n;
    uint64_t bytes, bytes_done;
    const struct entry *current; /* for the progress bar */
    bool is_screen;
};

bool
cmd_verify_follows(const struct cmd_segcheck *a, struct cmd_segcheck *b)
{
    if (memcmp(a->uuid, b->uuid, API_UUID) != 0) {
        (void)snprintf(b->msg, sizeof b->msg,
            "it belongs to another log than the segment before it; move it away");
    } else if (a->next != b->base && a->epoch == b->epoch) {
        (void)snprintf(b->msg, sizeof b->msg,
            "a segment is missing before it: from offset %" PRIu64 " to %" PRIu64
            "; restore it from a backup",
            a->next, b->base - 1);
    } else {
        return true;
    }
    b->result = CMD_SEGCHECK_DAMAGED;
    b->at = b->base;
    return false;
}

/* ---- the folder ---- */

static bool
is_segment(const char *name)
{
    return strlen(name) == SEGMENT_NAME_DIGITS &&
           strspn(name, "0123456789") == SEGMENT_NAME_DIGITS;
}

static int
compare(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static bool
exists_in(const struct verify *v, const char *name, const char *file, uint64_t *ret_bytes)
{
    struct stat st;
    auto_free char *dir = fs_join(v->log_dir, name);
    auto_free char *path = fs_join(dir, file);
    if (stat(file[0] == '\0' ? dir : path, &st) != 0) {
        return false;
    }
    if (ret_bytes != NULL) {
        *ret_bytes = (uint64_t)st.st_size;
    }
    return true;
}

static void
add_segment(struct verify *v, const char *name, size_t *cap)
{
    if (v->n == *cap) {
        *cap = *cap == 0 ? 64 : 2 * *cap;
        v->entry = xreallocarray(v->entry, *cap, sizeof *v->entry);
    }
    struct entry *n = &v->entry[v->n++];
    *n = (struct entry){0};
    memcpy(n->name, name, SEGMENT_NAME_DIGITS);
    n->is_sealed = exists_in(v, name, MANIFEST_NAME, NULL);
    (void)exists_in(v, name, "data.mdb", &n->bytes);
    v->bytes += n->bytes;
}

static int
list_segments(struct verify *v)
{
    size_t cap = 0;
    DIR *d = opendir(v->log_dir);
    if (d == NULL) {
        return cmd_complain(v->a, CMD_FAILED,
            "cannot read the log's folder %s: %s; is data_dir right?", v->log_dir,
            /* lint:allow strerror: a program of one thread */
            strerror(errno));
    }
    for (const struct dirent *de = readdir(d); de != NULL && v->n < SEGMENTS_MAX;
         de = readdir(d)) {
        if (is_segment(de->d_name)) {
            add_segment(v, de->d_name, &cap);
        }
    }
    (void)closedir(d);
    if (v->n > 0) {
        qsort(v->entry, v->n, sizeof *v->entry, compare);
    }
    return CMD_DONE;
}

/* ---- what people see meanwhile ---- */

static void
show_bar(const struct verify *v, double done)
{
    double part = v->bytes > 0 ? done / (double)v->bytes : 1.0;
    auto_buf struct buf b;
    buf_init(&b, 1024);
    buf_puts(&b, "\r[");
    for (int i = 0; i < BAR_COLUMNS; i++) {
        buf_putc(&b, (double)i < part * BAR_COLUMNS ? '#' : '.');
    }
    buf_printf(&b, "] %3.0f %%  ", 100 * part);
    cmd_text_put_bytes(&b, done);
    buf_puts(&b, " of ");
    cmd_text_put_bytes(&b, (double)v->bytes);
    buf_puts(&b, "\033[K");
    (void)fputs(buf_cstr(&b), stdout);
    (void)fflush(stdout);
}

static void
on_progress(void *arg, uint64_t done, uint64_t all)
{
    const struct verify *v = arg;
    if (v->is_screen && all > 0) {
        show_bar(
            v, (double)v->bytes_done + (double)v->current->bytes * (double)done / (double)all);
    }
}

static const char *
word(const struct entry *n)
{
    static const char *const words[] = {"ok", "DAMAGED", "unread"};
    return n->is_removed ? "removed" : words[n->found.result];
}

static void
put_entry(struct buf *b, const struct entry *n)
{
    buf_printf(b, "%-8s %s", word(n), n->name);
    if (n->is_removed) {
        buf_puts(b, "  by retention, meanwhile");
    } else if (n->found.result == CMD_SEGCHECK_OK) {
        buf_puts(b, "  ");
        cmd_text_put_count(b, n->found.next - n->found.base);
        buf_puts(b, " records, ");
        cmd_text_put_bytes(b, (double)n->bytes);
        buf_puts(b, n->is_sealed ? "" : ", not sealed yet");
    } else {
        if (n->found.result == CMD_SEGCHECK_DAMAGED) {
            buf_printf(b, "  at offset %" PRIu64, n->found.at);
        }
        buf_puts(b, "  ");
        cmd_text_put(b, str_from(n->found.msg));
    }
    buf_putc(b, '\n');
}

/* On a terminal only what needs a person; the bar is redrawn behind it. */
static void
report(struct verify *v, const struct entry *n)
{
    auto_buf struct buf b;
    buf_init(&b, 4096);
    bool is_bad = !n->is_removed && n->found.result != CMD_SEGCHECK_OK;
    if (v->a->json || (v->is_screen && !is_bad)) {
        return;
    }
    buf_puts(&b, v->is_screen ? "\r\033[K" : "");
    put_entry(&b, n);
    (void)fputs(buf_cstr(&b), stdout);
    (void)fflush(stdout);
}

/* ---- reading ---- */

static void
finish(struct verify *v, struct entry *n)
{
    n->is_done = true;
    /* Renamed away before it was read to its end: nobody needed it any more (P6). */
    n->is_removed = n->is_removed ||
                    (n->found.result != CMD_SEGCHECK_OK && !exists_in(v, n->name, "", NULL));
    v->bytes_done += n->bytes;
    report(v, n);
    if (v->is_screen) {
        show_bar(v, (double)v->bytes_done);
    }
}

static int
read_files(struct verify *v, struct entry *n)
{
    struct err e;
    v->current = n;
    int rc = cmd_segcheck_run(v->log_dir, n->name, on_progress, v, &n->found, &e);
    if (rc != 0) {
        return cmd_complain(v->a, CMD_FAILED, "%s", e.msg);
    }
    finish(v, n);
    return CMD_DONE;
}

static int
check_batch(struct str bytes, struct batch_header *ret, struct err *e)
{
    struct batch_reader r;
    struct record record;
    int rc = batch_open(&r, bytes, e);
    if (rc != 0) {
        return rc;
    }
    do {
        rc = batch_next(&r, &record, e);
    } while (rc == 1);
    *ret = r.header;
    batch_close(&r);
    return rc;
}

/* Reads [*at, the tail of now) through the broker, which checks what it sends, and again here.
 */
static int
fetch_all(struct verify *v, uint64_t *at, uint64_t end, struct err *e)
{
    struct batch_header h = {.next_offset = *at};
    do {
        struct str bytes;
        int rc =
            client_fetch(v->remote.client, *at, API_FETCH_BYTES, 0, (struct str){0}, &bytes, e);
        if (rc == 0) {
            rc = check_batch(bytes, &h, e);
        }
        if (rc != 0) {
            return rc;
        }
        end = end == 0 ? h.tail_offset : end;
        if (h.next_offset <= *at) {
            return 0; /* at the tail */
        }
        *at = h.next_offset;
        on_progress(v, *at, end);
    } while (*at < end && !sig_stop_requested());
    return sig_stop_requested() ? err_set(e, ERR_STOPPING, "interrupted") : 0;
}

/* next: the base of the segment behind it, 0: none, up to the tail. */
static int
read_through_broker(struct verify *v, struct entry *n, uint64_t next)
{
    struct err e = {0};
    v->current = n;
    n->found = (struct cmd_segcheck){.base = strtoull(n->name, NULL, 10)};
    uint64_t at = n->found.base;
    int rc = fetch_all(v, &at, next, &e);
    if (rc != 0 && (rc == ERR_STOPPING || err_class(rc) == ERR_CLASS_RETRY)) {
        return cmd_remote_complain(v->a, &v->remote, &e) == CMD_UNREACHABLE ? CMD_UNREACHABLE
                                                                            : CMD_FAILED;
    }
    n->found.at = at;
    n->found.next = next != 0 && at > next ? next : at; /* batches do not end at segments */
    n->is_removed = rc == ERR_GONE;
    if (rc != 0) {
        n->found.result = CMD_SEGCHECK_DAMAGED;
        (void)snprintf(n->found.msg, sizeof n->found.msg, "%s", e.msg);
    }
    finish(v, n);
    return CMD_DONE;
}

static int
read_unsealed(struct verify *v, bool has_broker)
{
    int status = CMD_DONE;
    for (size_t i = 0; status == CMD_DONE && i < v->n; i++) {
        struct entry *n = &v->entry[i];
        uint64_t next = i + 1 < v->n ? strtoull(v->entry[i + 1].name, NULL, 10) : 0;
        if (!n->is_sealed) {
            status = has_broker ? read_through_broker(v, n, next) : read_files(v, n);
        }
    }
    return status;
}

/* What is not sealed first: the lock is held for no longer than that is read, and a broker that
 * waits for it names us. */
static int
read_newest(struct verify *v, const struct config *conf)
{
    struct err e;
    auto_close int fd = -1;
    int rc = proc_lock(conf->data_dir, "LOCK", "verify", 0, &fd, &e);
    if (rc != 0 && rc != ERR_LOCKED) {
        return cmd_complain(v->a, CMD_FAILED, "%s", e.msg);
    }
    int status = list_segments(v); /* under the lock: nothing is sealed any more */
    return status == CMD_DONE ? read_unsealed(v, rc == ERR_LOCKED) : status;
}

static int
read_sealed(struct verify *v)
{
    int status = CMD_DONE;
    for (size_t i = 0; status == CMD_DONE && i < v->n; i++) {
        if (!v->entry[i].is_done) {
            status = read_files(v, &v->entry[i]);
        }
    }
    return status;
}

static void
check_neighbours(struct verify *v)
{
    for (size_t i = 1; i < v->n; i++) {
        const struct entry *before = &v->entry[i - 1];
        struct entry *n = &v->entry[i];
        if (!before->is_removed && before->found.has_head && n->found.has_head &&
            !cmd_verify_follows(&before->found, &n->found)) {
            report(v, n);
        }
    }
}

/* ---- the end ---- */

struct sums {
    uint64_t records, bytes;
    size_t segments, bad;
};

static struct sums
sum_up(const struct verify *v)
{
    struct sums s = {0};
    for (size_t i = 0; i < v->n; i++) {
        const struct entry *n = &v->entry[i];
        if (n->is_removed) {
            continue;
        }
        s.segments++;
        s.bad += n->found.result != CMD_SEGCHECK_OK;
        s.records += n->found.result == CMD_SEGCHECK_OK ? n->found.next - n->found.base : 0;
        s.bytes += n->bytes;
    }
    return s;
}

static void
put_json(struct buf *b, const struct verify *v, const struct sums *s)
{
    struct jsonw w;
    jsonw_init(&w, b);
    jsonw_object(&w, NULL);
    jsonw_bool(&w, "ok", s->bad == 0);
    jsonw_array(&w, "segments");
    for (size_t i = 0; i < v->n; i++) {
        const struct entry *n = &v->entry[i];
        bool is_bad = !n->is_removed && n->found.result != CMD_SEGCHECK_OK;
        jsonw_object(&w, NULL);
        jsonw_cstr(&w, "segment", n->name);
        jsonw_cstr(&w, "result",
            is_bad && n->found.result == CMD_SEGCHECK_DAMAGED ? "damaged" : word(n));
        jsonw_bool(&w, "sealed", n->is_sealed);
        jsonw_u64(&w, "bytes", n->bytes);
        if (is_bad) {
            jsonw_u64(&w, "offset", n->found.at);
            jsonw_cstr(&w, "detail", n->found.msg);
        } else if (!n->is_removed) {
            jsonw_u64(&w, "records", n->found.next - n->found.base);
        }
        jsonw_end_object(&w);
    }
    jsonw_end_array(&w);
    jsonw_end_object(&w);
    buf_putc(b, '\n');
}

static int
conclude(struct verify *v)
{
    struct sums s = sum_up(v);
    auto_buf struct buf b;
    buf_init(&b, OUT_MAX);
    if (v->a->json) {
        put_json(&b, v, &s);
    } else {
        buf_puts(&b, v->is_screen ? "\r\033[K" : "");
        buf_printf(&b, "%s: %zu segment%s, ", s.bad == 0 ? "all good" : "NOT GOOD", s.segments,
            s.segments == 1 ? "" : "s");
        if (s.bad > 0) {
            buf_printf(&b, "%zu of them not whole, ", s.bad);
        }
        cmd_text_put_count(&b, s.records);
        buf_puts(&b, " records read, ");
        cmd_text_put_bytes(&b, (double)s.bytes);
        buf_putc(&b, '\n');
    }
    int status = cmd_print(v->a, buf_str(&b));
    return s.bad > 0 ? CMD_FAILED : status;
}

static int
verify_all(struct verify *v, const struct config *conf)
{
    int status = read_newest(v, conf);
    if (status == CMD_DONE) {
        status = read_sealed(v);
    }
    if (status == CMD_DONE) {
        check_neighbours(v);
        status = conclude(v);
    } else if (v->is_screen) {
        (void)fputs("\n", stdout);
    }
    return status;
}

static int
run(const struct cmd_args *a)
{
    struct config *conf;
    struct verify v = {.a = a, .is_screen = !a->json && isatty(STDOUT_FILENO)};
    int status = cmd_load(a, &conf);
    if (status != CMD_DONE) {
        return status;
    }
    sig_init();
    status = cmd_remote_open(a, &v.remote);
    if (status == CMD_DONE) {
        v.log_dir = fs_join(conf->data_dir, "log");
        status = access(v.log_dir, F_OK) == 0
                     ? verify_all(&v, conf)
                     : cmd_complain(a, CMD_FAILED,
                           "there is no log in %s yet; is data_dir right?", conf->data_dir);
        cmd_remote_close(&v.remote);
        free(v.log_dir);
        free(v.entry);
    }
    config_free(conf);
    return status;
}

static const struct cmd_option options[] = {
    CMD_OPTION_JSON, CMD_OPTION_CONFIG, CMD_OPTION_HELP, CMD_OPTION_END};

const struct cmd cmd_verify = {
    .name = "verify",
    .summary = "every checksum of every segment, with or without a broker",
    .synopsis = "[--json] [-c FILE]",
    .about = "Reads the whole log and checks every checksum, record by record. Sealed segments "
             "are read\n"
             "from their files, beside a running broker or without one; the newest one through "
             "the broker\n"
             "that writes it, or from its file when none runs. It changes nothing. A damaged "
             "segment is\n"
             "named with the offset up to which it is good (exit status 1): restore it from a "
             "backup.\n"
             "What retention removes meanwhile is no error. Status 69: a broker holds the log, "
             "but does\n"
             "not answer.\n",
    .examples = "  oneslot verify\n"
                "  oneslot verify --json | jq '.segments[] | select(.result != \"ok\")'\n",
    .options = options,
    .run = run,
};
