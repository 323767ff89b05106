/* SPDX-License-Identifier: Apache-2.0 */
/* calls — which system calls the fault harness counts, and what a stopped thread is about to do.
 * Thread: any.  Trust: the traced program is ours. */
#ifndef DAVIT_TEST_FAULTS_CALLS_H
#define DAVIT_TEST_FAULTS_CALLS_H

#include <limits.h>
#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What a call does to the world. */
enum call_class {
    CALL_WRITE = 1, /* bytes into a file or a socket */
    CALL_SYNC = 2,  /* fsync, fdatasync */
    CALL_NAME = 4,  /* rename, link, unlink, mkdir, ftruncate */
    CALL_OPEN = 8,  /* openat with O_CREAT */
    CALL_CONNECT = 16,
    CALL_ALL = 31
};

/* Where the call's descriptor is. */
enum call_target { TARGET_NONE, TARGET_FILE, TARGET_SOCKET };

/* Registers of a thread that stands before a system call. */
struct regs {
    int64_t nr;
    uint64_t arg[4];
};

struct call {
    const char *name;
    enum call_class class;
    enum call_target target;
    char path[PATH_MAX]; /* of a file; else "" */
};

/* The words of --call: "write", "sync", "name", "open", "connect", "all". 0 when unknown. */
unsigned call_class_of(const char *word);
/* Fills a seccomp program of at most @max instructions that stops the thread (SECCOMP_RET_TRACE) at every call of the @classes. Returns its
 * length. */
size_t calls_filter(unsigned classes, struct sock_filter *out, size_t max);
/* 0: not one to count (a pipe, a standard stream, openat without O_CREAT). Else *ret is filled. */
bool call_describe(pid_t pid, const struct regs *regs, struct call *ret);

/* --- Registers, per architecture. 0 or -1 with errno. --- */
int regs_get(pid_t tid, struct regs *ret);
/* The call is left out and returns -@error. Only at a stop of SECCOMP_RET_TRACE. */
int regs_skip(pid_t tid, int error);

#endif
