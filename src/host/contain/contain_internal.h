/* SPDX-License-Identifier: Apache-2.0 */
/* contain_internal — what the files of src/host/contain share: the record of the module, of each sandbox, and questions to the control plane.
 * Not included elsewhere.  Thread: loop. */
#ifndef DAVIT_HOST_CONTAIN_CONTAIN_INTERNAL_H
#define DAVIT_HOST_CONTAIN_CONTAIN_INTERNAL_H

#include "davit/common/v1/sandbox.pb-c.h"
#include "davit/session/v1/session.pb-c.h"
#include "host/contain/contain.h"
#include "host/work/calls.h"
#include "ident/cert.h"
#include "ident/seal.h"
#include "loop/lane.h"
#include "rpc/rpc.h"

#define STATE(x) DAVIT__COMMON__V1__SANDBOX_STATE__SANDBOX_STATE_##x
#define TRUST(x) DAVIT__COMMON__V1__SANDBOX_TRUST__SANDBOX_TRUST_##x

#define LABEL_SANDBOX "davit.sandbox"
#define LABEL_AGENT   "davit.agent"
#define LABEL_RUNTIME "davit.runtime"

/* Of each object of a sandbox. */
#define SANDBOX_LABELS(k, id) \
    {LABEL_MANAGED, "true"}, {LABEL_PURPOSE, "sandbox"}, {LABEL_SANDBOX, (id)}, {LABEL_SERVER, (k)->w->server_id}

#define SANDBOX_RUNTIME_DIR  "/.davit" /* and a random part, see sandbox_create.c */
#define SANDBOX_MATERIAL_DIR "/run/davit"

enum { THUMBPRINT_SIZE = 65, ROOT_PINS_SIZE = CERT_ROOTS_MAX * THUMBPRINT_SIZE, SANDBOX_TEXT_MAX = 2048 };

typedef Davit__Common__V1__SandboxSpec sandbox_spec; /* the generated name is longer than a line */

/* Renewals over the session of a sandbox, as this process did them. Zeroed: none. */
struct renewal {
    usec_t not_before; /* monotonic */
    unsigned failed;   /* in a row */
    char tried[ROOT_PINS_SIZE]; /* the roots of the last one */
};

/* One sandbox, whoever holds a reference. */
struct box {
    struct contain *k;
    unsigned refs;
    bool gone; /* its container is not there any more, nor will it be */
    char *id;
    sandbox_spec *spec; /* without its variables; NULL: nobody knows it any more */

    /* As the engine says: */
    char container[DOCKER_ID_SIZE], ip[64], network[64];
    char kept[DOCKER_ID_SIZE]; /* the container that what is kept on disk is about, as long as .container is empty */
    enum docker_state engine;
    usec_t engine_started;
    bool listed;

    /* As is told: */
    Davit__Common__V1__SandboxState state;
    Davit__Common__V1__SandboxTrust trust;
    const char *reason; /* static */
    char *message;
    char step[64];
    unsigned step_index, step_total;
    int exit_code;
    bool oom_killed, session;
    usec_t created, started, seen;
    usec_t certificate_ends; /* of the one that it showed last, by this process; 0: none */

    /* Its row in the register of the control plane, as the agent heard it last: */
    char thumbprint[THUMBPRINT_SIZE]; /* "": there is none */
    char previous[THUMBPRINT_SIZE];   /* good as well until that was seen; "": no other is */
    usec_t registered;
    usec_t not_after;           /* of the certificate with that thumbprint; 0: not known */
    char roots[ROOT_PINS_SIZE]; /* pins of the roots that its material was made with, with blanks between; "": not known */
    const char *refused; /* static; NULL, or why the control plane does not trust it */

    char live[THUMBPRINT_SIZE]; /* what its session showed */

    bool initialized;   /* the steps of the first start are done, by our own word */
    bool ready;         /* AgentReady was said in this life of its container */
    bool failed;        /* in this life of its container: nothing more is tried */
    bool again;         /* its container is being restarted by the keeper */
    bool cutting;       /* a fiber takes its networks from it */
    unsigned unregistered; /* registrations that failed in a row */
    unsigned relaying, relay_used; /* calls at the relay: that run; a bucket that empties */
    usec_t relay_at;
    struct renewal renewal;
    struct worker *keeper;
    struct rpc_stream *waits;   /* while the keeper does nothing but wait: what it waits for */
    struct event changed; /* pulsed */
};

struct contact;

struct contain {
    struct loop *loop;
    struct work *w;
    struct work_extension extension;
    char *folder, *runtime_dir;
    struct seal *seal; /* NULL: nothing is sealed */
    char *self;  /* or NULL */
    bool joined; /* CONTAIN_NET, of self */
    struct lane *disk;
    struct hmap *boxes; /* id -> struct box */

    bool linked;
    struct event link_up;
    struct list asks;
    uint64_t last_ask;
    unsigned n_asks;

    struct contact *contact;
    char *runtime_volume; /* filled, or NULL */
    bool runtime_busy;
    struct event runtime_done;

    struct rpc_server *relay;
    unsigned relayed; /* handlers that run */
    struct event relay_idle;
    char *relay_at[2]; /* addresses that it listens at */

    bool counting; /* a fiber counts; the next question waits for the next poll */
    uint64_t count_id;
    uint32_t count_known;
    /* See fence.c: of the internal network, as it was found last; why it has none, or NULL. */
    char fence_net[13], fence_gateway[64], *unfenced;
    bool fenced;

    bool watched; /* the engine was asked for all once */
    bool engine_known, engine_other; /* it is the one that what is kept is about; it is not, and that was said */
    bool listens; /* where sandboxes are that were there before */
};

/* --- contain.c ---- */

/* Waits: puts the next number into *id, which is a field of what @m carries, sends @m, and waits for the answer with this number; *ret: a
 * ControlMessage for rpc_message_free. -ERR_UNAVAILABLE while the link is down or when it goes; the failure that the control plane answers. */
int contain_ask(struct contain *k, Davit__Link__V1__AgentMessage *m, uint64_t *id, usec_t deadline, Davit__Link__V1__ControlMessage **ret,
                struct err *err) MUST_USE;
/* Waits until the link is up. */
int contain_wait_link(struct contain *k, usec_t deadline) MUST_USE;
/* Waits: reads or replaces a file of the folder, off the loop; @n 0 with @p NULL removes it. Reading: -ERR_NOT_FOUND. */
int contain_read(struct contain *k, const char *name, struct buf *out, struct err *err) MUST_USE;
int contain_write(struct contain *k, const char *name, const void *p, size_t n, struct err *err) MUST_USE;

/* --- box.c ---- */

/* NULL: none. Borrowed until the next wait, unless it is referenced. */
struct box *box_find(struct contain *k, const char *id);
/* The box of @id, made if it is not there; NULL beyond CONTAIN_MAX. */
struct box *box_get(struct contain *k, const char *id);
struct box *box_ref(struct box *b);
void box_unref(struct box *b);
/* Takes it out of the table. */
void box_drop(struct box *b);
/* Reads what is kept of all sandboxes. Blocks. */
void boxes_load(struct contain *k);
/* Waits: keeps the spec, the row, the mark that it is initialized; forgets all. */
int box_keep_spec(struct box *b, const sandbox_spec *spec, struct err *err) MUST_USE;
int box_keep_row(struct box *b, struct err *err) MUST_USE;
int box_keep_initialized(struct box *b, struct err *err) MUST_USE;
int box_forget(struct box *b, struct err *err) MUST_USE;
/* Changes what is told, and tells it. @reason static; @message copied, cleaned, NULL: none. */
void box_state(struct box *b, Davit__Common__V1__SandboxState state, const char *reason, const char *message);
void box_tell(struct box *b);
/* All of them, as a full list. */
void boxes_tell(struct contain *k);
/* Is a certificate with this thumbprint its own? */
bool box_knows(const struct box *b, const char *thumbprint);
/* The registered certificate, which ends at @not_after, was seen in a handshake: no other is good from now on. */
void box_confirm(struct box *b, usec_t not_after);
/* What a verdict says. Of the refusals only those that say that it is not what it says it is. */
void box_verdict(struct box *b, const Davit__Link__V1__SandboxVerdict *v);
/* Waits: @id is its container from now on. After another one nothing that was known of that holds. */
int box_set_container(struct box *b, const char *id, struct err *err) MUST_USE;
/* Its names: of the container, the material's volume, the workspace's. */
char *box_name(const sandbox_spec *spec) MUST_USE;

/* --- box_watch.c ---- */
void box_watch_start(struct contain *k);
/* In a later turn: counts what runs, and answers. */
void box_count(struct contain *k, const Davit__Link__V1__SandboxCount *m);
/* Waits: looks at the container of @b now. 0, -ERR_NOT_FOUND, ... */
int box_look(struct box *b, struct err *err) MUST_USE;

/* --- contact.c: who this server is for its sandboxes ---- */
/* Blocks. */
int contact_new(struct contain *k, struct contact **ret, struct err *err) MUST_USE;
struct contact *contact_free(struct contact *c);
/* The name, "davit://server/<id>", and the root that vouches for it, PEM. Borrowed. */
const char *contact_uri(const struct contact *c);
struct str contact_root(const struct contact *c);
/* The roots that sandboxes' certificates are checked by; "" as long as none was heard of. */
struct str contact_roots(const struct contact *c);
/* Their pins, as box.roots. Borrowed. */
const char *contact_pins(const struct contact *c);
/* Waits: takes the roots that came with a certificate, and keeps them. */
int contact_set_roots(struct contain *k, const char *pem, struct err *err) MUST_USE;
/* The same of roots that the control plane told without being asked; all sandboxes are looked after. */
void contact_told(struct contain *k, const Davit__Link__V1__SandboxRoots *m);
/* To dial sandbox @id; to listen for all. The caller's reference. */
int contact_dial_tls(struct contact *c, const char *id, struct tls_ctx **ret, struct err *err) MUST_USE;
int contact_listen_tls(struct contact *c, struct tls_ctx **ret, struct err *err) MUST_USE;
/* Now and then: another certificate in time, also for the listeners. */
void contact_refresh(struct contain *k);

/* --- runtime.c ---- */
/* Waits: the volume is there and filled; its name is k->runtime_volume. */
int runtime_provide(struct contain *k, usec_t deadline, struct err *err) MUST_USE;

/* Waits: a container that never starts and has @volume at RUNTIME_HELPER_DIR, for its files. It is the caller's to remove. */
#define RUNTIME_HELPER_DIR "/r"
int runtime_helper(struct contain *k, const char *volume, char ret_id[DOCKER_ID_SIZE], usec_t deadline, struct err *err) MUST_USE;

/* --- material.c ---- */
/* For one that has no row, for one that has a session, for one that has a row and does not run. */
enum material_for { MATERIAL_FIRST, MATERIAL_SESSION, MATERIAL_STOPPED };
/* Waits: a new key, and its certificate by the control plane. Where there is a row, both certificates are in it, on disk, before the sandbox has the
 * new one.
 * MATERIAL_SESSION: *ret is what to send to the session, which writes it, with texts owned by the caller as rpc_message_free frees them; else it is
 * written into the material of the container, and @ret is NULL. */
int material_make(struct box *b, enum material_for what, usec_t deadline, Davit__Session__V1__Renew **ret, struct err *err) MUST_USE;
/* A certificate that ends so soon, or was made with other roots, is to be replaced. */
#define RENEW_BEFORE (20 * USEC_DAY)
bool material_is_due(const struct box *b, usec_t not_after);
/* One may begin: none was done within the hour, or, after one that failed, for a time that grows from a minute; or the roots are others by now. */
#define RENEW_EVERY USEC_HOUR
#define RENEW_AGAIN USEC_MINUTE
bool renewal_may(const struct renewal *r, const char *pins);
void renewal_begins(struct renewal *r, const char *pins);
void renewal_ended(struct renewal *r, bool done);
char *material_volume(const char *id) MUST_USE;
char *workspace_volume(const char *id) MUST_USE;
/* For docker_archive_put: bytes of a str that is used up. */
int source_of_str(void *arg, void *dst, size_t size, size_t *ret_n);

/* --- relay.c ---- */
/* Listens on @gateway (an address of this agent). Again and again: nothing. */
int relay_listen(struct contain *k, const char *gateway, struct err *err) MUST_USE;
/* New credentials for who comes from now on. */
void relay_retls(struct contain *k);
int relay_stop(struct contain *k, usec_t deadline) MUST_USE;

/* --- fence.c: what they reach of this machine ---- */
/* Waits: nothing but the relay, through @gateway of the internal network @network_id. Where that cannot be had it is said once, and nothing fails. */
void fence_raise(struct contain *k, const char *network_id, const char *gateway);
/* Again, where something took it down. */
void fence_keep(struct contain *k);

/* --- place.c ---- */
/* Waits: *ret_at is the address of this agent in the network, which it joins for that where it runs in a container. -ERR_PRECONDITION: the network
 * has not 256 addresses. */
int place_in(struct contain *k, const char *network, const char *subnet, const char *gateway, char ret_at[64], usec_t deadline,
             struct err *err) MUST_USE;
/* Waits: in a container, CONTAIN_NET is there and it is in it; else nothing. */
void place_join(struct contain *k);

/* --- sandbox_create.c ---- */
/* Checks a spec: is it one that can be run? 0 or -ERR_INVALID. */
int sandbox_check(const sandbox_spec *s, struct err *err) MUST_USE;
/* Does the owner of this machine allow it? 0, or negative with *ret_reason, see rights_judge. @s passed sandbox_check. */
int sandbox_judge(const struct contain *k, const sandbox_spec *s, const char **ret_reason, struct err *err) MUST_USE;
const char *sandbox_network_name(const sandbox_spec *s);
/* Waits: the network of @spec is there; *ret_at: the address of this agent in it, *ret_dns: who answers names in it, or "". */
int sandbox_network(struct contain *k, const sandbox_spec *spec, char ret_at[64], char ret_dns[64], usec_t deadline, struct err *err) MUST_USE;
/* Waits: its container is there, with its volumes; one that was is fine. Runtime and network come before. *ret_reason (static) of sandbox_judge,
 * where its workspace leads elsewhere by now. */
int sandbox_make(struct contain *k, const sandbox_spec *s, char ret_id[DOCKER_ID_SIZE], const char **ret_reason, usec_t deadline,
                 struct err *err) MUST_USE;
/* Waits: removes its container and material; @volumes: its other volumes as well. What is not there is fine. */
int sandbox_unmake(struct contain *k, const char *id, bool volumes, usec_t deadline, struct err *err) MUST_USE;

/* --- sandbox_command.c, sandbox_action.c ---- */
int sandbox_command(void *contain, struct command *c);
int sandbox_action(struct contain *k, struct command *c) MUST_USE;
/* The steps of a start: material if it is needed and its network, the start itself (*ret_reason as rights_stays), the wait for its main program. @b
 * as below. */
int sandbox_step_material(struct job *job, struct box *b, struct err *err) MUST_USE;
int sandbox_step_start(struct job *job, struct box *b, const char **ret_reason, struct err *err) MUST_USE;
/* 0 also where it will not run: then *ret_reason (static) and *ret_why say why. */
int sandbox_step_ready(struct job *job, struct box *b, const char **ret_reason, struct err *ret_why, struct err *err) MUST_USE;
/* What is the same at the end of each: 0 or -ERR_CANCELLED. @reason, @why of sandbox_step_ready. */
int sandbox_conclude(struct command *c, struct job *job, const char *reason, const struct err *why, const char *outcome) MUST_USE;

/* --- keeper.c ---- */
/* Sees to it that a running sandbox has a session; harmless where one is seen to. */
void keeper_start(struct box *b);
/* Its certificate is not the registered one: no word to start, no network. */
void keeper_quarantine(struct box *b, const char *reason, const char *message);

/* --- keeper_steps.c ---- */
struct keeper {
    struct box *b;
    struct rpc_channel *channel;
    struct rpc_stream *stream;
    char live[THUMBPRINT_SIZE]; /* of the handshake */
    usec_t not_after;
    unsigned commands;
    bool initialized, running; /* as it says */
    bool over;                 /* its main program has ended, so it says: */
    int exit_code;
    bool oom_killed;
    bool settled;              /* it is who it should be: what it says is passed on */
    char ip[64];               /* dialled */
    bool invalid;              /* its certificate is none of a sandbox of this name */
};
/* Waits: all that is to be done before the main program may start, and the word for it. 0; 1: withheld, b says why; negative: the session broke. */
int keeper_conduct(struct keeper *s, struct err *err) MUST_USE;
/* Waits for the next message and notes what it says about the main program. */
int keeper_get(struct keeper *s, usec_t deadline, Davit__Session__V1__Response **ret, struct err *err) MUST_USE;
int keeper_put(struct keeper *s, Davit__Session__V1__Command *m, const char *id, struct err *err) MUST_USE;
/* What it has said about its main program is true: passes it on. */
void keeper_settled(struct keeper *s);
/* The user of a step, "1000", "1000:1000", "root" or "": 0, -ERR_INVALID. */
int keeper_read_user(const char *user, Davit__Session__V1__PipeStage *stage) MUST_USE;

/* --- attach.c, fill.c: see struct work_extension ---- */
int sandbox_attach(void *contain, struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err);
int sandbox_fill(void *contain, struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err);

#endif
