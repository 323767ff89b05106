/* SPDX-License-Identifier: Apache-2.0 */
/* key — private keys on OpenSSL, and files for them that appear whole or not at all. */
#include "ident/key.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "ident/ident_internal.h"

bool ident__is_uuid(const char *s)
{
    for (size_t i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (s[i] == '\0' || (dash ? s[i] != '-' : strchr("0123456789abcdef", s[i]) == NULL))
            return false;
    }
    return s[36] == '\0';
}

void ident__start(void)
{
    BUG_ON(OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_ADD_ALL_CIPHERS | OPENSSL_INIT_ADD_ALL_DIGESTS, NULL) != 1);
}

int ident__fail(struct err *err, enum err_code code, const char *what)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    int rc = reason ? err_set(err, code, "%s: %s", what, reason) : err_set(err, code, "%s", what);
    ERR_clear_error();
    return rc;
}

bool ident__key_allowed(EVP_PKEY *pkey)
{
    char group[32] = "";
    size_t n = 0;
    if (EVP_PKEY_is_a(pkey, "EC")) {
        if (EVP_PKEY_get_group_name(pkey, group, sizeof(group), &n) != 1 || !str_eq(str_from(group), STR("prime256v1")))
            return false;
    } else if (!EVP_PKEY_is_a(pkey, "ED25519")) {
        return false;
    }
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
    bool ok = ctx && EVP_PKEY_public_check(ctx) == 1;
    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}

const EVP_MD *ident__digest(EVP_PKEY *pkey)
{
    return EVP_PKEY_is_a(pkey, "ED25519") ? NULL : EVP_sha256();
}

int ident__spki_hash(EVP_PKEY *pkey, uint8_t ret[SPKI_HASH_SIZE], struct err *err)
{
    unsigned char *der = NULL;
    int n = i2d_PUBKEY(pkey, &der);
    bool ok = n > 0 && EVP_Digest(der, (size_t)n, ret, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_free(der);
    return ok ? 0 : ident__fail(err, ERR_INTERNAL, "the public key cannot be hashed");
}

int ident__spki(EVP_PKEY *pkey, struct buf *out, struct err *err)
{
    unsigned char *der = NULL;
    int n = i2d_PUBKEY(pkey, &der);
    if (n <= 0)
        return ident__fail(err, ERR_INTERNAL, "the public key cannot be written");
    int rc = buf_append(out, der, (size_t)n);
    OPENSSL_free(der);
    return rc < 0 ? err_set(err, ERR_EXHAUSTED, "no room for the public key") : 0;
}

static struct key *key_wrap(EVP_PKEY *pkey)
{
    struct key *key = NEW(struct key);
    key->pkey = pkey;
    return key;
}

int key_generate(struct key **ret, struct err *err)
{
    ident__start();
    EVP_PKEY *pkey = EVP_EC_gen("P-256");
    if (pkey == NULL)
        return ident__fail(err, ERR_INTERNAL, "no key could be made");
    *ret = key_wrap(pkey);
    return 0;
}

struct key *key_free(struct key *key)
{
    if (key)
        EVP_PKEY_free(key->pkey);
    free(key);
    return NULL;
}

/* The DER behind a PEM block of exactly this kind; NULL if there is none. Nothing asks for a pass phrase. */
static EVP_PKEY *read_pkcs8(struct str pem)
{
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long n = 0;
    EVP_PKEY *pkey = NULL;
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    if (bio && PEM_read_bio(bio, &name, &header, &der, &n) == 1 && str_eq(str_from(name), STR("PRIVATE KEY"))) {
        const unsigned char *p = der;
        PKCS8_PRIV_KEY_INFO *info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &p, n);
        if (info && p == der + n)
            pkey = EVP_PKCS82PKEY(info);
        PKCS8_PRIV_KEY_INFO_free(info);
    }
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_clear_free(der, (size_t)n);
    BIO_free(bio);
    return pkey;
}

int key_from_pem(struct str pem, struct key **ret, struct err *err)
{
    ident__start();
    if (pem.n == 0 || pem.n > KEY_PEM_MAX)
        return err_set(err, ERR_INVALID, "a private key of %zu bytes", pem.n);
    EVP_PKEY *pkey = read_pkcs8(pem);
    if (pkey == NULL)
        return ident__fail(err, ERR_INVALID, "not an unencrypted PKCS#8 private key in PEM");
    if (!ident__key_allowed(pkey)) {
        EVP_PKEY_free(pkey);
        return err_set(err, ERR_INVALID, "the private key is neither P-256 nor Ed25519");
    }
    *ret = key_wrap(pkey);
    return 0;
}

int key_to_pem(const struct key *key, struct secret **ret, struct err *err)
{
    char *p = NULL;
    /* Memory of the secure kind is wiped when the BIO ends. */
    BIO *bio = BIO_new(BIO_s_secmem());
    if (bio == NULL || PEM_write_bio_PKCS8PrivateKey(bio, key->pkey, NULL, NULL, 0, NULL, NULL) != 1) {
        BIO_free(bio);
        return ident__fail(err, ERR_INTERNAL, "the private key cannot be written as PEM");
    }
    long n = BIO_get_mem_data(bio, &p);
    *ret = secret_new((struct str){p, (size_t)n});
    BIO_free(bio);
    return 0;
}

int key_spki_hash(const struct key *key, uint8_t ret[SPKI_HASH_SIZE], struct err *err)
{
    return ident__spki_hash(key->pkey, ret, err);
}

int key_spki(const struct key *key, struct buf *out, struct err *err)
{
    return ident__spki(key->pkey, out, err);
}

/* --- Files --- */

static int write_new(const char *path, struct str bytes, struct err *err)
{
    AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, errno, "cannot make %s", path);
    int rc = fd_write_all(fd, bytes.p, bytes.n, err);
    if (rc == 0 && fsync(fd) != 0)
        rc = err_sys(err, errno, "cannot sync %s", path);
    return rc;
}

int ident__save_new(const char *path, struct str bytes, struct err *err)
{
    char unique[37];
    /* Written aside and linked in: a crash leaves no half key, and link(2) never replaces what is there. */
    rng_uuid(unique);
    AUTO_FREE char *tmp = str_printf("%s.%s", path, unique);
    int rc = write_new(tmp, bytes, err);
    if (rc == 0 && link(tmp, path) != 0)
        rc = err_sys(err, errno, "cannot make %s", path);
    /* A second name of a key that nobody knows of is a failure: with the name in the message it can be removed. */
    if (unlink(tmp) != 0 && errno != ENOENT && rc == 0)
        rc = err_sys(err, errno, "cannot remove %s", tmp);
    return rc < 0 ? rc : fd_sync_parent(path, err);
}

int key_save(const struct key *key, const char *path, struct err *err)
{
    AUTO_SECRET pem = NULL;
    int rc = key_to_pem(key, &pem, err);
    return rc < 0 ? rc : ident__save_new(path, secret_reveal(pem), err);
}

int ident__read_private(const char *path, struct buf *out, struct err *err)
{
    struct stat st;
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0)
        return err_sys(err, errno, "cannot read the key %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, "%s is not a file", path);
    if ((st.st_mode & 077) != 0) {
        int rc = err_set(err, ERR_DENIED, "the key %s may be read by others than its owner (mode %04o)", path, (unsigned)(st.st_mode & 07777));
        err_hint(err, "Find out who could read it. If nobody did: chmod 600 '%s'", path);
        return rc;
    }
    char *room = buf_reserve(out, KEY_PEM_MAX);
    ssize_t n = 1;
    size_t sum = 0;
    while (n > 0 && sum < KEY_PEM_MAX) {
        n = read(fd, room + sum, KEY_PEM_MAX - sum);
        if (n < 0 && errno != EINTR)
            return err_sys(err, errno, "cannot read the key %s", path);
        sum += n > 0 ? (size_t)n : 0;
        n = n < 0 ? 1 : n;
    }
    buf_commit(out, sum);
    return 0;
}

int key_load(const char *path, struct key **ret, struct err *err)
{
    AUTO_SECRET_BUF pem = BUF_INIT(KEY_PEM_MAX);
    int rc = ident__read_private(path, &pem, err);
    if (rc == 0) {
        rc = key_from_pem(buf_str(&pem), ret, err);
        if (rc < 0 && err)
            rc = err_wrap(err, "%s", path);
    }
    return rc;
}

int key_load_or_make(const char *path, struct key **ret, struct err *err)
{
    AUTO_KEY key = NULL;
    int rc = key_load(path, ret, err);
    if (rc != -ERR_NOT_FOUND)
        return rc;
    rc = key_generate(&key, err);
    if (rc == 0)
        rc = key_save(key, path, err);
    if (rc == 0)
        *ret = TAKE(key);
    else if (rc == -ERR_EXISTS)
        rc = key_load(path, ret, err);
    if (rc == 0 && err)
        *err = ERR_INIT;
    return rc;
}
