/* SPDX-License-Identifier: Apache-2.0 */
/* pki_internal — what pki_dir.c and pki_roots.c share. Not included outside of them. */
#ifndef DAVIT_IDENT_PKI_INTERNAL_H
#define DAVIT_IDENT_PKI_INTERNAL_H

#include "ident/pki_dir.h"
#include "ident/pki_roots.h"

/* An intermediate: what it is called, what it may issue. */
struct authority {
    const char *name; /* of its files */
    struct ca_spec spec;
};
extern const struct authority pki__authorities[PKI_AUTHORITIES];
enum { SERVER_CA, AGENTS_CA, SANDBOXES_CA };
/* Where a step is prepared; see pki_roots.h. */
#define PKI_NEXT "next"

/* "<dir>/<name><suffix>", fresh. */
char *pki__file(const char *dir, const char *name, const char *suffix) MUST_USE;
/* The key in NAME.key. */
int pki__key(const char *dir, const char *name, struct key **ret, struct err *err) MUST_USE;
/* The text of NAME.crt (appended to @pem) and its first certificate. */
int pki__cert(const char *dir, const char *name, struct buf *pem, struct cert **ret, struct err *err) MUST_USE;
/* NAME.crt from @cert and, below it, @issuer (may be NULL). */
int pki__save(const char *dir, const char *name, const struct cert *cert, const struct cert *issuer, struct err *err) MUST_USE;
/* All that moves is in @next: from here on the step ends, by pki_*_settle. */
int pki__make_ready(const char *next, struct err *err) MUST_USE;
/* The public half of the user's key for assertions, which is made if there is none, into @dir_control. */
int pki__hand_over_assertion_key(const char *dir_user, const char *dir_control, struct err *err) MUST_USE;
/* Appends the public half of @key as a JWK, a line. */
int pki__jwk(const struct key *key, struct buf *out, struct err *err) MUST_USE;
/* Key and request of @a in @dir. What is there stays. */
int pki__prepare_authority(const char *dir, const struct authority *a, struct err *err) MUST_USE;

#endif
