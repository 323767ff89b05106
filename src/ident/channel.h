/* SPDX-License-Identifier: Apache-2.0 */
/* channel — the channel of tunnel mode, between an agent and its control plane, inside an edge that nobody trusts: both prove who they are, agree on
 * keys, and seal every message from then on. What the edge can still do is to drop, to delay and to end.
 *   agent   -> TunnelHello{server_id, ephemeral A, nonce a}
 *   control -> TunnelChallenge{ephemeral C, nonce c, chain, signature S by the leaf's key of
 *                D1 = proof_digest("tunnel-control", a, c, [server_id, A, C, chain])}
 *   agent   -> TunnelProof{signature P by the host key of
 *                D2 = proof_digest("tunnel-agent", a, c, [server_id, A, C, chain, S, SHA-256(access token)])}
 *   key of a direction = HKDF-SHA256(salt D2, secret ECDH(A, C) (x, 32 bytes), info "davit tunnel 1 agent" or "davit tunnel 1 control", 32 bytes)
 *   box = AES-256-GCM(key, nonce 00 00 00 00 | counter, 8 bytes big-endian, from 0, associated data "agent" or "control"): ciphertext | tag, 16 bytes
 * The word names who sends. The counter does not travel: a box that is late, repeated, left out or of the other direction does not open, and
 * one that does not open ends the channel. Signatures as in proof.h; ephemerals are fresh P-256 points, uncompressed. doc/tunnel.md has it all.
 * Ownership: sole owner, channel_free wipes.  Thread: any, one at a time.  Input trust: peer and edge.
 * Errors: -ERR_UNAUTHENTICATED for whatever the other side or the edge did wrong; after a failure every call fails.
 * Limits: CHANNEL_PLAIN_MAX bytes in a box. */
#ifndef DAVIT_IDENT_CHANNEL_H
#define DAVIT_IDENT_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"
#include "ident/key.h"
#include "ident/proof.h"

enum { CHANNEL_POINT_SIZE = 65, CHANNEL_TAG_SIZE = 16, CHANNEL_PLAIN_MAX = 4 * 1024 * 1024 - 64 };

enum channel_role { CHANNEL_AGENT, CHANNEL_CONTROL };

struct channel;

/* One connection's channel: makes its ephemeral key and its nonce. @server_id as in TunnelHello, copied. -ERR_INVALID for one that is no UUID. */
int channel_new(enum channel_role role, const char *server_id, struct channel **ret, struct err *err) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct channel *channel_free(struct channel *ch);
/* What TunnelHello and TunnelChallenge carry of ours; borrowed. */
struct str channel_ephemeral(const struct channel *ch);
struct str channel_nonce(const struct channel *ch);

/* What the peer's message said; borrowed for the call. */
struct channel_peer {
    struct str ephemeral, nonce;
};

/* Control, first: the agent's TunnelHello came. Appends the signature for TunnelChallenge to @signature. @chain_pem: what certificate_pem will
 * say, byte for byte; @leaf: its key. */
int channel_challenge(struct channel *ch, const struct channel_peer *agent, struct str chain_pem, const struct key *leaf,
                      struct buf *signature, struct err *err) MUST_USE;
/* Control, second: TunnelProof came. @spki_der: public key of the host, in DER, which is the one that the access token @token (as it came) names:
 * that is the caller's to see. 0: it is open. */
int channel_proved(struct channel *ch, struct str spki_der, struct str token, struct str signature, struct err *err) MUST_USE;

/* Agent, first: TunnelChallenge came. Is it the control plane? @trust and @when as in proof_control_plane. */
int channel_challenged(struct channel *ch, const struct channel_peer *control, struct str chain_pem, struct str signature,
                       const struct proof_trust *trust, usec_t when, struct err *err) MUST_USE;
/* Agent, second: appends the signature for TunnelProof to @signature. 0: it is open. */
int channel_prove(struct channel *ch, const struct key *host, struct str token, struct buf *signature, struct err *err) MUST_USE;

/* May messages be sealed and opened? */
bool channel_is_open(const struct channel *ch);
/* Appends the box of @plain. -ERR_RANGE past CHANNEL_PLAIN_MAX and -ERR_EXHAUSTED when it does not fit (neither ends the channel). */
int channel_seal(struct channel *ch, struct str plain, struct buf *out, struct err *err) MUST_USE;
/* Appends what is in @box, the next one of the peer. -ERR_EXHAUSTED when it does not fit (which ends the channel as well). */
int channel_unseal(struct channel *ch, struct str box, struct buf *out, struct err *err) MUST_USE;

static inline void cleanup_channel(struct channel **ch)
{
    (void)channel_free(*ch);
}
#define AUTO_CHANNEL CLEANUP(cleanup_channel) struct channel *

#endif
