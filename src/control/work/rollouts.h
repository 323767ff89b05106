/* SPDX-License-Identifier: Apache-2.0 */
/* rollouts — servers are brought to a release, a few at a time. A step per server: it waits for its turn, gets the command UpdateAgent, and is
 * done when its agent reports the new version; so an agent that says that it updated and does not come back has failed.
 * Every change of a step is on disk before it counts. After a restart of the control plane the newest rollout goes on: what its servers answered
 * meanwhile stands in the result of their commands. The last step of each server is shown with it (Server.update).
 * Ownership: c->rollouts; a rollout is held by references.  Thread: loop, from fibers where it says so.
 * Limits: one rollout runs at a time, ROLLOUTS_KEPT are kept, ROLLOUT_PARALLEL_MAX servers at once. An agent has UPDATE_WAIT for its work and
 * CONFIRM_WAIT to report the new version.  Input trust: requests from users, texts from agents (cut). */
#ifndef DAVIT_CONTROL_ROLLOUTS_H
#define DAVIT_CONTROL_ROLLOUTS_H

#include "control/link/commands.h"
#include "control/servers/releases.h"
#include "control/servers/servers.h"
#include "davit/control/v1/updates.pb-c.h"

enum {
    ROLLOUTS_KEPT = 20,
    ROLLOUT_PARALLEL_MAX = 100,
    ROLLOUT_OFFLINE_WAIT_MAX_S = 7 * 24 * 3600,
    ROLLOUT_REASON_SIZE = 64,
    ROLLOUT_MESSAGE_SIZE = 512
};

/* The numbers are those of the API and of the store. */
enum rollout_state { ROLLOUT_NONE, ROLLOUT_RUNNING, ROLLOUT_DONE, ROLLOUT_FAILED, ROLLOUT_HALTED, ROLLOUT_CANCELLED };
enum step_state { STEP_NONE, STEP_WAITING, STEP_RUNNING, STEP_CONFIRMING, STEP_DONE, STEP_FAILED, STEP_SKIPPED };

struct step {
    char server_id[37], server_name[SERVER_NAME_SIZE];
    enum step_state state;
    char phase[ROLLOUT_REASON_SIZE], reason[ROLLOUT_REASON_SIZE], message[ROLLOUT_MESSAGE_SIZE];
    char from[RELEASE_VERSION_SIZE];
    usec_t since, changed; /* real time: in this state; last change */
    uint64_t change;       /* number of its last change, for watchers */
    struct command *cmd;   /* held while it runs; NULL also when its result came before a restart */
};

struct rollout {
    unsigned refs;
    char id[37], version[RELEASE_VERSION_SIZE], triggered_by[64];
    enum rollout_state state;
    bool halt_on_failure, cancelled;
    uint32_t max_parallel, offline_wait_s;
    usec_t created, finished;
    size_t n_steps;
    struct step *steps;
};

struct rollouts {
    struct control *c;
    struct rollout *current; /* the newest, running or ended; NULL: there was none */
    struct fiber *worker;
    struct event wake;       /* for the worker */
    struct event changed;    /* pulsed for watchers */
    uint64_t changes;
};

/* Never NULL. */
struct rollouts *rollouts_new(struct control *c) MUST_USE;
/* The worker has ended (control_stop). Accepts NULL. Returns NULL. */
struct rollouts *rollouts_free(struct rollouts *rs);
/* Reads the newest rollout and the last update of each server; blocks, at start, after commands_load. */
int rollouts_load(struct rollouts *rs, struct err *err) MUST_USE;
/* Goes on with the rollout that was running. */
int rollouts_resume(struct rollouts *rs, struct err *err) MUST_USE;

/* One more holder. */
struct rollout *rollout_ref(struct rollout *r);
/* Accepts NULL. Returns NULL. */
struct rollout *rollout_unref(struct rollout *r);

/* Waits: records @r (everything but id and created set; the reference is taken over on 0) and begins. -ERR_PRECONDITION: one runs already. */
int rollouts_start(struct rollouts *rs, struct rollout *r, struct err *err) MUST_USE;
/* Waits: no further server is started. 1: it had ended already. */
int rollouts_cancel(struct rollouts *rs, struct rollout *r, struct err *err) MUST_USE;
/* Waits: the rollout @id, "" for the newest. *ret is a reference. -ERR_NOT_FOUND. */
int rollouts_find(struct rollouts *rs, const char *id, struct rollout **ret, struct err *err) MUST_USE;

/* Accepts NULL: the worker comes to its end. */
void rollouts_stopping(struct rollouts *rs);
/* What may concern a step happened: a server came, went or reported, a command ended. Accepts NULL. */
void rollouts_news(struct rollouts *rs);
/* The agent of @s tells where it is with the update that it was commanded. Accepts NULL. */
void rollouts_progress(struct rollouts *rs, const struct server *s, const struct command *cmd, const char *phase);

/* A step as the API shows it; strings are borrowed from both. */
void rollout_step_describe(const struct rollout *r, const struct step *st, Davit__Control__V1__RolloutStep *m);
void rollout_describe(const struct rollout *r, Davit__Control__V1__Rollout *m);

/* --- Between rollouts.c and rollouts_store.c --- */

/* Waits: writes @r with all its steps as the newest; the oldest goes. */
int rollouts_insert(struct control *c, const struct rollout *r, struct err *err) MUST_USE;
/* Waits: writes state, cancelled, finished. */
int rollouts_write(struct control *c, const struct rollout *r, struct err *err) MUST_USE;
/* A unit of work that writes step @st of rollout @id: for commands_submit too. @arg is a struct step_write. */
struct step_write {
    const char *id;
    const struct step *st;
};
store_fn rollouts_write_step_fn;
/* Waits: rollout @id, or the newest with "". 1: there is none. */
int rollouts_read(struct control *c, const char *id, struct rollout **ret, struct err *err) MUST_USE;
/* Waits: the result of a command that ended while nobody waited for it. 1: there is none. *ret: rpc_message_free. */
int rollouts_read_result(struct control *c, const char *server_id, const char *subject, Davit__Link__V1__CommandResult **ret,
                         struct err *err) MUST_USE;
/* Blocking, for the start: the newest rollout into *ret (NULL: none), and Server.update of every server. */
int rollouts_read_all(struct control *c, struct rollout **ret, struct err *err) MUST_USE;
/* Replaces what @s shows as its last update. */
void rollouts_show(struct server *s, const struct rollout *r, const struct step *st);

#endif
