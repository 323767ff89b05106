/* SPDX-License-Identifier: Apache-2.0 */
/* material — what a sandbox proves itself with: certificate chain, key and roots of its folder, and the assertion that it registers with once.
 * The folder's files: cert.pem (leaf first), key.pem, ca.pem, assertion.jwt; and renewal.pem while a renewal is being written.
 * Ownership: material_release wipes.  Thread: any; all of it blocks.  Limits: MATERIAL_FILE_MAX bytes each. */
#ifndef DAVIT_SESSION_MATERIAL_H
#define DAVIT_SESSION_MATERIAL_H

#include "base/secret.h"
#include "net/tls.h"

enum { MATERIAL_FILE_MAX = 64 * 1024, MATERIAL_ASSERTION_MAX = 8 * 1024 };

struct material {
    struct buf cert, key, ca;
};

/* Empty; allocates nothing yet. */
void material_init(struct material *m);
/* Wipes the key and frees; empty and usable again. */
void material_release(struct material *m);

/* Reads the three files. A renewal that was cut off is finished first, where what stands there does not fit together. 0; -ERR_PRECONDITION for what
 * is missing, -ERR_INVALID for what does not fit together: the message names the file. */
int material_read(const char *folder, struct material *ret, struct err *err) MUST_USE;

/* Takes the three texts of a peer into @ret, if they fit together. 0 or -ERR_INVALID. */
int material_set(const char *cert, const char *key, const char *ca, struct material *ret, struct err *err) MUST_USE;

/* Replaces the three files, mode 0400. After a cut at any moment material_read gives the old ones or the new ones. */
int material_write(const char *folder, const struct material *m, struct err *err) MUST_USE;

/* Makes a TLS context of it, for a peer that must have the SAN URI @peer. 0 or -ERR_INVALID. */
int material_tls(const struct material *m, const char *peer, bool server, struct tls_ctx **ret, struct err *err) MUST_USE;

/* Reads the assertion and removes its file. *ret NULL: there is none (any more). 0 or a failure. */
int material_take_assertion(const char *folder, struct secret **ret, struct err *err) MUST_USE;

#endif
