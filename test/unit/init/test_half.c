/* SPDX-License-Identifier: Apache-2.0 */
/* When a session half that died is started again. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "init/half.h"

/* What the next of these calls fails with; 0: it does not. */
static int fork_fails, socketpair_fails;

pid_t __real_fork(void);
pid_t __wrap_fork(void);
int __real_socketpair(int domain, int type, int protocol, int fds[2]);
int __wrap_socketpair(int domain, int type, int protocol, int fds[2]);

pid_t __wrap_fork(void)
{
    if (fork_fails == 0)
        return __real_fork();
    errno = fork_fails;
    return -1;
}

int __wrap_socketpair(int domain, int type, int protocol, int fds[2])
{
    if (socketpair_fails == 0)
        return __real_socketpair(domain, type, protocol, fds);
    errno = socketpair_fails;
    return -1;
}

/* How long after its end the next one is due. */
static uint64_t wait_of(struct half *h)
{
    h->pid = 7;
    half_ended(h);
    assert_int_equal(h->pid, 0);
    uint64_t now = half_now();
    return h->due > now ? h->due - now : 0;
}

/* req: SA-5 */
static void test_delay_doubles_to_its_cap(void **state)
{
    struct half h = {.fd = -1, .began = half_now()};
    uint64_t least = UINT64_MAX, most = 0;

    (void)state;
    for (uint64_t want = HALF_DELAY_MIN_MS; want < HALF_DELAY_MAX_MS; want *= 2) {
        uint64_t ms = wait_of(&h);
        /* A little of it may have gone by. */
        assert_true(ms + 50 >= want * 3 / 4 && ms <= want * 5 / 4 + 1);
    }
    for (int i = 0; i < 200; i++) {
        uint64_t ms = wait_of(&h);
        assert_true(ms + 50 >= HALF_DELAY_MAX_MS * 3 / 4 && ms <= HALF_DELAY_MAX_MS * 5 / 4 + 1);
        least = ms < least ? ms : least;
        most = ms > most ? ms : most;
    }
    /* Not all sandboxes of a host at one moment. */
    assert_true(most - least > HALF_DELAY_MAX_MS / 8);
}

static void test_one_that_lived_begins_anew(void **state)
{
    struct half h = {.fd = -1, .began = half_now()};

    (void)state;
    for (int i = 0; i < 10; i++)
        (void)wait_of(&h);
    h.began = half_now() - HALF_GOOD_MS + 2000;
    assert_true(wait_of(&h) > 1000);
    h.began = half_now() - HALF_GOOD_MS;
    assert_true(wait_of(&h) <= HALF_DELAY_MIN_MS * 5 / 4 + 1);
}

/* req: SA-6 */
static void test_nothing_left_to_start_it_with(void **state)
{
    static const int forks[] = {EAGAIN, ENOMEM, 0, 0, 0}, sockets[] = {0, 0, EMFILE, ENFILE, ENOMEM};
    struct half h = {.fd = -1};
    static struct conf c = {.session = "/nonexistent/davit-session"};
    struct drop_report report;
    int before = dup(0), after;

    (void)state;
    (void)close(before);
    for (size_t i = 0; i < sizeof(forks) / sizeof(forks[0]); i++) {
        fork_fails = forks[i];
        socketpair_fails = sockets[i];
        assert_false(half_start(&h, &c, &report));
        assert_true(h.pid == 0 && h.fd == -1);
        half_ended(&h);
        assert_true(h.due > half_now());
    }
    fork_fails = socketpair_fails = 0;
    after = dup(0);
    (void)close(after);
    assert_int_equal(before, after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delay_doubles_to_its_cap),
        cmocka_unit_test(test_one_that_lived_begins_anew),
        cmocka_unit_test(test_nothing_left_to_start_it_with),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
