/* changes: GET /changes, the replay: records rendered straight into the connection's buffer,
 * piece by piece.
 *
 *   P7  a reader gets exactly the records after its position, or an error; what fails after the
 *       answer has begun breaks it off unterminated
 *   P10 each piece is one read of the journal; nothing of the log is held while a reader waits
 *
 * It knows records, requests and the watch; nothing of how the log is stored. */
#ifndef ONESLOT_BROKER_CHANGES_H
#define ONESLOT_BROKER_CHANGES_H

#include "broker/broker.h"
#include "proto/base/httpd.h"

void changes_get(struct broker *bk, struct httpd_req *rq, struct str name);

#endif
