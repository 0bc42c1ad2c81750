/* internal: the handlers of the calls between our own processes (proto/api.h). append.sock's
 * run on its one thread, which is the log's only writer; the sinks' on the pool of
 * oneslot.sock. */
#ifndef ONESLOT_BROKER_INTERNAL_H
#define ONESLOT_BROKER_INTERNAL_H

#include "broker/broker.h"
#include "proto/base/httpd.h"

/* The whole of append.sock; arg is the broker. */
void internal_append_handle(struct httpd_req *rq, void *arg);
size_t internal_append_body_limit(struct httpd_req *rq, void *arg);

/* Registers the sink when it is first seen (P6: under retain_lock) and fences its former
 * worker. */
void internal_sink_session(struct broker *bk, struct httpd_req *rq, struct str name);
/* Moves the offset by compare-and-set with the generation (P4). */
void internal_sink_commit(struct broker *bk, struct httpd_req *rq, struct str name);
void internal_sink_status(struct broker *bk, struct httpd_req *rq, struct str name);
/* The published tables, as the replicator last said them. */
void internal_tables(struct broker *bk, struct httpd_req *rq, struct str name);

/* Dead letters, rows to be read again (proto/api.h). */
void internal_sink_bury(struct broker *bk, struct httpd_req *rq, struct str name);
void internal_sink_raise(struct broker *bk, struct httpd_req *rq, struct str name);
void internal_sink_letters(struct broker *bk, struct httpd_req *rq, struct str name);
void internal_sink_letter(struct broker *bk, struct httpd_req *rq, struct str rest);
void internal_sink_reread(struct broker *bk, struct httpd_req *rq, struct str name);
void internal_sink_doubts(struct broker *bk, struct httpd_req *rq, struct str name);
void internal_sink_proven(struct broker *bk, struct httpd_req *rq, struct str name);
void internal_rereads(struct broker *bk, struct httpd_req *rq, struct str name);
void internal_rereads_done(struct broker *bk, struct httpd_req *rq, struct str name);

/* The name in a path: only what the configuration allows as a sink's name can be one. */
int internal_sink_name(struct str name, char to[STATE_NAME_MAX], struct err *e) MUST_CHECK;

/* ERR_FENCED unless that is the sink's newest session; ERR_STEERED if a person's order ended
 * it. */
int internal_check_generation(
    const struct sink_row *row, uint64_t generation, struct err *e) MUST_CHECK;

#endif
