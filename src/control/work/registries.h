/* SPDX-License-Identifier: Apache-2.0 */
/* registries — logins for registries: sealed in the store, and in memory while the control plane runs, so that who sends a command or a call can
 * attach the one that its image needs without waiting. A login goes to a server only inside the message that pulls; nothing there keeps it.
 * Limits: REGISTRIES_MAX, names of REGISTRY_USER_MAX bytes, passwords of REGISTRY_PASSWORD_MAX.  Thread: loop; handlers on fibers.
 * Input trust: names from users. */
#ifndef DAVIT_CONTROL_REGISTRIES_H
#define DAVIT_CONTROL_REGISTRIES_H

#include "control/control_internal.h"
#include "davit/common/v1/service.pb-c.h"
#include "spec/registry_name.h"

enum { REGISTRIES_MAX = 256, REGISTRY_USER_MAX = 256, REGISTRY_PASSWORD_MAX = 32 * 1024 };

struct registries;

/* Never NULL; ends with registries_free. */
struct registries *registries_new(void) MUST_USE;
/* Wipes. Accepts NULL. Returns NULL. */
struct registries *registries_free(struct registries *r);
/* At start, after sealed_start; blocks. */
int registries_load(struct control *c, struct err *err) MUST_USE;

/* What goes with the pull of one image. Plain value; its strings are borrowed until anything waits. */
struct registry_login {
    Davit__Common__V1__RegistryAuth auth;
    char server[REGISTRY_NAME_SIZE];
};
/* The stored login for the registry of @image. 0 with *ret filled; 1: there is none. Never waits. */
int registries_auth_for(const struct control *c, const char *image, struct registry_login *ret) MUST_USE;

#endif
