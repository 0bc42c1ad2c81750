/* steer: what a person changes about a running sink: paused or not, where it reads on, and
 * whether it is known at all. Each change bumps the sink's generation, so that its worker opens
 * a new session and learns of it. Under retain_lock, as registration and retention (P6). */
#ifndef ONESLOT_BROKER_STEER_H
#define ONESLOT_BROKER_STEER_H

#include "broker/broker.h"
#include "proto/base/httpd.h"

void steer_pause(struct broker *bk, struct httpd_req *rq, struct str name);
void steer_resume(struct broker *bk, struct httpd_req *rq, struct str name);
void steer_replay(struct broker *bk, struct httpd_req *rq, struct str name);
/* Forgets a sink that is no longer configured, its dead letters too, so that retention may pass
 * it (P6). */
void steer_forget(struct broker *bk, struct httpd_req *rq, struct str name);

/* The name in a path as a string: false, and 404 answered, where no sink can be called so. */
bool steer_name(struct httpd_req *rq, struct str name_in_path, char to[STATE_NAME_MAX]);
/* Under retain_lock: ends the session of the sink's worker. ERR_NOTFOUND: no such sink. */
int steer_fence(struct broker *bk, const char *name, struct err *e) MUST_CHECK;

/* The body of a replay. */
struct steer_replay_args {
    struct position from;
    bool has_expect, may_skip, is_dry_run;
    uint64_t expect; /* the offset of its last settled record */
};
/* Pure. Unknown members are ERR_PARSE (P8). */
int steer_parse_replay(
    struct str body, struct steer_replay_args *ret, struct err *e) MUST_CHECK;

#endif
