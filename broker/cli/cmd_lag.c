/* cmd_lag: `oneslot lag`: where source, log and every sink stand. */
#include "broker/cli/cmd_lag.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "broker/cli/cmd_remote.h"
#include "broker/cli/cmd_table.h"
#include "broker/cli/cmd_text.h"
#include "proto/base/sig.h"

enum { WATCH_MS = 1000, OUT_MAX = 16 * 1024 * 1024 };

/* ---- the page ---- */

static void
put_text(struct buf *b, const struct json *j)
{
    struct str s;
    if (json_str(j, &s) && s.n > 0) {
        cmd_text_put(b, s);
    } else {
        buf_putc(b, '-');
    }
}

/* A number by one of cmd_text's forms; "-" where there is none. */
enum form { COUNT, BYTES, SECONDS, RATE, PLAIN };

static void
put_number(struct buf *b, const struct json *j, enum form form)
{
    double n;
    int64_t i;
    if (!json_num(j, &n) || n < 0) {
        buf_putc(b, '-');
    } else if (form == BYTES) {
        cmd_text_put_bytes(b, n);
    } else if (form == SECONDS) {
        cmd_text_put_seconds(b, n);
    } else if (form == RATE) {
        buf_printf(b, "%.1f", n);
    } else if (!json_i64(j, &i)) {
        buf_printf(b, "%.0f", n);
    } else if (form == COUNT) {
        cmd_text_put_count(b, (uint64_t)i);
    } else {
        buf_printf(b, "%lld", (long long)i);
    }
}

static void
put_named(struct buf *b, const char *before, const struct json *j, const char *key)
{
    buf_puts(b, before);
    put_text(b, json_get(j, key));
}

static void
put_error(struct buf *b, const char *who, const struct json *j)
{
    struct str s;
    if (json_str(json_get(j, "last_error"), &s) && s.n > 0) {
        buf_printf(b, "%s: ", who);
        cmd_text_put(b, s);
        buf_putc(b, '\n');
    }
}

static void
put_source(struct buf *b, const struct json *s)
{
    put_named(b, "source  ", s, "state");
    put_named(b, ", slot ", s, "slot");
    buf_puts(b, ", ");
    put_number(b, json_get(s, "lag_bytes"), BYTES);
    buf_puts(b, " behind the server; WAL kept for us ");
    put_number(b, json_get(s, "retained_wal_bytes"), BYTES);
    put_named(b, " (", s, "wal_status");
    put_named(b, ")\n        server ", s, "server_lsn");
    put_named(b, "  received ", s, "received_lsn");
    put_named(b, "  durable ", s, "durable_lsn");
    put_named(b, "  acknowledged ", s, "acked_lsn");
    buf_putc(b, '\n');
    put_error(b, "        last error", s);
}

static void
put_place(struct buf *b, const char *name, const struct json *place)
{
    buf_printf(b, "        %-8s ", name);
    put_number(b, json_get(place, "offset"), PLAIN);
    put_named(b, "  ", place, "lsn");
    put_named(b, "  ", place, "ts");
    buf_putc(b, '\n');
}

static void
put_log(struct buf *b, const struct json *log)
{
    buf_puts(b, "log     ");
    put_number(b, json_get(log, "records"), COUNT);
    buf_puts(b, " records, ");
    put_number(b, json_get(log, "bytes"), BYTES);
    buf_puts(b, " in segments: ");
    put_number(b, json_get(log, "segments"), COUNT);
    buf_puts(b, "; free on its disk ");
    put_number(b, json_get(log, "disk_free_bytes"), BYTES);
    buf_putc(b, '\n');
    put_place(b, "earliest", json_get(log, "earliest"));
    put_place(b, "tail", json_get(log, "tail"));
}

static const struct column {
    const char *key;
    bool is_text;
    enum form form;
} columns[] = {{"name", true, COUNT}, {"kind", true, COUNT}, {"state", true, COUNT},
    {"records_behind", false, COUNT}, {"bytes_behind", false, BYTES},
    {"seconds_behind", false, SECONDS}, {"records_per_second", false, RATE},
    {"eta_seconds", false, SECONDS}, {"dead_letters", false, COUNT}, {"retries", false, COUNT},
    {"lsn", true, COUNT}, {"last_success", true, COUNT}};
enum { COLUMNS = sizeof columns / sizeof *columns };
static const char *const titles[COLUMNS] = {"SINK", "KIND", "STATE", "BEHIND", "BYTES", "TIME",
    "PER SECOND", "ETA", "DEAD", "RETRIES", "LSN", "LAST SUCCESS"};

static void
put_sinks(struct buf *b, const struct json *sinks)
{
    struct cmd_table t;
    cmd_table_init(&t, COLUMNS, titles, "lllrrrrrrrll");
    for (size_t i = 0; i < json_size(sinks); i++) {
        for (size_t c = 0; c < COLUMNS; c++) {
            auto_buf struct buf cell;
            buf_init(&cell, 4096);
            const struct json *v = json_get(json_at(sinks, i), columns[c].key);
            if (columns[c].is_text) {
                put_text(&cell, v);
            } else {
                put_number(&cell, v, columns[c].form);
            }
            cmd_table_cell(&t, buf_str(&cell));
        }
    }
    cmd_table_render(b, &t);
    cmd_table_fini(&t);
    for (size_t i = 0; i < json_size(sinks); i++) {
        struct str name = {0};
        char who[80];
        (void)json_str(json_get(json_at(sinks, i), "name"), &name);
        (void)snprintf(who, sizeof who, "%.*s: last error", (int)(name.n < 64 ? name.n : 64),
            name.n > 0 ? name.p : "");
        put_error(b, who, json_at(sinks, i));
    }
}

void
cmd_lag_render(struct buf *b, const struct json *lag)
{
    const struct json *sinks = json_get(lag, "sinks");
    put_source(b, json_get(lag, "source"));
    put_log(b, json_get(lag, "log"));
    if (json_size(sinks) > 0) {
        buf_putc(b, '\n');
        put_sinks(b, sinks);
    } else {
        buf_puts(b, "sinks   none\n");
    }
}

/* ---- the command ---- */

/* One answer as it is printed. */
static int
ask(const struct cmd_args *a, struct cmd_remote *r, struct buf *b, struct err *e)
{
    if (a->json) {
        return cmd_remote_get_raw(r, "/lag", b, e);
    }
    struct json *lag;
    int rc = client_get_json(r->client, "/lag", &lag, e);
    if (rc == 0) {
        cmd_lag_render(b, lag);
        json_free(lag);
    }
    return rc;
}

/* The broker is away for a moment: a watch goes on. */
static int
watch_page(const struct cmd_args *a, struct cmd_remote *r, bool is_screen, bool is_first)
{
    struct err e;
    auto_buf struct buf b;
    buf_init(&b, OUT_MAX);
    buf_puts(&b, is_screen ? "\033[H\033[2J" : is_first || a->json ? "" : "\n");
    if (ask(a, r, &b, &e) == 0) {
        return cmd_print(a, buf_str(&b));
    }
    if (is_first || !cmd_remote_is_away(&e)) {
        return cmd_remote_complain(a, r, &e);
    }
    (void)fprintf(stderr, "oneslot lag: the broker is away (%s)\n", e.msg);
    return CMD_DONE;
}

static int
watch(const struct cmd_args *a, struct cmd_remote *r)
{
    bool is_screen = !a->json && isatty(STDOUT_FILENO);
    int status = watch_page(a, r, is_screen, true);
    while (status == CMD_DONE && !sig_stop_requested()) {
        struct pollfd p = {.fd = sig_stop_fd(), .events = POLLIN};
        if (poll(&p, 1, WATCH_MS) == 0) {
            status = watch_page(a, r, is_screen, false);
        }
    }
    return status;
}

static int
show_once(const struct cmd_args *a, struct cmd_remote *r)
{
    struct err e;
    auto_buf struct buf b;
    buf_init(&b, OUT_MAX);
    return ask(a, r, &b, &e) == 0 ? cmd_print(a, buf_str(&b)) : cmd_remote_complain(a, r, &e);
}

static int
run(const struct cmd_args *a)
{
    struct cmd_remote r;
    sig_init();
    int status = cmd_remote_open(a, &r);
    if (status == CMD_DONE) {
        status = a->watch ? watch(a, &r) : show_once(a, &r);
        cmd_remote_close(&r);
    }
    return status;
}

static const struct cmd_option options[] = {
    {"watch", 'w', CMD_FLAG, offsetof(struct cmd_args, watch), NULL, "again every second"},
    CMD_OPTION_JSON, CMD_OPTION_CONFIG, CMD_OPTION_URL, CMD_OPTION_TOKEN, CMD_OPTION_HELP,
    CMD_OPTION_END};

const struct cmd cmd_lag = {
    .name = "lag",
    .summary = "source, log and every sink in one table",
    .synopsis = "[--watch] [--json] [-c FILE | --url URL]",
    .about =
        "Shows how far the source is read and acknowledged, what the log holds, and for each "
        "sink\n"
        "how much it has still to do: records, bytes, and TIME, the age of the oldest change "
        "that\n"
        "it has not settled. STATE is starting, running, retrying (the target is down: it goes "
        "on\n"
        "by itself), paused, or stopped (a person must look; the last error says at what).\n",
    .examples = "  oneslot lag\n"
                "  oneslot lag --watch\n"
                "  oneslot lag --json | jq '.sinks[] | select(.seconds_behind > 60)'\n",
    .options = options,
    .run = run,
};
