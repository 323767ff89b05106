/* SPDX-License-Identifier: Apache-2.0 */
/* sandboxes — the sandboxes of all servers, and who of them is registered. What each was asked to be is in the store, sealed; what it is now its
 * agent says (SandboxStates), which is kept too, so that it is shown after a restart and while the agent is away.
 * A registration is a row of sandbox_agents: the SHA-256 of a certificate and a container, each of which stands in one row only. We alone write it,
 * see sandbox_identity.c; it goes with its container.
 * States: made by RunSandbox (`creating` until its command has a result); gone when its agent says so, when CreateSandbox failed and left nothing, or
 * after REMOVE.
 * Limits: SANDBOXES_MAX in all, SANDBOX_PROGRESS_MAX steps that a waiting caller has not taken (the oldest go).
 * Ownership: the registry holds one reference; `gone` tells other holders.  Thread: loop.  Input trust: names from users, reports of agents. */
#ifndef DAVIT_CONTROL_SANDBOXES_H
#define DAVIT_CONTROL_SANDBOXES_H

#include "control/link/commands.h"
#include "davit/common/v1/sandbox.pb-c.h"
#include "davit/control/v1/sandboxes.pb-c.h"

enum { SANDBOXES_MAX = 2000, SANDBOX_PROGRESS_MAX = 128, SANDBOX_LABEL_SIZE = 64, SANDBOX_HASH_SIZE = 65 };

struct sandbox {
    struct list node;
    struct change changed; /* see changes.h */
    struct control *control;
    unsigned refs;
    bool gone;
    bool creating;                       /* its CreateSandbox has no result yet */
    bool tty;
    char id[37], server_id[37];
    char project[SANDBOX_LABEL_SIZE], name[SANDBOX_LABEL_SIZE];
    char container[SANDBOX_HASH_SIZE];   /* whose certificates we sign; "": none yet, or its agent said that it is gone */
    usec_t created;
    Davit__Common__V1__Sandbox *state;   /* as its agent said last; owned, never NULL */
    char thumbprint[SANDBOX_HASH_SIZE];  /* of its registration; "": there is none */
    char previous[SANDBOX_HASH_SIZE];    /* good beside it until one with that was seen; "": no other is */
    usec_t previous_until;               /* real time: no certificate of before the renewal lasts longer */
    usec_t registered, last_seen, last_saved;
};

struct sandboxes {
    struct list all; /* struct sandbox.node, oldest first */
    size_t n;
    struct list waits; /* struct sandbox_wait.node */
};

/* Never NULL; empty. */
struct sandboxes *sandboxes_new(void) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct sandboxes *sandboxes_free(struct sandboxes *b);
/* At start, after commands_load; blocks. */
int sandboxes_load(struct control *c, struct err *err) MUST_USE;

/* One more holder. */
struct sandbox *sandbox_ref(struct sandbox *sb);
/* Accepts NULL. Returns NULL. */
struct sandbox *sandbox_unref(struct sandbox *sb);
/* Borrowed, or NULL. */
struct sandbox *sandboxes_by_id(const struct control *c, const char *id);
/* The one that a user means: by project and name; without a project also by the name alone, by its id or the beginning of that, if nothing else
 * has it.
 * -ERR_NOT_FOUND, -ERR_INVALID (several). Borrowed. */
int sandboxes_find(struct control *c, const Davit__Control__V1__SandboxRef *ref, struct sandbox **ret, struct err *err) MUST_USE;
/* Has server @s one of that name? */
bool sandboxes_has(const struct control *c, const struct server *s, const char *project, const char *name);

/* Adds one that @spec describes, in memory only; creating. -ERR_EXHAUSTED. Borrowed. */
int sandboxes_add(struct control *c, const struct server *s, const Davit__Common__V1__SandboxSpec *spec, struct sandbox **ret,
                  struct err *err) MUST_USE;
/* Takes it out of memory. */
void sandboxes_drop(struct sandbox *sb);
/* Its row, in a unit of work; @sealed is its spec. -ERR_EXISTS. */
struct sandbox_row {
    const struct sandbox *sb;
    struct str sealed;
};
store_fn sandbox_insert;

/* Waits: writes what is said of @sb, and of its registration what changed. */
int sandbox_save(struct sandbox *sb, struct err *err) MUST_USE;
/* Waits: its certificate was seen in a handshake, so the one before is good no more. */
int sandbox_confirm(struct sandbox *sb, struct err *err) MUST_USE;
/* Waits: its registration goes; with @whole all of it. Told in the log. */
int sandbox_evict(struct sandbox *sb, bool whole, const char *why, struct err *err) MUST_USE;

/* @sb as the API shows it; strings are borrowed. */
void sandbox_describe(const struct sandbox *sb, Davit__Common__V1__Sandbox *m);
/* Tells what became of it since @before, as sandbox_describe made it (NULL: it is new); one that is gone is told as such. */
void sandbox_changed(struct sandbox *sb, const Davit__Common__V1__Sandbox *before);
/* Something that is shown of it changed, and is no event. */
void sandbox_touched(struct sandbox *sb);
/* When it was seen last: while there is a session, with its server. */
usec_t sandbox_seen(const struct sandbox *sb);

/* 0, or -ERR_INVALID that names the field. @spec is completed: its image gets its tag, limits that it leaves open are written out. */
int sandbox_spec_check(Davit__Common__V1__SandboxSpec *spec, struct err *err) MUST_USE;

/* Who follows a command of a sandbox. */
struct sandbox_wait {
    struct list node;
    struct command *cmd;
    struct event news;
    struct list steps; /* taken by sandbox_wait_next */
    size_t n;
};
/* @cmd is borrowed until sandbox_wait_end. */
void sandbox_wait_begin(struct control *c, struct sandbox_wait *w, struct command *cmd);
void sandbox_wait_end(struct sandbox_wait *w);
/* Waits: 0 with a step (rpc_message_free), 1: the command is over, negative as event_wait. */
int sandbox_wait_next(struct sandbox_wait *w, usec_t deadline, Davit__Common__V1__StepProgress **ret) MUST_USE;

/* --- for links and commands ---- */

/* Waits: is @m of sandboxes? Then it was done what it asks. */
bool sandboxes_message(struct server *s, const Davit__Link__V1__AgentMessage *m);
/* The link of @s has begun: it is told who is registered, and who has a container and is not. */
void sandboxes_greet(struct server *s);
/* What its sandboxes are to be checked by, if it has any. */
void sandboxes_tell_roots(struct server *s);
/* A step of @cmd. */
void sandboxes_progress(struct control *c, const struct command *cmd, const Davit__Common__V1__StepProgress *p);
/* Waits: @cmd is over. */
void sandboxes_result(struct server *s, const struct command *cmd, const Davit__Link__V1__CommandResult *r);
/* Its waiters look again. */
void sandboxes_done(struct control *c, const struct command *cmd);
/* The server was removed, and its sandboxes with it. */
void sandboxes_server_gone(struct server *s);

/* --- sandbox_identity.c: what is answered, each waits ---- */
void sandbox_certify(struct server *s, const Davit__Link__V1__SandboxCertify *m);
void sandbox_exchange(struct server *s, const Davit__Link__V1__SandboxExchange *m);
void sandbox_register(struct server *s, const Davit__Link__V1__SandboxRegister *m);
/* Tells the agent of @s, if it is connected, what stands in the row of @sb. */
void sandbox_tell(struct server *s, const struct sandbox *sb, uint64_t request_id);

/* Handlers, in files of their own. */
rpc_run sandbox_attach;

#endif
