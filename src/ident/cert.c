/* SPDX-License-Identifier: Apache-2.0 */
/* cert — reading certificates and judging chains. */
#include "ident/cert.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include "base/mem.h"
#include "ident/ident_internal.h"

enum { ROOTS_MAX = 8 };

/* --- PEM --- */

/* For PEM that says it is encrypted: OpenSSL would ask on the terminal. */
static int no_pass_phrase(char *dst, int size, int writing, void *arg)
{
    (void)dst, (void)size, (void)writing, (void)arg;
    return -1;
}

/* The certificates in @pem, at most @max. NULL when there is none, one is broken, or there are more. */
static STACK_OF(X509) * read_all(struct str pem, int max)
{
    STACK_OF(X509) *list = sk_X509_new_null();
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    bool ok = list && bio;
    while (ok) {
        X509 *x509 = PEM_read_bio_X509(bio, NULL, no_pass_phrase, NULL);
        if (x509 == NULL)
            break;
        ok = sk_X509_num(list) < max && sk_X509_push(list, x509) > 0;
        if (!ok)
            X509_free(x509);
    }
    /* The end is "no start line"; anything else is a block that does not parse. */
    ok = ok && sk_X509_num(list) > 0 && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    BIO_free(bio);
    if (ok)
        return list;
    sk_X509_pop_free(list, X509_free);
    return NULL;
}

int cert_from_pem(struct str pem, struct cert **ret, struct err *err)
{
    ident__start();
    if (pem.n > CERT_PEM_MAX)
        return err_set(err, ERR_RANGE, "certificates of %zu bytes (at most %d)", pem.n, CERT_PEM_MAX);
    BIO *bio = BIO_new_mem_buf(pem.p ? pem.p : "", (int)pem.n);
    X509 *x509 = bio ? PEM_read_bio_X509(bio, NULL, no_pass_phrase, NULL) : NULL;
    BIO_free(bio);
    if (x509 == NULL)
        return ident__fail(err, ERR_INVALID, "not a certificate in PEM");
    struct cert *cert = NEW(struct cert);
    cert->x509 = x509;
    *ret = cert;
    return 0;
}

int cert_to_pem(const struct cert *cert, struct buf *out, struct err *err)
{
    char *p = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio == NULL || PEM_write_bio_X509(bio, cert->x509) != 1) {
        BIO_free(bio);
        return ident__fail(err, ERR_INTERNAL, "the certificate cannot be written as PEM");
    }
    long n = BIO_get_mem_data(bio, &p);
    int rc = buf_append(out, p, (size_t)n);
    BIO_free(bio);
    return rc < 0 ? err_set(err, ERR_EXHAUSTED, "no room for the certificate") : 0;
}

struct cert *cert_free(struct cert *cert)
{
    if (cert)
        X509_free(cert->x509);
    free(cert);
    return NULL;
}

/* --- Fields --- */

int ident__time(const ASN1_TIME *t, usec_t *ret)
{
    struct tm tm = {0};
    if (ASN1_TIME_to_tm(t, &tm) != 1)
        return -ERR_INVALID;
    time_t s = timegm(&tm);
    if (s < 0)
        return -ERR_INVALID;
    *ret = (usec_t)s * USEC_SEC;
    return 0;
}

/* 0 also when there is none: @dst is empty then. */
static int first_uri(X509 *x509, char dst[CERT_URI_SIZE])
{
    int rc = 0;
    dst[0] = '\0';
    GENERAL_NAMES *names = X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI)
            continue;
        const ASN1_IA5STRING *uri = name->d.uniformResourceIdentifier;
        struct str s = {(const char *)ASN1_STRING_get0_data(uri), (size_t)ASN1_STRING_length(uri)};
        /* A NUL inside would make two readers see two identities. */
        rc = s.n >= CERT_URI_SIZE || memchr(s.p, 0, s.n) ? -ERR_INVALID : str_copy(dst, CERT_URI_SIZE, s);
        break;
    }
    GENERAL_NAMES_free(names);
    return rc;
}

static void common_name(X509 *x509, char *dst, size_t size)
{
    const X509_NAME *subject = X509_get_subject_name(x509);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    unsigned char *utf8 = NULL;
    int n = at < 0 ? -1 : ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    (void)str_copy(dst, size, n > 0 ? str_from((const char *)utf8) : STR(""));
    OPENSSL_free(utf8);
}

static int serial_hex(X509 *x509, char dst[CERT_SERIAL_SIZE])
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(x509);
    int n = ASN1_STRING_length(serial);
    if (n <= 0 || 2 * n >= CERT_SERIAL_SIZE)
        return -ERR_INVALID;
    str_hex(ASN1_STRING_get0_data(serial), (size_t)n, dst);
    return 0;
}

int cert_info(const struct cert *cert, struct cert_info *ret, struct err *err)
{
    X509 *x509 = cert->x509;
    struct cert_info info = {0};
    if (first_uri(x509, info.uri) != 0)
        return err_set(err, ERR_INVALID, "the certificate has an identity that is too long or malformed");
    if (serial_hex(x509, info.serial) < 0)
        return err_set(err, ERR_INVALID, "the certificate has a serial number of more than 20 bytes");
    if (ident__time(X509_get0_notBefore(x509), &info.not_before) < 0 || ident__time(X509_get0_notAfter(x509), &info.not_after) < 0)
        return err_set(err, ERR_INVALID, "the certificate has a time that cannot be read");
    EVP_PKEY *pkey = X509_get0_pubkey(x509);
    if (pkey == NULL || X509_digest(x509, EVP_sha256(), info.cert_hash, NULL) != 1)
        return ident__fail(err, ERR_INVALID, "the certificate has no readable key");
    int rc = ident__spki_hash(pkey, info.spki_hash, err);
    if (rc < 0)
        return rc;
    common_name(x509, info.common_name, sizeof(info.common_name));
    info.ca = X509_check_ca(x509) != 0;
    uint32_t usage = X509_get_extended_key_usage(x509);
    if (usage != UINT32_MAX)
        info.usage = (usage & XKU_SSL_CLIENT ? CERT_CLIENT : 0u) | (usage & XKU_SSL_SERVER ? CERT_SERVER : 0u);
    *ret = info;
    return 0;
}

bool cert_fits_key(const struct cert *cert, const struct key *key)
{
    bool fits = X509_check_private_key(cert->x509, key->pkey) == 1;
    ERR_clear_error();
    return fits;
}

bool cert_has_names(const struct cert *cert, const char *uri, const char *const *names, size_t n_names)
{
    GENERAL_NAMES *wanted = NULL;
    if (ident__alt_names(uri, names, n_names, &wanted, NULL) < 0)
        return false;
    GENERAL_NAMES *present = X509_get_ext_d2i(cert->x509, NID_subject_alt_name, NULL, NULL);
    bool same = present && sk_GENERAL_NAME_num(present) == sk_GENERAL_NAME_num(wanted);
    for (int i = 0; same && i < sk_GENERAL_NAME_num(wanted); i++)
        same = GENERAL_NAME_cmp(sk_GENERAL_NAME_value(present, i), sk_GENERAL_NAME_value(wanted, i)) == 0;
    GENERAL_NAMES_free(present);
    GENERAL_NAMES_free(wanted);
    return same;
}

int cert_pem_pin(struct str pem, uint8_t ret[SPKI_HASH_SIZE], struct err *err)
{
    AUTO_CERT cert = NULL;
    int rc = cert_from_pem(pem, &cert, err);
    if (rc < 0)
        return rc;
    EVP_PKEY *pkey = X509_get0_pubkey(cert->x509); /* NOLINT(clang-analyzer-core.NullDereference): set when rc is 0 */
    return pkey ? ident__spki_hash(pkey, ret, err) : ident__fail(err, ERR_INVALID, "the certificate has no readable key");
}

int cert_pem_spki(struct str pem, struct buf *out, struct err *err)
{
    AUTO_CERT cert = NULL;
    int rc = cert_from_pem(pem, &cert, err);
    if (rc < 0)
        return rc;
    EVP_PKEY *pkey = X509_get0_pubkey(cert->x509); /* NOLINT(clang-analyzer-core.NullDereference): set when rc is 0 */
    return pkey ? ident__spki(pkey, out, err) : ident__fail(err, ERR_INVALID, "the certificate has no readable key");
}

int cert_pem_by_pin(struct str pem, const uint8_t pin[SPKI_HASH_SIZE], struct buf *out)
{
    ident__start();
    STACK_OF(X509) *list = pem.n <= CERT_PEM_MAX ? read_all(pem, CERT_CHAIN_MAX) : NULL;
    int rc = list ? 1 : -(int)ERR_INVALID;
    for (int i = 0; rc == 1 && i < sk_X509_num(list); i++) {
        uint8_t hash[SPKI_HASH_SIZE];
        EVP_PKEY *pkey = X509_get0_pubkey(sk_X509_value(list, i));
        /* A cross certificate has the key of a root too, and ends no chain. */
        if (pkey && ident__spki_hash(pkey, hash, NULL) == 0 && memcmp(hash, pin, sizeof(hash)) == 0 &&
            X509_self_signed(sk_X509_value(list, i), 0) == 1)
            rc = cert_to_pem(&(struct cert){sk_X509_value(list, i)}, out, NULL);
    }
    sk_X509_pop_free(list, X509_free);
    ERR_clear_error();
    return rc;
}

/* --- Lists of roots --- */

static int read_root(X509 *x509, struct cert_root *ret, struct err *err)
{
    struct cert_info info = {0};
    int rc = cert_info(&(struct cert){x509}, &info, err);
    if (rc < 0)
        return rc;
    if (!info.ca || X509_self_signed(x509, 1) != 1)
        return err_set(err, ERR_INVALID, "one of the roots is no root certificate");
    memcpy(ret->pin, info.spki_hash, sizeof(ret->pin));
    ret->not_before = info.not_before;
    ret->not_after = info.not_after;
    return 0;
}

int cert_roots_read(struct str pem, struct cert_roots *ret, struct err *err)
{
    ident__start();
    struct cert_roots roots = {0};
    STACK_OF(X509) *list = pem.n && pem.n <= CERT_PEM_MAX ? read_all(pem, CERT_ROOTS_MAX) : NULL;
    int rc = list ? 0 : err_set(err, ERR_INVALID, "no readable list of at most %d root certificates", CERT_ROOTS_MAX);
    for (int i = 0; rc == 0 && i < sk_X509_num(list); i++) {
        rc = read_root(sk_X509_value(list, i), &roots.v[roots.n], err);
        if (rc == 0 && cert_roots_have(&roots, roots.v[roots.n].pin))
            rc = err_set(err, ERR_INVALID, "one of the roots is there twice");
        roots.n++;
    }
    sk_X509_pop_free(list, X509_free);
    ERR_clear_error();
    if (rc == 0)
        *ret = roots;
    return rc;
}

bool cert_roots_have(const struct cert_roots *roots, const uint8_t pin[SPKI_HASH_SIZE])
{
    for (size_t i = 0; i < roots->n; i++)
        if (memcmp(roots->v[i].pin, pin, SPKI_HASH_SIZE) == 0)
            return true;
    return false;
}

bool cert_roots_meet(const struct cert_roots *a, const struct cert_roots *b)
{
    for (size_t i = 0; i < a->n; i++)
        if (cert_roots_have(b, a->v[i].pin))
            return true;
    return false;
}

/* --- Chains --- */

static int verify(STACK_OF(X509) * chain, STACK_OF(X509) * roots, unsigned usage, usec_t when, struct err *err)
{
    X509_STORE *trust = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_VERIFY_PARAM *param;
    int rc = -ERR_INTERNAL;
    if (trust == NULL || ctx == NULL || X509_STORE_CTX_init(ctx, trust, sk_X509_value(chain, 0), chain) != 1)
        goto out;
    X509_STORE_CTX_set0_trusted_stack(ctx, roots);
    param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_time(param, (time_t)(when / USEC_SEC));
    X509_VERIFY_PARAM_set_depth(param, CERT_CHAIN_MAX);
    if (X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT) != 1)
        goto out;
    if (usage && X509_VERIFY_PARAM_set_purpose(param, usage == CERT_SERVER ? X509_PURPOSE_SSL_SERVER : X509_PURPOSE_SSL_CLIENT) != 1)
        goto out;
    rc = 0;
    if (X509_verify_cert(ctx) != 1)
        rc = err_set(err, ERR_UNAUTHENTICATED, "the certificate is not valid here: %s (depth %d)",
                     X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)), X509_STORE_CTX_get_error_depth(ctx));
out:
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(trust);
    ERR_clear_error();
    return err_ensure(err, rc);
}

int cert_verify_chain(struct str chain_pem, struct str roots_pem, unsigned usage, usec_t when, struct cert_info *leaf, struct err *err)
{
    ident__start();
    if (chain_pem.n > CERT_PEM_MAX || roots_pem.n > CERT_PEM_MAX)
        return err_set(err, ERR_UNAUTHENTICATED, "certificates of more than %d bytes", CERT_PEM_MAX);
    STACK_OF(X509) *chain = read_all(chain_pem, CERT_CHAIN_MAX), *roots = read_all(roots_pem, ROOTS_MAX);
    int rc = 0;
    if (chain == NULL)
        rc = err_set(err, ERR_UNAUTHENTICATED, "no readable chain of at most %d certificates", CERT_CHAIN_MAX);
    else if (roots == NULL)
        rc = err_set(err, ERR_UNAUTHENTICATED, "no readable root certificate");
    else
        rc = verify(chain, roots, usage, when, err);
    if (rc == 0 && leaf)
        rc = cert_info(&(struct cert){sk_X509_value(chain, 0)}, leaf, err);
    sk_X509_pop_free(chain, X509_free);
    sk_X509_pop_free(roots, X509_free);
    return rc;
}

/* Is there a certificate of the key with @pin in @vouchers that one of @known signed, and that may stand above others? An intermediate's may not:
 * the control plane holds those keys, and would make a root of one. */
static bool vouched(const uint8_t pin[SPKI_HASH_SIZE], STACK_OF(X509) * vouchers, STACK_OF(X509) * known, usec_t when)
{
    bool found = false;
    for (int i = 0; !found && i < sk_X509_num(vouchers); i++) {
        X509 *one = sk_X509_value(vouchers, i);
        EVP_PKEY *pkey = X509_get0_pubkey(one);
        uint8_t hash[SPKI_HASH_SIZE];
        STACK_OF(X509) *alone = sk_X509_new_null();
        if (alone && pkey && X509_check_ca(one) == 1 && X509_get_pathlen(one) != 0 && ident__spki_hash(pkey, hash, NULL) == 0 &&
            memcmp(hash, pin, sizeof(hash)) == 0 && sk_X509_push(alone, one) > 0)
            found = verify(alone, known, 0, when, NULL) == 0;
        sk_X509_free(alone);
    }
    return found;
}

int cert_roots_believed(struct str granted, struct str known, struct str vouchers, usec_t when, struct buf *out, struct err *err)
{
    struct cert_roots ours, theirs;
    int rc = cert_roots_read(granted, &theirs, err);
    if (rc == 0)
        rc = cert_roots_read(known, &ours, err);
    if (rc != 0)
        return rc;
    if (!cert_roots_meet(&ours, &theirs))
        return err_set(err, ERR_INVALID, "none of the roots that came with them is one of the present ones");
    STACK_OF(X509) *list = read_all(granted, CERT_ROOTS_MAX), *trust = read_all(known, CERT_ROOTS_MAX);
    STACK_OF(X509) *with = vouchers.n && vouchers.n <= CERT_PEM_MAX ? read_all(vouchers, CERT_CHAIN_MAX) : NULL;
    for (int i = 0; rc == 0 && i < sk_X509_num(list); i++)
        if (cert_roots_have(&ours, theirs.v[i].pin) || (with && vouched(theirs.v[i].pin, with, trust, when)))
            rc = cert_to_pem(&(struct cert){sk_X509_value(list, i)}, out, err);
    sk_X509_pop_free(list, X509_free);
    sk_X509_pop_free(trust, X509_free);
    sk_X509_pop_free(with, X509_free);
    ERR_clear_error();
    return rc;
}
