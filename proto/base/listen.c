/* listen: see listen.h. Owns nothing: descriptors go to the caller. Knows nothing of HTTP. */
#include "proto/base/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/base/cleanup.h"

enum { LISTEN_BACKLOG = 256 };

static int
unix_address(const char *path, struct sockaddr_un *to, struct err *e)
{
    size_t n = strlen(path);

    if (n == 0 || n >= sizeof to->sun_path) {
        return err_set(e, ERR_CONFIG,
            "the path of a Unix socket may have 1 to %zu bytes, %s has %zu: choose a shorter "
            "data_dir",
            sizeof to->sun_path - 1, path, n);
    }
    memset(to, 0, sizeof *to);
    to->sun_family = AF_UNIX;
    memcpy(to->sun_path, path, n + 1);
    return 0;
}

static int
socket_new(int family, int *ret_fd, struct err *e)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0) {
        return err_set_sys(e, ERR_IO, errno, "cannot create a socket");
    }
    *ret_fd = fd;
    return 0;
}

/* Does a living process accept on this socket? A full backlog (EAGAIN) is one too. */
static int
probe_owner(const struct sockaddr_un *addr, bool *ret_alive, struct err *e)
{
    auto_close int fd = -1;
    int rc = socket_new(AF_UNIX, &fd, e);

    if (rc != 0) {
        return rc;
    }
    if (connect(fd, (const struct sockaddr *)addr, sizeof *addr) == 0 || errno == EAGAIN) {
        *ret_alive = true;
    } else if (errno == ECONNREFUSED || errno == ENOENT) {
        *ret_alive = false;
    } else {
        return err_set_sys(
            e, ERR_CONFIG, errno, "cannot tell who owns the socket %s", addr->sun_path);
    }
    return 0;
}

static int
remove_stale(const struct sockaddr_un *addr, struct err *e)
{
    const char *path = addr->sun_path;
    struct stat st;
    bool is_alive = false;
    int rc;

    if (lstat(path, &st) != 0) {
        return errno == ENOENT ? 0
                               : err_set_sys(e, ERR_CONFIG, errno, "cannot look at %s", path);
    }
    if (!S_ISSOCK(st.st_mode)) {
        return err_set(
            e, ERR_CONFIG, "%s is in the way of the socket and is not one: move it away", path);
    }
    rc = probe_owner(addr, &is_alive, e);
    if (rc != 0) {
        return rc;
    }
    if (is_alive) {
        return err_set(
            e, ERR_LOCKED, "another process answers on the socket %s: stop it first", path);
    }
    if (unlink(path) != 0 && errno != ENOENT) {
        return err_set_sys(e, ERR_CONFIG, errno, "cannot remove the stale socket %s", path);
    }
    return 0;
}

int
listen_unix(const char *path, int *ret_fd, struct err *e)
{
    struct sockaddr_un addr;
    auto_close int fd = -1;
    int rc = unix_address(path, &addr, e);

    if (rc != 0) {
        return rc;
    }
    rc = remove_stale(&addr, e);
    if (rc != 0) {
        return rc;
    }
    rc = socket_new(AF_UNIX, &fd, e);
    if (rc != 0) {
        return rc;
    }
    /* Linux gives the file the mode of the descriptor: no moment at which others may connect,
     * and no process-wide umask. */
    if (fchmod(fd, 0600) != 0 || bind(fd, (struct sockaddr *)&addr, sizeof addr) != 0 ||
        chmod(path, 0600) != 0) {
        return err_set_sys(e, errno == EADDRINUSE ? ERR_LOCKED : ERR_CONFIG, errno,
            "cannot create the socket %s", path);
    }
    if (listen(fd, LISTEN_BACKLOG) != 0) {
        return err_set_sys(e, ERR_IO, errno, "cannot listen on %s", path);
    }
    *ret_fd = fd;
    fd = -1;
    return 0;
}

static int
resolve_numeric(const char *host, uint16_t port, struct addrinfo **ret, struct err *e)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    char service[8];
    int rc;

    (void)snprintf(service, sizeof service, "%u", (unsigned)port);
    rc = getaddrinfo(host, service, &hints, ret);
    if (rc != 0) {
        return err_set(e, ERR_CONFIG,
            "cannot listen on %s: not a numeric address such as 127.0.0.1 (%s)", host,
            gai_strerror(rc));
    }
    return 0;
}

static int
bound_port(int fd, uint16_t *ret_port, struct err *e)
{
    struct sockaddr_storage addr = {0};
    socklen_t n = sizeof addr;

    if (getsockname(fd, (struct sockaddr *)&addr, &n) != 0) {
        return err_set_sys(e, ERR_IO, errno, "cannot ask for the port bound");
    }
    *ret_port = ntohs(addr.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&addr)->sin6_port
                                                 : ((struct sockaddr_in *)&addr)->sin_port);
    return 0;
}

static int
listen_at(
    const struct addrinfo *ai, const char *host, uint16_t port, int *ret_fd, struct err *e)
{
    auto_close int fd = -1;
    int on = 1, rc = socket_new(ai->ai_family, &fd, e);

    if (rc != 0) {
        return rc;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        if (errno == EADDRINUSE) {
            return err_set_sys(e, ERR_LOCKED, errno,
                "cannot listen on %s port %u: stop what listens there or choose another port",
                host, (unsigned)port);
        }
        return err_set_sys(
            e, ERR_CONFIG, errno, "cannot listen on %s port %u", host, (unsigned)port);
    }
    *ret_fd = fd;
    fd = -1;
    return 0;
}

int
listen_tcp(const char *host, uint16_t port, int *ret_fd, uint16_t *ret_port, struct err *e)
{
    struct addrinfo *ai = NULL;
    int fd = -1, rc = resolve_numeric(host, port, &ai, e);

    if (rc != 0) {
        return rc;
    }
    rc = listen_at(ai, host, port, &fd, e);
    freeaddrinfo(ai);
    if (rc != 0) {
        return rc;
    }
    rc = bound_port(fd, ret_port, e);
    if (rc != 0) {
        (void)close(fd);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

bool
listen_is_loopback(struct str host)
{
    char text[INET6_ADDRSTRLEN];
    struct in_addr v4;
    struct in6_addr v6;

    if (str_is_caseless(host, "localhost")) {
        return true;
    }
    if (host.n == 0 || host.n >= sizeof text || memchr(host.p, '\0', host.n) != NULL) {
        return false;
    }
    memcpy(text, host.p, host.n);
    text[host.n] = '\0';
    if (inet_pton(AF_INET, text, &v4) == 1) {
        return ntohl(v4.s_addr) >> 24 == 127;
    }
    return inet_pton(AF_INET6, text, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}
