/* SPDX-License-Identifier: Apache-2.0 */
/* notify and agent_notify: datagrams to the service manager, and when the sender of the link counts as stuck. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/str.h"
#include "host/link/agent_notify.h"
#include "host/link/notify.h"

static char dir[] = "/tmp/notify-XXXXXX";

/* A manager at @at, which goes into the environment. */
static int manager(const char *at)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(at) + (*at == '/'));
    memcpy(a.sun_path, at, strlen(at));
    if (*at == '@')
        a.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, size), 0);
    setenv("NOTIFY_SOCKET", at, 1);
    return fd;
}

static void heard(int fd, const char *words)
{
    char got[NOTIFY_MAX + 2];
    ssize_t n = recv(fd, got, sizeof(got) - 1, 0);
    assert_true(n >= 0);
    got[n] = '\0';
    assert_string_equal(got, words);
}

static void test_both_kinds_of_address(void **state)
{
    (void)state;
    char path[128], abstract[128];
    (void)snprintf(path, sizeof(path), "%s/notify", dir);
    (void)snprintf(abstract, sizeof(abstract), "@davit-test-notify-%ld", (long)getpid());
    const char *at[] = {path, abstract};
    for (size_t i = 0; i < 2; i++) {
        int fd = manager(at[i]);
        assert_true(notify_wanted());
        assert_int_equal(notify_send("READY=1", NULL), 0);
        heard(fd, "READY=1");
        assert_int_equal(notify_main_pid(4711, NULL), 0);
        heard(fd, "MAINPID=4711");
        assert_int_equal(notify_extend(90 * USEC_SEC, NULL), 0);
        heard(fd, "EXTEND_TIMEOUT_USEC=90000000");
        assert_int_equal(notify_status("two\nlines \xc3\xa9", NULL), 0);
        heard(fd, "STATUS=two lines \xc3\xa9");
        (void)close(fd);
    }
}

static void test_limits(void **state)
{
    (void)state;
    char path[128], text[NOTIFY_MAX + 2], at[200];
    (void)snprintf(path, sizeof(path), "%s/limits", dir);
    int fd = manager(path);
    memset(text, 'x', sizeof(text));
    text[NOTIFY_MAX + 1] = '\0';
    assert_int_equal(notify_send(text, NULL), -ERR_INVALID);
    assert_int_equal(notify_send("", NULL), -ERR_INVALID);
    text[NOTIFY_MAX] = '\0';
    assert_int_equal(notify_send(text, NULL), 0);
    heard(fd, text);
    /* A status is cut, not refused, and never inside of a character. */
    memset(text, 'y', sizeof(text));
    memcpy(text + NOTIFY_MAX - 7 - 1, "\xe2\x82\xac", 4);
    assert_int_equal(notify_status(text, NULL), 0);
    char got[NOTIFY_MAX + 2];
    assert_int_equal(recv(fd, got, sizeof(got), 0), NOTIFY_MAX - 1);
    (void)close(fd);
    memset(at, 'a', sizeof(at));
    at[0] = '/';
    at[108] = '\0'; /* no room for its end */
    setenv("NOTIFY_SOCKET", at, 1);
    assert_int_equal(notify_send("READY=1", NULL), -ERR_INVALID);
    static const char *const bad[] = {"relative", "@", "/", "vsock:2:1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        setenv("NOTIFY_SOCKET", bad[i], 1);
        assert_int_equal(notify_send("READY=1", NULL), -ERR_INVALID);
    }
}

static void test_nobody_hears(void **state)
{
    (void)state;
    char path[128];
    unsetenv("NOTIFY_SOCKET");
    assert_int_equal(notify_send("READY=1", NULL), 1);
    setenv("NOTIFY_SOCKET", "", 1);
    assert_int_equal(notify_status("x", NULL), 1);
    (void)snprintf(path, sizeof(path), "%s/nobody", dir);
    setenv("NOTIFY_SOCKET", path, 1);
    assert_true(notify_send("READY=1", NULL) < 0);
    /* A manager that does not read: said or not said, but never waited for. */
    int fd = manager(path), rc = 0;
    for (int i = 0; i < 10000 && rc == 0; i++)
        rc = notify_send("WATCHDOG=1", NULL);
    assert_true(rc < 0);
    (void)close(fd);
}

static void test_watchdog_is_half(void **state)
{
    (void)state;
    char pid[32];
    setenv("NOTIFY_SOCKET", "@x", 1);
    unsetenv("WATCHDOG_PID");
    unsetenv("WATCHDOG_USEC");
    assert_int_equal(notify_watchdog(), 0);
    setenv("WATCHDOG_USEC", "30000000", 1);
    assert_int_equal(notify_watchdog(), 15 * USEC_SEC);
    (void)snprintf(pid, sizeof(pid), "%ld", (long)getpid());
    setenv("WATCHDOG_PID", pid, 1);
    assert_int_equal(notify_watchdog(), 15 * USEC_SEC);
    setenv("WATCHDOG_PID", "1", 1); /* another's */
    assert_int_equal(notify_watchdog(), 0);
    unsetenv("WATCHDOG_PID");
    static const char *const bad[] = {"", "0", "1", "-5", "30s", "99999999999999999999"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        setenv("WATCHDOG_USEC", bad[i], 1);
        assert_int_equal(notify_watchdog(), 0);
    }
    unsetenv("WATCHDOG_USEC");
}

static void test_a_sender_that_is_stuck(void **state)
{
    (void)state;
    struct sender_watch w = {0};
    usec_t now = 1000 * USEC_SEC;
    struct session_status st = {.state = SESSION_CONNECTING, .since = 5};
    assert_true(sender_gets_on(&w, &st, now));
    assert_true(sender_gets_on(&w, &st, now + USEC_MINUTE));
    assert_false(sender_gets_on(&w, &st, now + 2 * USEC_MINUTE));
    /* Online: by heartbeats that are answered. */
    st = (struct session_status){.state = SESSION_ONLINE, .since = 6, .heartbeat = 6};
    assert_true(sender_gets_on(&w, &st, now));
    assert_true(sender_gets_on(&w, &st, now + 6 * USEC_MINUTE));
    assert_false(sender_gets_on(&w, &st, now + 7 * USEC_MINUTE));
    st.heartbeat = 7;
    assert_true(sender_gets_on(&w, &st, now + 7 * USEC_MINUTE));
    /* A control plane that is not there: until the next try is long over. The clock of the wall may jump. */
    st = (struct session_status){.state = SESSION_WAITING, .since = 100 * USEC_HOUR, .next_try = 101 * USEC_HOUR};
    assert_true(sender_gets_on(&w, &st, now));
    assert_true(sender_gets_on(&w, &st, now + USEC_HOUR));
    assert_false(sender_gets_on(&w, &st, now + USEC_HOUR + USEC_MINUTE));
    st = (struct session_status){.state = SESSION_FENCED};
    assert_true(sender_gets_on(&w, &st, now));
    assert_true(sender_gets_on(&w, &st, now + USEC_DAY));
}

static int setup(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    static const char *const names[] = {"notify", "limits", "nobody"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        (void)unlink(path);
    }
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_kinds_of_address), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_nobody_hears),          cmocka_unit_test(test_watchdog_is_half),
        cmocka_unit_test(test_a_sender_that_is_stuck),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
