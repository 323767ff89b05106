/* SPDX-License-Identifier: Apache-2.0 */
/* Who the program runs as, out of passwd and group files of images, good ones and hostile ones. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "init/account.h"

enum { UNKNOWN = -(int)ERR_NOT_FOUND, BAD = -(int)ERR_INVALID };

static const char *const passwd = "root:x:0:0:root:/root:/bin/sh\n"
                                  "dev:x:1000:1000:Dev:/homes/dev:/bin/sh\n"
                                  "odd:x:1001:1001\n"
                                  "twin:x:1000:1002::relative:\n"
                                  "last:x:4294967294:5::/last:/bin/sh";
static const char *const group =
    "root:x:0:\nwheel:x:10:root,dev\ndev:x:1000:dev\naudio:x:29:deva,dev\nagain:x:29:dev\nempty:x:30:\nbad:x:y:dev\n";

static int file_of(const char *text, size_t n)
{
    int fd = memfd_create("test", 0);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, n), (ssize_t)n);
    return fd;
}

static int resolve_in(const char *spec, const char *users, const char *groups, struct account *a)
{
    int u = users != NULL ? file_of(users, strlen(users)) : -1, g = groups != NULL ? file_of(groups, strlen(groups)) : -1;
    const char *why = NULL;
    int rc = account_resolve(str_from(spec), u, g, a, &why);

    assert_int_equal(rc < 0, why != NULL);
    (void)close(u);
    (void)close(g);
    return rc;
}

static int resolve(const char *spec, struct account *a)
{
    return resolve_in(spec, passwd, group, a);
}

/* req: CW-81 */
static void test_names(void **state)
{
    struct account a;

    (void)state;
    assert_int_equal(resolve("dev", &a), 0);
    assert_true(a.uid == 1000 && a.gid == 1000 && a.groups_n == 2 && a.groups[0] == 10 && a.groups[1] == 29);
    assert_string_equal(a.name, "dev");
    assert_string_equal(a.home, "/homes/dev");
    assert_int_equal(resolve("dev:audio", &a), 0);
    assert_true(a.uid == 1000 && a.gid == 29 && a.groups_n == 0);
    assert_int_equal(resolve("dev:77", &a), 0);
    assert_int_equal(a.gid, 77);
    assert_int_equal(resolve("odd", &a), 0);
    assert_string_equal(a.home, "/");
    assert_int_equal(resolve("twin", &a), 0);
    assert_string_equal(a.home, "/");
    assert_int_equal(resolve("last", &a), 0);
    assert_true(a.uid == UINT32_MAX - 1 && a.gid == 5);

    assert_int_equal(resolve("de", &a), UNKNOWN);
    assert_int_equal(resolve("devx", &a), UNKNOWN);
    assert_int_equal(resolve("dev:none", &a), UNKNOWN);
    assert_int_equal(resolve_in("dev", NULL, NULL, &a), UNKNOWN);
    assert_int_equal(resolve_in("dev:audio", passwd, NULL, &a), UNKNOWN);
}

/* req: CW-81 */
static void test_numbers_need_no_files(void **state)
{
    struct account a;

    (void)state;
    assert_int_equal(resolve_in("12345", NULL, NULL, &a), 0);
    assert_true(a.uid == 12345 && a.gid == 0 && a.groups_n == 0 && a.name[0] == '\0');
    assert_string_equal(a.home, "/");
    assert_int_equal(resolve_in("12345:6", NULL, NULL, &a), 0);
    assert_true(a.uid == 12345 && a.gid == 6);
    assert_int_equal(resolve_in("0", NULL, NULL, &a), 0);
    /* One that passwd knows: the first line of that number. */
    assert_int_equal(resolve("1000", &a), 0);
    assert_true(a.gid == 1000 && a.groups_n == 2);
    assert_string_equal(a.name, "dev");
    assert_int_equal(resolve("1000:5", &a), 0);
    assert_true(a.gid == 5 && a.groups_n == 0);
    assert_int_equal(resolve_in("4294967294", NULL, NULL, &a), 0);
    assert_int_equal(resolve_in("4294967295", NULL, NULL, &a), BAD);
    assert_int_equal(resolve_in("1:4294967295", NULL, NULL, &a), BAD);
    assert_int_equal(resolve_in("99999999999999999999999", NULL, NULL, &a), BAD);
}

static void test_what_is_no_user(void **state)
{
    static const char *const bad[] = {"", ":", "dev:", ":dev", "a:b:c", "dev\n", "d\tv", "dev:a\033b"};
    char spec[ACCOUNT_SPEC_MAX + 2];
    struct account a;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(resolve(bad[i], &a), BAD);
    memset(spec, 'a', sizeof(spec));
    spec[ACCOUNT_SPEC_MAX] = '\0';
    assert_int_equal(resolve(spec, &a), UNKNOWN);
    spec[ACCOUNT_SPEC_MAX] = 'a';
    spec[ACCOUNT_SPEC_MAX + 1] = '\0';
    assert_int_equal(resolve(spec, &a), BAD);
    assert_int_equal(resolve("-1", &a), UNKNOWN);
    assert_int_equal(resolve("+1", &a), UNKNOWN);
    assert_int_equal(resolve(" 1", &a), UNKNOWN);
}

static void test_hostile_lines(void **state)
{
    struct account a;

    (void)state;
    static const char *const lines[] = {"dev",
                                        "dev:",
                                        "dev::",
                                        "dev:x:1",
                                        "dev:x:-1:0::/:",
                                        "dev:x:0x0:0::/:",
                                        "dev:x: 0:0::/:",
                                        "dev:x:4294967295:0::/:",
                                        "dev:x:0:4294967296::/:",
                                        "#dev:x:0:0::/:",
                                        "+dev:x:0:0::/:",
                                        "-dev:x:0:0::/:",
                                        "dev\r:x:0:0::/:",
                                        ":x:0:0::/:"};
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        assert_int_equal(resolve_in("dev", lines[i], group, &a), UNKNOWN);
        assert_int_equal(resolve_in("#dev", lines[i], group, &a), UNKNOWN);
    }
    assert_int_equal(resolve_in("dev", "dev:x:1:2::/ho\033me:", NULL, &a), 0);
    assert_string_equal(a.home, "/");
    static const char nul[] = "dev:x:0\0:0::/:\n"
                              "dev:x:7:7::/:\n";
    int fd = file_of(nul, sizeof(nul) - 1);
    const char *why = NULL;
    assert_int_equal(account_resolve(STR("dev"), fd, -1, &a, &why), 0);
    assert_int_equal(a.uid, 7);
    (void)close(fd);
    /* A folder in its place reads as nothing. */
    assert_int_equal(account_resolve(STR("dev"), 0x7fffffff, -1, &a, &why), UNKNOWN);
}

/* A passwd of one line of @n bytes before its newline, then "after". */
static int line_of(size_t n, const char *spec, struct account *a)
{
    AUTO_FREE char *text = calloc(1, n + 64);
    static const char start[] = "dev:x:1:2:", end[] = ":/home:/bin/sh";

    assert_non_null(text);
    memset(text, 'c', n);
    memcpy(text, start, sizeof(start) - 1);
    memcpy(text + n - (sizeof(end) - 1), end, sizeof(end) - 1);
    (void)snprintf(text + n, 64, "\nafter:x:5:5::/:\n");
    return resolve_in(spec, text, NULL, a);
}

static void test_length_of_a_line(void **state)
{
    struct account a;

    (void)state;
    assert_int_equal(line_of(ACCOUNT_LINE_MAX, "dev", &a), 0);
    assert_string_equal(a.home, "/home");
    assert_int_equal(line_of(ACCOUNT_LINE_MAX + 1, "dev", &a), UNKNOWN);
    for (size_t n = ACCOUNT_LINE_MAX - 2; n < 3 * (size_t)ACCOUNT_LINE_MAX; n += 1361)
        assert_int_equal(line_of(n, "after", &a), 0);
    assert_int_equal(line_of(ACCOUNT_LINE_MAX + 1, "after", &a), 0);
}

static void test_length_of_names(void **state)
{
    char text[WIRE_USER_SIZE + 64], name[WIRE_USER_SIZE + 1];
    struct account a;

    (void)state;
    memset(name, 'n', sizeof(name));
    name[WIRE_USER_SIZE - 1] = '\0';
    (void)snprintf(text, sizeof(text), "%s:x:1:2::/:", name);
    assert_int_equal(resolve_in(name, text, NULL, &a), 0);
    assert_string_equal(a.name, name);
    name[WIRE_USER_SIZE - 1] = 'n';
    name[WIRE_USER_SIZE] = '\0';
    (void)snprintf(text, sizeof(text), "%s:x:1:2::/:", name);
    assert_int_equal(resolve_in(name, text, NULL, &a), UNKNOWN);
}

/* As many groups as there is room for, and one more. */
static void test_number_of_groups(void **state)
{
    char text[WIRE_GROUPS_MAX * 32 + 64] = "";
    size_t n = 0;
    struct account a;

    (void)state;
    for (int i = 0; i < WIRE_GROUPS_MAX; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "g%d:x:%d:dev\n", i, 2000 + i);
    assert_int_equal(resolve_in("dev", passwd, text, &a), 0);
    assert_int_equal(a.groups_n, WIRE_GROUPS_MAX);
    assert_int_equal(a.groups[WIRE_GROUPS_MAX - 1], 2000 + WIRE_GROUPS_MAX - 1);
    (void)snprintf(text + n, sizeof(text) - n, "more:x:3000:dev\n");
    assert_int_equal(resolve_in("dev", passwd, text, &a), -(int)ERR_EXHAUSTED);
    assert_int_equal(resolve_in("dev:more", passwd, text, &a), 0);
}

/* Behind so many bytes nothing is found, and nothing is read. */
static void test_length_of_a_file(void **state)
{
    int fd = memfd_create("test", 0);
    const char *why = NULL;
    struct account a;

    (void)state;
    assert_int_equal(ftruncate(fd, ACCOUNT_FILE_MAX - 1), 0);
    assert_int_equal(pwrite(fd, "\n", 1, ACCOUNT_FILE_MAX - 40), 1);
    assert_int_equal(pwrite(fd, "\ndev:x:1:1::/:\nx", 16, ACCOUNT_FILE_MAX - 17), 16);
    assert_int_equal(account_resolve(STR("dev"), fd, -1, &a, &why), 0);
    assert_int_equal(pwrite(fd, "\nlate:x:1:1::/:\n", 16, ACCOUNT_FILE_MAX), 16);
    assert_int_equal(account_resolve(STR("late"), fd, -1, &a, &why), UNKNOWN);
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_numbers_need_no_files),
        cmocka_unit_test(test_what_is_no_user),
        cmocka_unit_test(test_hostile_lines),
        cmocka_unit_test(test_length_of_a_line),
        cmocka_unit_test(test_length_of_names),
        cmocka_unit_test(test_number_of_groups),
        cmocka_unit_test(test_length_of_a_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
