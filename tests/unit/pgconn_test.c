/* pgconn: what goes wrong before there is a server. Everything else needs a real one:
 * tests/e2e. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/clock.h"
#include "proto/base/xmalloc.h"
#include "replicator/pgconn.h"

static char folder[64];

static int
make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/pgconn_test.XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int
remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static void
expect_failure(const struct pgconn_conf *c, int code, const char *word)
{
    struct pgconn *pg = NULL;
    struct err e = {0};
    assert_int_equal(pgconn_open(c, &pg, &e), code);
    assert_null(pg);
    assert_int_equal(e.code, code);
    assert_non_null(strstr(e.msg, word));
}

static void
test_bad_dsn_is_not_repeated(void **state)
{
    (void)state;
    struct pgconn_conf c = {.dsn = "host=x password=top secret", .stop_fd = -1};
    expect_failure(&c, ERR_CONFIG, "source.dsn");
    struct pgconn *pg = NULL;
    struct err e = {0};
    assert_int_equal(pgconn_open(&c, &pg, &e), ERR_CONFIG);
    assert_null(strstr(e.msg, "secret"));
}

static void
test_nobody_there(void **state)
{
    (void)state;
    char *dsn = xasprintf("host=%s dbname=app user=x", folder);
    struct pgconn_conf c = {.dsn = dsn, .stop_fd = -1};
    expect_failure(&c, ERR_CONNECT, "is it running");
    free(dsn);
}

static void
test_password_file_missing(void **state)
{
    (void)state;
    struct pgconn_conf c = {
        .dsn = "host=/nowhere", .password_file = "/nowhere/secret", .stop_fd = -1};
    expect_failure(&c, ERR_CONFIG, "/nowhere/secret");
}

/* A listener that never answers: somebody accepted the connection and hangs. */
static int
listen_silently(char path[120])
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    (void)snprintf(path, 120, "%s/.s.PGSQL.5432", folder);
    memcpy(a.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

static void
test_silent_server_times_out(void **state)
{
    (void)state;
    char path[120];
    int fd = listen_silently(path);
    char *dsn = xasprintf("host=%s dbname=app user=x", folder);
    struct pgconn_conf c = {.dsn = dsn, .stop_fd = -1, .connect_timeout_ms = 100};
    int64_t began_ms = clock_mono_ms();
    expect_failure(&c, ERR_CONNECT, "no answer in time");
    assert_true(clock_mono_ms() - began_ms >= 100);
    (void)close(fd);
    (void)unlink(path);
    free(dsn);
}

/* The startup packet that a connect sent. */
static size_t
read_startup(int listener, char *packet, size_t size)
{
    int fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    ssize_t n = recv(fd, packet, size, 0);
    assert_true(n > 8 && (size_t)n < size);
    (void)close(fd);
    return (size_t)n;
}

static const char *
find_parameter(const char *packet, size_t n, const char *name)
{
    for (size_t at = 8; at < n && packet[at] != '\0';) {
        const char *key = packet + at, *value = key + strlen(key) + 1;
        if (strcmp(key, name) == 0) {
            return value;
        }
        at = (size_t)(value - packet) + strlen(value) + 1;
    }
    return NULL;
}

/* What would change a value's text, or hide the warning that changes are skipped, follows the
 * options of the dsn and so wins. */
static void
test_settings_are_pinned_behind_the_dsn(void **state)
{
    (void)state;
    static const char *const pinned[] = {"datestyle=ISO", "intervalstyle=postgres",
        "extra_float_digits=3", "timezone=UTC", "bytea_output=hex", "lc_monetary=C",
        "search_path= ", "quote_all_identifiers=off", "standard_conforming_strings=on",
        "statement_timeout=0", "wal_sender_timeout=60000", "client_min_messages=warning"};
    char path[120], packet[4096] = {0};
    int fd = listen_silently(path);
    char *dsn =
        xasprintf("host=%s dbname=app user=x options='-c client_min_messages=error'", folder);
    struct pgconn_conf c = {.dsn = dsn, .stop_fd = -1, .connect_timeout_ms = 100};
    expect_failure(&c, ERR_CONNECT, "no answer in time");
    size_t n = read_startup(fd, packet, sizeof packet);
    const char *options = find_parameter(packet, n, "options");
    assert_non_null(options);
    const char *of_dsn = strstr(options, "client_min_messages=error");
    assert_non_null(of_dsn);
    for (size_t i = 0; i < sizeof pinned / sizeof pinned[0]; i++) {
        assert_non_null(strstr(of_dsn, pinned[i]));
    }
    (void)close(fd);
    (void)unlink(path);
    free(dsn);
}

static void
test_stop_ends_a_connect(void **state)
{
    (void)state;
    char path[120];
    int fd = listen_silently(path), stop = eventfd(1, EFD_CLOEXEC);
    char *dsn = xasprintf("host=%s dbname=app user=x", folder);
    struct pgconn_conf c = {.dsn = dsn, .stop_fd = stop, .connect_timeout_ms = 60000};
    expect_failure(&c, ERR_STOPPING, "stopping");
    (void)close(fd);
    (void)close(stop);
    (void)unlink(path);
    free(dsn);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_dsn_is_not_repeated),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_password_file_missing),
        cmocka_unit_test(test_silent_server_times_out),
        cmocka_unit_test(test_settings_are_pinned_behind_the_dsn),
        cmocka_unit_test(test_stop_ends_a_connect),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
