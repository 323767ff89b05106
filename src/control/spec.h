/* SPDX-License-Identifier: Apache-2.0 */
/* spec — is a ServiceSpec one that can be run? Each refusal names the field and says what is allowed.  Pure.  Input trust: peer. */
#ifndef DAVIT_CONTROL_SPEC_H
#define DAVIT_CONTROL_SPEC_H

#include "base/err.h"
#include "davit/common/v1/service.pb-c.h"

enum {
    SPEC_ENV_MAX = 512,
    SPEC_ENV_NAME_MAX = 256,
    SPEC_ENV_VALUE_MAX = 64 * 1024,
    SPEC_COMMAND_MAX = 256,
    SPEC_COMMAND_BYTES_MAX = 64 * 1024,
    SPEC_VOLUMES_MAX = 64,
    SPEC_PORTS_MAX = 64,
    SPEC_PATH_MAX = 1024,
    SPEC_IMAGE_MAX = 512
};

/* 0 or -ERR_INVALID. @spec NULL is refused too. */
int spec_check(const Davit__Common__V1__ServiceSpec *spec, struct err *err) MUST_USE;

/* Gives an image without tag and digest the tag "latest", so that a stored spec says what it means. @spec was unpacked or copied (its strings
 * are freed by rpc_message_free). */
void spec_complete(Davit__Common__V1__ServiceSpec *spec);

#endif
