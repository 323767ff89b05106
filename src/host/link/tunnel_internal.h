/* SPDX-License-Identifier: Apache-2.0 */
/* tunnel_internal — what tunnel.c (files, the dial) and tunnel_renew.c (the token over the years) share.  Thread: loop. */
#ifndef DAVIT_HOST_LINK_TUNNEL_INTERNAL_H
#define DAVIT_HOST_LINK_TUNNEL_INTERNAL_H

#include "host/link/floor_time.h"
#include "host/link/tunnel.h"
#include "ident/jwt.h"

struct tunnel {
    struct loop *loop;
    struct agent_config config;
    struct session *session;
    struct fiber *fiber;
    struct event wake, answered;
    struct tunnel_edge *edge;
    struct agent_identity id; /* key and roots */
    struct key *key;
    struct secret *token;
    struct jwt_claims claims; /* of the token */
    uint32_t proven;          /* generation of the last token that a link was up with, as on disk; 0: none yet */
    enum tunnel_carrier carrier;
    usec_t probed;            /* real time: when that was found out */
    bool online, rotate, recover, asking;
    struct floor_time time;
    unsigned failed;
    usec_t retry_at;          /* monotonic */
    ProtobufCMessage *answer; /* a ControlMessage, or NULL */
    struct err err;           /* of the last renewal */
};

/* What is written at once. */
struct tunnel_job {
    const struct agent_config *config;
    struct str token, roots; /* empty: stays */
    const char *carrier;     /* what the file shall say, NULL: stays */
    uint32_t proven;         /* likewise, 0: stays */
    usec_t good;             /* floor time to save, 0: none */
    struct err err;
};
/* Waits: off the loop. */
int tunnel_write(struct tunnel *t, struct tunnel_job *j, struct err *err) MUST_USE;
/* Waits: checks and keeps what was granted. @sealed: it came over a link, so that the control plane itself said it. */
int tunnel_install(struct tunnel *t, const Davit__Link__V1__Credential *c, bool sealed, struct err *err) MUST_USE;

#endif
