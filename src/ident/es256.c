/* SPDX-License-Identifier: Apache-2.0 */
/* es256 — signatures of JSON Web Tokens by ECDSA on P-256 with SHA-256, in the raw form that they have there (RFC 7518, 3.4), and their base64url. */
#include <openssl/ecdsa.h>
#include <openssl/err.h>

#include "base/mem.h"
#include "ident/ident_internal.h"

enum { NUMBER_BYTES = ES256_SIGNATURE_SIZE / 2, SIGNATURE_DER_MAX = 80 };

bool ident__is_p256(EVP_PKEY *pkey)
{
    return EVP_PKEY_is_a(pkey, "EC") && ident__key_allowed(pkey);
}

static bool raw_of_der(const uint8_t *der, size_t n, uint8_t raw[ES256_SIGNATURE_SIZE])
{
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)n);
    bool ok = sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, NUMBER_BYTES) == NUMBER_BYTES &&
              BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + NUMBER_BYTES, NUMBER_BYTES) == NUMBER_BYTES;
    ECDSA_SIG_free(sig);
    return ok;
}

/* The length of the DER form; 0 when it cannot be made. */
static size_t der_of_raw(const uint8_t raw[ES256_SIGNATURE_SIZE], uint8_t der[SIGNATURE_DER_MAX])
{
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(raw, NUMBER_BYTES, NULL), *s = BN_bin2bn(raw + NUMBER_BYTES, NUMBER_BYTES, NULL);
    int n = 0;
    if (sig && r && s && ECDSA_SIG_set0(sig, r, s) == 1) {
        r = s = NULL; /* they are its own now */
        n = i2d_ECDSA_SIG(sig, NULL);
        n = n > 0 && n <= SIGNATURE_DER_MAX ? i2d_ECDSA_SIG(sig, &der) : 0;
    }
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(sig);
    return n > 0 ? (size_t)n : 0;
}

bool ident__es256_sign(EVP_PKEY *pkey, struct str text, uint8_t ret[ES256_SIGNATURE_SIZE])
{
    uint8_t der[SIGNATURE_DER_MAX];
    size_t n = sizeof(der);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, pkey) == 1 &&
              EVP_DigestSign(ctx, der, &n, (const uint8_t *)text.p, text.n) == 1 && raw_of_der(der, n, ret);
    EVP_MD_CTX_free(ctx);
    return ok;
}

bool ident__es256_holds(EVP_PKEY *pkey, struct str text, const uint8_t signature[ES256_SIGNATURE_SIZE])
{
    uint8_t der[SIGNATURE_DER_MAX];
    size_t n = der_of_raw(signature, der);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = n && ctx && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, pkey) == 1 &&
              EVP_DigestVerify(ctx, der, n, (const uint8_t *)text.p, text.n) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}

bool ident__unbase64url(struct str text, void *dst, size_t size, size_t *ret_n)
{
    if (str_unbase64(text, dst, size, ret_n) < 0)
        return false;
    AUTO_FREE char *again = str_base64url(dst, *ret_n);
    return str_eq(text, str_from(again));
}

int ident__base64url(struct buf *out, const void *p, size_t n)
{
    AUTO_FREE char *text = str_base64url(p, n);
    return buf_append_cstr(out, text);
}
