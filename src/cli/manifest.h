/* SPDX-License-Identifier: Apache-2.0 */
/* manifest — davit.yaml: projects and their services, read strictly into ServiceSpec messages.
 * Unknown keys, wrong types, duplicates, aliases and anchors are errors that name the line. Scalars are taken as text and checked by the key that
 * holds them, so `on` or `1e3` never change meaning.
 * Limits: MANIFEST_MAX bytes, depth 8, MANIFEST_SERVICES_MAX services.  Input trust: local user, but possibly a file of a stranger's repository. */
#ifndef DAVIT_CLI_MANIFEST_H
#define DAVIT_CLI_MANIFEST_H

#include "base/err.h"
#include "base/str.h"
#include "davit/common/v1/service.pb-c.h"

enum { MANIFEST_MAX = 1024 * 1024, MANIFEST_SERVICES_MAX = 200, MANIFEST_LIST_MAX = 256 };

struct manifest {
    Davit__Common__V1__ServiceSpec **services; /* in file order */
    size_t n;
    char *server;                              /* `server:` at the top, or NULL */
};

/* Reads @path. -ERR_NOT_FOUND, -ERR_EXHAUSTED (too large), -ERR_INVALID with "line N: ...". On failure *ret is empty. */
int manifest_load(const char *path, struct manifest *ret, struct err *err) MUST_USE;
/* The same from text; @name stands in messages. */
int manifest_parse(struct str text, const char *name, struct manifest *ret, struct err *err) MUST_USE;
void manifest_release(struct manifest *m);

/* Pieces that flags and the file share. Each appends to @spec or returns -ERR_INVALID with a message that shows the right form. */
int spec_add_env(Davit__Common__V1__ServiceSpec *spec, struct str name_value, struct err *err) MUST_USE;  /* NAME=VALUE */
int spec_add_port(Davit__Common__V1__ServiceSpec *spec, struct str port, struct err *err) MUST_USE;       /* [IP:]HOST:CONTAINER[/udp] */
int spec_add_volume(Davit__Common__V1__ServiceSpec *spec, struct str volume, struct err *err) MUST_USE;   /* NAME:/path[:ro] */
int spec_add_bind(Davit__Common__V1__ServiceSpec *spec, struct str bind, struct err *err) MUST_USE;       /* /source:/path[:ro] */
int spec_add_right(Davit__Common__V1__ServiceSpec *spec, struct str word, struct err *err) MUST_USE;      /* as ServiceSpec.allow */
/* HOST[:PORT]: a hostname that leads to this service. */
int spec_add_route(Davit__Common__V1__ServiceSpec *spec, struct str route, struct err *err) MUST_USE;
int spec_add_command(Davit__Common__V1__ServiceSpec *spec, struct str word, struct err *err) MUST_USE;
/* Kind and path or port of a health check: "http:/path[:port]" is written "/path" or "8080/path"; "tcp" or "tcp:8080"; "docker"; "none". */
int spec_set_health(Davit__Common__V1__ServiceSpec *spec, struct str health, struct err *err) MUST_USE;
/* After all pieces: who said nothing about health says nothing of it, so that the defaults of the control plane count; times alone belong to the
 * check that a service with a route has without them. @said: a check was named. */
void spec_settle_health(Davit__Common__V1__ServiceSpec *spec, bool said);
/* A fresh spec whose every string is set and owned; freed by rpc_message_free. */
Davit__Common__V1__ServiceSpec *spec_new(void) MUST_USE;
void spec_set_text(char **field, struct str value);

#endif
