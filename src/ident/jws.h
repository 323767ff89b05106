/* SPDX-License-Identifier: Apache-2.0 */
/* jws — signed JSON in its compact form (RFC 7515) and the public keys that go with it (RFC 7517). ES256 and nothing else: what a header says of
 * algorithms is compared, never followed, and keys, addresses of keys or certificates in it are not looked at.
 *   key   {"kty":"EC","crv":"P-256","x":"<32 bytes>","y":"<32 bytes>", ...}, numbers with all their zeros in front
 * Thread: any.  Input trust: peer.  Limits: JWS_MAX bytes of text, JWS_PAYLOAD_MAX of payload, JWK_MAX of a key. */
#ifndef DAVIT_IDENT_JWS_H
#define DAVIT_IDENT_JWS_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/str.h"
#include "ident/key.h"

enum { JWS_MAX = 4096, JWS_PAYLOAD_MAX = 2048, JWS_TYPE_MAX = 32, JWS_KID_MAX = 128, JWK_MAX = 1024, JWK_NUMBER = 32, JWK_THUMBPRINT_SIZE = 44 };

/* A public key on P-256. */
struct jwk {
    uint8_t x[JWK_NUMBER], y[JWK_NUMBER];
};

/* -ERR_INVALID for a key that is not on P-256. */
int jwk_of_key(const struct key *key, struct jwk *ret, struct err *err) MUST_USE;
/* Members that are not known are passed over; "d", the private half, makes it invalid: it does not belong here. -ERR_INVALID. */
int jwk_parse(struct str json, struct jwk *ret, struct err *err) MUST_USE;
/* base64url of its SHA-256 thumbprint (RFC 7638): what it is called, "kid". */
void jwk_thumbprint(const struct jwk *jwk, char ret[JWK_THUMBPRINT_SIZE]);
/* As one JSON value, with kid, use and alg. */
void jwk_write(const struct jwk *jwk, struct jsonw *w);

/* What a text says; nothing of it is proved. Points into the text. */
struct jws {
    struct str input;                /* what is signed */
    char type[JWS_TYPE_MAX + 1];     /* "typ", "" if there is none */
    char kid[JWS_KID_MAX + 1];       /* "" if there is none */
    uint8_t signature[64];
    char payload[JWS_PAYLOAD_MAX];
    size_t payload_len;
};
/* 0, or -ERR_INVALID with what is wrong: form, an algorithm other than ES256, "crit". */
int jws_read(struct str text, struct jws *ret, struct err *err) MUST_USE;
/* Did the owner of @jwk sign it? */
bool jws_holds(const struct jws *jws, const struct jwk *jwk) MUST_USE;
/* Appends the signed form of @payload. @type may be NULL; @kid too. -ERR_INVALID for a key of another kind, -ERR_EXHAUSTED. */
int jws_make(const struct key *key, const char *type, const char *kid, struct str payload, struct buf *out, struct err *err) MUST_USE;

#endif
