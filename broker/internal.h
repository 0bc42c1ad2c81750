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

#endif
