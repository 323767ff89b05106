/* SPDX-License-Identifier: Apache-2.0 */
/* say — see say.h. */
#include "init/say.h"

#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PARTS_MAX = 12 };

static struct iovec part(const char *s)
{
    return (struct iovec){.iov_base = (void *)(uintptr_t)s, .iov_len = strlen(s)};
}

void say_parts(const char *const *parts)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    struct iovec v[PARTS_MAX + 2];
    int n = 0;

    v[n++] = part("davit-init: ");
    for (int i = 0; parts[i] != NULL && i < PARTS_MAX; i++)
        v[n++] = part(parts[i]);
    v[n++] = part("\n");
    /* The descriptor belongs to the container's log and to its program: making it non-blocking would be felt there. A line is shorter than the 4096
     * bytes of room that a pipe has when it says that it can be written. */
    if (poll(&out, 1, 0) == 1 && (out.revents & POLLOUT))
        (void)!writev(STDERR_FILENO, v, n);
}

const char *say_number(long long v, struct say_digits *d)
{
    unsigned long long u = v < 0 ? 0 - (unsigned long long)v : (unsigned long long)v;
    char *p = d->text + sizeof(d->text);

    *--p = '\0';
    do
        *--p = (char)('0' + u % 10);
    while ((u /= 10) > 0);
    if (v < 0)
        *--p = '-';
    return p;
}
