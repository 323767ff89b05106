/* SPDX-License-Identifier: Apache-2.0 */
/* challenge — nonces that the control plane gave out and waits for: each is good for CHALLENGE_LIFE, for one use, for the purpose and the
 * nonce of the caller that it was made for. In memory: a restart of the control plane forgets them, and callers ask again.
 * Limits: CHALLENGES_EACH per caller, of which the oldest goes for a new one; CHALLENGES_MAX in all, of which goes the oldest of the caller
 * that holds the most: nobody takes another's place.
 * Ownership: sole owner, challenges_free.  Thread: loop.  Input trust: peer, strangers. */
#ifndef DAVIT_CONTROL_CHALLENGE_H
#define DAVIT_CONTROL_CHALLENGE_H

#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"

enum { CHALLENGES_MAX = 16384, CHALLENGES_EACH = 8, CHALLENGE_NONCE_SIZE = 32, CHALLENGE_WHOSE_SIZE = 64 };
#define CHALLENGE_LIFE USEC_MINUTE

/* What a challenge can be for: the index is kept, the text is signed (ident/proof.h). */
enum challenge_purpose { CHALLENGE_NONE, CHALLENGE_ENROLL, CHALLENGE_RECOVER };
/* By its text, CHALLENGE_NONE for any other. */
enum challenge_purpose challenge_purpose_of(const char *text);

struct challenges;

/* Never NULL. */
struct challenges *challenges_new(void) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct challenges *challenges_free(struct challenges *ch);

/* Fills @server_nonce. @whose: who is counted (an address, a token, a server), cut to CHALLENGE_WHOSE_SIZE - 1; @now: monotonic. */
void challenge_make(struct challenges *ch, const char *whose, enum challenge_purpose purpose, const uint8_t client_nonce[CHALLENGE_NONCE_SIZE],
                    usec_t now, uint8_t server_nonce[CHALLENGE_NONCE_SIZE]);
/* The use of one: afterwards it is gone, whatever the rest of the request is worth. @client_nonce and @server_nonce as received. 0, or
 * -ERR_UNAUTHENTICATED: unknown, used, too old, of another purpose or caller; all look alike. */
int challenge_take(struct challenges *ch, enum challenge_purpose purpose, struct str client_nonce, struct str server_nonce, usec_t now,
                   struct err *err) MUST_USE;
/* How many wait. */
size_t challenges_count(const struct challenges *ch);

#endif
