/* SPDX-License-Identifier: Apache-2.0 */
/* sys — system calls that C libraries wrap too narrowly for PID 1: theirs keep two or three signals for themselves, which `docker kill` may send all
 * the same. All return as the kernel's wrappers do: -1 and errno.
 * Thread: the only one. */
#ifndef DAVIT_INIT_SYS_H
#define DAVIT_INIT_SYS_H

#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SYS_SIGNALS = 64 };

#define SYS_BIT(signo) ((uint64_t)1 << ((signo)-1))

/* The set of blocked signals becomes @mask. */
static inline int sys_set_mask(uint64_t mask)
{
    return (int)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
}

/* A descriptor that reads signals of @mask as struct signalfd_siginfo; close-on-exec, non-blocking. */
static inline int sys_signalfd(uint64_t mask)
{
    enum { NONBLOCK = 04000, CLOEXEC = 02000000 };

    return (int)syscall(SYS_signalfd4, -1, &mask, sizeof(mask), NONBLOCK | CLOEXEC);
}

/* Takes one pending signal of @mask away, if there is one. */
static inline int sys_take_signal(uint64_t mask)
{
    struct {
        int64_t sec, nsec;
    } now = {0, 0};

    return (int)syscall(SYS_rt_sigtimedwait, &mask, NULL, &now, sizeof(mask));
}

/* @signo is ignored or, without @ignore, does what it does by default. @flags: SA_NOCLDSTOP. */
static inline int sys_set_disposition(int signo, int ignore, unsigned long flags)
{
    /* struct sigaction of the kernel; one with a restorer is longer than one without, and zero is right for both. */
    struct {
        void (*handler)(int);
        unsigned long flags;
        unsigned long rest[4];
    } a = {ignore ? SIG_IGN : SIG_DFL, flags, {0}};

    return (int)syscall(SYS_rt_sigaction, signo, &a, NULL, sizeof(uint64_t));
}

/* Closes every descriptor from @first on. */
static inline int sys_close_from(unsigned int first)
{
#ifndef SYS_close_range
    enum { SYS_close_range = 436 };
#endif
    return (int)syscall(SYS_close_range, first, ~0u, 0);
}

#endif
