/* broker: everything the broker process owns, in one place for its HTTP handlers: the log, the
 * state, the writer, the keeper, what the replicator and the sinks last said of themselves, and
 * the readers that wait for the tail.
 *
 * Threads: one serves append.sock (the writer), a pool serves oneslot.sock and TCP, one keeps
 * house (keeper). Locks in the order in which they may be taken together: retain_lock, then the
 * state's or the dead letters', then the journal's. */
#ifndef ONESLOT_BROKER_BROKER_H
#define ONESLOT_BROKER_BROKER_H

#include <pthread.h>

#include "broker/dead.h"
#include "broker/journal.h"
#include "broker/keeper.h"
#include "broker/readers.h"
#include "broker/rereads.h"
#include "broker/state.h"
#include "broker/watch.h"
#include "broker/writer.h"
#include "proto/api.h"
#include "proto/config.h"

/* What the replicator said last. Texts are bounded copies. */
struct source_report {
    struct api_source_status status; /* its strings are empty: the texts are below */
    char slot[STATE_NAME_MAX], wal_status[STATE_NAME_MAX], last_error[API_TEXT_MAX];
    int64_t at_ms; /* monotonic; 0: never */
};

/* What a sink's worker said last. */
struct sink_report {
    char name[STATE_NAME_MAX];
    struct api_sink_status status; /* its strings are empty: the text is below */
    char last_error[API_TEXT_MAX];
    int64_t at_ms;             /* monotonic; 0: never */
    double records_per_second; /* over the last reports */
};

/* The published tables as the replicator said them last: the body of that call and its
 * api_tables_sum; 0: not yet. */
struct tables_report {
    struct buf body;
    uint32_t sum;
};

struct broker {
    const struct config *conf;
    struct journal *journal;
    struct state *state;
    struct beside dead_folder; /* of the next two */
    struct dead *dead;
    struct rereads *rereads;
    struct writer *writer;
    struct keeper *keeper;
    struct watch *watch;         /* readers waiting for the tail */
    struct readers readers;      /* of /changes */
    pthread_mutex_t retain_lock; /* registration, replay and retention decide under it (P6) */
    pthread_mutex_t report_lock; /* source, tables and sink reports */
    struct source_report source;
    struct tables_report tables;
    struct sink_report *sink;
    size_t nsinks;
    size_t segments_seen; /* the writer thread's */
    int64_t started_ms;   /* monotonic */
    int lock_fd;          /* DATA_DIR/LOCK, held while open */
};

/* Opens data folder, log and state, starts the keeper. Locks DATA_DIR/LOCK. */
int broker_open(const struct config *conf, struct broker **ret, struct err *e) MUST_CHECK;
void broker_close(struct broker *bk); /* accepts NULL */
/* P9: after a write that failed what is on disk is unknown: ends the process before anything is
 * answered. */
void broker_end_on_fatal(int rc, const struct err *e);
/* The whole process: opens, serves until sig_stop_requested(), closes. */
int broker_run(const struct config *conf, struct err *e) MUST_CHECK;

#endif
