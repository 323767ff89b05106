/* SPDX-License-Identifier: Apache-2.0 */
/* spec — what the agent asks for, against the limits of davit.session.v1, before anything is done of it.
 * Ownership: borrows.  Thread: any.  Input trust: peer. */
#ifndef DAVIT_SESSION_SPEC_H
#define DAVIT_SESSION_SPEC_H

#include "base/err.h"
#include "base/str.h"
#include "davit/session/v1/session.pb-c.h"
#include "init/wire.h"

enum {
    SPEC_ID_MAX = 64,
    SPEC_STAGES_MAX = 16,
    SPEC_WORDS_MAX = 256,
    SPEC_BYTES_MAX = 128 * 1024, /* of the words of a stage, and of its environment, with their NULs */
    SPEC_ENV_MAX = 1024,
    SPEC_CWD_MAX = 4095,
    SPEC_INITIAL_STDIN_MAX = 256 * 1024,
    SPEC_STDIN_MAX = 64 * 1024,
    SPEC_TIMEOUT = 300,
    SPEC_TIMEOUT_MAX = 86400,
};

/* 1..64 printable ASCII bytes? */
bool spec_id_ok(const char *id);
/* 0, or -ERR_INVALID that names what is wrong. */
int spec_check(const Davit__Session__V1__ShellCommand *cmd, struct err *err) MUST_USE;
/* The words of a default command into the frame. 0 or -ERR_INVALID. */
int spec_words(size_t n, char *const *words, struct wire_ready *ret, struct err *err) MUST_USE;

#endif
