/* SPDX-License-Identifier: Apache-2.0 */
/* token — the join token that a person pastes on a new server:
 *     davit1.<id, 10 of a-z2-7>.<secret, 32 bytes base64url>.<pin of the root CA, 32 bytes base64url>
 * The pin lets the agent know the control plane before it sends anything; the secret proves the server to the control plane, which
 * keeps only its SHA-256.  Nothing here prints a secret or puts a part of a token into an error.
 * Ownership: embedded, join_token_release wipes.  Thread: any.  Input trust: pasted by a person, so each way to go wrong has its advice. */
#ifndef DAVIT_IDENT_TOKEN_H
#define DAVIT_IDENT_TOKEN_H

#include <stdint.h>

#include "base/err.h"
#include "base/secret.h"
#include "base/str.h"

enum { TOKEN_ID_LEN = 10, TOKEN_SECRET_SIZE = 32, TOKEN_PIN_SIZE = 32, TOKEN_HASH_SIZE = 32, TOKEN_TEXT_LEN = 105 };

struct join_token {
    char id[TOKEN_ID_LEN + 1];
    uint8_t pin[TOKEN_PIN_SIZE];
    struct secret *secret; /* TOKEN_SECRET_SIZE bytes */
};

/* Why a text is no token; each has its own message and hint. */
enum token_fault {
    TOKEN_OK,
    TOKEN_EMPTY,
    TOKEN_WRONG_PREFIX, /* not a join token at all, or one of another version */
    TOKEN_TRUNCATED,    /* a part is missing or the last one is too short */
    TOKEN_WRONG_LENGTH, /* a part is too long or too short, or something follows */
    TOKEN_BAD_CHARACTER,
    TOKEN_FAULT_MAX
};

/* A fresh token for the control plane whose root has @pin. */
void join_token_make(const uint8_t pin[TOKEN_PIN_SIZE], struct join_token *ret);
/* Its text, TOKEN_TEXT_LEN bytes; the caller ends the secret. Shown once, never stored or logged. */
struct secret *join_token_text(const struct join_token *token) MUST_USE;
/* Blanks around it are ignored. 0, or -ERR_INVALID with message and hint; @ret_fault (may be NULL) tells which fault. @ret is filled on 0 only. */
int join_token_parse(struct str text, struct join_token *ret, enum token_fault *ret_fault, struct err *err) MUST_USE;
/* Wipes; harmless on a zeroed one and twice. */
void join_token_release(struct join_token *token);

/* What the control plane stores and compares (str_eq_secret): SHA-256 of the secret's bytes. */
void token_secret_hash(struct str secret, uint8_t ret[TOKEN_HASH_SIZE]);

#endif
