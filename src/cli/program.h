/* SPDX-License-Identifier: Apache-2.0 */
/* program — a program elsewhere as if it ran here: its input, its two outputs byte for byte, its terminal, its exit code. What `davit exec`,
 * `run` and
 * `sandbox attach` have in common; how the messages of a call look is each one's own.
 * Reading and writing here block, so each has a lane; the fibers that wait for them end before program_run does, and the terminal is as it was.
 * Thread: main, on a fiber. One at a time. */
#ifndef DAVIT_CLI_PROGRAM_H
#define DAVIT_CLI_PROGRAM_H

#include "cli/cli.h"

/* What program_run answers when the keys ctrl-p ctrl-q were typed: more than any exit code. */
enum { PROGRAM_DETACHED = 1000 };

/* What a message of the call says; borrowed of it. */
struct program_output {
    ProtobufCBinaryData output, error_output;
    bool ended;
    int exit_code;
};

struct program_kind {
    /* Wait: send input (@ends: the last), the size of the terminal. */
    int (*input)(struct rpc_stream *stream, ProtobufCBinaryData bytes, bool ends);
    int (*size)(struct rpc_stream *stream, unsigned rows, unsigned columns);
    void (*output)(const ProtobufCMessage *m, struct program_output *ret);
};

struct program {
    const struct program_kind *kind;
    struct rpc_stream *stream; /* borrowed; what begins the call was sent */
    bool tty, input;
    bool detachable;           /* the keys are looked for */
    bool stays_open;           /* without input our side of the call stays open all the same */
};

/* Waits for the end of @p: its exit code, 0 to 255; PROGRAM_DETACHED; negative: -ERR_CANCELLED when a signal ended us. */
int program_run(struct cli *cli, const struct program *p, struct err *err) MUST_USE;

#endif
