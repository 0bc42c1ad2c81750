/* pgoutput_bench: rows per second of the replicator's hot path: one insert of 14 columns (about
 * 400 bytes, as fabric.user_data) decoded, and encoded into a frame with its checksum. Best of
 * five. */
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "replicator/encode.h"
#include "replicator/pgoutput.h"
#include "replicator/relcache.h"

enum { ROWS = 2000000, ROUNDS = 5, BATCH = 1 << 20 };

static const char *const values[] = {"0b7f2f0e-2d1c-4d53-9f2a-6f8a3b8e9c11",
    "Franziska Oberhuber", "female", "Mariahilfer Strasse 117/12, 1060 Wien, Austria",
    "48.197512", "16.349876", "Europe/Vienna", "franziska.oberhuber@example.org",
    "+43 1 5861234", "+43 664 1234567", "1984-03-17", "2019-08-21 14:03:55",
    "https://example.org/portraits/women/64.jpg", "2026-11-22 10:00:00.123456"};
enum { COLS = sizeof values / sizeof values[0] };

static void
make_insert(struct buf *b)
{
    char be[4];
    buf_put(b, "I\0\0\x40\x01N\0", 7);
    buf_putc(b, COLS);
    for (int i = 0; i < COLS; i++) {
        put_be32(be, (uint32_t)strlen(values[i]));
        buf_putc(b, 't');
        buf_put(b, be, 4);
        buf_puts(b, values[i]);
    }
}

static struct relation *
make_relation(struct relcache *c)
{
    struct pgoutput_column cols[COLS];
    for (int i = 0; i < COLS; i++) {
        cols[i] = (struct pgoutput_column){
            .name = str_from("column"), .typoid = 25, .typmod = -1, .is_key = i == 0};
    }
    struct pgoutput_relation r = {.relid = 0x4001,
        .ns = STR("fabric"),
        .name = STR("user_data"),
        .replident = 'd',
        .ncols = COLS,
        .cols = cols};
    struct relation *rel = NULL;
    CHECK(relcache_put(c, &r, &rel, NULL) == 0);
    return rel;
}

/* Seconds for ROWS rows. */
static double
run(struct pgoutput_decoder *d, struct relcache *c, struct str insert, struct buf *out,
    bool is_encoded)
{
    int64_t start = clock_mono_us();
    for (int i = 0; i < ROWS; i++) {
        const struct pgoutput_msg *m = NULL;
        CHECK(pgoutput_decode(d, insert, false, &m, NULL) == 0);
        if (!is_encoded) {
            continue;
        }
        if (out->n > BATCH) {
            buf_reset(out, SIZE_MAX);
        }
        CHECK(encode_row(out, relcache_find(c, m->row.relid), m->type, &m->row, NULL) == 0);
    }
    return (double)(clock_mono_us() - start) / 1e6;
}

int
main(void)
{
    struct pgoutput_decoder d;
    struct relcache c;
    struct buf auto_buf insert, auto_buf out;
    uint32_t next_id = 1;
    pgoutput_init(&d, false);
    relcache_init(&c, 1 << 20, false);
    buf_init(&insert, 1 << 16);
    buf_init(&out, 1 << 24);
    make_insert(&insert);
    CHECK(encode_schema(&out, make_relation(&c), &next_id, NULL) == 0);
    double best[2] = {1e9, 1e9};
    for (int i = 0; i < 2 * ROUNDS; i++) {
        double s = run(&d, &c, buf_str(&insert), &out, i % 2 == 1);
        best[i % 2] = s < best[i % 2] ? s : best[i % 2];
    }
    printf("%-28s %12s\n", "one insert, bytes", "million/s");
    printf("decode                 %5zu %12.1f\n", insert.n, ROWS / best[0] / 1e6);
    printf("decode and encode      %5zu %12.1f\n", insert.n, ROWS / best[1] / 1e6);
    pgoutput_fini(&d);
    relcache_fini(&c);
    return 0;
}
