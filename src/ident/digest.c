/* SPDX-License-Identifier: Apache-2.0 */
/* digest — see digest.h: OpenSSL's SHA-256 behind a wall. */
#include "ident/digest.h"

#include <openssl/evp.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

struct digest {
    EVP_MD_CTX *md;
};

struct digest *digest_new(void)
{
    struct digest *d = NEW(struct digest);
    d->md = EVP_MD_CTX_new();
    BUG_ON(!d->md || EVP_DigestInit_ex(d->md, EVP_sha256(), NULL) != 1);
    return d;
}

void digest_add(struct digest *d, const void *p, size_t n)
{
    BUG_ON(EVP_DigestUpdate(d->md, p, n) != 1);
}

void digest_hex(struct digest *d, char ret[DIGEST_HEX_SIZE])
{
    uint8_t hash[(DIGEST_HEX_SIZE - 1) / 2];
    BUG_ON(EVP_DigestFinal_ex(d->md, hash, NULL) != 1);
    str_hex(hash, sizeof(hash), ret);
}

struct digest *digest_free(struct digest *d)
{
    if (d)
        EVP_MD_CTX_free(d->md);
    free(d);
    return NULL;
}
