/* SPDX-License-Identifier: Apache-2.0 */
/* work — what the agent does with the containers of its machine: runs commands (deploy, start, stop, restart, remove), watches states,
 * samples usage, reads logs. It knows the messages of the link and nothing of the link itself.
 *
 * It touches only objects that carry the label davit.managed=true, but for those that it is asked for by name; containers that its own server did
 * not make (davit.server) are reported as foreign.
 * Everything it has to say goes through `send`: container states, usage, progress of commands, log batches.
 * Limits: one command at a time per service (others wait in order), WORK_PULLS_MAX pulls at once, WORK_LOGS_MAX log streams, a log batch
 * WORK_BATCH_MAX bytes; a container list WORK_CONTAINERS_MAX.
 * Thread: loop; the calls marked "waits" on a fiber.  Input trust: commands come from the control plane and are checked here once more. */
#ifndef DAVIT_HOST_WORK_WORK_H
#define DAVIT_HOST_WORK_WORK_H

#include "davit/common/v1/service.pb-c.h"
#include "davit/link/v1/link.pb-c.h"
#include "docker/docker.h"
#include "host/link/jobs.h"

enum {
    WORK_PULLS_MAX = 4,
    WORK_LOGS_MAX = 64,
    WORK_BATCH_MAX = 64 * 1024,
    WORK_ENTRIES_MAX = 8192, /* of one log batch */
    WORK_CONTAINERS_MAX = 2000,
    WORK_FOREIGN_MAX = 1000, /* of them, at most, those that Davit did not make */
    WORK_QUEUE_MAX = 1000 /* commands that wait or run */
};
#define WORK_WATCH_MAX (10 * USEC_MINUTE)

struct work;
struct ingress;
struct desired;
struct pool;

struct work_config {
    struct loop *loop;
    struct docker *docker; /* borrowed; outlives the work */
    const char *server_id; /* goes into the label davit.server; copied */
    const char *policy;    /* path of what the owner forbids, see host/link/policy.h; copied. NULL: nothing is forbidden */
    struct ingress *ingress; /* the way in, see host/reach/ingress.h; borrowed, outlives the work. NULL: this agent has none */
    struct desired *desired; /* what shall run, see host/work/desired.h; borrowed likewise. NULL: nobody keeps it */
    bool sandboxes_only;   /* nothing else is done: this agent runs in a container */
    const char *const *places; /* of this machine, that are never mounted: where Davit keeps what is its own; copied */
    size_t n_places;
    uint64_t disk_reserve; /* bytes that stay free of the engine's disk, see admit.h; 0: the default */
    const struct pool *pools; /* for networks, see pools.h; copied. None: POOL_DEFAULT */
    size_t n_pools;
    usec_t usage_interval; /* 0: 10 min */
    /* Takes a message: copies or serialises it during the call, never waits. May drop everything but log batches while the link is
     * down. Called from fibers and from timers, never inside a call that does not wait, but for the CallEnd of a call that work_call_open
     * refuses. */
    void (*send)(void *arg, const Davit__Link__V1__AgentMessage *msg);
    /* Waits until there is room for data of calls, so that it holds up nothing else of the link. 0 or -ERR_CANCELLED (also when the link is down).
     * NULL: there always is. */
    int (*wait_room)(void *arg);
    void *arg;
};

/* Starts watching and sampling in later turns of the loop. Never NULL. Ends with work_stop, then work_free. */
struct work *work_new(const struct work_config *config) MUST_USE;
/* Waits: ends all fibers of the module (commands that run are suspended: work_command returns -ERR_CANCELLED). Nothing is sent afterwards.
 * 0 or -ERR_DEADLINE. */
int work_stop(struct work *w, usec_t deadline) MUST_USE;
/* What of the link's messages is for sandboxes goes to @x from now on (borrowed; NULL: to nobody, then their commands are not known here). */
struct work_extension;
void work_extend(struct work *w, const struct work_extension *x);
/* SandboxCertified, SandboxExchanged or SandboxVerdict. Borrowed. */
void work_sandbox_message(struct work *w, const Davit__Link__V1__ControlMessage *m);

/* After a work_stop that returned 0. Accepts NULL. Returns NULL. */
struct work *work_free(struct work *w);

/* Waits: runs @cmd to its end, with CommandProgress through `send`. Queued behind other commands for the same service.
 * @journal may be NULL (then nothing is resumable). @resume_step: -1 for a fresh command, else the last journaled step of it.
 * 0: *ret is filled (seq, id, failure or outcome ..., finished_us) and released by the caller with work_result_release; a failed command is
 * a result too. -ERR_CANCELLED: the fiber was cancelled or the module stopped; there is no result, the command is resumed later. */
int work_command(struct work *w, const Davit__Link__V1__Command *cmd, const struct job_journal *journal, int resume_step,
                 Davit__Link__V1__CommandResult *ret) MUST_USE;
/* The command's user does not want it any more: one that waits ends at once, one that runs is undone unless it is past its commit; the result is a
 * failure ERR_CANCELLED, "cancelled". A number that is not known here, or with another id: nothing. */
void work_cancel(struct work *w, uint64_t seq, const char *id);
/* Frees the fields that work_command filled, and zeroes them. */
void work_result_release(Davit__Link__V1__CommandResult *r);

/* From now on keeps what is desired running, see heal.h. Call it once what the journal holds was resumed, so that it meets no half-done command; a
 * repeat is harmless. */
void work_heal(struct work *w);

/* Sends the full list of our containers (ContainerStates with full = true) in a later turn: at once when the engine was heard, else as
 * soon as it answers. Call it whenever a link came up. */
void work_containers_full(struct work *w);
unsigned work_containers_running(const struct work *w); /* for Heartbeat */
unsigned work_jobs_running(const struct work *w);       /* commands that run or wait */
/* Why the engine does not answer, "" while it does; for SystemInfo.docker_error. Borrowed until the next turn. */
const char *work_docker_error(const struct work *w);
/* While nobody watches. 0: default; at least 1 s. */
void work_set_usage_interval(struct work *w, usec_t interval);
/* Somebody watches: samples each interval (1 s to 1 min) until @watch->for_ms (at most WORK_WATCH_MAX) are over, the first two at once. */
void work_usage_watch(struct work *w, const Davit__Link__V1__UsageWatch *watch);

/* Log streams. A stream that cannot be opened is answered by LogEnd with a failure; so is the one past WORK_LOGS_MAX. A second open with
 * the id of an open stream replaces it. Credit counts the bytes of the lines as sent (LogEntry.line); it may go below zero by one line.
 * Lines so short that credit says nothing about them are held to WORK_ENTRIES_MAX per batch and one such batch each 100 ms. */
void work_log_open(struct work *w, const Davit__Link__V1__LogOpen *open);
void work_log_credit(struct work *w, const Davit__Link__V1__LogCredit *credit);
/* No more is sent for this stream, not even LogEnd. Unknown ids are fine. */
void work_log_close(struct work *w, const Davit__Link__V1__LogClose *close);
/* The link went down: closes all streams (their ids belong to the connection). */
void work_logs_reset(struct work *w);

/* Calls, see calls.h. Each is answered by one CallEnd, unless it is closed before. Unknown ids are fine. */
void work_call_open(struct work *w, const Davit__Link__V1__CallOpen *open);
void work_call_data(struct work *w, const Davit__Link__V1__CallData *m);
void work_call_credit(struct work *w, const Davit__Link__V1__CallCredit *m);
void work_call_resize(struct work *w, const Davit__Link__V1__CallResize *m);
void work_call_close(struct work *w, const Davit__Link__V1__CallClose *m);
/* The link went down: closes all. */
void work_calls_reset(struct work *w);

#endif
