/* SPDX-License-Identifier: Apache-2.0 */
/* manifest_sandbox — `sandbox:` of davit.yaml: what `davit run` does in every sandbox of this folder beside what is typed. Read strictly:
 * unknown keys
 * and wrong types are errors that name the line.
 *   sandbox: {project: NAME, server: NAME, env: {NAME: VALUE}, init: [STEP], boot: [STEP], mcp: [STEP]}
 *   STEP: {name: NAME, run: "line for /bin/sh" | command: [WORD, ...], user: USER, timeout: TIME}
 * Steps of `init` and `mcp` are run once, before the first start; those of `boot` before each.
 * Limits: MANIFEST_MAX bytes, MANIFEST_LIST_MAX of a kind.  Input trust: local user, but possibly a file of a stranger's repository. */
#ifndef DAVIT_CLI_MANIFEST_SANDBOX_H
#define DAVIT_CLI_MANIFEST_SANDBOX_H

#include "base/err.h"
#include "base/str.h"
#include "davit/common/v1/sandbox.pb-c.h"

/* Adds what @path says to @spec, whose strings are owned (rpc_message_free), and its server to *ret_server (fresh, or NULL). 0; 1: the file has no
 * `sandbox:`; -ERR_NOT_FOUND, -ERR_EXHAUSTED, -ERR_INVALID with "line N: ...". */
int manifest_sandbox_load(const char *path, Davit__Common__V1__SandboxSpec *spec, char **ret_server, struct err *err) MUST_USE;
/* The same from text; @name stands in messages. */
int manifest_sandbox_parse(struct str text, const char *name, Davit__Common__V1__SandboxSpec *spec, char **ret_server, struct err *err) MUST_USE;

/* Appends NAME=VALUE; @value is copied. */
void sandbox_add_env(Davit__Common__V1__SandboxSpec *spec, struct str name, struct str value);
/* A fresh spec whose every string is owned. */
Davit__Common__V1__SandboxSpec *sandbox_spec_new(void) MUST_USE;
/* Replaces an owned text. */
void sandbox_set_text(char **field, struct str value);

#endif
