/* SPDX-License-Identifier: Apache-2.0 */
/* usage — reads what the kernel says about use, from the texts of /proc and of cgroup files of both layouts (v1, v2, and a hybrid where
 * some controllers are v1).  Pure functions: text in, numbers out; where the files are is usage_cgroup's business, reading them the caller's.
 * What a text does not tell stays as it was.  Input trust: the kernel; anything unexpected is passed over.  Thread: any. */
#ifndef DAVIT_HOST_WORK_USAGE_H
#define DAVIT_HOST_WORK_USAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

enum { USAGE_PATH_MAX = 512 };

/* The controllers we read. */
enum usage_controller { USAGE_CPU, USAGE_MEMORY, USAGE_IO, USAGE_PIDS, USAGE_CONTROLLERS };

/* Where hierarchies are mounted: one per v1 controller, and the v2 tree. "" if not mounted. */
struct usage_mounts {
    char v1[USAGE_CONTROLLERS][USAGE_PATH_MAX];
    char v2[USAGE_PATH_MAX];
};
/* From /proc/self/mountinfo. Bind mounts of a part of a hierarchy are passed over. */
void usage_parse_mountinfo(struct str text, struct usage_mounts *ret);

/* Folders of one process's cgroup, per controller; "" where there is none. `v2[c]` tells which layout the files of c have. */
struct usage_cgroup {
    char dir[USAGE_CONTROLLERS][USAGE_PATH_MAX];
    bool v2[USAGE_CONTROLLERS];
};
/* From /proc/<pid>/cgroup. 0; -ERR_NOT_FOUND when no folder is visible (other cgroup namespace, nothing mounted). */
int usage_parse_cgroup(struct str text, const struct usage_mounts *mounts, struct usage_cgroup *ret) MUST_USE;

struct usage {
    uint64_t cpu_usec;
    uint64_t memory, memory_limit;
    uint64_t read_bytes, write_bytes;
    uint64_t rx_bytes, tx_bytes;
    uint64_t pids;
};
/* cgroup v2 */
void usage_cpu_stat(struct str text, struct usage *u); /* cpu.stat */
void usage_io_stat(struct str text, struct usage *u);  /* io.stat */
/* cgroup v1 */
void usage_blkio(struct str text, struct usage *u); /* blkio.throttle.io_service_bytes[_recursive] */
/* Both: a file of one number, "max" and the v1 number that means no limit give 0. 0 or -ERR_INVALID. */
int usage_number(struct str text, uint64_t *ret) MUST_USE;
/* memory.stat: the file cache that can go at once; @v2 chooses inactive_file over total_inactive_file. */
uint64_t usage_inactive_file(struct str text, bool v2);

/* /proc/net/dev or /proc/<pid>/net/dev: sums of all devices but lo; @host also leaves out bridges, veth, tunnels and other devices whose bytes pass
 * through a second one. */
void usage_net_dev(struct str text, bool host, struct usage *u);
/* /proc/stat: time in use of all CPUs. @hz: clock ticks per second. */
void usage_proc_stat(struct str text, uint64_t hz, struct usage *u);
/* /proc/meminfo: total as limit; total without available as use. */
void usage_meminfo(struct str text, struct usage *u);
/* /proc/diskstats: whole disks only. */
void usage_diskstats(struct str text, struct usage *u);

/* Thousandths of a core between two readings of cpu_usec, 0 if time or counter did not move forward. */
uint32_t usage_cpu_milli(uint64_t cpu_before, uint64_t cpu_now, uint64_t elapsed_usec);

#endif
