/* SPDX-License-Identifier: Apache-2.0 */
/* password — what is kept of a person's password: a memory-hard hash, scrypt (RFC 7914), as text with its own cost in it:
 *     $scrypt$ln=15,r=8,p=1$<salt, 16 bytes>$<hash, 32 bytes>      (base64 without padding; N = 2^ln)
 * Hashing takes about 100 ms and 128 * N * r bytes: 32 MiB for new ones, never more than PASSWORD_MEMORY_MAX. So it runs on a lane, whose threads
 * times that is what it can take.  Thread: any.  Input trust: passwords come from anybody; the text comes out of the store, and is bounded as if it
 * did not. */
#ifndef DAVIT_IDENT_PASSWORD_H
#define DAVIT_IDENT_PASSWORD_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum {
    PASSWORD_CHARS_MIN = 10,
    PASSWORD_CHARS_MAX = 256,
    PASSWORD_TEXT_SIZE = 160, /* with the NUL */
    PASSWORD_SALT_SIZE = 16,
    PASSWORD_SALT_MAX = 32,
    PASSWORD_HASH_SIZE = 32,
    PASSWORD_MEMORY_MAX = 64 * 1024 * 1024
};

/* What the text says. Plain value. */
struct password_text {
    unsigned ln, r, p;
    size_t n_salt;
    uint8_t salt[PASSWORD_SALT_MAX];
    uint8_t hash[PASSWORD_HASH_SIZE];
};

/* 0; -ERR_INVALID for what is not such a text, or costs more than it may. */
int password_parse(struct str text, struct password_text *ret) MUST_USE;
/* May this be a password: PASSWORD_CHARS_MIN to PASSWORD_CHARS_MAX characters of UTF-8, no NUL? 0 or -ERR_INVALID. */
int password_check(struct str password, struct err *err) MUST_USE;
/* Blocks. The text for a new password, with a salt of its own. */
int password_hash(struct str password, char ret[PASSWORD_TEXT_SIZE], struct err *err) MUST_USE;
/* Blocks. Is @password that of @text? 0; 1: no; negative: @text is none, or no memory. */
int password_verify(struct str text, struct str password, struct err *err) MUST_USE;
/* The text of no password at all, at the cost of a new one: for names that nobody has, which must take as long to refuse. Static. */
const char *password_nobody(void);

#endif
