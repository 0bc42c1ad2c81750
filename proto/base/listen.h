/* listen: listening sockets, made so that nobody can reach them before they are safe.
 * Non-blocking, close-on-exec. */
#ifndef ONESLOT_BASE_LISTEN_H
#define ONESLOT_BASE_LISTEN_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/str.h"

/* A Unix socket of mode 0600 at path, whatever the umask. A socket left over by a dead process
 * is replaced; one that answers is ERR_LOCKED, anything else at path ERR_CONFIG. */
int listen_unix(const char *path, int *ret_fd, struct err *e) MUST_CHECK;
/* host: a numeric IPv4 or IPv6 address; port 0: any free one. *ret_port is the port bound. A
 * taken port is ERR_LOCKED, an unusable address ERR_CONFIG. */
int listen_tcp(
    const char *host, uint16_t port, int *ret_fd, uint16_t *ret_port, struct err *e) MUST_CHECK;

/* Does host, without brackets, name this machine alone: "localhost", or any address of the
 * loopback interface, in any spelling? What may be listened on and what a request's Host may be
 * are both asked here, so that nobody is refused at an address that was configured. */
bool listen_is_loopback(struct str host);

#endif
