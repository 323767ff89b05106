/* SPDX-License-Identifier: Apache-2.0 */
/* A log in files: its limits, a full disk, and what others do to the file. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/logfile.h"
#include "base/str.h"

static char dir[] = "/tmp/davit-logfile.XXXXXX", path[64];

static int set_up(void **state)
{
    (void)state;
    memcpy(dir + strlen(dir) - 6, "XXXXXX", 6);
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(path, sizeof(path), "%s/a.log", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    log_to_file(NULL);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    return fd_remove_tree(dir, NULL);
}

static struct logfile *open_log(uint64_t size, unsigned backups)
{
    const struct logfile_conf conf = {.path = path, .max_bytes = size, .max_backups = backups, .max_age = 7 * USEC_DAY};
    struct logfile *f = NULL;
    assert_int_equal(logfile_open(&conf, &f, NULL), 0);
    return f;
}

static void put(struct logfile *f, const char *line)
{
    assert_int_equal(logfile_put(f, line, strlen(line)), 0);
}

/* "" where there is none. */
static const char *content(const char *suffix)
{
    static char text[8192];
    AUTO_FREE char *name = str_printf("%s%s", path, suffix);
    AUTO_FD int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    text[n < 0 ? 0 : n] = '\0';
    return text;
}

static void test_is_put_aside_at_the_limit(void **state)
{
    struct stat st;
    (void)state;
    struct logfile *f = open_log(10, 2);
    put(f, "one..\n");
    put(f, "4..\n"); /* ten bytes: at the limit, not beyond */
    assert_string_equal(content(".1"), "");
    put(f, "two..\n");
    assert_string_equal(content(".1"), "one..\n4..\n");
    assert_string_equal(content(""), "two..\n");
    put(f, "three\n");
    put(f, "four.\n");
    assert_string_equal(content(""), "four.\n");
    assert_string_equal(content(".1"), "three\n");
    assert_string_equal(content(".2"), "two..\n");
    assert_string_equal(content(".3"), "");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    (void)logfile_close(f);
    /* Continued, and its size counts. */
    f = open_log(10, 2);
    put(f, "five.\n");
    assert_string_equal(content(".1"), "four.\n");
    (void)logfile_close(f);
}

static void test_keeps_none_that_is_too_old_and_not_too_many(void **state)
{
    (void)state;
    for (int i = 1; i <= 5; i++) {
        AUTO_FREE char *name = str_printf("%s.%d", path, i);
        assert_int_equal(fd_write_file(name, "x", 1, 0600, NULL), 0);
        if (i == 2) {
            time_t then = (time_t)(clock_real() / USEC_SEC) - 8 * 86400;
            assert_int_equal(utime(name, &(struct utimbuf){then, then}), 0);
        }
    }
    struct logfile *f = open_log(100, 3);
    assert_string_equal(content(".1"), "x");
    assert_string_equal(content(".2"), "");
    assert_string_equal(content(".3"), "x");
    assert_string_equal(content(".4"), "");
    assert_string_equal(content(".5"), "");
    (void)logfile_close(f);
    f = open_log(6, 0);
    put(f, "one..\n");
    put(f, "two..\n");
    assert_string_equal(content(""), "two..\n");
    assert_string_equal(content(".1"), "");
    (void)logfile_close(f);
}

static void test_is_opened_anew_when_somebody_took_it(void **state)
{
    (void)state;
    struct logfile *f = open_log(1000, 3);
    AUTO_FREE char *moved = str_printf("%s.moved", path);
    put(f, "one\n");
    assert_int_equal(rename(path, moved), 0);
    clock_fake(clock_mono() + 2 * USEC_SEC, USEC_INFINITY - 1);
    put(f, "two\n");
    assert_string_equal(content(""), "two\n");
    assert_string_equal(content(".moved"), "one\n");
    (void)logfile_close(f);
}

static void limit_descriptors(rlim_t n)
{
    static struct rlimit before;
    struct rlimit r;
    if (before.rlim_max == 0)
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    r = before;
    r.rlim_cur = n < r.rlim_cur ? n : r.rlim_cur;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &r), 0);
}

static void test_what_was_put_aside_is_safe_where_no_file_can_be_opened(void **state)
{
    (void)state;
    struct logfile *f = open_log(10, 2);
    put(f, "one..\n");
    put(f, "two..\n");
    limit_descriptors(0);
    put(f, "three\n");
    put(f, "four.\n");
    limit_descriptors(RLIM_INFINITY);
    assert_string_equal(content(".1"), "one..\n");
    assert_string_equal(content(""), "two..\nthree\nfour.\n");
    limit_descriptors(0);
    put(f, "five.\n"); /* beyond twice the limit */
    limit_descriptors(RLIM_INFINITY);
    assert_string_equal(content(".1"), "one..\n");
    assert_string_equal(content(""), "five.\n");
    put(f, "six..\n");
    assert_string_equal(content(".2"), "one..\n");
    assert_string_equal(content(".1"), "five.\n");
    assert_string_equal(content(""), "six..\n");
    assert_string_equal(content(".next"), "");
    (void)logfile_close(f);
}

static void test_takes_no_link_and_no_pipe(void **state)
{
    const struct logfile_conf conf = {.path = path, .max_bytes = 100};
    struct logfile *f = NULL;
    (void)state;
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_true(logfile_open(&conf, &f, NULL) < 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_true(logfile_open(&conf, &f, NULL) < 0);
}

static void limit_files(rlim_t n)
{
    struct rlimit r;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &r), 0);
    r.rlim_cur = n < r.rlim_max ? n : r.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
}

/* req: CW-74 */
static void test_a_full_disk_costs_lines_which_are_counted(void **state)
{
    (void)state;
    struct logfile *f = open_log(1000000, 3);
    uint64_t before = log_lost();
    (void)signal(SIGXFSZ, SIG_IGN);
    log_setup("davitd", LOG_INFO, LOG_FORMAT_TEXT);
    log_to_file(f);
    log_event(LOG_INFO, "first", NULL);
    size_t n = strlen(content(""));
    assert_true(n > 0);
    limit_files(n + 20); /* the half of the next line that has room is taken back */
    log_event(LOG_INFO, "second", NULL);
    log_event(LOG_INFO, "third", NULL);
    assert_int_equal(strlen(content("")), n);
    assert_int_equal(log_lost() - before, 2);
    limit_files(RLIM_INFINITY);
    log_event(LOG_INFO, "fourth", NULL);
    assert_null(strstr(content(""), "second"));
    assert_non_null(strstr(content(""), "msg=fourth\n"));
    assert_non_null(strstr(content(""), "lines=2\n"));
    log_event(LOG_INFO, "fifth", NULL);
    assert_ptr_equal(strstr(strstr(content(""), "lines=2") + 1, "lines="), NULL);
    log_to_file(NULL);
    (void)logfile_close(f);
}

/* What goes to stderr beside the file. */
static void test_stderr_has_errors_and_what_is_said_aloud(void **state)
{
    static char seen[LOG_ALOUD_MAX * 200];
    struct logfile *f = open_log(10000000, 1);
    AUTO_FREE char *err_path = str_printf("%s/stderr", dir);
    (void)state;
    clock_fake(5 * USEC_HOUR, 1000);
    AUTO_FD int kept = dup(STDERR_FILENO), to = open(err_path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(kept >= 0 && to >= 0 && dup2(to, STDERR_FILENO) >= 0);
    log_setup("davitd", LOG_INFO, LOG_FORMAT_TEXT);
    log_to_file(f);
    log_event(LOG_NOTICE, "quiet", NULL);
    log_event(LOG_ERROR, "broken", NULL);
    for (int i = 0; i < 2 * LOG_ALOUD_MAX; i++)
        log_aloud(LOG_INFO, "token issued", NULL);
    log_to_file(NULL);
    assert_true(dup2(kept, STDERR_FILENO) >= 0);
    ssize_t n = pread(to, seen, sizeof(seen) - 1, 0);
    assert_true(n > 0);
    seen[n] = '\0';
    assert_null(strstr(seen, "quiet"));
    assert_non_null(strstr(seen, "msg=broken\n"));
    size_t lines = 0;
    for (ssize_t i = 0; i < n; i++)
        lines += seen[i] == '\n';
    assert_int_equal(lines, LOG_ALOUD_MAX);
    assert_non_null(strstr(content(""), "msg=quiet\n"));
    assert_non_null(strstr(content(""), "msg=broken\n"));
    (void)logfile_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_is_put_aside_at_the_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keeps_none_that_is_too_old_and_not_too_many, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_is_opened_anew_when_somebody_took_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_was_put_aside_is_safe_where_no_file_can_be_opened, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_takes_no_link_and_no_pipe, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_full_disk_costs_lines_which_are_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stderr_has_errors_and_what_is_said_aloud, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
