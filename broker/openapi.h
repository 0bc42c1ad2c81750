/* openapi: GET /openapi.json, an OpenAPI 3.1 description made from the route table. What the
 * answers look like is written down here; tests compare it with real answers. */
#ifndef ONESLOT_BROKER_OPENAPI_H
#define ONESLOT_BROKER_OPENAPI_H

#include "broker/broker.h"
#include "proto/base/httpd.h"

void openapi_get(struct broker *bk, struct httpd_req *rq, struct str name);
void openapi_put(struct buf *b);

#endif
