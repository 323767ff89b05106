/* SPDX-License-Identifier: Apache-2.0 */
/* comingup: what happened since a sandbox was started last, as the steps by which it came up. Pure. */
import { SandboxState, type Sandbox } from "../gen/davit/common/v1/sandbox_pb";
import type { Event } from "../gen/davit/control/v1/events_pb";

export type ComingMark = "running" | "done" | "failed";

export interface ComingStep {
    id: string;
    title: string;
    state: ComingMark;
    message?: string;
    atUs: bigint;
}

const seconds = (ns: bigint) => (ns === 0n ? "" : ns < 1_000_000_000n ? `${ns / 1_000_000n} ms` : `${(Number(ns) / 1e9).toFixed(1)} s`);

const PLAIN: Record<string, { id: string; title: string; state: ComingMark }> = {
    "sandbox start": { id: "start", title: "Its container was started", state: "done" },
    "session connecting": { id: "session", title: "Its supervisor is called", state: "running" },
    "session connected": { id: "session", title: "Its supervisor answered", state: "done" },
    "session failed": { id: "session", title: "Its supervisor cannot be spoken with", state: "failed" },
    "registry registered": { id: "registry", title: "It registered", state: "done" },
    "registry untrusted": { id: "registry", title: "It is not trusted", state: "failed" },
    "sandbox running": { id: "program", title: "Its program runs", state: "done" },
    "sandbox stop": { id: "end", title: "Its program ended", state: "done" },
    "sandbox failed": { id: "end", title: "Its program is withheld", state: "failed" },
};

function told(e: Event): ComingStep | undefined {
    const atUs = e.timeNs / 1000n;
    if (e.kind === "exec" && e.stepName) {
        const title = `Step ${e.stepIndex} of ${e.stepCount}: ${e.stepName}`;
        const id = `step ${e.stepName}`;
        if (e.action === "step_started") return { id, title, state: "running", atUs };
        const took = seconds(e.durationNs);
        if (e.action === "step_completed") return { id, title, state: "done", atUs, ...(took ? { message: `took ${took}` } : {}) };
        const code = e.exited ? `exit code ${e.exitCode}` : "";
        return { id, title, state: "failed", atUs, message: [code, e.detail].filter(Boolean).join(", ") };
    }
    const plain = PLAIN[`${e.kind} ${e.action}`];
    if (!plain) return undefined;
    const message =
        e.action === "stop" ? `exit code ${e.exitCode}` : plain.state === "failed" ? [e.reason, e.detail].filter(Boolean).join(": ") : "";
    return { ...plain, atUs, ...(message ? { message } : {}) };
}

/** @newestFirst: events of that sandbox. Empty: its last start is not among them. */
export function comingUp(s: Pick<Sandbox, "state">, newestFirst: readonly Event[]): ComingStep[] {
    const start = newestFirst.findIndex((e) => e.kind === "sandbox" && e.action === "start");
    if (start < 0) return [];
    const steps: ComingStep[] = [];
    for (const e of newestFirst.slice(0, start + 1).reverse()) {
        const one = told(e);
        const at = one ? steps.findIndex((x) => x.id === one.id) : -1;
        if (one && at >= 0) steps[at] = one;
        else if (one) steps.push(one);
    }
    /* What was under way when it ended does not go on. */
    const up = s.state === SandboxState.STARTING || s.state === SandboxState.RUNNING;
    return up ? steps : steps.map((x) => (x.state === "running" ? { ...x, state: "failed" as const } : x));
}
