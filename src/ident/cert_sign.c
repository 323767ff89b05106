/* SPDX-License-Identifier: Apache-2.0 */
/* cert_sign — issuing: what stands in a certificate is decided here and nowhere else. */
#include <arpa/inet.h>

#include <openssl/err.h>

#include "base/mem.h"
#include "ident/cert.h"
#include "ident/ident_internal.h"

enum { SERIAL_BYTES = 16, EXTENSIONS_MAX = 8 };

struct extension {
    int nid;
    const char *value; /* in OpenSSL's notation; our own constant text only, since it is a language */
};

struct template {
    EVP_PKEY *subject_key;
    X509 *issuer; /* NULL: self-signed */
    EVP_PKEY *issuer_key;
    const char *common_name;
    usec_t not_after;
    const struct extension *extensions; /* ends with nid 0 */
    GENERAL_NAMES *alt_names;           /* may be NULL */
};

/* --- Names --- */

static bool uri_ok(const char *uri)
{
    struct str s = str_from(uri);
    if (!str_starts(s, STR("davit://")) || s.n <= 8 || s.n >= CERT_URI_SIZE)
        return false;
    return strspn(uri, "abcdefghijklmnopqrstuvwxyz0123456789:/.-") == s.n;
}

static int push_name(GENERAL_NAMES *names, int type, const void *p, size_t n)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_STRING *value = ASN1_STRING_type_new(type == GEN_IPADD ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);
    if (name == NULL || value == NULL || ASN1_STRING_set(value, p, (int)n) != 1) {
        GENERAL_NAME_free(name);
        ASN1_STRING_free(value);
        return -ERR_INTERNAL;
    }
    GENERAL_NAME_set0_value(name, type, value);
    if (sk_GENERAL_NAME_push(names, name) > 0)
        return 0;
    GENERAL_NAME_free(name);
    return -ERR_INTERNAL;
}

static int push_host(GENERAL_NAMES *names, const char *host, struct err *err)
{
    unsigned char ip[16];
    if (inet_pton(AF_INET, host, ip) == 1)
        return push_name(names, GEN_IPADD, ip, 4);
    if (inet_pton(AF_INET6, host, ip) == 1)
        return push_name(names, GEN_IPADD, ip, 16);
    if (!str_is_dns_name(str_from(host)))
        return err_set(err, ERR_INVALID, "\"%.80s\" is neither a lower-case DNS name nor an IP address", host);
    return push_name(names, GEN_DNS, host, strlen(host));
}

int ident__alt_names(const char *uri, const char *const *names, size_t n_names, GENERAL_NAMES **ret, struct err *err)
{
    if (uri && !uri_ok(uri))
        return err_set(err, ERR_INVALID, "\"%.80s\" is no davit:// identity", uri);
    if (n_names > CERT_SAN_MAX)
        return err_set(err, ERR_INVALID, "%zu names for one certificate (at most %d)", n_names, CERT_SAN_MAX);
    GENERAL_NAMES *list = GENERAL_NAMES_new();
    int rc = list == NULL ? -ERR_INTERNAL : uri ? push_name(list, GEN_URI, uri, strlen(uri)) : 0;
    for (size_t i = 0; rc == 0 && i < n_names; i++)
        rc = push_host(list, names[i], err);
    if (rc < 0) {
        GENERAL_NAMES_free(list);
        return err_ensure(err, rc);
    }
    *ret = list;
    return 0;
}

/* --- The certificate --- */

static bool set_serial(X509 *x509)
{
    unsigned char bytes[SERIAL_BYTES];
    rng_bytes(bytes, sizeof(bytes));
    BIGNUM *n = BN_bin2bn(bytes, sizeof(bytes), NULL);
    bool ok = n && !BN_is_zero(n) && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x509)) != NULL;
    BN_free(n);
    return ok;
}

static bool set_times(X509 *x509, const struct template *t)
{
    usec_t now = clock_real(), before = now > CERT_BACKDATE ? now - CERT_BACKDATE : 0;
    return ASN1_TIME_set(X509_getm_notBefore(x509), (time_t)(before / USEC_SEC)) != NULL &&
           ASN1_TIME_set(X509_getm_notAfter(x509), (time_t)(t->not_after / USEC_SEC)) != NULL;
}

static bool set_names(X509 *x509, const struct template *t)
{
    X509_NAME *subject = X509_get_subject_name(x509);
    if (X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_UTF8, (const unsigned char *)"Davit", -1, -1, 0) != 1 ||
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)t->common_name, -1, -1, 0) != 1)
        return false;
    return X509_set_issuer_name(x509, t->issuer ? X509_get_subject_name(t->issuer) : subject) == 1;
}

static bool add_extensions(X509 *x509, const struct template *t)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, t->issuer ? t->issuer : x509, x509, NULL, NULL, 0);
    X509V3_set_ctx_nodb(&ctx);
    for (const struct extension *e = t->extensions; e->nid != 0; e++) {
        X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, e->nid, e->value);
        bool ok = ext && X509_add_ext(x509, ext, -1) == 1;
        X509_EXTENSION_free(ext);
        if (!ok)
            return false;
    }
    return t->alt_names == NULL || X509_add1_ext_i2d(x509, NID_subject_alt_name, t->alt_names, 0, X509V3_ADD_DEFAULT) == 1;
}

static int build(const struct template *t, struct cert **ret, struct err *err)
{
    X509 *x509 = X509_new();
    if (x509 == NULL || X509_set_version(x509, X509_VERSION_3) != 1 || X509_set_pubkey(x509, t->subject_key) != 1 || !set_serial(x509) ||
        !set_times(x509, t) || !set_names(x509, t) || !add_extensions(x509, t) ||
        X509_sign(x509, t->issuer_key, ident__digest(t->issuer_key)) <= 0) {
        X509_free(x509);
        return ident__fail(err, ERR_INTERNAL, "no certificate could be made");
    }
    /* What was assembled has caches that miss parts of it: read it back from its own bytes. */
    unsigned char *der = NULL;
    int n = i2d_X509(x509, &der);
    X509_free(x509);
    const unsigned char *p = der;
    x509 = n > 0 ? d2i_X509(NULL, &p, n) : NULL;
    OPENSSL_free(der);
    if (x509 == NULL)
        return ident__fail(err, ERR_INTERNAL, "the certificate that was made cannot be read");
    struct cert *cert = NEW(struct cert);
    cert->x509 = x509;
    *ret = cert;
    return 0;
}

static int check_name(const char *name, struct err *err)
{
    size_t n = strlen(name);
    if (n == 0 || n > 64 || !str_is_utf8((struct str){name, n}))
        return err_set(err, ERR_INVALID, "common name: 1 to 64 bytes of UTF-8 are needed");
    return 0;
}

static int check_issuer(const struct key *key, const struct cert *ca, usec_t *ret_end, struct err *err)
{
    if (!cert_fits_key(ca, key))
        return err_set(err, ERR_PRECONDITION, "the key is not the key of the issuing certificate");
    if (X509_check_ca(ca->x509) == 0)
        return err_set(err, ERR_PRECONDITION, "the issuing certificate is not one of an authority");
    if (ident__time(X509_get0_notAfter(ca->x509), ret_end) < 0 || *ret_end <= clock_real())
        return err_set(err, ERR_PRECONDITION, "the issuing certificate has expired");
    return 0;
}

static usec_t end_in_days(unsigned days)
{
    return clock_add(clock_real(), days * USEC_DAY);
}

int cert_make_root(const struct key *key, const char *common_name, unsigned days, struct cert **ret, struct err *err)
{
    static const struct extension extensions[] = {{NID_basic_constraints, "critical,CA:TRUE,pathlen:1"},
                                                  {NID_key_usage, "critical,keyCertSign,cRLSign"},
                                                  {NID_subject_key_identifier, "hash"},
                                                  {0, NULL}};
    ident__start();
    int rc = check_name(common_name, err);
    if (rc < 0)
        return rc;
    struct template t = {.subject_key = key->pkey, .issuer_key = key->pkey, .common_name = common_name, .not_after = end_in_days(days),
                         .extensions = extensions};
    return build(&t, ret, err);
}

static const char *const USAGES[] = {NULL, "clientAuth", "serverAuth", "clientAuth,serverAuth"};

static int check_usage(unsigned usage, struct err *err)
{
    return usage == 0 || usage >= ARRAY_LEN(USAGES) ? err_set(err, ERR_INVALID, "usage: client, server or both are needed") : 0;
}

int cert_sign_cross(const struct key *root_key, const struct cert *root, const struct cert *fresh, struct cert **ret, struct err *err)
{
    /* One name: so it counts as issued by itself, and not against the path length of the old root. */
    static const struct extension extensions[] = {{NID_basic_constraints, "critical,CA:TRUE,pathlen:1"},
                                                  {NID_key_usage, "critical,keyCertSign,cRLSign"},
                                                  {NID_subject_key_identifier, "hash"},
                                                  {NID_authority_key_identifier, "keyid:always"},
                                                  {0, NULL}};
    struct cert_info info;
    usec_t end = 0;
    int rc = check_issuer(root_key, root, &end, err);
    if (rc == 0)
        rc = cert_info(fresh, &info, err);
    if (rc < 0)
        return rc;
    struct template t = {.subject_key = X509_get0_pubkey(fresh->x509), .issuer = root->x509, .issuer_key = root_key->pkey,
                         .common_name = info.common_name, .not_after = info.not_after < end ? info.not_after : end, .extensions = extensions};
    AUTO_CERT made = NULL;
    rc = build(&t, &made, err);
    if (rc < 0 || !made)
        return err_ensure(err, rc < 0 ? rc : -ERR_INTERNAL);
    if (X509_NAME_cmp(X509_get_subject_name(made->x509), X509_get_issuer_name(made->x509)) != 0 ||
        X509_NAME_cmp(X509_get_subject_name(made->x509), X509_get_subject_name(fresh->x509)) != 0)
        return err_set(err, ERR_PRECONDITION, "the two roots have different names");
    *ret = TAKE(made);
    return 0;
}

int cert_sign_intermediate(const struct key *root_key, const struct cert *root, const struct csr *csr, const struct ca_spec *spec,
                           struct cert **ret, struct err *err)
{
    usec_t end = 0;
    int rc = check_name(spec->common_name, err);
    if (rc == 0)
        rc = check_usage(spec->usage, err);
    if (rc == 0 && (spec->uri_host[0] == '\0' || strspn(spec->uri_host, "abcdefghijklmnopqrstuvwxyz") != strlen(spec->uri_host)))
        rc = err_set(err, ERR_INVALID, "uri_host: lower-case letters are needed");
    if (rc == 0)
        rc = check_issuer(root_key, root, &end, err);
    if (rc < 0)
        return rc;
    /* Not critical although RFC 5280 wants that: verifiers that do not know constraints on URIs would refuse every leaf with one (browsers);
     * those that decide about davit:// identities are ours and enforce it either way. */
    AUTO_FREE char *constraint = spec->second_host ? str_printf("permitted;URI:%s,permitted;URI:%s", spec->uri_host, spec->second_host)
                                                   : str_printf("permitted;URI:%s", spec->uri_host);
    const struct extension extensions[] = {{NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
                                           {NID_key_usage, "critical,keyCertSign,cRLSign"},
                                           {NID_ext_key_usage, USAGES[spec->usage]},
                                           {NID_name_constraints, constraint},
                                           {NID_subject_key_identifier, "hash"},
                                           {NID_authority_key_identifier, "keyid:always"},
                                           {0, NULL}};
    usec_t wanted = end_in_days(spec->days);
    struct template t = {.subject_key = csr->pkey, .issuer = root->x509, .issuer_key = root_key->pkey, .common_name = spec->common_name,
                         .not_after = wanted < end ? wanted : end, .extensions = extensions};
    return build(&t, ret, err);
}

int cert_sign_leaf(const struct key *ca_key, const struct cert *ca, const struct csr *csr, const struct leaf_spec *spec, struct cert **ret,
                   struct err *err)
{
    usec_t end = 0;
    int rc = check_name(spec->common_name, err);
    if (rc == 0)
        rc = check_usage(spec->usage, err);
    if (rc == 0 && spec->not_after <= clock_real())
        rc = err_set(err, ERR_INVALID, "not_after lies in the past");
    if (rc == 0)
        rc = check_issuer(ca_key, ca, &end, err);
    GENERAL_NAMES *names = NULL;
    if (rc == 0)
        rc = ident__alt_names(spec->uri, spec->names, spec->n_names, &names, err);
    if (rc == 0 && spec->second_uri)
        rc = !uri_ok(spec->second_uri) ? err_set(err, ERR_INVALID, "\"%.80s\" is no davit:// identity", spec->second_uri)
                                       : push_name(names, GEN_URI, spec->second_uri, strlen(spec->second_uri));
    if (rc < 0) {
        GENERAL_NAMES_free(names);
        return rc;
    }
    const struct extension extensions[] = {{NID_basic_constraints, "critical,CA:FALSE"},
                                           {NID_key_usage, "critical,digitalSignature"},
                                           {NID_ext_key_usage, USAGES[spec->usage]},
                                           {NID_subject_key_identifier, "hash"},
                                           {NID_authority_key_identifier, "keyid:always"},
                                           {0, NULL}};
    struct template t = {.subject_key = csr->pkey, .issuer = ca->x509, .issuer_key = ca_key->pkey, .common_name = spec->common_name,
                         .not_after = spec->not_after < end ? spec->not_after : end, .extensions = extensions, .alt_names = names};
    rc = build(&t, ret, err);
    GENERAL_NAMES_free(names);
    return rc;
}
