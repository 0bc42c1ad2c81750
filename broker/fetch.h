/* fetch: GET /internal/fetch, what a sink's worker reads (proto/batch.h): one batch of whole
 * records, at most `max` bytes unless one record alone is larger; held back up to wait_ms while
 * there is nothing. */
#ifndef ONESLOT_BROKER_FETCH_H
#define ONESLOT_BROKER_FETCH_H

#include "broker/broker.h"
#include "proto/base/httpd.h"

void fetch_get(struct broker *bk, struct httpd_req *rq, struct str name);

#endif
