/* SPDX-License-Identifier: Apache-2.0 */
/* spec — is a ServiceSpec one that can be run? Each refusal names the field and says what is allowed.
 * The same code runs in the control plane, so that a mistake is told at once, and in the agent, where the word of the machine's owner is the last.
 * Thread: any; pure.  Input trust: peer. */
#ifndef DAVIT_SPEC_SPEC_H
#define DAVIT_SPEC_SPEC_H

#include "base/err.h"
#include "base/str.h"
#include "davit/common/v1/sandbox.pb-c.h"
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
    SPEC_PIN_SIZE = 1 + 7 + 64, /* "@sha256:..." of it */
    SPEC_CAPS_MAX = 41,
    SPEC_ROUTES_MAX = 8,
    SPEC_HOSTNAME_MAX = 253,
    SPEC_REPLICAS_MAX = 32,
    SPEC_FILE_MAX = 63,
    SPEC_BINDS_MAX = 32,
    SPEC_ALLOW_MAX = 32,
    SPEC_RIGHT_MAX = 128,
    SPEC_RETRIES_MAX = 100,
    SPEC_INTERVAL_MAX_MS = 300 * 1000,
    SPEC_TIMEOUT_MAX_MS = 60 * 1000,
    SPEC_GRACE_MAX_MS = 1800 * 1000,
    SPEC_STEPS_MAX = 32, /* of a kind */
    SPEC_STEP_MAX_S = 86400,
    SPEC_STOP_GRACE_MAX_S = 600,
    /* Of a health check that does not say; SETTLE: of one that asks nothing. */
    SPEC_INTERVAL_MS = 10 * 1000,
    SPEC_TIMEOUT_MS = 5 * 1000,
    SPEC_RETRIES = 3,
    SPEC_GRACE_MS = 30 * 1000,
    SPEC_SETTLE_MS = 2 * 1000
};
#define SPEC_HEALTH_PATH "/health"
#define SPEC_FILES_AT    "/run/secrets" /* where variables that are files are in a container */

/* 0 or -ERR_INVALID. @spec NULL is refused too. */
int spec_check(const Davit__Common__V1__ServiceSpec *spec, struct err *err) MUST_USE;

/* May a variable be called so; may it be delivered as a file of this name? */
bool spec_is_env_name(struct str name);
bool spec_is_env_file(struct str name);

/* Is @name a capability of Linux as the engine names it ("NET_ADMIN", without CAP_)? */
bool spec_is_capability(struct str name);

/* The part of spec_check that a change of the number alone asks. */
int spec_check_replicas(const Davit__Common__V1__ServiceSpec *spec, struct err *err) MUST_USE;

/* Writes out what @spec leaves open, so that a stored one says what it means: an image without tag and digest gets the tag "latest", hostnames
 * become lower case, a health check its times; without one a service with a route is asked for /health at the port of its route. A check whose
 * path is empty asks for nothing. @spec need not have been checked; it was unpacked or copied (its strings are freed by rpc_message_free). Done
 * twice it changes nothing more. */
void spec_complete(Davit__Common__V1__ServiceSpec *spec);
/* Names the image by @digest ("sha256:...") beside its tag, and drops `pull: always`. What is no digest changes nothing. As spec_complete. */
void spec_pin_image(Davit__Common__V1__ServiceSpec *spec, const char *digest);

/* --- spec_rights.c: what goes beyond the default, each by its name ---- */

/* A right as ServiceSpec.allow has it: privileged, network:host, pid:host, ipc:host, device:/dev/NAME, security:OPTION, target:/PATH (of a mount
 * in the container), source:/PATH (of a bind on the server). */
bool spec_is_right(struct str word);
/* Has @s the right @kind:@value (@value "": @kind alone)? */
bool spec_allows(const Davit__Common__V1__ServiceSpec *s, const char *kind, const char *value);
/* The part of spec_check about allow and binds. */
int spec_check_rights(const Davit__Common__V1__ServiceSpec *s, struct err *err) MUST_USE;
/* May something be mounted on @path in the container? 0 or -ERR_INVALID, with the right that is missing as hint. */
int spec_check_target(const Davit__Common__V1__ServiceSpec *s, const char *field, const char *path, bool bind, struct err *err) MUST_USE;
/* May @path of the server be mounted? The same; pure: links are followed by who asks. */
int spec_check_source(const Davit__Common__V1__ServiceSpec *s, const char *path, struct err *err) MUST_USE;
/* Is it, or does it hold, a place whose writer is root of the server? Absolute paths in their one spelling. */
bool spec_is_forbidden_source(struct str path);
/* Absolute, in its one spelling: not "/" itself, no "/" at the end, no part "." or "..", no character that the engine's syntax uses. */
bool spec_is_mount_path(struct str path);

/* --- spec_sandbox.c: a sandbox has what a service has, and no right beyond the default ---- */

/* @s as the service that it would be: what both have, its workspace as a bind if it is one. Borrows from @s and lies in *ret. */
struct spec_sandbox {
    Davit__Common__V1__ServiceSpec as;
    Davit__Common__V1__BindMount bind, *binds[1];
};
const Davit__Common__V1__ServiceSpec *spec_of_sandbox(const Davit__Common__V1__SandboxSpec *s, struct spec_sandbox *ret);
/* 0 or -ERR_INVALID; the rules of spec_check where they speak of the same. Its id is not judged. NULL is refused. */
int spec_check_sandbox(const Davit__Common__V1__SandboxSpec *s, struct err *err) MUST_USE;

#endif
