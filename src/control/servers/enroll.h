/* SPDX-License-Identifier: Apache-2.0 */
/* enroll — join tokens against certificates. A token is looked up by its id, its secret compared by hash in constant time; nothing is
 * signed before that held, and one transaction consumes the token, records the certificate and moves the server on.
 * A repeat of the same token with the same key within ENROLL_REPEAT gets the same answer (the first one may have been lost).
 * Limits: ENROLL_SOURCE_BURST tries per source (an IPv4 address, an IPv6 /64), one more each ENROLL_SOURCE_EVERY; ENROLL_BURST and
 * ENROLL_PER_SECOND for all. Who names a token that we gave out and that has not expired counts by that token alone, with the limits of a
 * source: strangers cannot keep a server out. ENROLL_SOURCES_MAX sources and ENROLL_TOKENS_MAX tokens are known at a time.
 * Thread: loop; handlers wait.  Input trust: peer, anybody who reaches the port. */
#ifndef DAVIT_CONTROL_ENROLL_H
#define DAVIT_CONTROL_ENROLL_H

#include "control/servers/servers.h"
#include "davit/link/v1/link.pb-c.h"

enum { TOKEN_MAC_MAX = 128 };
enum { ENROLL_SOURCE_BURST = 10, ENROLL_BURST = 50, ENROLL_PER_SECOND = 10, ENROLL_SOURCES_MAX = 4096, ENROLL_TOKENS_MAX = 65536 };
#define ENROLL_SOURCE_EVERY (6 * USEC_SEC)
#define ENROLL_REPEAT       (10 * USEC_MINUTE)

/* Never NULL. Ends with enroll_free. */
struct enroll *enroll_new(struct control *c) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct enroll *enroll_free(struct enroll *e);

/* Blocks, at start: the tokens that are in the store. */
int enroll_load(struct enroll *e, struct err *err) MUST_USE;
/* A token of this id (TOKEN_ID_LEN) was given out, good until @expires; @real is the time now, both real time. */
void enroll_expect(struct enroll *e, const char *id, usec_t expires, usec_t real);

/* May @source try now with a token of this id (any bytes)? Takes from the buckets. 0, or -ERR_EXHAUSTED with the time to wait. */
int enroll_admit(struct enroll *e, const char *source, const char *token_id, usec_t now, usec_t real, struct err *err) MUST_USE;

/* How it was asked. */
struct enroll_proof {
    bool tunnel;       /* by an answer to a challenge, see ident/proof.h; else by the secret itself */
    struct str secret; /* not in tunnel mode */
    bool holds;        /* in tunnel mode: the MAC did */
};

/* What the row of a token says. */
struct token_row {
    char server_id[37];
    uint8_t hash[32];
    usec_t expires, used;
    bool is_void;
    uint8_t key[32];   /* of the certificate that was issued for it */
    char *certificate; /* issued chain, or access token, owned; NULL: none */
    char mac[TOKEN_MAC_MAX]; /* sealed key of the MAC */
    size_t n_mac;
};
/* The rules, pure. 0: may be used; 1: it is a repeat, answer with @row->certificate; negative: -ERR_UNAUTHENTICATED (unknown, wrong
 * secret, used, expired, voided) with message and hint. @row NULL: unknown. @key: SPKI hash of the request. */
int enroll_judge(const struct token_row *row, const struct enroll_proof *proof, const uint8_t key[32], usec_t now, struct err *err) MUST_USE;

#endif
