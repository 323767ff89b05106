/* SPDX-License-Identifier: Apache-2.0 */
/* proof — who is there, where TLS is not ours to ask: what is signed or MACed between an agent and its control plane.
 *   digest = SHA-256("davit proof 1" 00 | purpose 00 | for client nonce, server nonce and each extra part: length, 8 bytes big-endian, and the bytes)
 *   signature = of the digest's 32 bytes as message: ECDSA with SHA-256, in DER (P-256), or Ed25519
 *   MAC key = HMAC-SHA256(secret of the join token, "davit token mac 1"), MAC = HMAC-SHA256(MAC key, digest)
 * Purposes and their extra parts:
 *   "challenge"       control plane: purpose of the request ("enroll", "recover")
 *   "enroll"          agent, MAC: the CSR
 *   "recover"         agent, present key: server id, CSR (empty: the key stays), the generation in decimal if it is told
 *   "tunnel-control", "tunnel-agent"   see channel.h
 * Thread: any.  Input trust: peer (certificates, signatures). */
#ifndef DAVIT_IDENT_PROOF_H
#define DAVIT_IDENT_PROOF_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/secret.h"
#include "base/str.h"
#include "ident/key.h"

enum {
    PROOF_SIZE = 32,
    PROOF_NONCE_SIZE = 32,
    PROOF_MAC_SIZE = 32,
    PROOF_SIGNATURE_MAX = 96,
    PROOF_PURPOSE_MAX = 32,
    PROOF_SPKI_MAX = 128
};

/* What is signed. @purpose: at most PROOF_PURPOSE_MAX bytes, one of the above; @n extra parts, borrowed. */
void proof_digest(const char *purpose, const uint8_t client_nonce[PROOF_NONCE_SIZE], const uint8_t server_nonce[PROOF_NONCE_SIZE],
                  const struct str *extra, size_t n, uint8_t ret[PROOF_SIZE]);

/* Appends the signature of @digest to @out. -ERR_EXHAUSTED when it does not fit, -ERR_INTERNAL. */
int proof_sign(const struct key *key, const uint8_t digest[PROOF_SIZE], struct buf *out, struct err *err) MUST_USE;
/* Does @signature hold for the public key @spki_der (SubjectPublicKeyInfo, P-256 or Ed25519)? 0 or -ERR_UNAUTHENTICATED. */
int proof_verify(struct str spki_der, const uint8_t digest[PROOF_SIZE], struct str signature, struct err *err) MUST_USE;
/* SHA-256 of the key's DER: what access tokens name it by. */
void proof_spki_hash(struct str spki_der, uint8_t ret[SPKI_HASH_SIZE]);
/* The same as proof_verify for the key of the first certificate in @cert_pem, of which nothing else is believed. */
int proof_verify_cert(struct str cert_pem, const uint8_t digest[PROOF_SIZE], struct str signature, struct err *err) MUST_USE;

/* Which roots are believed: those in @roots_pem, or, where that is empty, the certificate in the chain whose key has this pin (a join token's). */
struct proof_trust {
    struct str roots_pem;
    const uint8_t *pin; /* 32 bytes; NULL: roots_pem alone */
};
/* Is this the control plane: does @chain_pem (leaf first, the root may be in it) lead to a root that is believed, valid at real time @when, is the
 * leaf davit://controlplane, and does its key's @signature hold? 0 or -ERR_UNAUTHENTICATED with the reason. @root (may be NULL): the root's PEM
 * is appended when it was found by its pin; -ERR_EXHAUSTED when it does not fit. */
int proof_control_plane(struct str chain_pem, const struct proof_trust *trust, usec_t when, const uint8_t digest[PROOF_SIZE],
                        struct str signature, struct buf *root, struct err *err) MUST_USE;

/* The MAC key of a join token's secret. The caller ends it. It is a secret as the token's is: kept sealed. */
struct secret *proof_mac_key(struct str token_secret) MUST_USE;
/* MAC of @digest. */
void proof_mac(const struct secret *mac_key, const uint8_t digest[PROOF_SIZE], uint8_t ret[PROOF_MAC_SIZE]);
/* Is @mac that of @digest? In constant time but for a wrong length. */
bool proof_mac_holds(const struct secret *mac_key, const uint8_t digest[PROOF_SIZE], struct str mac);

#endif
