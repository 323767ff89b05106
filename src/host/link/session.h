/* SPDX-License-Identifier: Apache-2.0 */
/* session — the one stream between this agent and its control plane, and what must survive its loss: commands and their results.
 *
 * A connection: dial, Hello (with an epoch that only grows, kept on disk), Welcome, then heartbeats. A link whose peer is gone is noticed by
 * HTTP/2 pings (20 s of silence + 20 s) or by a heartbeat without an answer (SESSION_ACK_WAIT), in any case within 60 s, and made anew with
 * back-off. Nothing here touches a container when the link goes: commands that run go on.
 * A command is in the journal, on disk, before CommandReceived is sent and before it runs; its result is in the journal before it is sent and
 * stays until ResultAck, and goes again after each reconnect. Commands without a result are resumed when the program starts. Credentials of
 * registries are never on disk: a command that still needs them waits until the control plane sends it again. Commands for one service keep
 * their order in any case: one that waits holds up the later ones for its service, also what came anew after a crash.
 * Another agent with this identity (a copied disk) takes the link over: Fenced. The work is given up then, at the borders of its steps, and the
 * session stays, idle: it tries again in the lane of refusals with the epoch that it has, which takes over from nobody, until the control plane
 * says Welcome because the other side is gone or the server was enrolled anew. What the journal has is resumed after that.
 * Ownership: session_new .. session_free; config's pointers are borrowed and outlive it.  Thread: loop; calls marked "waits" on a fiber.
 * Limits: SESSION_OUT_SOFT bytes or SESSION_ITEMS_SOFT messages wait to be sent, above that progress, usage and container states are dropped
 * (counted; container states are sent whole later); at SESSION_OUT_HARD the link is cut. Data of calls waits at
 * SESSION_OUT_CALLS. SESSION_RUNS_MAX new commands at once, and as many that are resumed.
 * Input trust: the control plane is authenticated; its messages were checked by rpc, its commands are checked by host/work. */
#ifndef DAVIT_HOST_LINK_SESSION_H
#define DAVIT_HOST_LINK_SESSION_H

#include "host/link/agent_config.h"
#include "host/link/journal.h"
#include "host/link/sysinfo.h"
#include "host/work/work.h"
#include "net/tls.h"

enum {
    SESSION_PROTOCOL = 1,
    SESSION_OUT_CALLS = 256 * 1024, /* data of calls waits beyond it, so that a heartbeat never comes behind much of it */
    SESSION_OUT_SOFT = 1024 * 1024,
    SESSION_OUT_HARD = 32 * 1024 * 1024,
    SESSION_ITEMS_SOFT = 1024,
    SESSION_RUNS_MAX = 1000
};
#define SESSION_HEARTBEAT (30 * USEC_SEC)  /* unless Welcome says otherwise */
#define SESSION_ACK_WAIT (15 * USEC_SEC)   /* with the heartbeat before it: 45 s */
#define SESSION_KEEPALIVE (20 * USEC_SEC)
#define SESSION_RECYCLE_MIN (10 * USEC_SEC) /* tunnel mode: a link that lived so long was healthy, whatever the edge did to it */
#define SESSION_DIAL_WAIT (20 * USEC_SEC)

enum session_state {
    SESSION_NEW,
    SESSION_CONNECTING,
    SESSION_ONLINE,
    SESSION_WAITING, /* for the next try */
    SESSION_REFUSED, /* the control plane does not accept this identity; tries go on, slowly */
    SESSION_FENCED,  /* another agent has this identity: idle; tries go on, slowly */
    SESSION_STOPPED,
    SESSION_STATE_COUNT
};

struct session;
struct renew;
struct tunnel;

struct session_config {
    struct loop *loop;
    struct journal *journal;
    struct sysinfo *sysinfo;
    const char *endpoint;    /* "host:port" or "unix:/path"; copied */
    struct tls_ctx *tls;     /* NULL for a unix socket; referenced */
    const char *server_id;   /* what Welcome must say; NULL or "": whatever it says. Copied */
    uint32_t generation;     /* of the certificate */
    struct renew *renew;     /* looks after tls and generation; NULL: nobody does. Borrowed */
    struct tunnel *tunnel;   /* tunnel mode: dials, and looks after the access token; NULL: direct. Borrowed */
    bool was_fenced;         /* it was, when this program ended last */
    /* On the session's fiber, may wait: Welcome named this server. Called for each connection; at the first, or when the id is another one than
     * before, it calls session_set_work. Negative ends the connection. */
    int (*identify)(void *arg, const char *server_id, const char *server_name, struct err *err);
    /* On the session's fiber, may wait: another agent took over this identity, nothing may be done with workloads any more (stop the work, then
     * session_set_work with NULL). Called each time that the control plane says so; identify ends it. */
    void (*fenced)(void *arg, const char *reason);
    /* The control plane wants to know what the doctor says. Never waits. May be NULL. */
    void (*doctor)(void *arg, uint64_t request_id);
    /* The control plane ends by itself, for want of work. Never waits. May be NULL. */
    void (*drained)(void *arg, const char *reason);
    /* On the command's fiber: runs UpdateAgent, contract as work_command. NULL: the work answers that it does not know that. */
    int (*update)(void *arg, const Davit__Link__V1__Command *cmd, const struct job_journal *journal, int resume_step,
                  Davit__Link__V1__CommandResult *ret);
    void *arg;
};

/* Copies what it says. Never NULL. */
struct session *session_new(const struct session_config *config) MUST_USE;
/* Begins to connect in a later turn. 0 or -ERR_EXHAUSTED. */
int session_start(struct session *s) MUST_USE;
/* Waits: the work that runs commands from now on (borrowed until session_stop or the next call); resumes what the journal has. Before the
 * work that was there before is freed, it is stopped and session_join was called. NULL: none. */
int session_set_work(struct session *s, struct work *work, struct err *err) MUST_USE;
/* Waits: closes the link and ends its fiber. Commands go on. Never from a callback of the session. 0 or -ERR_DEADLINE. */
int session_stop(struct session *s, usec_t deadline) MUST_USE;
/* Waits until no command is left (after work_stop, which ends them): their last records are on disk then. 0 or -ERR_DEADLINE. */
int session_join(struct session *s, usec_t deadline) MUST_USE;

/* What may not begin; it stays in the journal and waits. What began goes on. */
enum session_hold {
    SESSION_HOLD_NONE,
    SESSION_HOLD_WORK, /* all but an update of the agent */
    SESSION_HOLD_ALL
};
void session_set_hold(struct session *s, enum session_hold hold);
/* Waits until no command runs but updates. 0, -ERR_DEADLINE, -ERR_CANCELLED. */
int session_drain(struct session *s, usec_t deadline) MUST_USE;
/* Waits: closes the link and ends its fiber, as session_stop, but session_start may be called again. Not from a callback of the session. After a
 * failure only session_stop may be called. */
int session_pause(struct session *s, usec_t deadline) MUST_USE;

/* After session_stop and session_join. Accepts NULL; returns NULL. */
struct session *session_free(struct session *s);

/* What work_config.send points to, with the session as argument. */
void session_send(void *session, const Davit__Link__V1__AgentMessage *msg);
/* Waits, and work_config.wait_room: until less than SESSION_OUT_CALLS waits to be sent. */
int session_wait_room(void *session) MUST_USE;

/* The next dial uses these; @tls is referenced. */
void session_set_credentials(struct session *s, struct tls_ctx *tls, uint32_t generation);
/* What Hello says of the roots that this agent believes from now on: a list in PEM, one that cannot be read is not told about. */
void session_set_roots(struct session *s, struct str pem);
/* Ends the link that is up, if one is, and makes it anew at once, without counting it as lost. @why for the log. */
void session_relink(struct session *s, const char *why);

struct session_status {
    enum session_state state;
    const char *endpoint;     /* borrowed, as all texts here, until the next turn */
    const char *error;        /* of the last failure, "" */
    const char *hint;
    const char *seen_address; /* as the control plane sees us, "" */
    usec_t since;             /* real time of the last change of state */
    usec_t heartbeat;         /* real time of the last one that was answered, 0: none */
    usec_t next_try;          /* real time, 0: none */
    uint64_t connections, dropped;
    unsigned commands;        /* that run or wait */
};
void session_status(const struct session *s, struct session_status *ret);
/* Lower-case name, never NULL. */
const char *session_state_name(enum session_state state);

#endif
