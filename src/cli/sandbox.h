/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox — what `davit run` and the verbs of `davit sandbox` share.  Thread: main, on a fiber. */
#ifndef DAVIT_CLI_SANDBOX_H
#define DAVIT_CLI_SANDBOX_H

#include "cli/exec.h"
#include "cli/names.h"
#include "cli/program.h"
#include "davit/control/v1/sandboxes.pb-c.h"

/* "PROJECT/NAME", or "NAME" of @project (may be "" or NULL); ids go as names. Strings of @ret are in @name. -ERR_INVALID. */
int sandbox_ref(const char *operand, const char *project, struct service_name *name, Davit__Control__V1__SandboxRef *ret, struct err *err) MUST_USE;
/* "PROJECT/NAME" or "NAME"; the caller frees. */
char *sandbox_title(const Davit__Common__V1__Sandbox *s) MUST_USE;
/* "running" ... */
const char *sandbox_state_word(int state);

/* How one attaches. */
struct sandbox_attach {
    Davit__Control__V1__SandboxRef *target;
    bool input, from_start;
};
/* Waits: its terminal, or its input and output, until it ends or is let go of: as program_run. */
int sandbox_attach(struct cli *cli, const struct sandbox_attach *a, struct err *err) MUST_USE;

/* Steps of a call that makes or starts one. Waits until its end: 0 with *ret (rpc_message_free), whose sandbox is set; negative. */
int sandbox_follow(struct cli *cli, struct rpc_stream *stream, Davit__Control__V1__RunSandboxResponse **ret, struct err *err) MUST_USE;

/* Waits: the one that is meant, of the answer *ret (rpc_message_free). -ERR_NOT_FOUND. */
int sandbox_look_up(struct cli *cli, const Davit__Control__V1__SandboxRef *ref, ProtobufCMessage **ret, const Davit__Common__V1__Sandbox **found,
                    struct err *err) MUST_USE;

/* Those of `davit sandbox` that have a file of their own; exec has struct exec_options. */
struct sandbox_attach_options {
    struct cli_common common;
    const char *project;
    bool no_stdin, from_start;
};
struct sandbox_logs_options {
    struct cli_common common;
    const char *project;
    bool follow, timestamps;
    int64_t tail;
    usec_t since;
};
extern const struct opt sandbox_attach_opts[], sandbox_exec_opts[], sandbox_logs_opts[];
int sandbox_run_attach(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err);
int sandbox_run_exec(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err);
int sandbox_run_logs(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err);

#endif
