/* SPDX-License-Identifier: Apache-2.0 */
/* calls — see calls.h. */
#include "calls.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <unistd.h>

#include "base/str.h"

#ifdef __x86_64__
#    define ARCH AUDIT_ARCH_X86_64
#else
#    define ARCH AUDIT_ARCH_AARCH64
#endif

/* How a call names its object: by a descriptor, by a path, or by a path below a descriptor before it. */
enum how { BY_FD, BY_PATH, BY_PATH_AT };

struct known {
    long nr;
    const char *name;
    enum call_class class;
    enum how how;
};

static const struct known known[] = {
    {SYS_write, "write", CALL_WRITE, BY_FD},
    {SYS_pwrite64, "pwrite64", CALL_WRITE, BY_FD},
    {SYS_writev, "writev", CALL_WRITE, BY_FD},
    {SYS_pwritev, "pwritev", CALL_WRITE, BY_FD},
    {SYS_pwritev2, "pwritev2", CALL_WRITE, BY_FD},
    {SYS_sendto, "sendto", CALL_WRITE, BY_FD},
    {SYS_sendmsg, "sendmsg", CALL_WRITE, BY_FD},
    {SYS_fsync, "fsync", CALL_SYNC, BY_FD},
    {SYS_fdatasync, "fdatasync", CALL_SYNC, BY_FD},
    {SYS_ftruncate, "ftruncate", CALL_NAME, BY_FD},
    {SYS_renameat, "renameat", CALL_NAME, BY_PATH_AT},
    {SYS_renameat2, "renameat2", CALL_NAME, BY_PATH_AT},
    {SYS_unlinkat, "unlinkat", CALL_NAME, BY_PATH_AT},
    {SYS_linkat, "linkat", CALL_NAME, BY_PATH_AT},
    {SYS_mkdirat, "mkdirat", CALL_NAME, BY_PATH_AT},
#ifdef SYS_rename
    {SYS_rename, "rename", CALL_NAME, BY_PATH},
    {SYS_unlink, "unlink", CALL_NAME, BY_PATH},
    {SYS_link, "link", CALL_NAME, BY_PATH},
    {SYS_mkdir, "mkdir", CALL_NAME, BY_PATH},
    {SYS_open, "open", CALL_OPEN, BY_PATH},
#endif
    {SYS_openat, "openat", CALL_OPEN, BY_PATH_AT},
    {SYS_connect, "connect", CALL_CONNECT, BY_FD},
};

unsigned call_class_of(const char *word)
{
    static const struct {
        const char *word;
        unsigned class;
    } words[] = {{"write", CALL_WRITE}, {"sync", CALL_SYNC},       {"name", CALL_NAME},
                 {"open", CALL_OPEN},   {"connect", CALL_CONNECT}, {"all", CALL_ALL}};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(words[i].word, word) == 0)
            return words[i].class;
    return 0;
}

size_t calls_filter(unsigned classes, struct sock_filter *out, size_t max)
{
    size_t n = 0;

    if (max < 2 * sizeof(known) / sizeof(known[0]) + 5)
        return 0;
    out[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    out[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
    out[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    out[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (!(known[i].class & classes))
            continue;
        out[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)known[i].nr, 0, 1);
        out[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    }
    out[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    return n;
}

/* What a descriptor of the traced program is. */
static enum call_target look_at_fd(pid_t pid, int fd, char path[PATH_MAX])
{
    char link[64];

    (void)snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)pid, fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    path[n > 0 ? n : 0] = '\0';
    if (str_starts(str_from(path), STR("socket:"))) {
        path[0] = '\0';
        return TARGET_SOCKET;
    }
    return path[0] == '/' && !str_starts(str_from(path), STR("/dev/")) ? TARGET_FILE : TARGET_NONE;
}

/* Page by page: what lies behind the end of the text may not be mapped. */
static void read_text(pid_t pid, uint64_t at, char out[PATH_MAX])
{
    size_t n = 0;

    while (n < PATH_MAX - 1) {
        size_t piece = 4096 - (at + n) % 4096;
        piece = piece < PATH_MAX - 1 - n ? piece : PATH_MAX - 1 - n;
        struct iovec to = {out + n, piece}, from = {(void *)(uintptr_t)(at + n), piece};
        ssize_t got = process_vm_readv(pid, &to, 1, &from, 1, 0);
        if (got <= 0)
            break;
        if (memchr(out + n, '\0', (size_t)got))
            return;
        n += (size_t)got;
    }
    out[n] = '\0';
}

static void look_at_path(pid_t pid, uint64_t at, int dir, struct call *ret)
{
    char text[PATH_MAX], base[PATH_MAX], link[64];

    read_text(pid, at, text);
    if (text[0] == '/') {
        (void)str_copy(ret->path, sizeof(ret->path), str_from(text));
        return;
    }
    if (dir == AT_FDCWD)
        (void)snprintf(link, sizeof(link), "/proc/%d/cwd", (int)pid);
    else
        (void)snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)pid, dir);
    ssize_t n = readlink(link, base, sizeof(base) - 1);
    base[n > 0 ? n : 0] = '\0';
    AUTO_FREE char *whole = str_printf("%s/%s", base, text);
    (void)str_copy(ret->path, sizeof(ret->path), str_from(whole));
}

bool call_describe(pid_t pid, const struct regs *regs, struct call *ret)
{
    const struct known *k = NULL;

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (known[i].nr == regs->nr)
            k = &known[i];
    if (!k)
        return false;
    *ret = (struct call){.name = k->name, .class = k->class, .target = TARGET_FILE};
    if (k->how == BY_FD) {
        if (regs->arg[0] <= 2)
            return false;
        ret->target = look_at_fd(pid, (int)regs->arg[0], ret->path);
    } else if (k->how == BY_PATH) {
        if (k->class == CALL_OPEN && !(regs->arg[1] & O_CREAT))
            return false;
        look_at_path(pid, regs->arg[0], AT_FDCWD, ret);
    } else {
        if (k->class == CALL_OPEN && !(regs->arg[2] & O_CREAT))
            return false;
        look_at_path(pid, regs->arg[1], (int)regs->arg[0], ret);
    }
    return ret->target != TARGET_NONE;
}

/* --- Registers ------------------------------------------------------------------------------------------------------------------ */

#ifdef __x86_64__
int regs_get(pid_t tid, struct regs *ret)
{
    struct user_regs_struct r;

    if (ptrace(PTRACE_GETREGS, tid, NULL, &r) != 0)
        return -1;
    *ret = (struct regs){.nr = (int64_t)r.orig_rax, .arg = {r.rdi, r.rsi, r.rdx, r.r10}};
    return 0;
}

int regs_skip(pid_t tid, int error)
{
    struct user_regs_struct r;

    if (ptrace(PTRACE_GETREGS, tid, NULL, &r) != 0)
        return -1;
    r.orig_rax = UINT64_MAX;
    r.rax = (unsigned long long)-(long long)error;
    return ptrace(PTRACE_SETREGS, tid, NULL, &r) == 0 ? 0 : -1;
}
#else
int regs_get(pid_t tid, struct regs *ret)
{
    struct user_regs_struct r;
    struct iovec v = {&r, sizeof(r)};

    if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &v) != 0)
        return -1;
    *ret = (struct regs){.nr = (int64_t)r.regs[8], .arg = {r.regs[0], r.regs[1], r.regs[2], r.regs[3]}};
    return 0;
}

int regs_skip(pid_t tid, int error)
{
    struct user_regs_struct r;
    struct iovec v = {&r, sizeof(r)};
    int none = -1;
    struct iovec nr = {&none, sizeof(none)};

    if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &v) != 0)
        return -1;
    r.regs[0] = (unsigned long long)-(long long)error;
    if (ptrace(PTRACE_SETREGSET, tid, (void *)NT_PRSTATUS, &v) != 0)
        return -1;
    return ptrace(PTRACE_SETREGSET, tid, (void *)NT_ARM_SYSTEM_CALL, &nr) == 0 ? 0 : -1;
}
#endif
