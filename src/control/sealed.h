/* SPDX-License-Identifier: Apache-2.0 */
/* sealed — what of the store nobody may read who has only the database: specs of deployments and commands, for the environment values in them,
 * and what a join token is worth.
 * Each such value is an envelope (ident/seal.h) under master.key of the state directory, bound to its table, column and row. The setting
 * "master_key" of the store names the key, so that a database and a key file that do not belong together are told apart at the start, before
 * anything is written.
 * Thread: sealed_start blocks at the start; put and get may run anywhere, also on the store's threads. */
#ifndef DAVIT_CONTROL_SEALED_H
#define DAVIT_CONTROL_SEALED_H

#include "base/secret.h"
#include "control/control_internal.h"

#define SEALED_KEY_FILE "master.key"

enum sealed_column {
    SEALED_SPEC,    /* deployments.spec, by deployment id */
    SEALED_TOKEN,   /* tokens.mac, by token id: what enrols a server in tunnel mode; empty for tokens that were made before there was one */
    SEALED_COMMAND, /* commands.payload, by command id; an empty one has nothing to hide and stays empty */
    SEALED_VARIABLE, /* variables.content, by the hash of project, service and name */
    SEALED_REGISTRY, /* registries.login, by the hash of the registry's name */
    SEALED_SANDBOX,  /* sandboxes.spec, by sandbox id */
    SEALED_COLUMNS
};

/* After store_open: reads the key file, or makes it for a store that names no key yet; closes what a version without envelopes wrote, or what
 * lies under an older key of the file, in one transaction. 0; 1: such rows were written: close and open the store, so that its log drops the old
 * ones; -ERR_DATA_LOSS with advice when the key that the store names is not there: nothing was changed. */
int sealed_start(struct control *c, struct err *err) MUST_USE;

/* Appends the envelope of @content for the row @id to @out. */
int sealed_put(const struct control *c, enum sealed_column column, const char *id, struct str content, struct buf *out,
               struct err *err) MUST_USE;
/* Opens what the row @id holds; the caller ends *ret. -ERR_DATA_LOSS with advice when it is not what was put there. */
int sealed_get(const struct control *c, enum sealed_column column, const char *id, struct str bytes, struct secret **ret,
               struct err *err) MUST_USE;

#endif
