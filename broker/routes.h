/* routes: the HTTP interface as one table: dispatch, 404 and 405, unknown parameters, the page
 * at / and /openapi.json all come from it. It knows handlers by name only. */
#ifndef ONESLOT_BROKER_ROUTES_H
#define ONESLOT_BROKER_ROUTES_H

#include "broker/broker.h"
#include "proto/base/httpd.h"

struct route_param {
    const char *name, *type /* of JSON Schema */, *help;
    bool is_header;
};

enum route_flags {
    ROUTE_INTERNAL =
        1,            /* between our own processes: not on TCP, since there are no tokens yet */
    ROUTE_BODY = 2,   /* takes one, up to API_CONTROL_BODY */
    ROUTE_RECORD = 4, /* takes one that holds a record */
    ROUTE_REST = 8,   /* {name} is all that follows, slashes too */
    ROUTE_ROW = 16    /* takes one that holds a row's key, up to API_REREAD_MAX */
};

struct route {
    const char *method;
    const char *path; /* one segment may be {name}: it reaches the handler, decoded */
    const char *id, *summary;
    void (*handler)(struct broker *bk, struct httpd_req *rq, struct str name);
    unsigned flags;
    const struct route_param *params; /* ends with a NULL name; NULL: none */
    const char *body;                 /* its schema's name in openapi.c; NULL: none */
    unsigned status;                  /* of success */
    const char *types;                /* of its answer, separated by spaces; NULL: no content */
    const char *schema;               /* its name in openapi.c; NULL: plain text */
    const char *errors;               /* statuses, separated by spaces */
};
enum { ROUTE_PARAMS_MAX = 16 };
extern const struct route routes[];
extern const size_t nroutes;

/* For httpd; the argument is the broker. */
void routes_handle(struct httpd_req *rq, void *broker);
size_t routes_body_limit(struct httpd_req *rq, void *broker);

/* Pure: does the path belong to the route; *ret_name is what stands for {name}, or empty. */
bool route_matches(const struct route *r, struct str path, struct str *ret_name);

#endif
