/* writer: append sessions: the frames that the replicator sends become part of the log, in
 * order, each transaction once and whole. It owns the newest segment's writing and the
 * replicator's part of the ledger. All of it runs on one thread, the one of append.sock; what
 * others may ask is atomic and marked.
 *
 *   P1 what it answers as proven is on stable storage in log and ledger
 *   P2 a transaction that is there already is dropped at its begin: below the last logged LSN
 * always, at it when that identity is there (rows read from tables stand outside) P9 after a
 * failed commit it returns ERR_IO: the process must end
 *
 * It knows frames, sessions and the ledger; nothing of HTTP. */
#ifndef ONESLOT_BROKER_WRITER_H
#define ONESLOT_BROKER_WRITER_H

#include "broker/journal.h"
#include "broker/state.h"
#include "proto/api.h"

struct writer;

struct writer_conf {
    struct journal *journal;
    struct state *state;
    const char *data_dir;
    bool is_packed; /* log.compression: zstd */
};

int writer_new(const struct writer_conf *c, struct writer **ret, struct err *e) MUST_CHECK;
void writer_free(struct writer *w); /* accepts NULL */

/* Fences the former session and discards what it left of an unfinished transaction. */
int writer_open_session(struct writer *w, struct api_session *ret, struct err *e) MUST_CHECK;
/* Appends frames (views into them are not kept). 0: durable. ERR_FENCED: another session or
 * sequence; ERR_NOSPACE and ERR_BUSY: nothing was done, the same append may come again;
 * ERR_PARSE, ERR_CORRUPT: refused, the session is over; ERR_IO: the process must end. */
int writer_append(struct writer *w, const struct api_append *head, struct str frames,
    struct api_appended *ret, struct err *e) MUST_CHECK;
/* The replicator's identity and slot progress into the ledger. ERR_CONFLICT: the log belongs to
 * another source, or the slot's state would go back. */
int writer_set_source(
    struct writer *w, const struct api_source_update *u, struct err *e) MUST_CHECK;
void writer_source(struct writer *w, struct ledger *ret_ledger,
    struct api_source *ret); /* views into *ret_ledger */

/* From any thread: */
uint64_t writer_proven(const struct writer *w);
/* The last append was refused for want of space, and nobody has seen space since. */
bool writer_is_out_of_space(const struct writer *w);
/* Takes that back when there is again what the append needed: it may never come again. */
void writer_recheck_space(struct writer *w);
void writer_set_full(struct writer *w, bool is_full); /* retention: block (P5) */
bool writer_is_full(const struct writer *w);
struct writer_stats {
    uint64_t appends, commits, records, transactions, bytes,
        duplicates; /* duplicates: dropped transactions */
};
void writer_stats(const struct writer *w, struct writer_stats *ret);

#endif
