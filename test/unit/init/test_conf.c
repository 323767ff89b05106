/* SPDX-License-Identifier: Apache-2.0 */
/* What the program is started with: its arguments, its environment, its file. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "init/conf.h"

/* A string that is not const, as main() gets them. */
#define TEXT(literal) ((char[]){literal})

static struct conf conf_of(char **argv, char **envp)
{
    struct conf c = {.argv = argv, .envp = envp, .path = "/usr/bin:/bin", .who = {.home = "/homes/dev", .name = "dev"}};

    while (argv[c.argc] != NULL)
        c.argc++;
    return c;
}

static void ready_with(union wire_frame *f, uint32_t words, const char *text, size_t n)
{
    wire_begin(f, WIRE_READY);
    f->ready.words = words;
    f->ready.bytes = (uint32_t)n;
    memcpy(f->ready.text, text, n);
}

static void test_default_command_goes_in_front(void **state)
{
    char *none[] = {NULL};
    static const struct {
        const char *argv[3], *want[4];
    } cases[] = {
        {{"sh", "-c"}, {"sh", "-c"}},
        {{"/nowhere/x"}, {"/nowhere/x"}},
        {{"-p", "hello"}, {"tool", "run", "-p", "hello"}},
        {{"no-such-program", "x"}, {"tool", "run", "no-such-program", "x"}},
        {{NULL}, {"tool", "run"}},
    };
    union wire_frame f;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *argv[4] = {0};
        for (size_t k = 0; k < 3; k++)
            argv[k] = (char *)(uintptr_t)cases[i].argv[k];
        struct conf c = conf_of(argv, none);
        ready_with(&f, 2, "tool\0run", 9);
        char **got = conf_arguments(&c, &f.ready);
        for (size_t k = 0; k < 4; k++) {
            if (cases[i].want[k] == NULL) {
                assert_null(got[k]);
                break;
            }
            assert_string_equal(got[k], cases[i].want[k]);
        }
    }
    struct conf c = conf_of(none, none);
    ready_with(&f, 0, "", 0);
    assert_null(conf_arguments(&c, &f.ready)[0]);
}

static const char *value(char **envp, const char *name)
{
    size_t n = strlen(name);

    for (; *envp != NULL; envp++)
        if (strncmp(*envp, name, n) == 0 && (*envp)[n] == '=')
            return *envp + n + 1;
    return NULL;
}

static void test_what_the_program_may_know(void **state)
{
    char *argv[] = {NULL};
    char *envp[] = {TEXT("PATH=/bin"),
                    TEXT("HOME=/root"),
                    TEXT("USER=x"),
                    TEXT("LOGNAME=y"),
                    TEXT("DAVIT_USER=dev"),
                    TEXT("DAVIT_SANDBOX=box"),
                    TEXT("DAVIT_PROJECT=p"),
                    TEXT("DAVIT_TOKEN=secret"),
                    TEXT("DAVIT_AGENT_ADDRESS=a"),
                    TEXT("CLAWKER_AGENT=box"),
                    TEXT("CLAWKER_CP_AGENT_ADDR=b"),
                    TEXT("DAVIT_USERS=z"),
                    TEXT("DAVIT_=1"),
                    TEXT("DAVIT=2"),
                    TEXT("X="),
                    NULL};
    struct conf c = conf_of(argv, envp);

    (void)state;
    c.asked_user = true;
    char **got = conf_environment(&c);
    assert_string_equal(value(got, "HOME"), "/homes/dev");
    assert_string_equal(value(got, "USER"), "dev");
    assert_string_equal(value(got, "LOGNAME"), "dev");
    assert_string_equal(value(got, "DAVIT_SANDBOX"), "box");
    assert_string_equal(value(got, "DAVIT_USER"), "dev");
    assert_string_equal(value(got, "CLAWKER_AGENT"), "box");
    assert_string_equal(value(got, "DAVIT"), "2");
    assert_string_equal(value(got, "X"), "");
    assert_null(value(got, "DAVIT_TOKEN"));
    assert_null(value(got, "DAVIT_AGENT_ADDRESS"));
    assert_null(value(got, "CLAWKER_CP_AGENT_ADDR"));
    assert_null(value(got, "DAVIT_USERS"));
    assert_null(value(got, "DAVIT_"));
}

static void test_home_of_the_image(void **state)
{
    char *argv[] = {NULL}, *own[] = {TEXT("HOME=/app"), TEXT("USER=u"), NULL}, *roots[] = {TEXT("HOME=/root"), NULL};
    struct conf c = conf_of(argv, own);

    (void)state;
    /* Named by the image: what it sets stays, as without us. */
    assert_string_equal(value(conf_environment(&c), "HOME"), "/app");
    c.asked_user = true;
    assert_string_equal(value(conf_environment(&c), "HOME"), "/homes/dev");
    /* A number without a name: nothing is known that could be better. */
    c.who = (struct account){.home = "/"};
    assert_string_equal(value(conf_environment(&c), "HOME"), "/app");
    assert_string_equal(value(conf_environment(&c), "USER"), "u");
    c = conf_of(argv, roots);
    c.who = (struct account){.home = "/"};
    assert_string_equal(value(conf_environment(&c), "HOME"), "/");
    assert_null(value(conf_environment(&c), "USER"));
}

static void test_finding_the_program(void **state)
{
    char folder[] = "/tmp/init-conf.XXXXXX", path[200], got[CONF_PATH_MAX], want[300], long_path[CONF_PATH_MAX + 8];

    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/plain", folder);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    (void)close(fd);

    assert_int_equal(conf_find_program("sh", "/nowhere::/usr/bin:/bin", got), 0);
    assert_string_equal(got, "/usr/bin/sh");
    /* One that may not be executed is named, so that this is the error. */
    assert_true(conf_find_program("plain", folder, got) < 0);
    assert_string_equal(got, path);
    (void)snprintf(want, sizeof(want), "%s:/bin", folder);
    assert_true(conf_find_program("none", want, got) < 0);
    assert_string_equal(got, "");
    assert_true(conf_find_program("", "/bin", got) < 0);
    assert_string_equal(got, "");
    /* Not in the working directory, whatever PATH says of it. */
    assert_int_equal(chdir(folder), 0);
    assert_true(conf_find_program("plain", ":", got) < 0);
    assert_string_equal(got, "");
    assert_true(conf_find_program("./plain", "", got) < 0);
    assert_string_equal(got, "./plain");
    memset(long_path, '/', sizeof(long_path));
    long_path[CONF_PATH_MAX - 1] = '\0';
    (void)conf_find_program(long_path, "", got);
    assert_int_equal(strlen(got), CONF_PATH_MAX - 1);
    long_path[CONF_PATH_MAX - 1] = '/';
    long_path[CONF_PATH_MAX] = '\0';
    assert_true(conf_find_program(long_path, "/bin", got) < 0);
    assert_string_equal(got, "");
    (void)unlink(path);
    (void)rmdir(folder);
}

/* As many variables and arguments as there is room for, and one more. */
static void test_how_much(void **state)
{
    static char *envp[CONF_ENV_MAX + 2], *argv[CONF_ARGS_MAX + 3], variable[] = "A=b", argument[] = "-";
    struct conf c;

    (void)state;
    for (size_t i = 0; i < CONF_ENV_MAX + 1; i++)
        envp[i] = variable;
    for (size_t i = 0; i < CONF_ARGS_MAX + 2; i++)
        argv[i] = argument;
    assert_int_equal(conf_read(1, argv, envp, &c), -(int)ERR_INVALID);
    envp[CONF_ENV_MAX] = NULL;
    c = conf_of((char *[]){NULL}, envp);
    char **got = conf_environment(&c);
    size_t n = 0;
    while (got[n] != NULL)
        n++;
    assert_int_equal(n, CONF_ENV_MAX + 3);
    envp[0] = NULL;
    assert_int_equal(conf_read(CONF_ARGS_MAX + 2, argv, envp, &c), -(int)ERR_INVALID);
    argv[CONF_ARGS_MAX] = NULL;
    c = conf_of(argv, envp);
    union wire_frame f;
    ready_with(&f, WIRE_WORDS_MAX, "a\0a\0a\0a\0a\0a\0a\0a\0a\0a\0a\0a\0a\0a\0a\0a", 32);
    assert_string_equal(conf_arguments(&c, &f.ready)[CONF_ARGS_MAX + WIRE_WORDS_MAX - 1], "-");
    assert_null(conf_arguments(&c, &f.ready)[CONF_ARGS_MAX + WIRE_WORDS_MAX]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default_command_goes_in_front),
        cmocka_unit_test(test_what_the_program_may_know),
        cmocka_unit_test(test_home_of_the_image),
        cmocka_unit_test(test_finding_the_program),
        cmocka_unit_test(test_how_much),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
