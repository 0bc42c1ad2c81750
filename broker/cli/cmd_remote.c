/* cmd_remote: see cmd_remote.h. */
#include "broker/cli/cmd_remote.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/fs.h"
#include "proto/base/sig.h"
#include "proto/base/xmalloc.h"
#include "proto/config.h"

static int
find_broker(const struct cmd_args *a, char **ret_where)
{
    struct config *conf = NULL;
    if (a->url != NULL) {
        if (strncmp(a->url, "http://", 7) != 0 && strncmp(a->url, "https://", 8) != 0) {
            return cmd_complain(a, CMD_USAGE,
                "--url must look like http://127.0.0.1:7432, not '%.60s'", a->url);
        }
        *ret_where = xstrdup(a->url);
        return CMD_DONE;
    }
    int status = cmd_load(a, &conf);
    if (status == CMD_DONE) {
        *ret_where = fs_join(conf->data_dir, API_SOCKET);
        config_free(conf);
    }
    return status;
}

int
cmd_remote_open(const struct cmd_args *a, struct cmd_remote *ret)
{
    char *where = NULL;
    int status = find_broker(a, &where);
    if (status != CMD_DONE) {
        return status;
    }
    struct client_conf c = {.unix_path = a->url == NULL ? where : NULL,
        .url = a->url,
        .should_stop = sig_stop_requested};
    *ret = (struct cmd_remote){.client = client_new(&c), .where = where};
    return CMD_DONE;
}

void
cmd_remote_close(struct cmd_remote *r)
{
    client_free(r->client);
    free(r->where);
}

static int
collect(void *arg, struct str piece, struct err *e)
{
    struct buf *b = arg;
    buf_put_str(b, piece);
    return buf_ok(b) ? 0 : err_set(e, ERR_TOOBIG, "the answer is beyond %zu bytes", b->max);
}

int
cmd_remote_get_raw(struct cmd_remote *r, const char *path, struct buf *to, struct err *e)
{
    int rc = client_stream(r->client, path, API_JSON, collect, to, e);
    if (rc == 0 && to->n > 0 && to->p[to->n - 1] != '\n') {
        buf_putc(to, '\n');
    }
    return rc;
}

bool
cmd_remote_is_away(const struct err *e)
{
    return e->code != ERR_STOPPING && err_class(e->code) == ERR_CLASS_RETRY;
}

int
cmd_remote_complain(const struct cmd_args *a, const struct cmd_remote *r, const struct err *e)
{
    if (e->code == ERR_STOPPING && sig_stop_requested()) {
        return CMD_DONE;
    }
    if (e->code == ERR_CONNECT) {
        /* curl's own text speaks of a port even where there is only a socket */
        return a->url != NULL ? cmd_complain(a, CMD_UNREACHABLE,
                                    "no broker answers at %s (%s); is `oneslot run` up there?",
                                    r->where, e->msg)
                              : cmd_complain(a, CMD_UNREACHABLE,
                                    "no broker answers at %s; `oneslot run -c %s` starts it",
                                    r->where, a->config);
    }
    return cmd_complain(a, e->code == ERR_TIMEOUT ? CMD_UNREACHABLE : CMD_FAILED, "%s", e->msg);
}
