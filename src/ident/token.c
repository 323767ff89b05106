/* SPDX-License-Identifier: Apache-2.0 */
/* token — join tokens: made once, shown once, read with an explanation for every way in which pasting goes wrong. */
#include "ident/token.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/buf.h"
#include "base/clock.h"
#include "ident/ident_internal.h"

enum { PART_LEN = 43 }; /* 32 bytes in base64url */

static const char PREFIX[] = "davit1";
static const char BASE32[] = "abcdefghijklmnopqrstuvwxyz234567";
static const char BASE64URL[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void join_token_make(const uint8_t pin[TOKEN_PIN_SIZE], struct join_token *ret)
{
    uint8_t bytes[TOKEN_ID_LEN];
    rng_bytes(bytes, sizeof(bytes));
    for (size_t i = 0; i < TOKEN_ID_LEN; i++)
        ret->id[i] = BASE32[bytes[i] & 31];
    ret->id[TOKEN_ID_LEN] = '\0';
    memcpy(ret->pin, pin, TOKEN_PIN_SIZE);
    ret->secret = secret_random(TOKEN_SECRET_SIZE);
}

void join_token_release(struct join_token *token)
{
    token->secret = secret_free(token->secret);
}

struct secret *join_token_text(const struct join_token *token)
{
    char *secret = str_base64url(secret_reveal(token->secret).p, TOKEN_SECRET_SIZE);
    char *pin = str_base64url(token->pin, TOKEN_PIN_SIZE);
    char *text = str_printf("%s.%s.%s.%s", PREFIX, token->id, secret, pin);
    struct secret *ret = secret_new(str_from(text));
    OPENSSL_cleanse(secret, strlen(secret));
    OPENSSL_cleanse(text, strlen(text));
    free(secret);
    free(pin);
    free(text);
    return ret;
}

/* --- Reading --- */

static const struct {
    const char *msg, *hint;
} FAULTS[TOKEN_FAULT_MAX] = {
    [TOKEN_EMPTY] = {"no join token was given",
                     "Copy the whole line that `davit server add` prints, or make a new one with `davit server token`."},
    [TOKEN_WRONG_PREFIX] = {"this is not a join token of this version",
                            "A join token begins with \"davit1.\"; copy it from the output of `davit server add`."},
    [TOKEN_TRUNCATED] = {"the join token is cut off", "Its end is missing: copy the whole line, also where the terminal broke it."},
    [TOKEN_WRONG_LENGTH] = {"the join token has a part of the wrong length", "Something was lost or added while copying: copy it again as a whole."},
    [TOKEN_BAD_CHARACTER] = {"the join token has a character that does not belong there",
                             "Blanks, line breaks or quotes got in while copying: copy it again as one line."},
};

static bool only(struct str s, const char *alphabet)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\0' || strchr(alphabet, s.p[i]) == NULL)
            return false;
    }
    return true;
}

/* @last: nothing follows it, so what is short was cut off. */
static enum token_fault check_part(struct str part, size_t len, const char *alphabet, bool last)
{
    if (!only(part, alphabet))
        return TOKEN_BAD_CHARACTER;
    if (part.n < len)
        return last ? TOKEN_TRUNCATED : TOKEN_WRONG_LENGTH;
    return part.n > len ? TOKEN_WRONG_LENGTH : TOKEN_OK;
}

static enum token_fault split(struct str text, struct str part[3])
{
    struct str rest = text, prefix = str_cut(&rest, '.');
    if (text.n == 0)
        return TOKEN_EMPTY;
    if (!str_eq(prefix, str_from(PREFIX)))
        return text.n < sizeof(PREFIX) && str_starts(str_from(PREFIX), text) ? TOKEN_TRUNCATED : TOKEN_WRONG_PREFIX;
    static const size_t length[3] = {TOKEN_ID_LEN, PART_LEN, PART_LEN};
    for (size_t i = 0; i < 3; i++) {
        bool last = memchr(rest.p ? rest.p : "", '.', rest.n) == NULL;
        part[i] = i < 2 ? str_cut(&rest, '.') : rest;
        if (i == 2 && !last)
            return TOKEN_WRONG_LENGTH;
        enum token_fault fault = check_part(part[i], length[i], i == 0 ? BASE32 : BASE64URL, last);
        if (fault != TOKEN_OK)
            return fault;
        if (i < 2 && last)
            return TOKEN_TRUNCATED;
    }
    return TOKEN_OK;
}

/* 43 characters hold 258 bits: the two last must be zero, or one token would have four spellings. */
static bool decode(struct str part, uint8_t dst[TOKEN_SECRET_SIZE])
{
    size_t n = 0;
    if (str_unbase64(part, dst, TOKEN_SECRET_SIZE, &n) < 0 || n != TOKEN_SECRET_SIZE)
        return false;
    char *again = str_base64url(dst, n);
    bool same = str_eq_secret(str_from(again), part);
    OPENSSL_cleanse(again, strlen(again));
    free(again);
    return same;
}

int join_token_parse(struct str text, struct join_token *ret, enum token_fault *ret_fault, struct err *err)
{
    struct str part[3] = {{0}};
    uint8_t secret[TOKEN_SECRET_SIZE], pin[TOKEN_PIN_SIZE];
    while (text.n > 0 && strchr(" \t\r\n", text.p[text.n - 1]) != NULL && text.p[text.n - 1] != '\0')
        text.n--;
    text = str_trim(text);
    enum token_fault fault = split(text, part);
    if (fault == TOKEN_OK && (!decode(part[1], secret) || !decode(part[2], pin)))
        fault = TOKEN_BAD_CHARACTER;
    if (ret_fault)
        *ret_fault = fault;
    if (fault != TOKEN_OK) {
        OPENSSL_cleanse(secret, sizeof(secret));
        int rc = err_set(err, ERR_INVALID, "%s", FAULTS[fault].msg);
        err_hint(err, "%s", FAULTS[fault].hint);
        return rc;
    }
    (void)str_copy(ret->id, sizeof(ret->id), part[0]);
    memcpy(ret->pin, pin, sizeof(pin));
    ret->secret = secret_new((struct str){(const char *)secret, sizeof(secret)});
    OPENSSL_cleanse(secret, sizeof(secret));
    return 0;
}

void token_secret_hash(struct str secret, uint8_t ret[TOKEN_HASH_SIZE])
{
    ident__start();
    BUG_ON(EVP_Digest(secret.p, secret.n, ret, NULL, EVP_sha256(), NULL) != 1);
}
