/* SPDX-License-Identifier: Apache-2.0 */
/* socket: a call that streams both ways, over a WebSocket of its own. Wire: doc/rpc.md, "From a browser: WebSocket". */
import { create, fromBinary, toBinary, type DescMessage, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { loggedOut, type Problem } from "./client";
import { endOf, frameOf, FLAG_END, PREFIX } from "./envelope";

export interface StreamHandler<R> {
    message(m: R): void;
    /** The end, once. Undefined: the call went well. */
    ended(problem: Problem | undefined): void;
}

export interface Stream<Q> {
    send(m: Q): void;
    /** Lets go of it; nothing is told any more. */
    close(): void;
}

/** What is sent faster than the link takes it is held back up to here; beyond it the call is given up. */
const AHEAD_MAX = 4 * 1024 * 1024;

const LOST: Problem = { code: "unavailable", message: "The connection is lost.", hint: "" };

/** @method: "davit.control.v1.ExecService/Exec"; @first is sent as soon as the connection stands. */
export function openStream<Q extends DescMessage, R extends DescMessage>(
    method: string,
    schema: { request: Q; response: R },
    first: MessageInitShape<Q>,
    handler: StreamHandler<MessageShape<R>>,
): Stream<MessageInitShape<Q>> {
    const url = new URL(`/${method}?encoding=proto`, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, "davit.connect.v1");
    let over = false;
    const end = (problem: Problem | undefined) => {
        if (over) return;
        over = true;
        socket.close();
        if (problem?.code === "unauthenticated") loggedOut();
        handler.ended(problem);
    };
    socket.binaryType = "arraybuffer";
    const send = (m: MessageInitShape<Q>) => {
        if (over || socket.readyState !== WebSocket.OPEN) return;
        if (socket.bufferedAmount > AHEAD_MAX)
            return end({ code: "resource_exhausted", message: "More was typed than the program takes.", hint: "" });
        socket.send(frameOf(toBinary(schema.request, create(schema.request, m))));
    };
    socket.onopen = () => send(first);
    socket.onmessage = ({ data }: MessageEvent<unknown>) => {
        if (over) return;
        if (!(data instanceof ArrayBuffer) || data.byteLength < PREFIX) return end(LOST);
        const body = new Uint8Array(data, PREFIX);
        if (new Uint8Array(data)[0]! & FLAG_END) return end(endOf(body));
        let m: MessageShape<R>;
        try {
            m = fromBinary(schema.response, body);
        } catch {
            return end({ code: "internal", message: "What the control plane sent cannot be read.", hint: "" });
        }
        handler.message(m);
    };
    socket.onclose = () => end(LOST);
    return {
        send,
        close: () => {
            over = true;
            socket.close();
        },
    };
}
