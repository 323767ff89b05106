/* SPDX-License-Identifier: Apache-2.0 */
/* What reaches the terminal: hostile text is made visible, tables keep their columns, numbers and times read well. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/out.h"

static void cleaned(struct str in, const char *want)
{
    AUTO_FREE char *got = out_clean(in);

    assert_string_equal(got, want);
}

static void test_clean(void **state)
{
    (void)state;
    cleaned(STR(""), "");
    cleaned(STR("plain text 123 ~"), "plain text 123 ~");
    cleaned(STR("gr\xc3\xbc\xc3\x9f \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x9a\xa2"), "gr\xc3\xbc\xc3\x9f \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x9a\xa2");
    cleaned(STR("\x1b[2J\x1b]0;title\x07"), "\\x1b[2J\\x1b]0;title\\x07");
    cleaned(STR("a\nb\tc\rd\be\x7f"), "a\\x0ab\\x09c\\x0dd\\x08e\\x7f");
    cleaned(STR("a\0b"), "a\\x00b");
    cleaned(STR("\xc2\x9b" "31m"), "\\xc2\\x9b31m");               /* C1 CSI */
    cleaned(STR("\xc2\x80\xc2\x9f\xc2\xa0"), "\\xc2\\x80\\xc2\\x9f\xc2\xa0"); /* first, last, first harmless */
    cleaned(STR("\x9b" "31m"), "\\x9b31m");
    cleaned(STR("\xe2\x80\xae" "gpj.exe"), "\\xe2\\x80\\xaegpj.exe"); /* right-to-left override */
    cleaned(STR("\xe2\x80\xaa\xe2\x80\xad\xe2\x80\xaf"), "\\xe2\\x80\\xaa\\xe2\\x80\\xad\xe2\x80\xaf");
    cleaned(STR("\xe2\x81\xa6\xe2\x81\xa9\xe2\x81\xaa"), "\\xe2\\x81\\xa6\\xe2\\x81\\xa9\xe2\x81\xaa");
    cleaned(STR("\xe2\x80\xa8\xe2\x80\xa9"), "\\xe2\\x80\\xa8\\xe2\\x80\\xa9"); /* line and paragraph separator */
}

static void test_clean_bytes_that_are_no_utf8(void **state)
{
    (void)state;
    cleaned(STR("\xff\xfe"), "\\xff\\xfe");
    cleaned(STR("\xc3"), "\\xc3");
    cleaned(STR("\xe2\x82"), "\\xe2\\x82");
    cleaned(STR("\xc0\xaf"), "\\xc0\\xaf");                 /* overlong */
    cleaned(STR("\xed\xa0\x80"), "\\xed\\xa0\\x80");        /* surrogate */
    cleaned(STR("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80"); /* beyond Unicode */
    cleaned(STR("\xc3\x28"), "\\xc3(");
}

/* Every byte alone: nothing that a terminal obeys comes through. */
static void test_clean_every_byte(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        char byte = (char)c;
        AUTO_FREE char *got = out_clean((struct str){&byte, 1});
        for (const char *p = got; *p; p++)
            assert_true(*p >= 0x20 && *p < 0x7f);
    }
}

/* Runs @print with standard output in a file and returns what it wrote. */
static char *captured(void (*print)(void *), void *arg)
{
    char path[] = "/tmp/davit-out.XXXXXX";
    int file = mkstemp(path), saved = dup(STDOUT_FILENO);
    char text[4096];
    ssize_t n;

    assert_true(file >= 0 && saved >= 0);
    fflush(stdout);
    assert_int_equal(dup2(file, STDOUT_FILENO), STDOUT_FILENO);
    print(arg);
    fflush(stdout);
    assert_int_equal(dup2(saved, STDOUT_FILENO), STDOUT_FILENO);
    n = pread(file, text, sizeof text, 0);
    assert_true(n >= 0);
    (void)close(file);
    (void)close(saved);
    (void)unlink(path);
    return str_dup((struct str){text, (size_t)n});
}

static void print_table(void *arg)
{
    struct cli cli = {0};

    out_table_print(&cli, arg);
}

static void row(struct out_table *t, const char *a, const char *b)
{
    char *cells[] = {a ? str_dup(str_from(a)) : NULL, str_dup(str_from(b))};

    out_table_row(t, cells);
}

static void test_table_aligns(void **state)
{
    static const char *const heads[] = {"NAME", "STATE", NULL};
    struct out_table t;

    (void)state;
    out_table_init(&t, heads);
    row(&t, "gr\xc3\xbcn-1", "online"); /* counted in characters, not bytes */
    row(&t, "a", "");
    row(&t, NULL, "x\ny");
    AUTO_FREE char *got = captured(print_table, &t);
    assert_string_equal(got, "NAME    STATE\n"
                             "gr\xc3\xbcn-1  online\n"
                             "a       -\n"
                             "-       x\\x0ay\n");
    out_table_release(&t);
}

static void test_table_grows(void **state)
{
    static const char *const heads[] = {"A", "B", NULL};
    struct out_table t;

    (void)state;
    out_table_init(&t, heads);
    for (int i = 0; i < 1000; i++)
        row(&t, "1", "2");
    assert_int_equal((int)t.n_rows, 1000);
    out_table_release(&t);
    AUTO_FREE char *got = captured(print_table, &t);
    assert_string_equal(got, "");
}

static void test_numbers(void **state)
{
    static const struct {
        uint64_t n;
        const char *want;
    } cases[] = {
        {0, "0 B"}, {1023, "1023 B"}, {1024, "1.0 KiB"}, {1536, "1.5 KiB"}, {1024 * 1024, "1.0 MiB"}, {UINT64_C(5) << 30, "5.0 GiB"},
        {UINT64_C(3) << 40, "3.0 TiB"}, {UINT64_C(2048) << 40, "2048.0 TiB"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *got = out_bytes(cases[i].n);
        assert_string_equal(got, cases[i].want);
    }
}

static void aged(usec_t ago, const char *want)
{
    /* Half a second of room, so that the clock cannot tick over in between. */
    AUTO_FREE char *got = out_age(clock_real() - ago - USEC_SEC / 2);

    assert_string_equal(got, want);
}

static void test_times(void **state)
{
    AUTO_FREE char *never = out_age(0);
    AUTO_FREE char *future = out_age(clock_real() + USEC_HOUR);
    AUTO_FREE char *none = out_time(0);
    AUTO_FREE char *day = out_time(UINT64_C(1000000000) * USEC_SEC);

    (void)state;
    assert_string_equal(never, "-");
    assert_string_equal(future, "0s");
    assert_string_equal(none, "-");
    assert_string_equal(day, "2001-09-09 01:46:40");
    aged(59 * USEC_SEC, "59s");
    aged(60 * USEC_SEC, "1m");
    aged(USEC_HOUR + 5 * 60 * USEC_SEC, "1h 5m");
    aged(50 * USEC_HOUR, "2d 2h");
}

static void test_colors_only_when_wanted(void **state)
{
    struct cli cli = {0};

    (void)state;
    assert_string_equal(out_color(&cli, OUT_RED), "");
    cli.color = true;
    assert_string_equal(out_color(&cli, OUT_RED), "\x1b[31m");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean),        cmocka_unit_test(test_clean_bytes_that_are_no_utf8),
        cmocka_unit_test(test_clean_every_byte), cmocka_unit_test(test_table_aligns),
        cmocka_unit_test(test_table_grows),  cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_times),        cmocka_unit_test(test_colors_only_when_wanted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
