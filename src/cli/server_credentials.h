/* SPDX-License-Identifier: Apache-2.0 */
/* server_credentials — verbs of `davit server` about what servers show when they connect, and the lines of `show` that tell it.  Thread: loop. */
#ifndef DAVIT_CLI_SERVER_CREDENTIALS_H
#define DAVIT_CLI_SERVER_CREDENTIALS_H

#include "cli/cli.h"
#include "davit/control/v1/servers.pb-c.h"

struct server_rotate_options {
    struct cli_common common;
    bool all;
    usec_t timeout;
    int64_t max_parallel;
};
extern const struct opt server_rotate_opts[];

/* As struct verb.run. */
int server_rotate_run(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err) MUST_USE;
int server_revoke_run(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err) MUST_USE;

/* "generation 3, until 2026-...": fresh text. */
char *server_credentials_text(const Davit__Control__V1__Server *s) MUST_USE;
/* "192.0.2.7 (web-1), turned away 3m ago", or NULL where there is none. */
char *server_duplicate_text(const Davit__Control__V1__Server *s) MUST_USE;

#endif
