/* SPDX-License-Identifier: Apache-2.0 */
/* links_internal — the record of one link, shared by links.c (stream, queue, sending), links_hello.c (who it is, fencing) and tunnel.c (what comes
 * through an edge).
 * Not included elsewhere.  Thread: loop. */
#ifndef DAVIT_CONTROL_LINKS_INTERNAL_H
#define DAVIT_CONTROL_LINKS_INTERNAL_H

#include "control/servers/credentials.h"
#include "control/link/link_calls.h"
#include "control/link/links.h"

enum link_state { LINK_WAIT_HELLO, LINK_GREETING, LINK_LIVE, LINK_ENDED };

struct tunnel;

struct link {
    struct control *control;
    struct rpc_call *call; /* NULL once it is closed */
    unsigned refs;         /* the call's and the worker's */
    enum link_state state;
    bool unix_peer;
    struct tunnel *tunnel; /* NULL in direct mode */
    char id[37];     /* of the server by its certificate, or "" */
    char serial[48]; /* of the certificate */
    char seen[ADDRESS_SIZE];
    struct server *server; /* a reference, from the Hello on */
    struct credential_row credential; /* its certificate */
    char instance[40], hostname[SERVER_NAME_SIZE]; /* as the agent says */
    uint64_t epoch;
    uint64_t next_seq;
    uint64_t bytes; /* on the wire, both ways, as counted last */
    bool revoked;    /* its certificate is not one that holds */
    bool superseded; /* ... because a later one is in use */
    bool takes_calls; /* its agent knows CallOpen, CancelCommand and ScaleService */
    bool takes_sandboxes, counts_sandboxes;
    bool doubted;    /* another agent of this identity was turned away: a word from this one shows that both live */
    bool blocked; /* the peer is slow: commands wait for the drain */

    struct timer hello;
    struct list queue; /* struct item.node */
    unsigned queued;
    bool working;

    struct list logs; /* struct log_stream.node */
    unsigned n_logs;
    uint64_t next_log;

    struct list calls;      /* of link_calls.c */
    unsigned n_calls;
    uint64_t next_call;

    struct list doctors; /* callers of doctor_rpc.c */
    unsigned n_doctors;
    uint64_t next_doctor;
};

/* doctor_rpc.c: a report came; the link has ended. */
void link_doctor_report(struct link *l, const Davit__Link__V1__DoctorReport *m);
void link_doctors_lost(struct link *l);

/* Ends the call with a failure and lets go of log streams. The link stays until the call says closed. */
void link_end(struct link *l, enum err_code code, const char *message, const char *hint);
/* Waits, on the worker: handles the first message; afterwards the link is live or ended. */
void link_greet(struct link *l, const Davit__Link__V1__Hello *hello);
/* Waits, on the worker: the agent asks for new credentials. */
void link_renew(struct link *l, const Davit__Link__V1__CredentialRequest *m);
/* Waits, on the worker: ends a link that began with a heartbeat (`davit-agent doctor`): with what is wrong with its certificate, or, where a
 * Hello would have been heard, with -ERR_INVALID. Changes nothing. */
void link_refuse_probe(struct link *l);

/* Refuses @l, which is told in the audit log; from then on it is ended. */
void link_refuse(struct link *l, const struct err *why);

/* What tunnel.c needs of links.c: a link for @call, not yet known whose; a message as if it had come in direct mode; one for the worker; bytes of
 * the connection since the last time; the rest of the handler. */
int link_make(struct rpc_call *call, struct control *c, struct link **ret, struct err *err) MUST_USE;
void link_take(struct link *l, const Davit__Link__V1__AgentMessage *m);
void link_enqueue(struct link *l, const Davit__Link__V1__AgentMessage *m);
void link_count(struct link *l);
void link_half_close(void *state);
void link_drain(void *state);
void link_closed(void *state, const struct err *reason);

/* And links.c of tunnel.c. Accepts NULL. Returns NULL. */
struct tunnel *tunnel_free(struct tunnel *t);
/* The link has ended: nothing more happens by itself. Accepts NULL. */
void tunnel_stop(struct tunnel *t);
/* Is @m one of the handshake, or a box? */
bool tunnel_concerns(const Davit__Link__V1__AgentMessage *m);
/* Waits, on the worker: such a message. */
void tunnel_work(struct link *l, const Davit__Link__V1__AgentMessage *m);
/* As links_send, in a box. */
int tunnel_send(struct link *l, const Davit__Link__V1__ControlMessage *m) MUST_USE;

#endif
