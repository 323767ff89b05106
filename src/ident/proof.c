/* SPDX-License-Identifier: Apache-2.0 */
/* proof — see proof.h. */
#include "ident/proof.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "ident/ident_internal.h"

static const char CONTEXT[] = "davit proof 1"; /* with its NUL */
static const char MAC_CONTEXT[] = "davit token mac 1";
static const char CONTROL_PLANE[] = "davit://controlplane";

/* --- Digest and MAC --- */

static void add(EVP_MD_CTX *ctx, const void *p, size_t n)
{
    BUG_ON(EVP_DigestUpdate(ctx, p, n) != 1);
}

static void add_part(EVP_MD_CTX *ctx, const void *p, size_t n)
{
    uint8_t length[8];
    for (unsigned i = 0; i < sizeof(length); i++)
        length[i] = (uint8_t)((uint64_t)n >> (56 - 8 * i));
    add(ctx, length, sizeof(length));
    add(ctx, p, n);
}

void proof_digest(const char *purpose, const uint8_t client_nonce[PROOF_NONCE_SIZE], const uint8_t server_nonce[PROOF_NONCE_SIZE],
                  const struct str *extra, size_t n, uint8_t ret[PROOF_SIZE])
{
    ident__start();
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    BUG_ON(!ctx || strlen(purpose) > PROOF_PURPOSE_MAX || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1);
    add(ctx, CONTEXT, sizeof(CONTEXT));
    add(ctx, purpose, strlen(purpose) + 1);
    add_part(ctx, client_nonce, PROOF_NONCE_SIZE);
    add_part(ctx, server_nonce, PROOF_NONCE_SIZE);
    for (size_t i = 0; i < n; i++)
        add_part(ctx, extra[i].p, extra[i].n);
    BUG_ON(EVP_DigestFinal_ex(ctx, ret, NULL) != 1);
    EVP_MD_CTX_free(ctx);
}

static void hmac(struct str key, const void *p, size_t n, uint8_t ret[PROOF_MAC_SIZE])
{
    size_t len = 0;
    ident__start();
    BUG_ON(!EVP_Q_mac(NULL, OSSL_MAC_NAME_HMAC, NULL, "SHA256", NULL, key.p, key.n, p, n, ret, PROOF_MAC_SIZE, &len) ||
           len != PROOF_MAC_SIZE);
}

struct secret *proof_mac_key(struct str token_secret)
{
    struct secret *key = secret_blank(PROOF_MAC_SIZE);
    hmac(token_secret, MAC_CONTEXT, sizeof(MAC_CONTEXT) - 1, (uint8_t *)secret_writable(key));
    return key;
}

void proof_mac(const struct secret *mac_key, const uint8_t digest[PROOF_SIZE], uint8_t ret[PROOF_MAC_SIZE])
{
    hmac(secret_reveal(mac_key), digest, PROOF_SIZE, ret);
}

bool proof_mac_holds(const struct secret *mac_key, const uint8_t digest[PROOF_SIZE], struct str mac)
{
    uint8_t want[PROOF_MAC_SIZE];
    proof_mac(mac_key, digest, want);
    return str_eq_secret((struct str){(const char *)want, sizeof(want)}, mac);
}

/* --- Signatures --- */

int proof_sign(const struct key *key, const uint8_t digest[PROOF_SIZE], struct buf *out, struct err *err)
{
    ident__start();
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t n = PROOF_SIGNATURE_MAX;
    uint8_t *p = buf_reserve(out, n);
    if (!p) {
        EVP_MD_CTX_free(ctx);
        return err_set(err, ERR_EXHAUSTED, "no room for a signature");
    }
    bool ok = ctx && EVP_DigestSignInit(ctx, NULL, ident__digest(key->pkey), NULL, key->pkey) == 1 &&
              EVP_DigestSign(ctx, p, &n, digest, PROOF_SIZE) == 1;
    EVP_MD_CTX_free(ctx);
    if (!ok)
        return ident__fail(err, ERR_INTERNAL, "nothing can be signed with this key");
    buf_commit(out, n);
    return 0;
}

static int verify_with(EVP_PKEY *pkey, const uint8_t digest[PROOF_SIZE], struct str signature, struct err *err)
{
    if (!pkey || !ident__key_allowed(pkey))
        return ident__fail(err, ERR_UNAUTHENTICATED, "the signature is of a key that is neither P-256 nor Ed25519");
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && signature.n > 0 && signature.n <= PROOF_SIGNATURE_MAX &&
              EVP_DigestVerifyInit(ctx, NULL, ident__digest(pkey), NULL, pkey) == 1 &&
              EVP_DigestVerify(ctx, (const uint8_t *)signature.p, signature.n, digest, PROOF_SIZE) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok ? 0 : err_set(err, ERR_UNAUTHENTICATED, "the signature does not hold");
}

int proof_verify(struct str spki_der, const uint8_t digest[PROOF_SIZE], struct str signature, struct err *err)
{
    ident__start();
    const unsigned char *start = (const unsigned char *)spki_der.p, *p = start;
    EVP_PKEY *pkey = spki_der.n && spki_der.n <= PROOF_SPKI_MAX ? d2i_PUBKEY(NULL, &p, (long)spki_der.n) : NULL;
    int rc = pkey && p != start + spki_der.n ? err_set(err, ERR_UNAUTHENTICATED, "bytes follow the public key")
                                             : verify_with(pkey, digest, signature, err);
    EVP_PKEY_free(pkey);
    return rc;
}

void proof_spki_hash(struct str spki_der, uint8_t ret[SPKI_HASH_SIZE])
{
    ident__start();
    BUG_ON(EVP_Digest(spki_der.p, spki_der.n, ret, NULL, EVP_sha256(), NULL) != 1);
}

int proof_verify_cert(struct str cert_pem, const uint8_t digest[PROOF_SIZE], struct str signature, struct err *err)
{
    AUTO_CERT cert = NULL;
    if (cert_from_pem(cert_pem, &cert, err) < 0)
        return err_set(err, ERR_UNAUTHENTICATED, "no readable certificate");
    return verify_with(X509_get0_pubkey(cert->x509), digest, signature,
                       err); /* NOLINT(clang-analyzer-core.NullDereference): set when rc is 0 */
}

/* --- The control plane --- */

static int verify_leaf(struct str chain_pem, struct str roots, usec_t when, struct err *err)
{
    struct cert_info leaf;
    int rc = cert_verify_chain(chain_pem, roots, CERT_SERVER, when, &leaf, err);
    if (rc == 0 && !str_eq(str_from(leaf.uri), str_from(CONTROL_PLANE)))
        rc = err_set(err, ERR_UNAUTHENTICATED, "the certificate is not the control plane's (%.100s)", leaf.uri);
    return rc < 0 ? -(int)ERR_UNAUTHENTICATED : 0;
}

int proof_control_plane(struct str chain_pem, const struct proof_trust *trust, usec_t when, const uint8_t digest[PROOF_SIZE],
                        struct str signature, struct buf *root, struct err *err)
{
    AUTO_BUF pinned = BUF_INIT(CERT_PEM_MAX);
    struct str roots = trust->roots_pem;
    int rc = 0;
    if (roots.n == 0) {
        if (!trust->pin || cert_pem_by_pin(chain_pem, trust->pin, &pinned) != 0)
            return err_set(err, ERR_UNAUTHENTICATED, "the control plane that answers is not the one of the pin");
        roots = buf_str(&pinned);
    }
    rc = verify_leaf(chain_pem, roots, when, err);
    if (rc == 0)
        rc = proof_verify_cert(chain_pem, digest, signature, err);
    if (rc == 0 && root && pinned.len && buf_append_str(root, roots) < 0)
        rc = err_set(err, ERR_EXHAUSTED, "no room for the root certificate");
    return rc;
}
