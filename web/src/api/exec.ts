/* SPDX-License-Identifier: Apache-2.0 */
/* exec: a program whose terminal is shown: another one in a container, or the main program of a sandbox. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { ExecRequestSchema, ExecResponseSchema, type ExecStartSchema } from "../gen/davit/control/v1/containers_pb";
import { AttachSandboxRequestSchema, AttachSandboxResponseSchema } from "../gen/davit/control/v1/sandboxes_pb";
import type { Problem } from "./client";
import { openStream } from "./socket";

export interface ExecHandler {
    /** It is there. @terminal: it writes for one. */
    started(terminal: boolean): void;
    output(bytes: Uint8Array): void;
    /** The end, once. */
    ended(exitCode: number | undefined, problem: Problem | undefined): void;
}

export interface Process {
    input(bytes: Uint8Array): void;
    resize(rows: number, columns: number): void;
    close(): void;
}

export interface Size {
    rows: number;
    columns: number;
}

/* A connection that went without a word: @after says what became of the program. */
const lost = (problem: Problem | undefined, code: number | undefined, after: string) =>
    problem?.code === "unavailable" && !problem.hint ? (code === undefined ? { ...problem, hint: after } : undefined) : problem;

/** Runs it with a terminal of @size; it ends with the connection. */
export function execute(start: MessageInitShape<typeof ExecStartSchema>, handler: ExecHandler): Process {
    let code: number | undefined;
    const stream = openStream(
        "davit.control.v1.ExecService/Exec",
        { request: ExecRequestSchema, response: ExecResponseSchema },
        { start },
        {
            message: (m) => {
                if (m.container) handler.started(start.tty ?? false);
                if (m.output.length) handler.output(m.output);
                if (m.errorOutput.length) handler.output(m.errorOutput);
                if (m.ended) code = m.exitCode;
            },
            ended: (problem) => handler.ended(code, lost(problem, code, "What ran there was ended.")),
        },
    );
    return {
        input: (bytes) => stream.send({ input: bytes }),
        resize: (rows, columns) => stream.send({ rows, columns }),
        close: stream.close,
    };
}

/** The main program of sandbox @id, from what it wrote first on. It goes on when the connection ends. */
export function attach(id: string, size: Size, handler: ExecHandler): Process {
    let code: number | undefined;
    let begun = false;
    const stream = openStream(
        "davit.control.v1.SandboxService/AttachSandbox",
        { request: AttachSandboxRequestSchema, response: AttachSandboxResponseSchema },
        { target: { name: id }, input: true, fromStart: true, ...size },
        {
            message: (m) => {
                if (!begun) handler.started(m.tty);
                begun = true;
                if (m.output.length) handler.output(m.output);
                if (m.errorOutput.length) handler.output(m.errorOutput);
                if (m.ended) code = m.exitCode;
            },
            ended: (problem) => handler.ended(code, lost(problem, code, "The program goes on. Attach again to see it.")),
        },
    );
    return {
        input: (data) => stream.send({ data }),
        resize: (rows, columns) => stream.send({ rows, columns }),
        close: stream.close,
    };
}
