/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines as they leave the process: shape, escaping, cut. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

static char line[16384];
static int pipe_fd[2], saved;

/* stderr goes into a pipe between these two. */
static void capture(void)
{
    clock_fake(USEC_INFINITY - 1, 1000);
    assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
    saved = dup(STDERR_FILENO);
    assert_true(dup2(pipe_fd[1], STDERR_FILENO) >= 0);
    assert_int_equal(close(pipe_fd[1]), 0);
}

static size_t release(void)
{
    ssize_t n;

    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    assert_int_equal(close(saved), 0);
    n = read(pipe_fd[0], line, sizeof(line) - 1);
    assert_true(n >= 0);
    line[n] = '\0';
    assert_int_equal(close(pipe_fd[0]), 0);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    return (size_t)n;
}

static void test_text(void **state)
{
    (void)state;
    log_setup("davitd", LOG_INFO, LOG_FORMAT_TEXT);
    capture();
    log_event(LOG_INFO, "agent connected", "server", "web-1", "peer", NULL, "empty", "", NULL);
    log_event(LOG_DEBUG, "not this", NULL);
    log_debug("nor %s", "this");
    (void)release();
    assert_string_equal(line, "program=davitd time=1970-01-01T00:00:00.001Z level=info msg=\"agent connected\" server=web-1 "
                              "peer=- empty=\"\"\n");
}

static void test_hostile_value_stays_on_its_line(void **state)
{
    static const char hostile[] = "a\nlevel=error \"x\" \\ \x1b[2J \xff \xc2\x9b \xe2\x80\xae \xc3\xa4";

    (void)state;
    log_setup("d", LOG_DEBUG, LOG_FORMAT_TEXT);
    capture();
    log_event(LOG_WARN, "m", "v", hostile, NULL);
    size_t n = release();
    assert_ptr_equal(strchr(line, '\n'), line + n - 1);
    assert_non_null(strstr(line, " v=\"a\\nlevel=error \\\"x\\\" \\\\ "
                                 "\\x1b[2J \\xff \\xc2\\x9b \\xe2\\x80\\xae \xc3\xa4\"\n"));
    log_setup("d", LOG_DEBUG, LOG_FORMAT_JSON);
    capture();
    log_event(LOG_WARN, "m", "v", hostile, NULL);
    n = release();
    AUTO_JSON j;
    json_init(&j, (struct str){line, n});
    assert_int_equal(json_skip(&j, NULL), 0);
    assert_non_null(strstr(line, "\"level\":\"warn\",\"msg\":\"m\",\"v\":\"a\\nlevel"));
}

/* Lengths around the limit: never over 4 KiB, always one well-formed line. */
static void test_cut_line_stays_well_formed(void **state)
{
    static char big[5000];

    (void)state;
    for (int format = 0; format < 2; format++) {
        log_setup("d", LOG_DEBUG, (enum log_format)format);
        for (size_t len = 3900; len < 4200; len++) {
            memset(big, len % 2 ? 'x' : '\n', len);
            big[len] = '\0';
            capture();
            log_event(LOG_INFO, "m", "v", big, "after_a_name_of_more_than_twelve_bytes", "1", NULL);
            size_t n = release();
            assert_in_range(n, 3000, 4096);
            assert_ptr_equal(strchr(line, '\n'), line + n - 1);
            if (format == LOG_FORMAT_JSON) {
                AUTO_JSON j;
                json_init(&j, (struct str){line, n});
                assert_int_equal(json_skip(&j, NULL), 0);
            }
            assert_true((strstr(line, "cut") != NULL) != (strstr(line, "after") != NULL));
        }
    }
}

static void test_err_and_journal(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    (void)err_set(&err, ERR_NOT_FOUND, "no such server");
    err_hint(&err, "davit servers");
    log_setup("d", LOG_ERROR, LOG_FORMAT_TEXT);
    capture();
    log_err(LOG_ERROR, &err, "command failed", "id", "7", NULL);
    (void)release();
    assert_non_null(strstr(line, "msg=\"command failed\" code=not_found error=\"no such server\" hint=\"davit servers\" "
                                 "origin="));
    assert_non_null(strstr(line, " id=7\n"));
    capture();
    log_err(LOG_ERROR, NULL, "bare", NULL);
    (void)release();
    assert_non_null(strstr(line, "msg=bare\n"));
}

static void test_level_names(void **state)
{
    enum log_level level = LOG_ERROR;

    (void)state;
    assert_int_equal(log_level_from_name("debug", &level), 0);
    assert_int_equal(level, LOG_DEBUG);
    assert_int_equal(log_level_from_name("Debug", &level), -(int)ERR_INVALID);
    assert_int_equal(log_level_from_name(NULL, &level), -(int)ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text), cmocka_unit_test(test_hostile_value_stays_on_its_line),
        cmocka_unit_test(test_cut_line_stays_well_formed), cmocka_unit_test(test_err_and_journal),
        cmocka_unit_test(test_level_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
