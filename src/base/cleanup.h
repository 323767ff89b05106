/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup — scope-bound release for locals: attributes and the two hand-over macros.
 * Thread: any.  Rule of the house: a function uses these or forward gotos, never both. */
#ifndef DAVIT_BASE_CLEANUP_H
#define DAVIT_BASE_CLEANUP_H

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))
#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF(fmt_at, arg_at) __attribute__((format(printf, fmt_at, arg_at)))

/* Hands a pointer over: yields its value and leaves NULL behind, so the cleanup of the local does nothing. */
#define TAKE(p)                    \
    ({                             \
        __typeof__(p) take_ = (p); \
        (p) = NULL;                \
        take_;                     \
    })

/* Hands a descriptor over: yields it and leaves -1 behind. */
#define TAKE_FD(fd)        \
    ({                     \
        int take_ = (fd);  \
        (fd) = -1;         \
        take_;             \
    })

/* The object that embeds @member at @ptr. */
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* Cleanup for `AUTO_FREE char *p = NULL;`. Accepts NULL. */
static inline void cleanup_free(void *pp)
{
    free(*(void **)pp);
}

/* Cleanup for `AUTO_FD int fd = -1;`. Accepts -1. */
static inline void cleanup_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}

#define AUTO_FREE CLEANUP(cleanup_free)
#define AUTO_FD CLEANUP(cleanup_fd)

#endif
