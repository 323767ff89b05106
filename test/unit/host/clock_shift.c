/* SPDX-License-Identifier: Apache-2.0 */
/* clock_shift — a machine whose clock is wrong: davit-agent or davitd of the tree, linked so that its real clock is moved by the seconds (8 bytes,
 * signed) in the file that DAVIT_TEST_CLOCK names, read anew each time. Only this test program has it; what is shipped does not. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int __real_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts);

int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
    const char *path = getenv("DAVIT_TEST_CLOCK");
    int64_t shift = 0;
    int rc = __real_clock_gettime(id, ts);
    if (rc != 0 || id != CLOCK_REALTIME || !path)
        return rc;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (read(fd, &shift, sizeof(shift)) == (ssize_t)sizeof(shift))
            ts->tv_sec += shift;
        (void)close(fd);
    }
    return rc;
}
