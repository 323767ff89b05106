/* SPDX-License-Identifier: Apache-2.0 */
/* password — see password.h. */
#include "ident/password.h"

#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include "base/clock.h"

enum { LN = 15, R = 8, P = 1, LN_MIN = 10, LN_MAX = 16, R_MAX = 8, P_MAX = 4 };

/* What scrypt needs beside its big array. */
enum { MEMORY_MORE = 4 * 1024 * 1024 };

/* --- The text --- */

/* "ln=15" from the front of @rest, up to the next @sep. */
static int parameter(struct str *rest, char sep, const char *name, unsigned min, unsigned max, unsigned *ret)
{
    struct str part = str_cut(rest, sep), key = str_cut(&part, '=');
    uint64_t value;
    if (!str_eq(key, str_from(name)) || part.n == 0 || part.n > 2 || *part.p == '0' || str_to_u64(part, max, &value) < 0 || value < min)
        return -(int)ERR_INVALID;
    *ret = (unsigned)value;
    return 0;
}

int password_parse(struct str text, struct password_text *ret)
{
    struct password_text t = {0};
    struct str rest = text;
    size_t n_hash = 0;
    if (text.n >= PASSWORD_TEXT_SIZE || str_cut(&rest, '$').n != 0 || !str_eq(str_cut(&rest, '$'), STR("scrypt")))
        return -(int)ERR_INVALID;
    struct str cost = str_cut(&rest, '$'), salt = str_cut(&rest, '$');
    if (parameter(&cost, ',', "ln", LN_MIN, LN_MAX, &t.ln) < 0 || parameter(&cost, ',', "r", 1, R_MAX, &t.r) < 0 ||
        parameter(&cost, ',', "p", 1, P_MAX, &t.p) < 0 || cost.n)
        return -(int)ERR_INVALID;
    if (str_unbase64(salt, t.salt, sizeof(t.salt), &t.n_salt) < 0 || t.n_salt < PASSWORD_SALT_SIZE ||
        str_unbase64(rest, t.hash, sizeof(t.hash), &n_hash) < 0 || n_hash != PASSWORD_HASH_SIZE)
        return -(int)ERR_INVALID;
    *ret = t;
    return 0;
}

static void put_base64(const uint8_t *bytes, size_t n, char *dst, size_t size)
{
    AUTO_FREE char *text = str_base64(bytes, n);
    text[strcspn(text, "=")] = '\0';
    (void)str_copy(dst, size, str_from(text));
}

static void format(const struct password_text *t, char dst[PASSWORD_TEXT_SIZE])
{
    char salt[PASSWORD_SALT_MAX * 2], hash[PASSWORD_HASH_SIZE * 2];
    put_base64(t->salt, t->n_salt, salt, sizeof(salt));
    put_base64(t->hash, sizeof(t->hash), hash, sizeof(hash));
    (void)snprintf(dst, PASSWORD_TEXT_SIZE, "$scrypt$ln=%u,r=%u,p=%u$%s$%s", t->ln, t->r, t->p, salt, hash);
}

const char *password_nobody(void)
{
    return "$scrypt$ln=15,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
}

/* --- The work --- */

static int derive(const struct password_text *t, struct str password, uint8_t ret[PASSWORD_HASH_SIZE], struct err *err)
{
    if (EVP_PBE_scrypt(password.p, password.n, t->salt, t->n_salt, (uint64_t)1 << t->ln, t->r, t->p, PASSWORD_MEMORY_MAX + MEMORY_MORE, ret,
                       PASSWORD_HASH_SIZE) == 1)
        return 0;
    ERR_clear_error();
    return err_set(err, ERR_EXHAUSTED, "there is not enough memory for the hash of a password");
}

int password_check(struct str password, struct err *err)
{
    struct str rest = password;
    size_t n = 0;
    if (!str_is_utf8(password) || memchr(password.n ? password.p : "", '\0', password.n))
        return err_set(err, ERR_INVALID, "the password is not text");
    for (; rest.n; n++) {
        size_t len = str_utf8_len(rest);
        rest = (struct str){rest.p + len, rest.n - len};
    }
    if (n < PASSWORD_CHARS_MIN || n > PASSWORD_CHARS_MAX)
        return err_set(err, ERR_INVALID, "a password has %d to %d characters", PASSWORD_CHARS_MIN, PASSWORD_CHARS_MAX);
    return 0;
}

int password_hash(struct str password, char ret[PASSWORD_TEXT_SIZE], struct err *err)
{
    struct password_text t = {.ln = LN, .r = R, .p = P, .n_salt = PASSWORD_SALT_SIZE};
    rng_bytes(t.salt, t.n_salt);
    int rc = derive(&t, password, t.hash, err);
    if (rc == 0)
        format(&t, ret);
    return rc;
}

int password_verify(struct str text, struct str password, struct err *err)
{
    struct password_text t;
    uint8_t hash[PASSWORD_HASH_SIZE];
    if (password_parse(text, &t) < 0)
        return err_set(err, ERR_DATA_LOSS, "the hash of this password is damaged");
    int rc = derive(&t, password, hash, err);
    if (rc < 0)
        return rc;
    bool same = str_eq_secret((struct str){(const char *)hash, sizeof(hash)}, (struct str){(const char *)t.hash, sizeof(t.hash)});
    explicit_bzero(hash, sizeof(hash));
    return same ? 0 : 1;
}
