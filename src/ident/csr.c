/* SPDX-License-Identifier: Apache-2.0 */
/* csr — PKCS#10 requests: the key and the proof that the sender holds its private part; everything else in them is ignored. */
#include <openssl/err.h>

#include "base/mem.h"
#include "ident/cert.h"
#include "ident/ident_internal.h"

int csr_make(const struct key *key, const char *common_name, struct buf *out, struct err *err)
{
    ident__start();
    unsigned char *der = NULL;
    int n = 0;
    X509_REQ *req = X509_REQ_new();
    bool ok = req && X509_REQ_set_version(req, X509_REQ_VERSION_1) == 1 && X509_REQ_set_pubkey(req, key->pkey) == 1 &&
              X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(req), "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1, -1, 0) == 1 &&
              X509_REQ_sign(req, key->pkey, ident__digest(key->pkey)) > 0;
    if (ok)
        n = i2d_X509_REQ(req, &der);
    X509_REQ_free(req);
    if (n <= 0)
        return ident__fail(err, ERR_INTERNAL, "no certificate request could be made");
    int rc = n > CSR_MAX || buf_append(out, der, (size_t)n) < 0 ? err_set(err, ERR_EXHAUSTED, "certificate request of %d bytes", n) : 0;
    OPENSSL_free(der);
    return rc;
}

/* The key of a request whose signature holds. */
static int request_key(X509_REQ *req, EVP_PKEY **ret, struct err *err)
{
    EVP_PKEY *pkey = X509_REQ_get_pubkey(req);
    if (pkey == NULL)
        return ident__fail(err, ERR_INVALID, "the certificate request has no readable public key");
    if (!ident__key_allowed(pkey)) {
        EVP_PKEY_free(pkey);
        return err_set(err, ERR_INVALID, "the key of the certificate request is neither P-256 nor Ed25519");
    }
    if (X509_REQ_verify(req, pkey) != 1) {
        EVP_PKEY_free(pkey);
        ERR_clear_error();
        return err_set(err, ERR_INVALID, "the signature of the certificate request does not hold");
    }
    *ret = pkey;
    return 0;
}

int csr_parse(struct str der, struct csr **ret, struct err *err)
{
    ident__start();
    if (der.n == 0 || der.n > CSR_MAX)
        return err_set(err, ERR_INVALID, "a certificate request of %zu bytes (at most %d)", der.n, CSR_MAX);
    const unsigned char *start = (const unsigned char *)der.p, *p = start;
    X509_REQ *req = d2i_X509_REQ(NULL, &p, (long)der.n);
    if (req == NULL)
        return ident__fail(err, ERR_INVALID, "not a certificate request (PKCS#10, DER)");
    EVP_PKEY *pkey = NULL;
    int rc = p == start + der.n ? request_key(req, &pkey, err) : err_set(err, ERR_INVALID, "bytes follow the certificate request");
    X509_REQ_free(req);
    if (rc < 0)
        return rc;
    struct csr *csr = NEW(struct csr);
    csr->pkey = pkey;
    *ret = csr;
    return 0;
}

struct csr *csr_free(struct csr *csr)
{
    if (csr)
        EVP_PKEY_free(csr->pkey);
    free(csr);
    return NULL;
}

int csr_spki_hash(const struct csr *csr, uint8_t ret[SPKI_HASH_SIZE], struct err *err)
{
    return ident__spki_hash(csr->pkey, ret, err);
}

int csr_spki(const struct csr *csr, struct buf *out, struct err *err)
{
    return ident__spki(csr->pkey, out, err);
}
