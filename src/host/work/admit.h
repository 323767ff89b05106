/* SPDX-License-Identifier: Apache-2.0 */
/* admit — before anything of a deployment or a sandbox is fetched or made: is there room for it? A disk that runs full takes the services down that
 * run already.
 * Thread: loop; one statvfs of the engine's data root, which blocks. A data root that this machine does not have (an engine elsewhere) is not
 * judged. */
#ifndef DAVIT_HOST_WORK_ADMIT_H
#define DAVIT_HOST_WORK_ADMIT_H

#include "host/work/work_internal.h"

/* How much must stay free of @total bytes: @reserve, or where that is 0 the greater of 1 GiB and 3 %, at most 8 GiB and at most a quarter. Pure. */
uint64_t admit_reserve(uint64_t total, uint64_t reserve);

/* Is there room where @free_bytes of @total are free? LOW: less than twice what must stay free, which is said and no more. Pure. */
enum admit_room { ADMIT_ROOM, ADMIT_LOW, ADMIT_SHORT };
enum admit_room admit_judge(uint64_t free_bytes, uint64_t total, uint64_t reserve);

/* Refuses with *ret_reason disk_short (static) below the reserve, unless the command says @force; below twice the reserve it says so to @job, which
 * may be NULL, and goes on. */
int admit_check(const struct work *w, bool force, struct job *job, const char **ret_reason, struct err *err) MUST_USE;

#endif
