/* control: the small answers for people and monitors: positions, health, sinks. */
#ifndef ONESLOT_BROKER_CONTROL_H
#define ONESLOT_BROKER_CONTROL_H

#include "broker/broker.h"
#include "proto/base/httpd.h"

/* A position resolved: offset, LSN, time. */
void control_position(struct broker *bk, struct httpd_req *rq, struct str position);
void control_healthz(struct broker *bk, struct httpd_req *rq, struct str name);
/* 503 with `reasons` while changes cannot be logged without a person's help. */
void control_readyz(struct broker *bk, struct httpd_req *rq, struct str name);
void control_sinks(struct broker *bk, struct httpd_req *rq, struct str name);
void control_sink(struct broker *bk, struct httpd_req *rq, struct str name);
#endif
