/* SPDX-License-Identifier: Apache-2.0 */
/* doctor_remote — the doctor asked for by the control plane. It runs as a process of its own, `davit-agent doctor --json`, which is killed at
 * its deadline: whatever hangs on this machine hangs there, and the agent's loop does not notice.
 * One runs at a time; who asks meanwhile gets the same report, at most DOCTOR_ASKERS_MAX of them, more are passed over.
 * Thread: loop.  Input trust: the requests are a peer's; the report is our own program's and read strictly. */
#ifndef DAVIT_HOST_LINK_DOCTOR_REMOTE_H
#define DAVIT_HOST_LINK_DOCTOR_REMOTE_H

#include "base/str.h"
#include "davit/link/v1/link.pb-c.h"
#include "loop/fiber.h"

enum { DOCTOR_ASKERS_MAX = 8, DOCTOR_OUTPUT_MAX = 64 * 1024, DOCTOR_ROWS_MAX = 64 };
#define DOCTOR_REMOTE_WAIT (25 * USEC_SEC)

struct doctor_remote;

struct doctor_remote_config {
    struct loop *loop;
    const char *program;                         /* NULL: this one */
    const char *config_dir;                      /* as the agent itself has it */
    const char *link, *docker, *tailscale;       /* or NULL */
    void (*send)(void *arg, const Davit__Link__V1__AgentMessage *m); /* never waits */
    void *arg;
};

/* Copies the texts. Never NULL. Ends with doctor_remote_stop, then doctor_remote_free. */
struct doctor_remote *doctor_remote_new(const struct doctor_remote_config *config) MUST_USE;
/* The report goes out by send; where there is none to be had, one check named "doctor" that is a FAIL and says why. */
void doctor_remote_ask(struct doctor_remote *d, uint64_t request_id);
/* Waits: kills what runs. Nothing is sent afterwards. Accepts NULL. 0 or -ERR_DEADLINE. */
int doctor_remote_stop(struct doctor_remote *d, usec_t deadline) MUST_USE;
/* After a stop that returned 0. Accepts NULL; returns NULL. */
struct doctor_remote *doctor_remote_free(struct doctor_remote *d);

/* What `davit-agent doctor --json` printed, as checks appended to @ret (rpc_message_free). Apart for tests. -ERR_INVALID. */
int doctor_remote_parse(struct str json, Davit__Link__V1__DoctorReport *ret, struct err *err) MUST_USE;

#endif
