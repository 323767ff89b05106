/* SPDX-License-Identifier: Apache-2.0 */
/* ident_internal — OpenSSL's objects behind key, cert and csr, and the little that its files share.  Thread: as the headers say. */
#ifndef DAVIT_IDENT_IDENT_INTERNAL_H
#define DAVIT_IDENT_IDENT_INTERNAL_H

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "ident/cert.h"
#include "ident/key.h"

struct key {
    EVP_PKEY *pkey;
};

struct cert {
    X509 *x509;
};

struct csr {
    EVP_PKEY *pkey; /* all that is believed of a request */
};

/* Is @s a UUID in lower case, as servers are named? */
bool ident__is_uuid(const char *s);
/* Starts OpenSSL without the host's openssl.cnf. Every entry calls it; only the first does something. */
void ident__start(void);
/* Records "@what: <OpenSSL's reason>" and empties its error queue. Returns -(int)code. */
int ident__fail(struct err *err, enum err_code code, const char *what);
/* Is this a key that we accept: P-256 or Ed25519, public part on the curve? */
bool ident__key_allowed(EVP_PKEY *pkey);
/* SHA-256 of the DER SubjectPublicKeyInfo. */
int ident__spki_hash(EVP_PKEY *pkey, uint8_t ret[SPKI_HASH_SIZE], struct err *err) MUST_USE;
/* Appends the DER SubjectPublicKeyInfo. */
int ident__spki(EVP_PKEY *pkey, struct buf *out, struct err *err) MUST_USE;
/* The digest that goes with the key: NULL for Ed25519. */
const EVP_MD *ident__digest(EVP_PKEY *pkey);
/* SAN with @uri (may be NULL) and @names. -ERR_INVALID names the one that is wrong. */
int ident__alt_names(const char *uri, const char *const *names, size_t n_names, GENERAL_NAMES **ret, struct err *err) MUST_USE;
/* Microseconds since 1970; -ERR_INVALID outside of 1970..9999. */
int ident__time(const ASN1_TIME *t, usec_t *ret) MUST_USE;
/* es256.c: signatures of JSON Web Tokens, r and s as 32 bytes each, big-endian (RFC 7518, 3.4). */
enum { ES256_SIGNATURE_SIZE = 64 };
bool ident__is_p256(EVP_PKEY *pkey);
bool ident__es256_sign(EVP_PKEY *pkey, struct str text, uint8_t ret[ES256_SIGNATURE_SIZE]) MUST_USE;
bool ident__es256_holds(EVP_PKEY *pkey, struct str text, const uint8_t signature[ES256_SIGNATURE_SIZE]) MUST_USE;
/* Base64url in the one spelling that bytes have in it: no padding, no bits behind the last byte. */
bool ident__unbase64url(struct str text, void *dst, size_t size, size_t *ret_n) MUST_USE;
/* Appends it. */
int ident__base64url(struct buf *out, const void *p, size_t n) MUST_USE;
/* Makes the new file @path (0600) of @bytes, whole or not at all, and on disk when it returns. -ERR_EXISTS. Blocks. */
int ident__save_new(const char *path, struct str bytes, struct err *err) MUST_USE;
/* Appends a file of at most KEY_PEM_MAX bytes to the empty @out, whose memory does not move meanwhile. -ERR_DENIED (with advice) when others
 * than its owner may read it. Blocks. */
int ident__read_private(const char *path, struct buf *out, struct err *err) MUST_USE;

#endif
