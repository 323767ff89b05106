/* SPDX-License-Identifier: Apache-2.0 */
/* facts — see facts.h. */
#include "init/facts.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "init/say.h"

enum { PARENTS_MAX = 64, ROUNDS_MAX = 16, ENTRIES_SIZE = 4096, TEXT_SIZE = 1024 };

/* As getdents64 writes it; the names follow at a fixed place. */
enum { ENTRY_LENGTH_AT = 16, ENTRY_NAME_AT = 19 };

static char entries[ENTRIES_SIZE];

static bool to_int(struct str s, pid_t *ret)
{
    uint64_t v;

    if (str_to_u64(s, INT32_MAX, &v) < 0)
        return false;
    *ret = (pid_t)v;
    return true;
}

int facts_parse(struct str text, struct facts_process *ret)
{
    const char *open = text.n > 0 ? memchr(text.p, '(', text.n) : NULL;
    const char *shut = text.n > 0 ? memrchr(text.p, ')', text.n) : NULL;
    struct str pid, name, rest;

    if (open == NULL || shut == NULL || shut < open || open == text.p || (size_t)(shut - text.p) + 2 > text.n)
        return -(int)ERR_INVALID;
    pid = (struct str){text.p, (size_t)(open - text.p) - 1};
    name = (struct str){open + 1, (size_t)(shut - open) - 1};
    rest = (struct str){shut + 2, text.n - (size_t)(shut + 2 - text.p)};
    *ret = (struct facts_process){0};
    struct str state = str_cut(&rest, ' ');
    if (state.n != 1 || !to_int(pid, &ret->pid) || !to_int(str_cut(&rest, ' '), &ret->parent) ||
        !to_int(str_cut(&rest, ' '), &ret->group) || !to_int(str_cut(&rest, ' '), &ret->session))
        return -(int)ERR_INVALID;
    ret->state = state.p[0];
    for (size_t i = 0; i < name.n && i < sizeof(ret->name) - 1; i++)
        ret->name[i] = name.p[i] > ' ' && name.p[i] < 0x7f ? name.p[i] : name.p[i] == ' ' ? ' ' : '?';
    return 0;
}

/* Reads a small file of /proc or /sys into @text. */
static ssize_t read_small(int dir, const char *path, char *text, size_t room)
{
    AUTO_FD int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t n;

    if (fd < 0)
        return -1;
    do
        n = read(fd, text, room);
    while (n < 0 && errno == EINTR);
    return n;
}

static bool read_process(int proc, const char *number, struct facts_process *ret)
{
    char path[32], text[TEXT_SIZE];
    size_t n = strnlen(number, 16);
    ssize_t got;

    memcpy(path, number, n);
    memcpy(path + n, "/stat", sizeof("/stat"));
    got = read_small(proc, path, text, sizeof(text));
    return got > 0 && facts_parse((struct str){text, (size_t)got}, ret) == 0;
}

typedef void visit_fn(const struct facts_process *p, void *arg);

/* Visits every process that can be seen. */
static void walk(visit_fn *visit, void *arg)
{
    AUTO_FD int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct facts_process p;
    int seen = 0;
    long n;

    while (proc >= 0 && (n = syscall(SYS_getdents64, proc, entries, sizeof(entries))) > 0)
        for (long at = 0; at + ENTRY_NAME_AT < n && seen < FACTS_WALK_MAX;) {
            const char *name = entries + at + ENTRY_NAME_AT;
            uint16_t length;

            memcpy(&length, entries + at + ENTRY_LENGTH_AT, sizeof(length));
            if (name[0] >= '1' && name[0] <= '9' && read_process(proc, name, &p)) {
                visit(&p, arg);
                seen++;
            }
            at += length;
        }
}

struct parents {
    uint32_t count;
    size_t n;
    pid_t self;
    struct {
        pid_t pid;
        uint32_t count;
    } of[PARENTS_MAX];
};

static void count_zombie(const struct facts_process *p, void *arg)
{
    struct parents *all = arg;
    size_t i = 0;

    if (p->state != 'Z' || p->parent == all->self || p->parent == 0)
        return;
    all->count++;
    while (i < all->n && all->of[i].pid != p->parent)
        i++;
    if (i == PARENTS_MAX)
        return;
    if (i == all->n) {
        all->of[i].pid = p->parent;
        all->n++;
    }
    all->of[i].count++;
}

void facts_zombies(struct wire_zombies *ret)
{
    struct parents all = {.self = getpid()};
    struct facts_process p;
    struct say_digits d;
    size_t most = 0;

    walk(count_zombie, &all);
    ret->count = all.count;
    for (size_t i = 1; i < all.n; i++)
        if (all.of[i].count > all.of[most].count)
            most = i;
    if (all.n == 0)
        return;
    ret->parent = all.of[most].pid;
    ret->of_parent = all.of[most].count;
    AUTO_FD int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (proc >= 0 && read_process(proc, say_number(ret->parent, &d), &p))
        memcpy(ret->name, p.name, sizeof(ret->name));
}

struct target {
    pid_t session, parent;
    int signo;
    int hit;
};

static void kill_member(const struct facts_process *p, void *arg)
{
    struct target *t = arg;

    if (p->session == t->session && p->pid != t->session && p->state != 'Z' && kill(p->pid, t->signo) == 0)
        t->hit++;
}

void facts_kill_session(pid_t session)
{
    struct target t = {.session = session, .signo = SIGKILL};

    /* One that forked while the walk was elsewhere is found by the next. */
    for (int i = 0; i < ROUNDS_MAX; i++) {
        t.hit = 0;
        walk(kill_member, &t);
        if (t.hit == 0)
            return;
    }
}

static void signal_child(const struct facts_process *p, void *arg)
{
    struct target *t = arg;

    if (p->parent == t->parent && p->state != 'Z')
        (void)kill(p->pid, t->signo);
}

void facts_signal_children(int signo)
{
    struct target t = {.parent = getpid(), .signo = signo};

    walk(signal_child, &t);
}

/* The number behind "oom_kill " at the start of a line. */
static bool find_oom_kills(struct str text, uint32_t *ret)
{
    const struct str key = STR("oom_kill ");
    uint64_t v;

    while (text.n > 0) {
        struct str line = str_cut(&text, '\n');
        if (!str_starts(line, key))
            continue;
        if (str_to_u64((struct str){line.p + key.n, line.n - key.n}, UINT32_MAX, &v) < 0)
            return false;
        *ret = (uint32_t)v;
        return true;
    }
    return false;
}

bool facts_oom_kills(uint32_t *ret)
{
    /* cgroup v2 seen from inside its own namespace; v1 as engines mount it. */
    static const char *const files[] = {"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"};
    char text[TEXT_SIZE];

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        ssize_t n = read_small(AT_FDCWD, files[i], text, sizeof(text));
        if (n > 0 && find_oom_kills((struct str){text, (size_t)n}, ret))
            return true;
    }
    return false;
}
