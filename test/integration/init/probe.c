/* SPDX-License-Identifier: Apache-2.0 */
/* probe — main programs for the tests of davit-init.
 *   probe signals        prints the number of every signal that it gets; TERM ends it with status 0
 *   probe stubborn       ignores TERM and INT
 *   probe die SIGNAL     kills itself; 0: ends
 *   probe zombies N      has N dead children that it does not wait for
 *   probe orphan WORD    leaves an orphan behind and ends with status 5; WORD: "obeys" or "stubborn"
 *   probe storm N SIZE   leaves SIZE orphans behind, N times in about 0.1 s each, and tells each time how many of them are zombies 10 ms later
 *   probe eat            takes all memory that it can
 *   probe bomb           forks, as do its children, and obeys no TERM
 * Each says "ready" when it is. */
#include <dirent.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned int number(const char *s)
{
    unsigned int n = 0;

    for (; s != NULL && *s != '\0'; s++)
        n = n * 10 + (unsigned int)(*s - '0');
    return n;
}

static void ready(void)
{
    (void)!write(STDOUT_FILENO, "ready\n", 6);
}

static _Noreturn void wait_for_ever(void)
{
    ready();
    for (;;)
        (void)pause();
}

/* Of all 64, also those that C libraries keep for themselves. */
static int signals(void)
{
    uint64_t all = ~(uint64_t)0;
    siginfo_t si;

    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof(all));
    ready();
    for (;;) {
        long s = syscall(SYS_rt_sigtimedwait, &all, &si, NULL, sizeof(all));
        (void)dprintf(STDOUT_FILENO, "%ld\n", s);
        if (s == SIGTERM)
            return 0;
    }
}

static int left(unsigned int kind)
{
    if (fork() == 0) {
        if (kind)
            (void)signal(SIGTERM, SIG_IGN);
        wait_for_ever();
    }
    (void)usleep(50000);
    return 5;
}

/* Dead children of PID 1. */
static unsigned int zombies_of_init(void)
{
    DIR *d = opendir("/proc");
    struct dirent *e;
    unsigned int n = 0;

    while (d != NULL && (e = readdir(d)) != NULL) {
        char path[300], state = 0;
        int parent = 0;
        (void)snprintf(path, sizeof(path), "/proc/%s/stat", e->d_name);
        FILE *f = e->d_name[0] >= '1' && e->d_name[0] <= '9' ? fopen(path, "r") : NULL;
        if (f == NULL)
            continue;
        if (fscanf(f, "%*d (%*[^)]) %c %d", &state, &parent) == 2 && state == 'Z' && parent == 1)
            n++;
        (void)fclose(f);
    }
    (void)closedir(d);
    return n;
}

/* Each burst comes to init at once, when the parent of it ends. */
static int storm(unsigned int bursts, unsigned int size)
{
    for (unsigned int b = 0; b < bursts; b++) {
        if (fork() == 0) {
            for (unsigned int i = 0; i < size; i++)
                if (fork() == 0)
                    _exit(0);
            _exit(0);
        }
        (void)wait(NULL);
        (void)usleep(10000);
        (void)dprintf(STDOUT_FILENO, "%u\n", zombies_of_init());
        (void)usleep(80000);
    }
    return 0;
}

static _Noreturn void eat(void)
{
    for (;;) {
        char *p = malloc(1 << 20);
        if (p != NULL)
            memset(p, 1, 1 << 20);
    }
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "", *more = argc > 2 ? argv[2] : NULL;

    if (strcmp(what, "signals") == 0)
        return signals();
    if (strcmp(what, "stubborn") == 0) {
        (void)signal(SIGTERM, SIG_IGN);
        (void)signal(SIGINT, SIG_IGN);
        wait_for_ever();
    }
    if (strcmp(what, "die") == 0)
        return kill(getpid(), (int)number(more));
    if (strcmp(what, "zombies") == 0) {
        for (unsigned int i = 0; i < number(more); i++) {
            siginfo_t si;
            pid_t pid = fork();
            if (pid == 0)
                _exit(0);
            (void)waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT);
        }
        wait_for_ever();
    }
    if (strcmp(what, "orphan") == 0)
        return left(more != NULL && more[0] == 's');
    if (strcmp(what, "storm") == 0 && argc > 3)
        return storm(number(more), number(argv[3]));
    if (strcmp(what, "bomb") == 0) {
        (void)signal(SIGTERM, SIG_IGN);
        for (;;)
            (void)fork();
    }
    if (strcmp(what, "eat") == 0)
        eat();
    return 64;
}
