/* SPDX-License-Identifier: Apache-2.0 */
/* seal — see seal.h. */
#include "ident/seal.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/clock.h"
#include "base/mem.h"
#include "ident/ident_internal.h"

enum { KEY_SIZE = 32, ID_BYTES = 8, MAGIC_BYTES = 4, HEAD_BYTES = MAGIC_BYTES + ID_BYTES, NONCE_BYTES = 12, TAG_BYTES = 16 };
_Static_assert((int)SEAL_OVERHEAD == HEAD_BYTES + NONCE_BYTES + TAG_BYTES, "the envelope");
_Static_assert((int)SEAL_ID_SIZE == 2 * ID_BYTES + 1, "the id as text");

static const uint8_t MAGIC[MAGIC_BYTES] = {0, 'D', 'S', 1};
static const char LINE[] = "davit-master-key-1 ";
static const char ID_CONTEXT[] = "davit master key id";

struct sealing_key {
    uint8_t id[ID_BYTES];
    struct secret *key; /* KEY_SIZE bytes */
};

struct seal {
    struct sealing_key keys[SEAL_KEYS_MAX];
    size_t n;
};

/* --- The key file --- */

struct seal *seal_free(struct seal *seal)
{
    for (size_t i = 0; seal && i < seal->n; i++)
        (void)secret_free(seal->keys[i].key);
    free(seal);
    return NULL;
}

/* The id is a hash of the key, so two keys never share one and a file needs no numbers. */
static void id_of(const struct secret *key, uint8_t ret[ID_BYTES])
{
    uint8_t hash[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    BUG_ON(!ctx || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1 || EVP_DigestUpdate(ctx, ID_CONTEXT, sizeof(ID_CONTEXT)) != 1 ||
           EVP_DigestUpdate(ctx, secret_reveal(key).p, KEY_SIZE) != 1 || EVP_DigestFinal_ex(ctx, hash, NULL) != 1);
    EVP_MD_CTX_free(ctx);
    memcpy(ret, hash, ID_BYTES);
}

int seal_make(const char *path, struct err *err)
{
    AUTO_SECRET key = secret_random(KEY_SIZE);
    char hex[2 * KEY_SIZE + 1];
    ident__start();
    str_hex(secret_reveal(key).p, KEY_SIZE, hex);
    char text[sizeof(LINE) + sizeof(hex)];
    int n = snprintf(text, sizeof(text), "%s%s\n", LINE, hex);
    int rc = ident__save_new(path, (struct str){text, (size_t)n}, err);
    OPENSSL_cleanse(hex, sizeof(hex));
    OPENSSL_cleanse(text, sizeof(text));
    return rc;
}

static int add_line(struct seal *seal, struct str line)
{
    uint8_t bytes[KEY_SIZE];
    size_t n = 0;
    struct str hex = {line.p + sizeof(LINE) - 1, line.n - (sizeof(LINE) - 1)};
    if (seal->n == SEAL_KEYS_MAX || !str_starts(line, str_from(LINE)) || hex.n != (size_t)2 * KEY_SIZE ||
        str_unhex(hex, bytes, sizeof(bytes), &n) < 0 || n != KEY_SIZE)
        return -ERR_INVALID;
    struct sealing_key *k = &seal->keys[seal->n++];
    k->key = secret_new((struct str){(const char *)bytes, sizeof(bytes)});
    OPENSSL_cleanse(bytes, sizeof(bytes));
    id_of(k->key, k->id);
    return 0;
}

static int parse(struct seal *seal, struct str text, const char *path, struct err *err)
{
    for (unsigned number = 1; text.n > 0; number++) {
        struct str line = str_trim(str_cut(&text, '\n'));
        if (line.n > 0 && add_line(seal, line) < 0) {
            (void)err_set(err, ERR_INVALID, "%s: line %u is not a master key, or there are more than %d", path, number, SEAL_KEYS_MAX);
            err_hint(err, "put the file back from a backup; a line is \"%s\" and 64 hex digits", LINE);
            return -(int)ERR_INVALID;
        }
    }
    if (seal->n > 0)
        return 0;
    (void)err_set(err, ERR_INVALID, "%s holds no key", path);
    err_hint(err, "put the file back from a backup");
    return -(int)ERR_INVALID;
}

int seal_load(const char *path, struct seal **ret, struct err *err)
{
    AUTO_SECRET_BUF text = BUF_INIT(KEY_PEM_MAX);
    AUTO_SEAL seal = NULL;
    ident__start();
    int rc = ident__read_private(path, &text, err);
    if (rc < 0)
        return rc;
    seal = NEW(struct seal);
    rc = parse(seal, buf_str(&text), path, err);
    if (rc == 0)
        *ret = TAKE(seal);
    return rc;
}

void seal_id(const struct seal *seal, char dst[SEAL_ID_SIZE])
{
    str_hex(seal->keys[0].id, ID_BYTES, dst);
}

static const struct sealing_key *by_id(const struct seal *seal, const uint8_t *id)
{
    for (size_t i = 0; i < seal->n; i++)
        if (memcmp(seal->keys[i].id, id, ID_BYTES) == 0)
            return &seal->keys[i];
    return NULL;
}

bool seal_has(const struct seal *seal, struct str id)
{
    uint8_t bytes[ID_BYTES];
    size_t n = 0;
    return str_unhex(id, bytes, sizeof(bytes), &n) == 0 && n == ID_BYTES && by_id(seal, bytes) != NULL;
}

/* --- Envelopes --- */

bool seal_is(struct str bytes)
{
    return bytes.n >= SEAL_OVERHEAD && memcmp(bytes.p, MAGIC, MAGIC_BYTES) == 0;
}

bool seal_is_current(const struct seal *seal, struct str bytes)
{
    return seal_is(bytes) && memcmp(bytes.p + MAGIC_BYTES, seal->keys[0].id, ID_BYTES) == 0;
}

/* Encrypts or decrypts @n bytes; on the way in @tag is written, on the way out it is compared. */
static bool crypt_bytes(const struct sealing_key *key, const uint8_t *head, const char *place, bool encrypt, const uint8_t *src, size_t n,
                        uint8_t *dst, uint8_t *tag)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int len = 0;
    bool ok = ctx != NULL && EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, (const uint8_t *)secret_reveal(key->key).p, head + HEAD_BYTES,
                                               encrypt) == 1;
    ok = ok && EVP_CipherUpdate(ctx, NULL, &len, head, HEAD_BYTES) == 1;
    ok = ok && EVP_CipherUpdate(ctx, NULL, &len, (const uint8_t *)place, (int)strlen(place)) == 1;
    ok = ok && (n == 0 || EVP_CipherUpdate(ctx, dst, &len, src, (int)n) == 1);
    if (ok && !encrypt)
        ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG_BYTES, tag) == 1;
    ok = ok && EVP_CipherFinal_ex(ctx, dst + n, &len) == 1;
    if (ok && encrypt)
        ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, tag) == 1;
    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

static bool place_ok(const char *place)
{
    size_t n = strlen(place);
    return n > 0 && n <= SEAL_PLACE_MAX;
}

int seal_close(const struct seal *seal, const char *place, struct str content, struct buf *out, struct err *err)
{
    if (!place_ok(place) || content.n > SEAL_CONTENT_MAX)
        return err_set(err, ERR_RANGE, "%zu bytes cannot be sealed (at most %d)", content.n, SEAL_CONTENT_MAX);
    uint8_t *p = buf_reserve(out, content.n + SEAL_OVERHEAD);
    if (!p)
        return err_set(err, ERR_EXHAUSTED, "no room for a sealed value of %zu bytes", content.n + SEAL_OVERHEAD);
    memcpy(p, MAGIC, MAGIC_BYTES);
    memcpy(p + MAGIC_BYTES, seal->keys[0].id, ID_BYTES);
    rng_bytes(p + HEAD_BYTES, NONCE_BYTES);
    uint8_t *body = p + HEAD_BYTES + NONCE_BYTES, *tag = body + content.n;
    if (!crypt_bytes(&seal->keys[0], p, place, true, (const uint8_t *)content.p, content.n, body, tag))
        return ident__fail(err, ERR_INTERNAL, "a value cannot be sealed");
    buf_commit(out, content.n + SEAL_OVERHEAD);
    return 0;
}

static int no_key(const uint8_t *id, struct err *err)
{
    char text[SEAL_ID_SIZE];
    str_hex(id, ID_BYTES, text);
    (void)err_set(err, ERR_DATA_LOSS, "a sealed value needs the master key %s, which is not there", text);
    err_hint(err, "put back the file of the master key that belongs to this database: it is in the same backup");
    return -(int)ERR_DATA_LOSS;
}

static int broken(const char *place, const char *what, struct err *err)
{
    (void)err_set(err, ERR_DATA_LOSS, "the sealed value %.100s does not open: %s", place, what);
    err_hint(err, "the database was changed or damaged; restore the backup of it");
    return -(int)ERR_DATA_LOSS;
}

int seal_open(const struct seal *seal, const char *place, struct str envelope, struct secret **ret, struct err *err)
{
    const uint8_t *p = (const uint8_t *)envelope.p;
    if (!place_ok(place) || !seal_is(envelope) || envelope.n - SEAL_OVERHEAD > SEAL_CONTENT_MAX)
        return broken(place, "it is no envelope", err);
    const struct sealing_key *key = by_id(seal, p + MAGIC_BYTES);
    if (!key)
        return no_key(p + MAGIC_BYTES, err);
    size_t n = envelope.n - SEAL_OVERHEAD;
    const uint8_t *body = p + HEAD_BYTES + NONCE_BYTES;
    uint8_t tag[TAG_BYTES];
    memcpy(tag, body + n, TAG_BYTES);
    AUTO_SECRET plain = secret_blank(n);
    if (!crypt_bytes(key, p, place, false, body, n, (uint8_t *)secret_writable(plain), tag)) {
        (void)ident__fail(NULL, ERR_DATA_LOSS, "");
        return broken(place, "its tag does not hold", err);
    }
    *ret = TAKE(plain);
    return 0;
}
