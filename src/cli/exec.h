/* SPDX-License-Identifier: Apache-2.0 */
/* exec — what `davit exec` and `davit sandbox exec` have in common.  Thread: main, on a fiber. */
#ifndef DAVIT_CLI_EXEC_H
#define DAVIT_CLI_EXEC_H

#include "cli/cli.h"

struct exec_options {
    struct cli_common common;
    const char *project, *user, *workdir, *server, *container;
    struct opt_list env;
    bool tty, no_tty, interactive;
    int64_t replica;
};

/* Waits: runs it; the exit status. @operands: [PROJECT/]SERVICE and the command, with @o->container the command alone. */
int exec_run(struct cli *cli, const struct exec_options *o, const char **operands, size_t n, struct err *err) MUST_USE;

#endif
