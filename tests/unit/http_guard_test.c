/* http_guard: which requests are refused by their headers alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "proto/base/http_guard.h"

static void
only_loopback_names_are_ours(void **state)
{
    static const struct {
        const char *host;
        bool on_tcp, on_unix;
    } cases[] = {
        {"localhost", true, true},
        {"LocalHost:7432", true, true},
        {"127.0.0.1", true, true},
        {"127.0.0.1:1", true, true},
        {"[::1]", true, true},
        {"[::1]:65535", true, true},
        {" localhost ", true, true},
        {"127.0.0.2:7432", true, true}, /* whatever may be configured as `listen` */
        {"127.255.255.254", true, true},
        {"[0:0:0:0:0:0:0:1]:7432", true, true},
        {"[0000:0000:0000:0000:0000:0000:127.0.0.1]", false, false}, /* ::7f00:1 is not ::1 */
        {"[::127.0.0.1]", false, false},
        {"[::ffff:127.0.0.1]", false, false},
        {"[::1%lo]", false, false},
        {"[::2]", false, false},
        {"[]", false, false},
        {"128.0.0.1", false, false},
        {"126.255.255.255", false, false},
        {"127.0.0.2.evil.example", false, false},
        {"127.1.evil.example", false, false},
        {"0127.0.0.1", false, false},
        {"127.0.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0", false, false},
        {"oneslot", false, true},
        {"oneslot:80", false, true},
        {"", false, false},
        {":80", false, false},
        {"localhost:", false, false},
        {"localhost:x", false, false},
        {"localhost:123456", false, false},
        {"localhost:80:80", false, false},
        {"localhost.evil.example", false, false},
        {"127.0.0.1.evil.example", false, false},
        {"evil.example", false, false},
        {"[::1", false, false},
        {"[::1]x", false, false},
        {"::1", false, false},
        {"192.168.0.1", false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        print_message("%s\n", cases[i].host);
        assert_int_equal(http_guard_host(str_from(cases[i].host), false), cases[i].on_tcp);
        assert_int_equal(http_guard_host(str_from(cases[i].host), true), cases[i].on_unix);
    }
}

static void
forms_cannot_reach_us(void **state)
{
    static const struct {
        const char *method, *length, *type;
        bool is_forgeable;
    } cases[] = {
        {"GET", NULL, NULL, false},
        {"GET", "5", NULL, false}, /* its body is refused for its size */
        {"POST", NULL, NULL, true},
        {"POST", "0", NULL, true},
        {"POST", NULL, "application/json", false},
        {"POST", "5", "application/json", false},
        {"POST", "5", "Application/JSON; charset=utf-8", false},
        {"POST", "5", "application/msgpack", false},
        {"POST", "5", "text/plain", true},
        {"POST", "5", "text/plain; application/json", true},
        {"POST", "5", "application/x-www-form-urlencoded", true},
        {"POST", "5", "application/jsonx", true},
        {"POST", "5", "", true},
        {"PUT", "5", NULL, true},
        {"PUT", NULL, NULL, false},
        {"DELETE", NULL, NULL, false},
        {"DELETE", "5", "text/plain", true},
        {"post", "5", "text/plain", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct http_guard g = {0};

        print_message("case %zu\n", i);
        if (cases[i].length != NULL) {
            http_guard_note(&g, STR("content-LENGTH"), str_from(cases[i].length));
        }
        if (cases[i].type != NULL) {
            http_guard_note(&g, STR("content-type"), str_from(cases[i].type));
        }
        assert_int_equal(
            http_guard_is_forgeable(&g, str_from(cases[i].method)), cases[i].is_forgeable);
    }
}

static void
two_types_are_none(void **state)
{
    struct http_guard g = {0};

    (void)state;
    http_guard_note(&g, STR("Content-Type"), STR("text/plain"));
    http_guard_note(&g, STR("Content-Type"), STR("application/json"));
    assert_true(http_guard_is_forgeable(&g, STR("POST")));
}

static void
the_end_of_a_body_is_beyond_doubt(void **state)
{
    static const struct {
        const char *lengths[2], *encodings[2];
        bool is_framed, has_body;
        uint64_t bytes;
    } cases[] = {
        {{NULL}, {NULL}, true, false, 0},
        {{"0"}, {NULL}, true, false, 0},
        {{"00012"}, {NULL}, true, true, 12},
        {{"18446744073709551615"}, {NULL}, true, true, UINT64_MAX},
        {{"18446744073709551616"}, {NULL}, true, true, UINT64_MAX},
        {{"99999999999999999999999"}, {NULL}, true, true, UINT64_MAX},
        {{NULL}, {"chunked"}, true, true, 0},
        {{NULL}, {"Chunked"}, true, true, 0},
        {{"5", "5"}, {NULL}, false, true, 5},
        {{"5", "6"}, {NULL}, false, true, 6},
        {{"5"}, {"chunked"}, false, true, 5},
        {{NULL}, {"gzip"}, false, true, 0},
        {{NULL}, {"gzip, chunked"}, false, true, 0},
        {{NULL}, {"chunked", "chunked"}, false, true, 0},
        {{NULL}, {"identity"}, false, true, 0},
    };
    static const char *const bad_lengths[] = {"", "-5", "+5", "5 ", "0x5", "5,5", "a"};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct http_guard g = {0};

        print_message("case %zu\n", i);
        for (size_t j = 0; j < 2; j++) {
            if (cases[i].lengths[j] != NULL) {
                http_guard_note(&g, STR("Content-Length"), str_from(cases[i].lengths[j]));
            }
            if (cases[i].encodings[j] != NULL) {
                http_guard_note(&g, STR("Transfer-Encoding"), str_from(cases[i].encodings[j]));
            }
        }
        assert_int_equal(http_guard_is_framed(&g), cases[i].is_framed);
        assert_int_equal(http_guard_has_body(&g), cases[i].has_body);
        assert_true(http_guard_body_bytes(&g) == cases[i].bytes);
    }
    for (size_t i = 0; i < sizeof bad_lengths / sizeof *bad_lengths; i++) {
        struct http_guard g = {0};

        http_guard_note(&g, STR("Content-Length"), str_from(bad_lengths[i]));
        assert_false(http_guard_is_framed(&g));
    }
}

static void
the_judgement_names_the_status(void **state)
{
    static const struct {
        const char *host, *path;
        size_t header_bytes;
        bool is_http10, is_unix, loopback_only;
        unsigned status;
    } cases[] = {
        {"localhost", "/lag", 100, false, false, true, 0},
        {"evil.example", "/lag", 100, false, false, true, 403},
        {"evil.example", "/lag", 100, false, false, false, 0},
        {"oneslot", "/lag", 100, false, true, true, 0},
        {"oneslot", "/lag", 100, false, false, true, 403},
        {NULL, "/lag", 100, true, false, true, 0},
        {NULL, "/lag", 100, false, false, true, 400},
        {"localhost", "http://evil.example/", 100, false, false, true, 400},
        {"localhost", "*", 100, false, false, true, 400},
        {"localhost", "", 100, false, false, true, 400},
        {"localhost", "/lag", HTTP_GUARD_HEADER_BYTES_MAX, false, false, true, 0},
        {"localhost", "/lag", HTTP_GUARD_HEADER_BYTES_MAX + 1, false, false, true, 431},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct http_guard g = {0};
        struct http_guard_about about = {.method = STR("GET"),
            .path = str_from(cases[i].path),
            .header_bytes = cases[i].header_bytes,
            .is_http10 = cases[i].is_http10,
            .is_unix = cases[i].is_unix,
            .loopback_hosts_only = cases[i].loopback_only};
        const char *why = NULL;

        print_message("case %zu\n", i);
        if (cases[i].host != NULL) {
            http_guard_note(&g, STR("host"), str_from(cases[i].host));
        }
        assert_int_equal(http_guard_judge(&g, &about, &why), cases[i].status);
        assert_int_equal(why != NULL, cases[i].status != 0);
        if (cases[i].status != 0) {
            assert_string_not_equal(http_guard_title(cases[i].status), "Error");
        }
    }
}

static void
escapes_are_decoded_but_not_to_nul(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"", ""},
        {"/lag", "/lag"},
        {"%2Fa%2fb", "/a/b"},
        {"%00x", "%00x"},
        {"a%", "a%"},
        {"a%4", "a%4"},
        {"a%4g", "a%4g"},
        {"a%+1", "a%+1"},
        {"a% 1", "a% 1"},
        {"a%0x41", "a%0x41"},
        {"%25%32%30", "%20"},
        {"%c3%A4", "\xc3\xa4"},
        {"%%41", "%A"},
        {"%ff", "\xff"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char s[32];
        size_t n;

        (void)snprintf(s, sizeof s, "%s", cases[i].in);
        n = http_guard_unescape(s);
        assert_string_equal(s, cases[i].out);
        assert_int_equal(n, strlen(cases[i].out));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_loopback_names_are_ours),
        cmocka_unit_test(forms_cannot_reach_us),
        cmocka_unit_test(two_types_are_none),
        cmocka_unit_test(the_end_of_a_body_is_beyond_doubt),
        cmocka_unit_test(the_judgement_names_the_status),
        cmocka_unit_test(escapes_are_decoded_but_not_to_nul),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
