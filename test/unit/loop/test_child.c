/* SPDX-License-Identifier: Apache-2.0 */
/* Children: exit status, signal, input, output and its limit, deadline and cancel that end the whole group. */
#include "loop/child.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct ctx {
    struct loop *loop;
    const char *script;
    struct child_spec spec;
    usec_t limit;
    struct child_result r;
    struct err err;
    int rc;
    struct fiber *f;
};

static int setup(void **state)
{
    struct ctx *c = calloc(1, sizeof(*c));

    assert_non_null(c);
    c->loop = loop_new();
    c->limit = 20 * USEC_SEC;
    c->spec.output_max = 4096;
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    struct ctx *c = *state;

    (void)fiber_unref(c->f);
    child_result_release(&c->r);
    loop_free(c->loop);
    free(c);
    return 0;
}

static void child_main(void *arg)
{
    struct ctx *c = arg;

    c->rc = child_run(c->loop, &c->spec, deadline_in(c->limit), &c->r, &c->err);
}

static void start(struct ctx *c, const char *script)
{
    const char **argv = calloc(4, sizeof(*argv));

    assert_non_null(argv);
    argv[0] = "/bin/sh";
    argv[1] = "-c";
    argv[2] = script;
    c->spec.argv = argv;
    assert_int_equal(fiber_spawn(c->loop, "child", child_main, c, &c->f), 0);
}

static void run(struct ctx *c, const char *script)
{
    start(c, script);
    loop_run(c->loop);
    assert_true(fiber_done(c->f));
    free((void *)(uintptr_t)c->spec.argv);
}

static void test_output_and_exit_status(void **state)
{
    struct ctx *c = *state;

    run(c, "echo out; echo err >&2; exit 7");
    assert_int_equal(c->rc, 0);
    assert_int_equal(c->r.exit_status, 7);
    assert_string_equal(buf_cstr(&c->r.out), "out\n");
    assert_string_equal(buf_cstr(&c->r.err), "err\n");
    assert_false(c->r.truncated);
}

static void test_death_by_signal(void **state)
{
    struct ctx *c = *state;

    run(c, "kill -KILL $$");
    assert_int_equal(c->rc, 0);
    assert_int_equal(c->r.exit_status, 128 + SIGKILL);
}

static void test_input_directory_and_environment(void **state)
{
    struct ctx *c = *state;
    static const char *const env[] = {"A=b", "PATH=/usr/bin:/bin", NULL};

    c->spec.input = STR("given\n");
    c->spec.env = env;
    c->spec.dir = "/";
    run(c, "cat; pwd; echo $A $HOME");
    assert_string_equal(buf_cstr(&c->r.out), "given\n/\nb\n");
}

static void test_input_that_nobody_reads(void **state)
{
    struct ctx *c = *state;
    char *big = calloc(1, 1 << 20);

    assert_non_null(big);
    c->spec.input = (struct str){big, 1 << 20};
    run(c, "exit 0");
    assert_int_equal(c->rc, 0);
    assert_int_equal(c->r.exit_status, 0);
    free(big);
}

static void test_output_limit(void **state)
{
    struct ctx *c = *state;

    run(c, "head -c 4096 /dev/zero | tr '\\0' x");
    assert_int_equal(c->r.out.len, 4096);
    assert_false(c->r.truncated);
    child_result_release(&c->r);
    c->f = fiber_unref(c->f);
    run(c, "head -c 4097 /dev/zero | tr '\\0' x");
    assert_int_equal(c->rc, 0);
    assert_int_equal(c->r.out.len, 4096);
    assert_true(c->r.truncated);
}

static void test_no_such_program(void **state)
{
    struct ctx *c = *state;
    const char *const none[] = {"/no/such/program", NULL}, *const relative[] = {"sh", NULL};

    c->spec.argv = none;
    assert_int_equal(fiber_spawn(c->loop, "child", child_main, c, NULL), 0);
    loop_run(c->loop);
    assert_int_equal(c->rc, -ERR_NOT_FOUND);
    c->spec.argv = relative;
    assert_int_equal(fiber_spawn(c->loop, "child", child_main, c, NULL), 0);
    loop_run(c->loop);
    assert_int_equal(c->rc, -ERR_INVALID);
}

/* execvp would hand it to a shell, which does what the text says: makes a file, here. */
static void test_what_is_no_program_is_not_run_by_a_shell(void **state)
{
    struct ctx *c = *state;
    char program[] = "/tmp/test_child.XXXXXX", made[sizeof(program) + 5];
    const char *const argv[] = {program, NULL};
    int fd = mkstemp(program);

    assert_true(fd >= 0);
    assert_true(snprintf(made, sizeof(made), "%s.made", program) > 0);
    assert_true(dprintf(fd, ">%s\n", made) > 0);
    assert_int_equal(fchmod(fd, 0700), 0);
    assert_int_equal(close(fd), 0);
    c->spec.argv = argv;
    assert_int_equal(fiber_spawn(c->loop, "child", child_main, c, NULL), 0);
    loop_run(c->loop);
    assert_int_equal(c->err.sys, ENOEXEC);
    assert_true(c->rc < 0);
    assert_int_not_equal(access(made, F_OK), 0);
    assert_int_equal(unlink(program), 0);
}

static void test_deadline_ends_the_group(void **state)
{
    struct ctx *c = *state;
    usec_t begin = clock_mono();

    c->limit = USEC_SEC; /* the shell has both children by then, also on a machine that is busy */
    run(c, "sleep 60 & sleep 60");
    assert_int_equal(c->rc, -ERR_DEADLINE);
    assert_true(clock_mono() - begin < 3 * USEC_SEC); /* TERM was enough: KILL comes 2 s after the deadline */
}

static void test_deadline_kills_what_ignores_term(void **state)
{
    struct ctx *c = *state;
    usec_t begin = clock_mono();

    c->limit = 100 * USEC_MSEC;
    run(c, "trap '' TERM; while :; do sleep 1; done");
    assert_int_equal(c->rc, -ERR_DEADLINE);
    assert_true(clock_mono() - begin >= 2 * USEC_SEC);
    assert_true(clock_mono() - begin < 4 * USEC_SEC);
}

static void canceller(void *arg)
{
    struct ctx *c = arg;

    assert_int_equal(fiber_sleep(50 * USEC_MSEC), 0);
    fiber_cancel(c->f);
}

static void test_cancel_ends_the_group(void **state)
{
    struct ctx *c = *state;

    assert_int_equal(fiber_spawn(c->loop, "canceller", canceller, c, NULL), 0);
    run(c, "sleep 60 & sleep 60");
    assert_int_equal(c->rc, -ERR_CANCELLED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_output_and_exit_status, setup, teardown),
        cmocka_unit_test_setup_teardown(test_death_by_signal, setup, teardown),
        cmocka_unit_test_setup_teardown(test_input_directory_and_environment, setup, teardown),
        cmocka_unit_test_setup_teardown(test_input_that_nobody_reads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_output_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_such_program, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_no_program_is_not_run_by_a_shell, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deadline_ends_the_group, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deadline_kills_what_ignores_term, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel_ends_the_group, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
