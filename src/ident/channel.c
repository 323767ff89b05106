/* SPDX-License-Identifier: Apache-2.0 */
/* channel — see channel.h. */
#include "ident/channel.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>

#include "base/mem.h"
#include "base/secret.h"
#include "ident/ident_internal.h"

enum { ID_SIZE = 37, KEY_BYTES = 32, NONCE_BYTES = 12, HASH_BYTES = 32 };

enum state { BEGUN, CHALLENGED, OPEN, DEAD };

/* One way. */
struct way {
    EVP_CIPHER_CTX *cipher; /* has its key */
    const char *word;
    uint64_t counter;
};

struct channel {
    enum channel_role role;
    enum state state;
    char server_id[ID_SIZE];
    EVP_PKEY *own, *peer;                                                 /* ephemerals, until it is open */
    uint8_t ephemeral[2][CHANNEL_POINT_SIZE], nonce[2][PROOF_NONCE_SIZE]; /* by role */
    struct buf chain, signature;                                          /* of the challenge, until it is open */
    struct way ways[2];                                                   /* by role of who sends */
};

static int fail(struct channel *ch, struct err *err, const char *why)
{
    ch->state = DEAD;
    ERR_clear_error();
    return err_set(err, ERR_UNAUTHENTICATED, "%s", why);
}

static int wrong_time(struct channel *ch, struct err *err)
{
    ch->state = DEAD;
    return err_set(err, ERR_UNAUTHENTICATED, "the proofs of this connection are not in order");
}

/* --- Begin and end --- */

int channel_new(enum channel_role role, const char *server_id, struct channel **ret, struct err *err)
{
    size_t n = 0;
    ident__start();
    if (!ident__is_uuid(server_id))
        return err_set(err, ERR_INVALID, "server_id: this is no server");
    struct channel *ch = NEW(struct channel);
    ch->role = role;
    ch->ways[CHANNEL_AGENT].word = "agent";
    ch->ways[CHANNEL_CONTROL].word = "control";
    buf_init(&ch->chain, CERT_PEM_MAX);
    buf_init(&ch->signature, PROOF_SIGNATURE_MAX);
    (void)str_copy(ch->server_id, sizeof(ch->server_id), str_from(server_id));
    ch->own = EVP_EC_gen("P-256");
    if (!ch->own ||
        EVP_PKEY_get_octet_string_param(ch->own, OSSL_PKEY_PARAM_PUB_KEY, ch->ephemeral[role], CHANNEL_POINT_SIZE, &n) != 1 ||
        n != CHANNEL_POINT_SIZE) {
        (void)channel_free(ch);
        return ident__fail(err, ERR_INTERNAL, "no key could be made");
    }
    rng_bytes(ch->nonce[role], PROOF_NONCE_SIZE);
    *ret = ch;
    return 0;
}

static void forget_handshake(struct channel *ch)
{
    EVP_PKEY_free(ch->own);
    EVP_PKEY_free(ch->peer);
    ch->own = ch->peer = NULL;
    buf_release(&ch->chain);
    buf_release(&ch->signature);
}

struct channel *channel_free(struct channel *ch)
{
    if (!ch)
        return NULL;
    forget_handshake(ch);
    for (unsigned i = 0; i < ARRAY_LEN(ch->ways); i++)
        EVP_CIPHER_CTX_free(ch->ways[i].cipher); /* wipes */
    free(ch);
    return NULL;
}

struct str channel_ephemeral(const struct channel *ch)
{
    return (struct str){(const char *)ch->ephemeral[ch->role], CHANNEL_POINT_SIZE};
}

struct str channel_nonce(const struct channel *ch)
{
    return (struct str){(const char *)ch->nonce[ch->role], PROOF_NONCE_SIZE};
}

bool channel_is_open(const struct channel *ch)
{
    return ch->state == OPEN;
}

/* --- Proofs --- */

static enum channel_role other(const struct channel *ch)
{
    return ch->role == CHANNEL_AGENT ? CHANNEL_CONTROL : CHANNEL_AGENT;
}

static EVP_PKEY *point_to_key(const uint8_t point[CHANNEL_POINT_SIZE])
{
    char group[] = "P-256";
    uint8_t copy[CHANNEL_POINT_SIZE];
    EVP_PKEY *pkey = NULL;
    memcpy(copy, point, sizeof(copy));
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
                           OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, copy, sizeof(copy)),
                           OSSL_PARAM_construct_end()};
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    bool ok = ctx && point[0] == 4 && EVP_PKEY_fromdata_init(ctx) == 1 &&
              EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) == 1 && ident__key_allowed(pkey);
    EVP_PKEY_CTX_free(ctx);
    if (ok)
        return pkey;
    EVP_PKEY_free(pkey);
    return NULL;
}

static int take_peer(struct channel *ch, const struct channel_peer *peer, struct str chain_pem, struct err *err)
{
    if (ch->state != BEGUN)
        return wrong_time(ch, err);
    if (peer->ephemeral.n != CHANNEL_POINT_SIZE || peer->nonce.n != PROOF_NONCE_SIZE)
        return fail(ch, err, "the key or the nonce of the other side has a wrong length");
    if (str_eq(peer->ephemeral, channel_ephemeral(ch)) || str_eq(peer->nonce, channel_nonce(ch)))
        return fail(ch, err, "our own key or nonce came back as the other side's");
    memcpy(ch->ephemeral[other(ch)], peer->ephemeral.p, CHANNEL_POINT_SIZE);
    memcpy(ch->nonce[other(ch)], peer->nonce.p, PROOF_NONCE_SIZE);
    ch->peer = point_to_key(ch->ephemeral[other(ch)]);
    if (!ch->peer)
        return fail(ch, err, "the key of the other side is no point of P-256");
    return buf_append_str(&ch->chain, chain_pem) < 0 ? fail(ch, err, "the certificates are too long") : 0;
}

/* D1, or D2 where there is a token. */
static void digest(const struct channel *ch, const struct str *token, uint8_t ret[PROOF_SIZE])
{
    uint8_t hash[HASH_BYTES] = {0};
    if (token)
        BUG_ON(EVP_Digest(token->p, token->n, hash, NULL, EVP_sha256(), NULL) != 1);
    const struct str parts[] = {
        str_from(ch->server_id),
        {(const char *)ch->ephemeral[CHANNEL_AGENT], CHANNEL_POINT_SIZE},
        {(const char *)ch->ephemeral[CHANNEL_CONTROL], CHANNEL_POINT_SIZE},
        buf_str(&ch->chain),
        buf_str(&ch->signature),
        {(const char *)hash, sizeof(hash)},
    };
    proof_digest(token ? "tunnel-agent" : "tunnel-control", ch->nonce[CHANNEL_AGENT], ch->nonce[CHANNEL_CONTROL], parts,
                 token ? 6 : 4, ret);
}

static bool agree(EVP_PKEY *own, EVP_PKEY *peer, uint8_t *secret)
{
    size_t n = KEY_BYTES;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, own, NULL);
    bool ok = ctx && EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_derive_set_peer(ctx, peer) == 1 &&
              EVP_PKEY_derive(ctx, secret, &n) == 1 && n == KEY_BYTES;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static bool expand(struct str secret, const uint8_t salt[PROOF_SIZE], const char *info, uint8_t *key)
{
    size_t n = KEY_BYTES;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
    bool ok = ctx && EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_CTX_set_hkdf_md(ctx, EVP_sha256()) == 1 &&
              EVP_PKEY_CTX_set1_hkdf_salt(ctx, salt, PROOF_SIZE) == 1 &&
              EVP_PKEY_CTX_set1_hkdf_key(ctx, (const uint8_t *)secret.p, (int)secret.n) == 1 &&
              EVP_PKEY_CTX_add1_hkdf_info(ctx, (const uint8_t *)info, (int)strlen(info)) == 1 &&
              EVP_PKEY_derive(ctx, key, &n) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static bool make_way(struct way *way, struct str secret, const uint8_t salt[PROOF_SIZE], bool encrypt)
{
    AUTO_SECRET key = secret_blank(KEY_BYTES);
    AUTO_FREE char *info = str_printf("davit tunnel 1 %s", way->word);
    uint8_t *bytes = (uint8_t *)secret_writable(key);
    way->cipher = EVP_CIPHER_CTX_new();
    return expand(secret, salt, info, bytes) && way->cipher &&
           EVP_CipherInit_ex(way->cipher, EVP_aes_256_gcm(), NULL, bytes, NULL, encrypt) == 1;
}

static int open_with(struct channel *ch, const uint8_t salt[PROOF_SIZE], struct err *err)
{
    AUTO_SECRET secret = secret_blank(KEY_BYTES);
    bool ok = agree(ch->own, ch->peer, (uint8_t *)secret_writable(secret));
    for (unsigned i = 0; ok && i < ARRAY_LEN(ch->ways); i++)
        ok = make_way(&ch->ways[i], secret_reveal(secret), salt, i == (unsigned)ch->role);
    if (!ok)
        return fail(ch, err, "no keys can be agreed on with the key of the other side");
    forget_handshake(ch);
    ch->state = OPEN;
    return 0;
}

int channel_challenge(struct channel *ch, const struct channel_peer *agent, struct str chain_pem, const struct key *leaf,
                      struct buf *signature, struct err *err)
{
    uint8_t d[PROOF_SIZE];
    int rc = ch->role == CHANNEL_CONTROL ? take_peer(ch, agent, chain_pem, err) : wrong_time(ch, err);
    if (rc < 0)
        return rc;
    digest(ch, NULL, d);
    rc = proof_sign(leaf, d, &ch->signature, err);
    if (rc == 0 && buf_append_str(signature, buf_str(&ch->signature)) < 0)
        rc = err_set(err, ERR_EXHAUSTED, "no room for a signature");
    ch->state = rc < 0 ? DEAD : CHALLENGED;
    return rc;
}

int channel_proved(struct channel *ch, struct str spki_der, struct str token, struct str signature, struct err *err)
{
    uint8_t d[PROOF_SIZE];
    if (ch->role != CHANNEL_CONTROL || ch->state != CHALLENGED)
        return wrong_time(ch, err);
    digest(ch, &token, d);
    if (proof_verify(spki_der, d, signature, NULL) < 0)
        return fail(ch, err, "the server does not have the key of its access token");
    return open_with(ch, d, err);
}

int channel_challenged(struct channel *ch, const struct channel_peer *control, struct str chain_pem, struct str signature,
                       const struct proof_trust *trust, usec_t when, struct err *err)
{
    uint8_t d[PROOF_SIZE];
    int rc = ch->role == CHANNEL_AGENT ? take_peer(ch, control, chain_pem, err) : wrong_time(ch, err);
    if (rc < 0)
        return rc;
    digest(ch, NULL, d);
    rc = proof_control_plane(chain_pem, trust, when, d, signature, NULL, err);
    if (rc == 0 && buf_append_str(&ch->signature, signature) < 0)
        rc = fail(ch, err, "the signature is too long");
    ch->state = rc < 0 ? DEAD : CHALLENGED;
    return rc;
}

int channel_prove(struct channel *ch, const struct key *host, struct str token, struct buf *signature, struct err *err)
{
    uint8_t d[PROOF_SIZE];
    if (ch->role != CHANNEL_AGENT || ch->state != CHALLENGED)
        return wrong_time(ch, err);
    digest(ch, &token, d);
    int rc = proof_sign(host, d, signature, err);
    if (rc < 0)
        ch->state = DEAD;
    return rc < 0 ? rc : open_with(ch, d, err);
}

/* --- Boxes --- */

static bool start_box(struct way *way)
{
    uint8_t nonce[NONCE_BYTES] = {0};
    int n;
    for (unsigned i = 0; i < 8; i++)
        nonce[4 + i] = (uint8_t)(way->counter >> (56 - 8 * i));
    return way->counter < UINT64_MAX && EVP_CipherInit_ex(way->cipher, NULL, NULL, NULL, nonce, -1) == 1 &&
           EVP_CipherUpdate(way->cipher, NULL, &n, (const uint8_t *)way->word, (int)strlen(way->word)) == 1;
}

int channel_seal(struct channel *ch, struct str plain, struct buf *out, struct err *err)
{
    struct way *way = &ch->ways[ch->role];
    int n = 0, last = 0;
    if (ch->state != OPEN)
        return wrong_time(ch, err);
    if (plain.n > CHANNEL_PLAIN_MAX)
        return err_set(err, ERR_RANGE, "a message of %zu bytes cannot be sealed (at most %d)", plain.n, CHANNEL_PLAIN_MAX);
    uint8_t *p = buf_reserve(out, plain.n + CHANNEL_TAG_SIZE);
    if (!p)
        return err_set(err, ERR_EXHAUSTED, "no room for a sealed message of %zu bytes", plain.n);
    bool ok = start_box(way) &&
              (plain.n == 0 || EVP_CipherUpdate(way->cipher, p, &n, (const uint8_t *)plain.p, (int)plain.n) == 1) &&
              EVP_CipherFinal_ex(way->cipher, p + n, &last) == 1 &&
              EVP_CIPHER_CTX_ctrl(way->cipher, EVP_CTRL_GCM_GET_TAG, CHANNEL_TAG_SIZE, p + plain.n) == 1;
    if (!ok)
        return fail(ch, err, "a message cannot be sealed");
    way->counter++;
    buf_commit(out, plain.n + CHANNEL_TAG_SIZE);
    return 0;
}

int channel_unseal(struct channel *ch, struct str box, struct buf *out, struct err *err)
{
    struct way *way = &ch->ways[other(ch)];
    uint8_t tag[CHANNEL_TAG_SIZE];
    int n = 0, last = 0;
    if (ch->state != OPEN)
        return wrong_time(ch, err);
    if (box.n < CHANNEL_TAG_SIZE || box.n > CHANNEL_PLAIN_MAX + CHANNEL_TAG_SIZE)
        return fail(ch, err, "a sealed message has a wrong length");
    size_t size = box.n - CHANNEL_TAG_SIZE;
    uint8_t *p = buf_reserve(out, size + 1);
    if (!p) {
        ch->state = DEAD;
        return err_set(err, ERR_EXHAUSTED, "no room for a message of %zu bytes", size);
    }
    memcpy(tag, box.p + size, sizeof(tag));
    bool ok = start_box(way) && (size == 0 || EVP_CipherUpdate(way->cipher, p, &n, (const uint8_t *)box.p, (int)size) == 1) &&
              EVP_CIPHER_CTX_ctrl(way->cipher, EVP_CTRL_GCM_SET_TAG, CHANNEL_TAG_SIZE, tag) == 1 &&
              EVP_CipherFinal_ex(way->cipher, p + n, &last) == 1;
    if (!ok)
        return fail(ch, err, "a sealed message was changed, repeated, left out or made by somebody else on the way");
    way->counter++;
    buf_commit(out, size);
    return 0;
}
