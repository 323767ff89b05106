/* SPDX-License-Identifier: Apache-2.0 */
/* server — the verbs below `davit server` that have a file of their own.  Thread: loop, on a fiber. */
#ifndef DAVIT_CLI_SERVER_H
#define DAVIT_CLI_SERVER_H

#include "cli/cli.h"
#include "davit/control/v1/updates.pb-c.h"

enum { SERVER_UPDATE_OPERANDS_MAX = 64 };

/* server_update.c: `davit server update`. */
struct server_update_options {
    struct cli_common common;
    const char *version;
    int64_t max_parallel;
    usec_t offline_wait;
    bool all, halt, detach, status, cancel, releases;
};
extern const struct opt server_update_opts[];
int server_update_run(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err);
/* "done" ..., and the whole in one line: "failed at download (checksum): ...". The caller frees. */
const char *server_update_state(int step_state);
char *server_update_text(const Davit__Control__V1__RolloutStep *step) MUST_USE;

#endif
