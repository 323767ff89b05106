/* SPDX-License-Identifier: Apache-2.0 */
/* Options: origins in their order, bounds, messages with advice, help. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/clock.h"
#include "base/opt.h"

struct settings {
    bool verbose, color;
    const char *name, *mode;
    struct opt_list label;
    int64_t port;
    usec_t wait;
    uint64_t memory, cpus;
};

static const struct opt table[] = {
    {.name = "verbose", .letter = 'v', .type = OPT_BOOL, .offset = offsetof(struct settings, verbose), .help = "say more"},
    {.name = "color", .type = OPT_BOOL, .offset = offsetof(struct settings, color), .def = "true", .help = "colors",
     .env = true},
    {.name = "name", .letter = 'n', .type = OPT_STRING, .offset = offsetof(struct settings, name), .help = "the name",
     .arg = "NAME", .alias = "title"},
    {.name = "mode", .type = OPT_ENUM, .offset = offsetof(struct settings, mode), .choices = "fast|safe", .def = "safe",
     .help = "how", .env = true},
    {.name = "label", .letter = 'l', .type = OPT_LIST, .offset = offsetof(struct settings, label), .help = "a label",
     .env = true},
    {.name = "port", .letter = 'p', .type = OPT_INT, .offset = offsetof(struct settings, port), .min = 1, .max = 65535,
     .def = "8080", .help = "where to listen", .env = true},
    {.name = "wait-time", .type = OPT_USEC, .offset = offsetof(struct settings, wait), .min = 1000, .max = 3600000000,
     .def = "30s", .help = "how long", .env = true},
    {.name = "memory", .type = OPT_BYTES, .offset = offsetof(struct settings, memory), .help = "memory"},
    {.name = "cpus", .type = OPT_MILLI, .offset = offsetof(struct settings, cpus), .min = 10, .max = 64000, .def = "0.5",
     .help = "processors"},
    {0},
};

static struct settings set;
static const char *operands[2];
static size_t n_operands;
static struct err err;

#define PARSE(...) parse((char *[]){(char[]){"prog"}, __VA_ARGS__ __VA_OPT__(,) NULL})

static int parse(char **argv)
{
    int argc = 0;

    while (argv[argc] != NULL)
        argc++;
    n_operands = ARRAY_LEN(operands);
    err = ERR_INIT;
    memset(&set, 0xff, sizeof(set));
    return opt_parse(table, argc, argv, &set, operands, &n_operands, &err);
}

static char *s(const char *text)
{
    return (char *)(uintptr_t)text;
}

static void test_defaults(void **state)
{
    (void)state;
    assert_int_equal(PARSE(), 0);
    assert_true(set.color && !set.verbose && set.name == NULL && set.label.n == 0);
    assert_string_equal(set.mode, "safe");
    assert_int_equal(set.port, 8080);
    assert_int_equal(set.wait, 30000000);
    assert_int_equal(set.memory, 0);
    assert_int_equal(set.cpus, 500);
    assert_int_equal(n_operands, 0);
}

static void test_forms(void **state)
{
    (void)state;
    assert_int_equal(PARSE(s("one"), s("-vn"), s("x"), s("--no-color"), s("-p80"), s("--memory=1g"), s("-l"), s("a=1"),
                           s("--label=b"), s("--"), s("--port")), 0);
    assert_true(set.verbose && !set.color);
    assert_string_equal(set.name, "x");
    assert_int_equal(set.port, 80);
    assert_int_equal(set.memory, 1 << 30);
    assert_int_equal(set.label.n, 2);
    assert_string_equal(set.label.v[0], "a=1");
    assert_int_equal(n_operands, 2);
    assert_string_equal(operands[1], "--port");
    assert_int_equal(PARSE(s("--title"), s("--x"), s("-"), s("--color=off"), s("--verbose=yes")), 0);
    assert_string_equal(set.name, "--x");
    assert_string_equal(operands[0], "-");
    assert_true(set.verbose && !set.color);
}

static void test_environment(void **state)
{
    (void)state;
    assert_int_equal(setenv("DAVIT_WAIT_TIME", "5m", 1), 0);
    assert_int_equal(setenv("DAVIT_LABEL", "env", 1), 0);
    assert_int_equal(setenv("DAVIT_PORT", "", 1), 0);
    assert_int_equal(setenv("DAVIT_NAME", "no", 1), 0); /* not open to the environment */
    assert_int_equal(PARSE(), 0);
    assert_int_equal(set.wait, 300000000);
    assert_int_equal(set.port, 8080);
    assert_string_equal(set.label.v[0], "env");
    assert_null(set.name);
    assert_int_equal(PARSE(s("--wait-time"), s("1s"), s("-la"), s("-lb")), 0);
    assert_int_equal(set.wait, 1000000);
    assert_int_equal(set.label.n, 2);
    assert_string_equal(set.label.v[0], "a");
    assert_int_equal(setenv("DAVIT_PORT", "0", 1), 0);
    assert_int_equal(PARSE(), -(int)ERR_INVALID);
    assert_string_equal(err.msg, "DAVIT_PORT: \"0\" is out of range");
    assert_int_equal(unsetenv("DAVIT_WAIT_TIME") | unsetenv("DAVIT_LABEL") | unsetenv("DAVIT_PORT") | unsetenv("DAVIT_NAME"), 0);
}

static void test_bounds(void **state)
{
    static const char *const good[] = {"--port=1", "--port=65535", "--wait-time=1ms", "--wait-time=1h",
                                       "--cpus=64", "--cpus=0.01"};
    static const char *const bad[] = {"--port=0", "--port=65536", "--port=-1", "--port=x", "--port=", "--wait-time=999us",
                                      "--wait-time=61m", "--cpus=64.001", "--cpus=0.009", "--mode=", "--mode=fas",
                                      "--mode=fast|safe",
                                      "--memory=16384p", "--verbose=maybe", "--no-color=yes", "--no-port", "-pv", "--help=x"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_int_equal(PARSE(s(good[i])), 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (PARSE(s(bad[i])) != -(int)ERR_INVALID)
            fail_msg("accepted: %s", bad[i]);
        assert_string_not_equal(err.msg, "");
    }
    assert_int_equal(PARSE(s("--wait-time=2h")), -(int)ERR_INVALID);
    assert_string_equal(err.msg, "--wait-time: \"2h\" is out of range");
    assert_string_equal(err.hint, "allowed: 1ms..1h");
}

static void test_advice(void **state)
{
    (void)state;
    assert_int_equal(PARSE(s("--nmae=x")), -(int)ERR_INVALID);
    assert_string_equal(err.msg, "unknown option --nmae");
    assert_string_equal(err.hint, "did you mean --name?");
    assert_int_equal(PARSE(s("--wait")), -(int)ERR_INVALID);
    assert_string_equal(err.hint, "did you mean --wait-time?");
    assert_int_equal(PARSE(s("--completely-different")), -(int)ERR_INVALID);
    assert_string_equal(err.hint, "--help lists all options");
    assert_int_equal(PARSE(s("-n")), -(int)ERR_INVALID);
    assert_string_equal(err.msg, "-n needs a value");
    assert_int_equal(PARSE(s("-x")), -(int)ERR_INVALID);
    assert_int_equal(PARSE(s("a"), s("b"), s("c")), -(int)ERR_INVALID);
    assert_string_equal(err.msg, "unexpected argument \"c\"");
    assert_int_equal(PARSE(s("-v"), s("--help"), s("--nonsense")), 1);
    assert_int_equal(PARSE(s("-h")), 1);
}

static void test_command(void **state)
{
    static const struct opt with[] = {{.name = "name", .letter = 'n', .type = OPT_STRING, .offset = offsetof(struct settings, name), .operand = true},
                                      {.name = "v", .type = OPT_BOOL, .offset = offsetof(struct settings, verbose)}, {0}};
    struct settings got;
    const char *words[4];

    (void)state;
#define COMMAND(...)                                                                                                          \
    (n_operands = 4, opt_parse_command(with, ARRAY_LEN(((char *[]){s("prog"), __VA_ARGS__})), (char *[]){s("prog"), __VA_ARGS__, NULL}, \
                                       &got, words, &n_operands, 2, &err))
    assert_int_equal(COMMAND(s("web"), s("--v"), s("sh"), s("-c"), s("--help")), 0);
    assert_int_equal(n_operands, 4);
    assert_true(got.verbose);
    assert_string_equal(words[2], "-c");
    assert_int_equal(COMMAND(s("web"), s("--"), s("sh"), s("--")), 0);
    assert_int_equal(n_operands, 3);
    assert_int_equal(COMMAND(s("web"), s("-x"), s("sh")), -(int)ERR_INVALID);
    /* The option and not the first operand says what it is about. */
    assert_int_equal(COMMAND(s("-nweb"), s("--name=db"), s("sh"), s("--v")), 0);
    assert_int_equal(n_operands, 2);
    assert_string_equal(got.name, "db");
    assert_false(got.verbose);
    assert_int_equal(COMMAND(s("web"), s("sh"), s("-n"), s("x")), 0);
    assert_null(got.name);
}

static void test_long_names_and_lists(void **state)
{
    static char arg[5000], *argv[OPT_LIST_MAX + 3];

    (void)state;
    memset(arg, 'x', sizeof(arg) - 1);
    arg[0] = arg[1] = '-';
    assert_int_equal(PARSE(arg), -(int)ERR_INVALID);
    argv[0] = s("prog");
    for (size_t i = 1; i <= OPT_LIST_MAX; i++)
        argv[i] = s("-lx");
    assert_int_equal(parse(argv), 0);
    assert_int_equal(set.label.n, OPT_LIST_MAX);
    argv[OPT_LIST_MAX + 1] = s("-lx");
    assert_int_equal(parse(argv), -(int)ERR_INVALID);
}

static void test_help_and_man(void **state)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    (void)state;
    opt_help(out, "prog [OPTIONS] FILE", "Does it.", table, "prog -v x\nprog y");
    assert_int_equal(fclose(out), 0);
    assert_non_null(strstr(text, "Usage: prog [OPTIONS] FILE\n\nDoes it.\n\nOptions:\n  -v, --verbose         say more\n"));
    assert_non_null(strstr(text, "      --[no-]color      colors (default true; DAVIT_COLOR)\n"));
    assert_non_null(strstr(text, "  -n, --name NAME       the name\n"));
    assert_non_null(strstr(text, "  -p, --port NUMBER     where to listen (default 8080; 1..65535; DAVIT_PORT)\n"));
    assert_non_null(strstr(text, "how long (default 30s; 1ms..1h; DAVIT_WAIT_TIME)\n"));
    assert_non_null(strstr(text, "processors (default 0.5; 0.010..64)\n"));
    assert_non_null(strstr(text, "  -h, --help            show this text\n\nExample:\n  prog -v x\n  prog y\n"));
    free(text);
    out = open_memstream(&text, &n);
    opt_man(out, table);
    assert_int_equal(fclose(out), 0);
    assert_non_null(strstr(text, ".TP\n\\fB\\-p\\fR, \\fB\\-\\-port\\fR \\fINUMBER\\fR\n"
                                 "where to listen\n(default 8080; 1..65535; DAVIT_PORT)\n"));
    assert_non_null(strstr(text, "\\fB\\-\\-wait\\-time\\fR"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_forms), cmocka_unit_test(test_environment),
        cmocka_unit_test(test_bounds), cmocka_unit_test(test_advice), cmocka_unit_test(test_long_names_and_lists),
        cmocka_unit_test(test_help_and_man), cmocka_unit_test(test_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
