/* SPDX-License-Identifier: Apache-2.0 */
/* Variables as pasted, and names of registries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "spec/env_text.h"
#include "spec/registry_name.h"
#include "spec/spec.h"

struct got {
    struct buf pairs, complaints;
    unsigned n;
};

static int take(void *arg, struct str name, struct str value)
{
    struct got *g = arg;
    g->n++;
    return buf_printf(&g->pairs, STR_FMT "=" STR_FMT "|", STR_ARG(name), STR_ARG(value));
}

static void complain(void *arg, const char *what)
{
    struct got *g = arg;
    assert_int_equal(buf_printf(&g->complaints, "%s|", what), 0);
}

static int parse(const char *text, struct got *g)
{
    const struct env_text_sink sink = {take, complain, g};
    *g = (struct got){.pairs = BUF_INIT(1 << 20), .complaints = BUF_INIT(1 << 20)};
    return env_text_parse(str_from(text), &sink);
}

static void done(struct got *g)
{
    buf_release(&g->pairs);
    buf_release(&g->complaints);
}

static void good(const char *text, const char *pairs)
{
    struct got g;
    assert_int_equal(parse(text, &g), 0);
    assert_string_equal(buf_cstr(&g.pairs), pairs);
    done(&g);
}

static void bad(const char *text, const char *complaint)
{
    struct got g;
    assert_int_equal(parse(text, &g), 1);
    if (!strstr(buf_cstr(&g.complaints), complaint))
        fail_msg("\"%s\" for \"%s\"", buf_cstr(&g.complaints), text);
    /* Whatever is wrong, a value is not shown. */
    assert_null(strstr(buf_cstr(&g.complaints), "hunter2"));
    done(&g);
}

static void test_lines(void **state)
{
    (void)state;
    good("", "");
    good("\n\n# nothing\n   # nor here\n", "");
    good("A=1\nB=2", "A=1|B=2|");
    good("A=1\r\nB=2\r\n", "A=1|B=2|");
    good("\xef\xbb\xbf" "A=1\n", "A=1|");
    good("export A=1\nexport\tB=2\nexports=3\nexport=4\n", "A=1|B=2|exports=3|export=4|");
    good("  A = 1  \nB=\n", "A=1|B=|");
    good("A=a=b==\nURL=postgres://u:p@h/db?x=1#frag\n", "A=a=b==|URL=postgres://u:p@h/db?x=1#frag|");
    good("A=1 # one\nB=#2\nC=a#b\n", "A=1|B=|C=a#b|");
    good("A=$B ${C} `d`\n", "A=$B ${C} `d`|");
    good("a.b-c_D=1\n", "a.b-c_D=1|");
    good("U=\xc3\xa4\n", "U=\xc3\xa4|");
}

static void test_quotes(void **state)
{
    (void)state;
    good("A='x # y'\nB=\" z \"\n", "A=x # y|B= z |");
    good("A=\"a\\nb\\t\\\"\\\\\\$\\x\"\n", "A=a\nb\t\"\\$\\x|");
    good("A='a\\nb'\n", "A=a\\nb|");
    good("KEY=\"-----BEGIN-----\nabc\r\n-----END-----\"\nB=1\n", "KEY=-----BEGIN-----\nabc\n-----END-----|B=1|");
    good("A=''\nB=\"\" # empty\n", "A=|B=|");
    good("A=it's\n", "A=it's|");
}

static void test_mistakes(void **state)
{
    (void)state;
    struct got g;
    bad("A=1\nhunter2\n", "line 2: it has no");
    bad("=hunter2\n", "line 1: the name");
    bad("1A=hunter2\n", "line 1: the name");
    bad("A B=hunter2\n", "line 1: the name");
    bad("A='hunter2\nB=1\n", "line 1: A has a quote that is not closed");
    bad("A='x' hunter2\n", "line 1: A has something behind");
    bad("A=1\n\nA=hunter2\n", "line 3: A is there twice");
    /* A quote that stays open does not hide the rest. */
    assert_int_equal(parse("A='x\nB=1\nnot\nC=2\n", &g), 1);
    assert_string_equal(buf_cstr(&g.pairs), "B=1|C=2|");
    assert_non_null(strstr(buf_cstr(&g.complaints), "line 3"));
    done(&g);
}

static void test_limits(void **state)
{
    (void)state;
    AUTO_BUF text = BUF_INIT(1 << 20);
    struct got g;
    assert_int_equal(buf_append_cstr(&text, "A="), 0);
    for (int i = 0; i < SPEC_ENV_VALUE_MAX; i++)
        assert_int_equal(buf_append_byte(&text, 'x'), 0);
    assert_int_equal(parse(buf_cstr(&text), &g), 0);
    done(&g);
    assert_int_equal(buf_append_byte(&text, 'x'), 0);
    assert_int_equal(parse(buf_cstr(&text), &g), 1);
    assert_int_equal(g.n, 0);
    done(&g);
    buf_clear(&text);
    for (int i = 0; i < SPEC_ENV_MAX; i++)
        assert_int_equal(buf_printf(&text, "N%d=1\n", i), 0);
    assert_int_equal(parse(buf_cstr(&text), &g), 0);
    assert_int_equal(g.n, SPEC_ENV_MAX);
    done(&g);
    assert_int_equal(buf_append_cstr(&text, "ONE_MORE=1\nAND_MORE=2\n"), 0);
    assert_int_equal(parse(buf_cstr(&text), &g), 1);
    assert_int_equal(g.n, SPEC_ENV_MAX);
    done(&g);
    /* So many mistakes, and no more. */
    buf_clear(&text);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(buf_append_cstr(&text, "A='\n"), 0);
    assert_int_equal(parse(buf_cstr(&text), &g), 1);
    size_t lines = 0;
    for (size_t i = 0; i < g.complaints.len; i++)
        lines += g.complaints.data[i] == '|';
    assert_int_equal(lines, ENV_TEXT_ERRORS_MAX);
    done(&g);
}

/* --- Registries --- */

static void is(const char *given, const char *wanted)
{
    char name[REGISTRY_NAME_SIZE];
    struct err err = ERR_INIT;
    if (registry_name(str_from(given), name, &err) < 0)
        (void)snprintf(name, sizeof(name), "none");
    assert_string_equal(name, wanted);
}

/* req: WK-2 */
static void test_registry_names(void **state)
{
    (void)state;
    static const char *const hubs[] = {"", "docker.io", "Docker.IO", "index.docker.io", "registry-1.docker.io", "https://index.docker.io/v1/"};
    for (size_t i = 0; i < ARRAY_LEN(hubs); i++)
        is(hubs[i], "docker.io");
    is("GHCR.io", "ghcr.io");
    is("host:5000", "host:5000");
    is("HOST:5000", "host:5000");
    is("localhost", "localhost");
    is("https://registry.example/", "registry.example");
    is("http://127.0.0.1:5000/v2/", "127.0.0.1:5000");
    is("host", "none"); /* a folder of the hub */
    is("host:", "none");
    is("host:0", "none");
    is("host:65535", "host:65535");
    is("host:65536", "none");
    is("host:5000/team", "none");
    is("-x.example", "none");
    is("a b.example", "none");
    is("x.example\nEvil: 1", "none");
    /* A password that stands where it should not is not repeated. */
    char name[REGISTRY_NAME_SIZE];
    struct err err = ERR_INIT;
    assert_int_equal(registry_name(STR("https://ann:hunter2@registry.example"), name, &err), -(int)ERR_INVALID);
    assert_true(*err.hint && !strstr(err.msg, "hunter2"));
    char longest[300];
    memset(longest, 'a', sizeof(longest));
    memcpy(longest + 250, ".io:65535", 10);
    is(longest, longest);
    memset(longest, 'a', sizeof(longest));
    memcpy(longest + 251, ".io", 4);
    is(longest, "none");
}

static void from(const char *image, const char *registry, const char *written)
{
    char name[REGISTRY_NAME_SIZE];
    struct str w;
    registry_of_image(str_from(image), name, &w);
    assert_string_equal(name, registry);
    assert_true(str_eq(w, str_from(written)));
}

/* req: WK-2 */
static void test_registries_of_images(void **state)
{
    (void)state;
    from("nginx", "docker.io", "");
    from("nginx:1.25", "docker.io", "");
    from("team/app", "docker.io", "");
    from("docker.io/team/app", "docker.io", "docker.io");
    from("Host.Example:5000/team/app:1", "host.example:5000", "Host.Example:5000");
    from("host:5000/app", "host:5000", "host:5000");
    from("LOCALHOST/app@sha256:abc", "localhost", "LOCALHOST");
    from("ghcr.io/x/y", "ghcr.io", "ghcr.io");
    from("name.with.dots", "docker.io", "");
}

static void test_env_files(void **state)
{
    (void)state;
    char longest[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab";
    assert_true(spec_is_env_file(STR("db.password")) && spec_is_env_file(STR("A_b-1")));
    assert_false(spec_is_env_file(STR("")) || spec_is_env_file(STR(".x")) || spec_is_env_file(STR("..")) || spec_is_env_file(STR("a/b")) ||
                 spec_is_env_file(STR("-x")) || spec_is_env_file(STR("a b")));
    assert_false(spec_is_env_file(str_from(longest)));
    assert_true(spec_is_env_file((struct str){longest, SPEC_FILE_MAX}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),          cmocka_unit_test(test_quotes),         cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_limits),         cmocka_unit_test(test_registry_names), cmocka_unit_test(test_registries_of_images),
        cmocka_unit_test(test_env_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
