/* SPDX-License-Identifier: Apache-2.0 */
/* A user name, the image's passwd, and its group file, with 0xff between them. Whoever comes out is a user that one may become. */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "init/account.h"

static int file_of(struct str text)
{
    static int fds[2] = {-1, -1};
    static int turn;
    int *fd = &fds[turn ^= 1];

    if (*fd < 0)
        *fd = memfd_create("fuzz", MFD_CLOEXEC);
    BUG_ON(*fd < 0 || ftruncate(*fd, 0) < 0 || pwrite(*fd, text.p, text.n, 0) != (ssize_t)text.n);
    return *fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = {(const char *)data, size};
    struct str spec = str_cut(&rest, '\xff'), passwd = str_cut(&rest, '\xff');
    const char *why = NULL;
    struct account a;
    int rc = account_resolve(spec, file_of(passwd), file_of(rest), &a, &why);

    BUG_ON((rc < 0) != (why != NULL) || rc > 0);
    BUG_ON(a.groups_n > WIRE_GROUPS_MAX || a.home[0] != '/');
    BUG_ON(strnlen(a.name, sizeof(a.name)) == sizeof(a.name) || strnlen(a.home, sizeof(a.home)) == sizeof(a.home));
    BUG_ON(rc == 0 && (a.uid == UINT32_MAX || a.gid == UINT32_MAX));
    return 0;
}
