/* cmd_remote: which exit status each failure of the broker has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/cli/cmd_remote.h"

static void
each_failure_has_its_status(void **state)
{
    (void)state;
    static const struct {
        int code, status;
    } cases[] = {{ERR_CONNECT, CMD_UNREACHABLE}, {ERR_TIMEOUT, CMD_UNREACHABLE},
        {ERR_CLOSED, CMD_FAILED}, {ERR_BUSY, CMD_FAILED}, {ERR_GONE, CMD_FAILED},
        {ERR_STOPPING, CMD_FAILED} /* the broker's own: nobody stopped us */};
    const struct cmd_args a = {.name = "lag", .config = "oneslot.yaml"};
    char where[] = "/data/oneslot.sock";
    const struct cmd_remote r = {.where = where};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e;
        (void)err_set(&e, cases[i].code, "case %zu", i);
        assert_int_equal(cmd_remote_complain(&a, &r, &e), cases[i].status);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_failure_has_its_status)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
