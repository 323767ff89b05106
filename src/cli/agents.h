/* SPDX-License-Identifier: Apache-2.0 */
/* agents — `davit controlplane agents`: who is registered.  Thread: main, on a fiber. */
#ifndef DAVIT_CLI_AGENTS_H
#define DAVIT_CLI_AGENTS_H

#include "cli/cli.h"

struct agents_options {
    struct cli_common common;
};
extern const struct opt agents_opts[];
/* Waits: prints them. */
int run_agents(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err);

#endif
