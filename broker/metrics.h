/* metrics: GET /metrics, Prometheus' text format. Names are fixed: oneslot_*. */
#ifndef ONESLOT_BROKER_METRICS_H
#define ONESLOT_BROKER_METRICS_H

#include "broker/broker.h"
#include "proto/base/httpd.h"

void metrics_get(struct broker *bk, struct httpd_req *rq, struct str name);

#endif
