/* routes, openapi: the table's paths, and the description made from it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "broker/openapi.h"
#include "broker/problem.h"
#include "broker/routes.h"
#include "proto/base/json.h"

static const struct {
    const char *pattern;
    unsigned flags;
    const char *path;
    const char *name; /* NULL: no match */
} matches[] = {
    {"/", 0, "/", ""},
    {"/", 0, "", NULL},
    {"/lag", 0, "/lag", ""},
    {"/lag", 0, "/lag/", NULL},
    {"/lag", 0, "/lagx", NULL},
    {"/lag/{sink}", 0, "/lag/a", "a"},
    {"/lag/{sink}", 0, "/lag/", NULL},
    {"/lag/{sink}", 0, "/lag", NULL},
    {"/lag/{sink}", 0, "/lag/a/b", NULL},
    {"/sinks/{sink}/pause", 0, "/sinks/a/pause", "a"},
    {"/sinks/{sink}/pause", 0, "/sinks//pause", NULL},
    {"/sinks/{sink}/pause", 0, "/sinks/pause", NULL},
    {"/sinks/{sink}/pause", 0, "/sinks/a/b/pause", NULL},
    {"/positions/{position}", ROUTE_REST, "/positions/2:0/16B3748", "2:0/16B3748"},
};

static void
test_matches(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof matches / sizeof matches[0]; i++) {
        struct route r = {.path = matches[i].pattern, .flags = matches[i].flags};
        struct str name = STR("untouched");
        bool is_match = route_matches(&r, str_from(matches[i].path), &name);
        if (is_match != (matches[i].name != NULL) ||
            (is_match && !str_is(name, matches[i].name))) {
            fail_msg("%s against %s", matches[i].path, matches[i].pattern);
        }
    }
}

static void
test_table_is_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < nroutes; i++) {
        const struct route *r = &routes[i];
        size_t nparams = 0;
        while (r->params != NULL && r->params[nparams].name != NULL) {
            nparams++;
        }
        assert_true(nparams <= ROUTE_PARAMS_MAX);
        assert_non_null(r->handler);
        if ((r->flags & ROUTE_INTERNAL) == 0) {
            assert_non_null(r->id);
            assert_non_null(r->summary);
            assert_true(r->status == 204 || r->types != NULL);
        }
        for (size_t k = 0; k < i; k++) {
            assert_false(strcmp(r->path, routes[k].path) == 0 &&
                         strcmp(r->method, routes[k].method) == 0);
        }
    }
}

static void
check_refs(const struct json *root, const struct json *j)
{
    static const char prefix[] = "#/components/schemas/";
    struct str ref;
    if (json_str(json_get(j, "$ref"), &ref)) {
        char name[64];
        assert_true(ref.n > sizeof prefix - 1 && ref.n < sizeof name);
        (void)snprintf(name, sizeof name, "%.*s", (int)(ref.n - sizeof prefix + 1),
            ref.p + sizeof prefix - 1);
        const struct json *schemas = json_get(json_get(root, "components"), "schemas");
        if (json_get(schemas, name) == NULL) {
            fail_msg("no schema %s", name);
        }
    }
    for (size_t i = 0; i < json_size(j); i++) {
        const char *key;
        check_refs(root, json_is_object(j) ? json_member(j, i, &key) : json_at(j, i));
    }
}

static void
test_openapi(void **state)
{
    (void)state;
    struct json *root;
    struct err e;
    struct buf auto_buf b;
    buf_init(&b, 1 << 20);
    openapi_put(&b);
    assert_true(buf_ok(&b));
    if (json_parse(buf_str(&b), &root, &e) != 0) {
        fail_msg("%s", e.msg);
    }
    check_refs(root, root);
    const struct json *paths = json_get(root, "paths");
    /* Both methods of one path stand under it. */
    assert_true(json_is_object(json_get(json_get(paths, "/sinks/{sink}"), "get")));
    assert_true(json_is_object(json_get(json_get(paths, "/sinks/{sink}"), "delete")));
    assert_true(json_is_object(
        json_get(json_get(json_get(paths, "/sinks/{sink}/replay"), "post"), "requestBody")));
    assert_int_equal(
        json_size(json_get(json_get(json_get(paths, "/changes"), "get"), "parameters")), 9);
    for (size_t i = 0; i < json_size(paths); i++) {
        const char *path;
        (void)json_member(paths, i, &path);
        assert_null(strstr(path, "/internal/"));
    }
    json_free(root);
}

static void
test_statuses(void **state)
{
    (void)state;
    static const struct {
        int code;
        unsigned status;
    } cases[] = {{ERR_PARSE, 400}, {ERR_UNSUPPORTED, 400}, {ERR_AUTH, 403}, {ERR_NOTFOUND, 404},
        {ERR_CONFLICT, 409}, {ERR_FENCED, 409}, {ERR_STEERED, 409}, {ERR_GONE, 410},
        {ERR_TOOBIG, 413}, {ERR_BEYOND, 416}, {ERR_BUSY, 503}, {ERR_NOSPACE, 503},
        {ERR_CORRUPT, 500}, {ERR_IO, 500}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(problem_status(cases[i].code), cases[i].status);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches),
        cmocka_unit_test(test_table_is_whole),
        cmocka_unit_test(test_openapi),
        cmocka_unit_test(test_statuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
