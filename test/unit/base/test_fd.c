/* SPDX-License-Identifier: Apache-2.0 */
/* Files and trees, in a fresh directory per test. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/str.h"

static int enter(void **state)
{
    char template[] = "/tmp/davit-fd-XXXXXX";

    if (mkdtemp(template) == NULL || chdir(template) < 0)
        return -1;
    *state = str_dup(str_from(template));
    return 0;
}

static int leave(void **state)
{
    int rc = chdir("/") < 0 ? -1 : fd_remove_tree(*state, NULL);

    if (access(*state, F_OK) == 0)
        rc = -1;
    free(*state);
    return rc;
}

static mode_t mode_of(const char *path)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

static void test_write_then_read(void **state)
{
    AUTO_BUF b = BUF_INIT(5), small = BUF_INIT(4);
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(fd_write_file("a", "12345", 5, 0640, &err), 0);
    assert_int_equal(mode_of("a"), 0640);
    assert_int_equal(fd_read_file("a", &b, &err), 0); /* exactly at the limit */
    assert_string_equal(buf_cstr(&b), "12345");
    assert_int_equal(buf_append_cstr(&small, "x"), 0);
    assert_int_equal(fd_read_file("a", &small, &err), -(int)ERR_EXHAUSTED);
    assert_string_equal(buf_cstr(&small), "x");
    assert_int_equal(fd_write_file("a", "", 0, 0600, &err), 0);
    buf_clear(&b);
    assert_int_equal(fd_read_file("a", &b, &err), 0);
    assert_int_equal(b.len, 0);
    assert_int_equal(fd_read_file("absent", &b, &err), -(int)ERR_NOT_FOUND);
    assert_int_equal(fd_read_file(".", &b, &err), -(int)ERR_PRECONDITION);
    assert_int_equal(fd_write_file("no/such/dir", "", 0, 0600, &err), -(int)ERR_NOT_FOUND);
    assert_int_equal(mkdir("dir", 0700), 0);
    assert_true(fd_write_file("dir", "x", 1, 0600, &err) < 0);
    AUTO_BUF proc = BUF_INIT(65536);
    assert_int_equal(fd_read_file("/proc/self/status", &proc, &err), 0); /* size 0, content not */
    assert_true(proc.len > 100);
}

static void test_mkdir(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(fd_mkdir_p("a/b//c/", 0700, &err), 0);
    assert_int_equal(mode_of("a/b/c"), 0700);
    assert_int_equal(chmod("a/b/c", 0777), 0);
    assert_int_equal(fd_mkdir_p("a/b/c", 0750, &err), 0);
    assert_int_equal(mode_of("a/b/c"), 0750);
    assert_int_equal(fd_mkdir_p("", 0750, &err), -(int)ERR_INVALID);
    assert_int_equal(fd_write_file("file", "", 0, 0600, &err), 0);
    assert_int_equal(fd_mkdir_p("file", 0755, &err), -(int)ERR_PRECONDITION);
    assert_int_equal(fd_mkdir_p("file/x", 0755, &err), -(int)ERR_PRECONDITION);
}

static void test_lock(void **state)
{
    struct err err = ERR_INIT;
    char want[64];
    int fd = -1, second = -1;

    (void)state;
    assert_int_equal(fd_lock_file("lock", &fd, &err), 0);
    assert_int_equal(mode_of("lock"), 0600);
    assert_int_equal(fd_lock_file("lock", &second, &err), -(int)ERR_EXISTS);
    (void)snprintf(want, sizeof(want), "lock is locked by process %d", getpid());
    assert_string_equal(err.msg, want);
    assert_int_equal(close(fd), 0);
    assert_int_equal(fd_lock_file("lock", &second, &err), 0);
    assert_int_equal(close(second), 0);
}

static void test_remove_does_not_follow(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(fd_mkdir_p("keep", 0755, &err), 0);
    assert_int_equal(fd_write_file("keep/file", "x", 1, 0600, &err), 0);
    assert_int_equal(fd_mkdir_p("tree/sub", 0755, &err), 0);
    assert_int_equal(symlink("../keep", "tree/link"), 0);
    assert_int_equal(symlink("../../keep", "tree/sub/link"), 0);
    assert_int_equal(symlink("keep", "toplink"), 0);
    assert_int_equal(fd_remove_tree("tree", &err), 0);
    assert_int_equal(fd_remove_tree("toplink", &err), 0);
    assert_int_equal(fd_remove_tree("absent", &err), 0);
    assert_int_equal(access("keep/file", F_OK), 0);
    assert_int_equal(access("tree", F_OK), -1);
    assert_int_equal(access("toplink", F_OK), -1);
}

/* Deeper than the descriptors that one process may hold, and longer than any path. */
static void test_remove_deep_tree(void **state)
{
    struct err err = ERR_INIT;
    int fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    (void)state;
    for (int i = 0; i < 1500; i++) {
        assert_int_equal(mkdirat(fd, "deep", 0755), 0);
        int next = openat(fd, "deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        assert_int_equal(close(fd), 0);
        fd = next;
    }
    assert_int_equal(close(fd), 0);
    assert_int_equal(fd_remove_tree("deep", &err), 0);
    assert_int_equal(access("deep", F_OK), -1);
}

static void test_write_all_reports(void **state)
{
    struct err err = ERR_INIT;
    AUTO_FD int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

    (void)state;
    if (fd >= 0)
        assert_int_equal(fd_write_all(fd, "x", 1, &err), -(int)ERR_EXHAUSTED);
    assert_true(fd_write_all(-1, "x", 1, &err) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_write_then_read, enter, leave),
        cmocka_unit_test_setup_teardown(test_mkdir, enter, leave),
        cmocka_unit_test_setup_teardown(test_lock, enter, leave),
        cmocka_unit_test_setup_teardown(test_remove_does_not_follow, enter, leave),
        cmocka_unit_test_setup_teardown(test_remove_deep_tree, enter, leave),
        cmocka_unit_test(test_write_all_reports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
