/* SPDX-License-Identifier: Apache-2.0 */
/* session_internal — what the files of the session share: session.c (connections), session_live.c (one connection that is up),
 * session_command.c (commands).  Not included elsewhere.  Thread: loop. */
#ifndef DAVIT_HOST_LINK_SESSION_INTERNAL_H
#define DAVIT_HOST_LINK_SESSION_INTERNAL_H

#include "davit/link/v1/link.davit.h"
#include "host/link/reconnect.h"
#include "host/link/renew.h"
#include "host/link/tunnel.h"
#include "host/link/session.h"
#include "ident/cert.h"
#include "rpc/rpc.h"

struct live;

struct session {
    struct loop *loop;
    struct journal *journal;
    struct sysinfo *sysinfo;
    struct tls_ctx *tls;
    char *endpoint, *server_id;
    uint32_t generation;
    struct cert_roots roots; /* that are believed */
    struct renew *renew;
    struct tunnel *tunnel;
    bool is_fenced;           /* since the last Welcome, if there was one */
    int (*identify)(void *arg, const char *server_id, const char *server_name, struct err *err);
    void (*fenced)(void *arg, const char *reason);
    void (*doctor)(void *arg, uint64_t request_id);
    void (*drained)(void *arg, const char *reason);
    int (*update)(void *arg, const Davit__Link__V1__Command *cmd, const struct job_journal *journal, int resume_step,
                  Davit__Link__V1__CommandResult *ret);
    void *arg;

    struct work *work;
    struct fiber *fiber;      /* is never cancelled: it waits for the others, which are */
    struct fiber *connector;  /* while it connects */
    bool stopping;
    struct event stop;
    char instance_id[37];
    struct live *live;        /* the connection that is up, after its Welcome */
    struct reconnect backoff;

    enum session_state state;
    usec_t since, heartbeat, next_try, keepalive;
    bool recycled;            /* an edge cut a healthy link: the next try follows at once, and nobody need know */
    struct err last;
    char seen_address[64];
    uint64_t connections, dropped;
    uint64_t sent_hash;       /* of the system information that went out last */

    struct list runs;         /* struct run.node */
    unsigned n_runs;
    uint64_t ended;           /* runs that came to an end so far */
    struct event run_ended;
    struct event order;       /* pulsed when a command went to the work, or the resumer is through */
    enum session_hold hold;   /* which commands may not begin now */
    struct timer start_retry; /* for commands that got no fiber */
    struct fiber *resumer;    /* starts what the journal has, up to this number: */
    uint64_t resume_last;
    bool resuming;
    struct list cancels;      /* struct cancel: what came for commands that the resumer has not come to yet */
    unsigned n_cancels;
};

/* A message that waits to be sent. */
struct out {
    struct list node;
    ProtobufCMessage *message;
    size_t size;
};

/* One connection, on the stack of the session's fiber. */
struct live {
    struct session *session;
    struct rpc_channel *channel;
    struct rpc_stream *stream;
    struct channel *seal;     /* tunnel mode: what seals the messages */
    struct list out;
    size_t out_bytes;
    unsigned out_items;
    struct event out_ready, out_room;
    struct event out_low;     /* pulsed while less than SESSION_OUT_CALLS waits */
    bool states_lost;         /* container states were dropped: all are sent again when there is room */
    usec_t up;                /* monotonic, when Welcome came */
    usec_t interval, spread;
    uint64_t beats;
    usec_t unanswered;        /* monotonic: the first heartbeat without an answer, 0: none */
    struct event ended;
    bool fenced;
    bool told;                /* the control plane itself said that it ends */
    bool relink;              /* the next one follows at once */
    struct err why;           /* the end */
};

/* --- session_live.c ---- */

/* Waits: from Welcome to the end of the connection, which is then in l->why. All fibers of it have ended then. */
void live_run(struct live *l);
/* The connection is over; the first reason stays. @why is copied. */
void live_end(struct live *l, const struct err *why);
/* Queues a copy if there is a connection. Progress and the like may be dropped. */
void session_enqueue(struct session *s, const Davit__Link__V1__AgentMessage *m);
/* Frees what waits. */
void live_release(struct live *l);

/* --- session_command.c ---- */

/* Waits, on the reader: a command came; journals it. -ERR_CANCELLED only. */
int command_arrived(struct live *l, const Davit__Link__V1__Command *cmd);
/* A command is not wanted any more. Never waits. */
void command_cancel(struct session *s, const Davit__Link__V1__CancelCommand *m);
/* The same, for a command that is in the journal and that the resumer will come to. */
void cancel_keep(struct session *s, const Davit__Link__V1__CancelCommand *m);
/* Was it kept for @cmd? It is forgotten with that. */
bool cancel_take(struct session *s, const Davit__Link__V1__Command *cmd);
void cancels_drop(struct session *s);
/* Waits: the control plane has the result. */
int command_acked(struct live *l, uint64_t seq);
/* Which service a command is for; of a sandbox, whose project is empty, its id. False: none that this agent knows. */
bool command_address(const Davit__Link__V1__Command *m, struct str *project, struct str *service);
/* Has it those of a registry? They are not on disk. The wire form without them, appended to @out. */
bool command_has_credentials(const Davit__Link__V1__Command *cmd);
int command_pack(const Davit__Link__V1__Command *cmd, struct buf *out) MUST_USE;
/* Timer: starts the commands that got no fiber when they came. @arg the session. */
void commands_start_waiting(void *arg);
/* Waits: sends all results that are not acknowledged. */
void commands_resend(struct live *l);

#endif
