/* SPDX-License-Identifier: Apache-2.0 */
/* err — how a failure travels: a code, where it began, a message for people, and what to do about it.
 *
 * Convention of the whole tree: functions return `int`; 0 is success, a negative value is fatal for the operation and
 * passed up unchanged (it is always `-(int)enum err_code`), a positive value is an outcome that the module documents.
 * At module edges the last parameter `struct err *err` carries the details; it may be NULL; it is written on failure only.
 * Nothing below the edge of a program logs an error: the edge does, once.
 * Thread: any.  Lifetime: plain value, copy freely, nothing to release. */
#ifndef DAVIT_BASE_ERR_H
#define DAVIT_BASE_ERR_H

#include <stdbool.h>
#include <stdarg.h>

#include "base/cleanup.h"

/* The numbers are those of gRPC status codes (grpc/grpc doc/statuscodes.md), so that no table is needed on that side. */
enum err_code {
    ERR_OK = 0,
    ERR_CANCELLED = 1,
    ERR_UNKNOWN = 2,
    ERR_INVALID = 3,       /* the caller's input is wrong; the message names the field */
    ERR_DEADLINE = 4,
    ERR_NOT_FOUND = 5,
    ERR_EXISTS = 6,
    ERR_DENIED = 7,
    ERR_EXHAUSTED = 8,     /* a limit or quota; also disk full */
    ERR_PRECONDITION = 9,  /* the system is not in the state that this needs */
    ERR_ABORTED = 10,
    ERR_RANGE = 11,
    ERR_UNIMPLEMENTED = 12,
    ERR_INTERNAL = 13,
    ERR_UNAVAILABLE = 14,  /* a peer cannot be reached now; retry with back-off */
    ERR_DATA_LOSS = 15,
    ERR_UNAUTHENTICATED = 16,
    ERR_CODE_MAX
};

enum { ERR_MSG_MAX = 512, ERR_HINT_MAX = 256 };

struct err {
    enum err_code code;
    int sys;                 /* errno of the cause, 0 if none */
    bool retryable;          /* the same call may succeed later without anybody changing anything */
    const char *reason;      /* static: what programs know it by in an ErrorInfo; NULL: the name of the code */
    const char *file;        /* origin; static strings */
    int line;
    char msg[ERR_MSG_MAX];   /* one sentence, no newline, safe to show (no secrets) */
    char hint[ERR_HINT_MAX]; /* what the user can do, or "" */
};

#define ERR_INIT ((struct err){0})

/* The analyzer is told what the convention promises: what these return is negative. */
#ifdef __clang_analyzer__
#define ERR_NEGATIVE(call)           \
    ({                               \
        int negative_ = (call);      \
        if (negative_ >= 0)          \
            __builtin_unreachable(); \
        negative_;                   \
    })
#else
#define ERR_NEGATIVE(call) (call)
#endif

/* Records a failure with its place and returns `-(int)code`. @err may be NULL. UNAVAILABLE and DEADLINE start as retryable. */
#define err_set(err, code, ...) ERR_NEGATIVE(err_set_at((err), (code), __FILE__, __LINE__, __VA_ARGS__))

/* The same for a failed system call: the code is chosen from @errnum and its text is appended after ": ". */
#define err_sys(err, errnum, ...) ERR_NEGATIVE(err_sys_at((err), (errnum), __FILE__, __LINE__, __VA_ARGS__))

/* What the two macros call. */
int err_set_at(struct err *err, enum err_code code, const char *file, int line, const char *fmt, ...) PRINTF(5, 6);
int err_sys_at(struct err *err, int errnum, const char *file, int line, const char *fmt, ...) PRINTF(5, 6);

/* Puts "context: " in front of the message as the error passes through; keeps code and origin. Returns -(int)err->code
 * (or -ERR_UNKNOWN when @err is NULL or empty). */
int err_wrap(struct err *err, const char *fmt, ...) PRINTF(2, 3);

/* Sets the advice shown under the message. Truncates at ERR_HINT_MAX - 1. @err may be NULL. */
void err_hint(struct err *err, const char *fmt, ...) PRINTF(2, 3);

/* Fills @err with "internal error" if a callee returned @rc < 0 without filling it; returns @rc. */
int err_ensure(struct err *err, int rc);

/* Lower-case name as Connect spells it ("not_found"; connectrpc.com protocol, error codes). Never NULL. */
const char *err_code_name(enum err_code code);

/* Inverse of err_code_name. Returns ERR_UNKNOWN for a name that is none. */
enum err_code err_code_from_name(const char *name);

/* HTTP status for a Connect error of this code (same source). */
int err_http_status(enum err_code code);

/* Exit status of a program that ends with this error: 0 ok, 1 failure, 2 usage, and the values of doc/cli.md. */
int err_exit_status(enum err_code code);

/* The code that an errno value stands for (ENOENT -> NOT_FOUND, ENOSPC -> EXHAUSTED, ECONNREFUSED -> UNAVAILABLE ...). */
enum err_code err_code_from_errno(int errnum);

/* A broken invariant of our own: prints the place and aborts. Never for anything that a peer or a user can choose. */
#define BUG_ON(cond)                                     \
    do {                                                 \
        if (__builtin_expect(!!(cond), 0))               \
            err_bug(__FILE__, __LINE__, #cond);          \
    } while (0)

/* Behind BUG_ON. */
_Noreturn void err_bug(const char *file, int line, const char *what);

#endif
