/* problem: errors as application/problem+json (RFC 9457), for people and for our own processes:
 * the status decides, `detail` is the sentence to show. */
#ifndef ONESLOT_BROKER_PROBLEM_H
#define ONESLOT_BROKER_PROBLEM_H

#include "broker/journal.h"
#include "proto/base/httpd.h"
#include "proto/base/json.h"

/* The status that an error code is answered with. */
unsigned problem_status(int code);
const char *problem_title(unsigned status);
/* Appends the object's members that every problem has; the caller ends the object. */
void problem_put(struct jsonw *w, unsigned status, struct str detail);

/* Answers with e's status and sentence; 503 carries Retry-After. */
void problem_respond(struct httpd_req *rq, const struct err *e);
/* The same; 410 names `earliest` as well, 416 `tail`. */
void problem_respond_log(struct httpd_req *rq, const struct err *e, struct journal *j);
/* Answers with a status of its own choosing. */
void problem_respond_text(struct httpd_req *rq, unsigned status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Appends {"offset":...,"lsn":...,"ts":...}: null where nothing is there. */
void problem_put_place(struct jsonw *w, const char *key, const struct journal_place *p);

#endif
