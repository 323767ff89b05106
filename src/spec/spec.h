/* SPDX-License-Identifier: Apache-2.0 */
/* spec — is a ServiceSpec one that can be run? Each refusal names the field and says what is allowed.
 * The same code runs in the control plane, so that a mistake is told at once, and in the agent, where the word of the machine's owner is the last.
 * Thread: any; pure.  Input trust: peer. */
#ifndef DAVIT_SPEC_SPEC_H
#define DAVIT_SPEC_SPEC_H

#include "base/err.h"
#include "base/str.h"
#include "davit/common/v1/service.pb-c.h"

enum {
    SPEC_ENV_MAX = 512,
    SPEC_ENV_NAME_MAX = 256,
    SPEC_ENV_VALUE_MAX = 64 * 1024,
    SPEC_COMMAND_MAX = 128,
    SPEC_COMMAND_BYTES_MAX = 64 * 1024,
    SPEC_VOLUMES_MAX = 32,
    SPEC_PORTS_MAX = 64,
    SPEC_PATH_MAX = 1024,
    SPEC_IMAGE_MAX = 512,
    SPEC_CAPS_MAX = 41,
    SPEC_RETRIES_MAX = 100,
    SPEC_INTERVAL_MAX_MS = 300 * 1000,
    SPEC_TIMEOUT_MAX_MS = 60 * 1000,
    SPEC_GRACE_MAX_MS = 1800 * 1000
};

/* 0 or -ERR_INVALID. @spec NULL is refused too. */
int spec_check(const Davit__Common__V1__ServiceSpec *spec, struct err *err) MUST_USE;

/* Is @name a capability of Linux as the engine names it ("NET_ADMIN", without CAP_)? */
bool spec_is_capability(struct str name);

/* Gives an image without tag and digest the tag "latest", so that a stored spec says what it means. @spec was unpacked or copied (its strings
 * are freed by rpc_message_free). */
void spec_complete(Davit__Common__V1__ServiceSpec *spec);

#endif
