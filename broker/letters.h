/* letters: dead letters as people see them: listed, looked at, sent again, given up. What a
 * person decides bumps the sink's generation first, so that its worker opens a session and
 * finds the letters as they are then. */
#ifndef ONESLOT_BROKER_LETTERS_H
#define ONESLOT_BROKER_LETTERS_H

#include "broker/broker.h"
#include "proto/base/httpd.h"

enum { LETTERS_PAGE = 100 /* in one answer unless `limit` says otherwise */ };

void letters_get(struct broker *bk, struct httpd_req *rq, struct str name);
void letters_retry(struct broker *bk, struct httpd_req *rq, struct str name);
void letters_discard(struct broker *bk, struct httpd_req *rq, struct str name);

/* The letters that a body names: {"ids":[OFFSET,...]} or {"all":true}; *ret_n 0: all. ids has
 * room for API_LETTERS_MAX. Pure. */
int letters_parse(struct str body, uint64_t *ids, size_t *ret_n, struct err *e) MUST_CHECK;

#endif
