/* SPDX-License-Identifier: Apache-2.0 */
/* server_doctor — the verb `davit server doctor`, for the table in server.c.  Thread: loop, on the verb's fiber. */
#ifndef DAVIT_CLI_SERVER_DOCTOR_H
#define DAVIT_CLI_SERVER_DOCTOR_H

#include "cli/cli.h"

struct server_doctor_options {
    struct cli_common common;
    bool quiet;
};
extern const struct opt server_doctor_opts[];
/* As struct verb.run: 0 no check is a FAIL, 1 one is. */
int server_doctor_run(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err);

#endif
