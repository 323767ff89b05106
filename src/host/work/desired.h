/* SPDX-License-Identifier: Apache-2.0 */
/* desired — what this server shall run, known to the agent itself: per service the deployment that is active, as it was commanded (spec with its
 * environment, sealed on disk like the journal's commands), how many containers, and whether it was stopped. So a missing container, route or secret
 * file is made again while the control plane is away, and after a reboot.
 * It is written in the commit of a job, so that what is active and what is desired never differ for longer than a crash lasts.
 * Ownership: desired_open .. desired_close.  Thread: loop; calls wait on a fiber (or block without a loop).
 * Limits: DESIRED_MAX services, DESIRED_BYTES_MAX each.  Errors: those of store/store.h. */
#ifndef DAVIT_HOST_WORK_DESIRED_H
#define DAVIT_HOST_WORK_DESIRED_H

#include "davit/link/v1/link.pb-c.h"
#include "base/err.h"
#include "loop/loop.h"

enum { DESIRED_MAX = 1000, DESIRED_BYTES_MAX = 1024 * 1024 };

struct desired;

/* One service. */
struct desired_service {
    Davit__Link__V1__Deploy *deploy; /* owned; without credentials for registries */
    uint32_t replicas;               /* at least 1 */
    bool stopped;                    /* its user wants it so */
    char image_digest[80];           /* of the image that the deployment resolved to; "" */
};

/* Opens or makes @path (0600), beside the journal (which was opened before) whose key seals it. Blocks. 0; 1: some of what it holds cannot be read
 * and is passed over. */
int desired_open(struct loop *loop, const char *path, struct desired **ret, struct err *err) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct desired *desired_close(struct desired *d);

/* Waits: binds it to a control plane's name for this server, as the journal. 0: as before (or first); 1: it was another one's and was emptied. */
int desired_set_server(struct desired *d, const char *server_id, struct err *err) MUST_USE;

/* Waits: this is active now; what was before is forgotten. Copies @s, without credentials for registries. -ERR_EXHAUSTED at DESIRED_MAX. */
int desired_put(struct desired *d, const struct desired_service *s, struct err *err) MUST_USE;
/* Waits. 0 also where there is none. */
int desired_drop(struct desired *d, const char *project, const char *service, struct err *err) MUST_USE;

/* Waits: its user stopped or started it. 0, also where there is none. */
int desired_set_stopped(struct desired *d, const char *project, const char *service, bool stopped, struct err *err) MUST_USE;

/* What is desired now, from memory. Borrowed until the next call that waits; NULL: there is none. */
const struct desired_service *desired_get(const struct desired *d, const char *project, const char *service);
size_t desired_count(const struct desired *d);
/* The @i-th of desired_count, in no order. */
const struct desired_service *desired_at(const struct desired *d, size_t i);

#endif
