/* SPDX-License-Identifier: Apache-2.0 */
/* testcert — see testcert.h. */
#include "net/testcert.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"

static char *bio_text(BIO *bio)
{
    char *p;
    long n = BIO_get_mem_data(bio, &p);
    char *text = str_dup((struct str){p, (size_t)n});
    BIO_free(bio);
    return text;
}

static void add_ext(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    BUG_ON(!ext || X509_add_ext(x, ext, -1) != 1);
    X509_EXTENSION_free(ext);
}

static void add_names(X509 *x, X509 *issuer, const char *uri, const char *dns)
{
    if (!uri && !dns)
        return;
    char *san =
        str_printf("%s%s%s%s%s", uri ? "URI:" : "", uri ? uri : "", uri && dns ? "," : "", dns ? "DNS:" : "", dns ? dns : "");
    add_ext(x, issuer, NID_subject_alt_name, san);
    free(san);
}

void testcert_make(struct testcert *ret, const char *cn, const struct testcert *issuer, const char *uri, const char *dns,
                   long seconds)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    BUG_ON(!key || !x);
    X509 *issuer_x = issuer ? issuer->x509 : x;
    uint64_t serial;
    rng_bytes(&serial, sizeof(serial));
    X509_set_version(x, 2);
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), serial >> 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -7200);
    X509_gmtime_adj(X509_getm_notAfter(x), seconds);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(issuer_x));
    add_ext(x, issuer_x, NID_basic_constraints, issuer ? "critical,CA:FALSE" : "critical,CA:TRUE");
    add_ext(x, issuer_x, NID_key_usage, issuer ? "critical,digitalSignature" : "critical,keyCertSign,cRLSign");
    add_names(x, issuer_x, uri, dns);
    BUG_ON(X509_sign(x, issuer ? issuer->key : key, EVP_sha256()) == 0);
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, x);
    ret->cert_pem = bio_text(bio);
    ret->chain_pem = str_printf("%s%s", ret->cert_pem, issuer ? issuer->cert_pem : "");
    bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
    ret->key_pem = bio_text(bio);
    uint8_t *der = NULL;
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &der);
    unsigned md_n = sizeof(ret->spki_sha256);
    BUG_ON(EVP_Digest(der, (size_t)n, ret->spki_sha256, &md_n, EVP_sha256(), NULL) != 1);
    OPENSSL_free(der);
    ret->x509 = x;
    ret->key = key;
}

void testcert_free(struct testcert *c)
{
    free(c->cert_pem);
    free(c->chain_pem);
    free(c->key_pem);
    X509_free(c->x509);
    EVP_PKEY_free(c->key);
    memset(c, 0, sizeof(*c));
}
