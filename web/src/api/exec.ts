/* SPDX-License-Identifier: Apache-2.0 */
/* exec: a process in a container, over a WebSocket of its own. Wire: doc/rpc.md, "From a browser: WebSocket". */
import { create, fromBinary, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { ExecRequestSchema, ExecResponseSchema, type ExecResponse, type ExecStartSchema } from "../gen/davit/control/v1/containers_pb";
import { loggedOut, type Problem } from "./client";
import { endOf, frameOf, FLAG_END, PREFIX } from "./envelope";

export interface ExecHandler {
    /** It runs in the container of this name. */
    started(container: string): void;
    output(bytes: Uint8Array): void;
    /** The end, once. */
    ended(exitCode: number | undefined, problem: Problem | undefined): void;
}

export interface Process {
    input(bytes: Uint8Array): void;
    resize(rows: number, columns: number): void;
    close(): void;
}

/** What is typed faster than the link takes it is held back up to here; beyond it the process is given up. */
const AHEAD_MAX = 4 * 1024 * 1024;

export function execute(start: MessageInitShape<typeof ExecStartSchema>, handler: ExecHandler): Process {
    const url = new URL("/davit.control.v1.ExecService/Exec?encoding=proto", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, "davit.connect.v1");
    let code: number | undefined;
    let over = false;
    const end = (problem: Problem | undefined) => {
        if (over) return;
        over = true;
        socket.close();
        if (problem?.code === "unauthenticated") loggedOut();
        handler.ended(code, problem);
    };
    const send = (m: MessageInitShape<typeof ExecRequestSchema>) => {
        if (over || socket.readyState !== WebSocket.OPEN) return;
        if (socket.bufferedAmount > AHEAD_MAX)
            return end({ code: "resource_exhausted", message: "More was typed than the process takes.", hint: "" });
        socket.send(frameOf(toBinary(ExecRequestSchema, create(ExecRequestSchema, m))));
    };
    socket.binaryType = "arraybuffer";
    socket.onopen = () => send({ start });
    socket.onmessage = ({ data }: MessageEvent<unknown>) => {
        if (!(data instanceof ArrayBuffer) || data.byteLength < PREFIX) return end(undefined);
        const body = new Uint8Array(data, PREFIX);
        if (new Uint8Array(data)[0]! & FLAG_END) return end(endOf(body));
        let m: ExecResponse;
        try {
            m = fromBinary(ExecResponseSchema, body);
        } catch {
            return end({ code: "internal", message: "What the control plane sent cannot be read.", hint: "" });
        }
        if (m.container) handler.started(m.container);
        if (m.output.length) handler.output(m.output);
        if (m.errorOutput.length) handler.output(m.errorOutput);
        if (m.ended) code = m.exitCode;
    };
    socket.onclose = () =>
        end(code === undefined ? { code: "unavailable", message: "The connection is lost.", hint: "What ran there was ended." } : undefined);
    return {
        input: (bytes) => send({ input: bytes }),
        resize: (rows, columns) => send({ rows, columns }),
        close: () => {
            over = true;
            socket.close();
        },
    };
}
