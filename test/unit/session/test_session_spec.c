/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent may ask of davit-session: the limits of davit.session.v1, at them and past them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "session/spec.h"

static char *word(size_t n)
{
    char *w = mem_alloc(n + 1);
    memset(w, 'x', n);
    w[n] = '\0';
    return w;
}

static void test_ids(void **state)
{
    AUTO_FREE char *most = word(SPEC_ID_MAX), *over = word(SPEC_ID_MAX + 1);

    (void)state;
    assert_true(spec_id_ok("a"));
    assert_true(spec_id_ok(" ~"));
    assert_true(spec_id_ok(most));
    assert_false(spec_id_ok(over));
    assert_false(spec_id_ok(""));
    assert_false(spec_id_ok("a\n"));
    assert_false(spec_id_ok("\x7f"));
    assert_false(spec_id_ok("\xc3\xa4"));
}

struct request {
    Davit__Session__V1__ShellCommand cmd;
    Davit__Session__V1__PipeStage stage;
    Davit__Session__V1__PipeStage *stages[SPEC_STAGES_MAX + 1];
    char *argv[SPEC_WORDS_MAX + 1];
    char *env[SPEC_ENV_MAX + 1];
};

/* One stage with one word. */
static struct request *request_new(void)
{
    struct request *r = NEW(struct request);

    r->cmd = (Davit__Session__V1__ShellCommand)DAVIT__SESSION__V1__SHELL_COMMAND__INIT;
    r->stage = (Davit__Session__V1__PipeStage)DAVIT__SESSION__V1__PIPE_STAGE__INIT;
    for (size_t i = 0; i < ARRAY_LEN(r->stages); i++)
        r->stages[i] = &r->stage;
    for (size_t i = 0; i < ARRAY_LEN(r->argv); i++)
        r->argv[i] = (char *)(uintptr_t) "true";
    for (size_t i = 0; i < ARRAY_LEN(r->env); i++)
        r->env[i] = (char *)(uintptr_t) "A=";
    r->cmd.n_stages = 1;
    r->cmd.stages = r->stages;
    r->stage.n_argv = 1;
    r->stage.argv = r->argv;
    r->stage.env = r->env;
    return r;
}

static bool good(const struct request *r)
{
    struct err err = ERR_INIT;
    int rc = spec_check(&r->cmd, &err);

    assert_true(rc == 0 || (rc == -(int)ERR_INVALID && err.msg[0]));
    return rc == 0;
}

static void test_pipelines(void **state)
{
    AUTO_FREE struct request *r = request_new();

    (void)state;
    assert_true(good(r));
    r->cmd.n_stages = SPEC_STAGES_MAX;
    assert_true(good(r));
    r->cmd.n_stages++;
    assert_false(good(r));
    r->cmd.n_stages = 0;
    assert_false(good(r));
    r->cmd.n_stages = 1;
    r->cmd.timeout_seconds = SPEC_TIMEOUT_MAX;
    r->cmd.initial_stdin.len = SPEC_INITIAL_STDIN_MAX;
    assert_true(good(r));
    r->cmd.timeout_seconds++;
    assert_false(good(r));
    r->cmd.timeout_seconds = 0;
    r->cmd.initial_stdin.len++;
    assert_false(good(r));
}

static void test_stages(void **state)
{
    AUTO_FREE struct request *r = request_new();
    AUTO_FREE char *most = word(SPEC_BYTES_MAX - 1), *over = word(SPEC_BYTES_MAX), *deep = word(SPEC_CWD_MAX + 1);

    (void)state;
    r->stage.n_argv = SPEC_WORDS_MAX;
    assert_true(good(r));
    r->stage.n_argv++;
    assert_false(good(r));
    r->stage.n_argv = 0;
    assert_false(good(r));
    r->stage.n_argv = 1;
    r->argv[0] = most;
    assert_true(good(r));
    r->argv[0] = over;
    assert_false(good(r));
    r->argv[0] = deep;
    r->argv[0][0] = '\0';
    assert_false(good(r));
    r->argv[0] = (char *)(uintptr_t) "true";
    deep[0] = '/';
    r->stage.cwd = deep;
    assert_false(good(r));
    deep[SPEC_CWD_MAX] = '\0';
    assert_true(good(r));
    r->stage.cwd = (char *)(uintptr_t) "relative";
    assert_false(good(r));
}

static void test_whom_and_what_of_the_environment(void **state)
{
    AUTO_FREE struct request *r = request_new();

    (void)state;
    r->stage.uid = UINT32_MAX; /* is not asked for */
    assert_true(good(r));
    r->stage.as_given = 1;
    assert_false(good(r));
    r->stage.uid = UINT32_MAX - 1;
    assert_true(good(r));
    r->stage.gid = UINT32_MAX;
    assert_false(good(r));
    r->stage.gid = 0;
    r->stage.n_env = SPEC_ENV_MAX;
    assert_true(good(r));
    r->stage.n_env++;
    assert_false(good(r));
    r->stage.n_env = 1;
    r->env[0] = (char *)(uintptr_t) "=x";
    assert_false(good(r));
    r->env[0] = (char *)(uintptr_t) "x";
    assert_false(good(r));
}

/* req: CW-82 */
static void test_default_command(void **state)
{
    char *words[WIRE_WORDS_MAX + 1];
    AUTO_FREE char *most = word(WIRE_TEXT_MAX - 1), *over = word(WIRE_TEXT_MAX);
    union wire_frame f, read;
    struct err err = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        words[i] = (char *)(uintptr_t) "ab";
    for (size_t n = 0; n <= ARRAY_LEN(words); n++) {
        wire_begin(&f, WIRE_READY);
        int rc = spec_words(n, words, &f.ready, &err);
        assert_int_equal(rc, n <= WIRE_WORDS_MAX ? 0 : -(int)ERR_INVALID);
        if (rc == 0)
            assert_int_equal(wire_parse(WIRE_TO_INIT, &f, f.head.size, &read), 0);
        if (n == ARRAY_LEN(words))
            break;
    }
    wire_begin(&f, WIRE_READY);
    assert_int_equal(spec_words(1, &most, &f.ready, &err), 0);
    assert_int_equal(wire_parse(WIRE_TO_INIT, &f, f.head.size, &read), 0);
    assert_string_equal(read.ready.text, most);
    wire_begin(&f, WIRE_READY);
    assert_int_equal(spec_words(1, &over, &f.ready, &err), -(int)ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_pipelines),
        cmocka_unit_test(test_stages),
        cmocka_unit_test(test_whom_and_what_of_the_environment),
        cmocka_unit_test(test_default_command),
    };
    return cmocka_run_group_tests_name("session spec", tests, NULL, NULL);
}
