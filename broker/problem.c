/* problem: see problem.h. Owns which error becomes which status. Must not know routes. */
#include "broker/problem.h"

#include <stdarg.h>
#include <stdio.h>

#include "proto/api.h"
#include "proto/base/clock.h"
#include "proto/lsn.h"

enum { PROBLEM_MAX = 16 * 1024 };

unsigned
problem_status(int code)
{
    switch (code) {
    case ERR_PARSE:
    case ERR_SHORT:
    case ERR_USAGE:
    case ERR_UNSUPPORTED:
        return 400;
    case ERR_AUTH:
        return 403;
    case ERR_NOTFOUND:
        return 404;
    case ERR_CONFLICT:
    case ERR_FENCED:
    case ERR_STEERED:
    case ERR_FOREIGN:
        return 409;
    case ERR_GONE:
        return 410;
    case ERR_TOOBIG:
        return 413;
    case ERR_BEYOND:
        return 416;
    case ERR_REFUSED:
        return 507; /* a quota is used up, and a person has to make room */
    case ERR_NOSPACE:
    case ERR_BUSY:
    case ERR_STOPPING:
        return 503;
    default:
        return 500;
    }
}

const char *
problem_title(unsigned status)
{
    switch (status) {
    case 400:
        return "Bad Request";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 409:
        return "Conflict";
    case 410:
        return "Gone";
    case 413:
        return "Content Too Large";
    case 416:
        return "Range Not Satisfiable";
    case 429:
        return "Too Many Requests";
    case 503:
        return "Service Unavailable";
    case 507:
        return "Insufficient Storage";
    default:
        return "Internal Server Error";
    }
}

void
problem_put(struct jsonw *w, unsigned status, struct str detail)
{
    jsonw_object(w, NULL);
    jsonw_cstr(w, "type", "about:blank");
    jsonw_cstr(w, "title", problem_title(status));
    jsonw_u64(w, "status", status);
    jsonw_str(w, "detail", detail);
}

void
problem_put_place(struct jsonw *w, const char *key, const struct journal_place *p)
{
    char text[CLOCK_TEXT_MAX];
    jsonw_object(w, key);
    jsonw_u64(w, "offset", p->offset);
    if (p->has_txn) {
        jsonw_str(w, "lsn", (struct str){text, lsn_format(p->lsn, text)});
        jsonw_str(w, "ts", (struct str){text, clock_format_us(p->ts_us, text)});
    } else {
        jsonw_null(w, "lsn");
        jsonw_null(w, "ts");
    }
    jsonw_end_object(w);
}

/* What helps beside the sentence: where the log begins, or ends. */
static void
put_help(struct jsonw *w, unsigned status, struct journal *j)
{
    struct journal_info info;
    if (j == NULL || (status != 410 && status != 416)) {
        return;
    }
    journal_info(j, &info);
    if (status == 410) {
        problem_put_place(w, "earliest", &info.earliest);
    } else {
        struct journal_place tail = {.offset = info.next,
            .has_txn = info.has_last,
            .lsn = info.last_lsn,
            .ts_us = info.last_ts_us};
        problem_put_place(w, "tail", &tail);
    }
}

/* code: the name of the error, so that our own processes need not guess from the status; NULL:
 * the status says it all. */
static void
respond(struct httpd_req *rq, unsigned status, const char *code, struct str detail,
    struct journal *j)
{
    struct buf auto_buf b;
    struct jsonw w;
    buf_init(&b, PROBLEM_MAX);
    jsonw_init(&w, &b);
    problem_put(&w, status, detail);
    if (code != NULL) {
        jsonw_cstr(&w, "code", code);
    }
    put_help(&w, status, j);
    jsonw_end_object(&w);
    buf_putc(&b, '\n');
    if (status == 503 || status == 429) {
        httpd_add_header(rq, "Retry-After", "1");
    }
    httpd_respond(rq, status, API_PROBLEM, &b);
}

void
problem_respond_log(struct httpd_req *rq, const struct err *e, struct journal *j)
{
    respond(rq, problem_status(e->code), err_name(e->code), str_from(e->msg), j);
}

void
problem_respond(struct httpd_req *rq, const struct err *e)
{
    problem_respond_log(rq, e, NULL);
}

void
problem_respond_text(struct httpd_req *rq, unsigned status, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    respond(rq, status, NULL, str_from(text), NULL);
}
