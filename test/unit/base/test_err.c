/* SPDX-License-Identifier: Apache-2.0 */
/* Errors and secrets: codes, wrapping, truncation, and text that stays one clean line. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/secret.h"

static void test_set_and_wrap(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(err_set(NULL, ERR_DENIED, "x"), -(int)ERR_DENIED);
    assert_int_equal(err_set(&err, ERR_UNAVAILABLE, "cannot reach %s", "web"), -(int)ERR_UNAVAILABLE);
    assert_true(err.retryable);
    assert_non_null(strstr(err.file, "test_err.c"));
    int line = err.line;
    assert_int_equal(err_wrap(&err, "deploy %d", 7), -(int)ERR_UNAVAILABLE);
    assert_string_equal(err.msg, "deploy 7: cannot reach web");
    assert_int_equal(err.line, line);
    assert_int_equal(err_wrap(NULL, "x"), -(int)ERR_UNKNOWN);
    assert_int_equal(err_set(&err, ERR_NOT_FOUND, "again: %s", err.msg), -(int)ERR_NOT_FOUND);
    assert_string_equal(err.msg, "again: deploy 7: cannot reach web");
    assert_false(err.retryable);
    err_hint(&err, "do %s", "that");
    assert_string_equal(err.hint, "do that");
    err_hint(NULL, "x");
}

static void test_sys_and_ensure(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(err_sys(&err, ENOSPC, "write x"), -(int)ERR_EXHAUSTED);
    assert_string_equal(err.msg, "write x: No space left on device");
    assert_int_equal(err.sys, ENOSPC);
    err = ERR_INIT;
    assert_int_equal(err_ensure(&err, -5), -5);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(err_ensure(&err, 0), 0);
    assert_int_equal(err_set(&err, (enum err_code)99, "x"), -(int)ERR_UNKNOWN);
    assert_int_equal(err_set(&err, ERR_OK, "x"), -(int)ERR_UNKNOWN);
}

static void test_message_is_one_clean_line(void **state)
{
    struct err err = ERR_INIT;
    char big[2000];

    (void)state;
    (void)err_set(&err, ERR_INVALID, "a\nb\x1b[31m\xff");
    assert_string_equal(err.msg, "a b [31m?");
    /* A C1 control (CSI) and what turns text around work on terminals as well; other UTF-8 stays. */
    (void)err_set(&err, ERR_INVALID, "\xc2\x9b" "31m \xe2\x80\xae \xd8\x9c \xc3\xa4");
    assert_string_equal(err.msg, "??31m ??? ?? \xc3\xa4");
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    (void)err_set(&err, ERR_INVALID, "%s", big);
    assert_int_equal(strlen(err.msg), ERR_MSG_MAX - 1);
    (void)err_wrap(&err, "%s", big);
    assert_true(strlen(err.msg) < ERR_MSG_MAX);
    (void)err_sys(&err, ENOENT, "%s", big);
    assert_int_equal(strlen(err.msg), ERR_MSG_MAX - 1);
    assert_non_null(strstr(err.msg, "xx: No such file or directory"));
    err_hint(&err, "%s", big);
    assert_int_equal(strlen(err.hint), ERR_HINT_MAX - 1);
}

static void test_code_tables(void **state)
{
    (void)state;
    for (int c = 0; c < ERR_CODE_MAX; c++) {
        assert_int_equal(err_code_from_name(err_code_name((enum err_code)c)), c);
        assert_in_range(err_http_status((enum err_code)c), 200, 599);
        assert_true((err_exit_status((enum err_code)c) == 0) == (c == ERR_OK));
    }
    assert_string_equal(err_code_name((enum err_code)77), "unknown");
    assert_string_equal(err_code_name((enum err_code) - 1), "unknown");
    assert_int_equal(err_code_from_name("Not_Found"), ERR_UNKNOWN);
    assert_int_equal(err_code_from_name(NULL), ERR_UNKNOWN);
    assert_int_equal(err_code_from_errno(ECONNREFUSED), ERR_UNAVAILABLE);
    assert_int_equal(err_code_from_errno(4242), ERR_UNKNOWN);
}

static void test_secret(void **state)
{
    AUTO_SECRET a = secret_new(STR("a\0b"));
    AUTO_SECRET b = secret_new(STR("a\0b"));
    AUTO_SECRET c = secret_random(32);
    AUTO_SECRET d = secret_random(32);

    (void)state;
    assert_true(secret_eq(a, b));
    assert_false(secret_eq(a, c) || secret_eq(c, d) || secret_eq(a, NULL) || secret_eq(NULL, NULL));
    assert_int_equal(secret_len(a), 3);
    assert_int_equal(secret_len(NULL), 0);
    assert_true(str_eq(secret_reveal(a), STR("a\0b")));
    assert_int_equal(secret_reveal(a).p[3], '\0');
    assert_null(secret_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_and_wrap), cmocka_unit_test(test_sys_and_ensure),
        cmocka_unit_test(test_message_is_one_clean_line), cmocka_unit_test(test_code_tables), cmocka_unit_test(test_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
