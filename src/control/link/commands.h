/* SPDX-License-Identifier: Apache-2.0 */
/* commands — what a server is told to do: a sequence per server without gaps, on disk before it is sent, sent again after a reconnect
 * until its result is on disk too.
 * In memory are the commands without a result, per server, in order; a waiter holds on to one with commands_wait.
 * Credentials for registries ride along in memory only: those of the request, else the stored ones (registries.h), which are looked up at each
 * sending. A command that was recorded with some of its own and is sent without them (a restart between) says so when it fails.
 * Limits: COMMANDS_MAX without a result per server, COMMAND_BYTES_MAX each (an agent's journal takes 1 MiB, number and id included), its
 * credentials COMMAND_AUTH_MAX: one that could not be sent would hold up all behind it.  Thread: loop, from fibers where it says so. */
#ifndef DAVIT_CONTROL_COMMANDS_H
#define DAVIT_CONTROL_COMMANDS_H

#include "control/servers/servers.h"
#include "davit/link/v1/link.pb-c.h"

enum { COMMANDS_MAX = 256, COMMAND_BYTES_MAX = 1024 * 1024 - 256, COMMAND_AUTH_MAX = 64 * 1024 };

enum command_kind {
    COMMAND_DEPLOY = 1,
    COMMAND_ACTION = 2,
    COMMAND_REMOVE = 3,
    COMMAND_UPDATE = 4,
    COMMAND_SCALE = 5,
    COMMAND_SANDBOX_CREATE = 6,
    COMMAND_SANDBOX_ACTION = 7
};
/* In the store. */
enum command_state { COMMAND_QUEUED = 1, COMMAND_RECEIVED = 2, COMMAND_DONE = 3 };

struct command {
    struct list node; /* server->commands */
    unsigned refs;
    uint64_t seq;
    char id[37];
    enum command_kind kind;
    enum command_state state;
    char *subject;                          /* deployment id, "project/service", rollout or sandbox id */
    bool credentials;                       /* was recorded with credentials */
    Davit__Link__V1__Command *message;      /* without credentials, owned */
    Davit__Common__V1__RegistryAuth *auth;  /* owned, or NULL */
    Davit__Link__V1__CommandResult *result; /* once it is done */
    struct event done;
    bool dropped; /* its server was removed */
    bool cancel;  /* its user does not want it any more; on disk, too */
    bool sent;    /* its agent may have it: it was sent, or nobody remembers */
    bool leaving; /* it is being withdrawn or refused: it is not sent any more */
};

/* One more holder. */
struct command *command_ref(struct command *cmd);
/* Accepts NULL. Returns NULL. */
struct command *command_unref(struct command *cmd);

/* What a new command is made of. @message (a Command without seq and id) and @auth are borrowed and copied. */
struct command_new {
    enum command_kind kind;
    const char *subject;
    Davit__Link__V1__Command *message;
    const Davit__Common__V1__RegistryAuth *auth;
    /* Runs in the same transaction before the command is written; may be NULL. A positive value means that nothing shall be written: it is
     * passed through as the outcome. */
    store_fn *also;
    void *also_arg;
};
/* Waits: records the command with the next number of @s, then sends it when the server is connected. *ret (may be NULL) is a reference.
 * 0; positive outcome of @also; -ERR_EXHAUSTED at COMMANDS_MAX, ... */
int commands_submit(struct server *s, const struct command_new *n, struct command **ret, struct err *err) MUST_USE;
/* Waits for the result. -ERR_DEADLINE; -ERR_ABORTED when the server was removed; else 0 with @cmd->result. */
int commands_wait(struct command *cmd, usec_t deadline, struct err *err) MUST_USE;

/* Waits: the deployment that @cmd commands is given up by its user. One that its agent cannot have is withdrawn: CANCELLED in the transaction that
 * ends the command, and its number is never sent (agents pass over numbers that they do not see). Else the wish is recorded, and CancelCommand goes
 * out now and after each reconnect until there is a result. @by: who, for the record. 0: withdrawn; 1: asked for, commands_wait for it;
 * -ERR_PRECONDITION: the connected agent does not know CancelCommand. */
int commands_cancel(struct server *s, struct command *cmd, const char *by, struct err *err) MUST_USE;
/* Withdraws one that was given up and did not reach its agent; in its own time, then sending goes on. */
void commands_withdraw(struct server *s, struct command *cmd);
/* What @spec asks that agents of before would pass over in silence, or NULL. */
const char *commands_beyond_old(const Davit__Common__V1__ServiceSpec *spec);
/* Is @cmd, which its agent does not have yet, beyond what the connected one knows? Then it fails as "agent_too_old" in its own time, and sending goes
 * on behind it. */
bool commands_refuse_old(struct server *s, struct command *cmd);
/* Sends CancelCommand for @cmd if its agent is there and knows it; 0, or negative when the link takes nothing now. */
int commands_send_cancel(struct server *s, const struct command *cmd) MUST_USE;
/* Borrowed, or NULL: what commands deployment @id. */
struct command *commands_by_deployment(const struct server *s, const char *id);

/* Loads what has no result; blocks, at start, after servers_load. */
int commands_load(struct control *c, struct err *err) MUST_USE;
/* Drops those of a server that goes; waiters get -ERR_ABORTED. */
void commands_release(struct server *s);

/* Drops the deployments of a service that were not received; the caller has ended them in the store. Only while @s is not connected. */
void commands_forget(struct server *s, const char *project, const char *service);

/* Borrowed, or NULL. */
struct command *commands_by_seq(const struct server *s, uint64_t seq);
/* Sends the commands from @from on, as far as numbers follow each other and the link takes them; returns the next number to send. */
uint64_t commands_pump(struct server *s, uint64_t from);
/* The first number to send to an agent that has everything up to @last_received in its journal, and nothing behind it. */
uint64_t commands_resume_at(struct server *s, uint64_t last_received);
/* Waits: the agent's journal is ahead of our numbers (our store is an older copy): go on behind it. */
int commands_skip_to(struct server *s, uint64_t last_received, struct err *err) MUST_USE;

/* Waits: what the agent says about a command, written to the store. An unknown number is an outcome of 1: it was done long ago. */
int commands_received(struct server *s, const Davit__Link__V1__CommandReceived *m, struct err *err) MUST_USE;
int commands_progress(struct server *s, const Davit__Link__V1__CommandProgress *m, struct err *err) MUST_USE;
int commands_result(struct server *s, const Davit__Link__V1__CommandResult *m, struct err *err) MUST_USE;

/* How many commands without a result there are. */
unsigned commands_pending(const struct control *c);

#endif
