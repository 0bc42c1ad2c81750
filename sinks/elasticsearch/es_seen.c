#include "sinks/elasticsearch/es_seen.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/check.h"
#include "proto/base/digest.h"
#include "proto/base/fs.h"
#include "proto/base/xmalloc.h"
#include "proto/frame.h"

#define HEAD "oneslot-seen "

enum { VERSION = 1, END_BYTES = sizeof "end 01234567\n" - 1 };

struct entry {
    struct es_seen_history history;
    struct str alias;
    uint64_t from;
};

struct es_seen {
    char *path;
    struct entry *all; /* as many as the sink has tables */
    size_t n, cap;
    bool is_unsaved;
    unsigned users;
};

/* A process is one sink: its lanes share this. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct es_seen *shared;

static void
take_lock(void)
{
    CHECK(pthread_mutex_lock(&lock) == 0);
}

static void
give_lock(void)
{
    CHECK(pthread_mutex_unlock(&lock) == 0);
}

/* ---- entries ---- */

static bool
is_of_log(const struct entry *x, const struct es_seen_history *h)
{
    return memcmp(x->history.uuid, h->uuid, sizeof h->uuid) == 0;
}

static struct entry *
find(struct es_seen *s, const struct es_seen_history *h, struct str alias)
{
    for (size_t i = 0; i < s->n; i++) {
        if (is_of_log(&s->all[i], h) && str_eq(s->all[i].alias, alias)) {
            return &s->all[i];
        }
    }
    return NULL;
}

static void
add(struct es_seen *s, const struct es_seen_history *h, struct str alias, uint64_t from)
{
    if (s->n == s->cap) {
        s->cap = s->cap == 0 ? 16 : 2 * s->cap;
        s->all = xreallocarray(s->all, s->cap, sizeof *s->all);
    }
    s->all[s->n++] = (struct entry){
        .history = *h, .alias = {.p = xstrndup(alias.p, alias.n), .n = alias.n}, .from = from};
}

static void
seen_free(struct es_seen *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free((void *)(uintptr_t)s->all[i].alias.p);
    }
    free(s->all);
    free(s->path);
    free(s);
}

/* ---- the file ---- */

static int
save(struct es_seen *s, struct err *e)
{
    struct buf auto_buf b;
    buf_init(&b, ES_SEEN_BYTES_MAX);
    buf_printf(&b, HEAD "%d\n", VERSION);
    for (size_t i = 0; i < s->n; i++) {
        const struct entry *x = &s->all[i];
        digest_put_hex(&b, x->history.uuid, sizeof x->history.uuid);
        buf_printf(&b, " %" PRIu64 " %" PRIu64 " %.*s\n", x->history.floor, x->from,
            (int)x->alias.n, x->alias.p);
    }
    buf_printf(&b, "end %08" PRIx32 "\n", frame_sum(0, buf_str(&b)));
    if (!buf_ok(&b)) {
        return err_set(e, ERR_TOOBIG,
            "%s would be larger than %d MiB: the sink has more indexes than it can remember. "
            "Spread its tables over several sinks by `tables`",
            s->path, ES_SEEN_BYTES_MAX / (1024 * 1024));
    }
    return fs_write_atomic(s->path, buf_str(&b), 0600, e);
}

static int
damaged(const struct es_seen *s, const char *how, struct err *e)
{
    return err_set(e, ERR_CORRUPT,
        "%.200s is damaged: %s. It says which indexes this sink has filled, so that none that "
        "is gone is made anew, empty. Bring a copy of it back, or see that all of them are "
        "there and remove the file",
        s->path, how);
}

/* Takes what stands before the next `end` off *rest. */
static bool
take(struct str *rest, char end, struct str *ret)
{
    const char *at = rest->n == 0 ? NULL : memchr(rest->p, end, rest->n);
    if (at == NULL) {
        return false;
    }
    *ret = (struct str){.p = rest->p, .n = (size_t)(at - rest->p)};
    rest->p += ret->n + 1;
    rest->n -= ret->n + 1;
    return true;
}

static bool
read_uuid(struct str s, uint8_t uuid[16])
{
    for (size_t i = 0; s.n == 32 && i < 16; i++) {
        int high = str_hex_digit(s.p[2 * i]), low = str_hex_digit(s.p[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        uuid[i] = (uint8_t)(high << 4 | low);
    }
    return s.n == 32;
}

static bool
read_entry(struct es_seen *s, struct str line)
{
    struct es_seen_history h;
    struct str uuid, floor, from;
    uint64_t n;
    if (!take(&line, ' ', &uuid) || !take(&line, ' ', &floor) || !take(&line, ' ', &from) ||
        !read_uuid(uuid, h.uuid) || !str_u64(floor, UINT64_MAX, &h.floor) ||
        !str_u64(from, UINT64_MAX, &n) || line.n == 0) {
        return false;
    }
    add(s, &h, line, n);
    return true;
}

/* The line that ends it: `text` without it is what was written. */
static bool
take_end(struct str *text)
{
    char want[END_BYTES + 1];
    if (text->n < END_BYTES) {
        return false;
    }
    struct str before = {.p = text->p, .n = text->n - END_BYTES};
    (void)snprintf(want, sizeof want, "end %08" PRIx32 "\n", frame_sum(0, before));
    bool is_it = memcmp(text->p + before.n, want, END_BYTES) == 0;
    *text = before;
    return is_it;
}

static int
parse(struct es_seen *s, struct str text, struct err *e)
{
    struct str all = text, line, head = STR(HEAD);
    uint64_t version = 0;
    bool has_head =
        take(&text, '\n', &line) && line.n > head.n && memcmp(line.p, head.p, head.n) == 0 &&
        str_u64((struct str){line.p + head.n, line.n - head.n}, UINT64_MAX, &version);
    if (has_head && version > VERSION) {
        return err_set(
            e, ERR_NEWER, "%s was written by a newer oneslot: run that version", s->path);
    }
    if (!has_head || version != VERSION || !take_end(&all)) {
        return damaged(s, "it is not whole, or is not what was written", e);
    }
    text.n -= END_BYTES;
    while (text.n > 0) {
        if (!take(&text, '\n', &line) || !read_entry(s, line)) {
            return damaged(s, "it holds a line that cannot be understood", e);
        }
    }
    return 0;
}

static int
load(struct es_seen *s, struct err *e)
{
    struct buf auto_buf b;
    buf_init(&b, ES_SEEN_BYTES_MAX);
    int rc = fs_read_file(s->path, &b, ES_SEEN_BYTES_MAX, e);
    if (rc == ERR_NOTFOUND) {
        return 0;
    }
    if (rc == ERR_TOOBIG) {
        return damaged(s, "it is too large", e);
    }
    return rc == 0 ? parse(s, buf_str(&b), e)
                   : err_prefix(e, "cannot tell which indexes this sink has filled");
}

/* ---- what lanes call ---- */

static int
open_locked(const char *path, struct es_seen **ret, struct err *e)
{
    if (shared == NULL) {
        struct es_seen *s = xcalloc(1, sizeof *s);
        s->path = xstrdup(path);
        int rc = load(s, e);
        if (rc != 0) {
            seen_free(s);
            return rc;
        }
        shared = s;
    }
    CHECK(strcmp(shared->path, path) == 0);
    shared->users++;
    *ret = shared;
    return 0;
}

int
es_seen_open(const char *path, struct es_seen **ret, struct err *e)
{
    take_lock();
    int rc = open_locked(path, ret, e);
    give_lock();
    return rc;
}

void
es_seen_close(struct es_seen *s)
{
    if (s == NULL) {
        return;
    }
    take_lock();
    CHECK(s == shared);
    if (--s->users == 0) {
        seen_free(s);
        shared = NULL;
    }
    give_lock();
}

/* A log that was made anew has its offsets for itself: the former one does not come back. */
static void
drop_other_logs(struct es_seen *s, const struct es_seen_history *h)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (is_of_log(&s->all[i], h)) {
            s->all[kept++] = s->all[i];
        } else {
            free((void *)(uintptr_t)s->all[i].alias.p);
        }
    }
    s->n = kept;
}

/* True when that is news. */
static bool
note(struct es_seen *s, const struct es_seen_history *h, struct str alias, uint64_t offset)
{
    struct entry *x = find(s, h, alias);
    if (x == NULL) {
        drop_other_logs(s, h);
        add(s, h, alias, offset);
        return true;
    }
    if (x->history.floor == h->floor && x->from <= offset) {
        return false;
    }
    x->history.floor = h->floor;
    x->from = offset;
    return true;
}

int
es_seen_put(struct es_seen *s, const struct es_seen_history *h, struct str alias,
    uint64_t offset, struct err *e)
{
    int rc = 0;
    take_lock();
    if (note(s, h, alias, offset)) {
        s->is_unsaved = true;
    }
    if (s->is_unsaved) {
        rc = save(s, e);
        s->is_unsaved = rc != 0;
    }
    give_lock();
    return rc;
}

bool
es_seen_get(
    struct es_seen *s, const struct es_seen_history *h, struct str alias, uint64_t *ret_from)
{
    take_lock();
    const struct entry *x = find(s, h, alias);
    bool is_there = x != NULL && x->history.floor == h->floor;
    if (is_there) {
        *ret_from = x->from;
    }
    give_lock();
    return is_there;
}
