/* SPDX-License-Identifier: Apache-2.0 */
/* key — a private key (P-256) behind a wall: no type of OpenSSL leaves src/ident.
 * Ownership: sole owner, key_free wipes.  Thread: any, one at a time.  Input trust: local files (PEM); never a peer's. */
#ifndef DAVIT_IDENT_KEY_H
#define DAVIT_IDENT_KEY_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/secret.h"
#include "base/str.h"

struct key;

enum { SPKI_HASH_SIZE = 32, KEY_PEM_MAX = 8 * 1024 };

/* A fresh P-256 key. *ret is the caller's. */
int key_generate(struct key **ret, struct err *err) MUST_USE;
/* PEM, PKCS#8 unencrypted, EC P-256 or Ed25519. -ERR_INVALID for anything else. The caller wipes its copy of @pem. */
int key_from_pem(struct str pem, struct key **ret, struct err *err) MUST_USE;
/* PKCS#8 PEM as a secret; the caller ends it. */
int key_to_pem(const struct key *key, struct secret **ret, struct err *err) MUST_USE;
/* Wipes and frees; accepts NULL; returns NULL. */
struct key *key_free(struct key *key);

/* SHA-256 of the DER SubjectPublicKeyInfo. */
int key_spki_hash(const struct key *key, uint8_t ret[SPKI_HASH_SIZE], struct err *err) MUST_USE;
/* Appends the DER SubjectPublicKeyInfo. -ERR_EXHAUSTED when it does not fit. */
int key_spki(const struct key *key, struct buf *out, struct err *err) MUST_USE;

/* Makes the new file @path (0600, never followed or replaced) and fsyncs it with its directory. -ERR_EXISTS. Blocks. */
int key_save(const struct key *key, const char *path, struct err *err) MUST_USE;
/* Reads a key file. -ERR_DENIED (with advice) when others than its owner may read it, -ERR_NOT_FOUND, -ERR_INVALID. Blocks. */
int key_load(const char *path, struct key **ret, struct err *err) MUST_USE;
/* key_load, and if there is no file: generate and save. Two processes at once end with the same key. Blocks. */
int key_load_or_make(const char *path, struct key **ret, struct err *err) MUST_USE;

static inline void cleanup_key(struct key **key)
{
    (void)key_free(*key);
}
#define AUTO_KEY CLEANUP(cleanup_key) struct key *

#endif
