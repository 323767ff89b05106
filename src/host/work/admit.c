/* SPDX-License-Identifier: Apache-2.0 */
/* admit — see admit.h. */
#include "host/work/admit.h"

#include <sys/statvfs.h>

#define GIB (UINT64_C(1) << 30)
#define MIB (UINT64_C(1) << 20)

uint64_t admit_reserve(uint64_t total, uint64_t reserve)
{
    uint64_t r = reserve ? reserve : total / 100 * 3;

    if (!reserve && r < GIB)
        r = GIB;
    if (!reserve && r > 8 * GIB)
        r = 8 * GIB;
    return !reserve && r > total / 4 ? total / 4 : r;
}

enum admit_room admit_judge(uint64_t free_bytes, uint64_t total, uint64_t reserve)
{
    uint64_t r = admit_reserve(total, reserve);

    if (free_bytes < r)
        return ADMIT_SHORT;
    return free_bytes - r < r ? ADMIT_LOW : ADMIT_ROOM;
}

int admit_check(const struct work *w, bool force, struct job *job, const char **ret_reason, struct err *err)
{
    struct docker_info info = {0};
    struct statvfs st;
    int rc = docker_info_get(w->docker, &info, job ? job_deadline(job) : deadline_in(ENGINE_CALL), err);

    if (rc < 0)
        return rc;
    bool seen = *info.root_dir && statvfs(info.root_dir, &st) == 0;
    docker_info_release(&info);
    if (!seen)
        return 0;
    uint64_t free_bytes = (uint64_t)st.f_bavail * st.f_frsize, total = (uint64_t)st.f_blocks * st.f_frsize;
    enum admit_room room = admit_judge(free_bytes, total, w->disk_reserve);
    if (room == ADMIT_ROOM)
        return 0;
    if (room == ADMIT_LOW || force) {
        if (job)
            job_note(job, 0, "only %llu MiB of the disk are free", (unsigned long long)(free_bytes / MIB));
        return 0;
    }
    const unsigned long long mib[] = {free_bytes / MIB, total / MIB, admit_reserve(total, w->disk_reserve) / MIB};
    (void)err_set(err, ERR_PRECONDITION, "the disk of this server is short: %llu MiB of %llu MiB are free, at least %llu MiB shall be", mib[0],
                  mib[1], mib[2]);
    err_hint(err, "davit prune shows what can go");
    *ret_reason = "disk_short";
    return -ERR_PRECONDITION;
}
