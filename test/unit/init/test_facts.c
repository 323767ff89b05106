/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of /proc, of which the name is chosen by whoever is looked at. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init/facts.h"

static void test_names_cannot_lie(void **state)
{
    struct facts_process p;

    (void)state;
    assert_int_equal(facts_parse(STR("12 (sh) S 1 12 13 0 -1"), &p), 0);
    assert_true(p.pid == 12 && p.parent == 1 && p.group == 12 && p.session == 13 && p.state == 'S');
    assert_string_equal(p.name, "sh");
    assert_int_equal(facts_parse(STR("12 (a) Z 7 7 7 (b) S 1 2 3 4"), &p), 0);
    assert_true(p.parent == 1 && p.session == 3 && p.state == 'S');
    assert_int_equal(facts_parse(STR("12 (a\nb\033[2J) c) Z 1 2 3 4"), &p), 0);
    assert_string_equal(p.name, "a?b?[2J) c");
    assert_int_equal(facts_parse(STR("1 (0123456789abcdefgh) Z 1 2 3 4"), &p), 0);
    assert_string_equal(p.name, "0123456789abcde");
    assert_int_equal(facts_parse(STR("1 () Z 1 2 3 4"), &p), 0);
}

static void test_what_is_no_line(void **state)
{
    static const char *const bad[] = {"",
                                      "(",
                                      ")",
                                      "()",
                                      "1 (a)",
                                      "1 (a) ",
                                      "1 (a) S",
                                      "1 (a) S 1 2",
                                      "1 (a) SS 1 2 3 4",
                                      "x (a) S 1 2 3 4",
                                      "1 (a) S x 2 3 4",
                                      "1 (a) S 1 2 -3 4",
                                      "(a) S 1 2 3 4",
                                      "1 )a( S 1 2 3 4",
                                      "99999999999 (a) S 1 2 3 4"};
    struct facts_process p;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_true(facts_parse(str_from(bad[i]), &p) < 0);
}

/* A child of this process that leaves @n dead children of its own about. */
static pid_t neglectful(int n)
{
    int ready[2];
    char byte = 0;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        for (int i = 0; i < n; i++) {
            siginfo_t si;
            pid_t child = fork();
            if (child == 0)
                _exit(0);
            (void)waitid(P_PID, (id_t)child, &si, WEXITED | WNOWAIT);
        }
        (void)!write(ready[1], &byte, 1);
        for (;;)
            (void)pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    (void)close(ready[0]);
    (void)close(ready[1]);
    return pid;
}

static void test_who_does_not_reap(void **state)
{
    union wire_frame f;
    pid_t some = neglectful(2), most = neglectful(5);

    (void)state;
    wire_begin(&f, WIRE_ZOMBIES);
    facts_zombies(&f.zombies);
    assert_true(f.zombies.count >= 7);
    /* Others on this machine may be worse. */
    assert_true(f.zombies.of_parent >= 5 && f.zombies.parent > 0);
    if (f.zombies.of_parent == 5)
        assert_string_equal(f.zombies.name, "test_facts");
    (void)kill(some, SIGKILL);
    (void)kill(most, SIGKILL);
    (void)waitpid(some, NULL, 0);
    (void)waitpid(most, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_cannot_lie),
        cmocka_unit_test(test_what_is_no_line),
        cmocka_unit_test(test_who_does_not_reap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
