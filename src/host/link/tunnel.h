/* SPDX-License-Identifier: Apache-2.0 */
/* tunnel — an agent's life in tunnel mode: an edge that nobody trusts ends TLS, and inside it the two prove themselves and seal every message.
 * In the agent's directory: client.key (born here, stays), ca.crt (the root that the token named, or what replaced it over a sealed link),
 * access.jwt (the access token, exchanged at 2/3 of its life over the link, or recovered by a signature of the key when it ran out),
 * tunnel-carrier (what worked last: gRPC or WebSocket; tried first for a day, then gRPC has its chance again), and tunnel-generation (of the last
 * token that a link was up with: what a recovery tells, so that an older copy of this disk gets none).
 * The access token opens nothing without the key, so that an edge which reads it has nothing. A control plane that the roots do not vouch for is
 * refused before anything else of ours is sent. See ident/channel.h.
 * Ownership: tunnel_new .. tunnel_free; config is copied.  Thread: loop; calls marked "waits" on a fiber.
 * Input trust: edge and peer, until the channel is open; the control plane afterwards, whose grants are checked all the same. */
#ifndef DAVIT_HOST_LINK_TUNNEL_H
#define DAVIT_HOST_LINK_TUNNEL_H

#include "davit/link/v1/link.davit.h"
#include "host/link/agent_config.h"
#include "host/link/tunnel_edge.h"
#include "ident/channel.h"
#include "loop/fiber.h"

#define TUNNEL_PROBE_WAIT   (5 * USEC_SEC)  /* a way that carries messages both ways has answered by then */
#define TUNNEL_ANSWER_WAIT  (30 * USEC_SEC)
#define TUNNEL_PROBE_AGAIN  USEC_DAY
#define TUNNEL_TOO_SOON     (30 * USEC_SEC) /* a token that ends so soon, or in the last tenth of its life, is not shown any more */
#define TUNNEL_TOKEN_FILE   "access.jwt"
#define TUNNEL_CARRIER_FILE "tunnel-carrier"
#define TUNNEL_GENERATION_FILE "tunnel-generation"

struct tunnel;
struct session;

/* Copies what it needs of @c, which is enrolled with auth_mode tunnel. Never NULL. */
struct tunnel *tunnel_new(struct loop *loop, const struct agent_config *c) MUST_USE;
/* Blocks, at program start: reads key, roots, token. 0; -ERR_NOT_FOUND, -ERR_PRECONDITION with advice. A token out of date is no failure: the first
 * dial recovers one. */
int tunnel_load(struct tunnel *t, struct err *err) MUST_USE;
/* Begins to watch the token, for @s. 0 or -ERR_EXHAUSTED. */
int tunnel_start(struct tunnel *t, struct session *s) MUST_USE;
/* Waits. 0 or -ERR_DEADLINE. */
int tunnel_stop(struct tunnel *t, usec_t deadline) MUST_USE;
/* After tunnel_stop. Accepts NULL; returns NULL. */
struct tunnel *tunnel_free(struct tunnel *t);
uint32_t tunnel_generation(const struct tunnel *t);

/* Can it dial with the token that it has? Else tunnel_connect asks for another one first. */
bool tunnel_lasts(const struct tunnel *t);

/* A link whose both ends have proved themselves. */
struct tunnel_link {
    struct rpc_channel *channel;
    struct rpc_stream *stream;
    struct channel *seal;
};
/* Waits: dials, probes, proves. */
int tunnel_connect(struct tunnel *t, usec_t keepalive, struct tunnel_link *ret, struct err *err) MUST_USE;
/* Waits: does the way lead to our control plane? Nothing is proved of ours, nobody's link is touched. *ret: what carried it. The access token is
 * shown if it is good still; -ERR_UNAUTHENTICATED may come for want of one. For doctor and the trial of an update. */
int tunnel_probe(struct tunnel *t, enum tunnel_carrier *ret, struct err *err) MUST_USE;
/* Waits: as rpc_stream_put and rpc_stream_get with the messages of a link, sealed by @seal; NULL: as they are. -ERR_DATA_LOSS: what came is not
 * what the control plane sent. */
int tunnel_put(struct rpc_stream *s, struct channel *seal, const Davit__Link__V1__AgentMessage *m, usec_t deadline, struct err *err) MUST_USE;
int tunnel_get(struct rpc_stream *s, struct channel *seal, usec_t deadline, ProtobufCMessage **ret, struct err *err) MUST_USE;

/* --- What the session tells ---- */

/* Welcome came; the control plane's clock. */
void tunnel_online(struct tunnel *t, usec_t theirs);
void tunnel_offline(struct tunnel *t);
/* The link was refused for what we are: the next dial asks for another token first. */
void tunnel_refused(struct tunnel *t);
/* Credential, CredentialRefused or CredentialRotate. Borrowed. */
void tunnel_message(struct tunnel *t, const Davit__Link__V1__ControlMessage *m);

struct tunnel_status {
    enum tunnel_carrier carrier; /* of the last link */
    uint32_t generation;
    usec_t issued, expires;      /* of the token, real time */
    const char *error;           /* of the last renewal, "": none; borrowed until the next turn */
};
void tunnel_status(const struct tunnel *t, struct tunnel_status *ret);

struct jwt_claims;
/* How long before its end a token is not shown any more. */
usec_t tunnel_too_soon(const struct jwt_claims *claims);
/* What is granted, held against what we have: is @token for @server_id and @key, of @generation at least? 0 or -ERR_DATA_LOSS. */
int tunnel_check_token(struct str token, const char *server_id, const struct key *key, uint32_t generation, struct jwt_claims *ret,
                       struct err *err) MUST_USE;

/* What a grant is held against. */
struct tunnel_held {
    const char *server_id;
    const struct key *key;
    uint32_t generation; /* of what we have */
    usec_t now;
    bool sealed;         /* it came over a link; else the edge may have written it */
    struct str roots_pem; /* that we have; borrowed */
};
/* What of @c is believed. Of an answer to a recovery that is the access token alone: never the roots, for the edge could be the control plane
 * then; nor is it held against our clock or the generation before, since a token that the edge made up opens nothing, and must not keep out
 * the true one that the next recovery brings. @roots (of at least CERT_PEM_MAX): those that are believed from
 * then on, empty: those that we have stay. 0 or -ERR_DATA_LOSS. */
int tunnel_judge(const struct tunnel_held *h, const Davit__Link__V1__Credential *c, struct jwt_claims *ret, struct buf *roots,
                 struct err *err) MUST_USE;

#endif
