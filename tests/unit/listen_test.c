/* listen: sockets are safe from their first moment, and never taken from a living process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/listen.h"

static char dir[] = "/tmp/listen_test.XXXXXX";
static char path[64];

static int
make_dir(void **state)
{
    (void)state;
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    (void)snprintf(path, sizeof path, "%s/s.sock", dir);
    return 0;
}

static int
remove_dir(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(dir);
}

static int
remove_socket(void **state)
{
    (void)state;
    (void)unlink(path);
    return 0;
}

static void
a_unix_socket_is_private_whatever_the_umask(void **state)
{
    static const mode_t masks[] = {0, 0022, 0777};

    (void)state;
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        mode_t before = umask(masks[i]);
        struct stat st;
        int fd = -1;

        assert_int_equal(listen_unix(path, &fd, NULL), 0);
        (void)umask(before);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        (void)close(fd); /* the file stays: stale for the next round, which replaces it */
    }
}

static void
a_living_owner_is_respected(void **state)
{
    struct err e = {0};
    int fd = -1, other = -1;

    (void)state;
    assert_int_equal(listen_unix(path, &fd, NULL), 0);
    assert_int_equal(listen_unix(path, &other, &e), ERR_LOCKED);
    assert_int_equal(other, -1);
    assert_non_null(strstr(e.msg, path));
    assert_int_equal(access(path, F_OK), 0);
    (void)close(fd);
}

static void
what_is_no_socket_is_left_alone(void **state)
{
    FILE *f = fopen(path, "w");
    struct stat st;
    int fd = -1;

    (void)state;
    assert_non_null(f);
    (void)fclose(f);
    assert_int_equal(listen_unix(path, &fd, NULL), ERR_CONFIG);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISREG(st.st_mode));
}

static void
bad_paths_are_refused(void **state)
{
    char longest[200];
    int fd = -1;

    (void)state;
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(listen_unix(longest, &fd, NULL), ERR_CONFIG);
    assert_int_equal(listen_unix("", &fd, NULL), ERR_CONFIG);
    assert_int_equal(listen_unix("/nonexistent/s.sock", &fd, NULL), ERR_CONFIG);
    assert_int_equal(fd, -1);
}

static void
a_taken_port_is_named(void **state)
{
    struct err e = {0};
    uint16_t port = 0, other_port = 0;
    int fd = -1, other = -1;
    char text[16];

    (void)state;
    assert_int_equal(listen_tcp("127.0.0.1", 0, &fd, &port, NULL), 0);
    assert_int_not_equal(port, 0);
    assert_int_equal(listen_tcp("127.0.0.1", port, &other, &other_port, &e), ERR_LOCKED);
    (void)snprintf(text, sizeof text, "port %u", (unsigned)port);
    assert_non_null(strstr(e.msg, text));
    (void)close(fd);
    assert_int_equal(listen_tcp("127.0.0.1", port, &fd, &other_port, NULL), 0);
    assert_int_equal(other_port, port);
    (void)close(fd);
}

static void
bad_addresses_are_refused(void **state)
{
    static const char *const hosts[] = {"localhost", "example.com", "300.1.1.1", "192.0.2.1"};
    uint16_t port = 0;
    int fd = -1;

    (void)state;
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        assert_int_equal(listen_tcp(hosts[i], 0, &fd, &port, NULL), ERR_CONFIG);
        assert_int_equal(fd, -1);
    }
}

static void
loopback_is_known_in_every_spelling(void **state)
{
    const struct {
        struct str host;
        bool is_loopback;
    } rows[] = {
        {STR("localhost"), true},
        {STR("LocalHost"), true},
        {STR("127.0.0.1"), true},
        {STR("127.255.255.255"), true},
        {STR("::1"), true},
        {STR("0:0:0:0:0:0:0:1"), true},
        {STR("::0.0.0.1"), true},
        {STR(""), false},
        {STR("[::1]"), false},
        {STR("126.255.255.255"), false},
        {STR("128.0.0.0"), false},
        {STR("::"), false},
        {STR("::ffff:127.0.0.1"), false},
        {STR("127.0.0.1\0.example.com"), false},
        {STR("localhost.example.com"), false},
        {STR("0000:0000:0000:0000:0000:0000:0000:0000:0000:0001"), false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        print_message("%.*s\n", (int)rows[i].host.n, rows[i].host.p);
        assert_int_equal(listen_is_loopback(rows[i].host), rows[i].is_loopback);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_unix_socket_is_private_whatever_the_umask, remove_socket),
        cmocka_unit_test_teardown(a_living_owner_is_respected, remove_socket),
        cmocka_unit_test_teardown(what_is_no_socket_is_left_alone, remove_socket),
        cmocka_unit_test(bad_paths_are_refused),
        cmocka_unit_test(a_taken_port_is_named),
        cmocka_unit_test(bad_addresses_are_refused),
        cmocka_unit_test(loopback_is_known_in_every_spelling),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
