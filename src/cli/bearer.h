/* SPDX-License-Identifier: Apache-2.0 */
/* bearer — the short-lived token that calls show beside the certificate (RFC 6749, 4.4, by private_key_jwt; doc/control.md): asked for on the
 * connection of the calls themselves, with the user's assertion.key, and kept until BEARER_SPARE before its end: in memory, and in TOKEN_FILE of the
 * configuration directory (0600) for the next run, by the address of the control plane and our certificate.
 * Thread: loop, on a fiber.  Input trust: the control plane. */
#ifndef DAVIT_CLI_BEARER_H
#define DAVIT_CLI_BEARER_H

#include <stdbool.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/secret.h"
#include "base/str.h"

#define TOKEN_FILE        "access-token.json"
#define BEARER_SPARE      (30 * USEC_SEC)
#define BEARER_TRY        (15 * USEC_SEC) /* how long a control plane that begins or is busy is asked again */
#define BEARER_LIFE_MAX   USEC_DAY        /* what an issuer says beyond that is not believed */
#define BEARER_ASSERTION  (30 * USEC_SEC) /* life of an assertion */
enum { BEARER_TOKEN_MAX = 8 * 1024, BEARER_FILE_MAX = 16 * 1024 };

struct cli;

/* Zeroed: none yet. */
struct bearer {
    struct secret *token;
    usec_t until;  /* real time: good until then */
    bool from_file; /* of an earlier run */
    bool none;     /* there is no key for it, or the control plane is of a version without them */
    char certificate[65]; /* a hash of ours, which it is bound to */
};

/* What the control plane of @cli is asked with from now on; @certificate is our own in PEM. */
void bearer_use(struct cli *cli, struct str certificate);
/* It was refused: the next call asks for another one. Returns whether that may help, because it was of an earlier run. */
bool bearer_refused(struct cli *cli);
/* What is kept for the next run goes: the control plane is another one now. */
void bearer_drop(const struct cli *cli);
void bearer_release(struct bearer *b);

/* What an answer of the issuer says. 0 with @token (a copy) and its life; -ERR_INVALID. For tests. */
int bearer_parse(struct str json, struct secret **ret_token, usec_t *ret_life, struct err *err) MUST_USE;

#endif
