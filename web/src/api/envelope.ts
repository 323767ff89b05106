/* SPDX-License-Identifier: Apache-2.0 */
/* envelope: how messages lie in those of a WebSocket, and how a stream ends: doc/rpc.md, "From a browser: WebSocket". */
import { decodeHint, type Problem } from "./client";

export const FLAG_END = 2;
export const PREFIX = 5;

export function frameOf(body: Uint8Array): Uint8Array {
    const out = new Uint8Array(PREFIX + body.length);
    new DataView(out.buffer).setUint32(1, body.length);
    out.set(body, PREFIX);
    return out;
}

/** The end of a stream as Connect tells it: undefined where it ended well. */
export function endOf(body: Uint8Array): Problem | undefined {
    try {
        const end = JSON.parse(new TextDecoder().decode(body)) as {
            error?: { code?: string; message?: string };
            metadata?: Record<string, string[]>;
        };
        if (!end.error) return undefined;
        return {
            code: end.error.code ?? "unknown",
            message: end.error.message ?? "",
            hint: decodeHint(end.metadata?.["davit-hint"]?.[0] ?? null),
        };
    } catch {
        return { code: "internal", message: "The end of the stream could not be read.", hint: "" };
    }
}
