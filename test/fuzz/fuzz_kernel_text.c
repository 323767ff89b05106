/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel tells of use, by each of its readers: names of devices, mounts and cgroups in it are those of containers. The first byte
 * chooses. */
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "host/work/usage.h"

static void folders(struct str text)
{
    AUTO_FREE struct usage_mounts *mounts = NEW(struct usage_mounts);
    AUTO_FREE struct usage_cgroup *group = NEW(struct usage_cgroup);
    struct str mountinfo = str_cut(&text, '\0');
    usage_parse_mountinfo(mountinfo, mounts);
    BUG_ON(strlen(mounts->v2) >= USAGE_PATH_MAX);
    if (usage_parse_cgroup(text, mounts, group) < 0)
        return;
    for (size_t i = 0; i < USAGE_CONTROLLERS; i++)
        BUG_ON(strlen(group->dir[i]) >= USAGE_PATH_MAX || (*group->dir[i] && !*mounts->v2 && !*mounts->v1[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct usage u = {0};
    uint64_t n;
    if (size == 0)
        return 0;
    struct str text = {(const char *)data + 1, size - 1};
    switch (data[0] % 11) {
    case 0: folders(text); break;
    case 1: usage_cpu_stat(text, &u); break;
    case 2: usage_io_stat(text, &u); break;
    case 3: usage_blkio(text, &u); break;
    case 4: (void)usage_number(text, &n); break;
    case 5: (void)usage_inactive_file(text, true); break;
    case 6: (void)usage_inactive_file(text, false); break;
    case 7: usage_net_dev(text, data[0] & 1, &u); break;
    case 8: usage_proc_stat(text, 100, &u); break;
    case 9: usage_meminfo(text, &u); break;
    default: usage_diskstats(text, &u); break;
    }
    return 0;
}
