/* SPDX-License-Identifier: Apache-2.0 */
/* cert — certificates and requests for them (X.509 v3, PKCS#10): the three kinds that Davit issues, and what is read from them.
 *   root CA            self-signed, on the user's machine, 10 years, path length 1; while it is changed the old one signs the key of the new one
 *                      (the cross certificate), so that who knows only the old one believes what the new one issued
 *   intermediate CA    path length 0, one per audience: "server", "agents", "sandboxes"
 *   leaf               who it is stands in one SAN URI: davit://controlplane, davit://cli, davit://server/<uuid>
 * Intermediates carry a name constraint: agents' can issue davit://server/..., the server's davit://controlplane, none davit://cli.
 * Serials are 128 random bits; notBefore is an hour back, for clocks that are behind.
 * Ownership: sole owner, cert_free / csr_free.  Thread: any, one at a time.
 * Input trust: peer (CSR, certificates): sizes are limited, a request is believed nothing but its key, after its signature held.
 * Limits: CSR 8 KiB, certificate PEM 64 KiB (a chain), 16 DNS or IP names per leaf, CERT_ROOTS_MAX roots in a list that a peer gives. */
#ifndef DAVIT_IDENT_CERT_H
#define DAVIT_IDENT_CERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"
#include "ident/key.h"

struct cert;
struct csr;

enum { CSR_MAX = 8 * 1024, CERT_PEM_MAX = 64 * 1024, CERT_CHAIN_MAX = 5, CERT_SAN_MAX = 16, CERT_URI_SIZE = 256, CERT_SERIAL_SIZE = 41 };
enum { CERT_ROOTS_MAX = 3 };
enum { CERT_ROOT_DAYS = 3650, CERT_CA_DAYS = 1825, CERT_LEAF_DAYS = 90, CERT_CLI_DAYS = 365, CERT_SANDBOX_DAYS = 90 };

#define CERT_BACKDATE USEC_HOUR /* how long before its making a certificate begins to hold: clocks are behind */

enum cert_usage { CERT_CLIENT = 1 << 0, CERT_SERVER = 1 << 1 };

/* What a certificate says. Strings are empty when absent. */
struct cert_info {
    char serial[CERT_SERIAL_SIZE];          /* lower-case hex, two digits per byte */
    char common_name[65];
    char uri[CERT_URI_SIZE];                /* the first SAN URI */
    uint8_t spki_hash[SPKI_HASH_SIZE];
    uint8_t cert_hash[32];                  /* SHA-256 of the DER */
    usec_t not_before, not_after;           /* real time */
    bool ca;
    unsigned usage;                         /* enum cert_usage bits of the extended key usage */
};

/* What a leaf shall say; everything is borrowed for the call. */
struct leaf_spec {
    const char *common_name;                /* at most 64 bytes, for people */
    const char *uri;                        /* the identity */
    unsigned usage;                         /* enum cert_usage bits, at least one */
    const char *const *names;               /* @n_names DNS names or IP addresses for browsers and curl */
    size_t n_names;
    usec_t not_after;                       /* real time; cut to the end of the issuer */
    const char *second_uri;                 /* one more identity, or NULL */
};

/* What an intermediate may issue; borrowed. It is bound to one kind of identity by a name constraint, so that who holds the key of one audience
 * can mint no identity of another. */
struct ca_spec {
    const char *common_name;
    const char *uri_host; /* "server" lets it issue davit://server/... and no other davit URI; lower-case letters */
    unsigned usage;       /* enum cert_usage bits that its leaves may have */
    unsigned days;
    const char *second_host; /* one more kind, or NULL */
};

/* --- Issuing --- */

/* Self-signed root for @key, valid @days from now. *ret is the caller's. */
int cert_make_root(const struct key *key, const char *common_name, unsigned days, struct cert **ret, struct err *err) MUST_USE;
/* Cross certificate: the key of @fresh, a new root, under the old one. -ERR_PRECONDITION as cert_sign_leaf, or when the two have not one name. */
int cert_sign_cross(const struct key *root_key, const struct cert *root, const struct cert *fresh, struct cert **ret, struct err *err) MUST_USE;
/* Intermediate of path length 0 for the key of @csr. -ERR_INVALID, -ERR_PRECONDITION as cert_sign_leaf. */
int cert_sign_intermediate(const struct key *root_key, const struct cert *root, const struct csr *csr, const struct ca_spec *spec,
                           struct cert **ret, struct err *err) MUST_USE;
/* Leaf for the key of @csr. -ERR_INVALID when @spec is not usable (names the field), -ERR_PRECONDITION when the issuer has expired or @key is
 * not its key. */
int cert_sign_leaf(const struct key *ca_key, const struct cert *ca, const struct csr *csr, const struct leaf_spec *spec, struct cert **ret,
                   struct err *err) MUST_USE;

/* --- Certificates --- */

/* First certificate of @pem (the rest is ignored). -ERR_INVALID, -ERR_RANGE past CERT_PEM_MAX. *ret is the caller's. */
int cert_from_pem(struct str pem, struct cert **ret, struct err *err) MUST_USE;
/* Appends one PEM block to @out. -ERR_EXHAUSTED when it does not fit. */
int cert_to_pem(const struct cert *cert, struct buf *out, struct err *err) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct cert *cert_free(struct cert *cert);
/* Fills @ret from @cert. -ERR_INVALID for a certificate with a field that no certificate of ours has (URI too long, time out of range). */
int cert_info(const struct cert *cert, struct cert_info *ret, struct err *err) MUST_USE;
/* Is @key the key of @cert? */
bool cert_fits_key(const struct cert *cert, const struct key *key);
/* Does @chain_pem (leaf first, at most CERT_CHAIN_MAX) lead to one of the roots in @roots_pem, valid at real time @when, and may the leaf be
 * used as @usage (one bit; 0 = do not ask)? 0, or -ERR_UNAUTHENTICATED with the reason. @leaf may be NULL: what the leaf says. */
int cert_verify_chain(struct str chain_pem, struct str roots_pem, unsigned usage, usec_t when, struct cert_info *leaf, struct err *err) MUST_USE;
/* Does the leaf carry exactly this identity and these names, in this order? */
bool cert_has_names(const struct cert *cert, const char *uri, const char *const *names, size_t n_names);
/* SHA-256 of the SPKI of the first certificate in @pem: the pin of a root. */
int cert_pem_pin(struct str pem, uint8_t ret[SPKI_HASH_SIZE], struct err *err) MUST_USE;
/* Appends the self-signed certificate of @pem (a chain of at most CERT_CHAIN_MAX) whose key has this pin. 0; 1: there is none; negative: @pem is not
 * readable or @out is too small. */
int cert_pem_by_pin(struct str pem, const uint8_t pin[SPKI_HASH_SIZE], struct buf *out) MUST_USE;
/* Appends the DER SubjectPublicKeyInfo of the first certificate in @pem. */
int cert_pem_spki(struct str pem, struct buf *out, struct err *err) MUST_USE;

/* --- Lists of roots --- */

struct cert_root {
    uint8_t pin[SPKI_HASH_SIZE];
    usec_t not_before, not_after; /* real time */
};
struct cert_roots {
    size_t n;
    struct cert_root v[CERT_ROOTS_MAX];
};
/* Reads a list of roots: 1..CERT_ROOTS_MAX certificates, each of an authority and signed by itself, none twice. -ERR_INVALID says what it is
 * instead; @ret is filled on 0 only. */
int cert_roots_read(struct str pem, struct cert_roots *ret, struct err *err) MUST_USE;
/* Is a root with this pin among them? */
bool cert_roots_have(const struct cert_roots *roots, const uint8_t pin[SPKI_HASH_SIZE]);
/* Do the two have a root in common? Who holds one list takes another one only then: else the next connection would be the last. */
bool cert_roots_meet(const struct cert_roots *a, const struct cert_roots *b);
/* What of the list @granted may take the place of the list @known: appends to @out those that are in @known, and those whose key has a certificate in
 * @vouchers (PEM, any, at most CERT_CHAIN_MAX) that leads to one of @known at real time @when and is no intermediate (path length 0). A root that
 * nobody vouches for is left out: who could add one would command from then on. 0; -ERR_INVALID: @granted is no list, or has none of @known in it. */
int cert_roots_believed(struct str granted, struct str known, struct str vouchers, usec_t when, struct buf *out, struct err *err) MUST_USE;

/* --- Requests --- */

/* Request in DER for @key, appended to @out. @common_name is for people; issuers ignore it. */
int csr_make(const struct key *key, const char *common_name, struct buf *out, struct err *err) MUST_USE;
/* Reads a request: DER of at most CSR_MAX bytes without trailing bytes, key P-256 or Ed25519, its own signature must hold; subject and
 * extensions are ignored. -ERR_INVALID says which of these failed. *ret is the caller's. */
int csr_parse(struct str der, struct csr **ret, struct err *err) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct csr *csr_free(struct csr *csr);
/* SHA-256 of the SPKI. */
int csr_spki_hash(const struct csr *csr, uint8_t ret[SPKI_HASH_SIZE], struct err *err) MUST_USE;
/* Appends the SPKI, in DER: what proof_verify takes. */
int csr_spki(const struct csr *csr, struct buf *out, struct err *err) MUST_USE;

static inline void cleanup_cert(struct cert **cert)
{
    (void)cert_free(*cert);
}
static inline void cleanup_csr(struct csr **csr)
{
    (void)csr_free(*csr);
}
#define AUTO_CERT CLEANUP(cleanup_cert) struct cert *
#define AUTO_CSR CLEANUP(cleanup_csr) struct csr *

#endif
