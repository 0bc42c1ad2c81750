/* record_bench: one core's speed at what every change goes through: building a frame (XXH3
 * included), decoding it (checksum and tuple), rendering it as NDJSON and as msgpack. Rows of
 * fabric.user_data, 14 columns. Usage: record_bench [seconds per line, default 1] */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "proto/base/check.h"
#include "proto/base/mp.h"
#include "proto/record.h"
#include "proto/record_json.h"

enum { NCOLS = 14, NROWS = 1024, ROUNDS = 5, SCHEMA_ID = 7 };

static const char *const names[NCOLS] = {"id", "name", "gender", "address", "latitude",
    "longitude", "timezone", "email", "phone", "cell", "date_of_birth", "registered_date",
    "picture_url", "insertion_time"};

struct bench {
    char cells[NROWS][NCOLS][96];
    struct str rows[NROWS][NCOLS];
    struct schema *schema;
    struct record_txn txn;
    struct record_decoder decoder;
    struct buf frames, out;
    size_t frame_at[NROWS + 1];
    uint64_t text_bytes;
    bool is_txn_each;
};

static void cell(struct bench *b, unsigned row, unsigned col, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void
cell(struct bench *b, unsigned row, unsigned col, const char *fmt, ...)
{
    char *to = b->cells[row][col];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(to, sizeof b->cells[row][col], fmt, args);
    va_end(args);
    CHECK(n > 0 && (size_t)n < sizeof b->cells[row][col]);
    b->rows[row][col] = (struct str){.p = to, .n = (size_t)n};
    b->text_bytes += (uint64_t)n;
}

static void
fill_row(struct bench *b, unsigned i)
{
    unsigned x = i * 2654435761u;
    cell(b, i, 0, "%08x-9f1c-4b2e-8d3a-0000%08x", x, i);
    cell(b, i, 1, "Person%u Müller-Lüdenscheidt", i % 977);
    cell(b, i, 2, "%s", i % 2 == 0 ? "female" : "male");
    cell(b, i, 3, "%u Hauptstraße, %05u Bad Berleburg, Germany", x % 300, i % 1000);
    cell(b, i, 4, "48.%06u", x % 1000000);
    cell(b, i, 5, "-16.%06u", (x >> 8) % 1000000);
    cell(b, i, 6, "+%u:00 Europe/Berlin", i % 12);
    cell(b, i, 7, "person%u.mueller%u@example.com", i, x % 1000);
    cell(b, i, 8, "0%03u-%07u", i % 1000, x % 10000000);
    cell(b, i, 9, "0%03u-%07u", (i + 7) % 1000, x % 9999991);
    cell(b, i, 10, "19%02u-0%u-17", i % 100, 1 + i % 9);
    cell(b, i, 11, "2009-0%u-12 16:21:%02u.123", 1 + i % 9, x % 60);
    cell(b, i, 12, "https://randomuser.example/api/portraits/%u/%u.jpg", i % 2, x % 100);
    cell(b, i, 13, "2026-11-22 10:00:%02u.%06u", i % 60, x % 1000000);
}

static void
make_schema(struct bench *b)
{
    struct schema_col cols[NCOLS] = {{.name = {0}}};
    for (unsigned i = 0; i < NCOLS; i++) {
        cols[i] = (struct schema_col){.name = str_from(names[i]), .typoid = 25, .typmod = -1};
    }
    cols[0].typoid = 2950;
    cols[0].in_key = true;
    cols[4].typoid = cols[5].typoid = 1700;
    struct schema s = {.relid = 16385,
        .ns = STR("fabric"),
        .name = STR("user_data"),
        .replident = 'd',
        .ncols = NCOLS,
        .cols = cols};
    struct err e;
    struct buf auto_buf encoding;
    buf_init(&encoding, SIZE_MAX);
    schema_encode(&encoding, &s);
    CHECK(schema_decode(SCHEMA_ID, buf_str(&encoding), &b->schema, &e) == 0);
}

static void
put_frame(struct bench *b, unsigned row)
{
    size_t start = frame_begin(&b->frames, FRAME_INSERT, 0, SCHEMA_ID);
    mp_put_array(&b->frames, NCOLS);
    for (unsigned i = 0; i < NCOLS; i++) {
        mp_put_str(&b->frames, b->rows[row][i]);
    }
    frame_end(&b->frames, start);
}

/* One pass over all rows; the table of passes below. */

static void
pass_encode(struct bench *b)
{
    buf_reset(&b->frames, SIZE_MAX);
    for (unsigned i = 0; i < NROWS; i++) {
        b->frame_at[i] = b->frames.n;
        put_frame(b, i);
    }
    b->frame_at[NROWS] = b->frames.n;
}

static void
each_record(struct bench *b, bool verify, void (*put)(struct buf *, const struct record *))
{
    struct err e;
    struct frame f;
    struct record r;
    size_t at = 0;
    buf_reset(&b->out, SIZE_MAX);
    for (unsigned i = 0; i < NROWS; i++) {
        CHECK(frame_next(buf_str(&b->frames), &at, verify, &f, &e) == 0);
        b->txn.xid += b->is_txn_each;
        CHECK(record_decode(
                  &b->decoder, &f, b->schema, &b->txn, b->txn.first_offset + i, &r, &e) == 0);
        if (put != NULL) {
            put(&b->out, &r);
        }
    }
    CHECK(buf_ok(&b->out));
}

static void
put_line(struct buf *to, const struct record *r)
{
    record_json_put(to, r);
    buf_putc(to, '\n');
}

static void
pass_decode(struct bench *b)
{
    each_record(b, true, NULL);
}

static void
pass_tuple(struct bench *b)
{
    each_record(b, false, NULL);
}

static void
pass_json(struct bench *b)
{
    each_record(b, true, put_line);
}

/* Every record a transaction of its own. */
static void
pass_small(struct bench *b)
{
    b->is_txn_each = true;
    each_record(b, true, put_line);
    b->is_txn_each = false;
}

static void
pass_msgpack(struct bench *b)
{
    each_record(b, true, record_msgpack_put);
}

static double
now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Million records per second: the median of ROUNDS. */
static double
measure(struct bench *b, void (*pass)(struct bench *), double seconds)
{
    double rates[ROUNDS];
    pass(b);
    for (unsigned i = 0; i < ROUNDS; i++) {
        double from = now(), until = from;
        unsigned passes = 0;
        for (; until - from < seconds / ROUNDS; until = now()) {
            pass(b);
            passes++;
        }
        double rate = passes * (double)NROWS / (until - from) / 1e6;
        unsigned at = i;
        for (; at > 0 && rates[at - 1] > rate; at--) {
            rates[at] = rates[at - 1];
        }
        rates[at] = rate;
    }
    return rates[ROUNDS / 2];
}

int
main(int argc, char **argv)
{
    static struct bench b;
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 1.0;
    b.txn = (struct record_txn){.first_offset = 1882345678901234,
        .count = NROWS,
        .epoch = 1,
        .lsn = 0x16B3748,
        .end_lsn = 0x16B3778,
        .ts_us = 1795341600123456,
        .xid = 742};
    for (unsigned i = 0; i < NROWS; i++) {
        fill_row(&b, i);
    }
    buf_init(&b.frames, SIZE_MAX);
    buf_init(&b.out, SIZE_MAX);
    make_schema(&b);
    printf("%-28s %12s %14s\n", "fabric.user_data, 14 columns", "M records/s", "bytes/record");
    printf("%-28s %12s %14.1f\n", "text", "", (double)b.text_bytes / NROWS);
    double rate = measure(&b, pass_encode, seconds);
    printf("%-28s %12.2f %14.1f\n", "encode, XXH3", rate, (double)b.frames.n / NROWS);
    printf("%-28s %12.2f\n", "decode, no checksum", measure(&b, pass_tuple, seconds));
    printf("%-28s %12.2f\n", "decode, checksum", measure(&b, pass_decode, seconds));
    rate = measure(&b, pass_json, seconds);
    printf("%-28s %12.2f %14.1f\n", "decode, checksum, NDJSON", rate, (double)b.out.n / NROWS);
    printf("%-28s %12.2f\n", "the same, one-row xacts", measure(&b, pass_small, seconds));
    rate = measure(&b, pass_msgpack, seconds);
    printf("%-28s %12.2f %14.1f\n", "decode, checksum, msgpack", rate, (double)b.out.n / NROWS);
    schema_unref(b.schema);
    record_decoder_fini(&b.decoder);
    buf_fini(&b.frames);
    buf_fini(&b.out);
    return 0;
}
